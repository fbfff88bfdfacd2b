"""Ridge predictivity: the variance of one layer that a linear readout of the other predicts on held-out stimuli.

The stimuli fall into five folds; the penalty is chosen inside the other four by exact leave-one-out, so no
stimulus influences its own prediction. Folds are dealt by the rank of a stimulus' distance from the predictor's mean:
the order of the stimuli does not matter, and every fold holds near and far ones.

References
----------
Leave-one-out residuals of ridge with an intercept: T. Hastie et al., The elements of statistical learning, 2nd ed., eq. 7.64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from universality.base.arrays import Array, Outcome, Undefined, live_units, scaled

FOLDS = 5
PENALTIES = 10.0 ** np.arange(-6, 7)
"""Penalties tried, in units of the mean squared singular value of the predictor."""


def folds(x: Array) -> NDArray[np.int64]:
    """Return the fold (0 to 4) of each stimulus of a centred predictor (n, p)."""
    order = np.argsort(np.square(x).sum(axis=1), kind="stable")
    fold = np.empty(len(x), dtype=np.int64)
    fold[order] = np.arange(len(x)) % FOLDS
    return fold


@dataclass(frozen=True)
class Fold:
    """A predictor's singular vectors and values without one fold, and the fold's stimuli in these coordinates."""

    training: NDArray[np.bool_]
    u: Array
    s: Array
    held_out: Array


@dataclass(frozen=True)
class Layer:
    """A layer as target (`x`, centred) and as predictor (`folds`)."""

    x: Array
    folds: tuple[Fold, ...]


def prepare(x: np.ndarray) -> Layer:
    """Decompose a layer (n stimuli, p units) once per fold."""
    features = scaled(x)
    fold = folds(features)
    return Layer(features, tuple(decomposed(features, fold != index) for index in range(FOLDS)))


def decomposed(features: Array, training: NDArray[np.bool_]) -> Fold:
    """Decompose a centred predictor (n, p) over its training stimuli (n,)."""
    mean = features[training].mean(axis=0)
    # A unit that is constant in training predicts nothing; the rounding of its mean must not become a direction.
    centred = np.where(live_units(features[training]), features[training] - mean, 0.0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    return Fold(training, u, s, (features[~training] - mean) @ vt.T)


def press(fold: Fold, y: Array) -> Array:
    """Return the leave-one-out error (penalty, q) of every target of `y` (n, q) within the training stimuli.

    Squared and summed over stimuli, for `PENALTIES` times the mean squared singular value.
    """
    target = y[fold.training]
    centred = target - target.mean(axis=0)
    projected = fold.u.T @ centred
    errors = []
    for penalty in penalties(fold):
        shrink = np.square(fold.s) / (np.square(fold.s) + penalty)
        leverage = np.square(fold.u) @ shrink + 1.0 / len(target)
        residual = (centred - fold.u @ (shrink[:, None] * projected)) / (1.0 - leverage)[:, None]
        errors.append(np.einsum("nq,nq->q", residual, residual))
    return np.stack(errors)


def penalties(fold: Fold) -> Array:
    """Return the penalties that are tried, in the units of the fold's predictor."""
    return np.asarray(PENALTIES * np.square(fold.s).mean())


def ridge(fold: Fold, y: Array, penalty: float | Array) -> Array:
    """Return predictions of the held-out rows of `y` (n, q), with one penalty or one for each target (q,)."""
    target = y[fold.training]
    mean = target.mean(axis=0)
    shrink = fold.s[:, None] / (np.square(fold.s)[:, None] + penalty)
    return np.asarray(mean + fold.held_out @ (shrink * (fold.u.T @ (target - mean))))


def _predicted(fold: Fold, y: Array) -> Array:
    """Return predictions of the held-out rows of `y` (n, q), with the penalty that leave-one-out prefers for all targets."""
    return ridge(fold, y, float(penalties(fold)[press(fold, y).sum(axis=1).argmin()]))


def held_out_r2(folds: tuple[Fold, ...], y: Array, predict: Callable[[Fold, Array], Array]) -> Outcome:
    """Return 1 - squared error / squared deviation from the training mean, over all units and held-out stimuli."""
    error = deviation = 0.0
    for fold in folds:
        truth = y[~fold.training]
        error += float(np.square(truth - predict(fold, y)).sum())
        deviation += float(np.square(truth - y[fold.training].mean(axis=0)).sum())
    return 1.0 - error / deviation


def score_a_to_b(a: Layer, b: Layer) -> Outcome:
    """Return the share of B's variance that A predicts on held-out stimuli, at most 1; below 0 is worse than the mean."""
    for fold in a.folds:
        if fold.s[0] == 0:
            return Undefined("no unit of the predictor varies without one of the five folds")
    return held_out_r2(a.folds, b.x, _predicted)


def score_b_to_a(a: Layer, b: Layer) -> Outcome:
    """Return the share of A's variance that B predicts on held-out stimuli, at most 1."""
    return score_a_to_b(b, a)


def score_mean(a: Layer, b: Layer) -> Outcome:
    """Return the mean of both directions, at most 1."""
    forward, backward = score_a_to_b(a, b), score_a_to_b(b, a)
    if isinstance(forward, Undefined):
        return forward
    return backward if isinstance(backward, Undefined) else 0.5 * (forward + backward)
