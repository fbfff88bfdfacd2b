"""Tables of families, units and matched units, every row with its nulls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import similarity
from universality.activations.layer import Layer, pair_identity
from universality.activations.nulls import NullPlan
from universality.base import schema
from universality.correspondence import verdict
from universality.correspondence.resampling import p_of, wilson_interval
from universality.correspondence.search import NULLS, Contender, Found, Quest, nanmean, search
from universality.features import answers
from universality.features.families import FAMILIES
from universality.features.rules import CLIPPED_TIES
from universality.features.tables import OWN, UNITS
from universality.features.tuning import align_tuning, circular_difference, coverage, largest_gap
from universality.similarity import transport
from universality.stimuli.framing import Scene

UNKNOWN_SCENE = Scene(float("nan"), float("nan"), float("nan"))
Array = NDArray[np.float64]
Indices = NDArray[np.int64]
COVERAGE_DEG = 30.0
"""Width of the bins in which coverage is counted."""
_AT_ONCE = 4
"""Layers that are compared with one at a time and share its random bases. Each takes 80 to 150 MB of memory meanwhile (672 units, 320 and 540 images)."""


def _counts(table: pd.DataFrame, period_deg: float) -> dict[str, float]:
    """Return the figures of a family, from its units' table, that its nulls share with it."""
    found = table.loc[table["detector"], "preferred_deg"]
    return {
        "n_detectors": float(table["detector"].sum()),
        "share": float(table["detector"].mean()),
        "share_strong": float(table["strong"].mean()),
        "share_naive": float(table["naive_detector"].mean()),
        "coverage": coverage(found, round(period_deg / COVERAGE_DEG), period_deg),
        "largest_gap_deg": largest_gap(found, period_deg),
    }


def _mean_counts(tables: Iterable[pd.DataFrame], family: str) -> dict[str, float]:
    """Return the mean of every figure over the units' tables of one kind of null."""
    many = [_counts(table, FAMILIES[family].period_deg) for table in tables]
    return {key: float(np.mean([counts[key] for counts in many])) for key in many[0]}


def family_rows(family: str, layer: Layer, twins: Sequence[Layer], plan: NullPlan) -> pd.DataFrame:
    """Return the row of the table ``families`` for one family in one layer."""
    table = answers.units(layer, family)
    found = table[table["detector"]]
    counts = _counts(table, FAMILIES[family].period_deg)
    untrained = _mean_counts((answers.units(twin, family) for twin in twins), family)
    units = len(table)
    haar, haar_standardised = (
        _mean_counts(
            (answers.units(of.in_random(index, plan.seed), family) for index in range(plan.haar_rotations)), family
        )
        for of in (layer, layer.standardised())
    )
    sparse = _mean_counts((answers.units(twin.as_sparse_as(layer), family) for twin in twins), family)
    rng = np.random.default_rng([plan.seed, units])
    grid = answers.grid(layer, family)
    orders = (grid.shuffled(rng) for _ in range(plan.shuffles))
    shuffled = _mean_counts((answers.units(layer, family, order) for order in orders), family)
    low, high = wilson_interval(len(found), units)
    tap, scene = layer.ref.tap, layer.ref.scene or UNKNOWN_SCENE
    row = {
        "model": layer.ref.model, "tap": tap.name, "depth": tap.relative_depth, "rf_px": tap.rf_px or 0,
        "scene_px": scene.side_px, "scene_shown": scene.shown, "misalignment_px": scene.misalignment_px,
        "family": family, "rule": FAMILIES[family].rule.name,
        "n_units": units, "n_dead": int((~table["live"]).sum()), "n_tuned": int(table["tuned"].sum()),
        "n_detectors": len(found), "n_strict": int((found["level"] == "strict").sum()),
        "n_clipped": int((found["ties"] >= CLIPPED_TIES).sum()), "share": counts["share"], "share_low": low, "share_high": high,
        "share_strong": counts["share_strong"], "share_naive": counts["share_naive"],
        "coverage": counts["coverage"], "largest_gap_deg": counts["largest_gap_deg"],
        "mean_r1": found["r1"].mean(), "mean_fwhm_deg": found["fwhm_deg"].mean(), "mean_echo": found["echo"].mean(),
        "n_twins": len(twins), "n_detectors_untrained": untrained["n_detectors"],
        "largest_gap_untrained_deg": untrained["largest_gap_deg"], "largest_gap_haar_deg": haar["largest_gap_deg"],
        "share_untrained": untrained["share"], "share_strong_untrained": untrained["share_strong"],
        "share_naive_untrained": untrained["share_naive"], "coverage_untrained": untrained["coverage"],
        "share_haar": haar["share"], "share_strong_haar": haar["share_strong"], "coverage_haar": haar["coverage"],
        "share_haar_standardised": haar_standardised["share"],
        "share_sparse": sparse["share"], "share_naive_sparse": sparse["share_naive"],
        "share_shuffled": shuffled["share"],
    }  # fmt: skip
    return schema.as_table(schema.FAMILIES, pd.DataFrame([row]))


def unit_rows(family: str, layer: Layer) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the table ``units`` for one family in one layer and those of the family's own table, one for each unit."""
    ref = layer.ref
    table = answers.units(layer, family).assign(
        model=ref.model,
        tap=ref.tap.name,
        seed=-1 if ref.seed is None else ref.seed,
        family=family,
        tuning_sigma=list(answers.responses(layer, family).tuning.astype(np.float32)),
    )
    common, own = (schema.as_table(of, table[of.names]) for of in (UNITS, OWN[family]))
    return common, own


def correspondence_rows(a: Contender, b: Contender) -> pd.DataFrame:
    """Return the table ``correspondence`` for one pair of layers, family by family.

    Units are matched among *all* live units of both layers on the photographs of fold 0; the pairs that hold a
    detector are kept and scored on the photographs of fold 1. The nulls ask the same of unit_a with layer B replaced by its
    untrained twin, or by itself in a Haar-random basis, and of unit_b with layer A replaced: the best partner decided on
    fold 0, scored on fold 1. Of the two sides the one that is harder to beat counts, so the order of the layers does not matter.
    """
    return _rows_of([(a, b)])[0]


def null_rows(a: Contender, b: Contender) -> pd.DataFrame:
    """Return the table ``correspondence_nulls`` for one pair of layers: the same rows where nothing should correspond.

    Twin A against twin B, seed by seed, and each of the layers in a Haar-random basis against the other as it is.
    """
    nulls = _nulls(a, b)
    return _named(nulls, _rows_of([(x, y) for _, _, x, y in nulls]))


def rows_and_nulls(a: Contender, others: Iterable[Contender]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return `correspondence_rows` and `null_rows` of a layer with each of some others; so many at once (`_AT_ONCE`) share the random bases."""
    left, made = iter(others), []
    while some := list(itertools.islice(left, _AT_ONCE)):
        made += _rows_and_nulls(a, some)
    return made


def _rows_and_nulls(a: Contender, others: Sequence[Contender]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    nulls = [_nulls(a, b) for b in others]
    found = iter(
        _rows_of(
            [pair for b, of in zip(others, nulls, strict=True) for pair in ((a, b), *((x, y) for _, _, x, y in of))]
        )
    )
    return [(next(found), _named(of, [next(found) for _ in of])) for of in nulls]


_Null = tuple[str, int | None, Contender, Contender]


def _nulls(a: Contender, b: Contender) -> list[_Null]:
    """Return the name, the seed and both layers of every null of a pair of layers."""
    twins: list[_Null] = [
        ("untrained", x.ref.seed, Contender(x, (), a.plan), Contender(y, (), b.plan))
        for x, y in zip(a.twins, b.twins, strict=True)
    ]
    return [*twins, ("haar_a", None, a.turned, b), ("haar_b", None, a, b.turned)]


def _named(nulls: Sequence[_Null], rows: Sequence[pd.DataFrame]) -> pd.DataFrame:
    parts = [
        of.assign(null=name, seed=-1 if seed is None else seed)
        for (name, seed, _, _), of in zip(nulls, rows, strict=True)
    ]
    return schema.as_table(schema.CORRESPONDENCE_NULLS, pd.concat(parts, ignore_index=True))


def _rows_of(pairs: Sequence[tuple[Contender, Contender]]) -> list[pd.DataFrame]:
    """Return the rows of ``correspondence`` of pairs of layers; what they ask of random bases is asked at once."""
    contests = [_Contest.of(a, b) for a, b in pairs]
    found = iter(Pair.several([(each.a, each.b, each.wanted, each.r) for each in contests if each.wanted.size]))
    return [
        _contest_rows(each, next(found)) if each.wanted.size else schema.empty_table(schema.CORRESPONDENCE)
        for each in contests
    ]


@dataclass(frozen=True)
class _Contest:
    """Two layers whose live units were matched: correlations `r`, and by family and method the matches that hold a detector."""

    a: Contender
    b: Contender
    r: Array
    kept: dict[tuple[str, str], Indices]

    @classmethod
    def of(cls, a: Contender, b: Contender) -> _Contest:
        if not (a.layer.live.any() and b.layer.live.any()):
            return cls(a, b, np.empty((0, 0)), {})
        r = similarity.correlations(a.side.halves.decide, b.side.halves.decide)
        # All units are matched, whatever their family: once per method.
        matches = {method: similarity.MATCHINGS[method](r) for method in a.plan.methods}
        kept = {
            (family, method): matched[_holds_detector(family, a, b, matched)]
            for family in a.plan.families
            for method, matched in matches.items()
        }
        return cls(a, b, r, kept)

    @property
    def wanted(self) -> Indices:
        """All matches (match, 2) that are asked about."""
        return np.concatenate([np.empty((0, 2), dtype=np.int64), *self.kept.values()])


def _contest_rows(contest: _Contest, pair: Pair) -> pd.DataFrame:
    identity = pair_identity(contest.a.layer.ref, contest.b.layer.ref)
    parts = [
        schema.as_table(
            schema.CORRESPONDENCE,
            matched_rows(family, pair, chosen).drop(columns="lacks").assign(**identity, family=family, method=method),
        )
        for (family, method), chosen in contest.kept.items()
        if chosen.size
    ]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Pair:
    """What all families and methods of one pair of layers share.

    `found_a` is what units of A find in layer B and its nulls, `found_b` the reverse.
    """

    a: Contender
    b: Contender
    r: Array
    mass: Array
    found_a: Found
    found_b: Found

    @classmethod
    def several(cls, asked: Sequence[tuple[Contender, Contender, Indices, Array]]) -> list[Pair]:
        """Look for the partners of pairs (pair, 2) of live units of two layers, whose correlations on the deciding fold are given."""
        quests = []
        for a, b, wanted, _ in asked:
            i, j = (np.unique(units) for units in wanted.T)
            quests += [Quest(a, b, i), Quest(b, a, j)]
        found = search(quests)
        return [
            cls(a, b, r, _mass(a, b, r), of_a, of_b)
            for (a, b, _, r), of_a, of_b in zip(asked, found[::2], found[1::2], strict=True)
        ]


def _mass(a: Contender, b: Contender, r: Array) -> Array:
    brief = a.plan.verdicts_only or b.plan.verdicts_only
    return np.full(r.shape, np.nan) if brief else transport.shared_mass(r)


def _holds_detector(family: str, a: Contender, b: Contender, matched: Indices) -> NDArray[np.bool_]:
    of_a, of_b = (x.tables[family]["detector"].to_numpy()[x.side.halves.live] for x in (a, b))
    return np.asarray(of_a[matched[:, 0]] | of_b[matched[:, 1]])


def matched_rows(family: str, pair: Pair, matched: Indices) -> pd.DataFrame:
    """Return the matches (m, 2) of live units with their evidence and verdict, and in `lacks` what each has not."""
    i, j = matched.T
    a, b = pair.a.side, pair.b.side
    of_a, of_b = (
        contender.tables[family].iloc[contender.side.halves.live[units]].reset_index(drop=True)
        for contender, units in ((pair.a, i), (pair.b, j))
    )
    rank_ab, rank_ba = similarity.ranks(pair.r, i, j), similarity.ranks(pair.r.T, j, i)
    period = FAMILIES[family].period_deg
    align = align_tuning(
        a.tuning[family][i], b.tuning[family][j], answers.grid(pair.a.layer, family).angles_deg, period
    )
    columns: dict[str, Any] = {
        "unit_a": of_a["unit"], "unit_b": of_b["unit"],
        "detector_a": of_a["detector"], "detector_b": of_b["detector"], "near_a": of_a["near"], "near_b": of_b["near"], "r_match": pair.r[i, j],
        "r_tuning": align.r_tuning, "r_aligned": align.r_aligned, "shift_deg": align.shift_deg,
        "preferred_a_deg": of_a["preferred_deg"], "preferred_b_deg": of_b["preferred_deg"],
        "delta_theta_deg": circular_difference(of_b["preferred_deg"], of_a["preferred_deg"], period),
        "delta_log_curvature": _log_ratio(of_b, of_a, "preferred_curvature"),
        "delta_fwhm_deg": of_b["fwhm_deg"] - of_a["fwhm_deg"],
        "rank_ab": rank_ab, "rank_ba": rank_ba, "mutual": (rank_ab == 1) & (rank_ba == 1),
        "soft_mass": pair.mass[i, j],
        "family_rate_a": float(pair.a.tables[family]["detector"].mean()),
        "family_rate_b": float(pair.b.tables[family]["detector"].mean()),
        "n_match": len(a.halves.decide), "n_score": len(a.halves.score),
        **_evidence_columns(family, pair, i, j),
    }  # fmt: skip
    table = pd.DataFrame(columns)
    judged = verdict.judge(verdict.Evidence(
        table["detector_a"].to_numpy(), table["detector_b"].to_numpy(), table["near_a"].to_numpy(), table["near_b"].to_numpy(), rank_ab, rank_ba,
        table["excess_low"].to_numpy(), table["excess_z"].to_numpy(), table["delta_theta_deg"].to_numpy(),
    ))  # fmt: skip
    return table.assign(q=np.nan, verdict=judged.verdict, lacks=judged.lacks)


def _evidence_columns(family: str, pair: Pair, i: Indices, j: Indices) -> dict[str, Array]:
    """Return the held-out correlations of pairs (i, j), those of the nulls, the excess, and how sure they are."""
    a, b, resamples = pair.a.side.halves, pair.b.side.halves, pair.a.resamples
    nulls = pair.found_a.in_bases, pair.found_b.in_bases
    beyond = verdict.scored(a, b, np.stack([i, j], axis=1), nulls, resamples.photographs)
    natural = beyond.r
    low, high = resamples.interval(natural, a.score[:, i], b.score[:, j])
    columns: dict[str, Array] = {"r_natural": natural, "r_natural_low": low, "r_natural_high": high}
    directions = (
        _Direction(pair.a, pair.b, pair.found_a, i, family),
        _Direction(pair.b, pair.a, pair.found_b, j, family),
    )
    for name in NULLS:
        forward, backward = (direction.null_scores(name) for direction in directions)
        for column in forward:
            # A side whose null layers are all dead has no value; that of the other side counts.
            columns[f"{column}_{name}"] = np.fmax(forward[column], backward[column])
    standardised = (direction.found.in_bases.level[1, direction.at] for direction in directions)
    columns |= {
        "r_natural_haar_standardised": np.fmax(*standardised),
        "excess": beyond.excess, "excess_low": beyond.low, "excess_high": beyond.high, "excess_z": beyond.z,
        "power": beyond.power, "r_confirmable": beyond.confirmable,
    }  # fmt: skip
    columns["p"] = np.maximum(*(direction.p(natural) for direction in directions))
    for side, direction in zip("ab", directions, strict=True):
        columns[f"ceiling_{side}"] = direction.found.ceiling[direction.at]
        columns[f"ceiling_{side}_untrained"] = direction.found.ceiling_untrained[direction.at]
    return columns


@dataclass(frozen=True)
class _Direction:
    """Matched units (pair,) of one layer, seen from that layer: what they find in the nulls of the other."""

    own: Contender
    other: Contender
    found: Found
    units: Indices
    family: str

    @property
    def at(self) -> Indices:
        """Places (pair,) of the matched units among those that were searched for."""
        return np.searchsorted(self.found.units, self.units)

    def null_scores(self, name: str) -> dict[str, Array]:
        """Return the mean scores (pair,) with the best partners in the null layers of one kind, by column.

        The best partner, not the one of a one-to-one matching: no null unit is lost to another unit, so the null is at
        least as hard to beat as the matching itself. NaN where every null layer is dead.
        """
        found, curves = self.found, self.own.side.tuning[self.family][self.units]
        angles = answers.grid(self.own.layer, self.family).angles_deg
        aligned = [
            align_tuning(curves, side.tuning[self.family][partners[self.at]], angles, FAMILIES[self.family].period_deg)
            for side, partners in zip(self.other.nulls[name], found.partners[name], strict=True)
        ]
        shape = (len(aligned), self.units.size)
        return {
            "r_natural": nanmean(found.natural[name][:, self.at]),
            "soft_mass": found.mass[name][self.at],
            "r_tuning": nanmean(np.array([align.r_tuning for align in aligned]).reshape(shape)),
            "r_aligned": nanmean(np.array([align.r_aligned for align in aligned]).reshape(shape)),
        }

    def p(self, natural: Array) -> Array:
        """Return the permutation p (pair,); NaN where none was asked for."""
        maxima = self.found.maxima
        return np.full(natural.shape, np.nan) if maxima is None else p_of(natural, maxima[:, self.at])


def _log_ratio(b: pd.DataFrame, a: pd.DataFrame, column: str) -> Array:
    """Return log2(b / a) of a column, NaN where a family does not have it."""
    if column not in a:
        return np.full(len(a), np.nan)
    return np.asarray(np.log2(b[column].to_numpy() / a[column].to_numpy()))


def looked_at(units: pd.DataFrame, correspondence: pd.DataFrame) -> pd.DataFrame:
    """Return the units that people are shown, each once: detectors of trained networks and units of matched pairs; columns model, tap, unit."""
    keys = ["model", "tap", "unit"]
    parts = [units.loc[units["detector"] & (units["seed"] == -1), keys]]
    parts += [correspondence[[f"{key}_{side}" for key in keys]].set_axis(keys, axis=1) for side in "ab"]
    return pd.concat(parts).drop_duplicates()
