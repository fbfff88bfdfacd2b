"""Operational definitions: what counts as a curve detector.

A definition is a list of criteria with thresholds and reasons, evaluated to a table with one row per unit, so that a
reader sees why a unit passes or fails. Thresholds are effect sizes calibrated on untrained networks: networks are
deterministic, and a permutation p passes almost every unit.

Responses are in sigma: activations divided by the unit's standard deviation over natural crops, without subtracting a
mean. With the mean over crops subtracted, untrained EfficientNet-Lite twins pass in up to 2 % of a layer's units;
without it, in none (`tests/test_detectors.py` and the quickstart's tables show the untrained rates).

The rule "invariant" (same orientation preference over thin dark, thin bright and both filled polarities) follows the
calibration on untrained networks; the naive rule is kept only to show how much it lets through. Random mixtures of a
trained layer's units (Haar null) pass the invariant rule about as often as its units do, because a layer that holds
curve detectors holds their directions; few of them reach 2 sigma. So `STRONG_PEAK_SIGMA` is reported beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.errors import StimulusError
from universality.tuning import Array, circular_difference, mean_pairwise_correlation, tuning_statistics

STRONG_PEAK_SIGMA = 2.0


@dataclass(frozen=True)
class Criterion:
    """One test of a definition: ``column op threshold``, and why it is there."""

    column: str
    op: str
    threshold: float
    reason: str

    def passes(self, values: pd.Series) -> pd.Series:
        """Return which units pass; NaN never does."""
        return _OPERATORS[self.op](values, self.threshold)


_OPERATORS: dict[str, Callable[[pd.Series, float], pd.Series]] = {">": operator.gt, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Rule:
    """A named definition. `tuned` criteria select tuned, invariant units; `specific` ones reject lines and edges."""

    name: str
    tuned: tuple[Criterion, ...]
    specific: tuple[Criterion, ...]


INVARIANT = Rule(
    "invariant",
    tuned=(
        Criterion("r1", ">", 0.5, "one preferred direction, not an axis or none"),
        Criterion("invariance", ">", 0.5, "the same preference whether thin or filled, dark or bright"),
        Criterion("peak_sigma", ">", 1.0, "a response that is large beside natural variation"),
    ),
    specific=(
        Criterion("curve_over_line", ">", 1.2, "prefers a curve to the straight line of the same tangent"),
        Criterion("echo", "<", 0.3, "does not answer to the opposite curve, as an edge detector does"),
    ),
)
NAIVE = Rule(
    "naive",
    tuned=(
        Criterion("naive_r1", ">", 0.6, "tuned for the best variant alone"),
        Criterion("naive_peak_sigma", ">", 2.0, "a large response to the best variant"),
    ),
    specific=(
        Criterion("naive_echo", "<", 0.25, "little answer to the opposite"),
        Criterion("naive_curve_over_line", ">", 1.0, "better than a line"),
    ),
)
RULES = {rule.name: rule for rule in (INVARIANT, NAIVE)}


@dataclass(frozen=True)
class CurveGrid:
    """Where in a stimulus table each (variant, curvature, orientation) lies; curvature 0, the line, comes first."""

    variants: tuple[str, ...]
    curvatures: Array
    angles_deg: Array
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, parameters: xr.Dataset) -> CurveGrid:
        """Read the grid from the parameters of the set ``curves``, in whatever order; a gap is a `StimulusError`."""
        variant, curvature, angle = (parameters[n].values for n in ("variant", "curvature", "orientation_deg"))
        variants, v = np.unique(variant, return_inverse=True)
        curvatures, c = np.unique(curvature, return_inverse=True)
        angles, a = np.unique(angle, return_inverse=True)
        rows = np.full((variants.size, curvatures.size, angles.size), -1, dtype=np.int64)
        rows[v, c, a] = np.arange(variant.size)
        if rows.min() < 0:
            raise StimulusError(
                f"curve stimuli are no full grid: {variant.size} of {rows.size} combinations of variant, curvature and "
                "orientation are there; draw the whole set"
            )
        return cls(tuple(variants), curvatures, angles, rows)

    def arrange(self, activations: np.ndarray) -> Array:
        """Return activations (stimulus, unit) as (unit, variant, curvature, orientation), float64."""
        return np.moveaxis(np.asarray(activations, dtype=np.float64)[self.rows], -1, 0)

    def shuffled(self, rng: np.random.Generator) -> CurveGrid:
        """Return the grid with the orientations shuffled within every variant and curvature: a null."""
        return CurveGrid(self.variants, self.curvatures, self.angles_deg, rng.permuted(self.rows, axis=2))


@dataclass(frozen=True)
class CurveResponses:
    """A layer's responses to the curve stimuli, in sigma.

    Attributes
    ----------
    responses : (unit, variant, curvature, orientation); 0 for dead units
    live : (unit,) whether the unit varies over the natural crops
    grid : CurveGrid
    """

    responses: Array
    live: NDArray[np.bool_]
    grid: CurveGrid

    @property
    def curved(self) -> Array:
        """Mean over the curved stimuli: (unit, variant, orientation), sigma."""
        return np.asarray(self.responses[:, :, self.grid.curvatures > 0].mean(axis=2))

    @property
    def tuning(self) -> Array:
        """Mean over variants and curvatures: tuning curves (unit, orientation), sigma."""
        return np.asarray(self.curved.mean(axis=1))


def curve_responses(curves: np.ndarray, natural: np.ndarray, grid: CurveGrid) -> CurveResponses:
    """Put curve activations into sigma of natural crops.

    Parameters
    ----------
    curves : (stimulus, unit) activations for the set ``curves``, a.u.
    natural : (stimulus, unit) activations for natural crops, a.u.

    Returns
    -------
    CurveResponses
        Units that never vary over the natural crops are masked: their responses are 0.
    """
    sigma = np.std(natural, axis=0, dtype=np.float64)
    live = np.ptp(natural, axis=0) > 0
    arranged = grid.arrange(curves)
    scaled = np.divide(
        arranged, sigma[:, None, None, None], out=np.zeros_like(arranged), where=live[:, None, None, None]
    )
    return CurveResponses(scaled, live, grid)


def curve_table(layer: CurveResponses) -> pd.DataFrame:
    """Return one row per unit: every criterion's value, whether it passes, and the verdicts of both rules.

    Columns
    -------
    unit, live, preferred_deg (circular mean, degrees), argmax_deg, r1, r2, fwhm_deg, echo, peak_sigma, invariance,
    curve_over_line, preferred_curvature (1 / image side), naive_* (best variant only), pass_<criterion>, tuned,
    detector, strong, naive_detector.
    """
    angles = layer.grid.angles_deg
    tuning = layer.tuning
    stats = tuning_statistics(tuning, angles)
    best_curve, line, preferred_curvature = _curvature_profile(layer, tuning.argmax(axis=1))
    table = pd.DataFrame(
        {
            "unit": np.arange(len(tuning)),
            "live": layer.live,
            "preferred_deg": stats.circular_mean_deg,
            "argmax_deg": stats.preferred_deg,
            "r1": stats.r1,
            "r2": stats.r2,
            "fwhm_deg": stats.fwhm_deg,
            "echo": stats.echo,
            "peak_sigma": stats.peak,
            "invariance": mean_pairwise_correlation(layer.curved),
            "curve_over_line": _ratio(best_curve, line),
            "preferred_curvature": preferred_curvature,
            **_naive_columns(layer),
        }
    )
    for rule in RULES.values():
        for criterion in (*rule.tuned, *rule.specific):
            table[f"pass_{criterion.column}"] = criterion.passes(table[criterion.column])
    table["tuned"] = _all_pass(table, INVARIANT.tuned) & table["live"]
    table["detector"] = table["tuned"] & _all_pass(table, INVARIANT.specific)
    table["strong"] = table["detector"] & (table["peak_sigma"] > STRONG_PEAK_SIGMA)
    table["naive_detector"] = _all_pass(table, (*NAIVE.tuned, *NAIVE.specific)) & table["live"]
    return table


def _all_pass(table: pd.DataFrame, criteria: tuple[Criterion, ...]) -> pd.Series:
    return table[[f"pass_{c.column}" for c in criteria]].all(axis=1)


def _ratio(a: Array, b: Array) -> Array:
    """Return a / b; infinite where b is not above 0 and a is, NaN where neither is."""
    outcome = np.where(a > 0, np.inf, np.nan)
    return np.divide(a, b, out=outcome, where=b > 0)


def _curvature_profile(layer: CurveResponses, argmax: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return best response to a curve at the preferred angle, best response to a line, preferred curvature."""
    mean = layer.responses.mean(axis=1)
    curved = layer.grid.curvatures > 0
    at_peak = np.take_along_axis(mean, argmax[:, None, None], axis=2)[:, :, 0]
    best = at_peak[:, curved].max(axis=1)
    line = mean[:, ~curved].max(axis=(1, 2))
    curvature = layer.grid.curvatures[curved][at_peak[:, curved].argmax(axis=1)]
    return best, line, np.where(best > line, curvature, np.nan)


def _naive_columns(layer: CurveResponses) -> dict[str, Array]:
    """Statistics of the variant with the largest response, by itself."""
    curved = layer.curved
    best = curved.max(axis=2).argmax(axis=1)
    rows = np.arange(len(curved))
    stats = tuning_statistics(curved[rows, best], layer.grid.angles_deg)
    line = layer.responses[rows, best][:, layer.grid.curvatures == 0].max(axis=(1, 2))
    return {
        "naive_r1": stats.r1,
        "naive_peak_sigma": stats.peak,
        "naive_echo": stats.echo,
        "naive_curve_over_line": _ratio(stats.peak, line),
    }


def preference_spread_deg(layer: CurveResponses) -> Array:
    """Return the circular standard deviation of the preferred angle over variants, (unit,), degrees."""
    n_units, n_variants, n_angles = layer.curved.shape
    stats = tuning_statistics(layer.curved.reshape(-1, n_angles), layer.grid.angles_deg)
    turns = np.exp(1j * np.deg2rad(stats.circular_mean_deg.reshape(n_units, n_variants)))
    length = np.minimum(np.abs(turns.mean(axis=1)), 1.0)  # rounding may exceed 1 by an ulp
    with np.errstate(divide="ignore"):
        return np.asarray(np.rad2deg(np.sqrt(-2.0 * np.log(length))))


def within(a_deg: Array, b_deg: Array, tolerance_deg: float) -> NDArray[np.bool_]:
    """Return where two angles agree within a tolerance, degrees."""
    return np.asarray(np.abs(circular_difference(a_deg, b_deg)) <= tolerance_deg)
