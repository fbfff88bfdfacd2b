"""High-low frequency detectors (after Schubert et al. 2021, High-Low Frequency Detectors, Distill).

A unit of this family answers to a boundary between a texture of high and one of low spatial frequency, for one
direction of the high side, and not to the textures, nor to boundaries of another kind. This is a first version: one
ratio of frequencies decides, grey textures only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.base.schema import Column
from universality.features.grids import frame_of, full_grid, need_two
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
from universality.features.tuning import Array
from universality.stimuli.spec import StimuliSpec

BOUNDARY = Rule(
    "boundary",
    tuned=(
        Criterion("r1", ">", 0.6, "one preferred direction of the high side", near=0.2),
        Criterion("invariance", ">", 0.9, "the same tuning at every base frequency", near=0.15),
        Criterion("deviation_deg", "<", 10.0, "the same preferred direction at each of them", near=10.0),
        Criterion("weakest_variant", ">", 0.3, "an answer at each of them", near=0.1),
        *LIVELY,
    ),
    specific=(
        Criterion("echo", "<", 0.3, "does not answer to the boundary the other way round", near=0.15),
        Criterion("over_same_frequency", ">", 1.3, "needs two frequencies, not a seam between textures", near=0.4),
        Criterion("over_full_field", ">", 1.3, "needs the boundary, not one of the textures", near=0.4),
        Criterion("over_contrast_edge", ">", 1.3, "not a detector of contrast edges", near=0.4),
        Criterion("over_orientation_edge", ">", 1.3, "not a detector of boundaries between orientations", near=0.4),
        Criterion("over_luminance_edge", ">", 1.3, "not a detector of luminance edges", near=0.4),
    ),
    # Schubert et al. 2021: R1 .74 to .78, FWHM 107 to 133 degrees, opposite at most .005, near 0 at a ratio of 1.
    strict=(
        Criterion("fwhm_deg", ">=", 90.0, "not narrower than published units"),
        Criterion("fwhm_deg", "<=", 150.0, "not wider than published units"),
        Criterion("echo", "<=", 0.1, "silent for the boundary the other way round"),
        Criterion("over_same_frequency", ">=", 10.0, "nearly silent where both sides have one frequency"),
    ),
    waived_early=("echo",),
)
NAIVE = Rule(
    "naive",
    tuned=(
        Criterion("naive_r1", ">", 0.6, "tuned at the best base frequency alone"),
        Criterion("naive_peak_sigma", ">", 2.0, "a large response there"),
    ),
    specific=(Criterion("naive_echo", "<", 0.25, "little answer to the opposite"),),
)
EDGES = ("high_low", "same_low", "contrast_edge", "orientation_edge")
FULL = ("full_high", "full_low")
LUMINANCE = "luminance_edge"
COLUMNS = ("kind", "high_cpi", "ratio", "phase", "orientation_deg")
UNIT_COLUMNS = (
    Column(
        "over_same_frequency", "float", "1", ">= 0", "high-low: peak / response to a seam between equal frequencies"
    ),
    Column("over_full_field", "float", "1", ">= 0", "high-low: peak / response to one texture without a boundary"),
    Column("over_contrast_edge", "float", "1", ">= 0", "high-low: peak / response to a step in contrast"),
    Column(
        "over_orientation_edge",
        "float",
        "1",
        ">= 0",
        "high-low: peak / response to a boundary between textures of two orientations",
    ),
    Column("over_luminance_edge", "float", "1", ">= 0", "high-low: peak / response to a step in luminance"),
)
"""Of the family's own table of units."""


@dataclass(frozen=True)
class HighLowGrid:
    """Where in a stimulus table each kind of image lies.

    Attributes
    ----------
    edges : (ratio, base frequency, phase, orientation) rows of high-low boundaries; the smallest ratio is 1
    controls : of "same_low", "contrast_edge" and "orientation_edge": (base frequency, phase, orientation)
    full : of "full_high" and "full_low": (base frequency, phase)
    luminance : (orientation,)
    """

    angles_deg: Array
    ratios: Array
    edges: NDArray[np.int64]
    controls: dict[str, NDArray[np.int64]]
    full: dict[str, NDArray[np.int64]]
    luminance: NDArray[np.int64]

    @classmethod
    def of(cls, parameters: xr.Dataset) -> HighLowGrid:
        """Read the grid from the parameters of the set ``high_low``, in whatever order; a gap is a `StimulusError`."""
        frame = frame_of(parameters, COLUMNS)
        kinds = {kind: frame[frame["kind"] == kind] for kind in (*EDGES, *FULL, LUMINANCE)}
        edge = ["high_cpi", "phase", "orientation_deg"]
        ratios = np.unique(kinds["high_low"]["ratio"].to_numpy(dtype=np.float64))
        edges = _rows(kinds["high_low"], ["ratio", *edge])
        # A control that lacks an orientation altogether would be a full grid of the others.
        _, bases, phases, angles = edges.shape
        return cls(
            np.unique(kinds["high_low"]["orientation_deg"].to_numpy(dtype=np.float64)),
            ratios,
            edges,
            {kind: _rows(kinds[kind], edge, (bases, phases, angles)) for kind in EDGES[1:]},
            {kind: _rows(kinds[kind], edge[:2], (bases, phases)) for kind in FULL},
            _rows(kinds[LUMINANCE], edge[2:], (angles,)),
        )

    def shuffled(self, rng: np.random.Generator) -> HighLowGrid:
        """Return the grid with the orientations of the boundaries shuffled: a null."""
        return replace(self, edges=rng.permuted(self.edges, axis=-1))


def _rows(frame: pd.DataFrame, columns: list[str], shape: tuple[int, ...] | None = None) -> NDArray[np.int64]:
    return full_grid(frame, columns, "high-low", shape)


@dataclass(frozen=True)
class HighLowResponses:
    """A layer's responses to the high-low stimuli, in sigma.

    Attributes
    ----------
    responses : (stimulus, unit); 0 for dead units
    sigma : the units' variation over natural images
    """

    responses: Array
    sigma: Sigma
    grid: HighLowGrid

    @property
    def variants(self) -> Array:
        """Response to boundaries of the largest ratio, mean over phases: (unit, base frequency, orientation), sigma."""
        return np.asarray(np.moveaxis(self.responses[self.grid.edges[-1]].mean(axis=1), -1, 0))

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What the variants are called: base frequencies, the lowest first."""
        return tuple(f"base frequency {k + 1}" for k in range(self.grid.edges.shape[1]))

    @property
    def tuning(self) -> Array:
        """Mean over base frequencies and phases: tuning curves (unit, orientation), sigma."""
        return np.asarray(self.variants.mean(axis=1))

    def control(self, rows: NDArray[np.int64], oriented: bool) -> Array:
        """Return the largest mean response (unit,) to a control; over orientations if it has any."""
        values = self.responses[rows]
        means = values.reshape(-1, rows.shape[-1] if oriented else 1, values.shape[-1])
        return np.asarray(means.mean(axis=0).max(axis=0))


def high_low_responses(drawn: np.ndarray, natural: np.ndarray, grid: HighLowGrid) -> HighLowResponses:
    """Put activations (stimulus, unit) for the set ``high_low`` into sigma of natural images (stimulus, unit)."""
    sigma = Sigma.of(natural)
    return HighLowResponses(sigma.scaled(drawn), sigma, grid)


def high_low_table(layer: HighLowResponses) -> pd.DataFrame:
    """Return one row per unit: every criterion's value, which are not met, and the verdicts of both rules.

    Columns
    -------
    Those of `tuning_columns`, `judged` and `stability_columns` (over base frequencies); over_* (peak / largest response to a
    control), naive_* (best base frequency only).
    """
    grid, tuning, variants = layer.grid, layer.tuning, layer.variants
    peak = tuning.max(axis=1)
    same = np.maximum(layer.control(grid.edges[0], True), layer.control(grid.controls["same_low"], True))
    full = np.maximum(*(layer.control(grid.full[kind].ravel(), False) for kind in FULL))
    table = pd.DataFrame(
        {
            **tuning_columns(tuning, grid.angles_deg, layer.sigma),
            **stability_columns(variants, grid.angles_deg),
            "over_same_frequency": ratio(peak, same),
            "over_full_field": ratio(peak, full),
            "over_contrast_edge": ratio(peak, layer.control(grid.controls["contrast_edge"], True)),
            "over_orientation_edge": ratio(peak, layer.control(grid.controls["orientation_edge"], True)),
            "over_luminance_edge": ratio(peak, layer.control(grid.luminance, True)),
            **naive_columns(variants, grid.angles_deg)[0],
        }
    )
    return judged(table, BOUNDARY, NAIVE)


PUBLISHED_DEPTH = 0.31
"""Schubert et al. 2021: 29 to 33 % of depth in four networks."""


def _depth_of_most(units: pd.DataFrame) -> Row:
    shares = units.groupby("depth")["detector"].mean()
    # No window: the recorded taps are few, and one as wide as their distance would end where a tap happens to lie.
    statement = f"of the recorded taps, the one nearest to {PUBLISHED_DEPTH:.0%} of depth has the largest share"
    if shares.max() == 0 or len(shares) < LEAST:
        lacking = "no detectors" if shares.max() == 0 else "too few taps"
        return row(statement, "29 to 33 %", lacking, len(shares), None)
    depth = float(shares.index[int(np.argmax(shares.to_numpy()))])
    figures = ", ".join(f"{at:.0%}: {share:.1%}" for at, share in shares.items())
    nearest = float(shares.index[int(np.argmin(np.abs(shares.index.to_numpy() - PUBLISHED_DEPTH)))])
    return row(
        statement, "29 to 33 %", f"{depth:.0%}, nearest {nearest:.0%} ({figures})", len(shares), depth == nearest
    )


def _silent_at_ratio_1(units: pd.DataFrame) -> Row:
    found = units[units["detector"]]
    statement = "tuning near zero at ratio 1 (median response / peak)"
    if len(found) < LEAST:
        return row(statement, "about 0", "too few units", len(found), None)
    share = 1.0 / found["over_same_frequency"]
    return row(
        statement, "about 0 (here: at most 0.1)", f"{share.median():.2f}, {np.mean(share <= 0.1):.0%} of units at most 0.1",
        len(found), bool(share.median() <= 0.1),
    )  # fmt: skip


PUBLISHED: tuple[Statement, ...] = (
    _depth_of_most,
    _silent_at_ratio_1,
    in_range("r1", 0.74, 0.78, "R1 as published"),
    in_range("fwhm_deg", 107.0, 133.0, "FWHM as published", " deg"),
    in_range("echo", 0.0, 0.005, "response to the opposite as published"),
)


def refuse(stimuli: StimuliSpec) -> None:
    """Raise `ValueError` if these stimuli cannot show the family."""
    need_two("high_low_frequency", "high_low.base_cpi", stimuli.high_low.base_cpi)
