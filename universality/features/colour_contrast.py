"""Colour-contrast detectors: units that answer to boundaries between colours of equal luminance, and not to luminance.

The angle is the axis of hues on whose two ends the sides of the best boundary lie: 0 is red against green, 90 is blue
against yellow. A boundary has both ends, and which of them lies ahead is a matter of its direction, over which the
best is taken: so the axis has a period of 180 degrees.

Random filters weight red, green and blue at random, so many answer more to colour than to grey at some boundary. Few
of them do so by a factor of three against every grey patch and of one and a half against gratings while a field of
colour without a boundary leaves them silent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.base.schema import Column
from universality.features.grids import frame_of, full_grid
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
from universality.features.tuning import Array

PERIOD_DEG = 180.0
GREY_PATCHES = ("grey_half", "grey_opponent", "grey_field")
GREY_GRATING = "grey_grating"
EQUAL_LUMINANCE = Rule(
    "equal_luminance",
    tuned=(
        Criterion("r1", ">", 0.1, "prefers one axis of hues"),
        Criterion(
            "invariance", ">", 0.8, "the same tuning against grey and against the opposite hue, at each saturation"
        ),
        Criterion("deviation_deg", "<", 15.0, "the same preferred axis for each of them"),
        *LIVELY,
    ),
    specific=(
        Criterion(
            "boundary_over_field", ">", 5.0, "needs the boundary: nearly silent for fields of any colour or grey"
        ),
        Criterion("colour_over_grey", ">", 3.0, "not a detector of luminance edges"),
        Criterion("colour_over_grating", ">", 1.5, "nor of luminance contours of any frequency"),
    ),
    strict=(
        Criterion("colour_over_grey", ">=", 6.0, "nearly silent for boundaries of luminance"),
        Criterion("colour_over_grating", ">=", 4.0, "and for gratings"),
    ),
    waived_early=("boundary_over_field",),
)
NAIVE = Rule(
    "naive",
    tuned=(
        Criterion("naive_r1", ">", 0.1, "prefers an axis of hues for the best kind of boundary alone"),
        Criterion("naive_peak_sigma", ">", 2.0, "a large response to it"),
    ),
    specific=(Criterion("colour_over_grey", ">", 1.0, "better than any boundary of luminance"),),
)
UNIT_COLUMNS = (
    Column(
        "boundary_over_field",
        "float",
        "1",
        ">= 0",
        "colour: peak / response to a field of any colour, light or dark grey",
    ),
    Column("colour_over_grey", "float", "1", ">= 0", "colour: peak / response to grey half-fields, edges and fields"),
    Column("colour_over_grating", "float", "1", ">= 0", "colour: peak / response to luminance gratings"),
)
"""Of the family's own table of units."""


@dataclass(frozen=True)
class ColourGrid:
    """Where in a stimulus table each boundary and control lies.

    Attributes
    ----------
    angles_deg : axes of hues, 0 to 180 degrees
    half : (end, axis, saturation, direction): the colour is one of the two ends of its axis
    opponent : (axis, saturation, direction)
    field, patches, gratings : (stimulus,) of colour fields, grey patches, grey gratings
    grey_field : (stimulus,), also among `patches`
    """

    angles_deg: Array
    half: NDArray[np.int64]
    opponent: NDArray[np.int64]
    field: NDArray[np.int64]
    patches: NDArray[np.int64]
    gratings: NDArray[np.int64]
    grey_field: NDArray[np.int64]

    @classmethod
    def of(cls, parameters: xr.Dataset) -> ColourGrid:
        """Read the grid from the parameters of the set ``colour_contrast``; a gap is a `StimulusError`."""
        columns = ["hue_deg", "saturation", "orientation_deg"]
        frame = frame_of(parameters, ("kind", *columns))
        kinds = dict(iter(frame.groupby("kind")))
        empty = frame.iloc[:0]
        half = full_grid(kinds.get("half", empty), columns, "colour-contrast")
        n_hues, n_saturations, n_directions = half.shape
        shape = (n_hues // 2, n_saturations, n_directions)
        opponent = full_grid(kinds.get("opponent", empty), columns, "colour-contrast", shape)
        full_grid(kinds.get("field", empty), columns[:2], "colour-contrast", (n_hues, n_saturations))
        rows = {kind: kinds.get(kind, empty)["row"].to_numpy() for kind in ("field", *GREY_PATCHES, GREY_GRATING)}
        for kind in (*GREY_PATCHES, GREY_GRATING):
            full_grid(kinds.get(kind, empty), ["row"], f"colour-contrast {kind}")
        return cls(
            np.unique(kinds["opponent"]["hue_deg"].to_numpy(np.float64)),
            half.reshape(2, *shape),
            opponent,
            rows["field"],
            np.concatenate([rows[kind] for kind in GREY_PATCHES]),
            rows[GREY_GRATING],
            rows["grey_field"],
        )

    def shuffled(self, rng: np.random.Generator) -> ColourGrid:
        """Return the grid with the axes of the boundaries shuffled within each saturation, end and direction: a null."""
        return replace(self, half=rng.permuted(self.half, axis=1), opponent=rng.permuted(self.opponent, axis=0))


@dataclass(frozen=True)
class ColourResponses:
    """A layer's responses to boundaries of colour and their controls, in sigma.

    Attributes
    ----------
    responses : (stimulus, unit), those below 0 cut at 0; 0 for dead units
    sigma : the units' variation over natural images
    """

    responses: Array
    sigma: Sigma
    grid: ColourGrid

    @property
    def variants(self) -> Array:
        """Best response over directions (and ends): (unit, kind and saturation, axis), sigma; half-fields come first."""
        half = self.responses[self.grid.half].max(axis=(0, 3))
        opponent = self.responses[self.grid.opponent].max(axis=2)
        return np.asarray(np.concatenate([half, opponent], axis=1).transpose(2, 1, 0))

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What the variants are called: boundaries and saturations."""
        half, opponent = self.grid.half.shape[2], self.grid.opponent.shape[1]
        return (
            *(f"against grey, saturation {k + 1}" for k in range(half)),
            *(f"against the opponent, saturation {k + 1}" for k in range(opponent)),
        )

    @property
    def tuning(self) -> Array:
        """Mean over kinds and saturations: tuning curves (unit, axis of hues), sigma."""
        return np.asarray(self.variants.mean(axis=1))

    def largest(self, rows: NDArray[np.int64]) -> Array:
        """Return the largest response (unit,) to some stimuli."""
        return np.asarray(self.responses[rows].max(axis=0))


def colour_responses(drawn: np.ndarray, natural: np.ndarray, grid: ColourGrid) -> ColourResponses:
    """Put activations (stimulus, unit) for the set ``colour_contrast`` into sigma of natural images (stimulus, unit)."""
    sigma = Sigma.of(natural)
    return ColourResponses(np.maximum(sigma.scaled(drawn), 0.0), sigma, grid)


def colour_table(layer: ColourResponses) -> pd.DataFrame:
    """Return one row per unit: every criterion's value, which are not met, and the verdicts of both rules.

    Columns
    -------
    Those of `tuning_columns`, `judged` and `stability_columns` (over kinds of boundaries and saturations);
    boundary_over_field, colour_over_grey, colour_over_grating: peak at the largest saturation / largest response to a
    control; naive_* (best kind and saturation only).
    """
    grid, variants = layer.grid, layer.variants
    saturations = grid.opponent.shape[1]
    peak = variants[:, saturations - 1 :: saturations].mean(axis=1).max(axis=1)
    fields = np.concatenate([grid.field, grid.grey_field])
    table = pd.DataFrame(
        {
            **tuning_columns(layer.tuning, grid.angles_deg, layer.sigma, PERIOD_DEG),
            **stability_columns(variants, grid.angles_deg, PERIOD_DEG),
            "boundary_over_field": ratio(peak, layer.largest(fields)),
            "colour_over_grey": ratio(peak, layer.largest(grid.patches)),
            "colour_over_grating": ratio(peak, layer.largest(grid.gratings)),
            **naive_columns(variants, grid.angles_deg, PERIOD_DEG)[0],
        }
    )
    return judged(table, EQUAL_LUMINANCE, NAIVE)
