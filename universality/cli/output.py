"""What the commands share when they print."""

from __future__ import annotations

import json
import math
from typing import Any

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


def print_json(value: Any) -> None:
    """Print JSON on one line per call, undecorated, NaN as null."""
    print(json.dumps(finite(value), ensure_ascii=False, allow_nan=False))


def finite(value: Any) -> Any:
    """Return plain data in which numbers that JSON cannot write are null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
