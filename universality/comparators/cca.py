"""Canonical correlations after truncation by variance (SVCCA).

Reference
---------
M. Raghu et al., SVCCA, NeurIPS 2017. Departure: the variance rule keeps the smallest number of principal
components whose share of the *variance* (squared singular values) reaches the threshold; some public code applies
the threshold to the sum of singular values, or compares a fraction with an absolute variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from universality.comparators.arrays import Array, centred


@dataclass(frozen=True)
class Basis:
    """Orthonormal basis (n stimuli, k) of a layer's principal components, and n."""

    q: Array
    n: int


def prepare_variance(x: np.ndarray, share: float) -> Basis:
    """Keep the fewest principal components that carry at least `share` (0 to 1) of the variance."""
    u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
    variance = np.square(s)
    carried = np.cumsum(variance) / variance.sum()
    k = int(np.searchsorted(carried, share)) + 1
    return Basis(u[:, : min(k, s.size)], x.shape[0])


def prepare_variance99(x: np.ndarray) -> Basis:
    """Keep 99 % of the variance."""
    return prepare_variance(x, 0.99)


def canonical_correlations(a: Basis, b: Basis) -> Array:
    """Return the min(k_a, k_b) canonical correlations, largest first, 0 to 1."""
    rho = np.linalg.svd(a.q.T @ b.q, compute_uv=False)
    return np.asarray(np.minimum(rho, 1.0))  # rounding may exceed 1 by an ulp


def score_svcca(a: Basis, b: Basis) -> float:
    """Return the mean canonical correlation, 0 to 1; NaN where a subspace fills the whole sample space.

    With k >= n - 1 components every correlation is exactly 1 whatever the data. Below that, chance is still well
    above 0 where k_a + k_b is not small against n: read the value beside its shuffled null.
    """
    if max(a.q.shape[1], b.q.shape[1]) >= a.n - 1:
        return float("nan")
    return float(canonical_correlations(a, b).mean())
