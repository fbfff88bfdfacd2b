"""The table of units: columns that every family has, and those that each family declares."""

from __future__ import annotations

from universality.base.schema import Column, Table
from universality.features.families import FAMILIES

_OWN = tuple(column for family in FAMILIES.values() for column in family.columns)
_OF_NAIVE_RULES = tuple(column for column in _OWN if column.name.startswith("naive_"))
_AXES = ", ".join(f"of {name}: {family.angle}" for name, family in FAMILIES.items() if family.angle != "orientation")
_VARIANTS = "; ".join(f"{name}: {family.variants}" for name, family in FAMILIES.items())

UNITS = Table(
    "units",
    "one unit of one layer of one network (trained, or an untrained twin) and one family, with every criterion",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("seed", "int", "1", ">= -1", "-1 for the trained network, else the seed of its untrained twin"),
        Column("tap", "string", "1", "tap name", "layer"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("unit", "int", "1", ">= 0", "unit (channel index)"),
        Column("live", "bool", "1", "true | false", "varies in both folds of the natural crops"),
        Column(
            "preferred_deg",
            "float",
            "degrees",
            "0 to 360",
            f"preferred orientation ({_AXES}): circular mean of the tuning curve",
        ),
        Column("argmax_deg", "float", "degrees", "0 to 360", "orientation of the largest response"),
        Column(
            "r1",
            "float",
            "1",
            "0 to 1",
            "selectivity of the mean over variants: first harmonic, |sum r exp(i k theta)| / sum r with k = 360 / period",
        ),
        Column("r2", "float", "1", "0 to 1", "second-harmonic selectivity: two peaks half a period apart"),
        Column("fwhm_deg", "float", "degrees", "0 to 360", "contiguous full width at half maximum"),
        Column(
            "echo",
            "float",
            "1",
            "0 to 1",
            "largest response within a twelfth of the period (30 degrees of 360) of half a period from the peak / peak: opposite direction, or right angles",
        ),
        Column("peak_sigma", "float", "sigma", ">= 0", "peak of the tuning curve"),
        Column(
            "invariance",
            "float",
            "1",
            "-1 to 1",
            f"least correlation between the tuning curves of two variants ({_VARIANTS})",
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
        *(column for column in _OWN if column not in _OF_NAIVE_RULES),
        Column("naive_r1", "float", "1", "0 to 1", "r1 of the best variant (base frequency) alone"),
        Column("naive_peak_sigma", "float", "sigma", ">= 0", "peak of the best variant alone"),
        Column("naive_echo", "float", "1", "0 to 1", "echo of the best variant alone"),
        *_OF_NAIVE_RULES,
        Column("failed", "string", "1", "names", "criteria of the family's rule that are not met; empty for none"),
        Column("tuned", "bool", "1", "true | false", "live, tuned and invariant"),
        Column("detector", "bool", "1", "true | false", "passes the family's rule"),
        Column(
            "level",
            "string",
            "1",
            "strict | standard | early",
            "published (or clearest) form, detector, or detector but for what early layers are not asked for, such as silence for the opposite; empty for none",
        ),
        Column("strong", "bool", "1", "true | false", "detector whose peak exceeds 2 sigma"),
        Column("naive_detector", "bool", "1", "true | false", "passes the naive rule: not evidence"),
        Column(
            "tuning_sigma",
            "floats",
            "sigma",
            "any",
            "tuning curve over evenly spaced angles of one period from 0 degrees",
        ),
    ),
)
