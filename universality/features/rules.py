"""Declarative definitions: criteria with names, thresholds and reasons, and what units do beside them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.features.tuning import (
    Array,
    circular_difference,
    largest_deviation,
    least_pairwise_correlation,
    tuning_statistics,
)

STRONG_PEAK_SIGMA = 2.0
CLIPPED_TIES = 12
"""A unit with so many natural images at exactly its largest value is called clipped: of the values that it hands on, which excite it most is arbitrary."""
NEAR_SCORE = -1.0
"""Least score of a near miss."""


@dataclass(frozen=True)
class Criterion:
    """One test of a definition: ``column op threshold``, and why it is there.

    `near` is how far beyond the threshold a unit may lie to be a near miss: what a detector's own noisy copy can lose. None: no
    further than the threshold itself.
    """

    column: str
    op: str
    threshold: float
    reason: str
    near: float | None = None

    def passes(self, values: pd.Series) -> pd.Series:
        """Return which units pass; NaN never does."""
        return _OPERATORS[self.op](values, self.threshold)

    def score(self, values: pd.Series) -> Array:
        """Return by how many times `near` each unit lies within the threshold; below 0 it fails, NaN as far as can be."""
        sign = 1.0 if self.op[0] == ">" else -1.0
        beyond = sign * (values.to_numpy(np.float64) - self.threshold)
        if self.near is None:
            beyond = np.where(self.passes(values), np.inf, -np.inf)
        else:
            beyond = beyond / self.near
            # A strict threshold is not met by a value that lies at it.
            beyond = np.where((beyond == 0.0) & ~self.passes(values).to_numpy(), -np.finfo(np.float64).tiny, beyond)
        return np.asarray(np.where(np.isnan(beyond), -np.inf, beyond))


_OPERATORS: dict[str, Callable[[pd.Series, float], pd.Series]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
LIVELY = (
    Criterion(
        "relative_sigma",
        ">",
        0.25,
        "varies over natural images as units of the layer do: no odd answer of a unit that is almost dead",
        near=0.1,
    ),
    Criterion("peak_sigma", ">", 1.0, "a response that is large beside natural variation", near=0.5),
)
"""Criteria of every family: the unit varies, and its response to the drawings is large enough."""
LEVELS = ("strict", "standard", "early")
"""Of a definition: published families, what this package counts, and forms that still answer to the opposite."""


@dataclass(frozen=True)
class Rule:
    """A named definition.

    Attributes
    ----------
    tuned : criteria that select tuned, invariant units
    specific : criteria that reject units of other kinds; with `tuned` they make a detector (level ``standard``)
    strict : further criteria, those of published families (level ``strict``)
    waived_early : columns whose criteria a unit of an early layer need not meet (level ``early``)
    """

    name: str
    tuned: tuple[Criterion, ...]
    specific: tuple[Criterion, ...]
    strict: tuple[Criterion, ...] = ()
    waived_early: tuple[str, ...] = ()

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """Everything a detector has to meet."""
        return (*self.tuned, *self.specific)


def ties_of(natural: np.ndarray) -> NDArray[np.int64]:
    """Return how many natural images are at exactly the largest value of each unit, (unit,), from activations (stimulus, unit)."""
    return np.asarray((natural == natural.max(axis=0)).sum(axis=0), dtype=np.int64)


@dataclass(frozen=True)
class Sigma:
    """The unit of responses: each unit's own variation over natural images.

    Attributes
    ----------
    live : (unit,) whether the unit varies over natural images at all
    deviation : (unit,) standard deviation over natural images, a.u.
    ties : (unit,) natural images at exactly its largest value: more than one where a nonlinearity clips, such as ReLU6 (`ties_of` the clipped values)
    """

    live: NDArray[np.bool_]
    deviation: Array
    ties: NDArray[np.int64]

    @classmethod
    def of(cls, natural: np.ndarray) -> Sigma:
        """Measure it on activations for natural images (stimulus, unit)."""
        return cls(np.ptp(natural, axis=0) > 0, np.std(natural, axis=0, dtype=np.float64), ties_of(natural))

    @property
    def relative(self) -> Array:
        """Deviation of each unit / median deviation of the layer's live units."""
        middle = np.median(self.deviation[self.live]) if self.live.any() else np.nan
        return np.where(self.live, self.deviation / middle, 0.0)

    def scaled(self, activations: np.ndarray) -> Array:
        """Return activations (stimulus, unit) / deviation, float64, sigma; 0 for units that are not live."""
        drawn = np.asarray(activations, dtype=np.float64)
        return np.divide(drawn, self.deviation, out=np.zeros_like(drawn), where=self.live)


def tuning_columns(
    tuning: Array, angles_deg: Array, sigma: Sigma, period_deg: float = 360.0
) -> dict[str, NDArray[np.generic]]:
    """Return the columns that every family of detectors has, from tuning curves (unit, angle) in sigma."""
    stats = tuning_statistics(tuning, angles_deg, period_deg)
    return {
        "unit": np.arange(len(tuning)),
        "live": sigma.live,
        "relative_sigma": sigma.relative,
        "ties": sigma.ties,
        "preferred_deg": stats.circular_mean_deg,
        "argmax_deg": stats.preferred_deg,
        "r1": stats.r1,
        "r2": stats.r2,
        "fwhm_deg": stats.fwhm_deg,
        "echo": stats.echo,
        "peak_sigma": stats.peak,
    }


def stability_columns(variants: Array, angles_deg: Array, period_deg: float = 360.0) -> dict[str, Array]:
    """Return how far a preference holds over variants, from tuning curves (unit, variant, angle) in sigma."""
    peaks = np.maximum(variants, 0.0).max(axis=2)
    return {
        "invariance": least_pairwise_correlation(variants),
        "deviation_deg": largest_deviation(variants, angles_deg, period_deg),
        "weakest_variant": ratio(peaks.min(axis=1), peaks.max(axis=1)),
    }


def naive_columns(
    variants: Array, angles_deg: Array, period_deg: float = 360.0
) -> tuple[dict[str, Array], NDArray[np.int64]]:
    """Return the statistics of the variant with the largest response by itself, and which it is, from (unit, variant, angle)."""
    best = variants.max(axis=2).argmax(axis=1)
    stats = tuning_statistics(variants[np.arange(len(variants)), best], angles_deg, period_deg)
    return {"naive_r1": stats.r1, "naive_peak_sigma": stats.peak, "naive_echo": stats.echo}, best


def judged(table: pd.DataFrame, rule: Rule, naive: Rule) -> pd.DataFrame:
    """Add the verdicts of both rules: failed (criteria not met, by name), tuned, detector, score, near, level, strong, naive_detector."""
    table["failed"] = failed(table, rule.criteria)
    table["tuned"] = _all_pass(table, rule.tuned) & table["live"]
    table["detector"] = table["tuned"] & _all_pass(table, rule.specific)
    table["score"] = np.where(table["live"], scores(table, rule.criteria), -np.inf)
    table["near"] = table["score"] >= NEAR_SCORE
    table["level"] = _levels(table, rule)
    table["strong"] = table["detector"] & (table["peak_sigma"] > STRONG_PEAK_SIGMA)
    table["naive_detector"] = _all_pass(table, (*naive.tuned, *naive.specific)) & table["live"]
    return table


def scores(table: pd.DataFrame, criteria: tuple[Criterion, ...]) -> Array:
    """Return the least score of each unit over the criteria, see `Criterion.score`."""
    return np.asarray(np.min([c.score(table[c.column]) for c in criteria], axis=0))


def failed(table: pd.DataFrame, criteria: tuple[Criterion, ...]) -> list[str]:
    """Return for each unit the columns whose criteria it does not meet, joined by commas."""
    passed = np.stack([c.passes(table[c.column]).to_numpy() for c in criteria], axis=1)
    return [", ".join(c.column for c, ok in zip(criteria, row, strict=True) if not ok) for row in passed]


def _levels(table: pd.DataFrame, rule: Rule) -> NDArray[np.object_]:
    """Return the highest level that each unit reaches, or an empty string."""
    kept = tuple(c for c in rule.criteria if c.column not in rule.waived_early)
    early = _all_pass(table, kept) & table["live"]
    strict = table["detector"] & _all_pass(table, rule.strict) if rule.strict else table["detector"] & False
    return np.select([strict, table["detector"], early], LEVELS, default="").astype(object)


def _all_pass(table: pd.DataFrame, criteria: tuple[Criterion, ...]) -> pd.Series:
    return pd.concat([c.passes(table[c.column]) for c in criteria], axis=1).all(axis=1)


def ratio(a: Array, b: Array) -> Array:
    """Return a / b; infinite where b is not above 0 and a is, NaN where neither is."""
    outcome = np.where(a > 0, np.inf, np.nan)
    return np.divide(a, b, out=outcome, where=b > 0)


def within(a_deg: Array, b_deg: Array, tolerance_deg: float, period_deg: float = 360.0) -> NDArray[np.bool_]:
    """Return where two angles agree within a tolerance, degrees."""
    return np.asarray(np.abs(circular_difference(a_deg, b_deg, period_deg)) <= tolerance_deg)
