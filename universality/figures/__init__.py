"""Figures: tables in, matplotlib figures out.

Sizes are those of a journal page (89 or 183 mm), text 5 to 7 pt and editable, files free of dates, so that the same
table gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from universality.detectors import FAMILIES, best_taps
from universality.figures.atlas import atlas_figure, data_driven_figure
from universality.figures.depth import detectors_against_depth
from universality.figures.index import index_by_feature_figure, index_by_group_figure
from universality.figures.sheet import contact_sheet, stimulus_sheet
from universality.figures.similarity import group_comparison, similarity_heatmaps
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    HAAR_NAME,
    MM,
    TRAINED,
    UNTRAINED,
    number,
    save,
    short,
    style,
    tap_label,
)
from universality.figures.thresholds import threshold_curves
from universality.figures.units import matched_pairs, matches_and_nulls, spread, tuning_family
from universality.groups import nearest_taps

__all__ = [
    "DOUBLE_MM", "HAAR", "HAAR_NAME", "MM", "TRAINED", "UNTRAINED", "all_figures",
    "atlas_figure", "best_taps", "contact_sheet", "count", "data_driven_figure", "detectors_against_depth", "drawn_taps",
    "group_comparison", "index_by_feature_figure", "index_by_group_figure", "matched_pairs", "matches_and_nulls", "number",
    "save", "short", "similarity_heatmaps", "spread", "stimulus_sheet", "style", "tap_label", "threshold_curves", "tuning_family",
]  # fmt: skip


def all_figures(
    similarity: pd.DataFrame,
    correspondence: pd.DataFrame,
    families: pd.DataFrame,
    units: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file stem, caption, figure) for everything a run draws; `pairs` of models get figures of their own."""
    for family in dict.fromkeys(families["family"]):
        kind = FAMILIES[family]
        noun = kind.noun
        yield (
            f"detectors_against_depth__{family}",
            f"Share of {noun} against relative depth, beside the layers' untrained twins and a {HAAR_NAME} of each.",
            detectors_against_depth(families[families["family"] == family], noun),
        )
        yield (
            f"tuning_family__{family}",
            f"The {noun} of each network at its best tap, ordered by preferred {kind.angle}; below, what a naive test would "
            "find in the untrained twin.",
            tuning_family(
                units[units["family"] == family],
                families[families["family"] == family],
                noun,
                period_deg=kind.period_deg,
                angle=kind.angle,
            ),
        )
    for a, b in pairs:
        stem = _pair_stem(a, b)
        of_pair = correspondence[(correspondence["model_a"] == a) & (correspondence["model_b"] == b)]
        yield (
            f"similarity__{stem}",
            f"{short(a)} and {short(b)}, layer by layer: trained, untrained, with B in a {HAAR_NAME}, and with the "
            "stimuli shuffled. Measures that do not depend on the basis stay as they were in a random one; unit matching falls.",
            similarity_heatmaps(similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)]),
        )
        for family in dict.fromkeys(families["family"]):
            taps = drawn_taps(similarity, families, family, a, b)
            yield from _matches(
                a, b, family, taps, of_pair[of_pair["family"] == family], units[units["family"] == family]
            )


def drawn_taps(similarity: pd.DataFrame, families: pd.DataFrame, family: str, a: str, b: str) -> tuple[str, str]:
    """Return the pair of taps that figures and sentences about matched units of two models are about.

    It is the tap of A with the most detectors of the family, and the tap of B nearest to it in depth.
    """
    best = best_taps(families[(families["family"] == family) & (families["model"] == a)])["tap"].iloc[0]
    near = nearest_taps(similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)])
    return str(best), str(near.loc[near["tap_a"] == best, "tap_b"].iloc[0])


def _pair_stem(a: str, b: str) -> str:
    """Return whose pair a file shows, with the models' sources: timm/vgg16 is not torchvision/vgg16."""
    return "__".join(model.replace("/", ".", 1) for model in (a, b))


def _matches(
    a: str, b: str, family: str, taps: tuple[str, str], correspondence: pd.DataFrame, units: pd.DataFrame
) -> Iterator[tuple[str, str, Figure]]:
    kind, stem = FAMILIES[family], f"{family}__{_pair_stem(a, b)}"
    yield (
        f"matched_pairs__{stem}",
        f"Matched {kind.noun} of {short(a)} and {short(b)}; pairs spread evenly over {kind.angle}, not the best ones.",
        matched_pairs(correspondence, units, kind.noun, taps=taps, period_deg=kind.period_deg, angle=kind.angle),
    )
    yield (
        f"matches_and_nulls__{stem}",
        f"Held-out correlation of matched {kind.noun} of {short(a)} and {short(b)} beside that of the same units with their best "
        f"partners in a {HAAR_NAME} of the other layer and in its untrained twin (of the two sides, the larger).",
        matches_and_nulls(correspondence, kind.noun),
    )


def count(pairs: Sequence[tuple[str, str]], families: Sequence[str]) -> int:
    """Return how many figures `all_figures` yields."""
    return 2 * len(families) + len(pairs) * (1 + 2 * len(families))
