"""Whether matched detectors have the same circuit: what the stage `circuits` found in the pocket zoo, and how often it finds the same where nothing is.

Usage: python analyses/circuits/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR]

Runs the job (what exists is not computed again), applies the same comparison to the untrained twins as if they were networks of their own, and writes ``pairs.csv`` (what pairs
of each kind have on average), ``profiles.csv`` (pairs of networks), ``untrained.csv`` (the verdict's rate between twins) to --tables. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import universality
from universality.activations.layer import load_layer
from universality.circuits import pairs, reading
from universality.circuits.plan import CircuitPlan
from universality.correspondence.resampling import upper_bound, with_q
from universality.runs.layers import references
from universality.runs.networks import networks_of
from universality.runs.run import Run
from universality.similarity.matching import correlations, hungarian

HERE = Path(__file__).parent
MEANS = [
    "r_natural",
    "fidelity",
    "n_sources",
    "s_w",
    "s_w_low",
    "s_w_high",
    *(f"s_w_{name}" for name in pairs.NULLS),
    "s_w_haar_95",
    "s_w_detectable",
    "s_w_ceiling",
]


def differing(rows: pd.DataFrame) -> pd.Series:
    """Return what differs between the two networks of each row: their seed alone, or their architecture."""
    same = rows["model_a"].str[:-1] == rows["model_b"].str[:-1]
    return same.map({True: "seed", False: "architecture"})


def pair_table(run: Run) -> pd.DataFrame:
    """Return means and verdicts of matched pairs, by family, tap, way of setting sources side by side, verdict on responses and what differs."""
    rows = run.table("circuits")
    by = [rows["family"], rows["back"], rows["sources"], rows["verdict_response"], differing(rows).rename("differs")]
    counts = pd.crosstab(by, rows["verdict"]).reindex(columns=list(pairs.VERDICTS), fill_value=0)
    return rows.groupby(by)[MEANS].mean().join(rows.groupby(by).size().rename("n_pairs")).join(counts).reset_index()


def profile_table(run: Run) -> pd.DataFrame:
    """Return how alike profiles are, by family and what differs."""
    rows = run.table("profile_pairs")
    by = [rows["target_family"], differing(rows).rename("differs")]
    found = rows.groupby(by)[["r", "r_permuted", "r_permuted_95", "r_untrained"]].median()
    return found.join((rows["p"] <= 0.05).groupby(by).agg(n_above="sum", n_pairs="count")).reset_index()


def of_twins(run: Run) -> pd.DataFrame:
    """Return the rows of all pairs of units of untrained twins that are matched by their responses: those of the same seed of every two networks."""
    refs = {(ref.model, ref.seed, ref.tap.name): ref for ref in references(run)}
    twins = [network for network in networks_of(run.job) if network.seed is not None and network.copy_r is None]
    plan = CircuitPlan((), run.job.seed)
    units = run.units.head(0)
    rows: list[dict[str, object]] = []
    for a, b in itertools.combinations(twins, 2):
        if a.seed != b.seed or a.card.id == b.card.id:
            continue
        ends = []
        for network in (a, b):
            source, target = (refs[network.card.id, network.seed, tap.name] for tap in network.taps[-2:])
            ends.append(reading.ends(network, source, target, units, load_layer))
        first, second = (of.targets.halves() for of in ends)
        i, j = hungarian(correlations(first.decide, second.decide)).T
        r = (first.score[:, i] * second.score[:, j]).sum(axis=0)
        matched = pd.DataFrame({
            "family": "any_unit", "method": "hungarian", "unit_a": first.live[i], "unit_b": second.live[j], "r_natural": r, "verdict": "same_feature",
            "detector_a": False, "detector_b": False,
        })  # fmt: skip
        rows += [row | {"seed": a.seed} for row in pairs.circuit_rows(ends[0], ends[1], (), (), matched, 1, plan)]
    found = with_q(pd.DataFrame(rows))
    return found.assign(verdict=pairs.judged(found))


def said(of_pairs: pd.DataFrame, profiles: pd.DataFrame, twins: pd.DataFrame, run: Run) -> Iterator[str]:
    """Yield what the tables say."""
    for row in profiles.to_dict("records"):
        yield (
            f"{row['target_family']}, another {row['differs']}: profiles correlate by {row['r']:.2f} (median; permuted {row['r_permuted']:.2f}, untrained twins {row['r_untrained']:.2f}), "
            f"{row['n_above']} of {row['n_pairs']} above 95 % of permutations"
        )
    for row in of_pairs[of_pairs["verdict_response"] == "same_feature"].to_dict("records"):
        nulls = ", ".join(f"{name} {row[f's_w_{name}']:.2f}" for name in pairs.NULLS)
        yield (
            f"{row['family']}, {row['back']} back, by {row['sources']}, another {row['differs']}: {row['n_pairs']} pairs, s_w {row['s_w']:.2f} ({nulls}; ceiling {row['s_w_ceiling']:.2f}, fidelity "
            f"{row['fidelity']:.2f}); {row['same_circuit']} same_circuit, {row['same_response_other_circuit']} other, {row['undecided']} undecided"
        )
    same = int((twins["verdict"] == "same_circuit").sum())
    yield (
        f"untrained twins: {same} of {len(twins)} matched pairs are same_circuit (below {upper_bound(same, len(twins)):.2%} with 95 % confidence); s_w {twins['s_w'].mean():.3f}, "
        f"p <= 0.05 in {(twins['p'] <= 0.05).mean():.1%}"
    )
    rows = run.table("circuits")
    for way, of in rows[rows["back"] == 1].groupby("sources"):
        known = of[["s_w", "r_natural"]].dropna()
        yield f"s_w against r_natural, by {way}: Spearman {known.corr(method='spearman').iloc[0, 1]:.2f} over {len(known)} pairs"


def main() -> None:
    """Run, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("job", HERE / "job.toml"), ("run", None), ("store", None), ("tables", HERE)):
        parser.add_argument(f"--{name}", type=Path, default=default)
    given = parser.parse_args()
    run = universality.run(given.job, given.run, store=given.store)
    of_pairs, profiles, twins = pair_table(run), profile_table(run), of_twins(run)
    given.tables.mkdir(parents=True, exist_ok=True)
    untrained = twins.groupby(["model_a", "model_b", "seed"])[
        ["r_natural", "s_w", "s_w_haar", "s_w_readout", "s_w_ceiling"]
    ].mean()
    untrained = untrained.join(
        twins.groupby(["model_a", "model_b", "seed"])["verdict"].agg(
            n_pairs="size", n_same=lambda of: (of == "same_circuit").sum()
        )
    ).reset_index()
    for name, rows in (("pairs", of_pairs), ("profiles", profiles), ("untrained", untrained)):
        rows.to_csv(given.tables / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
    for line in said(of_pairs, profiles, twins, run):
        print(f"- {line}")


if __name__ == "__main__":
    main()
