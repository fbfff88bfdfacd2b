"""What families' published statements are made of: from a model's units of all taps, what was found, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

Row = dict[str, object]
Statement = Callable[[pd.DataFrame], Row]
"""From the trained units of one model, with the depth of their taps, to the row that `row` makes."""
LEAST = 3
"""Fewest units or taps for which a trend is tested."""


def row(statement: str, published: str, found: str, n: int, holds: bool | None) -> Row:
    """Return one statement: what was published, what came, from how many units or taps, and whether it holds."""
    return {"statement": statement, "published": published, "found": found, "n": n, "holds": holds}


def in_range(column: str, low: float, high: float, name: str, unit: str = "") -> Statement:
    """Return the check that the mean of a column over the best tap's detectors lies in a published range."""

    def statement(units: pd.DataFrame) -> Row:
        found = units[units["detector"]]
        published = f"{low:g} to {high:g}{unit}"
        if len(found) < LEAST:
            return row(name, published, "too few units", len(found), None)
        best = found["tap"].value_counts().idxmax()
        values = found.loc[found["tap"] == best, column]
        text = f"mean {values.mean():.2f}{unit}, quartiles {values.quantile(0.25):.2f} to {values.quantile(0.75):.2f}, {best}"
        return row(name, published, text, len(values), bool(low <= values.mean() <= high))

    return statement
