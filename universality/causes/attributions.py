"""The effect of every unit among others that are removed: a linear regression of the loss on which units are gone, over random ablations.

References
----------
H. Shah, A. Ilyas, A. Madry, Decomposing and editing predictions by modeling model computation, ICML 2024 (component attribution by regression).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import RidgeCV

from universality.base.arrays import Array
from universality.causes.ablations import Ablation, Rows
from universality.causes.plan import CausePlan

MOST_UNITS = 128
"""Of a tap that is small enough: the regression needs some ablations for each unit."""
SHARE_REMOVED = 0.1
FOR_EACH_UNIT = 4
"""Random ablations for each unit, of which one in five is not fitted."""
HELD_OUT = 0.2
IMAGES = 144
"""That every random ablation is shown: many ablations tell more than many images."""
SHUFFLES = 99


def attribution_rows(of: Ablation, single: Array, plan: CausePlan, common: Mapping[str, object]) -> Rows:
    """Return the rows of ``attributions`` of one tap; none of one with more than `MOST_UNITS` units, or with one alone.

    Parameters
    ----------
    of : what removes units
    single : (unit,) rise of the loss with each unit alone removed
    """
    units = len(single)
    if not 1 < units <= MOST_UNITS:
        return []
    rng = np.random.default_rng([plan.seed, units])
    count = FOR_EACH_UNIT * units
    # Each by itself: were as many removed every time, effects would be known up to a constant only.
    gone = (rng.random((count, units)) < SHARE_REMOVED).astype(np.float64)
    loss = np.array([of.removed(np.flatnonzero(row)).means["loss"] if row.any() else 0.0 for row in gone])
    fitted = np.arange(count) >= round(HELD_OUT * count)
    effect, predicted = _fit(gone, loss, fitted)
    effect = np.where(gone[fitted].any(axis=0), effect, np.nan)  # of a unit that was never removed nothing is known
    shuffled = []
    for _ in range(SHUFFLES):
        exchanged = loss.copy()
        exchanged[fitted] = rng.permutation(loss[fitted])
        shuffled.append(_r(_fit(gone, exchanged, fitted)[1], loss[~fitted]))
    common = {
        **common, "base": of.base, "n_ablations": int(fitted.sum()), "share_removed": SHARE_REMOVED, "r_held_out": _r(predicted, loss[~fitted]),
        "r_held_out_shuffled": float(np.nanquantile(shuffled, 0.95)) if np.isfinite(shuffled).any() else float("nan"), "r_single": _r(effect, single),
    }  # fmt: skip
    return [{**common, "unit": u, "effect": float(effect[u]), "effect_single": float(single[u])} for u in range(units)]


def _fit(gone: Array, loss: Array, fitted: np.ndarray) -> tuple[Array, Array]:
    """Return the effects of the units and what they predict of ablations that were not fitted."""
    model = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(gone[fitted], loss[fitted])
    return np.asarray(model.coef_), np.asarray(model.predict(gone[~fitted]))


def _r(x: Array, y: Array) -> float:
    known = np.isfinite(x)
    x, y = x[known], y[known]
    if len(x) < 3:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")
