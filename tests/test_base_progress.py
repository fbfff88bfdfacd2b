"""Where progress is asked for: a bar in a notebook, lines elsewhere, a function; and nothing where it is not."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

import universality
from universality.base import progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


IMAGES = np.random.default_rng(0).random((5, 3, 6, 6), dtype=np.float32)


@pytest.fixture
def notebook(monkeypatch):
    """A notebook's kernel as IPython offers it: what is displayed, and what each display became."""
    shown = []

    def display(content, display_id):
        assert display_id
        shown.append([content.data])
        return SimpleNamespace(update=lambda new, mine=shown[-1]: mine.append(new.data))

    module = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=object()),
        display=SimpleNamespace(display=display, HTML=lambda data: SimpleNamespace(data=data)),
    )
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    return shown


def test_nothing_is_said_where_nobody_asks(capfd):
    universality.activations(network(), IMAGES, batch_size=2)
    assert capfd.readouterr() == ("", "")


def test_lines_say_how_far_a_function_is(capfd):
    universality.activations(network(), IMAGES, batch_size=2, progress=True)
    said = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"images shown to Sequential.*: 0 of 5 after 0 s", said[0]), said
    assert re.fullmatch(r"images shown to Sequential.*: 5 of 5 after \d+ s", said[-1]), said


def test_lines_come_every_ten_seconds_and_with_the_last_step(capfd):
    clock = Clock()
    advance = progress.Lines(clock).track("steps", 40)
    for _ in range(40):
        clock.now += 1
        advance(1)
    said = [int(re.match(r"steps: (\d+) of 40", line)[1]) for line in capfd.readouterr().err.splitlines()]
    assert said == [0, 10, 20, 30, 40]


def test_a_notebook_gets_a_bar_for_every_pass(notebook, capfd):
    universality.compare(network(), network(), images=IMAGES, batch_size=2, progress=True)
    assert len(notebook) == 4, "two networks and their untrained twins"
    assert [bars[0].count('value="0" max="5"') for bars in notebook] == [1] * 4
    assert [bars[-1].count('value="5" max="5"') for bars in notebook] == [1] * 4
    assert sum("untrained twin" in bars[0] for bars in notebook) == 2
    assert capfd.readouterr() == ("", "")


def test_a_bar_of_unknown_length_has_no_end_and_names_are_text(notebook):
    advance = progress.reporter_for(True).track("<b>images</b>", -1)
    advance(3)
    assert "max" not in notebook[0][0] and "&lt;b&gt;images&lt;/b&gt;: 0 after" in notebook[0][0]


def test_a_function_is_told(monkeypatch):
    told = []
    universality.activations(network(), IMAGES, batch_size=2, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_a_job_shows_its_stages(small, capfd):
    universality.run(small.job, small.out, store=small.store, progress=True)
    assert "computed nothing" in capfd.readouterr().err
