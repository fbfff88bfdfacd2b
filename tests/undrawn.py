"""Jobs without figures and report: these take three quarters of a small job's time, and most tests look at none."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest


def draw_no_figures(patch: pytest.MonkeyPatch) -> None:
    """Let the jobs of this process write the report without figures."""
    patch.setattr("universality.figures.drawings", lambda *_: iter(()))


@contextmanager
def undrawn() -> Iterator[None]:
    """Draw nothing in here: of shared runs at whose figures and report nobody looks."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        yield


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let the jobs of this process write tables and record as ever, no figure, and a report of one word."""

    def write(run, each):
        page = run.path / "report.html"
        page.write_text("undrawn", encoding="utf-8")
        return page

    draw_no_figures(patch)
    patch.setattr("universality.jobs.writing.report", SimpleNamespace(write=write))
