"""Write compare.csv: what each policy finds between the same layers, beside its nulls.

Run the three jobs of this folder first, then ``python analyses/receptive_field/compare.py RUN...``.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

import universality
from universality.activations.bases import haars
from universality.base import arrays

HERE = Path(__file__).parent


def halves(run, model, tap, seed=None):
    """Return the live units of both folds, standardised: (row, unit) each."""
    shown = run.activations(model, tap, seed=seed)
    return [shown.values[shown["fold"].values == fold].astype(np.float64) for fold in (0, 1)]


def best_partner_r(a, b):
    """Mean held-out r of each live unit of `a` with its best partner in `b`, chosen on fold 0."""
    live = [np.logical_and(*(arrays.live_units(fold) for fold in layer)) for layer in (a, b)]
    decide, score = (
        [arrays.standardised(layer[fold][:, keep]) for layer, keep in zip((a, b), live, strict=True)] for fold in (0, 1)
    )
    best = (decide[0].T @ decide[1]).argmax(axis=1)
    return float((score[0] * score[1][:, best]).sum(axis=0).mean())


def all_units(run):
    """One row per pair of layers: the best partners of all live units, and of both nulls, whatever the drawings say."""
    nulls, rows = run.job.nulls, []
    for one, two in itertools.combinations(run.job.models, 2):
        for tap_a, tap_b in itertools.product(one.taps, two.taps):
            a, b = halves(run, one.id, tap_a), halves(run, two.id, tap_b)
            twins = [halves(run, two.id, tap_b, seed) for seed in nulls.untrained_seeds]
            bases = list(haars(nulls.haar_rotations, run.job.seed))
            rows.append(
                {
                    "model_a": one.id, "tap_a": tap_a, "model_b": two.id, "tap_b": tap_b,
                    "r_best": best_partner_r(a, b),
                    "r_best_haar": np.mean([best_partner_r(a, [basis.seen(fold) for fold in b]) for basis in bases]),
                    "r_best_untrained": np.mean([best_partner_r(a, twin) for twin in twins]),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def detectors(run, family):
    """One row per pair of layers: mutual best partners that are both detectors of the family."""
    table = run.correspondence
    table = table[(table["family"] == family) & (table["method"] == "mutual_nearest")]
    table = table.assign(same=table["verdict"] == "same_feature")
    both = table[table["mutual"] & table["detector_a"] & table["detector_b"]]
    keys = ["model_a", "tap_a", "model_b", "tap_b"]
    counts = table.groupby(keys)["same"].sum().rename("same_feature")
    pairs = both.groupby(keys).agg(
        mutual_pairs=("r_natural", "size"),
        r_natural=("r_natural", "median"),
        r_natural_haar=("r_natural_haar", "median"),
        r_natural_untrained=("r_natural_untrained", "median"),
    )
    return pd.concat([pairs, counts], axis=1).reset_index().assign(family=family)


def main(folders):
    """Write the CSV beside this file."""
    parts = []
    for folder in folders:
        run = universality.open_run(folder)
        found = pd.concat([detectors(run, family) for family in run.job.comparison.families])
        every = all_units(run)
        families = pd.DataFrame({"family": list(run.job.comparison.families)})
        joined = every.merge(families, how="cross").merge(found, how="left")
        parts.append(
            joined.assign(scenes=run.job.name, **joined[["mutual_pairs", "same_feature"]].fillna(0).astype(int))
        )
    columns = [
        "scenes", "family", "model_a", "tap_a", "model_b", "tap_b", "mutual_pairs", "same_feature", "r_natural",
        "r_natural_haar", "r_natural_untrained", "r_best", "r_best_haar", "r_best_untrained",
    ]  # fmt: skip
    pd.concat(parts)[columns].to_csv(HERE / "compare.csv", index=False, float_format="%.3f")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="directories of the runs")
    main(parser.parse_args().runs)
