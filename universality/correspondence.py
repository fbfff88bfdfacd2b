"""Which detector here is which detector there: family and unit tables, every row with its nulls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import comparators, evidence, schema
from universality.comparison import Layer, NullPlan, pair_identity, rotations
from universality.detectors import FAMILIES
from universality.tuning import align_tuning, circular_difference, coverage, largest_gap

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def wilson_interval(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927, JASA 22)."""
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _counts(table: pd.DataFrame) -> dict[str, float]:
    """Return the figures of a family, from its units' table, that its nulls share with it."""
    found = table.loc[table["detector"], "preferred_deg"]
    return {
        "n_detectors": float(table["detector"].sum()),
        "share": float(table["detector"].mean()),
        "share_strong": float(table["strong"].mean()),
        "share_naive": float(table["naive_detector"].mean()),
        "coverage": coverage(found),
        "largest_gap_deg": largest_gap(found),
    }


def _mean_counts(layers: Iterable[Layer], family: str) -> dict[str, float]:
    """Return the mean of every figure over the layers of one kind of null."""
    many = [_counts(layer.units(family)) for layer in layers]
    return {key: float(np.mean([counts[key] for counts in many])) for key in many[0]}


def family_rows(layer: Layer, twins: Sequence[Layer], plan: NullPlan) -> pd.DataFrame:
    """Return the rows of the table ``families`` for one layer, one for each family."""
    return pd.concat([_family_row(family, layer, twins, plan) for family in layer.drawn], ignore_index=True)


def _family_row(family: str, layer: Layer, twins: Sequence[Layer], plan: NullPlan) -> pd.DataFrame:
    table = layer.units(family)
    found = table[table["detector"]]
    counts = _counts(table)
    untrained = _mean_counts(twins, family)
    units = len(table)
    haar = _mean_counts((layer.rotated(q) for q in rotations(units, plan.haar_rotations, plan.seed)), family)
    rng = np.random.default_rng([plan.seed, units])
    grid = layer.grids[family]
    shuffled = _mean_counts((replace(layer, grids={family: grid.shuffled(rng)}) for _ in range(plan.shuffles)), family)
    low, high = wilson_interval(len(found), units)
    tap = layer.ref.tap
    row = {
        "model": layer.ref.model, "tap": tap.name, "depth": tap.relative_depth, "rf_px": tap.rf_px,
        "family": family, "rule": FAMILIES[family].rule.name,
        "n_units": units, "n_dead": int((~table["live"]).sum()), "n_tuned": int(table["tuned"].sum()),
        "n_detectors": len(found), "share": counts["share"], "share_low": low, "share_high": high,
        "share_strong": counts["share_strong"], "share_naive": counts["share_naive"],
        "coverage": counts["coverage"], "largest_gap_deg": counts["largest_gap_deg"],
        "mean_r1": found["r1"].mean(), "mean_fwhm_deg": found["fwhm_deg"].mean(), "mean_echo": found["echo"].mean(),
        "n_twins": len(twins), "n_detectors_untrained": untrained["n_detectors"],
        "largest_gap_untrained_deg": untrained["largest_gap_deg"], "largest_gap_haar_deg": haar["largest_gap_deg"],
        "share_untrained": untrained["share"], "share_strong_untrained": untrained["share_strong"],
        "share_naive_untrained": untrained["share_naive"], "coverage_untrained": untrained["coverage"],
        "share_haar": haar["share"], "share_strong_haar": haar["share_strong"], "coverage_haar": haar["coverage"],
        "share_shuffled": shuffled["share"],
    }  # fmt: skip
    return schema.as_table(schema.FAMILIES, pd.DataFrame([row]))


def unit_rows(layer: Layer) -> pd.DataFrame:
    """Return the rows of the table ``units`` for one layer, every unit once for each family."""
    return pd.concat([_unit_rows(family, layer) for family in layer.drawn], ignore_index=True)


def _unit_rows(family: str, layer: Layer) -> pd.DataFrame:
    ref = layer.ref
    table = layer.units(family).assign(
        model=ref.model,
        tap=ref.tap.name,
        seed=-1 if ref.seed is None else ref.seed,
        family=family,
        tuning_sigma=list(layer.responses(family).tuning.astype(np.float32)),
    )
    # A criterion of another family has no value here.
    return schema.as_table(schema.UNITS, table.reindex(columns=schema.UNITS.names))


@dataclass(frozen=True)
class MatchingPlan:
    """How units are matched, and how many resamples and permutations say how sure a match is."""

    methods: tuple[str, ...]
    bootstraps: int
    permutations: int
    nulls: NullPlan


@dataclass(frozen=True)
class _Side:
    """A layer made ready for matching: standardised activations of its live units in each fold, and its tuning."""

    live: Indices
    decide: Array
    score: Array
    tuning: dict[str, Array]

    @classmethod
    def of(cls, layer: Layer) -> _Side:
        live = np.flatnonzero(layer.live)
        decide, score = (comparators.standardised(layer.natural[layer.fold == fold][:, live]) for fold in (0, 1))
        tuning = {family: np.maximum(layer.responses(family).tuning[live], 0.0) for family in layer.drawn}
        return cls(live, decide, score, tuning)


def correspondence_rows(layer_a: Layer, layer_b: Layer, twins_b: Sequence[Layer], plan: MatchingPlan) -> pd.DataFrame:
    """Return the table ``correspondence`` for one pair of layers, family by family.

    Units are matched among *all* live units of both layers on the photographs of fold 0; the pairs that hold a
    detector are kept and scored on the photographs of fold 1. The nulls ask the same of the same units of A with layer B replaced by its
    untrained twin, or by itself in a Haar-random basis: the best partner decided on fold 0, scored on fold 1.
    """
    if not (layer_a.live.any() and layer_b.live.any()):
        return schema.empty_table(schema.CORRESPONDENCE)
    sides = _Side.of(layer_a), _Side.of(layer_b)
    units_b = layer_b.natural.shape[1]
    nulls = {
        "untrained": [_Side.of(twin) for twin in twins_b],
        "haar": [_Side.of(layer_b.rotated(q)) for q in rotations(units_b, plan.nulls.haar_rotations, plan.nulls.seed)],
    }
    photographs = layer_a.photograph[layer_a.fold == 1]
    identity = pair_identity(layer_a.ref, layer_b.ref)
    parts = [schema.empty_table(schema.CORRESPONDENCE)]
    for family, grid in layer_a.grids.items():
        tables = layer_a.units(family), layer_b.units(family)
        for method in plan.methods:
            rows = _method_rows(
                method, family, sides, nulls, tables, photographs, layer_a.places, plan, grid.angles_deg
            )
            if not rows.empty:
                parts.append(schema.as_table(schema.CORRESPONDENCE, rows.assign(**identity, family=family)))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _method_rows(
    method: str,
    family: str,
    sides: tuple[_Side, _Side],
    nulls: dict[str, list[_Side]],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    photographs: Indices,
    places: int,
    plan: MatchingPlan,
    angles: Array,
) -> pd.DataFrame:
    a, b = sides
    r = comparators.correlations(a.decide, b.decide)
    i, j = comparators.MATCHINGS[method](r).T
    unit_tables = tables[0].iloc[a.live[i]].reset_index(drop=True), tables[1].iloc[b.live[j]].reset_index(drop=True)
    kept = np.flatnonzero(unit_tables[0]["detector"] | unit_tables[1]["detector"])
    i, j = i[kept], j[kept]
    of_a, of_b = (table.iloc[kept].reset_index(drop=True) for table in unit_tables)
    if not kept.size:
        return pd.DataFrame()
    which = np.unique(photographs, return_inverse=True)[1]
    weights, count = evidence.bootstrap_weights(which, places, plan.bootstraps, plan.nulls.seed)
    x, y = a.score[:, i], b.score[:, j]
    natural, resampled = _paired(x, y), evidence.bootstrap_correlations(x, y, which, weights)
    low, high = evidence.correlation_interval(natural, resampled, count)
    rank_ab, rank_ba = comparators.ranks(r, i, j), comparators.ranks(r.T, j, i)
    align = align_tuning(a.tuning[family][i], b.tuning[family][j], angles)
    columns: dict[str, Any] = {
        "method": method, "unit_a": of_a["unit"], "unit_b": of_b["unit"],
        "detector_a": of_a["detector"], "detector_b": of_b["detector"],
        "r_match": r[i, j], "r_natural": natural, "r_natural_low": low, "r_natural_high": high,
        "r_tuning": align.r_tuning, "r_aligned": align.r_aligned, "shift_deg": align.shift_deg,
        "preferred_a_deg": of_a["preferred_deg"], "preferred_b_deg": of_b["preferred_deg"],
        "delta_theta_deg": circular_difference(of_b["preferred_deg"], of_a["preferred_deg"]),
        "delta_log_curvature": _log_ratio(of_b, of_a, "preferred_curvature"),
        "delta_fwhm_deg": of_b["fwhm_deg"] - of_a["fwhm_deg"],
        "rank_ab": rank_ab, "rank_ba": rank_ba, "mutual": (rank_ab == 1) & (rank_ba == 1),
        "family_rate_b": float(tables[1]["detector"].mean()), "n_match": len(a.decide), "n_score": len(a.score),
    }  # fmt: skip
    for name, null_sides in nulls.items():
        columns |= _null_columns(name, family, a, i, null_sides, angles)
    columns["excess"] = columns["r_natural"] - columns["r_natural_haar"]
    partners = [(side, _best_partners(a, i, side)) for side in nulls["haar"] if side.live.size]
    in_bases = np.stack([_paired(x, side.score[:, k]) for side, k in partners])
    null = np.stack([evidence.bootstrap_correlations(x, side.score[:, k], which, weights) for side, k in partners])
    columns["excess_low"], columns["excess_high"] = evidence.excess_interval(
        columns["excess"], resampled - _nanmean(null), in_bases, count
    )
    columns["p"] = evidence.permutation_p(x, b.score, natural, which, places, plan.permutations, plan.nulls.seed)
    table = pd.DataFrame(columns)
    return table.assign(q=np.nan, verdict=evidence.verdicts(table))


def _log_ratio(b: pd.DataFrame, a: pd.DataFrame, column: str) -> Array:
    """Return log2(b / a) of a column, NaN where a family does not have it."""
    if column not in a:
        return np.full(len(a), np.nan)
    return np.asarray(np.log2(b[column].to_numpy() / a[column].to_numpy()))


def _paired(x: Array, y: Array) -> Array:
    return np.asarray(np.clip(np.einsum("ni,ni->i", x, y), -1.0, 1.0))  # rounding may exceed 1 by an ulp


def _null_columns(
    name: str, family: str, a: _Side, i: Indices, null_sides: Sequence[_Side], angles: Array
) -> dict[str, Array]:
    """Return the scores of units `i` of A with their best partners in each null layer, averaged over the null layers.

    The best partner, not the one of a one-to-one matching: no null unit is lost to another unit of A, so the null is at
    least as hard to beat as the matching itself.
    """
    scores = []
    for null in null_sides:
        if null.live.size == 0:
            scores.append(np.full((3, i.size), np.nan))
            continue
        j = _best_partners(a, i, null)
        align = align_tuning(a.tuning[family][i], null.tuning[family][j], angles)
        scores.append(np.stack([_paired(a.score[:, i], null.score[:, j]), align.r_tuning, align.r_aligned]))
    natural, tuning, aligned = _nanmean(np.stack(scores))
    return {f"r_natural_{name}": natural, f"r_tuning_{name}": tuning, f"r_aligned_{name}": aligned}


def _best_partners(a: _Side, i: Indices, null: _Side) -> Indices:
    return np.asarray(comparators.correlations(a.decide[:, i], null.decide).argmax(axis=1))


def _nanmean(values: Array) -> Array:
    """Mean over axis 0 of the defined values; NaN where none is (a null unit without tuning has no correlation)."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0))
