"""How far two layers are apart after the best rotation, or the best relabelling, of their units.

Both layers are centred and scaled to Frobenius norm 1. The score is the largest inner product <X, Y T> over the allowed T,
the angular distance its arc cosine: a metric on layers up to T.

References
----------
A. Williams et al., Generalized shape metrics on neural representations, NeurIPS 2021 (of unequal widths, the narrower
layer gets units that are 0).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from universality.base.arrays import Array, nuclear_norm, scaled


def prepare(x: np.ndarray) -> Array:
    """Centre a layer (n stimuli, p units) and scale it to Frobenius norm 1."""
    features = scaled(x)
    return np.asarray(features / np.linalg.norm(features))


def prepare_up_to_rotation(x: np.ndarray) -> Array:
    """Return the layer of norm 1, rotated into at most n columns: the score does not depend on rotations."""
    features = prepare(x)
    if features.shape[1] <= features.shape[0]:
        return features
    return np.asarray(np.linalg.qr(features.T)[1].T)


def score_orthogonal(a: Array, b: Array) -> float:
    """Return the largest <X, Y Q> over orthogonal Q, 0 to 1: the sum of the singular values of X'Y."""
    return min(nuclear_norm(a.T @ b, 0.0), 1.0)


def score_permutation(a: Array, b: Array) -> float:
    """Return the largest <X, Y P> over permutations P, 0 to 1.

    Both layers may be given units that are 0, as many as are wanted: a unit whose best partner would lower the sum stays
    alone. So layers of any width are compared, dead units change nothing, and the angular distance stays a metric over
    all widths. For equal widths it is the usual score wherever every matched covariance is at least 0.
    """
    covariance = np.maximum(a.T @ b, 0.0)
    rows, columns = linear_sum_assignment(covariance, maximize=True)
    return min(float(covariance[rows, columns].sum()), 1.0)


def angular_orthogonal(a: Array, b: Array) -> float:
    """Return arccos of the orthogonal score: 0 to pi / 2 rad."""
    return float(np.arccos(score_orthogonal(a, b)))


def angular_permutation(a: Array, b: Array) -> float:
    """Return arccos of the permutation score: 0 to pi / 2 rad."""
    return float(np.arccos(score_permutation(a, b)))
