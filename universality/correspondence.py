"""Which detector here is which detector there: family and unit tables, every row with its nulls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import comparators, evidence, schema
from universality.comparison import Halves, Layer, NullPlan, pair_identity, rotations
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
    """A layer made ready for matching: its live units in both folds, and their tuning by family (live unit, angle)."""

    halves: Halves
    tuning: dict[str, Array]

    @classmethod
    def of(cls, layer: Layer) -> _Side:
        halves = layer.halves()
        tuning = {family: np.maximum(layer.responses(family).tuning[halves.live], 0.0) for family in layer.drawn}
        return cls(halves, tuning)


@dataclass(frozen=True)
class _Pair:
    """What all families and methods of one pair of layers share."""

    a: _Side
    b: _Side
    nulls: dict[str, list[_Side]]
    r: Array
    photographs: Indices
    places: int
    weights: Array
    count: int
    plan: MatchingPlan


def correspondence_rows(layer_a: Layer, layer_b: Layer, twins_b: Sequence[Layer], plan: MatchingPlan) -> pd.DataFrame:
    """Return the table ``correspondence`` for one pair of layers, family by family.

    Units are matched among *all* live units of both layers on the photographs of fold 0; the pairs that hold a
    detector are kept and scored on the photographs of fold 1. The nulls ask the same of the same units of A with layer B replaced by its
    untrained twin, or by itself in a random basis (Haar): the best partner decided on fold 0, scored on fold 1.
    """
    if not (layer_a.live.any() and layer_b.live.any()):
        return schema.empty_table(schema.CORRESPONDENCE)
    pair = _pair(layer_a, layer_b, twins_b, plan)
    # All units are matched, whatever their family: once per method.
    matches = {method: comparators.MATCHINGS[method](pair.r) for method in plan.methods}
    identity = pair_identity(layer_a.ref, layer_b.ref)
    parts = [schema.empty_table(schema.CORRESPONDENCE)]
    for family, grid in layer_a.grids.items():
        tables = layer_a.units(family), layer_b.units(family)
        for method, matched in matches.items():
            rows = _family_matches(family, pair, matched, tables, grid.angles_deg)
            if not rows.empty:
                parts.append(
                    schema.as_table(schema.CORRESPONDENCE, rows.assign(**identity, family=family, method=method))
                )
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _pair(layer_a: Layer, layer_b: Layer, twins_b: Sequence[Layer], plan: MatchingPlan) -> _Pair:
    a, b = _Side.of(layer_a), _Side.of(layer_b)
    bases = rotations(layer_b.natural.shape[1], plan.nulls.haar_rotations, plan.nulls.seed)
    nulls = {
        "untrained": [_Side.of(twin) for twin in twins_b],
        "haar": [_Side.of(layer_b.rotated(q)) for q in bases],
    }
    photographs = layer_a.scored_photographs
    weights, count = evidence.bootstrap_weights(photographs, layer_a.places, plan.bootstraps, plan.nulls.seed)
    r = comparators.correlations(a.halves.decide, b.halves.decide)
    return _Pair(a, b, nulls, r, photographs, layer_a.places, weights, count, plan)


def _family_matches(
    family: str, pair: _Pair, matched: Indices, tables: tuple[pd.DataFrame, pd.DataFrame], angles: Array
) -> pd.DataFrame:
    """Return the matches (m, 2) that hold a detector of a family, with their evidence."""
    a, b = pair.a.halves, pair.b.halves
    i, j = matched.T
    of_a, of_b = tables[0].iloc[a.live[i]].reset_index(drop=True), tables[1].iloc[b.live[j]].reset_index(drop=True)
    kept = np.flatnonzero(of_a["detector"] | of_b["detector"])
    if not kept.size:
        return pd.DataFrame()
    i, j = i[kept], j[kept]
    of_a, of_b = (table.iloc[kept].reset_index(drop=True) for table in (of_a, of_b))
    rank_ab, rank_ba = comparators.ranks(pair.r, i, j), comparators.ranks(pair.r.T, j, i)
    align = align_tuning(pair.a.tuning[family][i], pair.b.tuning[family][j], angles)
    columns: dict[str, Any] = {
        "unit_a": of_a["unit"], "unit_b": of_b["unit"],
        "detector_a": of_a["detector"], "detector_b": of_b["detector"], "r_match": pair.r[i, j],
        "r_tuning": align.r_tuning, "r_aligned": align.r_aligned, "shift_deg": align.shift_deg,
        "preferred_a_deg": of_a["preferred_deg"], "preferred_b_deg": of_b["preferred_deg"],
        "delta_theta_deg": circular_difference(of_b["preferred_deg"], of_a["preferred_deg"]),
        "delta_log_curvature": _log_ratio(of_b, of_a, "preferred_curvature"),
        "delta_fwhm_deg": of_b["fwhm_deg"] - of_a["fwhm_deg"],
        "rank_ab": rank_ab, "rank_ba": rank_ba, "mutual": (rank_ab == 1) & (rank_ba == 1),
        "family_rate_b": float(tables[1]["detector"].mean()), "n_match": len(a.decide), "n_score": len(a.score),
        **_evidence_columns(family, pair, i, j, angles),
    }  # fmt: skip
    table = pd.DataFrame(columns)
    return table.assign(q=np.nan, verdict=evidence.verdicts(table))


def _evidence_columns(family: str, pair: _Pair, i: Indices, j: Indices, angles: Array) -> dict[str, Array]:
    """Return the held-out correlations of pairs (i, j), those of the nulls, the excess, and how sure they are."""
    x, y = pair.a.halves.score[:, i], pair.b.halves.score[:, j]

    def resampled(z: Array) -> Array:
        return evidence.bootstrap_correlations(x, z, pair.photographs, pair.weights)

    natural, of_pairs = _paired(x, y), resampled(y)
    low, high = evidence.correlation_interval(natural, of_pairs, pair.count)
    partners = {name: [_best_partners(pair.a, i, side) for side in sides] for name, sides in pair.nulls.items()}
    scores = {name: _null_scores(family, pair, i, name, partners[name], angles) for name in pair.nulls}
    columns: dict[str, Array] = {"r_natural": natural, "r_natural_low": low, "r_natural_high": high}
    for name, found in scores.items():
        for column, values in zip(("r_natural", "r_tuning", "r_aligned"), _nanmean(found), strict=True):
            columns[f"{column}_{name}"] = values
    columns["excess"] = natural - columns["r_natural_haar"]
    in_bases = np.stack(
        [resampled(side.halves.score[:, k]) for side, k in zip(pair.nulls["haar"], partners["haar"], strict=True)]
    )
    columns["excess_low"], columns["excess_high"] = evidence.excess_interval(
        columns["excess"], of_pairs - _nanmean(in_bases), scores["haar"][:, 0], pair.count
    )
    columns["p"] = evidence.permutation_p(
        x, pair.b.halves.score, natural, pair.photographs, pair.places, pair.plan.permutations, pair.plan.nulls.seed
    )
    return columns


def _log_ratio(b: pd.DataFrame, a: pd.DataFrame, column: str) -> Array:
    """Return log2(b / a) of a column, NaN where a family does not have it."""
    if column not in a:
        return np.full(len(a), np.nan)
    return np.asarray(np.log2(b[column].to_numpy() / a[column].to_numpy()))


def _paired(x: Array, y: Array) -> Array:
    return np.asarray(np.clip(np.einsum("ni,ni->i", x, y), -1.0, 1.0))  # rounding may exceed 1 by an ulp


def _null_scores(family: str, pair: _Pair, i: Indices, name: str, partners: Sequence[Indices], angles: Array) -> Array:
    """Return (null layer, score, pair): held-out r, r_tuning and r_aligned of units `i` of A with their best partners.

    The best partner, not the one of a one-to-one matching: no null unit is lost to another unit of A, so the null is at
    least as hard to beat as the matching itself. NaN for a null layer in which no unit varies.
    """
    a, scores = pair.a, []
    for null, j in zip(pair.nulls[name], partners, strict=True):
        if null.halves.live.size == 0:
            scores.append(np.full((3, i.size), np.nan))
            continue
        align = align_tuning(a.tuning[family][i], null.tuning[family][j], angles)
        natural = _paired(a.halves.score[:, i], null.halves.score[:, j])
        scores.append(np.stack([natural, align.r_tuning, align.r_aligned]))
    return np.stack(scores)


def _best_partners(a: _Side, i: Indices, null: _Side) -> Indices:
    """Return for units `i` of A their best partners among a null's live units, decided on fold 0; none if it has none."""
    if null.halves.live.size == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(comparators.correlations(a.halves.decide[:, i], null.halves.decide).argmax(axis=1))


def _nanmean(values: Array) -> Array:
    """Mean over axis 0 of the defined values; NaN where none is (a null unit without tuning has no correlation)."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0))
