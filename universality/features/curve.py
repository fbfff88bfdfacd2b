"""Curve detectors (after Cammarata et al. 2020, Curve Detectors).

The rule "invariant" (same orientation preference over thin dark, thin bright and both filled polarities) follows the
calibration on untrained networks; the naive rule is kept only to show how much it lets through. Random mixtures of a
trained layer's units (Haar null) pass the invariant rule about as often as its units do, because a layer that holds
curve detectors holds their directions; few of them reach 2 sigma. So `STRONG_PEAK_SIGMA` is reported beside it.

Controls are drawn at few orientations and curvatures; ratios compare the largest responses, an arc's at the preferred angle.
A full circle contains the arc, so a detector answers to both alike and curve_over_circle, about 1, is a column and no criterion;
well below 1 it tells a unit for closed outlines. A unit that is tuned to scrambled arcs fails by their largest response,
whichever of them it prefers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.base.errors import StimulusError
from universality.base.schema import Column
from universality.features.grids import need_two
from universality.features.rules import (
    LIVELY,
    Criterion,
    Rule,
    Sigma,
    judged,
    naive_columns,
    ratio,
    stability_columns,
    tuning_columns,
)
from universality.features.statements import LEAST, Row, Statement, in_range, row
from universality.features.tuning import Array, mirror_symmetry
from universality.stimuli.spec import StimuliSpec

CONTROLS = {
    "part": ("part_before", "part_middle", "part_after"),
    "corner": ("corner",),
    "circle": ("circle",),
    "scrambled": ("scrambled",),
}
"""Controls by the name they have in columns, and the kinds of pictures of the set ``curve_controls`` that belong to them."""

INVARIANT = Rule(
    "invariant",
    tuned=(
        Criterion("r1", ">", 0.5, "one preferred direction, not an axis or none", near=0.25),
        Criterion("invariance", ">", 0.7, "the same tuning whether thin or filled, dark or bright", near=0.4),
        Criterion("deviation_deg", "<", 15.0, "the same preferred direction for each of them", near=20.0),
        Criterion("weakest_variant", ">", 0.3, "an answer to each of them", near=0.25),
        *LIVELY,
    ),
    specific=(
        Criterion("curve_over_line", ">", 1.2, "prefers a curve to the straight line of the same tangent", near=0.4),
        Criterion("echo", "<", 0.3, "does not answer to the opposite curve, as an edge detector does", near=0.2),
        Criterion(
            "symmetry", ">", 0.7, "an arc is its own mirror image about its axis, so its tuning is too", near=0.3
        ),
        # A half-rectified cosine is 120 degrees wide, the widest tuning of a linear unit behind a threshold at 0.
        Criterion("fwhm_deg", "<", 150.0, "prefers some orientations: no plateau over half of them", near=30.0),
        Criterion(
            "curve_over_part",
            ">",
            0.9,
            "no third of an arc, wherever it lies, excites it more than the whole",
            near=0.35,
        ),
        Criterion(
            "curve_over_corner",
            ">",
            0.9,
            "does not prefer a corner; fine filters cannot tell a small arc from one",
            near=0.35,
        ),
        Criterion(
            "curve_over_scrambled", ">", 1.5, "needs the arc, not a texture of its spatial frequencies", near=0.5
        ),
    ),
    # Cammarata et al. 2020 for family 3b of InceptionV1: R1 0.89 to 0.96, FWHM 29 to 69 degrees, echo 0.01.
    strict=(
        Criterion("r1", ">=", 0.8, "as selective as the published family"),
        Criterion("fwhm_deg", ">=", 25.0, "not narrower than the published family"),
        Criterion("fwhm_deg", "<=", 75.0, "not wider than the published family"),
        Criterion("echo", "<=", 0.1, "silent for the opposite curve"),
        Criterion("curve_over_line", ">=", 1.3, "clearly better than a line"),
        Criterion("curve_over_corner", ">=", 1.3, "clearly better than a corner"),
    ),
    waived_early=("echo",),
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
UNIT_COLUMNS = (
    Column(
        "symmetry",
        "float",
        "1",
        "-1 to 1",
        "curves: correlation of the tuning curves (one for each curvature) with their mirror images about the preferred direction",
    ),
    Column("curve_over_line", "float", "1", ">= 0", "curves: best response to a curve / best response to a line"),
    Column("curve_over_part", "float", "1", ">= 0", "curves: best response to an arc / to a third of an arc"),
    Column("curve_over_corner", "float", "1", ">= 0", "curves: best response to an arc / to a corner of its tangents"),
    Column("curve_over_circle", "float", "1", ">= 0", "curves: best response to an arc / to its whole circle"),
    Column("curve_over_scrambled", "float", "1", ">= 0", "curves: best response to an arc / to one with random phases"),
    Column("preferred_curvature", "float", "1 / image side", "> 0", "curves: best curvature; NaN if a line is better"),
    Column("naive_curve_over_line", "float", "1", ">= 0", "curve_over_line of the best variant alone"),
)
"""Of the family's own table of units."""


@dataclass(frozen=True)
class CurveGrid:
    """Where in a stimulus table each (variant, curvature, orientation) lies, once for every jittered place.

    Attributes
    ----------
    curvatures : 0, the line, comes first
    rows : (jitter, variant, curvature, orientation); responses are averaged over jitter
    controls : by name in `CONTROLS`, (variant, picture) rows of the set ``curve_controls``, which come after the arcs
    control_variants : of the controls, those in which there are arcs too
    """

    variants: tuple[str, ...]
    curvatures: Array
    angles_deg: Array
    rows: NDArray[np.int64]
    controls: dict[str, NDArray[np.int64]]
    control_variants: tuple[str, ...]

    @classmethod
    def of(cls, parameters: xr.Dataset, controls: xr.Dataset) -> CurveGrid:
        """Read the grid from the parameters of ``curves`` and ``curve_controls``, in whatever order; a gap is a `StimulusError`."""
        names = ("jitter_y", "jitter_x", "variant", "curvature", "orientation_deg")
        axes = [np.unique(parameters[name].values, return_inverse=True) for name in names]
        rows = np.full([values.size for values, _ in axes], -1, dtype=np.int64)
        count = axes[0][1].size
        rows[tuple(place for _, place in axes)] = np.arange(count)
        if rows.min() < 0:
            raise StimulusError(
                f"curve stimuli are no full grid: {count} of {rows.size} combinations of jitter, variant, curvature and "
                "orientation are there; draw the whole set"
            )
        variants, curvatures, angles = (values for values, _ in axes[2:])
        shared = tuple(variant for variant in variants if variant in controls["variant"].values)
        return cls(
            tuple(variants), curvatures, angles, rows.reshape(-1, *rows.shape[2:]),
            {name: count + _control_rows(controls, kinds, shared) for name, kinds in CONTROLS.items()}, shared,
        )  # fmt: skip

    def arrange(self, activations: np.ndarray) -> Array:
        """Return activations (stimulus, unit), averaged over jitter, as (unit, variant, curvature, orientation), float64."""
        activations = np.asarray(activations, dtype=np.float64)
        total = sum(activations[rows] for rows in self.rows)
        return np.moveaxis(np.asarray(total / len(self.rows)), -1, 0)

    def shuffled(self, rng: np.random.Generator) -> CurveGrid:
        """Return the grid with the orientations shuffled within every variant and curvature, jitter by jitter alike: a null."""
        order = rng.permuted(np.broadcast_to(np.arange(self.angles_deg.size), self.rows.shape[1:]), axis=2)
        return replace(self, rows=np.take_along_axis(self.rows, order[None], axis=3))


def _control_rows(parameters: xr.Dataset, kinds: tuple[str, ...], variants: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (variant, picture) rows of controls; pictures have one order for all variants."""
    columns = ["kind", "curvature", "orientation_deg"]
    frame = pd.DataFrame({name: parameters[name].values for name in [*columns, "variant"]})
    of_variant = [frame[frame["kind"].isin(kinds) & (frame["variant"] == one)].sort_values(columns) for one in variants]
    pictures = [set(rows[columns].itertuples(index=False, name=None)) for rows in of_variant]
    complete = all(len(one) == len(rows) for one, rows in zip(pictures, of_variant, strict=True))
    if (
        not pictures
        or not complete
        or any(one != pictures[0] for one in pictures)
        or set(kinds) - {k for k, *_ in pictures[0]}
    ):
        raise StimulusError(
            f"controls of curves ({', '.join(kinds)}) are not there in the same pictures for every variant of the arcs; draw the "
            "whole set curve_controls"
        )
    return np.array([rows.index.to_numpy() for rows in of_variant])


@dataclass(frozen=True)
class CurveResponses:
    """A layer's responses to the curve stimuli, in sigma.

    Attributes
    ----------
    responses : (unit, variant, curvature, orientation); 0 for dead units
    sigma : the units' variation over natural images
    grid : CurveGrid
    controls : by name in `CONTROLS`, (unit,) largest response to a picture of the control, mean over variants
    """

    responses: Array
    sigma: Sigma
    grid: CurveGrid
    controls: dict[str, Array]

    @property
    def variants(self) -> Array:
        """Mean over the curved stimuli: (unit, variant, orientation), sigma."""
        return np.asarray(self.responses[:, :, self.grid.curvatures > 0].mean(axis=2))

    @property
    def by_curvature(self) -> Array:
        """Mean over variants, curved stimuli only: (unit, curvature, orientation), sigma."""
        return np.asarray(self.responses[:, :, self.grid.curvatures > 0].mean(axis=1))

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What the variants are called."""
        return tuple(name.replace("_", " ") for name in self.grid.variants)

    @property
    def tuning(self) -> Array:
        """Mean over variants and curvatures: tuning curves (unit, orientation), sigma."""
        return np.asarray(self.variants.mean(axis=1))


def curve_responses(curves: np.ndarray, natural: np.ndarray, grid: CurveGrid) -> CurveResponses:
    """Put curve activations into sigma of natural crops.

    Parameters
    ----------
    curves : (stimulus, unit) activations for the sets ``curves`` and ``curve_controls``, one after the other, a.u.
    natural : (stimulus, unit) activations for natural crops, a.u.

    Returns
    -------
    CurveResponses
        Units that never vary over the natural crops are masked: their responses are 0.
    """
    sigma = Sigma.of(natural)
    drawn = sigma.scaled(curves)
    controls = {name: np.asarray(drawn[rows].mean(axis=0).max(axis=0)) for name, rows in grid.controls.items()}
    return CurveResponses(grid.arrange(drawn), sigma, grid, controls)


def curve_table(layer: CurveResponses) -> pd.DataFrame:
    """Return one row per unit: every criterion's value, which are not met, and the verdicts of both rules.

    Columns
    -------
    Those of `tuning_columns`, `judged` and `stability_columns`; curve_over_line, preferred_curvature (1 / image
    side), naive_* (best variant only).
    """
    tuning = layer.tuning
    argmax = tuning.argmax(axis=1)
    best_curve, line, preferred_curvature = _curvature_profile(layer, argmax)
    naive, best = naive_columns(layer.variants, layer.grid.angles_deg)
    of_best = layer.responses[np.arange(len(tuning)), best]
    naive_line = of_best[:, layer.grid.curvatures == 0].max(axis=(1, 2))
    table = pd.DataFrame(
        {
            **tuning_columns(tuning, layer.grid.angles_deg, layer.sigma),
            **stability_columns(layer.variants, layer.grid.angles_deg),
            "symmetry": mirror_symmetry(layer.by_curvature, layer.grid.angles_deg),
            "curve_over_line": ratio(best_curve, line),
            **_control_columns(layer, argmax),
            "preferred_curvature": preferred_curvature,
            **naive,
            "naive_curve_over_line": ratio(naive["naive_peak_sigma"], naive_line),
        }
    )
    return judged(table, INVARIANT, NAIVE)


def _curvature_profile(layer: CurveResponses, argmax: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return best response to a curve at the preferred angle, best response to a line, preferred curvature."""
    mean = layer.responses.mean(axis=1)
    curved = layer.grid.curvatures > 0
    at_peak = np.take_along_axis(mean, argmax[:, None, None], axis=2)[:, :, 0]
    best = at_peak[:, curved].max(axis=1)
    line = mean[:, ~curved].max(axis=(1, 2))
    curvature = layer.grid.curvatures[curved][at_peak[:, curved].argmax(axis=1)]
    return best, line, np.where(best > line, curvature, np.nan)


def _control_columns(layer: CurveResponses, argmax: NDArray[np.int64]) -> dict[str, Array]:
    """Return best response to an arc at the preferred angle / best response to each control, in the controls' variants."""
    grid = layer.grid
    variants = np.isin(grid.variants, grid.control_variants)
    mean = layer.responses[:, variants][:, :, grid.curvatures > 0].mean(axis=1)
    arc = np.take_along_axis(mean, argmax[:, None, None], axis=2)[:, :, 0].max(axis=1)
    return {f"curve_over_{name}": ratio(arc, answer) for name, answer in layer.controls.items()}


LEAST_CHANGE = 0.1
"""Between the shallowest and the deepest tap, for the echo to be said to change."""


def _echo_falls(units: pd.DataFrame) -> Row:
    shaped = units[units["level"] != ""]
    by_tap = shaped.groupby("depth")["echo"].agg(["mean", "size"])
    by_tap = by_tap[by_tap["size"] >= LEAST]
    figures = ", ".join(f"{depth:.0%}: {echo:.2f}" for depth, echo in by_tap["mean"].items())
    holds = None
    here = shaped[shaped["depth"].isin(by_tap.index)]
    if len(by_tap) >= LEAST and here["echo"].nunique() > 1:  # constant values have no rank correlation
        from scipy.stats import spearmanr

        rho = spearmanr(here["depth"], here["echo"])
        change = float(by_tap["mean"].iloc[-1] - by_tap["mean"].iloc[0])
        # Published are falls of 0.2 and more; a step of a hundredth is neither a fall nor a rise.
        if rho.pvalue < 0.05 and abs(change) >= LEAST_CHANGE and (rho.statistic < 0) == (change < 0):
            holds = bool(change < 0)
    return row(
        "echo falls with depth (units that are curves but perhaps for their echo)",
        "2d2 0.44, 3a 0.26, 3b 0.01", figures or "too few units", len(by_tap), holds,
    )  # fmt: skip


def _width_grows(units: pd.DataFrame) -> Row:
    found = units[units["detector"] & units["preferred_curvature"].notna()]
    statement = "FWHM grows with the preferred curvature (rank correlation over detectors)"
    if len(found) < 8 or min(found["preferred_curvature"].nunique(), found["fwhm_deg"].nunique()) < 2:
        return row(statement, "grows", "too few units", len(found), None)
    from scipy.stats import spearmanr

    rho = spearmanr(found["preferred_curvature"], found["fwhm_deg"])
    # A trend that is not significant neither holds nor fails.
    holds = bool(rho.statistic > 0) if rho.pvalue < 0.05 else None
    return row(statement, "grows", f"rho {rho.statistic:.2f} (p {rho.pvalue:.2g})", len(found), holds)


PUBLISHED: tuple[Statement, ...] = (
    _echo_falls,
    _width_grows,
    in_range("r1", 0.85, 0.96, "R1 as in InceptionV1's curve families"),
    in_range("fwhm_deg", 29.0, 69.0, "FWHM as in InceptionV1's 3b", " deg"),
)


def refuse(stimuli: StimuliSpec) -> None:
    """Raise `ValueError` if these stimuli cannot show the family."""
    arcs, controls = stimuli.curves, stimuli.curve_controls
    need_two("curve", "curves.variants", arcs.variants)
    for name in ("arc_length_deg", "stroke", "contrast", "colour", "scale"):
        own, theirs = getattr(arcs, name), getattr(controls, name)
        if own != theirs:
            raise ValueError(
                f"stimuli.curves.{name} is {own!r}, but stimuli.curve_controls.{name} is {theirs!r}; set both alike: "
                "controls are drawn like the arcs that they control"
            )
    if not set(arcs.variants) & set(controls.variants):
        raise ValueError(
            "stimuli.curve_controls.variants shares none with stimuli.curves.variants; a control needs arcs drawn like it"
        )
