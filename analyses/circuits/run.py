"""Whether matched detectors have the same circuit: profiles of weights between two taps of every network, compared beside their nulls.

Usage: python analyses/circuits/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR]

Runs the job (what exists is not computed again), takes all weights between the two taps of every network and of its untrained twins, and writes
``profiles.csv`` (one row per network, source and target family), ``networks.csv`` (per pair of networks and family: how alike the families' mean wirings are)
and ``matched.csv`` (per pair of networks and family: s_w of matched detectors beside its nulls) to --tables. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import universality
from universality.activations.layer import load_layer
from universality.activations.network import Network
from universality.circuits import across
from universality.circuits.expanded import expanded_weights
from universality.circuits.profiles import Units, sigma_per_sigma
from universality.runs.layers import references
from universality.runs.networks import networks_of
from universality.runs.run import Run

HERE = Path(__file__).parent
PERMUTATIONS = 100
DIRECTIONS = 200
LEAST_TARGETS = 4
"""Fewest detectors of a family whose wiring has a mean."""


def labels(run: Run, model: str, tap: str) -> dict[str, Units]:
    """Return the detectors of a trained layer, by family, with their preferred orientations among drawings."""
    units = run.units
    here = units[(units["model"] == model) & (units["tap"] == tap) & (units["seed"] == -1) & units["detector"]]
    return {
        family: Units(rows["unit"].to_numpy(), rows["preferred_deg"].to_numpy())
        for family, rows in ((f, here[here["family"] == f]) for f in run.job.comparison.families)
    }


def weights_of(run: Run, network: Network) -> xr.DataArray:
    """Return all weights between the two taps of a network, sigma per sigma."""
    first, second = (tap.name for tap in network.taps)
    seed = network.seed
    refs = {ref.tap.name: ref for ref in references(run) if ref.model == network.card.id and ref.seed == seed}
    deviations = [load_layer(refs[name]).natural.std(axis=0) for name in (first, second)]
    if network.trained:
        found = expanded_weights(network.card.id, first, second)
    else:
        paths = [tap.path for tap in network.taps]
        found = expanded_weights(network.load(), *paths, image_size=network.card.preprocessing.size_px)
    return sigma_per_sigma(found, *deviations)


def wirings(run: Run) -> Iterator[tuple[str, int, str, dict[str, object]]]:
    """Yield model, seed and target family with the wiring and, of trained networks, its nulls."""
    for network in networks_of(run.job):
        model, seed = network.card.id, -1 if network.seed is None else network.seed
        sources, targets = (labels(run, model, tap.name) for tap in network.taps)
        weights = weights_of(run, network)
        rng = np.random.default_rng([run.job.seed, 11])
        for family, of in targets.items():
            if len(of.unit) < LEAST_TARGETS or min(len(s.unit) for s in sources.values()) < LEAST_TARGETS:
                continue
            made: dict[str, object] = {
                "wiring": across.wiring(weights, of, sources),
                "n_sources": {f: len(s.unit) for f, s in sources.items()},
            }
            if seed < 0:
                made["permuted"] = [
                    across.wiring(weights, of, across.permuted(sources, rng)) for _ in range(PERMUTATIONS)
                ]
                directions, angles = across.mixed(weights, DIRECTIONS, rng)
                made["directions"] = across.wiring(directions, angles, sources)
            yield model, seed, family, made


def profile_rows(found: dict[tuple[str, int, str], dict], families: tuple[str, ...]) -> pd.DataFrame:
    """Return the mean profile by angle of every network and pair of families, beside permuted angles and untrained twins."""
    rows = []
    for (model, seed, target), made in found.items():
        if seed >= 0:
            continue
        own = made["wiring"].angle
        chance = np.stack([np.nanmean(p.angle, axis=0) for p in made["permuted"]])
        twins = [other["wiring"].angle for (m, s, t), other in found.items() if m == model and s >= 0 and t == target]
        for k, source in enumerate(families):
            for b in range(own.shape[2]):
                here = own[:, k, b][np.isfinite(own[:, k, b])]
                if here.size < 2:
                    continue
                rows.append({
                    "model": model, "source": source, "target": target, "n_sources": made["n_sources"][source], "n_targets": len(own),
                    "difference_deg": 360 / own.shape[2] * b, "weight": here.mean(), "half_width_95": 1.96 * here.std(ddof=1) / np.sqrt(here.size),
                    "permuted_low": np.nanquantile(chance[:, k, b], 0.025), "permuted_high": np.nanquantile(chance[:, k, b], 0.975),
                    "untrained": np.nanmean([np.nanmean(t[:, k, b]) for t in twins]) if twins else np.nan,
                })  # fmt: skip
    return pd.DataFrame(rows)


def compared_rows(run: Run, found: dict[tuple[str, int, str], dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how alike the wirings of every pair of networks are: of families, and of matched detectors."""
    of_networks, of_matched = [], []
    table = run.correspondence
    table = table[(table["method"] == run.job.matched_by()) & table["detector_a"] & table["detector_b"]]
    models = [entry.id for entry in run.job.models]
    second = {network.card.id: network.taps[1].name for network in networks_of(run.job) if network.trained}
    for a, b in itertools.combinations(models, 2):
        for family in run.job.comparison.families:
            if (a, -1, family) not in found or (b, -1, family) not in found:
                continue
            one, other = found[a, -1, family], found[b, -1, family]
            row: dict[str, object] = {"model_a": a, "model_b": b, "family": family}
            for by in ("angle", "offset"):
                chance = [across.family_alike(one["wiring"], p, by) for p in other["permuted"]]
                twins = [
                    across.family_alike(found[a, s, family]["wiring"], found[b, s, family]["wiring"], by) for s in run.job.nulls.untrained_seeds
                ]  # fmt: skip
                row |= {
                    f"r_{by}": across.family_alike(one["wiring"], other["wiring"], by), f"r_{by}_permuted": np.nanmean(chance),
                    f"r_{by}_permuted_95": np.nanquantile(chance, 0.95), f"r_{by}_untrained": np.nanmean(twins),
                }  # fmt: skip
            of_networks.append(row)
            rows = table[(table["model_a"] == a) & (table["model_b"] == b) & (table["family"] == family)]
            rows = rows[(rows["tap_a"] == second[a]) & (rows["tap_b"] == second[b])]
            of_matched += matched_rows(one, other, found, (a, b, family), rows, run.job.nulls.untrained_seeds)
    return pd.DataFrame(of_networks), pd.DataFrame(of_matched)


def matched_rows(
    one: dict, other: dict, found: dict, names: tuple[str, str, str], rows: pd.DataFrame, seeds: tuple[int, ...]
) -> Iterator[dict]:
    """Yield one row per matched pair of detectors: s_w and its nulls."""
    a, b, family = names
    x, y = one["wiring"], other["wiring"]
    at = {unit: k for k, unit in enumerate(x.targets)}, {unit: k for k, unit in enumerate(y.targets)}
    pairs = [(at[0][i], at[1][j]) for i, j in zip(rows["unit_a"], rows["unit_b"], strict=True)]
    if not pairs:
        return
    own, unmatched = across.matched(across.alike(x.offset, y.offset), pairs)
    chance = np.stack([across.matched(across.alike(x.offset, p.offset), pairs)[0] for p in other["permuted"]])
    directions = across.alike(x.offset, other["directions"].offset)
    twins = np.stack([
        across.matched(across.alike(found[a, s, family]["wiring"].offset, found[b, s, family]["wiring"].offset), pairs)[0] for s in seeds
    ])  # fmt: skip
    for k, row in enumerate(rows.to_dict("records")):
        yield {
            "model_a": a, "model_b": b, "family": family, "unit_a": row["unit_a"], "unit_b": row["unit_b"], "verdict": row["verdict"],
            "r_natural": row["r_natural"], "s_w": own[k], "s_w_unmatched": unmatched[k], "s_w_permuted": np.nanmean(chance[:, k]),
            "s_w_permuted_95": np.nanquantile(chance[:, k], 0.95), "s_w_direction": np.nanmean(directions[pairs[k][0]]),
            "s_w_direction_95": np.nanquantile(directions[pairs[k][0]], 0.95), "s_w_untrained": np.nanmean(twins[:, k]),
        }  # fmt: skip


def said(networks: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    """Yield what the tables say, family by family and by what differs between the networks."""
    for family, rows in networks.groupby("family"):
        seeds = rows["model_a"].str[:-1] == rows["model_b"].str[:-1]
        for name, some in (("another seed", rows[seeds]), ("another architecture", rows[~seeds])):
            if some.empty:
                continue
            parts = []
            for by in ("angle", "offset"):
                above = (some[f"r_{by}"] > some[f"r_{by}_permuted_95"]).sum()
                parts.append(
                    f"by {by} median {some[f'r_{by}'].median():.2f} (least {some[f'r_{by}'].min():.2f}; permuted {some[f'r_{by}_permuted'].median():.2f}, untrained twins "
                    f"{some[f'r_{by}_untrained'].median():.2f}), {above} of {len(some)} above 95 % of permutations"
                )
            yield f"{family}, {name}: mean wirings of the family are alike {'; '.join(parts)}"
    for (family, verdict), rows in pairs.groupby(["family", "verdict"]):
        known = rows[rows["s_w"].notna()]
        yield (
            f"{family}, {verdict}: {len(known)} matched pairs, s_w median {known['s_w'].median():.2f} (unmatched {known['s_w_unmatched'].median():.2f}, permuted "
            f"{known['s_w_permuted'].median():.2f}, random directions {known['s_w_direction'].median():.2f}, untrained {known['s_w_untrained'].median():.2f}); above "
            f"95 % of permutations {int((known['s_w'] > known['s_w_permuted_95']).sum())}, of directions {int((known['s_w'] > known['s_w_direction_95']).sum())}, above "
            f"the unmatched mean {int((known['s_w'] > known['s_w_unmatched']).sum())}"
        )


def main() -> None:
    """Run, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("job", HERE / "job.toml"), ("run", None), ("store", None), ("tables", HERE)):
        parser.add_argument(f"--{name}", type=Path, default=default)
    given = parser.parse_args()
    run = universality.run(given.job, given.run, store=given.store)
    found = {(model, seed, family): made for model, seed, family, made in wirings(run)}
    networks, pairs = compared_rows(run, found)
    given.tables.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("profiles", profile_rows(found, run.job.comparison.families)),
        ("networks", networks),
        ("matched", pairs),
    ):
        rows.to_csv(given.tables / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
    for line in said(networks, pairs):
        print(f"- {line}")


if __name__ == "__main__":
    main()
