"""Oriented edge and line detectors: units that answer to any contour of one orientation (Gabor-like units of early layers).

Random filters are oriented too, but every kind of contour finds another preference: between a thin line and the best
grating the preferred orientation of untrained units differs by 17 to 62 degrees (median of a tap), that of units in the
early blocks of EfficientNet-Lite0 and Lite1 by 6 to 17. So, as for curves, the rule asks for one preference over all.

Orientations are those at right angles to the contour and have a period of 180 degrees: r1 is here the usual orientation
selectivity |sum r exp(2 i theta)| / sum r, echo the response to contours at right angles.
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
    stability_columns,
    tuning_columns,
)
from universality.features.tuning import Array

PERIOD_DEG = 180.0
GRATING = "grating"
LONE = ("line_dark", "line_bright", "edge_ahead", "edge_behind")
ANY_CONTOUR = Rule(
    "any_contour",
    tuned=(
        Criterion("r1", ">", 0.3, "one preferred orientation"),
        Criterion(
            "invariance", ">", 0.8, "the same tuning for gratings, dark and bright lines, edges of either polarity"
        ),
        Criterion("deviation_deg", "<", 15.0, "the same preferred orientation for each of them"),
        Criterion("weakest_variant", ">", 0.2, "an answer to each of them"),
        *LIVELY,
    ),
    specific=(
        Criterion("echo", "<", 0.5, "at most half the answer to contours at right angles, as corners and blobs have"),
    ),
    # A filter under a round Gaussian with one octave of bandwidth has a full width of about 40 degrees.
    strict=(
        Criterion("r1", ">=", 0.6, "clearly one orientation"),
        Criterion("fwhm_deg", "<=", 60.0, "as narrow as a Gabor filter of a cycle or more"),
        Criterion("echo", "<=", 0.1, "silent for contours at right angles"),
    ),
    waived_early=("echo",),
)
NAIVE = Rule(
    "naive",
    tuned=(
        Criterion("naive_r1", ">", 0.3, "tuned for the best kind of contour alone"),
        Criterion("naive_peak_sigma", ">", 2.0, "a large response to it"),
    ),
    specific=(Criterion("naive_echo", "<", 0.5, "little answer at right angles"),),
)
UNIT_COLUMNS = (
    Column("preferred_cpi", "float", "cycles / image side", "> 0", "edges: frequency of the best grating"),
    Column(
        "phase_modulation",
        "float",
        "1",
        "0 to 2",
        "edges: F1 / F0 over the phases of the best grating; simple above 1",
    ),
)
"""Of the family's own table of units."""


@dataclass(frozen=True)
class EdgeGrid:
    """Where in a stimulus table each contour lies.

    Attributes
    ----------
    angles_deg : orientations, 0 to 180 degrees
    frequencies_cpi : of the gratings
    gratings : (frequency, phase, orientation)
    lone : (kind, orientation) of lines and edges, in the order of `LONE`
    """

    angles_deg: Array
    frequencies_cpi: Array
    gratings: NDArray[np.int64]
    lone: NDArray[np.int64]

    @classmethod
    def of(cls, parameters: xr.Dataset) -> EdgeGrid:
        """Read the grid from the parameters of the set ``contours``, in whatever order; a gap is a `StimulusError`."""
        frame = frame_of(parameters, ("kind", "cpi", "phase_deg", "orientation_deg"))
        kinds = {kind: frame[frame["kind"] == kind] for kind in (GRATING, *LONE)}
        gratings = full_grid(kinds[GRATING], ["cpi", "phase_deg", "orientation_deg"], "contour")
        shape = gratings.shape[2:]
        lone = [full_grid(kinds[kind], ["orientation_deg"], "contour", shape) for kind in LONE]
        angles, frequencies = (
            np.unique(kinds[GRATING][name].to_numpy(np.float64)) for name in ("orientation_deg", "cpi")
        )
        return cls(angles, frequencies, gratings, np.stack(lone))

    def shuffled(self, rng: np.random.Generator) -> EdgeGrid:
        """Return the grid with the orientations shuffled within every kind, frequency and phase: a null."""
        return replace(self, gratings=rng.permuted(self.gratings, axis=-1), lone=rng.permuted(self.lone, axis=-1))


@dataclass(frozen=True)
class EdgeResponses:
    """A layer's responses to contours, in sigma.

    Attributes
    ----------
    responses : (stimulus, unit), those below 0 cut at 0: before a nonlinearity, phases would cancel; 0 for dead units
    sigma : the units' variation over natural images
    """

    responses: Array
    sigma: Sigma
    grid: EdgeGrid

    @property
    def of_gratings(self) -> Array:
        """Responses to gratings: (unit, frequency, phase, orientation), sigma."""
        return np.asarray(np.moveaxis(self.responses[self.grid.gratings], -1, 0))

    @property
    def variants(self) -> Array:
        """Responses to gratings (mean over frequencies and phases), lines and edges: (unit, kind, orientation), sigma."""
        gratings = self.of_gratings.mean(axis=(1, 2))[:, None]
        return np.concatenate([gratings, np.moveaxis(self.responses[self.grid.lone], -1, 0)], axis=1)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What the variants are called."""
        return ("gratings", *(name.replace("_", " ") for name in LONE))

    @property
    def tuning(self) -> Array:
        """Mean over the kinds of contours: tuning curves (unit, orientation), sigma."""
        return np.asarray(self.variants.mean(axis=1))


def edge_responses(drawn: np.ndarray, natural: np.ndarray, grid: EdgeGrid) -> EdgeResponses:
    """Put activations (stimulus, unit) for the set ``contours`` into sigma of natural images (stimulus, unit)."""
    sigma = Sigma.of(natural)
    return EdgeResponses(np.maximum(sigma.scaled(drawn), 0.0), sigma, grid)


def edge_table(layer: EdgeResponses) -> pd.DataFrame:
    """Return one row per unit: every criterion's value, which are not met, and the verdicts of both rules.

    Columns
    -------
    Those of `tuning_columns`, `judged` and `stability_columns` (over the kinds of contours); preferred_cpi (cycles / image
    side), phase_modulation (F1 / F0 of the best grating), naive_* (best kind only).
    """
    angles, variants = layer.grid.angles_deg, layer.variants
    table = pd.DataFrame(
        {
            **tuning_columns(layer.tuning, angles, layer.sigma, PERIOD_DEG),
            **stability_columns(variants, angles, PERIOD_DEG),
            **_grating_columns(layer),
            **naive_columns(variants, angles, PERIOD_DEG)[0],
        }
    )
    return judged(table, ANY_CONTOUR, NAIVE)


def _grating_columns(layer: EdgeResponses) -> dict[str, Array]:
    """Return frequency and phase modulation at the grating with the largest mean over phases; NaN without an answer.

    The amplitude of the first harmonic over the mean: 0 for a complex cell, above 1 for a simple one (Skottun et al. 1991).
    A maximum over neighbouring positions, as the reduction ``center`` takes it, lowers it.
    """
    answers = layer.of_gratings
    n_units, _, n_phases, n_angles = answers.shape
    mean = answers.mean(axis=2)
    best = mean.reshape(n_units, -1).argmax(axis=1)
    frequency, angle = np.divmod(best, n_angles)
    units = np.arange(n_units)
    over_phases = answers[units, frequency, :, angle]
    turns = np.exp(2j * np.pi * np.arange(n_phases) / n_phases)
    first, zeroth = 2 * np.abs(over_phases @ turns) / n_phases, over_phases.mean(axis=1)
    answered = zeroth > 0
    return {
        "preferred_cpi": np.where(answered, layer.grid.frequencies_cpi[frequency], np.nan),
        "phase_modulation": np.divide(first, zeroth, out=np.full(n_units, np.nan), where=answered),
    }
