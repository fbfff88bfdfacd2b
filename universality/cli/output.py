"""What the commands share when they print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from universality.base.plain import plain

if TYPE_CHECKING:
    import pandas as pd


def stdout() -> Console:
    """Return the console of standard output."""
    console = Console()
    # Without a terminal nothing wraps a table's columns away: a pipe or a log has no width.
    return console if on_terminal(console) else Console(width=max(console.width, 160))


def on_terminal(console: Console) -> bool:
    """Return whether the console is a terminal; FORCE_COLOR alone, which Rich takes for one, does not count."""
    return console.file.isatty()


def line(text: str) -> None:
    """Print one line on standard output as it is: no markup, no wrapping."""
    stdout().print(escape(text), highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on one line, undecorated; NaN, infinities and what is missing as null."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as objects, keyed by its columns, for `print_json`."""
    known = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]
