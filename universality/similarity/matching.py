"""Matching of units by the correlation of their activations: one to one, best of all, mutual.

References
----------
Y. Li et al., Convergent learning: do different neural networks learn the same representations?, ICLR 2016.
A. Dravid et al., Rosetta neurons: mining the common units in a model zoo, ICCV 2023 (mutual top-k).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from universality.base.arrays import Array, standardised

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


def semi(r: Array) -> Pairs:
    """Match every unit of A with its best partner in B by `r` (p, q); a unit of B may serve several, or none."""
    return np.stack([np.arange(r.shape[0]), r.argmax(axis=1)], axis=1).astype(np.int64)


EQUAL = 1e-12
"""Correlations that differ by less are equal to rounding."""


def mutual_top(r: Array, k: int, slack: float = 0.0) -> Pairs:
    """Match all pairs of units that are among each other's `k` best by signed correlation `r` (p, q).

    A pair that equals the k-th best counts, so equal correlations are kept together; with ``slack=EQUAL`` also what is equal
    to rounding, so that the pairs are those that `ranks` puts among the `k` best of either side.
    """
    kth_b = -np.partition(-r, min(k, r.shape[1]) - 1, axis=1)[:, min(k, r.shape[1]) - 1]
    kth_a = -np.partition(-r, min(k, r.shape[0]) - 1, axis=0)[min(k, r.shape[0]) - 1]
    return np.argwhere((r >= kth_b[:, None] - slack) & (r >= kth_a - slack)).astype(np.int64)


def ranks(r: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank (1 = best) of each chosen column within its row of `r`; equal to rounding counts as equal."""
    return np.asarray(1 + (r[rows] > r[rows, columns][:, None] + EQUAL).sum(axis=1), dtype=np.int64)


MATCHINGS = {"hungarian": hungarian, "mutual_nearest": mutual_nearest}
HOW = {"hungarian": "one to one", "mutual_nearest": "as mutual nearest neighbours"}
"""What sentences and captions say of units that a method matched: "matched one to one"."""
COMPLETE = ("hungarian",)
"""Methods that leave no unit of the narrower layer without a partner."""


def mean_hungarian(r: Array) -> float:
    """Return the mean of the best one-to-one matching by `r` (p, q)."""
    rows, columns = hungarian(r).T
    return float(r[rows, columns].mean())


def mean_mutual_nearest(r: Array) -> float:
    """Return the mean `r` (p, q) of mutual nearest neighbours times their share of the smaller layer.

    The share enters because a few excellent pairs among many unmatched units are not a match of the layers.
    """
    rows, columns = mutual_nearest(r).T
    return float(r[rows, columns].sum() / min(r.shape))


def score_hungarian(a: Array, b: Array) -> float:
    """Return the mean correlation of the best one-to-one matching, -1 to 1."""
    return mean_hungarian(correlations(a, b))


def score_mutual_nearest(a: Array, b: Array) -> float:
    """Return the mean correlation of mutual nearest neighbours times their share of the smaller layer, -1 to 1."""
    return mean_mutual_nearest(correlations(a, b))


def score_hungarian_absolute(a: Array, b: Array) -> float:
    """Return the mean |r| of the one-to-one matching that makes it largest, 0 to 1: a unit may match its inverse."""
    return mean_hungarian(np.abs(correlations(a, b)))


def score_semi_a_to_b(a: Array, b: Array) -> float:
    """Return the mean over A's units of the largest correlation with a unit of B, -1 to 1."""
    return float(correlations(a, b).max(axis=1).mean())


def score_semi_absolute_a_to_b(a: Array, b: Array) -> float:
    """Return the mean over A's units of the largest |r| with a unit of B, 0 to 1."""
    return float(np.abs(correlations(a, b)).max(axis=1).mean())


def score_mutual_top5(a: Array, b: Array) -> float:
    """Return the mean over all units of both layers of their best r with a mutual top-5 partner, 0 where there is none.

    -1 to 1. With at most five units in each layer every pair is mutual: then it is the mean best correlation.
    """
    r = correlations(a, b)
    rows, columns = mutual_top(r, 5).T
    mutual = np.full(r.shape, -np.inf)
    mutual[rows, columns] = r[rows, columns]
    best = np.concatenate([mutual.max(axis=1), mutual.max(axis=0)])
    return float(np.where(np.isfinite(best), best, 0.0).mean())


def prepare(x: np.ndarray) -> Array:
    """Standardise the units of a layer (n, p)."""
    return standardised(x)
