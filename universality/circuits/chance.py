"""What chance gives: shares of draws that reach a value, and false discovery rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

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
