"""How well a mixture of one layer's units imitates a unit of another: the best that any single unit could do, held out.

The multiple correlation of a unit with a layer is at least its correlation with every unit of that layer, and with every
direction, so with every unit in every other basis. Here the mixture is a ridge fitted on some stimuli and scored on others.

References
----------
Leave-one-out residuals of ridge with an intercept: T. Hastie et al., The elements of statistical learning, 2nd ed., eq. 7.64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from universality.base.arrays import Array, scaled
from universality.similarity.predictivity import Fold, decomposed, penalties, press, ridge


def prepare(x: np.ndarray, fitted: NDArray[np.bool_]) -> Fold:
    """Decompose the layer `x` (n stimuli, p units that vary) that is to be mixed, over the stimuli to fit on (n,)."""
    return decomposed(scaled(x), fitted)


def correlations(mixed: Fold, targets: np.ndarray) -> Array:
    """Return the correlation of each target with its best mixture, over the stimuli that the mixture was not fitted on.

    Parameters
    ----------
    mixed : summary of the layer whose units are mixed
    targets : (n stimuli, q units), all stimuli

    Returns
    -------
    (q,)
        -1 to 1, larger is better. Each target has its own penalty, the best by leave-one-out among those fitted, so it does
        not matter which other targets are asked for. NaN where the target or its mixture does not vary over what was held out.
    """
    best = penalties(mixed)[press(mixed, targets).argmin(axis=0)]
    predicted, truth = ridge(mixed, targets, best), targets[~mixed.training]
    a, b = (values - values.mean(axis=0) for values in (predicted, truth))
    length = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    varies = (np.ptp(predicted, axis=0) > 0) & (np.ptp(truth, axis=0) > 0)
    products = np.einsum("nq,nq->q", a, b)
    return np.asarray(np.clip(np.divide(products, length, out=np.full(len(length), np.nan), where=varies), -1.0, 1.0))
