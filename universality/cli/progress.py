"""Progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from universality.cli.output import on_terminal


class Bars:
    """A reporter that prints lines and draws progress bars on a terminal, and plain lines elsewhere."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a bar; without a terminal, announce the work in a line."""
        if not on_terminal(self._console):
            self.say(f"{description}: {total}")
        task = self._progress.add_task(escape(description), total=total)
        return lambda steps: self._progress.advance(task, steps)


def progress_on(console: Console) -> Progress:
    """Return the bars of a console; where it is no terminal, none are drawn."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not on_terminal(console),
    )
