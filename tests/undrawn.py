"""Jobs without figures and report: these take three quarters of a small job's time, and most tests look at none."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest


def draw_no_figures(patch: pytest.MonkeyPatch) -> None:
    """Let the jobs of this process write the report without figures."""
    patch.setattr("universality.figures.drawings", lambda *_: iter(()))


@contextmanager
def drawn(*kinds: str) -> Iterator[None]:
    """Draw figures of these kinds only, once (as PNG), and the report: of shared runs whose other figures the small run has as well."""
    from universality import figures, report
    from universality.figures.kinds import drawings
    from universality.jobs import writing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "FORMATS", (".png",))
        # Also where the run is first asked for in a test that draws nothing.
        patch.setattr(writing, "report", report)
        patch.setattr(figures, "drawings", lambda *of: drawings(*of[:-1], [kind for kind in of[-1] if kind in kinds]))
        yield


@contextmanager
def undrawn() -> Iterator[None]:
    """Draw nothing in here: of shared runs of stages whose figures and report the small run has as well."""
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
