"""One score of two layers by the name of a measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from universality.base.arrays import Undefined, live_units
from universality.base.errors import MeasureError, did_you_mean
from universality.similarity.registry import COMPARATORS, Comparator
from universality.similarity.validation import checked_pair


@dataclass(frozen=True)
class Score:
    """Result of one comparison.

    Attributes
    ----------
    value : the score, NaN where there is none
    n, p, q : stimuli, and live units of both layers
    reason : why the value is NaN, else empty
    dead_p, dead_q : units that were masked because they do not vary
    chance : expected value for independent layers where it is known exactly (best-of-q scores), else NaN
    """

    value: float
    n: int
    p: int
    q: int
    reason: str = ""
    dead_p: int = 0
    dead_q: int = 0
    chance: float = float("nan")


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

    Returns `Undefined` with the reason where nothing can be summarised.
    """
    live = x[:, live_units(x)]
    reason = refusal(name, live)
    return Undefined(reason) if reason else comparator(name).prepare(live)


def refusal(name: str, live: np.ndarray) -> str:
    """Return why `name` cannot be computed on live units (n, p), or an empty string."""
    n, p = live.shape
    if p == 0:
        return "no unit that varies over the stimuli"
    if n < comparator(name).min_n:
        return f"{n} stimuli, {comparator(name).min_n} needed"
    return ""


def score_prepared(name: str, a: Any, b: Any) -> tuple[float, str]:
    """Return the score of two summaries and, where it is NaN, why."""
    for summary, place in ((a, "first"), (b, "second")):
        if isinstance(summary, Undefined):
            return float("nan"), f"{place} layer: {summary.reason}"
    outcome = comparator(name).score(a, b)
    if isinstance(outcome, Undefined):
        return float("nan"), outcome.reason
    return outcome, "" if np.isfinite(outcome) else "the arithmetic left the range of double precision"


def score(name: str, x: np.ndarray, y: np.ndarray) -> Score:
    """Compare two layers by the measure called `name`.

    Parameters
    ----------
    name : str
        Key of `COMPARATORS`; `measures` lists them.
    x, y : array_like, (n stimuli, p units) and (n stimuli, q units)
        Activations for the same stimuli in the same order, a.u. Dead units are dropped.

    Returns
    -------
    Score
        `value` (range and direction in ``COMPARATORS[name]``), `n`, live `p` and `q`, a `reason` where the value is
        NaN, the numbers of dropped units, and the `chance` level of best-of-q scores.

    Raises
    ------
    MeasureError
        Unknown name, arrays that are not two-dimensional, unequal numbers of stimuli, or non-finite values.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 5))
    >>> found = score("cka_linear_debiased", x, x[:, ::-1])
    >>> round(found.value, 6), found.n, found.p
    (1.0, 200, 5)
    >>> score("cka_linear_debiased", x, np.zeros((200, 3))).reason
    'second layer: no unit that varies over the stimuli'
    """
    measure = comparator(name)
    x, y = checked_pair(x, y)
    n, p, q = len(x), int(live_units(x).sum()), int(live_units(y).sum())
    value, reason = score_prepared(measure.name, prepare(name, x), prepare(name, y))
    chance = measure.chance(n, p, q) if measure.chance and not reason else float("nan")
    return Score(value, n, p, q, reason, x.shape[1] - p, y.shape[1] - q, chance)
