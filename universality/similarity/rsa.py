"""Representational similarity analysis: whether stimuli that are alike to one layer are alike to the other.

A layer becomes the dissimilarities of all n (n - 1) / 2 pairs of stimuli; two layers are compared by these vectors.

References
----------
N. Kriegeskorte et al., Representational similarity analysis, Front. Syst. Neurosci. 2, 2008.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from universality.base.arrays import Array, Outcome, Undefined, live_units, scaled


def prepare_euclidean(x: np.ndarray) -> Array:
    """Return the squared Euclidean distances of all pairs of stimuli of a layer (n, p)."""
    return np.asarray(pdist(scaled(x), "sqeuclidean"))


def prepare_correlation(x: np.ndarray) -> Array | Undefined:
    """Return 1 - r of all pairs of stimuli, r taken over the units of a layer (n, p). Units are not centred first."""
    n, p = x.shape
    if p < 3:
        return Undefined(f"{p} live units, 3 needed: two patterns of fewer units correlate with 1 or -1, or not at all")
    patterns = x / np.abs(x).max()
    flat = n - int(live_units(patterns.T).sum())
    if flat:
        return Undefined(f"{flat} stimuli excite all units alike: their patterns have no correlation distance")
    return np.asarray(pdist(patterns, "correlation"))


def _correlation(a: Array, b: Array) -> Outcome:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Undefined("all stimuli of a layer are equally far from one another")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))


def score_pearson(a: Array, b: Array) -> Outcome:
    """Return the Pearson correlation of two vectors of dissimilarities, -1 to 1."""
    return _correlation(a, b)


def score_spearman(a: Array, b: Array) -> Outcome:
    """Return their rank correlation, -1 to 1; equal dissimilarities share their mean rank."""
    from scipy.stats import rankdata

    return _correlation(rankdata(a), rankdata(b))


def score_cosine(a: Array, b: Array) -> Outcome:
    """Return the cosine of their angle, 0 to 1; high for any two layers, since dissimilarities are not negative."""
    return min(float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))), 1.0)
