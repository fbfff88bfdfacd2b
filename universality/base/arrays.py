"""Small array helpers shared by the comparators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Undefined:
    """What a measure returns instead of a number that would be trivial or meaningless: why there is none."""

    reason: str


Outcome = float | Undefined
"""What a comparison of two summaries gives: a number, or why there is none."""


def centred(x: np.ndarray) -> Array:
    """Return `x` (n stimuli, p units) in float64 with every unit's mean removed."""
    wide = np.asarray(x, dtype=np.float64)
    return np.asarray(wide - wide.mean(axis=0))


def scaled(x: np.ndarray) -> Array:
    """Return `x` (n, p) centred and divided by its largest magnitude, for measures without a scale of their own.

    Without it, squares of very small or very large activations leave the range of double precision.
    """
    features = centred(x)
    features /= np.abs(features).max()
    return features


def live_units(x: np.ndarray) -> NDArray[np.bool_]:
    """Return which units (p,) vary at all over the stimuli of `x` (n, p). A dead unit has no correlation."""
    if len(x) == 0:
        return np.zeros(x.shape[1], dtype=np.bool_)
    return np.asarray(np.ptp(x, axis=0) > 0)


def standardised(x: np.ndarray) -> Array:
    """Return `x` (n, p live units) centred with every column of unit length, so that products are correlations.

    A column that does not vary becomes NaN; mask it first with `live_units`.
    """
    features = centred(x)
    # Two steps keep columns of any magnitude exact: squares of very small values would underflow.
    with np.errstate(invalid="ignore", divide="ignore"):
        features = features / np.abs(features).max(axis=0)
        return np.asarray(features / np.linalg.norm(features, axis=0))


def reciprocal(values: np.ndarray) -> Array:
    """Return 1 / values; 0 where they are not above 0: what does not vary has no scale, and no share of anything."""
    given = np.asarray(values, dtype=np.float64)
    return np.asarray(np.divide(1.0, given, out=np.zeros_like(given), where=given > 0))


def participation(weights: np.ndarray, axis: int) -> Array:
    """Return over how many entries along an axis weights are spread: (sum of squares)^2 / sum of fourth powers, from 1; NaN where all are 0.

    References
    ----------
    D. J. Thouless, Physics Reports 13, 1974 (participation ratio).
    """
    squares = np.square(np.asarray(weights, dtype=np.float64))
    # Squares of squares of very small weights would underflow.
    squares = squares * reciprocal(squares.max(axis=axis, initial=0.0, keepdims=True))
    fourth = np.square(squares).sum(axis=axis)
    return np.asarray(np.where(fourth > 0, np.square(squares.sum(axis=axis)) * reciprocal(fourth), np.nan))


def haar_orthogonal(p: int, rng: np.random.Generator) -> Array:
    """Return a (p, p) orthogonal matrix drawn from the Haar measure (Mezzadri 2007, Notices AMS 54)."""
    q, r = np.linalg.qr(rng.standard_normal((p, p)))
    # QR alone is not Haar-distributed: the signs of R's diagonal have to be moved into Q.
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float64)


def nuclear_norm(block: np.ndarray, tolerance: float) -> float:
    """Return the sum of the singular values of a float64 matrix, by the cheaper way where that is within `tolerance`.

    They are the square roots of the eigenvalues of the smaller Gram matrix, which cost half of a singular value
    decomposition. An eigenvalue is exact to `slack`, the rounding of a symmetric product and of a backward stable solver,
    so that its root s is exact to the smaller of slack / s and the root of the slack. Where the sum of these bounds exceeds
    the tolerance, the decomposition decides. Both are NumPy's: SciPy's would keep the other threads waiting.
    """
    if tolerance > 0.0:
        gram = block.T @ block if block.shape[0] >= block.shape[1] else block @ block.T
        slack = 2.0 * max(block.shape) * np.finfo(np.float64).eps * float(np.trace(gram))
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), slack))
        # Of a matrix of zeros there is nothing to bound.
        if slack == 0.0 or float(np.sum(slack / roots)) <= tolerance:
            return float(roots.sum())
    return float(np.linalg.svd(block, compute_uv=False).sum())
