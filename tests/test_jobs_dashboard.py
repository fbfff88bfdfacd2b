"""The dashboard's address is told once workers are open, if there is anything to see under it."""

import importlib.util
import urllib.request

import pytest
from distributed import Client, LocalCluster

from universality.jobs import scheduling
from universality.jobs.workers import Workers


@pytest.fixture
def drawn(monkeypatch):
    """A scheduler that can draw: the package for it is optional."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: object() if name == "bokeh" else real(name, *_))


@pytest.fixture
def bare(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "bokeh" else real(name, *_))


def test_local_workers_tell_an_address_that_answers(drawn):
    said = []
    with scheduling.opener(Workers(threads=1), said.append) as opened:
        assert said == []
        opened()
        opened()
        (line,) = said
        address = line.removeprefix("dashboard: ")
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200


def test_nothing_to_draw_with_is_nothing_to_tell(bare):
    said = []
    with scheduling.opener(Workers(threads=1), said.append) as opened:
        opened()
    assert said == []


def test_a_given_cluster_is_named_by_its_own_link(drawn):
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as made,
        Client(made) as client,
    ):
        assert scheduling.dashboard(client) == made.dashboard_link


class Known:
    """A client of a scheduler with these services."""

    def __init__(self, services):
        self.services = services

    def scheduler_info(self):
        if self.services is None:
            raise OSError("gone")
        return {"services": self.services}


@pytest.mark.parametrize("services", [{}, None])
def test_no_dashboard_or_no_answer_is_no_error(services):
    assert scheduling.dashboard(Known(services)) is None
