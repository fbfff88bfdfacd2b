"""The registry as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from universality.similarity.registry import COMPARATORS, INVARIANCES, Comparator

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "name": "key for `score` and for jobs",
    "variant": "what exactly is computed",
    "direction": "similarity (larger is more alike) or distance",
    "low": "lower end of the range",
    "high": "upper end of the range",
    "invariances": "what may be done to either layer without changing the score",
    "symmetric": "whether the layers may be swapped",
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
