"""The dashboard's address is told once workers are open, if there is anything to see under it."""

import importlib.util
import urllib.request

import pytest
from distributed import Client, LocalCluster

from universality.jobs import Workers, scheduling


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


def test_a_scheduler_without_dashboard(drawn):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
        ) as made,
        Client(made) as client,
    ):
        assert scheduling.dashboard(client) is None


def test_a_client_that_does_not_answer_is_no_error():
    class Gone:
        def scheduler_info(self):
            raise OSError("gone")

    assert scheduling.dashboard(Gone()) is None
