"""The atlas of a run as files: tables, pictures, and findings in sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import figures
from universality.atlas.cells import DATA_DRIVEN
from universality.base import schema
from universality.correspondence.links import ANY_UNIT
from universality.features.families import FAMILIES
from universality.runs import sidecars
from universality.runs.run import Run
from universality.stimuli import sets

_EXAMPLES = 3
"""Images per cell of the data-driven figure."""
_EXAMPLE_PX = 64


def write_atlas(run: Run, folder: Path) -> tuple[list[Path], dict[str, pd.DataFrame]]:
    """Write the atlas of a run to `folder`, every table as CSV, and its figures; return the files and the tables.

    Checksums of all files, and where their numbers come from, are in ``provenance.json`` beside them.

    Raises
    ------
    RunError
        The run has no atlas: that stage was left out.
    """
    tables = {name: run.table(name) for name in schema.ATLAS_TABLES}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        table.to_csv(files[-1], index=False, lineterminator="\n")
    files += _draw(run, tables, folder)
    return [*files, sidecars.write(run, folder, files)], tables


def _draw(run: Run, tables: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    cells = tables["atlas"]
    nouns = {ANY_UNIT: "all units"} | {family: FAMILIES[family].noun for family in run.job.comparison.families}
    drawn = {
        "index_by_group": figures.index_by_group(tables["index_by_pair"], tables["index_by_group"], nouns),
        "index_by_feature": figures.index_by_feature(tables["index_by_feature"], nouns),
    }
    for family in run.job.comparison.families:
        units, kind = run.units[run.units["family"] == family], FAMILIES[family]
        drawn[f"atlas__{family}"] = figures.atlas_cells(
            cells[cells["family"] == family], units, kind.noun, period_deg=kind.period_deg, angle=kind.angle
        )
    free = cells[cells["family"] == DATA_DRIVEN]
    if len(free):
        drawn["atlas__data_driven"] = figures.clique_images(free, _examples(run, free))
    of_families = figures.clique_nouns(run.job.comparison.families)
    drawn["cliques"] = figures.clique_matrix(tables["cliques"], tables["clique_counts"], run.families, of_families)
    return [
        file
        for name, axes in drawn.items()
        for file in figures.save(
            figures.figure_of(axes), folder / name, run.record["provenance"], kind=name.split("__")[0]
        )
    ]


def _examples(run: Run, cells: pd.DataFrame) -> dict[tuple[str, str, int], NDArray[np.float32]]:
    """Return the natural images that excite each unit most, those of the scoring fold: no match was decided on them."""
    answers = {}
    for (model, tap), group in cells[cells["unit"] >= 0].groupby(["model", "tap"], sort=False):
        shown = run.activations(str(model), str(tap))
        held_out = np.flatnonzero(shown["fold"].values == 1)
        values = shown.values[held_out]
        values = values if values.ndim == 2 else values.max(axis=1)
        for unit in group["unit"]:
            rows = held_out[np.argsort(-values[:, unit], kind="stable")[:_EXAMPLES]]
            drawn = sets.render("natural", run.job.stimuli, _EXAMPLE_PX, rows).values
            answers[str(model), str(tap), int(unit)] = drawn
    return answers


def findings(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Return the findings of a run's atlas in sentences, each number beside its null."""
    return [*_bins(tables["atlas"]), *_cliques(tables["clique_counts"]), *_groups(tables["index_by_group"])]


def _noun(family: str) -> str:
    return FAMILIES[family].noun if family in FAMILIES else {ANY_UNIT: "all units"}.get(family, family)


def _angle(family: str) -> str:
    return FAMILIES[family].angle if family in FAMILIES else "orientation"


def _bins(cells: pd.DataFrame) -> list[str]:
    said = []
    for family, rows in cells[cells["angle_deg"].notna()].groupby("family", sort=False):
        held = rows[rows["n_units"] > 0].groupby("angle_deg")["model"].nunique()
        models = rows["model"].nunique()
        said.append(
            f"{_noun(str(family))}: {int((held == models).sum())} of {rows['angle_deg'].nunique()} bins of {_angle(str(family))} are held by "
            f"every one of {models} models ({rows['n_units'].sum()} units at their best taps; their untrained twins "
            f"{rows['n_untrained'].sum():g})"
        )
    return said


def _cliques(counts: pd.DataFrame) -> list[str]:
    said = []
    for family, rows in counts.groupby("family", sort=False):
        trained, *nulls = (rows[rows["networks"] == name].iloc[0] for name in ("trained", "untrained", "haar"))
        stable = f" (mean stability {trained['stability']:.0%})" if trained["n_disjoint"] else ""
        beside = ", ".join(
            f"{null['n_disjoint']:g} in {name}"
            for null, name in zip(nulls, ("untrained twins", "random bases"), strict=True)
        )
        said.append(
            f"cliques of {trained['least_models']} models or more, {_noun(str(family))}: {trained['n_disjoint']:g} that share no "
            f"unit, {trained['n_stable']:g} of them stable{stable}; {beside}"
        )
    return said


def _groups(means: pd.DataFrame) -> list[str]:
    said = []
    for row in means[means["angle_deg"].isna()].to_dict("records"):
        interval = f"{_plain(row['index_low'])} to {_plain(row['index_high'])}" if not row["note"] else row["note"]
        twins = (
            f"untrained {_plain(row['index_untrained'])}"
            if row["n_pairs_untrained"]
            else "untrained twins have no such unit"
        )
        said.append(
            f"index, {_noun(str(row['family']))}, {row['group']} ({row['n_pairs']} {'pair' if row['n_pairs'] == 1 else 'pairs'}, {row['n_models']} networks): "
            f"{_plain(row['index'])} ({interval}; share {row['share']:.3f}, in random bases {row['share_haar']:.3f}; {twins})"
        )
    return said


def _plain(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # no -0.000
