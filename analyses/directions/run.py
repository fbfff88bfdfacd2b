"""Two zoos in every basis, tap by tap: units, random directions, NMF, sparse autoencoders of one network and of all, and of all with the images of all but one in another order.

Usage: python analyses/directions/run.py [--jobs FILE ...] [--runs DIR] [--store DIR] [--tables DIR] [--docs DIR] [--only BASIS ...] [--depths DEPTH ...]

Runs each job once for each tap of its networks and each basis (activations are shared, and what exists is not computed again) and writes ``bases.csv``, one row for each zoo, tap, basis and kind of feature with the
nulls beside every figure; ``gaps.csv``, whether detectors of a basis lie where the family of units has its gaps; ``circuits.csv``, whether matched directions have the same incoming weights (projected on directions); and ``directions_bases.png`` to --docs. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality import run
from universality.activations.dictionaries.spec import DictionarySpec
from universality.activations.layer import load_layer
from universality.circuits.pairs import NULLS, VERDICTS
from universality.features import answers
from universality.features.tuning import largest_gap
from universality.figures import DOUBLE_MM, MM, style
from universality.runs.job import Job, read_job
from universality.runs.layers import references
from universality.runs.run import Run

HERE = Path(__file__).parent
BASES = ("all_units", "units", "haar", "nmf", "sae", "universal_sae", "universal_sae_shuffled")
"""``all_units`` are those of the whole layer, ``units`` as many of them, drawn at random, as a dictionary has directions."""
_QUALITY = (
    "r2", "r2_frozen", "r2_haar", "l0", "n_dead", "stability", "stability_frozen", "share_stable", "interference", "interference_frozen", "n_units_each",
    "n_units_each_frozen", "dimensions", "features_per_dimension", "share_independent", "share_independent_frozen", "firing_entropy", "cofiring", "cofiring_chance",
)  # fmt: skip
_DRAWS = 999
DEPTHS = ("early", "middle", "late")
"""The three taps of every network of a job, in this order."""
WIRED = {"directions": None, "directions-lite": ("blocks.3.1.bn2", "blocks.3.2.bn2")}
"""By job, the two taps between which circuits are read: the first two (None), or neighbouring blocks, since linear weights describe no unit of EfficientNet-Lite farther away."""
WIRED_BASES = ("units", "haar", "nmf", "sae")


def in_basis(job: Job, depth: str, name: str) -> Job:
    """Return the job at one of the three taps of each network, in one of `BASES`."""
    models = [entry.model_copy(update={"taps": (entry.taps or ())[DEPTHS.index(depth) :][:1]}) for entry in job.models]
    basis = {"universal_sae_shuffled": "universal_sae", "all_units": "units"}.get(name, name)
    drawn = DictionarySpec(directions=None if name == "all_units" else job.dictionary.directions)
    learnt = job.dictionary if basis not in ("units", "haar") else drawn
    chosen = learnt.model_copy(update={"shuffled_images": name == "universal_sae_shuffled"})
    named = {"name": f"{job.name}-{depth}-{name}", "models": tuple(models), "basis": basis, "dictionary": chosen}
    return Job.model_validate(job.model_copy(update=named).plain())


def wired(job: Job, name: str) -> Job:
    """Return the job for the circuits of one of `WIRED_BASES`: two taps of each network, of which the first holds the sources."""
    models = [entry.model_copy(update={"taps": WIRED[job.name] or (entry.taps or ())[:2]}) for entry in job.models]
    named = in_basis(job, DEPTHS[1], name).plain() | {
        "name": f"{job.name}-circuits-{name}",
        "stages": {"only": ["circuits"]},
    }
    return Job.model_validate(named | {"models": [entry.plain() for entry in models]})


def circuit_rows(finished: Run, name: str) -> Iterator[dict[str, Any]]:
    """Yield how alike the circuits of matched directions are, by family and way of setting sources side by side."""
    found = finished.table("circuits")
    twins = finished.table("circuits_untrained")
    for (family, way), of in found[found["back"] == 1].groupby(["family", "sources"]):
        means = of[
            ["r_natural", "s_w", *(f"s_w_{null}" for null in NULLS), "s_w_ceiling", "fidelity", "power", "n_sources"]
        ].mean()
        counts = of["verdict"].value_counts()
        never = twins[twins["sources"] == way]
        yield {
            "basis": name, "family": family, "sources": way, "n_pairs": len(of), "n_same_feature": int((of["verdict_response"] == "same_feature").sum()), **means,
            **{f"n_{verdict}": int(counts.get(verdict, 0)) for verdict in VERDICTS}, "n_untrained": len(never), "n_untrained_same_circuit": int(never["same_circuit"].sum()),
        }  # fmt: skip


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
            if name == "all_units":
                continue
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
    """Draw, zoo by zoo and by basis: how well activations are described, which share of the directions is a detector, and which share another network holds, each beside its nulls."""
    panels = (
        ("variance described (R2)", "any", "r2", {"r2_frozen": "random, description learnt", "r2_haar": RANDOM, "r2_twin": TWINS}),
        ("share that are curve detectors", "curve", "share", {"share_haar": RANDOM, "share_untrained": TWINS}),
        ("share found in another network", "any", "shared_share", {"shared_share_haar": RANDOM, "shared_share_untrained": TWINS}),
    )  # fmt: skip
    zoos = list(dict.fromkeys(table["zoo"]))
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 62 * MM * len(zoos)), layout="constrained")
        grid = figure.subplots(len(zoos), len(panels), squeeze=False)
        for axes, zoo in zip(grid, zoos, strict=True):
            for ax, (title, family, measured, nulls) in zip(axes, panels, strict=True):
                of = table[(table["zoo"] == zoo) & (table["family"] == family)].set_index(["depth", "basis"])
                _panel(ax, of, measured, nulls)
                ax.set_ylabel(title)
            axes[1].set_title(ZOOS.get(zoo, zoo))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda k: labels[k] in NULLS_DRAWN)  # the taps first
        figure.legend(
            [handles[k] for k in order],
            [labels[k] for k in order],
            loc="outside lower center",
            ncols=6,
            frameon=False,
        )
    return figure


RANDOM, TWINS = "random basis", "untrained twins"
NULLS_DRAWN = {"random, description learnt": "0.1", RANDOM: "0.45", TWINS: "0.75"}
"""Greys of the nulls, by their label."""
ZOOS = {"directions": "four pocket networks", "directions-lite": "EfficientNet-Lite0 and Lite1"}
_WORDS = {
    "all_units": "all units",
    "units": "units\ndrawn",
    "haar": "random",
    "nmf": "NMF",
    "sae": "SAE",
    "universal_sae": "universal\nSAE",
    "universal_sae_shuffled": "universal\nSAE, shuffled",
}


def _panel(ax: Axes, rows_of: pd.DataFrame, measured: str, nulls: Mapping[str, str]) -> None:
    """Draw one measured column by basis, the taps beside one another, and its nulls as dashes."""
    names = [name for name in BASES if name in rows_of.index.get_level_values("basis")]
    at = np.arange(len(names))
    for d, depth in enumerate(DEPTHS):
        if depth not in rows_of.index.get_level_values("depth"):
            continue
        here, x = rows_of.loc[depth].reindex(names), at + 0.22 * (d - 1)
        nothing = pd.Series(np.nan, names)
        ax.plot(x, here.get(measured, nothing), "o", color=f"C{d}", markersize=4, label=f"{depth} tap")
        for column, null in nulls.items():
            values = here.get(column, nothing)
            ax.plot(x, values, "_", color=NULLS_DRAWN[null], markersize=7, label=null if depth == DEPTHS[0] else None)
    ax.set_xticks(at, [_WORDS[name] for name in names], rotation=60)
    ax.set_ylim(0, None)


def main() -> None:
    """Run the jobs in every basis and write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=Path, nargs="+", default=[HERE / "job.toml", HERE / "lite.toml"])
    parser.add_argument("--runs", type=Path, default=Path("data/runs/directions"))
    parser.add_argument("--store", default="data/store")
    parser.add_argument("--tables", type=Path, default=HERE)
    parser.add_argument("--docs", type=Path, default=HERE.parents[1] / "docs")
    parser.add_argument("--only", nargs="*", default=BASES, choices=BASES)
    parser.add_argument("--depths", nargs="*", default=DEPTHS, choices=DEPTHS)
    given = parser.parse_args()
    found, of_gaps, of_circuits = [], [], []
    for job in map(read_job, given.jobs):
        for name in (name for name in WIRED_BASES if name in given.only):
            read = run(wired(job, name), given.runs / job.name / "circuits" / name, store=given.store, threads=1)
            of_circuits += [{"zoo": job.name} | row for row in circuit_rows(read, name)]
        for depth in given.depths:
            where = {"zoo": job.name, "depth": depth}
            runs = {
                name: run(
                    in_basis(job, depth, name), given.runs / job.name / depth / name, store=given.store, threads=1
                )
                for name in given.only
            }
            found += [where | row for name, finished in runs.items() for row in rows(finished, name)]
            of_gaps += [where | row for row in gaps(runs)]
    table = pd.DataFrame(found)
    for folder in (given.tables, given.docs):
        folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.tables / "bases.csv", index=False, float_format="%.4f")
    pd.DataFrame(of_gaps).to_csv(given.tables / "gaps.csv", index=False, float_format="%.3f")
    pd.DataFrame(of_circuits).to_csv(given.tables / "circuits.csv", index=False, float_format="%.4f")
    drawing(table).savefig(given.docs / "directions_bases.png", dpi=200)


if __name__ == "__main__":
    main()
