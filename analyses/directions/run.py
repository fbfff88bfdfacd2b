"""One job in every basis: units, random directions, NMF, sparse autoencoders of one network and of all, and of all with the images of all but one in another order.

Usage: python analyses/directions/run.py [--job FILE] [--runs DIR] [--store DIR] [--tables DIR] [--only BASIS ...]

Runs the job once for each basis (activations are shared, and what exists is not computed again) and writes ``bases.csv``: one row for each basis and kind of
feature, with the nulls beside every figure. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from universality import run
from universality.activations.dictionaries.spec import DictionarySpec
from universality.runs.job import Job, read_job
from universality.runs.run import Run

HERE = Path(__file__).parent
BASES = ("units", "haar", "nmf", "sae", "universal_sae", "universal_sae_shuffled")
_QUALITY = (
    "r2", "r2_frozen", "r2_haar", "l0", "n_dead", "stability", "stability_frozen", "share_stable", "interference", "interference_frozen", "n_units_each",
    "n_units_each_frozen", "dimensions", "features_per_dimension", "share_independent", "share_independent_frozen", "firing_entropy", "cofiring", "cofiring_chance",
)  # fmt: skip


def in_basis(job: Job, name: str) -> Job:
    """Return the job in one of `BASES`."""
    basis = "universal_sae" if name == "universal_sae_shuffled" else name
    learnt = job.dictionary if basis not in ("units", "haar") else DictionarySpec(directions=job.dictionary.directions)
    chosen = learnt.model_copy(update={"shuffled_images": name == "universal_sae_shuffled"})
    return Job.model_validate(
        job.model_copy(update={"name": f"{job.name}-{name}", "basis": basis, "dictionary": chosen}).plain()
    )


def rows(finished: Run, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a basis: one for each family, and one for directions of whatever kind (``any``)."""
    index, counts = finished.table("index_by_feature"), finished.table("clique_counts")
    families, found = finished.families, finished.correspondence
    for family in ("any", *finished.job.comparison.families):
        row: dict[str, Any] = {"basis": name, "family": family}
        if family != "any":
            of = families[families["family"] == family]
            could = found[(found["family"] == family) & (found["verdict"] != "unmatched")]
            row |= {
                "n_directions": int(of["n_units"].sum()), "n_detectors": int(of["n_detectors"].sum()), "share": of["n_detectors"].sum() / of["n_units"].sum(),
                "share_untrained": of["share_untrained"].mean(), "share_haar": of["share_haar"].mean(), "coverage": of["coverage"].mean(),
                "largest_gap_deg": of["largest_gap_deg"].mean(), "largest_gap_haar_deg": of["largest_gap_haar_deg"].mean(),
                "n_pairs": len(could), "n_same_feature": int((could["verdict"] == "same_feature").sum()), "median_r": could["r_natural"].median(),
                "median_r_untrained": could["r_natural_untrained"].median(), "median_r_haar": could["r_natural_haar"].median(),
            }  # fmt: skip
        key = "any_unit" if family == "any" else family
        shared = index[(index["family"] == key) & ((index["feature"] == key) | (family == "any"))].head(1)
        for column in ("share", "share_haar", "share_untrained", "index", "index_low", "index_high"):
            row[f"shared_{column}"] = float(shared[column].iloc[0]) if len(shared) else np.nan
        of_cliques = counts[(counts["family"] == key) & (counts["least_models"] == 3)]
        for networks in ("trained", "untrained", "random basis"):
            here = of_cliques[of_cliques["networks"] == networks]
            row[f"cliques_{networks.replace(' ', '_')}"] = float(here["n_disjoint"].mean()) if len(here) else np.nan
        if finished.has("dictionaries"):
            table = finished.table("dictionaries")
            for kind, part in (("", table[table["seed"] == -1]), ("_twin", table[table["seed"] != -1])):
                row |= {f"{column}{kind}": part[column].mean() for column in _QUALITY}
        yield row


def main() -> None:
    """Run the job in every basis and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--job", type=Path, default=HERE / "job.toml")
    parser.add_argument("--runs", type=Path, default=Path("data/runs/directions"))
    parser.add_argument("--store", default="data/store")
    parser.add_argument("--tables", type=Path, default=HERE)
    parser.add_argument("--only", nargs="*", default=BASES, choices=BASES)
    given = parser.parse_args()
    job, made = read_job(given.job), []
    for name in given.only:
        finished = run(in_basis(job, name), given.runs / name, store=given.store, threads=1)
        made += list(rows(finished, name))
    given.tables.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(made).to_csv(given.tables / "bases.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
