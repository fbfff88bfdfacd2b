"""How families of detectors are wired to families of the tap before, in every network, and how alike this is in any two.

A profile is the mean weight, summed over space, from sources whose preferred angle differs from the target's by so much (`profiles.angle_profiles`). Beside it: the sources'
angles exchanged within their family, random directions of the targets' layer (a random mixture of its standardised units) that are given the targets' angles, and untrained twins
with the trained labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from universality.base.arrays import Array, reciprocal
from universality.base.intervals import mean_interval
from universality.circuits.pairs import LEAST_DETECTORS, Ends
from universality.circuits.plan import CircuitPlan
from universality.circuits.profiles import BINS, Units, angle_profiles, rms
from universality.circuits.tables import PROFILE_PAIRS, PROFILES
from universality.circuits.wirings import PERMUTATIONS, alike

DRAWS = 200
"""Exchanges of the sources' angles."""
LEAST_VALUES = 6
"""Values that two profiles have to share."""


def profile_rows(own: Ends, twins: Sequence[Ends], plan: CircuitPlan) -> pd.DataFrame:
    """Return the rows of ``profiles`` of one trained layer with one before it.

    Families with fewer than `LEAST_DETECTORS` targets or sources have none, nor have families whose angles repeat after different periods.
    """
    rng = np.random.default_rng([plan.seed, 2])
    rows: list[dict[str, object]] = []
    for target, of in own.detectors.items():
        sources = {name: found for name, found in own.labels.items() if found.period_deg == of.period_deg}
        sources = {name: found for name, found in sources.items() if len(found.unit) >= LEAST_DETECTORS}
        if len(of.unit) < LEAST_DETECTORS or not sources:
            continue
        weights = rms(_labelled(own, of))
        untrained = [rms(_labelled(twin, of)) for twin in twins]
        mixed, angles = _mixed(own, of, rng)
        for source, found in sources.items():
            each = angle_profiles(weights, of, found)
            chance = np.stack([
                np.nanmean(angle_profiles(weights, of, Units(found.unit, rng.permutation(found.angle_deg), found.period_deg)), axis=0)
                for _ in range(DRAWS)
            ])  # fmt: skip
            random = angle_profiles(mixed, angles, found)
            of_twins = (
                np.concatenate([angle_profiles(one, of, found) for one in untrained])
                if untrained
                else np.full((0, BINS), np.nan)
            )
            for k in range(BINS):
                here = each[np.isfinite(each[:, k]), k]
                if not here.size:
                    continue
                low, high = mean_interval(here)
                twin = of_twins[np.isfinite(of_twins[:, k]), k]
                drawn = random[np.isfinite(random[:, k]), k]
                chance_half = 1.96 * drawn.std(ddof=1) / np.sqrt(here.size) if drawn.size > 1 else np.nan
                twin_low, twin_high = mean_interval(twin)
                rows.append({
                    "model": own.targets.ref.model, "source_tap": own.sources.ref.tap.name, "target_tap": own.targets.ref.tap.name,
                    "source_family": source, "target_family": target, "difference_deg": of.period_deg * k / BINS, "n_sources": len(found.unit),
                    "n_targets": here.size, "weight": here.mean(), "weight_low": low, "weight_high": high,
                    "permuted_low": np.nanquantile(chance[:, k], 0.025), "permuted_high": np.nanquantile(chance[:, k], 0.975),
                    "haar_low": drawn.mean() - chance_half, "haar_high": drawn.mean() + chance_half,
                    "untrained": twin.mean() if twin.size else np.nan, "untrained_low": twin_low, "untrained_high": twin_high,
                })  # fmt: skip
    return pd.DataFrame(rows, columns=PROFILES.names)


def _labelled(of: Ends, targets: Units) -> xr.DataArray:
    return of.of_units(targets.unit).assign_coords(unit_b=targets.unit)


def _mixed(own: Ends, targets: Units, rng: np.random.Generator) -> tuple[xr.DataArray, Units]:
    """Return the weights into random mixtures of standardised units, of which each target's angle has some."""
    angles = np.tile(targets.angle_deg, -(-DRAWS // len(targets.unit)))
    shares = rng.standard_normal((len(angles), own.n_targets)) * reciprocal(own.targets.natural.std(axis=0))
    return rms(own.into(shares)), Units(np.arange(len(angles)), angles, targets.period_deg)


def profile_pair_rows(profiles: pd.DataFrame, pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the rows of ``profile_pairs``: profiles of two networks correlated, target family by target family.

    Parameters
    ----------
    profiles : the table of this name
    pairs : the pairs of layers that are compared, with the columns that say which two
    """
    at = dict(iter(profiles.groupby(["model", "target_tap", "target_family"], sort=False)))
    families = list(dict.fromkeys(profiles["target_family"]))
    rows = []
    for pair in pairs.to_dict("records"):
        for family in families:
            a, b = (at.get((pair[f"model_{x}"], pair[f"tap_{x}"], family)) for x in "ab")
            if a is None or b is None:
                continue
            both = a.merge(b, on=["source_family", "difference_deg"], suffixes=("_a", "_b"))
            r = _alike(both, "weight")
            if not np.isfinite(r):
                continue
            rng = np.random.default_rng([seed, 3])
            chance = alike(both["weight_a"].to_numpy(float)[None], _exchanged(both, rng), LEAST_VALUES)
            rows.append({
                **pair, "source_a": a["source_tap"].iloc[0], "source_b": b["source_tap"].iloc[0], "target_family": family, "n_values": len(both), "r": r,
                "r_permuted": chance.mean(), "r_permuted_95": np.quantile(chance, 0.95),
                "r_untrained": _alike(both, "untrained"),
                "p": (1 + (chance >= r - 1e-12).sum()) / (1 + len(chance)),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=PROFILE_PAIRS.names)


def _exchanged(both: pd.DataFrame, rng: np.random.Generator) -> Array:
    """Return the second network's weights (permutation, value) with the differences of angles exchanged within each family of sources."""
    drawn = np.tile(both["weight_b"].to_numpy(float), (PERMUTATIONS, 1))
    for where in both.groupby("source_family", sort=False).indices.values():
        drawn[:, where] = rng.permuted(drawn[:, where], axis=1)
    return drawn


def _alike(both: pd.DataFrame, column: str) -> float:
    a, b = (both[f"{column}_{x}"].to_numpy(float)[None] for x in "ab")
    return float(alike(a, b, LEAST_VALUES)[0])
