"""A linear mixed model by restricted maximum likelihood, for observations that belong to several groups at a time, such as pairs of networks.

    y = X b + sum_k Z_k u_k + e,   u_k ~ N(0, s_k^2 I),   e ~ N(0, s^2 I)

References
----------
D. Bates et al., Fitting linear mixed-effects models using lme4, J. Stat. Softw. 67 (2015). REML: H. D. Patterson, R. Thompson, Biometrika 58 (1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from universality.base.arrays import Array


@dataclass(frozen=True)
class Mixed:
    """A fitted model.

    Attributes
    ----------
    slopes, errors : (column of X,) coefficients and their standard errors
    variances : (group,) of the random effects
    residual : variance of e
    """

    slopes: Array
    errors: Array
    variances: Array
    residual: float


def fit(y: Array, x: Array, groups: Sequence[Array]) -> Mixed:
    """Fit a mixed model.

    Parameters
    ----------
    y : (observation,)
    x : (observation, column), of full rank
    groups : (observation, level) each: the design of one kind of random effect
    """
    n, p = x.shape

    def solved(ratios: Array) -> tuple[float, Array, Array, float]:
        """Return -2 REML log likelihood up to a constant, the slopes, (X' V^-1 X)^-1 and the residual variance, for variances over that of e."""
        z = np.concatenate([np.sqrt(r) * of for r, of in zip(ratios, groups, strict=True)], axis=1)
        inner = np.eye(z.shape[1]) + z.T @ z
        whitened = np.linalg.solve(inner, z.T)

        def weighed(value: Array) -> Array:  # V^-1 by Woodbury's identity
            return np.asarray(value - z @ (whitened @ value))

        vx = weighed(x)
        information = x.T @ vx
        slopes = np.asarray(np.linalg.solve(information, vx.T @ y), dtype=np.float64)
        rest = y - x @ slopes
        variance = float(rest @ weighed(rest)) / (n - p)
        deviance = (n - p) * np.log(variance) + np.linalg.slogdet(inner)[1] + np.linalg.slogdet(information)[1]
        return (
            float(deviance),
            np.asarray(slopes),
            np.asarray(np.linalg.inv(information), dtype=np.float64),
            float(variance),
        )

    starts = [np.full(len(groups), start) for start in (0.01, 1.0)]
    tried = [
        minimize(lambda r: solved(np.asarray(r))[0], start, method="L-BFGS-B", bounds=[(0.0, 1e4)] * len(groups)) for start in starts
    ]  # fmt: skip
    best = np.asarray(min(tried, key=lambda of: float(of.fun)).x)
    _, slopes, covariance, variance = solved(best)
    return Mixed(slopes, np.sqrt(variance * np.diag(covariance)), best * variance, variance)
