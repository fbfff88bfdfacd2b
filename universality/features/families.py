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
from universality.base.schema import Column
from universality.features import colour_contrast, curve, high_low, oriented_edge
from universality.features.definition import Definition, of_rule
from universality.features.rules import Rule, Sigma
from universality.features.statements import Statement
from universality.features.tuning import Array
from universality.stimuli.spec import StimuliSpec


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

    @property
    def variants(self) -> Array:
        """Tuning curves of each variant by itself, of which `tuning` is the mean: (unit, variant, orientation), sigma."""

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What the variants are called."""


@dataclass(frozen=True)
class Family:
    """A family of detectors: everything that is known of it alone.

    Attributes
    ----------
    stimuli : name of the stimulus set that shows the feature
    noun : what its units are called in sentences
    variants : what is varied beside the angle, in words: a detector prefers one angle whichever it is
    grid : parameters of the set, then of each set of controls -> where everything lies
    responses : (stimulus, unit) activations for all sets, one after the other; (stimulus, unit) for natural images; grid
        -> responses
    columns : of its own table ``units_NAME``, beside the keys: what ``units`` does not have for every family
    angles : how many angles its tuning curves have with these stimuli
    controls : names of further stimulus sets
    period_deg : after so many degrees a stimulus is the same: 180 for an axis, such as that of an edge of either polarity
    angle : what the angle is of, in sentences and figures
    published : statements that were published of it, to be compared with a run
    refuse : raises `ValueError` if a job's stimuli cannot show it
    """

    name: str
    noun: str
    variants: str
    stimuli: str
    rule: Rule
    grid: Callable[..., Grid]
    responses: Callable[[np.ndarray, np.ndarray, Any], Any]
    table: Callable[[Any], pd.DataFrame]
    columns: tuple[Column, ...]
    angles: Callable[[StimuliSpec], int]
    controls: tuple[str, ...] = ()
    period_deg: float = 360.0
    angle: str = "orientation"
    published: tuple[Statement, ...] = ()
    refuse: Callable[[StimuliSpec], None] = lambda stimuli: None

    @property
    def sets(self) -> tuple[str, ...]:
        """Every stimulus set of the family, in the order in which `grid` and `responses` take them."""
        return (self.stimuli, *self.controls)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "curve", "curve detectors", "thin, filled, dark, bright", "curves", curve.INVARIANT, curve.CurveGrid.of, curve.curve_responses, curve.curve_table,
            curve.UNIT_COLUMNS, lambda stimuli: stimuli.curves.orientations, controls=("curve_controls",),
            published=curve.PUBLISHED, refuse=curve.refuse,
        ),
        Family(
            "high_low_frequency", "high-low frequency detectors", "base frequencies", "high_low", high_low.BOUNDARY, high_low.HighLowGrid.of,
            high_low.high_low_responses, high_low.high_low_table, high_low.UNIT_COLUMNS,
            lambda stimuli: stimuli.high_low.orientations, published=high_low.PUBLISHED, refuse=high_low.refuse,
        ),
        # Contrast classes: nothing is published of them, but that untrained twins have none.
        Family(
            "oriented_edge", "oriented edge detectors", "gratings, lines, edges", "contours", oriented_edge.ANY_CONTOUR, oriented_edge.EdgeGrid.of,
            oriented_edge.edge_responses, oriented_edge.edge_table, oriented_edge.UNIT_COLUMNS,
            lambda stimuli: stimuli.contours.orientations, period_deg=oriented_edge.PERIOD_DEG,
        ),
        Family(
            "colour_contrast", "colour-contrast detectors", "against grey or opponent, saturations", "colour_contrast", colour_contrast.EQUAL_LUMINANCE,
            colour_contrast.ColourGrid.of, colour_contrast.colour_responses, colour_contrast.colour_table,
            colour_contrast.UNIT_COLUMNS, lambda stimuli: stimuli.colour_contrast.hues // 2,
            period_deg=colour_contrast.PERIOD_DEG, angle="axis of hues",
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
