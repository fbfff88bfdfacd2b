"""The expected best of many correlations between independent units.

For two independent Gaussian units over n stimuli, r^2 follows Beta(1/2, (n - 2) / 2) and r is symmetric about 0. Against q
independent units, the correlations of one unit are q independent draws: given the unit, each of the others points in
a direction that is uniform on the sphere. So the distribution function of the best is F(r)^q, exactly. Units of a layer
that resemble one another make fewer than q draws: then the true chance level is lower than the one stated.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.special import betainc, betaincinv

from universality.base.arrays import Array


def _log_share_below(angle: Array, n: int, absolute: bool) -> Array:
    """Return log F(r) for r = sin(`angle`), or of the distribution function of |r|."""
    # The tail from cos^2 = 1 - r^2 itself: near |r| = 1 the difference would have lost its digits.
    tail = np.minimum(betainc((n - 2) / 2, 0.5, np.square(np.cos(angle))), 1.0 - 1e-16)
    if absolute:
        return np.asarray(np.log1p(-tail))
    return np.asarray(np.where(angle >= 0, np.log1p(-0.5 * tail), np.log(np.maximum(0.5 * tail, 1e-300))))


def _angle_of_best(share: float, n: int, q: int, absolute: bool) -> float:
    """Return the angle below which the best of `q` lies with probability `share`."""
    above = -np.expm1(np.log(share) / q)
    tail = above if absolute else 2.0 * min(above, 1.0 - above)
    angle = float(np.arccos(np.sqrt(betaincinv((n - 2) / 2, 0.5, min(tail, 1.0)))))
    return angle if absolute or above <= 0.5 else -angle


@lru_cache(maxsize=1024)
def expected_best(n: int, q: int, *, absolute: bool = False) -> float:
    """Return the expected largest correlation of one unit with `q` independent units over `n` stimuli.

    Parameters
    ----------
    n : int
        Stimuli, at least 3.
    q : int
        Units to choose from, at least 1.
    absolute : bool
        The largest |r| instead of the largest r.

    Returns
    -------
    float
        -1 to 1 (0 to 1 if absolute); NaN below 3 stimuli or without a unit.

    Examples
    --------
    >>> round(expected_best(100, 512), 2), round(expected_best(1000, 512), 2)
    (0.3, 0.1)
    """
    if n < 3 or q < 1:
        return float("nan")
    nodes, weights = np.polynomial.legendre.leggauss(64)
    # E = 1 - integral of F^q, which is a step where the best is likely to be: between its quantiles it is smooth.
    shares = (1e-15, 1e-9, 1e-5, 1e-3, 0.05, 0.3, 0.7, 0.95, 0.999, 1 - 1e-5, 1 - 1e-9, 1 - 1e-15)
    low = 0.0 if absolute else -np.pi / 2
    edges = np.unique([low, *(_angle_of_best(share, n, q, absolute) for share in shares), np.pi / 2])
    below = 0.0
    for start, stop in pairwise(edges):
        angle = 0.5 * (stop - start) * nodes + 0.5 * (stop + start)
        below += (
            0.5 * (stop - start) * float(weights @ (np.exp(q * _log_share_below(angle, n, absolute)) * np.cos(angle)))
        )
    return float(1.0 - below)
