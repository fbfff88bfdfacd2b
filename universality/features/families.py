"""Operational definitions: what counts as a detector, one file per family and one line in `FAMILIES`.

A definition is a list of criteria with thresholds and reasons, evaluated to a table with one row per unit, so that a
reader sees why a unit passes or fails. Thresholds are effect sizes calibrated on untrained networks: networks are
deterministic, and a permutation p passes almost every unit.

Responses are in sigma: activations divided by the unit's standard deviation over natural images, without subtracting a
mean. With the mean over crops subtracted, untrained EfficientNet-Lite twins pass in up to 2 % of a layer's units;
without it, in none (`tests/test_features_rules.py` and the quickstart's tables show the untrained rates).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from universality.base.errors import JobError, did_you_mean
from universality.features import colour_contrast, curve, high_low, oriented_edge
from universality.features.curve import CurveGrid, curve_responses, curve_table
from universality.features.definition import Definition, of_rule
from universality.features.high_low import HighLowGrid, high_low_responses, high_low_table
from universality.features.rules import Rule, Sigma
from universality.features.tuning import Array


class Grid(Protocol):
    """Where in a stimulus table each combination of parameters lies."""

    @property
    def angles_deg(self) -> Array:
        """Orientations of the tuning curves, degrees."""

    def shuffled(self, rng: np.random.Generator) -> Any:
        """Return the grid with its orientations shuffled: a null."""


class Responses(Protocol):
    """A layer's responses to the stimuli of a family, in sigma."""

    @property
    def sigma(self) -> Sigma:
        """The units' variation over natural images."""

    @property
    def tuning(self) -> Array:
        """Tuning curves (unit, orientation), sigma."""


@dataclass(frozen=True)
class Family:
    """A family of detectors: its stimuli, its definition, and how both become a table of units.

    Attributes
    ----------
    stimuli : name of the stimulus set that shows the feature
    noun : what its units are called in sentences
    period_deg : after so many degrees a stimulus is the same: 180 for an axis, such as that of an edge of either polarity
    angle : what the angle is of, in sentences and figures
    grid : parameters of the set, then of each set of controls -> where everything lies
    responses : (stimulus, unit) activations for all sets, one after the other; (stimulus, unit) for natural images; grid
        -> responses
    controls : names of further stimulus sets
    """

    name: str
    stimuli: str
    noun: str
    rule: Rule
    grid: Callable[..., Grid]
    responses: Callable[[np.ndarray, np.ndarray, Any], Any]
    table: Callable[[Any], pd.DataFrame]
    period_deg: float = 360.0
    angle: str = "orientation"
    controls: tuple[str, ...] = ()

    @property
    def sets(self) -> tuple[str, ...]:
        """Every stimulus set of the family, in the order in which `grid` and `responses` take them."""
        return (self.stimuli, *self.controls)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "curve", "curves", "curve detectors", curve.INVARIANT, CurveGrid.of, curve_responses, curve_table,
            controls=("curve_controls",),
        ),
        Family(
            "high_low_frequency", "high_low", "high-low frequency detectors", high_low.BOUNDARY, HighLowGrid.of,
            high_low_responses, high_low_table,
        ),
        Family(
            "oriented_edge", "contours", "oriented edge detectors", oriented_edge.ANY_CONTOUR, oriented_edge.EdgeGrid.of,
            oriented_edge.edge_responses, oriented_edge.edge_table, oriented_edge.PERIOD_DEG,
        ),
        Family(
            "colour_contrast", "colour_contrast", "colour-contrast detectors", colour_contrast.EQUAL_LUMINANCE,
            colour_contrast.ColourGrid.of, colour_contrast.colour_responses, colour_contrast.colour_table,
            colour_contrast.PERIOD_DEG, "axis of hues",
        ),
    )
}  # fmt: skip


def family_of(name: str) -> Family:
    """Return a family of detectors by name; raise `JobError` with the nearest name if there is none."""
    if name not in FAMILIES:
        raise JobError(f"unknown family '{name}'{did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]


def definition_of(family: str) -> Definition:
    """Return the package's own definition of a family; raise `JobError` with the nearest name if there is none."""
    return of_rule(family, family_of(family).rule)
