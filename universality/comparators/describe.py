"""The registry as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from universality.comparators.registry import COMPARATORS, INVARIANCES, Comparator
from universality.comparators.units import METHODS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "name": "key for `score` and for jobs",
    "variant": "what exactly is computed",
    "direction": "similarity (larger is more alike) or distance",
    "low": "lower end of the range",
    "high": "upper end of the range",
    "invariances": "what may be done to either layer without changing the score",
    "symmetric": "whether the layers may change places",
    "metric": "whether it obeys the triangle inequality and is 0 only between layers equal up to the invariances",
    "self_score": "score of a layer with itself; empty (NaN) where it depends on the layer",
    "min_n": "smallest number of stimuli",
    "n_against_p": "what n has to be against the numbers of units p and q",
    "cost": "operations: per layer; per pair (k: the smaller of n and the number of units)",
    "reference": "where it was published",
}


def record(entry: Comparator) -> dict[str, object]:
    """Return one measure's record as plain values, keyed like `COLUMNS`."""
    facts = {name: getattr(entry, name) for name in COLUMNS}
    declared = [name for name in INVARIANCES if name in entry.invariances]
    return facts | {
        "invariances": ", ".join(declared),
        "self_score": np.nan if entry.self_score is None else entry.self_score,
    }


def measures() -> pd.DataFrame:
    """Return the registry: one row per measure, columns as in `COLUMNS`.

    Examples
    --------
    >>> table = measures().set_index("name")
    >>> table.loc["cka_linear_debiased", "invariances"]
    'permutation, isotropic_scale, orthogonal, translation'
    """
    import pandas as pd

    return pd.DataFrame([record(entry) for entry in COMPARATORS.values()])


def shown(value: object) -> str:
    """Return one fact as text: numbers short, yes or no for truth values, nothing for NaN."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def measures_markdown() -> str:
    """Return the description of all measures as Markdown: it is ``docs/measures.md``."""
    parts = [
        "# Measures\n\nEvery measure between two layers, as `universality.measures()` and `universality measures` give it. This page is "
        "made from\n`universality/comparators/registry.py`; `tests/test_measures_common.py` tests ranges, invariances, symmetry, metrics and least n.\n\n"
        "`universality.score(name, x, y)` compares two arrays (n stimuli, p units), (n, q). Units that do not vary are masked "
        "and counted.\nWhere a score would be trivial or undefined it is NaN, with a reason.\n\n",
        _markdown_table(("measure", "computes", "range", "self", "symmetric", "metric"), map(_summary, COMPARATORS.values())),
        "\n## Invariances\n\nWhat may be done to either layer without changing the score.\n\n",
        _markdown_table(("invariance", "meaning"), ((f"`{key}`", text) for key, text in INVARIANCES.items())),
        "\n",
        _markdown_table(("measure", *INVARIANCES), map(_invariances, COMPARATORS.values())),
        "\n## Requirements, cost and sources\n\n",
        _markdown_table(("measure", "least n", "n against p, q", "cost per layer; per pair", "reference"), map(_source, COMPARATORS.values())),
        "\n## Matching units\n\n`universality.match_units(x, y, method=...)` returns one row per match.\n\n",
        _markdown_table(("method", "matches"), ((f"`{key}`", method.meaning) for key, method in METHODS.items())),
    ]  # fmt: skip
    return "".join(parts)


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _summary(entry: Comparator) -> tuple[str, ...]:
    facts = record(entry)
    limits = f"{shown(entry.low)} to {shown(entry.high)}, {entry.direction}"
    return (
        f"`{entry.name}`",
        entry.variant,
        limits,
        *(shown(facts[key]) for key in ("self_score", "symmetric", "metric")),
    )


def _invariances(entry: Comparator) -> tuple[str, ...]:
    return (f"`{entry.name}`", *("yes" if key in entry.invariances else "no" for key in INVARIANCES))


def _source(entry: Comparator) -> tuple[str, ...]:
    return (f"`{entry.name}`", str(entry.min_n), entry.n_against_p, entry.cost, entry.reference)
