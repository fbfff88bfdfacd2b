"""Figures: tables in, matplotlib axes out.

Sizes are those of a journal page (89 or 183 mm), text 5 to 7 pt and editable, files free of dates, so that the same
table gives the same bytes. Every plot function takes tables and, optionally, where to draw (`ax` for one panel, `figure` for
a grid of them), and returns the axes; `FIGURES` lists what a run can be drawn as.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from universality.detectors import best_taps
from universality.figures.atlas import atlas_cells, clique_images
from universality.figures.chords import correspondence_chords
from universality.figures.cliques import clique_matrix
from universality.figures.depth import detectors_against_depth
from universality.figures.export import export
from universality.figures.index import index_by_feature, index_by_group
from universality.figures.kinds import FIGURES, OF_A_RUN, clique_nouns, drawings, drawn_taps
from universality.figures.sheet import contact_sheet, stimulus_sheet
from universality.figures.similarity import group_comparison, similarity_against_depth, similarity_heatmaps
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    HAAR_NAME,
    MM,
    SINGLE_MM,
    TRAINED,
    UNTRAINED,
    WIDTHS_MM,
    figure_of,
    number,
    save,
    short,
    style,
    tap_label,
)
from universality.figures.thresholds import curves_of, threshold_curves
from universality.figures.units import matched_pairs, matches_and_nulls, spread, tuning_family

__all__ = [
    "DOUBLE_MM", "FIGURES", "HAAR", "HAAR_NAME", "MM", "OF_A_RUN", "SINGLE_MM", "TRAINED", "UNTRAINED", "WIDTHS_MM",
    "all_figures", "atlas_cells", "best_taps", "clique_images", "clique_matrix", "clique_nouns", "contact_sheet", "correspondence_chords", "count",
    "curves_of", "detectors_against_depth", "drawings", "drawn_taps", "export", "figure_of", "group_comparison",
    "index_by_feature", "index_by_group", "matched_pairs", "matches_and_nulls", "number", "save", "short",
    "similarity_against_depth", "similarity_heatmaps", "spread", "stimulus_sheet", "style", "tap_label", "threshold_curves", "tuning_family",
]  # fmt: skip


def all_figures(
    similarity: pd.DataFrame,
    correspondence: pd.DataFrame,
    families: pd.DataFrame,
    units: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    method: str,
) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file stem, caption, figure) for everything a run draws.

    `pairs` of models get figures of their own; of matched units those are drawn that `method` matched (`Job.matched_by`).
    """
    tables = {"similarity": similarity, "correspondence": correspondence, "families": families, "units": units}
    for drawing in drawings(tables, pairs, method, OF_A_RUN, data=False):
        yield drawing.stem, drawing.caption, drawing.figure


def count(pairs: Sequence[tuple[str, str]], families: Sequence[str]) -> int:
    """Return how many figures `all_figures` yields."""
    each = {"run": 1, "family": len(families), "pair": len(pairs), "family and pair": len(pairs) * len(families)}
    return sum(each[FIGURES[name].per] for name in OF_A_RUN)
