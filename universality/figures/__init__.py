"""Figures: tables in, matplotlib axes out.

Sizes are those of a journal page (89 or 183 mm), text 5 to 7 pt and editable, files free of dates, so that the same
table gives the same bytes. Every plot function takes tables and, optionally, where to draw (`ax` for one panel, `figure` for
a grid of them), and returns the axes; `FIGURES` lists what a run can be drawn as.
"""

from __future__ import annotations

# First of all: whatever imports Matplotlib before it would meet the backend that the surroundings name.
from universality.figures.backend import seaborn  # noqa: F401  # isort: skip

from universality.base.names import HAAR_NAME, number, short
from universality.features.definition import best_taps
from universality.figures.atlas import atlas_cells, clique_images
from universality.figures.chords import correspondence_chords
from universality.figures.circuits import circuits_and_nulls, wiring_profiles
from universality.figures.cliques import clique_matrix
from universality.figures.depth import detectors_against_depth
from universality.figures.example_sheets import Matched, examples, matched_examples, matched_of, sheet_of
from universality.figures.export import Tables, export
from universality.figures.heatmaps import similarity_heatmaps
from universality.figures.index import index_by_feature, index_by_group
from universality.figures.interventions import ablation_by_class, transplants_and_nulls
from universality.figures.kinds import FIGURES, Drawing, clique_nouns, drawings
from universality.figures.sheet import contact_sheet, stimulus_sheet
from universality.figures.similarity import group_comparison, similarity_against_depth
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    MM,
    SINGLE_MM,
    TRAINED,
    UNTRAINED,
    WIDTHS_MM,
    encoded,
    figure_of,
    save,
    style,
    tap_label,
)
from universality.figures.thresholds import curves_of, threshold_curves
from universality.figures.unit_wiring import circuit_diagram, matched_weights, unit_circuits
from universality.figures.units import matched_pairs, matches_and_nulls, tuning_family
from universality.figures.wiring import equivariance_matrices, field_layouts

__all__ = [
    "DOUBLE_MM",
    "FIGURES",
    "HAAR",
    "HAAR_NAME",
    "MM",
    "SINGLE_MM",
    "TRAINED",
    "UNTRAINED",
    "WIDTHS_MM",
    "Drawing",
    "Matched",
    "Tables",
    "ablation_by_class",
    "atlas_cells",
    "best_taps",
    "circuit_diagram",
    "circuits_and_nulls",
    "clique_images",
    "clique_matrix",
    "clique_nouns",
    "contact_sheet",
    "correspondence_chords",
    "curves_of",
    "detectors_against_depth",
    "drawings",
    "encoded",
    "equivariance_matrices",
    "examples",
    "export",
    "field_layouts",
    "figure_of",
    "group_comparison",
    "index_by_feature",
    "index_by_group",
    "matched_examples",
    "matched_of",
    "matched_pairs",
    "matched_weights",
    "matches_and_nulls",
    "number",
    "save",
    "sheet_of",
    "short",
    "similarity_against_depth",
    "similarity_heatmaps",
    "stimulus_sheet",
    "style",
    "tap_label",
    "threshold_curves",
    "transplants_and_nulls",
    "tuning_family",
    "unit_circuits",
    "wiring_profiles",
]  # fmt: skip
