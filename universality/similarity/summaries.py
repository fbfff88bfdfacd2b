"""Summaries of one layer for a measure: as it is, in random bases, and with its stimuli shuffled; scores of two summaries.

Jobs (`tables`) and single scores (`scoring`) make their nulls here, so that equal seeds give equal nulls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from universality.activations.bases import haar
from universality.activations.nulls import NullPlan
from universality.base.arrays import Array, Undefined, live_units
from universality.base.errors import MeasureError, did_you_mean
from universality.similarity.registry import COMPARATORS, Comparator


def comparator(name: str) -> Comparator:
    """Return the measure called `name`; raise `MeasureError` with the variants of a family, or the nearest name."""
    if not isinstance(name, str):
        raise MeasureError(f"a measure's name is text, came {name!r}; choose one of: {', '.join(COMPARATORS)}")
    if name not in COMPARATORS:
        raise unknown_measure(name, COMPARATORS)
    return COMPARATORS[name]


def unknown_measure(name: str, known: Iterable[str]) -> MeasureError:
    """Return the error for a name that is not among the `known`: all variants that have its words, or the nearest name.

    Examples
    --------
    >>> print(unknown_measure("PWCCA", COMPARATORS))
    'PWCCA' names several measures, expected one: pwcca_weights_a or pwcca_symmetric; choose the variant
    """
    known = list(known)
    words = set(re.split(r"[\W_]+", name.lower())) - {""}
    variants = [option for option in known if words and words <= set(option.split("_"))]
    if len(variants) > 1:
        listed = f"{', '.join(variants[:-1])} or {variants[-1]}"
        return MeasureError(f"'{name}' names several measures, expected one: {listed}; choose the variant")
    near = f"; did you mean '{variants[0]}'?" if variants else did_you_mean(name, known)
    return MeasureError(f"unknown measure '{name}'{near}")


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


class Prepared:
    """Summaries of one layer in its variations, made when first asked for; measures share equal preparations.

    Without `keep` a summary is made anew each time: of many resamples, each asked for once, they would fill the memory.
    """

    def __init__(self, x: Array, plan: NullPlan, places: int = 1, *, keep: bool = True) -> None:
        self._x = x
        self._keep = keep
        self._places = places
        self._plan = plan
        self._made: dict[tuple[Callable[..., Any], int, str, int], Any] = {}
        self.units = int(live_units(x).sum())

    def plain(self, measure: str) -> Any:
        """Return the layer's summary as it is."""
        return self._get(measure, "plain", 0, lambda: self._x)

    def haar(self, measure: str) -> Iterator[Any]:
        """Yield its summary in every random basis of the plan."""
        # One rotation shows that a basis-free measure does not change; unit matching needs the mean over several.
        count = 1 if comparator(measure).basis_free else self._plan.haar_rotations
        for index in range(count):
            yield self._get(measure, "haar", index, partial(self._rotated, index))

    def shuffled(self, measure: str) -> Iterator[Any]:
        """Yield its summary in every order of the stimuli of the plan."""
        for index in range(self._plan.shuffles):
            yield self._get(measure, "shuffled", index, partial(self._reordered, index))

    def _rotated(self, index: int) -> Array:
        return haar(index, self._plan.seed).seen(self._x)

    def _reordered(self, index: int) -> Array:
        # Places of one image stay together: stimuli are shuffled, not places.
        images = len(self._x) // self._places
        rng = np.random.default_rng([self._plan.seed, images, index])
        order = rng.permutation(images)[:, None] * self._places + np.arange(self._places)
        return np.asarray(self._x[order.ravel()])

    def _get(self, measure: str, kind: str, index: int, make: Callable[[], Array]) -> Any:
        if not self._keep:
            return prepare(measure, make())
        entry = comparator(measure)
        # min_n decides whether there is a summary at all, so measures that differ in it share none.
        key = (entry.prepare, entry.min_n, kind, index)
        if key not in self._made:
            self._made[key] = prepare(measure, make())
        return self._made[key]


@dataclass(frozen=True)
class Null:
    """What a measure gives of pairs that should not correspond.

    Attributes
    ----------
    mean : over the resamples; NaN where there are none, or one of them has no value
    values : one of each resample
    reason : why the mean is NaN, else empty
    """

    mean: float
    values: tuple[float, ...] = ()
    reason: str = ""


def null(measure: str, a: Any, resampled: Iterable[Any]) -> Null:
    """Return the scores of one summary with every resample of another."""
    found = [score_prepared(measure, a, b) for b in resampled]
    values = tuple(value for value, _ in found)
    return Null(mean_of(values), values, next((reason for _, reason in found if reason), ""))


def mean_of(values: Iterable[float]) -> float:
    """Return the mean; NaN of nothing."""
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")
