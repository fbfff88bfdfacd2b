"""One-to-many matching: a unit of A as a sparse sum of a few units of B.

References
----------
Y. Li et al., Convergent learning, ICLR 2016 (sparse prediction of units). Departure: the penalty is not tuned. On
units of length 1 it is compared with correlations, so it is set to the expected largest |r| of q independent
units: a unit of B enters only if it explains more than chance.
"""

from __future__ import annotations

import warnings

import numpy as np

from universality.base.arrays import Array, Outcome, Undefined, live_units, scaled, standardised
from universality.similarity.chance import expected_best
from universality.similarity.predictivity import FOLDS, folds

_COPIES = 1 - 1e-6
"""Correlation of two units of one layer above which they are copies of one another."""


def coefficients(predictors: Array, targets: Array, penalty: float) -> Array | Undefined:
    """Return w (q, p) that minimises |y - X w|^2 / 2 + penalty |w|_1 for each target y.

    `predictors` X (n, q) and `targets` (n, p) are standardised to length 1; `penalty` is 0 to 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    n = len(predictors)
    model = Lasso(alpha=penalty / n, fit_intercept=False, precompute=True, max_iter=10_000, tol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(predictors, targets)
        except ConvergenceWarning:
            alike = np.abs(np.triu(predictors.T @ predictors, 1)).max(initial=0.0)
            copies = ": units of B are copies of one another" if alike > _COPIES else ""
            return Undefined(f"the lasso did not converge in 10,000 rounds{copies}")
    return np.atleast_2d(model.coef_).T


def prepare(x: np.ndarray) -> Array:
    """Centre a layer (n, p); folds standardise their own training stimuli."""
    return scaled(x)


def score_a_from_b(a: Array, b: Array) -> Outcome:
    """Return the share of the variance of A's standardised units that sparse sums of B's predict, at most 1.

    Predictions are for held-out stimuli (five folds, dealt as for ridge); below 0 is worse than the mean.
    """
    fold = folds(standardised(b))
    error = deviation = 0.0
    lengths = np.linalg.norm(a, axis=0)
    for index in range(FOLDS):
        predicted = _predicted(a, b, fold != index)
        if isinstance(predicted, Undefined):
            return predicted
        truth, mean = a[fold == index], a[fold != index].mean(axis=0)
        error += float(np.square((truth - predicted) / lengths).sum())
        deviation += float(np.square((truth - mean) / lengths).sum())
    return 1.0 - error / deviation


def _predicted(a: Array, b: Array, training: np.ndarray) -> Array | Undefined:
    """Return predictions of the rows of `a` that are not in training; a unit that does not vary there is predicted by its mean."""
    live_a, live_b = live_units(a[training]), live_units(b[training])
    predicted = np.tile(a[training].mean(axis=0), (int((~training).sum()), 1))
    if not (live_a.any() and live_b.any()):
        return predicted
    x, y = standardised(b[training][:, live_b]), standardised(a[training][:, live_a])
    w = coefficients(x, y, expected_best(len(x), x.shape[1], absolute=True))
    if isinstance(w, Undefined):
        return w
    centre_b, length_b = _centre_and_length(b[training][:, live_b])
    length_a = _centre_and_length(a[training][:, live_a])[1]
    predicted[:, live_a] += ((b[~training][:, live_b] - centre_b) / length_b) @ w * length_a
    return predicted


def _centre_and_length(x: Array) -> tuple[Array, Array]:
    mean = x.mean(axis=0)
    largest = np.abs(x - mean).max(axis=0)
    return mean, np.asarray(largest * np.linalg.norm((x - mean) / largest, axis=0))
