"""One job in every basis: units, random directions, NMF, sparse autoencoders of one network and of all, and of all with the images of all but one in another order.

Usage: python analyses/directions/run.py [--job FILE] [--runs DIR] [--store DIR] [--tables DIR] [--docs DIR] [--only BASIS ...]

Runs the job once for each basis (activations are shared, and what exists is not computed again) and writes ``bases.csv``, one row for each basis and kind of feature with the
nulls beside every figure; ``gaps.csv``, whether detectors of a basis lie where the family of units has its gaps; and ``directions_bases.png`` to --docs. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from universality import run
from universality.activations.dictionaries.spec import DictionarySpec
from universality.activations.layer import load_layer
from universality.features import answers
from universality.features.tuning import largest_gap
from universality.figures import DOUBLE_MM, MM, style
from universality.runs.job import Job, read_job
from universality.runs.layers import references
from universality.runs.run import Run

HERE = Path(__file__).parent
BASES = ("units", "haar", "nmf", "sae", "universal_sae", "universal_sae_shuffled")
_QUALITY = (
    "r2", "r2_frozen", "r2_haar", "l0", "n_dead", "stability", "stability_frozen", "share_stable", "interference", "interference_frozen", "n_units_each",
    "n_units_each_frozen", "dimensions", "features_per_dimension", "share_independent", "share_independent_frozen", "firing_entropy", "cofiring", "cofiring_chance",
)  # fmt: skip
_DRAWS = 999


def in_basis(job: Job, name: str) -> Job:
    """Return the job in one of `BASES`."""
    basis = "universal_sae" if name == "universal_sae_shuffled" else name
    learnt = job.dictionary if basis not in ("units", "haar") else DictionarySpec(directions=job.dictionary.directions)
    chosen = learnt.model_copy(update={"shuffled_images": name == "universal_sae_shuffled"})
    named = {"name": f"{job.name}-{name}", "basis": basis, "dictionary": chosen}
    return Job.model_validate(job.model_copy(update=named).plain())


def rows(finished: Run, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a basis: one for each family, and one for directions of whatever kind (``any``)."""
    index, counts = finished.table("index_by_feature"), finished.table("clique_counts")
    families, found = finished.families, finished.correspondence
    for family in ("any", *finished.job.comparison.families):
        row: dict[str, Any] = {"basis": name, "family": family}
        if family != "any":
            of = families[families["family"] == family]
            matched = found[found["family"] == family]
            of_family = matched["verdict"].isin(("same_feature", "family_only"))
            row |= {
                "n_directions": int(of["n_units"].sum()), "n_detectors": int(of["n_detectors"].sum()), "share": of["n_detectors"].sum() / of["n_units"].sum(),
                "share_untrained": of["share_untrained"].mean(), "share_haar": of["share_haar"].mean(), "coverage": of["coverage"].mean(),
                "largest_gap_deg": of["largest_gap_deg"].mean(), "largest_gap_haar_deg": of["largest_gap_haar_deg"].mean(),
                "n_pairs": len(matched), "n_same_feature": int((matched["verdict"] == "same_feature").sum()), "n_family_only": int(of_family.sum()),
                "median_r": matched["r_natural"].median(), "median_r_untrained": matched["r_natural_untrained"].median(), "median_r_haar": matched["r_natural_haar"].median(),
            }  # fmt: skip
        key = "any_unit" if family == "any" else family
        shared = index[(index["family"] == key) & index["angle_deg"].isna()].head(1)
        for column in ("share", "share_haar", "share_untrained", "index", "index_low", "index_high"):
            row[f"shared_{column}"] = float(shared[column].iloc[0]) if len(shared) else np.nan
        of_cliques = counts[(counts["family"] == key) & (counts["least_models"] == 3)]
        for networks, part in of_cliques.groupby("networks"):
            row[f"cliques_{str(networks).replace(' ', '_')}"] = float(part["n_disjoint"].mean())
        if finished.has("dictionaries"):
            table = finished.table("dictionaries")
            for kind, part in (("", table[table["seed"] == -1]), ("_twin", table[table["seed"] != -1])):
                row |= {f"{column}{kind}": part[column].mean() for column in _QUALITY}
        yield row


def angles_of_all_units(finished: Run) -> dict[str, np.ndarray]:
    """Return by network the preferred angles of all curve detectors among the units of its tap, whatever basis the run is in."""
    found = {}
    for ref in references(finished):
        if ref.seed is None:
            table = answers.units(load_layer(replace(ref, basis=None)), "curve")
            found[ref.model] = table.loc[table["detector"], "preferred_deg"].to_numpy()
    return found


def gaps(runs: dict[str, Run]) -> Iterator[dict[str, Any]]:
    """Yield, by network and basis, the largest gap between preferred angles of the curve family: of all units, and of these with the detectors of the basis.

    By chance: of all units with as many angles drawn at random.
    """
    rng = np.random.default_rng(0)
    for model, own in angles_of_all_units(next(iter(runs.values()))).items():
        for name, finished in runs.items():
            units = finished.units
            here = (units["model"] == model) & (units["seed"] == -1) & (units["family"] == "curve") & units["detector"]
            added = units.loc[here, "preferred_deg"].to_numpy()
            drawn = [largest_gap(np.append(own, rng.uniform(0, 360, added.size)), 360.0) for _ in range(_DRAWS)]
            together = largest_gap(np.append(own, added), 360.0)
            yield {
                "model": model, "basis": name, "n_units": own.size, "n_added": added.size, "gap_units_deg": largest_gap(own, 360.0),
                "gap_deg": largest_gap(added, 360.0), "gap_together_deg": together, "gap_together_chance_deg": float(np.mean(drawn)),
                "p": (1 + sum(of <= together for of in drawn)) / (1 + _DRAWS),
            }  # fmt: skip


def drawing(table: pd.DataFrame) -> Figure:
    """Draw, by basis: how well activations are described, which share of the directions is a detector, and which share another network holds, each beside its nulls."""
    of_any, curves = table[table["family"] == "any"], table[table["family"] == "curve"]
    names = [
        name.replace("universal_sae", "universal\nSAE")
        .replace("_shuffled", ",\nshuffled")
        .replace("sae", "SAE")
        .replace("nmf", "NMF")
        .replace("haar", "random")
        for name in of_any["basis"]
    ]
    panels = (
        ("variance described (R2)", of_any, {"r2": "dictionary", "r2_frozen": "random, description learnt", "r2_haar": "random, orthonormal", "r2_twin": "untrained twin"}),
        ("share that are curve detectors", curves, {"share": "trained", "share_haar": "random basis", "share_untrained": "untrained twin"}),
        ("share found in another network", of_any, {"shared_share": "trained", "shared_share_haar": "random basis", "shared_share_untrained": "untrained twins"}),
    )  # fmt: skip
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 62 * MM), layout="constrained")
        for ax, (title, rows_of, columns) in zip(figure.subplots(1, 3), panels, strict=True):
            for column, label in columns.items():
                trained = label in ("trained", "dictionary")
                ax.plot(
                    names,
                    rows_of.get(column, pd.Series(np.nan, rows_of.index)),
                    "o" if trained else "_",
                    label=label,
                    markersize=5 if trained else 9,
                )
            ax.set_ylabel(title)
            ax.set_ylim(0, 1.45 * ax.get_ylim()[1])  # room for the legend above the marks
            ax.tick_params(axis="x", labelrotation=60)
            ax.legend(loc="upper right", fontsize=5, frameon=False)
    return figure


def main() -> None:
    """Run the job in every basis and write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--job", type=Path, default=HERE / "job.toml")
    parser.add_argument("--runs", type=Path, default=Path("data/runs/directions"))
    parser.add_argument("--store", default="data/store")
    parser.add_argument("--tables", type=Path, default=HERE)
    parser.add_argument("--docs", type=Path, default=HERE.parents[1] / "docs")
    parser.add_argument("--only", nargs="*", default=BASES, choices=BASES)
    given = parser.parse_args()
    job = read_job(given.job)
    runs = {name: run(in_basis(job, name), given.runs / name, store=given.store, threads=1) for name in given.only}
    table = pd.DataFrame([row for name, finished in runs.items() for row in rows(finished, name)])
    for folder in (given.tables, given.docs):
        folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.tables / "bases.csv", index=False, float_format="%.4f")
    pd.DataFrame(gaps(runs)).to_csv(given.tables / "gaps.csv", index=False, float_format="%.3f")
    drawing(table).savefig(given.docs / "directions_bases.png", dpi=200)


if __name__ == "__main__":
    main()
