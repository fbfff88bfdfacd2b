"""Measures between two layers: ``prepare(X) -> summary`` once per layer, ``score(a, b)`` once per pair.

A new measure is one file of array kernels and one line in `COMPARATORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from universality.comparators import cca, cka, matching
from universality.comparators.arrays import haar_orthogonal, live_units, standardised
from universality.comparators.matching import MATCHINGS, correlations
from universality.errors import MeasureError, did_you_mean

__all__ = [
    "COMPARATORS",
    "MATCHINGS",
    "Comparator",
    "Score",
    "comparator",
    "correlations",
    "haar_orthogonal",
    "live_units",
    "prepare",
    "refusal",
    "score",
    "score_prepared",
    "standardised",
]


@dataclass(frozen=True)
class Comparator:
    """A measure and what a reader must know of it.

    `basis_free` says that an orthogonal change of a layer's basis (unequal to a permutation) leaves the score as
    it was. `min_n` is the smallest number of stimuli for which the estimator is defined.
    """

    name: str
    prepare: Callable[[np.ndarray], Any]
    score: Callable[[Any, Any], float]
    direction: Literal["similarity", "distance"]
    low: float
    high: float
    basis_free: bool
    min_n: int
    reference: str


@dataclass(frozen=True)
class Score:
    """Result of one comparison: value, n stimuli, p and q live units, and why the value is NaN (else empty)."""

    value: float
    n: int
    p: int
    q: int
    reason: str = ""


_KORNBLITH = "Kornblith et al. 2019, ICML"
_TABLE = (
    Comparator(
        "cka_linear_debiased",
        cka.prepare_linear,
        cka.score_debiased,
        "similarity",
        -1.0,
        1.0,
        True,
        4,
        f"{_KORNBLITH}; unbiased HSIC: Song et al. 2012, JMLR 13, eq. 5",
    ),
    Comparator(
        "cka_linear_biased",
        cka.prepare_linear,
        cka.score_biased,
        "similarity",
        0.0,
        1.0,
        True,
        3,
        _KORNBLITH,
    ),
    Comparator(
        "svcca_variance99",
        cca.prepare_variance99,
        cca.score_svcca,
        "similarity",
        0.0,
        1.0,
        True,
        3,
        "Raghu et al. 2017, NeurIPS",
    ),
    Comparator(
        "unit_match_hungarian",
        matching.prepare,
        matching.score_hungarian,
        "similarity",
        -1.0,
        1.0,
        False,
        3,
        "Li et al. 2016, ICLR",
    ),
    Comparator(
        "unit_match_mutual_nearest",
        matching.prepare,
        matching.score_mutual_nearest,
        "similarity",
        -1.0,
        1.0,
        False,
        3,
        "mean r of mutual nearest neighbours, times their share of the smaller layer",
    ),
)

COMPARATORS: dict[str, Comparator] = {entry.name: entry for entry in _TABLE}


def comparator(name: str) -> Comparator:
    """Return the measure called `name`; raise `MeasureError` with the nearest name if there is none."""
    if not isinstance(name, str):
        raise MeasureError(f"a measure's name is text, came {name!r}; choose one of: {', '.join(COMPARATORS)}")
    try:
        return COMPARATORS[name]
    except KeyError:
        raise MeasureError(f"unknown measure '{name}'{did_you_mean(name, COMPARATORS)}") from None


def prepare(name: str, x: np.ndarray) -> Any:
    """Summarise a layer (n stimuli, p units) for `name` after dropping its dead units.

    Returns `None` where nothing can be summarised (see `refusal`).
    """
    live = x[:, live_units(x)]
    return None if refusal(name, live) else comparator(name).prepare(live)


def refusal(name: str, live: np.ndarray) -> str:
    """Return why `name` cannot be computed on live units (n, p), or an empty string."""
    n, p = live.shape
    if p == 0:
        return "no unit varies over the stimuli"
    if n < comparator(name).min_n:
        return f"{n} stimuli, {comparator(name).min_n} needed"
    return ""


def score_prepared(name: str, a: Any, b: Any) -> tuple[float, str]:
    """Return the score of two summaries and, where it is NaN, why."""
    if a is None or b is None:
        return float("nan"), "a layer has no unit that varies, or too few stimuli"
    value = comparator(name).score(a, b)
    return value, "" if np.isfinite(value) else "the stimuli are too few for this many units: trivial or undefined"


def score(name: str, x: np.ndarray, y: np.ndarray) -> Score:
    """Compare two layers by the measure called `name`.

    Parameters
    ----------
    name : str
        Key of `COMPARATORS`.
    x, y : array_like, (n stimuli, p units) and (n stimuli, q units)
        Activations for the same stimuli in the same order, a.u. Dead units are dropped.

    Returns
    -------
    Score
        `value` (range and direction in ``COMPARATORS[name]``), `n`, live `p` and `q`, and a `reason` where the
        value is NaN.

    Raises
    ------
    MeasureError
        Unknown name, arrays that are not two-dimensional, unequal numbers of stimuli, or non-finite values.
    """
    measure = comparator(name)
    x, y = (_checked(array, label) for array, label in ((x, "x"), (y, "y")))
    if x.shape[0] != y.shape[0]:
        raise MeasureError(
            f"x has {x.shape[0]} stimuli and y has {y.shape[0]}, expected the same stimuli in the same order; "
            "select the common ones first"
        )
    p, q = int(live_units(x).sum()), int(live_units(y).sum())
    value, reason = score_prepared(measure.name, prepare(name, x), prepare(name, y))
    return Score(value, x.shape[0], p, q, reason)


def _checked(array: np.ndarray, label: str) -> np.ndarray:
    try:
        wide = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise MeasureError(f"{label} is not an array of numbers; pass activations (stimuli, units)") from None
    if wide.ndim != 2 or 0 in wide.shape:
        raise MeasureError(f"{label} has shape {wide.shape}, expected (stimuli, units), both at least 1; reshape it")
    if not np.isfinite(wide).all():
        raise MeasureError(f"{label} has NaN or infinite values, expected finite activations; drop those stimuli")
    return wide
