"""On how many units of the next tap a family's outgoing weights fall: one each, or all of them.

The participation ratio of one unit's outgoing weights, ``(sum_j w_j^2)^2 / (n sum_j w_j^4)``, is 1 / n where one unit of the next tap reads it and 1 where all n read it alike; ``w_j`` is the
root of the sum over space of its squared weights into unit j.

References
----------
D. J. Thouless, Physics Reports 13, 1974 (participation ratio). N. Elhage et al., Toy models of superposition, 2022 (the question).
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from universality.base.arrays import Array, participation
from universality.base.intervals import percentile_interval
from universality.circuits.chance import p_apart

DRAWS = 399


def outgoing(weights: xr.DataArray) -> Array:
    """Return how strongly each unit of the later tap reads each source, (target, source): the root of the sum over space of squared weights."""
    return np.asarray(np.sqrt(np.square(weights.values.astype(np.float64)).sum(axis=(2, 3))))


def participation_ratio(weights: ArrayLike) -> Array:
    """Return the participation ratio of each column of weights (target, source), (source,), 1 / n to 1; NaN of a source that nothing reads."""
    given = np.asarray(weights, dtype=np.float64)
    return participation(given, axis=0) / max(len(given), 1)


def beside_others(ratios: ArrayLike) -> Array:
    """Return for each of a layer's participation ratios (source,) the mean of the others, (source,); NaN where it, or every other, is NaN."""
    of = np.asarray(ratios, dtype=np.float64)
    known = np.isfinite(of)
    others = int(known.sum()) - 1
    if others < 1:
        return np.full(of.shape, np.nan)
    return np.asarray(np.where(known, (np.nansum(of) - of) / others, np.nan))


def summary(strengths: Array, family: ArrayLike, rng: np.random.Generator, draws: int = DRAWS) -> dict[str, float]:
    """Return the mean participation ratio of a family's units beside that of as many units drawn from all of their layer.

    The ratio does not depend on a unit's norm, so that random units need none.

    Parameters
    ----------
    strengths : (target, source) as `outgoing` gives them, in units that make targets comparable
    family : (unit,) their numbers among the sources
    """
    of = participation_ratio(strengths)
    own = np.asarray(family, dtype=np.int64)
    every = np.flatnonzero(np.isfinite(of))
    own = np.intersect1d(own, every)
    ratio = float(of[own].mean()) if own.size else float("nan")
    if not own.size or own.size == every.size:  # nobody else to be compared with
        return {
            "ratio": ratio,
            "ratio_random": np.nan,
            "ratio_random_low": np.nan,
            "ratio_random_high": np.nan,
            "p": np.nan,
        }
    drawn = np.array([of[rng.permutation(every)[: own.size]].mean() for _ in range(draws)])
    low, high = percentile_interval(drawn)
    return {
        "ratio": ratio, "ratio_random": float(drawn.mean()), "ratio_random_low": low, "ratio_random_high": high, "p": p_apart(ratio, drawn),
    }  # fmt: skip
