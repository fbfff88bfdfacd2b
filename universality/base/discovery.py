"""False discovery rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from universality.base.arrays import Array


def false_discovery(rows: pd.DataFrame, by: Sequence[str], p: str = "p") -> Array:
    """Return the Benjamini-Hochberg q of the column `p` within groups of rows, (row,); NaN where p is.

    Parameters
    ----------
    by : columns whose values make a group; all rows are one when there are none
    """
    from scipy.stats import false_discovery_control  # takes most of a second to import

    found = np.full(len(rows), np.nan)
    values = rows[p].to_numpy(np.float64)
    groups = (
        rows.reset_index(drop=True).groupby(list(by), sort=False, dropna=False).indices.values()
        if by
        else [np.arange(len(rows))]
    )
    for at in groups:
        asked = at[np.isfinite(values[at])]
        if asked.size:
            found[asked] = false_discovery_control(values[asked], method="bh")
    return found
