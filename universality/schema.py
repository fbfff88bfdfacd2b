"""Every dimension, coordinate, attribute and table-column name, once, with its meaning.

Tables are described by :class:`Table`: the order of its columns, their kinds, units and ranges. The
validators here run once, where a table is written or read; the documentation and the Parquet metadata are
made from the same descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from universality.errors import RunError

FORMAT_VERSION = 1
"""Version of the stores and run directories; raised when an older reader could misread them."""

# Dimensions of labelled arrays.
STIMULUS = "stimulus"
POSITION = "position"
UNIT = "unit"
CHANNEL = "channel"
Y = "y"
X = "x"

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
    """A table's name, what one row is, and its columns in order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]


def _pair_identity() -> tuple[Column, ...]:
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
        *_pair_identity(),
        Column("measure", "string", "1", "name in COMPARATORS", "comparator, named with its variant"),
        Column("direction", "string", "1", "similarity | distance", "whether larger means more alike"),
        Column("value", "float", "1", "see measure", "score of the trained layers"),
        Column("value_untrained", "float", "1", "see measure", "mean score of the untrained twins of both layers"),
        Column(
            "value_haar",
            "float",
            "1",
            "see measure",
            "mean score after a Haar-random rotation of layer B's basis: equal to value for a measure that does "
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
        Column("rf_px", "int", "px", ">= 1", "receptive field (side) at the network's input size"),
        Column("family", "string", "1", "curve | high_low_frequency", "family of detectors"),
        Column("rule", "string", "1", "rule name", "detector rule, see detectors.py"),
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
        Column("share", "float", "1", "0 to 1", "n_detectors / n_units"),
        Column("share_low", "float", "1", "0 to 1", "lower end of the 95 % Wilson interval of share"),
        Column("share_high", "float", "1", "0 to 1", "upper end of the 95 % Wilson interval of share"),
        Column("share_strong", "float", "1", "0 to 1", "share of detectors whose peak exceeds 2 sigma"),
        Column("coverage", "float", "1", "0 to 1", "share of 30-degree bins of orientation that hold a detector"),
        Column("largest_gap_deg", "float", "degrees", "0 to 360", "largest gap between neighbouring preferred angles"),
        Column("mean_r1", "float", "1", "0 to 1", "mean first-harmonic selectivity of the detectors"),
        Column("mean_fwhm_deg", "float", "degrees", "0 to 360", "mean full width at half maximum of the detectors"),
        Column("mean_echo", "float", "1", "0 to 1", "mean response within 30 degrees of the opposite / peak"),
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
        Column("share_haar", "float", "1", "0 to 1", "the same share after Haar-random rotations of the layer (mean)"),
        Column("share_strong_haar", "float", "1", "0 to 1", "share_strong after Haar-random rotations (mean)"),
        Column("coverage_haar", "float", "1", "0 to 1", "coverage after Haar-random rotations (mean)"),
        Column(
            "largest_gap_haar_deg", "float", "degrees", "0 to 360", "largest gap after Haar-random rotations (mean)"
        ),
        Column("share_shuffled", "float", "1", "0 to 1", "the same share with the stimuli's angles shuffled (mean)"),
    ),
)

CORRESPONDENCE = Table(
    "correspondence",
    "one unit of layer A matched to one unit of layer B, at least one of them a detector of the family",
    (
        *_pair_identity(),
        Column("family", "string", "1", "curve | high_low_frequency", "family of detectors"),
        Column("method", "string", "1", "hungarian | mutual_nearest", "how the pair was matched, among all live units"),
        Column("unit_a", "int", "1", ">= 0", "unit (channel index) in layer A"),
        Column("unit_b", "int", "1", ">= 0", "unit (channel index) in layer B"),
        Column("detector_a", "bool", "1", "true | false", "unit_a is a detector on its own"),
        Column("detector_b", "bool", "1", "true | false", "unit_b is a detector on its own"),
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
            "held-out r of unit_a with its best partner (by fold 0) in the untrained twin of layer B (mean over seeds)",
        ),
        Column(
            "r_natural_haar",
            "float",
            "1",
            "-1 to 1",
            "held-out r of unit_a with its best partner (by fold 0) in Haar-random rotations of layer B (mean)",
        ),
        Column("excess", "float", "1", "-2 to 2", "r_natural - r_natural_haar"),
        Column(
            "excess_low",
            "float",
            "1",
            "-2 to 2",
            "lower end of its 95 % interval, over photographs and over random bases",
        ),
        Column("excess_high", "float", "1", "-2 to 2", "upper end of its 95 % interval"),
        Column(
            "p",
            "float",
            "1",
            "0 to 1",
            "share of permutations (photographs as wholes, drawn images among themselves) in which the best of all units of B reaches r_natural with unit_a",
        ),
        Column("q", "float", "1", "0 to 1", "Benjamini-Hochberg q of p within the pair of models, family and method"),
        Column(
            "verdict",
            "string",
            "1",
            "same_feature | correlated_only | family_only | unmatched",
            "from unit_a's side; same_feature: both detectors, each among the other's best 3, excess_low above 0, orientations within 20 degrees; "
            "correlated_only: excess_low above 0; family_only: both detectors; unmatched: neither",
        ),
        Column("r_tuning", "float", "1", "-1 to 1", "correlation of the tuning curves, not shifted"),
        Column("r_aligned", "float", "1", "-1 to 1", "maximum circular cross-correlation of the tuning curves"),
        Column("shift_deg", "float", "degrees", "-180 to 180", "rotation of curve A that reaches r_aligned"),
        Column(
            "r_tuning_untrained", "float", "1", "-1 to 1", "r_tuning of unit_a with that partner in the untrained twin"
        ),
        Column("r_aligned_untrained", "float", "1", "-1 to 1", "r_aligned with that partner in the untrained twin"),
        Column("r_tuning_haar", "float", "1", "-1 to 1", "r_tuning of unit_a with that partner in the rotated layer"),
        Column("r_aligned_haar", "float", "1", "-1 to 1", "r_aligned with that partner in the rotated layer"),
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
        Column("family_rate_b", "float", "1", "0 to 1", "share of detectors in layer B: chance that unit_b is one"),
        Column("n_match", "int", "rows", ">= 3", "natural images (times places, for positions) that decided the match"),
        Column("n_score", "int", "rows", ">= 3", "natural images (times places, for positions) that scored it"),
    ),
)

UNITS = Table(
    "units",
    "one unit of one layer of one network (trained, or an untrained twin) and one family, with every criterion",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("seed", "int", "1", ">= -1", "-1 for the trained network, else the seed of its untrained twin"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("family", "string", "1", "curve | high_low_frequency", "family of detectors"),
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        Column("live", "bool", "1", "true | false", "varies in both folds of the natural crops"),
        Column(
            "preferred_deg", "float", "degrees", "0 to 360", "preferred orientation: circular mean of the tuning curve"
        ),
        Column("argmax_deg", "float", "degrees", "0 to 360", "orientation of the largest response"),
        Column("r1", "float", "1", "0 to 1", "first-harmonic selectivity of the mean over variants and curvatures"),
        Column("r2", "float", "1", "0 to 1", "second-harmonic selectivity: an axis rather than a direction"),
        Column("fwhm_deg", "float", "degrees", "0 to 360", "contiguous full width at half maximum"),
        Column("echo", "float", "1", "0 to 1", "largest response within 30 degrees of the opposite / peak"),
        Column("peak_sigma", "float", "sigma", ">= 0", "peak of the tuning curve"),
        Column(
            "invariance",
            "float",
            "1",
            "-1 to 1",
            "least correlation between the tuning curves of two variants (curves: thin, filled, dark, bright; high-low: base frequencies)",
        ),
        Column(
            "deviation_deg",
            "float",
            "degrees",
            "0 to 180",
            "largest distance of a variant's preferred direction from that of the mean over variants",
        ),
        Column("weakest_variant", "float", "1", "0 to 1", "peak of the weakest variant / peak of the strongest"),
        Column(
            "relative_sigma",
            "float",
            "1",
            ">= 0",
            "standard deviation over natural images / median of the layer's live units",
        ),
        Column(
            "symmetry",
            "float",
            "1",
            "-1 to 1",
            "curves: correlation of the tuning curves (one for each curvature) with their mirror images about the preferred direction",
        ),
        Column("curve_over_line", "float", "1", ">= 0", "curves: best response to a curve / best response to a line"),
        Column("curve_over_part", "float", "1", ">= 0", "curves: best response to an arc / to a third of an arc"),
        Column(
            "curve_over_corner", "float", "1", ">= 0", "curves: best response to an arc / to a corner of its tangents"
        ),
        Column("curve_over_circle", "float", "1", ">= 0", "curves: best response to an arc / to its whole circle"),
        Column(
            "curve_over_scrambled", "float", "1", ">= 0", "curves: best response to an arc / to one with random phases"
        ),
        Column(
            "preferred_curvature", "float", "1 / image side", "> 0", "curves: best curvature; NaN if a line is better"
        ),
        Column(
            "over_same_frequency", "float", "1", ">= 0", "high-low: peak / response to a seam between equal frequencies"
        ),
        Column("over_full_field", "float", "1", ">= 0", "high-low: peak / response to one texture without a boundary"),
        Column("over_contrast_edge", "float", "1", ">= 0", "high-low: peak / response to a step in contrast"),
        Column("over_luminance_edge", "float", "1", ">= 0", "high-low: peak / response to a step in luminance"),
        Column("naive_r1", "float", "1", "0 to 1", "r1 of the best variant (base frequency) alone"),
        Column("naive_peak_sigma", "float", "sigma", ">= 0", "peak of the best variant alone"),
        Column("naive_echo", "float", "1", "0 to 1", "echo of the best variant alone"),
        Column("naive_curve_over_line", "float", "1", ">= 0", "curve_over_line of the best variant alone"),
        Column("failed", "string", "1", "names", "criteria of the family's rule that are not met; empty for none"),
        Column("tuned", "bool", "1", "true | false", "live, tuned and invariant"),
        Column("detector", "bool", "1", "true | false", "passes the family's rule"),
        Column(
            "level",
            "string",
            "1",
            "strict | standard | early",
            "published form, detector, or detector but for its answer to the opposite; empty for none",
        ),
        Column("strong", "bool", "1", "true | false", "detector whose peak exceeds 2 sigma"),
        Column("naive_detector", "bool", "1", "true | false", "passes the naive rule: not evidence"),
        Column("tuning_sigma", "floats", "sigma", "any", "tuning curve over evenly spaced orientations from 0 degrees"),
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
"""Written by ``universality detectors RUN --joint`` beside the tables of a run."""

TABLES: dict[str, Table] = {table.name: table for table in (SIMILARITY, CORRESPONDENCE, FAMILIES, UNITS)}

_DTYPES = {"string": "string", "int": "int64", "float": "float64", "bool": "bool", "floats": "object"}


def empty_table(table: Table) -> pd.DataFrame:
    """Return a frame with the table's columns and kinds and no rows."""
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
    return rows[table.names].astype({c.name: _DTYPES[c.kind] for c in table.columns})


def tables_markdown() -> str:
    """Return the description of all tables as Markdown: it is ``docs/tables.md``."""
    parts = [
        "# Tables of a run\n\nEvery column, its unit, range and meaning. The same words are in the metadata of the Parquet "
        "files. This page is\nmade from `universality/schema.py`.\n"
    ]
    for table in TABLES.values():
        parts.append(
            f"\n## {table.name}.parquet\n\nOne row: {table.row}.\n\n| column | kind | unit | range | meaning |\n"
        )
        parts.append("|---|---|---|---|---|\n")
        for column in table.columns:
            cells = (f"`{column.name}`", column.kind, column.unit, column.range, column.meaning)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)
