"""What the page's own script reads: tables by columns, cards of units, the atlas, as plain values that JSON can hold.

Large tables are cut, most important rows first, and the page says so with the name of the file that has everything. Numbers are
rounded to four significant digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from universality.atlas import cells
from universality.base import schema
from universality.base.errors import RunError, UniversalityError
from universality.correspondence.verdict import VERDICTS
from universality.features import checks
from universality.features.families import FAMILIES
from universality.features.tables import OWN, UNITS, joined, own_name
from universality.report import pictures
from universality.report.sentences import noun_of
from universality.runs.drawn import drawn_taps, spread
from universality.runs.run import Run
from universality.runs.tables import TABLES
from universality.similarity.matching import HOW

MOST_ROWS = {"units": 8000, "correspondence": 8000, "similarity": 20_000}
MOST_OTHER_ROWS = 2000
GALLERY_PAIRS = 8
SHOWN = {
    "families": (
        "model", "tap", "depth", "family", "n_units", "n_dead", "n_detectors", "share", "share_low", "share_high",
        "share_untrained", "share_haar", "share_shuffled", "share_naive", "share_naive_untrained",
    ),
    "similarity": (
        "model_a", "tap_a", "model_b", "tap_b", "measure", "value", "value_untrained", "value_haar", "value_shuffled", "n", "reason",
    ),
    "correspondence": (
        "model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b", "family", "verdict", "r_natural", "r_natural_low", "r_natural_high",
        "r_natural_haar", "r_natural_untrained", "q", "method", "r_tuning", "delta_theta_deg",
    ),
    "correspondence_nulls": (
        "null", "seed", "model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b", "family", "verdict", "r_natural", "r_natural_low",
        "r_natural_high", "r_natural_haar", "method",
    ),
    "pairs": (
        "model_a", "tap_a", "model_b", "tap_b", "family", "n_same_feature", "n_same_feature_untrained", "n_same_feature_haar",
        "n_met", "n_met_untrained", "n_met_haar", "n_detectors_a", "n_detectors_b", "method",
    ),
    "units": (
        "model", "tap", "unit", "family", "detector", "level", "preferred_deg", "r1", "fwhm_deg", "echo", "peak_sigma", "invariance",
        "failed",
    ),
    "ledger": (
        "claim", "of", "statement", "verdict", "measured", "low", "high", "null", "ceiling", "n", "n_networks", "reason", "before_run", "known",
    ),
    "atlas": ("family", "angle_deg", "model", "tap", "n_units", "n_untrained", "unit", "preferred_deg", "links", "linked"),
}  # fmt: skip
"""Columns that a table shows before a reader asks for all of them, the least important last; a table not named here shows them all."""
_FIRST = ("families", "similarity", "correspondence", "units")
Plain = dict[str, Any]


def page_data(run: Run, each: pictures.Each = map) -> Plain:
    """Return everything the page's script needs; `each` does its pieces of work."""
    families = list(dict.fromkeys(run.families["family"])) if run.has("families") else []
    matches = (
        chosen_matches(run.correspondence) if run.has("correspondence") else schema.empty_table(schema.CORRESPONDENCE)
    )
    units = chosen_units(run.table("units"), matches) if run.has("units") else schema.empty_table(UNITS)
    chosen = {"correspondence": matches, "units": _with_own(run, units)}
    tables = {}
    for name in sorted((name for name in run.tables if not _of_one_family(name)), key=_place):
        rows = chosen[name] if name in chosen else run.table(name)
        tables[name] = table_of(name, rows.head(MOST_ROWS.get(name, MOST_OTHER_ROWS)), len(_whole(run, name)))
    if "atlas" not in tables and run.has("families", "units", "correspondence"):
        rows = cells.atlas(run)  # the known families; cliques need the stage
        tables["atlas"] = table_of("atlas", rows.head(MOST_OTHER_ROWS), len(rows))
    with suppress(RunError):  # a run without published statements has no checks; the page leaves the section out
        rows = checks.checks(run)
        tables["checks"] = table_of("checks", rows.head(MOST_OTHER_ROWS), len(rows))
    if run.has("ledger"):
        # What was decided comes first: most claims are about other runs.
        rows = run.table("ledger").sort_values("verdict", key=lambda of: of.eq("undecided"), kind="stable")
        tables["ledger"] = table_of("ledger", rows, len(rows))
    return {
        "families": {family: _family(family) for family in families},
        "tables": tables,
        "tuning": [_numbers(tuning, 3) for tuning in units["tuning_sigma"]],
        "boxes": _boxes(run.families, run.job.extraction.reduction) if families else {},
        "gallery": list(_gallery(run, matches, families)) if run.has("similarity", "correspondence") else [],
        "matched": HOW[run.job.matched_by()],
        "verdicts": VERDICTS,
        **_pictures(run, units, families, each),
    }


def _of_one_family(name: str) -> bool:
    return name in TABLES and TABLES[name].family is not None


def _with_own(run: Run, units: pd.DataFrame) -> pd.DataFrame:
    """Return units of several families with the columns of each: a card shows the value of every criterion."""
    parts = []
    for family in dict.fromkeys(units["family"]):
        of_family = joined(family, units, run.table(own_name(family)))
        parts.append(of_family.set_index(units.index[units["family"] == family]))
    return pd.concat(parts).sort_index() if parts else units


def _place(name: str) -> int:
    """Return where a table stands on the page: those that its sections are about come first, then the order of all tables."""
    order = [*_FIRST, *TABLES]
    return order.index(name) if name in order else len(order)


def _whole(run: Run, name: str) -> pd.DataFrame:
    rows = run.table(name)
    return rows[rows["seed"] == -1] if name == "units" else rows


def chosen_units(units: pd.DataFrame, correspondence: pd.DataFrame, most: int | None = None) -> pd.DataFrame:
    """Return the trained units that get a card: detectors, then units matched with one, then those that fail fewest criteria.

    All families of a unit count together, and the rows keep the table's order.
    """
    most = MOST_ROWS["units"] if most is None else most
    trained = units[units["seed"] == -1].reset_index(drop=True)
    if len(trained) <= most:
        return trained
    keys = pd.MultiIndex.from_frame(trained[["model", "tap", "unit"]])
    sides = [correspondence[[f"{c}_{s}" for c in ("model", "tap", "unit")]].to_numpy().tolist() for s in "ab"]
    matched = keys.isin([tuple(row) for side in sides for row in side])
    fails = np.array([len(names.split(",")) if names else 0 for names in trained["failed"]])
    rank = np.where(trained["detector"], -2, np.where(matched, -1, fails))
    order = pd.Series(rank).groupby(keys).transform("min").sort_values(kind="stable").index[:most]
    return trained.loc[np.sort(order)].reset_index(drop=True)


def chosen_matches(correspondence: pd.DataFrame, most: int | None = None) -> pd.DataFrame:
    """Return at most so many matched pairs, pairs of detectors first and of these the largest held-out r, in table order."""
    most = MOST_ROWS["correspondence"] if most is None else most
    both = correspondence["detector_a"] & correspondence["detector_b"]
    order = correspondence.assign(_both=both).sort_values(["_both", "r_natural"], ascending=False, kind="stable")
    return correspondence.loc[np.sort(order.index[:most])].reset_index(drop=True)


def table_of(name: str, rows: pd.DataFrame, total: int) -> Plain:
    """Return a table by columns, with every column's unit and meaning where the schema states them.

    Strings are numbers into a column's `levels`; what has no value is null; curves are left out.
    """
    # Units are shown with the columns of their families.
    sources = [TABLES[name], *(OWN.values() if name == UNITS.name else ())] if name in TABLES else []
    described = {c.name: c for source in sources for c in source.columns}
    most = MOST_ROWS.get(name, MOST_OTHER_ROWS)
    rows = rows.head(most)
    columns = []
    for column in rows.columns:
        known = described.get(column)
        if known is not None and known.kind == "floats":
            continue
        about = {"name": column, "unit": known.unit if known else "", "meaning": known.meaning if known else ""}
        columns.append(about | _values(rows[column]))
    shown = [c for c in SHOWN.get(name, tuple(c["name"] for c in columns)) if c in rows.columns]
    file = f"{name}.parquet" if name in TABLES else ""
    return {"name": name, "file": file, "columns": columns, "shown": shown, "rows": len(rows), "total": total}


def _values(column: pd.Series) -> Plain:
    if pd.api.types.is_bool_dtype(column):
        return {"kind": "bool", "values": column.astype(int).tolist()}
    if pd.api.types.is_numeric_dtype(column):
        return {"kind": "number", "values": _numbers(column.to_numpy(), 4)}
    # Truth values with gaps and mixed columns come as objects: text, with None for a gap.
    texts = [None if value is None or value is pd.NA else str(value) for value in column]
    levels = list(dict.fromkeys(text for text in texts if text is not None))
    place: dict[str | None, int | None] = {None: None} | {text: index for index, text in enumerate(levels)}
    return {"kind": "text", "levels": levels, "values": [place[text] for text in texts]}


def _numbers(values: Any, digits: int) -> list[float | int | str | None]:
    if np.issubdtype(np.asarray(values).dtype, np.integer):
        return [int(value) for value in values]
    return [_number(float(value), digits) for value in values]


def _number(value: float, digits: int) -> float | int | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _family(name: str) -> Plain:
    """Return a family's noun, what its angles are called, their period in degrees, and its criteria with reasons."""
    if name not in FAMILIES:
        return {"noun": noun_of(name), "angle": "orientation", "period": 360, "criteria": []}
    family = FAMILIES[name]
    return {
        "noun": family.noun,
        "angle": family.angle,
        "period": family.period_deg,
        "criteria": [
            {"column": c.column, "op": c.op, "threshold": c.threshold, "reason": c.reason} for c in family.rule.criteria
        ],
    }


def _boxes(families: pd.DataFrame, reduction: str) -> Plain:
    """Return by layer the side of the receptive field as a share of the scene's side; none where units were pooled over places."""
    boxes: Plain = {}
    if reduction != "center":
        return boxes
    for row in families.drop_duplicates(["model", "tap"]).to_dict("records"):
        # A picture shows the whole scene, which is the input or, under the policy same_receptive_field, about the field itself.
        share = min(row["rf_px"] / row["scene_px"], 1.0) if row["rf_px"] else 1.0
        boxes[f"{row['model']}|{row['tap']}"] = round(share, 3)
    return boxes


def _gallery(run: Run, matches: pd.DataFrame, families: Sequence[str]) -> Any:
    """Yield for every drawn pair of models and family the rows of the page's correspondence table that are shown as pictures.

    `all` has those of every matched pair of detectors at the taps, by preferred angle, and `rows` some of them that are spread evenly.
    """
    detectors = matches[matches["detector_a"] & matches["detector_b"] & (matches["method"] == run.job.matched_by())]
    for a, b in run.job.drawn():
        for family in families:
            taps = drawn_taps(run.similarity, run.families, family, a, b)
            here = detectors[
                (detectors["model_a"] == a) & (detectors["model_b"] == b) & (detectors["tap_a"] == taps[0])
                & (detectors["tap_b"] == taps[1]) & (detectors["family"] == family)
            ]  # fmt: skip
            here = here.sort_values("preferred_a_deg", kind="stable")
            rows = spread(here, GALLERY_PAIRS).index.tolist() if len(here) else []
            yield {"family": family, "a": a, "b": b, "taps": taps, "rows": rows, "all": here.index.tolist()}


def _pictures(run: Run, units: pd.DataFrame, families: Sequence[str], each: pictures.Each) -> Plain:
    """Return the album and what each unit shows of it; without stores or photographs none, and the reason."""
    album = pictures.Album()
    order = units.sort_values("detector", ascending=False, kind="stable")[["model", "tap", "unit"]].drop_duplicates()
    try:
        wanted = [(str(model), str(tap), int(unit)) for model, tap, unit in order.itertuples(index=False)]
        of_units = pictures.pictures_of(run, wanted, families, album, each)
        images = pictures.encoded(album, run, each)
    except (UniversalityError, OSError) as error:
        return {"pictures": [], "unit_pictures": {}, "no_pictures": str(error).split(";")[0]}
    named = {f"{model}|{tap}|{unit}": shown for (model, tap, unit), shown in of_units.items()}
    note = f"the page holds {len(images)} images, so some units show none" if album.full else ""
    return {"pictures": images, "unit_pictures": named, "no_pictures": note}
