"""Mutual nearest neighbours: whether both layers give a stimulus the same neighbours.

References
----------
M. Huh et al., The platonic representation hypothesis, ICML 2024 (mutual k-nearest-neighbour alignment). Departure: Euclidean
distance, which does not depend on where 0 is, instead of the inner product of normalised features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from universality.base.arrays import Undefined, scaled

K = 10


def prepare_euclidean(x: np.ndarray) -> NDArray[np.bool_] | Undefined:
    """Return which stimuli (n, n) are among the ten nearest of which, for a layer (n, p)."""
    return neighbours(squareform(pdist(scaled(x))), K)


def neighbours(distances: np.ndarray, k: int) -> NDArray[np.bool_] | Undefined:
    """Return for `distances` (n, n) which column is among the `k` nearest of which row; a stimulus is not its own."""
    distances = distances.copy()
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : k + 1]
    last, beyond = nearest[:, k - 1], nearest[:, k]
    ties = int((beyond <= last * (1.0 + 1e-12)).sum())
    if ties:
        return Undefined(f"{ties} stimuli have more than one {k}-th neighbour at one distance: the set is not unique")
    return np.asarray(distances <= last[:, None])


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Return the mean share of neighbours that both layers agree on, 0 to 1; chance is k / (n - 1)."""
    return float((a & b).sum() / a.sum())
