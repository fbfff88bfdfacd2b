"""Whether matched detectors have the same circuit: what the stage `circuits` found in the pocket zoo, and how often it finds the same where nothing is.

Usage: python analyses/circuits/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR]

Runs the job (what exists is not computed again) and writes ``pairs.csv`` (what pairs of each kind have on average), ``profiles.csv`` (pairs of networks), ``index.csv`` (the universality of circuits beside that of
features) and ``untrained.csv`` (how often the rule calls untrained twins the same circuit) to --tables. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import universality
from universality.circuits import pairs
from universality.correspondence.resampling import upper_bound
from universality.runs.run import Run

HERE = Path(__file__).parent
MEANS = [
    "r_natural",
    "fidelity",
    "share_within",
    "n_sources",
    "s_w",
    "s_w_low",
    "s_w_high",
    *(f"s_w_{name}" for name in pairs.NULLS),
    "s_w_haar_95",
    "s_w_detectable",
    "power",
    "s_w_ceiling",
]


def differing(rows: pd.DataFrame) -> pd.Series:
    """Return what differs between the two networks of each row: their seed alone, what they were trained for, or their architecture."""
    a, b = (rows[f"model_{side}"].str.replace(r"-s\d+$", "", regex=True) for side in "ab")
    same = a.str.split("-").str[0] == b.str.split("-").str[0]
    what = np.select([a == b, same], ["seed", "training"], default="architecture")
    return pd.Series(what, rows.index)


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


def universality_table(run: Run) -> pd.DataFrame:
    """Return the index of universality of circuits beside that of features, by family and way: shares of matched pairs of detectors.

    ``features`` is the share of matched pairs that are the same feature by their responses, of all pairs with a detector on either side; ``circuits`` that of them which are the same circuit, of those that have sources;
    ``circuits_expected`` what that share would be if every true s_w were the ceiling.
    """
    matched = run.correspondence
    matched = matched[(matched["method"] == run.job.matched_by()) & (matched["verdict"] != "unmatched")]
    features = matched.groupby("family")["verdict"].agg(
        features=lambda of: (of == "same_feature").mean(), n_matched="size"
    )
    rows = run.table("circuits").query("back == 1 and verdict_response == 'same_feature'")
    found = rows.groupby(["family", "sources"]).agg(
        circuits=("verdict", lambda of: (of == "same_circuit").mean()), circuits_expected=("power", "mean"), n_pairs=("verdict", "size")
    )  # fmt: skip
    return found.reset_index().merge(features.reset_index(), on="family")


def twin_table(run: Run) -> pd.DataFrame:
    """Return means over pairs of units of untrained twins, and how many are the same circuit, by networks, seed and way."""
    by = run.table("circuits_untrained").groupby(["sources", "model_a", "model_b", "seed"])
    counts = by["same_circuit"].agg(n_pairs="size", n_same="sum")
    return by[["r_natural", "s_w", "s_w_haar", "s_w_readout", "s_w_ceiling"]].mean().join(counts).reset_index()


def said(of_pairs: pd.DataFrame, profiles: pd.DataFrame, index: pd.DataFrame, run: Run) -> Iterator[str]:
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
    for row in index.to_dict("records"):
        yield (
            f"{row['family']}: {row['features']:.1%} of {row['n_matched']} matched pairs are the same feature; of {row['n_pairs']} of these with sources by {row['sources']}, {row['circuits']:.1%} are the same "
            f"circuit, where {row['circuits_expected']:.1%} would be if every true s_w were the ceiling"
        )
    for way, of in run.table("circuits_untrained").groupby("sources"):
        same = int(of["same_circuit"].sum())
        yield (
            f"untrained twins by {way}: {same} of {len(of)} pairs are same_circuit (below {upper_bound(same, len(of)):.2%} with 95 % confidence); s_w {of['s_w'].mean():.3f}, "
            f"p <= 0.05 in {(of['p'] <= 0.05).mean():.1%}"
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
    of_pairs, profiles, index, twins = pair_table(run), profile_table(run), universality_table(run), twin_table(run)
    given.tables.mkdir(parents=True, exist_ok=True)
    for name, rows in (("pairs", of_pairs), ("profiles", profiles), ("index", index), ("untrained", twins)):
        rows.to_csv(given.tables / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
    for line in said(of_pairs, profiles, index, run):
        print(f"- {line}")


if __name__ == "__main__":
    main()
