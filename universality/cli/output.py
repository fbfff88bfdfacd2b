"""What the commands share when they print."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

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


def plain(value: Any) -> Any:
    """Return data that JSON can write: paths as text, records as objects, NumPy's scalars as numbers, NaN as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as objects, keyed by its columns, for `print_json`."""
    known = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]
