"""Every dimension, coordinate, attribute and table-column name, once, with its meaning.

Tables are described by :class:`Table`: the order of its columns, their kinds, units and ranges. The
validators here run once, where a table is written or read; the documentation and the Parquet metadata are
made from the same descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from universality.base.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
"""Version of the stores and run directories; raised when an older reader could misread them."""

# Dimensions of labelled arrays.
STIMULUS = "stimulus"
POSITION = "position"
UNIT = "unit"
CHANNEL = "channel"
Y = "y"
X = "x"
ANGLE = "angle"

ACTIVATION = "activation"
"""Name of the data variable in a store: (stimulus, unit) or (stimulus, position, unit), a.u."""

REDUCTIONS = ("center", "mean", "max", "positions")
CONDITIONS = ("trained", "untrained")

ColumnKind = Literal["string", "int", "float", "bool", "floats"]


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, kind, unit (or ``"1"``), range in words, and meaning."""

    name: str
    kind: ColumnKind
    unit: str
    range: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """A table's name, what one row is, its columns in order, and the family that it is about if it is about one alone."""

    name: str
    row: str
    columns: tuple[Column, ...]
    family: str | None = None

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]


def pair_columns() -> tuple[Column, ...]:
    """Return the columns that say which two layers a row is about."""
    return (
        Column("model_a", "string", "1", "card id", "first network"),
        Column("model_b", "string", "1", "card id", "second network"),
        Column("tap_a", "string", "1", "tap name", "layer of the first network"),
        Column("tap_b", "string", "1", "tap name", "layer of the second network"),
        Column("depth_a", "float", "1", "0 to 1", "relative depth of tap_a: weight layers run so far / all"),
        Column("depth_b", "float", "1", "0 to 1", "relative depth of tap_b"),
    )


SIMILARITY = Table(
    "similarity",
    "one measure on one pair of layers, trained, with its nulls in the same row",
    (
        *pair_columns(),
        Column("measure", "string", "1", "name in COMPARATORS", "comparator, named with its variant"),
        Column("direction", "string", "1", "similarity | distance", "whether larger means more alike"),
        Column("value", "float", "1", "see measure", "score of the trained layers"),
        Column("value_untrained", "float", "1", "see measure", "mean score of the untrained twins of both layers"),
        Column(
            "value_haar",
            "float",
            "1",
            "see measure",
            "mean score with layer B in a random basis (Haar): equal to value for a measure that does "
            "not depend on the basis, lower for unit matching",
        ),
        Column(
            "value_shuffled", "float", "1", "see measure", "mean score after shuffling the stimuli of layer B: chance"
        ),
        Column("n", "int", "stimuli", ">= 3", "rows that entered"),
        Column("p", "int", "units", ">= 1", "live units of layer A"),
        Column("q", "int", "units", ">= 1", "live units of layer B"),
        Column("reason", "string", "1", "text", "why value is NaN; empty otherwise"),
    ),
)

FAMILIES = Table(
    "families",
    "one layer of one network and one family of detectors, with the same counts for its nulls",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("depth", "float", "1", "0 to 1", "relative depth: weight layers run so far / all"),
        Column(
            "rf_px",
            "int",
            "px",
            ">= 0",
            "receptive field (side) at the network's input size; 0: a unit sees the whole image",
        ),
        Column("scene_px", "float", "px", ">= 1", "side of the scene that was shown: the input's, or the field's"),
        Column("scene_shown", "float", "1", "0 to 1", "share of that side which the input shows; below 1 it is cut"),
        Column(
            "misalignment_px",
            "float",
            "px",
            ">= 0",
            "largest distance from a place of the scene to the field's centre of the unit read there; NaN for mean, max",
        ),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("rule", "string", "1", "rule name", "detector rule, see features/"),
        Column("n_units", "int", "units", ">= 1", "units of the layer"),
        Column(
            "n_dead",
            "int",
            "units",
            ">= 0",
            "units that do not vary in one of the two folds of natural crops: masked, never detectors",
        ),
        Column(
            "n_tuned", "int", "units", ">= 0", "units tuned, invariant over all variants (before line and echo tests)"
        ),
        Column("n_detectors", "int", "units", ">= 0", "units that pass the whole rule"),
        Column(
            "n_strict", "int", "units", ">= 0", "detectors of the level strict: of the published, or clearest, form"
        ),
        Column(
            "n_clipped",
            "int",
            "units",
            ">= 0",
            "detectors with twelve or more natural images at exactly the largest value that they hand on: a nonlinearity clips them",
        ),
        Column("share", "float", "1", "0 to 1", "n_detectors / n_units"),
        Column("share_low", "float", "1", "0 to 1", "lower end of the 95 % Wilson interval of share"),
        Column("share_high", "float", "1", "0 to 1", "upper end of the 95 % Wilson interval of share"),
        Column("share_strong", "float", "1", "0 to 1", "share of detectors whose peak exceeds 2 sigma"),
        Column("coverage", "float", "1", "0 to 1", "share of 30-degree bins of the period that hold a detector"),
        Column(
            "largest_gap_deg",
            "float",
            "degrees",
            "0 to period",
            "largest gap between neighbouring preferred angles within the period of the family",
        ),
        Column("mean_r1", "float", "1", "0 to 1", "mean first-harmonic selectivity of the detectors"),
        Column("mean_fwhm_deg", "float", "degrees", "0 to 360", "mean full width at half maximum of the detectors"),
        Column("mean_echo", "float", "1", "0 to 1", "mean response to the opposite / peak, see units"),
        Column(
            "share_naive", "float", "1", "0 to 1", "share that passes the naive rule (best variant only): not evidence"
        ),
        Column("n_twins", "int", "networks", ">= 1", "untrained twins (seeds) behind the untrained columns"),
        Column("n_detectors_untrained", "float", "units", ">= 0", "mean number of detectors in the untrained twins"),
        Column("share_untrained", "float", "1", "0 to 1", "the same share in the untrained twins (mean over seeds)"),
        Column("share_strong_untrained", "float", "1", "0 to 1", "share_strong in the untrained twins"),
        Column("share_naive_untrained", "float", "1", "0 to 1", "the naive rule's share in the untrained twins"),
        Column("coverage_untrained", "float", "1", "0 to 1", "coverage in the untrained twins (mean over seeds)"),
        Column(
            "largest_gap_untrained_deg", "float", "degrees", "0 to 360", "largest gap in the untrained twins (mean)"
        ),
        Column("share_haar", "float", "1", "0 to 1", "the same share in random bases (Haar) of the layer (mean)"),
        Column("share_strong_haar", "float", "1", "0 to 1", "share_strong in random bases (Haar) (mean)"),
        Column("coverage_haar", "float", "1", "0 to 1", "coverage in random bases (Haar) (mean)"),
        Column("largest_gap_haar_deg", "float", "degrees", "0 to 360", "largest gap in random bases (Haar) (mean)"),
        Column(
            "share_haar_standardised",
            "float",
            "1",
            "0 to 1",
            "the share in random bases of the layer's units divided by their standard deviations (mean): among units as they are, those of "
            "high variance dominate",
        ),
        Column(
            "share_sparse",
            "float",
            "1",
            "0 to 1",
            "the share in the untrained twins made as sparse as the trained units (mean over seeds): each unit's bias is lowered until it "
            "is active for as many natural images as its trained counterpart",
        ),
        Column("share_naive_sparse", "float", "1", "0 to 1", "the naive rule's share in them"),
        Column("share_shuffled", "float", "1", "0 to 1", "the same share with the stimuli's angles shuffled (mean)"),
    ),
)

CORRESPONDENCE = Table(
    "correspondence",
    "one unit of layer A matched to one unit of layer B, at least one of them a detector of the family",
    (
        *pair_columns(),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("method", "string", "1", "hungarian | mutual_nearest", "how the pair was matched, among all live units"),
        Column("unit_a", "int", "1", ">= 0", "unit (channel index) in layer A"),
        Column("unit_b", "int", "1", ">= 0", "unit (channel index) in layer B"),
        Column("detector_a", "bool", "1", "true | false", "unit_a is a detector on its own"),
        Column("detector_b", "bool", "1", "true | false", "unit_b is a detector on its own"),
        Column("near_a", "bool", "1", "true | false", "unit_a is a detector or a near miss, see units"),
        Column("near_b", "bool", "1", "true | false", "unit_b is a detector or a near miss"),
        Column("r_match", "float", "1", "-1 to 1", "Pearson r on the natural images that decided the match (inflated)"),
        Column("r_natural", "float", "1", "-1 to 1", "Pearson r on the held-out images"),
        Column(
            "r_natural_low",
            "float",
            "1",
            "-1 to 1",
            "lower end of its 95 % interval: Fisher z, error from resampled photographs (a drawn image counts as one)",
        ),
        Column(
            "r_natural_high",
            "float",
            "1",
            "-1 to 1",
            "upper end of its 95 % interval",
        ),
        Column(
            "r_natural_untrained",
            "float",
            "1",
            "-1 to 1",
            "held-out r with the best partner (by fold 0) in an untrained twin (mean over seeds): of unit_a in layer B's "
            "twin or of unit_b in layer A's, the larger",
        ),
        Column(
            "r_natural_haar",
            "float",
            "1",
            "-1 to 1",
            "held-out r with the best partner (by fold 0) in Haar-random bases (mean over 240 draws or more): of unit_a in a basis of layer B or "
            "of unit_b in one of layer A, the larger",
        ),
        Column(
            "r_natural_haar_standardised",
            "float",
            "1",
            "-1 to 1",
            "the same in bases of the layers' units divided by their standard deviations: in bases of the units as they are, units of high "
            "variance dominate",
        ),
        Column(
            "excess",
            "float",
            "1",
            "-2 to 2",
            "r_natural less the larger of r_natural_haar and r_natural_haar_standardised",
        ),
        Column(
            "excess_low",
            "float",
            "1",
            "-2 to 2",
            "lower end of its 95 % interval, over photographs (jackknife) and the number of bases: the least of both sides' and both kinds of bases",
        ),
        Column("excess_high", "float", "1", "-2 to 2", "upper end of its 95 % interval: the least of them"),
        Column(
            "excess_z",
            "float",
            "1",
            "any",
            "excess in standard deviations of the best partner's r over single bases: the least of all sides'; above 2.576 fewer than 0.5 % of "
            "random bases offer as much",
        ),
        Column(
            "power",
            "float",
            "1",
            "0 to 1",
            "probability to be above random bases (excess_low above 0, excess_z above 2.576) for a true pair of this r, these nulls and this job's images; whether its units pass as "
            "detectors and match is not in it",
        ),
        Column(
            "r_confirmable",
            "float",
            "1",
            "any",
            "least r for which that probability is 0.8; above 1 where nothing could be confirmed",
        ),
        Column(
            "ceiling_a",
            "float",
            "1",
            "-1 to 1",
            "held-out r of unit_a with the best mixture (ridge, fitted on fold 0) of all live units of layer B: what is there, "
            "in whatever basis; in the limit of many images no unit of B exceeds it, with few the fit may cost more",
        ),
        Column("ceiling_b", "float", "1", "-1 to 1", "the same of unit_b with a mixture of layer A"),
        Column(
            "ceiling_a_untrained",
            "float",
            "1",
            "-1 to 1",
            "the same of unit_a with a mixture of layer B's untrained twin (mean over seeds); a Haar rotation changes no ceiling",
        ),
        Column("ceiling_b_untrained", "float", "1", "-1 to 1", "the same of unit_b with a mixture of layer A's twin"),
        Column(
            "p",
            "float",
            "1",
            "0 to 1",
            "share of permutations (photographs as wholes, drawn images among themselves) in which the best of all units of B "
            "reaches r_natural with unit_a, or the best of all of A with unit_b: the larger share",
        ),
        Column("q", "float", "1", "0 to 1", "Benjamini-Hochberg q of p within the pair of models, family and method"),
        Column(
            "verdict",
            "string",
            "1",
            "same_feature | correlated_only | family_only | unmatched",
            "same_feature: one a detector, the other a detector or a near miss, each among the other's best 3, above random bases (excess_low above 0, excess_z above 2.576), orientations within 20 degrees; "
            "correlated_only: above random bases; family_only: the first condition; unmatched: neither",
        ),
        Column("r_tuning", "float", "1", "-1 to 1", "correlation of the tuning curves, not shifted"),
        Column("r_aligned", "float", "1", "-1 to 1", "maximum circular cross-correlation of the tuning curves"),
        Column(
            "shift_deg", "float", "degrees", "-180 to 180", "rotation of the tuning curve of A that reaches r_aligned"
        ),
        Column(
            "r_tuning_untrained",
            "float",
            "1",
            "-1 to 1",
            "r_tuning with those partners in the untrained twins: the larger of both sides",
        ),
        Column("r_aligned_untrained", "float", "1", "-1 to 1", "r_aligned with them: the larger of both sides"),
        Column(
            "r_tuning_haar", "float", "1", "-1 to 1", "r_tuning with those partners in the rotated layers: the larger"
        ),
        Column("r_aligned_haar", "float", "1", "-1 to 1", "r_aligned with them: the larger of both sides"),
        Column("preferred_a_deg", "float", "degrees", "0 to 360", "preferred orientation of unit_a (circular mean)"),
        Column("preferred_b_deg", "float", "degrees", "0 to 360", "preferred orientation of unit_b (circular mean)"),
        Column("delta_theta_deg", "float", "degrees", "-180 to 180", "preferred_b_deg - preferred_a_deg, wrapped"),
        Column(
            "delta_log_curvature", "float", "1", "any", "log2 of preferred curvature B / A; NaN if one prefers lines"
        ),
        Column("delta_fwhm_deg", "float", "degrees", "-360 to 360", "tuning width B - A"),
        Column("rank_ab", "int", "1", ">= 1", "rank of unit_b among all live units of B by r with unit_a (1 = best)"),
        Column("rank_ba", "int", "1", ">= 1", "rank of unit_a among all live units of A by r with unit_b"),
        Column("mutual", "bool", "1", "true | false", "both ranks are 1"),
        Column(
            "soft_mass",
            "float",
            "1",
            "0 to 1",
            "mass that the soft matching (optimal transport, fold 0) of all live units moves between the two, times the width of "
            "the wider layer: 1 is all that can be (one to one for equal widths); a pair drawn at random has 1 / units of the "
            "narrower layer on average",
        ),
        Column(
            "soft_mass_untrained",
            "float",
            "1",
            "0 to 1",
            "soft_mass with the best partner in the first untrained twin: the larger of both sides",
        ),
        Column("soft_mass_haar", "float", "1", "0 to 1", "soft_mass with that in the first rotated layer: the larger"),
        Column("family_rate_a", "float", "1", "0 to 1", "share of detectors in layer A: chance that unit_a is one"),
        Column("family_rate_b", "float", "1", "0 to 1", "share of detectors in layer B: chance that unit_b is one"),
        Column("n_match", "int", "rows", ">= 3", "natural images (times places, for positions) that decided the match"),
        Column("n_score", "int", "rows", ">= 3", "natural images (times places, for positions) that scored it"),
    ),
)

CORRESPONDENCE_NULLS = Table(
    "correspondence_nulls",
    "the same as in correspondence where nothing should correspond: what the verdicts are worth",
    (
        Column(
            "null",
            "string",
            "1",
            "untrained | haar_a | haar_b",
            "the untrained twins of both networks; layer A (or B) in a Haar-random basis against the other as it is: then only "
            "what a verdict asks for is computed, and p, q, soft_mass and ceilings are NaN",
        ),
        Column("seed", "int", "1", ">= -1", "seed of the untrained twins; -1 for a random basis"),
        *CORRESPONDENCE.columns,
    ),
)


def _beside_nulls(name: str, kind: ColumnKind, unit: str, allowed: str, meaning: str) -> tuple[Column, ...]:
    """Return a column and the same for the untrained twins and for a random basis."""
    return (
        Column(name, kind, unit, allowed, meaning),
        Column(f"{name}_untrained", "float", unit, allowed, f"{name} between the untrained twins (mean over seeds)"),
        Column(
            f"{name}_haar", "float", unit, allowed, f"{name} with one layer in a random basis (mean of A and B turned)"
        ),
    )


def _of_both(name: str, kind: ColumnKind, unit: str, allowed: str, meaning: str) -> tuple[Column, ...]:
    """Return a column for layer A and for layer B; `*` in its name is the layer."""
    return tuple(Column(name.replace("*", x), kind, unit, allowed, meaning.format(x.upper())) for x in "ab")


PAIRS = Table(
    "pairs",
    "one pair of layers, one family and one method of matching: what they share, beside the same for its nulls",
    (
        *pair_columns(),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("method", "string", "1", "hungarian | mutual_nearest", "how units were matched, among all live units"),
        *_of_both("n_detectors_*", "int", "units", ">= 0", "detectors of layer {}"),
        *_of_both("share_*", "float", "1", "0 to 1", "share of detectors in layer {}"),
        *_of_both("share_*_untrained", "float", "1", "0 to 1", "the same share in the untrained twins of layer {}"),
        *_of_both("coverage_*", "float", "1", "0 to 1", "share of 30-degree bins that hold a detector of layer {}"),
        *_of_both(
            "largest_gap_*_deg", "float", "degrees", "0 to 360", "largest gap between preferred angles, layer {}"
        ),
        *_beside_nulls("n_met", "int", "pairs", ">= 0", "matched pairs in which both units are detectors"),
        *_beside_nulls(
            "n_judged",
            "int",
            "pairs",
            ">= 0",
            "matched pairs of a detector with a detector or a near miss: those that the verdict same_feature can be given to",
        ),
        *_of_both("met_*", "float", "1", "0 to 1", "n_met / detectors of layer {}; NaN if it has none"),
        *_of_both("met_*_low", "float", "1", "0 to 1", "lower end of the 95 % Wilson interval of that share, layer {}"),
        *_of_both("met_*_high", "float", "1", "0 to 1", "upper end of the 95 % Wilson interval, layer {}"),
        *_of_both("chance_*", "float", "1", "0 to 1", "chance of that share, layer {}: the share of the other layer"),
        *_beside_nulls("n_same_feature", "int", "pairs", ">= 0", "pairs with the verdict same_feature"),
        Column(
            "expected_same_feature",
            "float",
            "pairs",
            ">= 0",
            "pairs that would be above random bases if each of n_judged were a true pair of its r: the sum of their power",
        ),
        *_beside_nulls("n_correlated_only", "int", "pairs", ">= 0", "pairs with the verdict correlated_only"),
        *_beside_nulls("n_family_only", "int", "pairs", ">= 0", "pairs with the verdict family_only"),
        *_beside_nulls("n_unmatched", "int", "pairs", ">= 0", "pairs with the verdict unmatched"),
        Column("median_r_natural", "float", "1", "-1 to 1", "median held-out r of the pairs of detectors"),
        Column("median_r_natural_untrained", "float", "1", "-1 to 1", "their median r_natural_untrained"),
        Column("median_r_natural_haar", "float", "1", "-1 to 1", "their median r_natural_haar"),
        *_of_both("median_ceiling_*", "float", "1", "-1 to 1", "their median ceiling, layer {}"),
        Column("mean_r_aligned", "float", "1", "-1 to 1", "mean r_aligned of the pairs of detectors"),
        Column("mean_r_aligned_untrained", "float", "1", "-1 to 1", "their mean r_aligned_untrained"),
        Column("mean_r_aligned_haar", "float", "1", "-1 to 1", "their mean r_aligned_haar"),
        Column(
            "score_match",
            "float",
            "1",
            "-1 to 1",
            "2 x sum of r_match over the pairs of detectors / (detectors of A and B): 1 if every one meets its equal; "
            "the best pair of layers is chosen by it",
        ),
        *_beside_nulls(
            "score",
            "float",
            "1",
            "-1 to 1",
            "the same with the held-out r_natural: of the chosen pair of layers, report this",
        ),
        Column(
            "best",
            "bool",
            "1",
            "true | false",
            "largest score_match of all pairs of layers of these models, this family and method",
        ),
        Column(
            "best_score_untrained",
            "float",
            "1",
            "-1 to 1",
            "score of the pair of layers that the same choice finds among the untrained twins (mean over seeds)",
        ),
        Column(
            "best_score_haar",
            "float",
            "1",
            "-1 to 1",
            "score of the pair of layers that the same choice finds in random bases (mean of A and B turned)",
        ),
        Column("cka_measure", "string", "1", "measure", "first CKA that the job computed; empty if none"),
        Column("cka", "float", "1", "see measure", "its value for the two layers"),
        Column("cka_untrained", "float", "1", "see measure", "its value for the untrained twins"),
        Column("svcca_measure", "string", "1", "measure", "first SVCCA that the job computed; empty if none"),
        Column("svcca", "float", "1", "see measure", "its value for the two layers"),
        Column("svcca_untrained", "float", "1", "see measure", "its value for the untrained twins"),
        Column(
            "disagreement",
            "string",
            "1",
            "text",
            "where a similarity of layers and the matching of detectors say the opposite, both with their figures; empty otherwise. "
            "Layers alike: above 0.7, or by 0.05 above the untrained twins; unlike: by 0.05 below them. Detectors meet: the interval of met_a or met_b lies above chance",
        ),
    ),
)

CEILINGS = Table(
    "ceilings",
    "one layer, one family and one noisy copy of the network (nulls.noisy_copies): how much of itself it finds again, which bounds what it can "
    "share with another network",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("depth", "float", "1", "0 to 1", "relative depth of the tap"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("method", "string", "1", "hungarian | mutual_nearest", "how units were matched, among all live units"),
        Column(
            "copy_r",
            "float",
            "1",
            "0 to 1",
            "correlation of the copy's units with their originals that was asked for, over the network",
        ),
        Column("median_r", "float", "1", "-1 to 1", "median of it at this tap, on the held-out images"),
        Column("n_detectors", "int", "units", ">= 0", "detectors of the network"),
        Column("n_again", "int", "units", ">= 0", "of them, those that are detectors in the copy, too"),
        Column("n_own", "int", "units", ">= 0", "of them, those matched to themselves"),
        Column("n_met", "int", "units", ">= 0", "of them, those matched to a detector of the copy"),
        Column("share_met", "float", "1", "0 to 1", "n_met / n_detectors: ceiling of met_a and met_b"),
        Column("share_met_low", "float", "1", "0 to 1", "lower end of its 95 % Wilson interval"),
        Column("share_met_high", "float", "1", "0 to 1", "upper end"),
        Column("n_same_feature", "int", "units", ">= 0", "of them, those in a pair with the verdict same_feature"),
        Column(
            "share_same", "float", "1", "0 to 1", "n_same_feature / n_detectors: ceiling of the share that is the same"
        ),
        Column("share_same_low", "float", "1", "0 to 1", "lower end of its 95 % Wilson interval"),
        Column("share_same_high", "float", "1", "0 to 1", "upper end"),
        Column("expected_same_feature", "float", "units", ">= 0", "sum of the power of the pairs of detectors"),
        Column("median_r_natural", "float", "1", "-1 to 1", "median held-out r of the pairs of detectors"),
    ),
)

JOINT = Table(
    "joint",
    "one detector, or one unit that stands for chance, with its preference on turned natural images",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("seed", "int", "1", ">= -1", "-1 for the trained network, else the seed of its untrained twin"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        Column("detector", "bool", "1", "true | false", "passes the family's rule; false: drawn for chance"),
        Column(
            "joint_deg",
            "float",
            "degrees",
            "0 to 360",
            "preference on turned natural images, whose orientation the other detectors of the layer judge; NaN without an answer",
        ),
        Column("synthetic_deg", "float", "degrees", "0 to 360", "preference among drawings (preferred_deg)"),
        Column("difference_deg", "float", "degrees", "-180 to 180", "joint_deg - synthetic_deg, wrapped"),
        Column("agrees", "bool", "1", "true | false", "within 20 degrees"),
        Column(
            "chance", "float", "1", "0 to 1", "share of the layer's units drawn for chance that agree; 0.11 if uniform"
        ),
    ),
)


_FEATURE = (
    Column(
        "feature",
        "string",
        "1",
        "name",
        "a family, a family and the middle of a bin of orientation, any_unit, or a clique",
    ),
    Column(
        "family",
        "string",
        "1",
        "name in FAMILIES | any_unit | data-driven",
        "family of detectors; any_unit: every live unit; data-driven: cliques of which no unit is a detector",
    ),
    Column("angle_deg", "float", "degrees", "0 to 360", "middle of the bin of orientation; NaN for none"),
)

ATLAS = Table(
    "atlas",
    "one feature and one model of the zoo: a cell of the periodic table",
    (
        *_FEATURE,
        Column("model", "string", "1", "card id", "network"),
        Column(
            "tap",
            "string",
            "1",
            "tap name",
            "its tap with the most detectors; data-driven: that of the unit; empty for none",
        ),
        Column(
            "n_units",
            "int",
            "units",
            ">= 0",
            "detectors in the bin; data-driven: 1 where the model has a unit in the clique",
        ),
        Column(
            "n_untrained",
            "float",
            "units",
            ">= 0",
            "the same in its untrained twins (mean); data-driven: cliques of the twins per clique of the trained networks",
        ),
        Column("unit", "int", "1", ">= -1", "the unit with the most links, of equals the strongest; -1 for none"),
        Column("preferred_deg", "float", "degrees", "0 to 360", "its preferred orientation"),
        Column("r1", "float", "1", "0 to 1", "its first-harmonic selectivity"),
        Column("peak_sigma", "float", "sigma", ">= 0", "its peak"),
        Column(
            "links",
            "int",
            "networks",
            ">= 0",
            "other networks in which it has a partner: same_feature, or in its clique",
        ),
        Column("linked", "string", "1", "card ids", "their names"),
        Column("mean_r", "float", "1", "-1 to 1", "mean held-out correlation with these partners"),
        Column("stability", "float", "1", "0 to 1", "data-driven: stability of the clique, see cliques"),
    ),
)

CLIQUES = Table(
    "cliques",
    "one unit of a clique: units of several networks that are pairwise the same feature, without any network as a hub; no two cliques share a unit",
    (
        Column("clique", "int", "1", ">= 0", "number within the family, the largest cliques first"),
        Column("family", "string", "1", "name in FAMILIES | data-driven", "as in the table atlas"),
        Column("n_models", "int", "networks", ">= 3", "networks of the clique"),
        Column("model", "string", "1", "card id", "network"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        Column("preferred_deg", "float", "degrees", "0 to 360", "its preferred orientation; NaN for data-driven"),
        Column("mean_r", "float", "1", "-1 to 1", "mean held-out correlation with the others of the clique"),
        Column("least_r", "float", "1", "-1 to 1", "held-out correlation of the clique's weakest pair"),
        Column(
            "least_excess_low", "float", "1", "-2 to 2", "least lower end of the excess over random bases of its pairs"
        ),
        Column(
            "stability",
            "float",
            "1",
            "0 to 1",
            "share of resamples of the deciding photographs in which every pair is again among each other's best; that of the "
            "nulls is in clique_counts",
        ),
    ),
)

CLIQUE_COUNTS = Table(
    "clique_counts",
    "one kind of cliques in one kind of networks: trained, untrained twins, random bases; found by one rule in all",
    (
        Column(
            "family",
            "string",
            "1",
            "family | any_unit | data-driven",
            "as in the table atlas; any_unit: all cliques of units",
        ),
        Column(
            "networks",
            "string",
            "1",
            "trained | untrained | haar",
            "untrained: twins of one seed; haar: every layer in a random basis",
        ),
        Column("replicates", "int", "1", ">= 1", "seeds of twins, or random bases, that the means are over"),
        Column("least_models", "int", "networks", ">= 2", "smallest number of networks of a clique"),
        Column("n_units", "float", "units", ">= 0", "units that the rule is about (mean)"),
        Column("n_cliques", "float", "1", ">= 0", "maximal cliques (mean)"),
        Column(
            "n_disjoint",
            "float",
            "1",
            ">= 0",
            "of these, those that share no unit with a larger or more stable one (mean); of the trained networks, those in cliques",
        ),
        Column("n_stable", "float", "1", ">= 0", "of the disjoint ones, those of stability 0.5 at least (mean)"),
        Column("largest", "int", "networks", ">= 0", "networks of the largest clique of any replicate"),
        Column("stability", "float", "1", "0 to 1", "mean stability of the disjoint ones; NaN without any"),
    ),
)

_SHARES = (
    Column(
        "share",
        "float",
        "1",
        "0 to 1",
        "share of the feature's units of both networks that have a partner in the other",
    ),
    Column(
        "share_haar", "float", "1", "0 to 1", "the same share with the other network's layers in random bases (mean)"
    ),
    Column("index", "float", "1", "-1 to 1", "index of universality: share - share_haar"),
    Column("index_low", "float", "1", "-1 to 1", "lower end of its 95 % interval, see index.py; NaN: see note"),
    Column("index_high", "float", "1", "-1 to 1", "upper end of its 95 % interval"),
)

INDEX_BY_PAIR = Table(
    "index_by_pair",
    "one feature in one pair of networks, or of their untrained twins",
    (
        *_FEATURE,
        Column("model_a", "string", "1", "card id", "first network"),
        Column("model_b", "string", "1", "card id", "second network"),
        Column("seed", "int", "1", ">= -1", "-1 for the trained networks, else the seed of both untrained twins"),
        Column("group", "string", "1", "name in groups.SETTINGS", "what differs between the trained networks"),
        Column("n_a", "int", "units", ">= 0", "units of the first network that carry the feature, all taps"),
        Column("n_b", "int", "units", ">= 0", "units of the second network that carry it"),
        Column("n_shared", "int", "units", ">= 0", "units of both that have a partner in the other"),
        *_SHARES,
        Column("photograph_sd", "float", "1", ">= 0", "standard deviation of the share over resampled photographs"),
    ),
)


def _means(name: str, row: str) -> Table:
    return Table(
        name,
        row,
        (
            *_FEATURE,
            Column("group", "string", "1", "name in groups.SETTINGS | every pair | untrained", "which pairs"),
            Column(
                "n_pairs", "int", "pairs", ">= 1", "pairs of networks of which one at least has a unit of the feature"
            ),
            Column("n_models", "int", "networks", ">= 2", "networks of these pairs: so many are independent at most"),
            Column(
                "n_disjoint", "int", "pairs", ">= 1", "pairs of which no two share a network: so many are independent"
            ),
            Column("n_units", "int", "units", ">= 1", "different units of all networks that carry the feature"),
            *_SHARES,
            Column(
                "n_pairs_untrained",
                "int",
                "pairs",
                ">= 0",
                "pairs of the same networks' untrained twins that have such a unit",
            ),
            Column(
                "share_untrained",
                "float",
                "1",
                "0 to 1",
                "share of the twins; NaN where none of their units carries the feature",
            ),
            Column("index_untrained", "float", "1", "-1 to 1", "index of the twins"),
            Column("index_untrained_low", "float", "1", "-1 to 1", "lower end of its 95 % interval"),
            Column("index_untrained_high", "float", "1", "-1 to 1", "upper end of its 95 % interval"),
            Column("note", "string", "1", "text", "why there is no interval; empty otherwise"),
        ),
    )


INDEX_BY_GROUP = _means("index_by_group", "one feature, mean over the pairs of networks that differ in one respect")
INDEX_BY_FEATURE = _means("index_by_feature", "one feature, mean over all pairs of networks")

ATLAS_TABLES: dict[str, Table] = {
    table.name: table for table in (ATLAS, CLIQUES, CLIQUE_COUNTS, INDEX_BY_PAIR, INDEX_BY_GROUP, INDEX_BY_FEATURE)
}
"""What the stage ``atlas`` makes."""

_DTYPES = {"string": "string", "int": "int64", "float": "float64", "bool": "bool", "floats": "object"}


def empty_table(table: Table) -> pd.DataFrame:
    """Return a frame with the table's columns and kinds and no rows."""
    # Layers are compared by the ten thousand, and columns are made one by one: the frame is made once.
    return _empty(table).copy()


@cache
def _empty(table: Table) -> pd.DataFrame:
    import pandas as pd  # cards and jobs are validated with names from here, and no table is made then

    return pd.DataFrame({c.name: pd.Series(dtype=_DTYPES[c.kind]) for c in table.columns})


def as_table(table: Table, rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with exactly the table's columns, in order and of their kinds.

    Raises
    ------
    RunError
        If a column is missing, or one is there that the table does not describe.
    """
    missing = [name for name in table.names if name not in rows.columns]
    unknown = [name for name in rows.columns if name not in table.names]
    if missing or unknown:
        raise RunError(
            f"table '{table.name}' does not fit its schema: missing columns {missing}, unknown columns {unknown}; "
            "rerun the job with this version of the package"
        )
    # Not astype of all columns at once, which joins them again whether they change or not: tables are made by the ten thousand.
    kinds = _kinds(table)
    changed = {n: rows[n].astype(kind) for n, kind in kinds.items() if rows[n].dtype != kind}
    return rows[table.names].assign(**changed)


@cache
def _kinds(table: Table) -> dict[str, Any]:
    return dict(_empty(table).dtypes)
