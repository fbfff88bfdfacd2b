"""Where progress goes: nowhere by default, to bars in a notebook and to lines elsewhere when asked for, or to a function."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

EVERY_S = 10.0
"""A line of progress is no older than this, and no step after it silent."""
_BAR_EVERY_S = 0.2


class Reporter(Protocol):
    """What a job tells while it runs."""

    def say(self, text: str) -> None:
        """Report one line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a bar of `total` steps (-1: not known) and return the function that advances it."""


class Quiet:
    """A reporter that reports nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Return a function that does nothing."""
        return lambda steps: None


Progress = bool | Callable[[int, int], None]
"""`progress=` of public functions: True for bars or lines, or a function of the steps done and of all (-1 where not known)."""


def reporter_for(progress: Progress | None) -> Reporter:
    """Return the reporter that the value of ``progress=`` asks for."""
    if callable(progress):
        return Told(progress)
    if not progress:
        return Quiet()
    return NotebookBars() if in_notebook() else Lines()


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process, so that what is displayed is seen there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class Told(Quiet):
    """A reporter that tells a function how many steps are done, and of how many."""

    def __init__(self, function: Callable[[int, int], None]) -> None:
        self._function = function

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Return what counts the steps of one stage."""
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            self._function(done, total)

        return advance


class Lines:
    """A reporter that prints lines on standard error: when a stage begins and ends, and every `EVERY_S` between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def say(self, text: str) -> None:
        """Print the line."""
        print(text, file=sys.stderr, flush=True)

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a stage and return what advances it."""
        self.say(stage_text(description, 0, total, 0.0))
        return _paced(lambda done, s: self.say(stage_text(description, done, total, s)), total, EVERY_S, self._clock)


class NotebookBars:
    """A reporter whose stages are bars below a notebook's cell, drawn again as they advance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def say(self, text: str) -> None:
        """Print the line."""
        print(text, flush=True)

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Show a bar and return what advances it."""
        from IPython.display import HTML, display

        handle: Any = display(HTML(_bar(description, 0, total, 0.0)), display_id=True)

        def draw(done: int, seconds: float) -> None:
            handle.update(HTML(_bar(description, done, total, seconds)))

        return _paced(draw, total, _BAR_EVERY_S, self._clock)


def _paced(
    show: Callable[[int, float], None], total: int, every_s: float, clock: Callable[[], float]
) -> Callable[[int], None]:
    """Return what counts the steps of a stage and shows steps done and seconds since now: at the end, and every `every_s` before."""
    began = shown = clock()
    done = 0

    def advance(steps: int) -> None:
        nonlocal shown, done
        done, now = done + steps, clock()
        if done == total or now - shown >= every_s:
            shown = now
            show(done, now - began)

    return advance


def stage_text(description: str, done: int, total: int, seconds: float) -> str:
    """Return how far a stage is.

    Examples
    --------
    >>> stage_text("images", 32, 96, 4.0)
    'images: 32 of 96 after 4 s'
    >>> stage_text("images", 32, -1, 4.0)
    'images: 32 after 4 s'
    """
    return f"{description}: {done}{f' of {total}' if total >= 0 else ''} after {seconds:.0f} s"


def _bar(description: str, done: int, total: int, seconds: float) -> str:
    share = f' value="{done}" max="{max(total, 1)}"' if total >= 0 else ""
    return f"<progress{share}></progress> {html.escape(stage_text(description, done, total, seconds))}"
