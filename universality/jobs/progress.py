"""Where progress goes: the command line draws bars, Python calls are quiet by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Reporter(Protocol):
    """What a job tells while it runs."""

    def say(self, text: str) -> None:
        """Report one line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a bar of `total` steps and return the function that advances it."""


class Quiet:
    """A reporter that reports nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Return a function that does nothing."""
        return lambda steps: None
