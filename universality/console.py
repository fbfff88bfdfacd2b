"""What the commands share when they print."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape


def stdout() -> Console:
    """Return the console of standard output."""
    console = Console()
    # Without a terminal nothing wraps a table's columns away: a pipe or a log has no width.
    return console if console.is_terminal else Console(width=max(console.width, 160))


def line(console: Console, text: str) -> None:
    """Print one line as it is: no markup, no wrapping."""
    console.print(escape(text), highlight=False, soft_wrap=True)
