"""What the best of many correlations is worth when there is nothing to find.

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


def _share_below(r: float, n: int, absolute: bool) -> float:
    inside = float(betainc(0.5, (n - 2) / 2, min(r * r, 1.0)))
    return inside if absolute else 0.5 * (1.0 + np.sign(r) * inside)


def _quantile(share: float, n: int, absolute: bool) -> float:
    inside = share if absolute else abs(2.0 * share - 1.0)
    r = float(np.sqrt(betaincinv(0.5, (n - 2) / 2, inside)))
    return r if absolute or share >= 0.5 else -r


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
    from scipy.integrate import quad

    if n < 3 or q < 1:
        return float("nan")
    low = 0.0 if absolute else -1.0
    # The integrand is a step where the best is likely to be: pieces between its quantiles are smooth.
    shares = (1e-12, 1e-6, 1e-3, 0.05, 0.5, 0.95, 0.999, 1 - 1e-6, 1 - 1e-12)
    edges = np.unique([low, *(_quantile(share ** (1.0 / q), n, absolute) for share in shares), 1.0])
    below = sum(
        quad(lambda r: _share_below(r, n, absolute) ** q, start, stop, epsabs=1e-12, epsrel=1e-10)[0]
        for start, stop in pairwise(edges)
    )
    return float(1.0 - below)
