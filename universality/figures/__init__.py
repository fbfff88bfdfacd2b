"""Figures: tables in, matplotlib figures out.

Sizes are those of a journal page (89 or 183 mm), text 5 to 7 pt and editable, files free of dates, so that the same
table gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from universality.detectors import FAMILIES, best_taps
from universality.figures.atlas import atlas_figure
from universality.figures.sheet import contact_sheet
from universality.figures.similarity import group_comparison, similarity_heatmaps
from universality.figures.style import DOUBLE_MM, HAAR, MM, TRAINED, UNTRAINED, save, short, style, tap_label
from universality.figures.thresholds import threshold_curves
from universality.figures.units import matched_pairs, matches_and_nulls, tuning_family

__all__ = [
    "DOUBLE_MM", "HAAR", "MM", "TRAINED", "UNTRAINED", "all_figures",
    "atlas_figure", "best_taps", "contact_sheet", "count",
    "group_comparison", "matched_pairs", "matches_and_nulls", "save", "short", "similarity_heatmaps", "style", "tap_label",
    "threshold_curves", "tuning_family",
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
        noun = FAMILIES[family].noun
        yield (
            f"tuning_family__{family}",
            f"The {noun} of each network at its best tap, ordered by preferred orientation; below, what a naive test would "
            "find in the untrained twin.",
            tuning_family(units[units["family"] == family], families[families["family"] == family], noun),
        )
    for a, b in pairs:
        stem = _pair_stem(a, b)
        of_pair = correspondence[(correspondence["model_a"] == a) & (correspondence["model_b"] == b)]
        yield (
            f"similarity__{stem}",
            f"{short(a)} and {short(b)}, layer by layer: trained, untrained, after a rotation of B's basis, and with the "
            "stimuli shuffled. Measures that do not depend on the basis stay as they were under rotation; unit matching falls.",
            similarity_heatmaps(similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)]),
        )
        for family in dict.fromkeys(families["family"]):
            yield from _matches(a, b, family, of_pair[of_pair["family"] == family], units[units["family"] == family])


def _pair_stem(a: str, b: str) -> str:
    """Return whose pair a file shows, with the models' sources: timm/vgg16 is not torchvision/vgg16."""
    return "__".join(model.replace("/", ".", 1) for model in (a, b))


def _matches(
    a: str, b: str, family: str, correspondence: pd.DataFrame, units: pd.DataFrame
) -> Iterator[tuple[str, str, Figure]]:
    noun, stem = FAMILIES[family].noun, f"{family}__{_pair_stem(a, b)}"
    yield (
        f"matched_pairs__{stem}",
        f"Matched {noun} of {short(a)} and {short(b)}; pairs spread evenly over orientation, not the best ones.",
        matched_pairs(correspondence, units, noun),
    )
    yield (
        f"matches_and_nulls__{stem}",
        f"Held-out correlation of matched {noun} of {short(a)} and {short(b)} beside that of the same units with their best "
        "partners in a random basis of B and in its untrained twin.",
        matches_and_nulls(correspondence, noun),
    )


def count(pairs: Sequence[tuple[str, str]], families: Sequence[str]) -> int:
    """Return how many figures `all_figures` yields."""
    return len(families) + len(pairs) * (1 + 2 * len(families))
