"""How much the named pairs of a finished run depend on the draw of the random bases.

    python tests/benchmarks/stability.py RUN [--bases 60 240] [--seeds 10] [--pairs MODEL_A:MODEL_B ...]

The pairs of networks of the run's job are judged with ten seeds of the random bases (everything else is the job's own). Printed for every
number of bases and family: the Jaccard index of the pairs that earn ``same_feature``, mean over pairs of seeds, how many are named by
all seeds and by any, and the processor seconds of one seed.
"""

import argparse
import time
from itertools import combinations

import numpy as np

import universality
from universality.activations.layer import load_layer
from universality.activations.nulls import NullPlan
from universality.correspondence import random_bases
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import correspondence_rows
from universality.runs.layers import references


def named(run, layers, pairs, seed: int) -> dict[str, set[tuple]]:
    """Return by family the pairs of units that earn the whole verdict with one seed of the bases."""
    compared = run.job.comparison
    nulls = NullPlan(run.job.nulls.haar_rotations, run.job.nulls.shuffles, seed)
    plan = MatchingPlan(compared.families, compared.matching, compared.bootstraps, 0, nulls, verdicts_only=True)
    made = [Contender(layer, (), plan) for layer in layers]
    found = {family: set() for family in compared.families}
    for a, b in pairs:
        for x in (of for of in made if of.layer.ref.model == a):
            for y in (of for of in made if of.layer.ref.model == b):
                rows = correspondence_rows(x, y)
                rows = rows[(rows["method"] == compared.matching[0]) & (rows["verdict"] == "same_feature")]
                for row in rows.itertuples():
                    found[row.family].add((row.model_a, row.tap_a, row.unit_a, row.model_b, row.tap_b, row.unit_b))
    return found


def jaccard(a: set, b: set) -> float:
    """Return the Jaccard index of two sets; NaN of two empty ones, which says nothing."""
    return len(a & b) / len(a | b) if a | b else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--bases", type=int, nargs="+", default=[random_bases.LEAST_BASES])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pairs", nargs="+", help="MODEL_A:MODEL_B; else those of the job")
    asked = parser.parse_args()
    run = universality.open_run(asked.run)
    pairs = [tuple(pair.split(":")) for pair in asked.pairs] if asked.pairs else list(run.job.compared())
    models = {model for pair in pairs for model in pair}
    layers = [load_layer(ref) for ref in references(run) if ref.model in models and ref.seed is None]
    print("| bases | family | Jaccard index | named by all of ever named | processor s a seed |\n|---|---|---|---|---|")
    for count in asked.bases:
        random_bases.LEAST_BASES = count
        sets, seconds = [], []
        for seed in range(asked.seeds):
            begun = time.process_time()
            sets.append(named(run, layers, pairs, seed))
            seconds.append(time.process_time() - begun)
            for layer in layers:
                for name in [name for name in layer.derived if name[0] == "random bases"]:
                    del layer.derived[name]
        for family in sets[0]:
            of = [each[family] for each in sets]
            index = np.nanmean([jaccard(a, b) for a, b in combinations(of, 2)])
            print(
                f"| {count} | {family} | {index:.3f} | {len(set.intersection(*of))} of {len(set.union(*of))} | {np.mean(seconds):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
