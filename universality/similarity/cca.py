"""Canonical correlations: of the whole layers (CCA), after truncation (SVCCA), and weighted by projections (PWCCA).

References
----------
M. Raghu et al., SVCCA, NeurIPS 2017. Departure: the variance rule keeps the smallest number of principal
components whose share of the *variance* (squared singular values) reaches the threshold; some public code applies
the threshold to the sum of singular values, or compares a fraction with an absolute variance.

A. Morcos et al., Insights on representational similarity with canonical correlation, NeurIPS 2018 (PWCCA).
Departure: the layer whose units make the weights is named, instead of being the one with fewer units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from universality.base.arrays import Array, Outcome, Undefined, nuclear_norm, scaled

SHARE = 0.99
"""Share of the variance that SVCCA keeps."""
_TOLERANCE = 1e-9
"""Largest error of a mean correlation that is taken for the cheaper way to it; on activations it is about 1e-15."""


@dataclass(frozen=True)
class Basis:
    """Orthonormal basis (n stimuli, k) of a layer's principal components, and n."""

    q: Array
    n: int


@dataclass(frozen=True)
class WeightedBasis:
    """Orthonormal basis (n stimuli, k) of a layer's whole span, n, and its units' coordinates (k, p) in the basis."""

    q: Array
    n: int
    units: Array


def _principal(x: np.ndarray) -> tuple[Array, Array, Array]:
    """Return singular vectors and values of a layer (n, p) that are above rounding: (n, k), (k,), (k, p)."""
    u, s, vt = np.linalg.svd(scaled(x), full_matrices=False)
    k = int((s > s[0] * max(x.shape) * np.finfo(np.float64).eps).sum())
    return u[:, :k], s[:k], vt[:k]


def prepare_whole(x: np.ndarray) -> Basis:
    """Keep the layer's whole span."""
    return Basis(_principal(x)[0], x.shape[0])


def prepare_weighted(x: np.ndarray) -> WeightedBasis:
    """Keep the layer's whole span, and what each unit is in it."""
    u, s, vt = _principal(x)
    return WeightedBasis(u, x.shape[0], s[:, None] * vt)


def carrying(variance: Array, share: float) -> int:
    """Return how many components of these variances, the largest first, carry at least `share` (0 to 1) of them all."""
    carried = np.cumsum(variance) / variance.sum()
    return min(int(np.searchsorted(carried, share)) + 1, variance.size)


def prepare_variance(x: np.ndarray, share: float) -> Basis:
    """Keep the fewest principal components that carry at least `share` (0 to 1) of the variance.

    They come from the smaller Gram matrix, which takes a fraction of the time of a singular value decomposition and squares
    the ratio of the components' lengths. None of those kept has less than (1 - share) / min(n, p) of the variance, so
    that the basis is orthonormal to rounding times the inverse of this: about 1e-12 for 99 % of some hundred units.
    """
    features = scaled(x)
    n, p = features.shape
    variance, axes = np.linalg.eigh(features.T @ features if p <= n else features @ features.T)
    variance, axes = np.maximum(variance[::-1], 0.0), axes[:, ::-1]
    k = carrying(variance, share)
    q = features @ axes[:, :k] / np.sqrt(variance[:k]) if p <= n else axes[:, :k]
    return Basis(np.asarray(q), n)


def prepare_variance99(x: np.ndarray) -> Basis:
    """Keep 99 % of the variance."""
    return prepare_variance(x, SHARE)


def prepare_components10(x: np.ndarray) -> Basis | Undefined:
    """Keep the first ten principal components; a layer with fewer has no value."""
    q = _principal(x)[0]
    if q.shape[1] < 10:
        return Undefined(f"the layer has {q.shape[1]} principal components, 10 are compared")
    return Basis(q[:, :10], x.shape[0])


def canonical_correlations(a: Basis, b: Basis) -> Array:
    """Return the min(k_a, k_b) canonical correlations, largest first, 0 to 1."""
    rho = np.linalg.svd(a.q.T @ b.q, compute_uv=False)
    return np.asarray(np.minimum(rho, 1.0))  # rounding may exceed 1 by an ulp


def _fills_sample_space(a: Basis | WeightedBasis, b: Basis | WeightedBasis) -> Undefined | None:
    """Say why there is nothing to measure where a subspace is the whole (centred) sample space.

    With k >= n - 1 components every correlation is exactly 1 whatever the data. Below that, k_a + k_b - (n - 1) of them
    are exactly 1 where that is positive, and chance is well above 0 where k_a + k_b is not small against n: read the
    value beside its shuffled null.
    """
    k = max(a.q.shape[1], b.q.shape[1])
    if k < a.n - 1:
        return None
    return Undefined(
        f"the stimuli are too few for this many units: {k} components of {a.n} stimuli make every correlation 1"
    )


def mean_correlation(product: Array) -> float:
    """Return the mean canonical correlation, 0 to 1, of two subspaces from the product (k_a, k_b) of their orthonormal bases."""
    fewer: int = min(product.shape)
    return min(nuclear_norm(product, fewer * _TOLERANCE) / fewer, 1.0)


def score_svcca(a: Basis, b: Basis) -> Outcome:
    """Return the mean canonical correlation, 0 to 1."""
    return _fills_sample_space(a, b) or mean_correlation(a.q.T @ b.q)


def score_mean_squared(a: Basis, b: Basis) -> Outcome:
    """Return the mean squared canonical correlation over min(k_a, k_b) pairs, 0 to 1."""
    return _fills_sample_space(a, b) or float(np.square(canonical_correlations(a, b)).mean())


def score_pwcca_weights_a(a: WeightedBasis, b: WeightedBasis) -> Outcome:
    """Return the mean of the canonical correlations weighted by how much of A's units lies along A's variates, 0 to 1.

    Weight i is sum_j |<h_i, x_j>| over the units j of A, with h_i the i-th canonical variate of A. Where several correlations
    are exactly 1 and others are not, the variates of the first ones may be rotated freely and the weights change:
    undefined.
    """
    trivial = _fills_sample_space(a, b)
    if trivial is not None:
        return trivial
    left, rho, _ = np.linalg.svd(a.q.T @ b.q, full_matrices=False)
    ties = int((rho > 1.0 - 1e-10).sum())
    if 1 < ties < rho.size:
        return Undefined(
            f"{ties} of {rho.size} canonical correlations are exactly 1, so their weights are not unique: the stimuli "
            "are too few for this many units, or the layers share a subspace"
        )
    weights = np.abs(left.T @ a.units).sum(axis=1)
    return float(np.minimum(rho, 1.0) @ weights / weights.sum())


def score_pwcca_symmetric(a: WeightedBasis, b: WeightedBasis) -> Outcome:
    """Return the mean of PWCCA weighted by A and weighted by B, 0 to 1."""
    by_a, by_b = score_pwcca_weights_a(a, b), score_pwcca_weights_a(b, a)
    if isinstance(by_a, Undefined):
        return by_a
    return by_b if isinstance(by_b, Undefined) else 0.5 * (by_a + by_b)
