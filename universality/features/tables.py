"""The tables of units: a narrow one with the columns of every family, and one for each family with its own."""

from __future__ import annotations

import pandas as pd

from universality.base.schema import Column, Table
from universality.features.families import FAMILIES, Family

_AXES = ", ".join(f"of {name}: {family.angle}" for name, family in FAMILIES.items() if family.angle != "orientation")
_VARIANTS = "; ".join(f"{name}: {family.variants}" for name, family in FAMILIES.items())
_LAYER = (
    Column("model", "string", "1", "card id", "network"),
    Column("seed", "int", "1", ">= -1", "-1 for the trained network, else the seed of its untrained twin"),
    Column("tap", "string", "1", "tap name", "layer"),
)
_UNIT = Column("unit", "int", "1", ">= 0", "unit (channel index)")
_KEYS = [column.name for column in (*_LAYER, _UNIT)]

UNITS = Table(
    "units",
    "one unit of one layer of one network (trained, or an untrained twin) and one family, with what every family has; the columns of "
    "one family alone are in its own table, units_FAMILY",
    (
        *_LAYER,
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        _UNIT,
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
        Column(
            "ties",
            "int",
            "images",
            ">= 1",
            "natural images at exactly the largest value that the unit hands on: more than one where a nonlinearity clips, such as ReLU6 (tuning and matching read the values before that), and all of them for a dead unit",
        ),
        Column("naive_r1", "float", "1", "0 to 1", "r1 of the best variant (base frequency) alone"),
        Column("naive_peak_sigma", "float", "sigma", ">= 0", "peak of the best variant alone"),
        Column("naive_echo", "float", "1", "0 to 1", "echo of the best variant alone"),
        Column("failed", "string", "1", "names", "criteria of the family's rule that are not met; empty for none"),
        Column("tuned", "bool", "1", "true | false", "live, tuned and invariant"),
        Column("detector", "bool", "1", "true | false", "passes the family's rule"),
        Column(
            "score",
            "float",
            "1",
            "any",
            "how far inside the rule: the least over its criteria of the distance to the threshold, in units of what the criterion loses in a "
            "detector's noisy copy; detectors have 0 and more",
        ),
        Column("near", "bool", "1", "true | false", "a detector or a near miss: score at least -1"),
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


def own_name(family: str) -> str:
    """Return the name of the table that holds the columns of one family alone."""
    return f"{UNITS.name}_{family}"


def _own(family: Family) -> Table:
    row = f"one unit of the table units, with what the family {family.name} alone has; a job without this family makes no such table"
    return Table(own_name(family.name), row, (*_LAYER, _UNIT, *family.columns), family=family.name)


OWN: dict[str, Table] = {name: _own(family) for name, family in FAMILIES.items()}
"""By family, the table of its own columns: a row for each of the family's rows of ``units``."""


def columns_of(family: str) -> tuple[Column, ...]:
    """Return every column that describes a unit of a family: those of ``units``, then the family's own."""
    return (*UNITS.columns, *FAMILIES[family].columns)


def joined(family: str, units: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one family in the table ``units``, in their order, with the family's own columns behind the others.

    Parameters
    ----------
    own : the family's own table
    """
    of_family = units[units["family"] == family]
    return of_family.merge(own, how="left", on=_KEYS, validate="one_to_one")


EXAMPLES = Table(
    "examples",
    "one natural example of one unit of a trained network: the part of a whole picture that the unit answers to most",
    (
        Column("model", "string", "1", "card id", "network"),
        Column("tap", "string", "1", "tap name", "layer"),
        _UNIT,
        Column(
            "kind", "string", "1", "top | spread", "top: of the largest answers; spread: at a quantile of all answers"
        ),
        Column("rank", "int", "1", ">= 1", "place among the unit's examples of its kind, the largest answer first"),
        Column("quantile", "float", "1", "0 to 1", "share of the pictures to which the unit answers less"),
        Column("value", "float", "a.u.", "any", "the unit's largest answer over all counted positions of the picture"),
        Column(
            "sigma",
            "float",
            "sigma",
            "any",
            "the same, divided by the unit's standard deviation over the job's natural images",
        ),
        Column("picture", "string", "1", "name", "photograph, drawn image, or file of one's own"),
        Column("source", "string", "1", "photograph | drawn | own", "where the picture is from"),
        Column(
            "number", "int", "1", ">= 0", "of the drawn image, or of the folder of one's own images; 0 for photographs"
        ),
        Column(
            "fold",
            "int",
            "1",
            "0 | 1",
            "half of the natural images that the picture is in: 0 decides matches, 1 scores them",
        ),
        Column("licence", "string", "1", "text", "author and licence of the photograph, where they are known"),
        Column(
            "x_px",
            "float",
            "px",
            "any",
            "left border of the receptive field in the picture, in the picture's own px; may lie beyond it",
        ),
        Column("y_px", "float", "px", "any", "top border of it"),
        Column("side_px", "float", "px", "> 0", "side of it"),
        Column(
            "field",
            "bool",
            "1",
            "true | false",
            "whether it is a receptive field; else the unit sees the whole image, and this is all of it",
        ),
    ),
)
