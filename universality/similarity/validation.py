"""Checks of what a user passes to a measure, made once."""

from __future__ import annotations

import numpy as np

from universality.base.arrays import Array
from universality.base.errors import MeasureError


def checked_pair(x: np.ndarray, y: np.ndarray) -> tuple[Array, Array]:
    """Return two layers (n, p), (n, q) in float64, or raise `MeasureError` with what is wrong with them."""
    wide = checked(x, "x"), checked(y, "y")
    if len(wide[0]) != len(wide[1]):
        raise MeasureError(
            f"x has {len(wide[0])} stimuli and y has {len(wide[1])}, expected the same stimuli in the same order; "
            "select the common ones first"
        )
    return wide


def checked(array: np.ndarray, label: str) -> Array:
    """Return one layer (n, p) in float64, or raise `MeasureError` that calls it `label`."""
    try:
        wide = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise MeasureError(f"{label} is not an array of numbers; pass activations (stimuli, units)") from None
    if wide.ndim != 2 or 0 in wide.shape:
        raise MeasureError(f"{label} has shape {wide.shape}, expected (stimuli, units), both at least 1; reshape it")
    if not np.isfinite(wide).all():
        raise MeasureError(f"{label} has NaN or infinite values, expected finite activations; drop those stimuli")
    return wide
