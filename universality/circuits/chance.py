"""What chance gives: shares of draws that reach a value, and false discovery rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
ROUNDING = 1e-12


def p_above(value: float, drawn: ArrayLike) -> float:
    """Return the share of draws that are as large as a value, itself counted among them; NaN where it or all draws are NaN."""
    known = np.asarray(drawn, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not np.isfinite(value) or not known.size:
        return float("nan")
    return float((1 + (known >= value - ROUNDING).sum()) / (1 + known.size))


def p_apart(value: float, drawn: ArrayLike) -> float:
    """Return the share of draws that lie as far from their mean as a value does, on either side."""
    known = np.asarray(drawn, dtype=np.float64)
    known = known[np.isfinite(known)]
    return p_above(abs(value - known.mean()), np.abs(known - known.mean())) if known.size else float("nan")


def with_false_discovery(rows: pd.DataFrame, by: Sequence[str], p: str = "p", q: str = "q") -> pd.DataFrame:
    """Return rows with the Benjamini-Hochberg q of their p within groups; NaN where p is."""
    from scipy.stats import false_discovery_control  # takes most of a second to import

    found = np.full(len(rows), np.nan)
    values = rows[p].to_numpy(np.float64)
    for at in rows.reset_index(drop=True).groupby(list(by), sort=False, dropna=False).indices.values():
        asked = at[np.isfinite(values[at])]
        if asked.size:
            found[asked] = false_discovery_control(values[asked], method="bh")
    return rows.assign(**{q: found})
