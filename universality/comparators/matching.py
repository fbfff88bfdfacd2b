"""One-to-one matching of units by the correlation of their activations.

References
----------
Y. Li et al., Convergent learning: do different neural networks learn the same representations?, ICLR 2016.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from universality.comparators.arrays import Array, standardised

Pairs = NDArray[np.int64]
"""(m, 2): index into the units of the first layer, index into the units of the second."""


def correlations(a: Array, b: Array) -> Array:
    """Return the (p, q) Pearson correlations of two standardised layers (n, p), (n, q)."""
    return np.clip(a.T @ b, -1.0, 1.0)


def hungarian(r: Array) -> Pairs:
    """Match min(p, q) units so that the sum of the signed correlations `r` (p, q) is largest."""
    rows, columns = linear_sum_assignment(r, maximize=True)
    return np.stack([rows, columns], axis=1).astype(np.int64)


def mutual_nearest(r: Array) -> Pairs:
    """Match the units that are each other's best partner by signed correlation `r` (p, q)."""
    best_b = r.argmax(axis=1)
    best_a = r.argmax(axis=0)
    rows = np.flatnonzero(best_a[best_b] == np.arange(r.shape[0]))
    return np.stack([rows, best_b[rows]], axis=1).astype(np.int64)


MATCHINGS = {"hungarian": hungarian, "mutual_nearest": mutual_nearest}


def score_hungarian(a: Array, b: Array) -> float:
    """Return the mean correlation of the best one-to-one matching, -1 to 1."""
    r = correlations(a, b)
    rows, columns = hungarian(r).T
    return float(r[rows, columns].mean())


def score_mutual_nearest(a: Array, b: Array) -> float:
    """Return the mean correlation of mutual nearest neighbours times their share of the smaller layer, -1 to 1.

    The share enters because a few excellent pairs among many unmatched units are not a match of the layers.
    """
    r = correlations(a, b)
    rows, columns = mutual_nearest(r).T
    return float(r[rows, columns].sum() / min(r.shape))


def prepare(x: np.ndarray) -> Array:
    """Standardise the units of a layer (n, p)."""
    return standardised(x)
