"""What figures are about: how many there are, and which taps and rows they show.

Plans, tables and sentences ask this; Matplotlib is imported only where something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from universality.atlas.groups import nearest_taps
from universality.features.definition import best_taps

Pair = tuple[str, str]
Per = Literal["run", "family", "pair", "family and pair"]


def count(pairs: Sequence[Pair], families: Sequence[str], kinds: Sequence[Per]) -> int:
    """Return how many figures there are of kinds of which there is one for each of something."""
    each = {"run": 1, "family": len(families), "pair": len(pairs), "family and pair": len(pairs) * len(families)}
    return sum(each[per] for per in kinds)


def drawn_taps(similarity: pd.DataFrame, families: pd.DataFrame, family: str, a: str, b: str) -> Pair:
    """Return the pair of taps that figures and sentences about matched units of two models are about.

    It is the tap of A with the most detectors of the family, and the tap of B nearest to it in depth, of those in which
    families were looked for.
    """
    similarity = judged(similarity, families)
    best = best_taps(families[(families["family"] == family) & (families["model"] == a)])["tap"].iloc[0]
    near = nearest_taps(similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)])
    return str(best), str(near.loc[near["tap_a"] == best, "tap_b"].iloc[0])


def judged(similarity: pd.DataFrame, families: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the table ``similarity`` whose layers both are in the table ``families``."""
    known = set(zip(families["model"], families["tap"], strict=True))
    inside = [
        (a, x) in known and (b, y) in known
        for a, x, b, y in similarity[["model_a", "tap_a", "model_b", "tap_b"]].itertuples(index=False)
    ]
    return similarity if all(inside) else similarity[inside]


def spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows, evenly from all, the first and the last among them."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
