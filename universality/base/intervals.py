"""Intervals of 95 % that more than one room needs: of a mean, and of correlations that were resampled."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from universality.base.arrays import Array


def mean_interval(values: Array) -> tuple[float, float]:
    """Return the 95 % interval of the mean of independent values (value,), by Student's t; NaN of fewer than two."""
    if values.size < 2:
        return float("nan"), float("nan")
    half = t_quantile(values.size) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def percentile_interval(values: Array) -> tuple[float, float]:
    """Return the middle 95 % of resampled values; NaN where none is finite."""
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def t_quantile(count: int) -> float:
    """Return how many standard deviations lie between the middle and an end of a 95 % interval that rests on `count` independent things."""
    return float(stdtrit(max(count, 2) - 1, 0.975))


def correlation_interval(r: Array, resampled: Array, count: int) -> tuple[Array, Array]:
    """Return the ends of the 95 % interval of correlations (pair,) from resampled ones (bootstrap, pair).

    Fisher's z has a nearly normal error; its standard deviation comes from the resamples, the quantile from Student's t with
    as many degrees of freedom as there are independent things (photographs, sources) less 1. Percentiles of the resamples would be too narrow for few
    photographs (92.9 % instead of 95 % for 120 independent images, `tests/test_correspondence_resampling.py`), and would lie too low where resampling
    itself lowers a correlation (by 0.01 to 0.1 for means over few sources, `tests/test_circuits_wirings.py`): the middle is r.
    """
    # An arc tangent of 1 is infinite; so close to 1 the interval is a point.
    inside = 1.0 - 1e-12
    z, spread = np.arctanh(np.clip(r, -inside, inside)), _deviation(np.arctanh(np.clip(resampled, -inside, inside)))
    # The bootstrap's variance is that of a population of k things: k / (k - 1) makes it that of a sample.
    k = max(count, 2)
    half = t_quantile(count) * np.sqrt(k / (k - 1)) * spread
    return np.tanh(z - half), np.tanh(z + half)


def _deviation(samples: Array) -> Array:
    """Return the standard deviation of every column over the resamples that have a value; NaN where fewer than two do."""
    defined = np.isfinite(samples)
    count = defined.sum(axis=0)
    enough = count > 1
    filled = np.where(defined, samples, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    squares = (np.where(defined, samples - mean, 0.0) ** 2).sum(axis=0)
    return np.where(enough, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
