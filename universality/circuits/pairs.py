"""Whether two matched units have the same circuit: their incoming weights from earlier layers of their networks, set side by side.

The sources of two networks are set side by side in two ways.

- ``match``: the earlier layers' units are matched one to one (largest sum of r on the deciding fold); a unit's *wiring* is its weight from every matched
  source (`LEAST_R` on held-out images) in nine squares of its field, less the mean over sources at each square: what is left says *which* sources.
- ``angle``: a detector's weights from families of detectors, by the difference of preferred angles and by square in the detector's own frame.

``s_w`` is the correlation of two wirings. What a row says beside it:

- *permuted*: sources exchanged (within their family): no circuit at all.
- *Haar*: the direction of a random basis of the other layer that answers most alike, with its weights (`BASES` bases).
- *untrained*: the unit of an untrained twin that answers most alike, with its weights.
- *unmatched*: other units. For ``match`` pairs of units that answer as alike (r_natural within `EQUAL_R`) without being matched; for ``angle`` other detectors of the family.
- *read-out*: the ridge weights that read the response from the same sources, over the unit's own squares: what any unit with these responses might have.
- *ceiling*: for ``match`` what a unit shares with its own circuit carried over to the other network's sources (ridge of what each square hands on); for ``angle``
  what detectors of the family share with one another within a network, turned onto one another (the geometric mean of both networks).

The interval of s_w is over sources, drawn anew, about s_w itself (`universality.base.intervals.correlation_interval`): it covers what s_w is on average over as many sources as there are. By angle that is
less than what endless sources of the same families would give, for the mean of few sources is noisy; the ceiling and all nulls are measured with as few.

References
----------
The question: C. Olah et al., Zoom In, Distill 2020, claims 2 and 3. Leave-one-out ridge: T. Hastie et al., The elements of statistical learning, 2nd ed., eq. 7.64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr

from universality.activations.bases import haars
from universality.activations.layer import Layer, pair_identity
from universality.base.arrays import Array, Ints, centred, live_units, reciprocal, standardised
from universality.base.intervals import correlation_interval
from universality.circuits.plan import CircuitPlan
from universality.circuits.profiles import Units, placed, share_within
from universality.circuits.wirings import PLACES, ByAngle, ByMatch, alike, matched_sources, wiring_of
from universality.models.card import Tap
from universality.similarity.matching import correlations, hungarian
from universality.similarity.predictivity import Fold, decomposed, penalties, press

Weights = Callable[[Tap, Tap, Array], xr.DataArray]
"""Of a network: the weights into directions (direction, unit) of a later tap, (unit_b, unit_a, dy, dx)."""

STRIDES = 2
"""A square's side, in strides of the coarser of the two earlier layers."""
LEAST_SOURCES = 12
"""Matched sources that two wirings need, or detectors among the sources of a family's."""
LEAST_DETECTORS = 4
"""Detectors of a family that it needs in both earlier layers to be a source."""
EQUAL_R = 0.05
UNMATCHED = 4
"""Pairs of units that are not matched and answer as alike, asked for each matched pair."""
BASES = 20
"""Random bases whose best partners s_w has to exceed in 95 %."""
MOST_WHOLE_BYTES = 512 << 20
"""What the weights of all units of a layer may take to be kept; of larger layers they are asked for again and again, in blocks."""
BLOCK = 64
LEAST_FIDELITY = 0.5
"""Correlation of a unit's weights with what they are held against (`Ends.fidelity`), below which they are no description of its circuit."""
CEILING_SHARE = 0.5
"""An interval wholly below this share of the ceiling is another circuit."""
ROUNDING = 1e-6
"""By which s_w of equal weights may differ: they are sums of 32 bit numbers."""
VERDICTS = ("same_circuit", "same_response_other_circuit", "undecided")
NULLS = ("permuted", "haar", "untrained", "unmatched", "readout")


@dataclass(frozen=True)
class Ends:
    """One network's part of a comparison: an earlier layer, a later one, and the weights between them.

    Attributes
    ----------
    sources, targets : the two layers
    weights : asks the network for weights
    checks : ask it for what they are held against: linear weights against the mean of the gradients at natural images; mean gradients (two checks) those at one half of the images
        against those at the other; none where fidelity is not asked for
    labels : by family, the detectors among the sources with their preferred angles
    detectors : the same of the targets
    """

    sources: Layer
    targets: Layer
    weights: Weights
    checks: tuple[Weights, ...]
    labels: Mapping[str, Units]
    detectors: Mapping[str, Units]

    @cached_property
    def deviation(self) -> Array:
        """The standard deviation of every source over natural images, (unit,)."""
        return np.asarray(self.sources.natural.std(axis=0))

    def into(self, directions: Array) -> xr.DataArray:
        """Return the weights into directions (direction, unit of the later layer), from standard deviations of the sources."""
        return self._asked(directions) if self._whole is None else _mixture(self._whole, directions)

    def _asked(self, directions: Array) -> xr.DataArray:
        return self._in_deviations(self.weights(self.sources.ref.tap, self.targets.ref.tap, directions))

    def fidelity(self, units: Ints, side_px: float) -> Array:
        """Return how far the weights describe units (unit,), over sources and squares of their fields; NaN where it is not asked for.

        The correlation of linear weights with mean gradients; of mean gradients that of the halves, stepped up to all images (Spearman and Brown) where it is above 0.
        """
        if not self.checks:
            return np.full(len(units), np.nan)
        directions, taps = np.eye(self.n_targets)[units], (self.sources.ref.tap, self.targets.ref.tap)
        found = [self._in_deviations(ask(*taps, directions)) for ask in self.checks]
        halves = len(found) > 1
        one, other = (
            placed(of, 0.0, side_px, PLACES).reshape(len(units), -1)
            for of in (found if halves else [self.of_units(units), *found])
        )
        r = alike(one, other)
        return np.where(r > 0, 2 * r / (1 + np.abs(r)), r) if halves else r

    def _in_deviations(self, found: xr.DataArray) -> xr.DataArray:
        return found.copy(data=found.values * self.deviation.astype(found.dtype)[None, :, None, None])

    def of_units(self, units: Sequence[int] | Ints) -> xr.DataArray:
        """Return the same of units."""
        places = np.asarray(units, dtype=int)
        # Of a few units of a twin the weights of all are not worth asking for.
        kept = self.__dict__.get("_whole")
        return self._asked(np.eye(self.n_targets)[places]) if kept is None else kept.isel(unit_b=places)

    @property
    def n_targets(self) -> int:
        """How many units the later layer has."""
        return int(self.targets.natural.shape[1])

    def squares(self, sources: Ints, side_px: float) -> Array:
        """Return the weights of every unit from some sources, in squares of its field: (unit, source, place)."""
        if self._whole is not None:
            return placed(self._whole.isel(unit_a=sources), 0.0, side_px, PLACES)
        blocks = np.split(np.arange(self.n_targets), range(BLOCK, self.n_targets, BLOCK))
        return np.concatenate(
            [placed(self.of_units(some).isel(unit_a=sources), 0.0, side_px, PLACES) for some in blocks]
        )

    @cached_property
    def _whole(self) -> xr.DataArray | None:
        """The weights of every unit, of which mixtures are sums; None where they take too much to be kept."""
        tap = self.sources.ref.tap
        if 4 * self.n_targets * tap.channels * tap.size * tap.columns > MOST_WHOLE_BYTES:
            return None
        return self._asked(np.eye(self.n_targets))

    @cached_property
    def values(self) -> Array:
        """The sources' natural activations, standardised; 0 where a unit does not vary, (row, unit)."""
        return _standardised(self.sources.natural)

    @cached_property
    def _reading(self) -> Fold:
        return decomposed(self.values, np.ones(len(self.values), dtype=np.bool_))

    def readout(self, targets: Array) -> Array:
        """Return the ridge weights (target, source) that read targets (row, target) from the sources, each with its own penalty by leave-one-out."""
        fold, y = self._reading, centred(targets)
        best = penalties(fold)[press(fold, y).argmin(axis=0)]
        shrink = reciprocal(np.square(fold.s)[:, None] + best[None])
        return np.asarray((self.values.T @ (fold.u @ (shrink * (fold.u.T @ y)))).T)

    def read_from_sources(self, units: Ints, weights: xr.DataArray) -> xr.DataArray:
        """Return, for weights into units, what ridge weights reading these units' answers would be, spread over each unit's own squares."""
        read = self.readout(_standardised(self.targets.natural[:, units]))
        spread = np.abs(weights.values).sum(axis=1)
        spread = spread * reciprocal(spread.sum(axis=(1, 2)))[:, None, None]
        return weights.copy(data=read[:, :, None, None] * spread[:, None])


def _standardised(x: Array) -> Array:
    return np.where(live_units(x), standardised(x), 0.0)


# rows -----------------------------------------------------------------------------------------------------------------


def circuit_rows(
    a: Ends,
    b: Ends,
    twins_a: Sequence[Ends],
    twins_b: Sequence[Ends],
    matched: pd.DataFrame,
    back: int,
    plan: CircuitPlan,
    ways: Sequence[str] = ("match", "angle"),
) -> list[dict[str, object]]:
    """Return what is measured of matched units of two layers, with one earlier layer of each: see the module's docstring.

    Parameters
    ----------
    twins_a, twins_b : the same layers of the untrained twins
    matched : rows of ``correspondence`` about these two layers, one per pair and family
    back : how many taps before the units' own the sources lie
    ways : of setting sources side by side

    Returns
    -------
    list
        Of every pair one row for each way of setting sources side by side that it has: see `universality.circuits.tables.CIRCUITS`, less ``q`` and ``verdict``.
    """
    side_px = STRIDES * max(float(of.sources.ref.tap.stride_px or 1) for of in (a, b))
    common = {
        **pair_identity(a.targets.ref, b.targets.ref), "source_a": a.sources.ref.tap.name, "source_b": b.sources.ref.tap.name, "back": back,
    }  # fmt: skip
    if matched.empty:
        return []
    matched = matched.reset_index(drop=True)
    bases = [_haar_partners(a, b, matched["unit_b"], plan), _haar_partners(b, a, matched["unit_a"], plan)]
    measured_by = []
    if "match" in ways:
        measured_by.append(_by_match(a, b, twins_a, twins_b, matched, side_px, bases, plan))
    if "angle" in ways:
        for family in plan.families:
            own = matched[matched["family"] == family]
            measured_by.append(_by_angle(a, b, twins_a, twins_b, own, family, side_px, bases, plan))
    told = matched[["family", "method", "unit_a", "unit_b", "r_natural", "verdict"]].rename(
        columns={"verdict": "verdict_response"}
    )
    parts = [found[found["s_w"].notna()] for found in measured_by if len(found)]
    if not parts:
        return []
    told, measured = told.assign(fidelity=_fidelity(a, b, matched, side_px)), pd.concat(parts)
    return [
        common | told.loc[place].to_dict() | row
        for place, row in zip(measured.index, measured.to_dict("records"), strict=True)
    ]


def _fidelity(a: Ends, b: Ends, matched: pd.DataFrame, side_px: float) -> Array:
    """Return how far weights describe the units of a pair: of the unit (pair,) that they describe less."""
    found = []
    for of, column in ((a, "unit_a"), (b, "unit_b")):
        units, place = np.unique(matched[column].to_numpy(np.int64), return_inverse=True)
        found.append(of.fidelity(units, side_px)[place])
    return np.minimum(*found)


def _within(weights: Sequence[xr.DataArray], side_px: float, disc: bool = False) -> Array:
    """Return the share of the weights' power that lies in the squares: of the unit (pair,) of either network where it is less."""
    return np.minimum(*(share_within(of, side_px, PLACES, disc=disc) for of in weights))


def _haar_partners(of: Ends, other: Ends, partners: pd.Series, plan: CircuitPlan) -> Array:
    """Return, basis by basis of standardised units, the direction of a layer that answers most like each unit of the other layer, (basis, pair, unit)."""
    halves = of.targets.halves()
    units, place = np.unique(partners.to_numpy(np.int64), return_inverse=True)
    asked, scale = _decided(other, units), reciprocal(of.targets.natural.std(axis=0))[halves.live]
    found = np.zeros((BASES, len(units), of.n_targets))
    for k, basis in enumerate(haars(BASES, plan.seed)):
        mixed = basis.seen(np.eye(halves.live.size)).T
        best = correlations(asked, _standardised(halves.decide @ mixed.T)).argmax(axis=1)
        found[k][:, halves.live] = mixed[best] * scale
    return found[:, place]


def _of_bases(sides: Sequence[Array]) -> dict[str, float]:
    """Return the mean of s_w with random bases and its 95 % quantile: of the side (base,) where each is larger."""
    known = [of[np.isfinite(of)] for of in sides]
    return {
        "s_w_haar": _larger(float(of.mean()) for of in known if of.size), "s_w_haar_95": _larger(float(np.quantile(of, 0.95)) for of in known if of.size),
    }  # fmt: skip


def _decided(of: Ends, units: Ints) -> Array:
    layer = of.targets
    return _standardised(layer.natural[layer.fold == 0][:, units])


def _twin_partners(twin: Ends, other: Ends, partners: Ints) -> Ints | None:
    """Return the units of an untrained twin that answer most like each unit of the other layer; None where none varies."""
    halves = twin.targets.halves()
    return (
        halves.live[correlations(_decided(other, partners), halves.decide).argmax(axis=1)] if halves.live.size else None
    )


def _equal_r(a: Ends, b: Ends, r: Array) -> list[Ints]:
    """Return for each r of a matched pair up to `UNMATCHED` pairs (pair, 2) of units that answer as alike and are not each other's best in either direction."""
    first, second = a.targets.halves(), b.targets.halves()
    if not first.live.size or not second.live.size:
        return [np.zeros((0, 2), np.int64) for _ in r]
    decided, scored = correlations(first.decide, second.decide), correlations(first.score, second.score)
    scored[np.arange(len(decided)), decided.argmax(axis=1)] = np.nan
    scored[decided.argmax(axis=0), np.arange(decided.shape[1])] = np.nan
    i, j = hungarian(decided).T
    scored[i, j] = np.nan
    found = []
    for one in r:
        apart = np.abs(scored - one).ravel()
        near = np.argsort(apart, kind="stable")[:UNMATCHED]
        near = near[apart[near] <= EQUAL_R]
        rows, columns = np.unravel_index(near, scored.shape)
        found.append(np.stack([first.live[rows], second.live[columns]], axis=1))
    return found


def _nanmean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _summary(s_w: float, n_sources: int, resampled: Array, chance: Array) -> dict[str, float]:
    """Return s_w with its interval, and the share of exchanged sources that reach it."""
    low, high = (float(end[0]) for end in correlation_interval(np.array([s_w]), resampled[:, None], n_sources))
    known = chance[np.isfinite(chance)]
    p = (1 + (known >= s_w - 1e-12).sum()) / (1 + known.size) if np.isfinite(s_w) and known.size else np.nan
    spread = (float(np.quantile(known, 0.95)), float(known.std())) if known.size else (np.nan, np.nan)
    return {
        "n_sources": n_sources, "s_w": s_w, "s_w_low": low, "s_w_high": high, "s_w_permuted": float(known.mean()) if known.size else np.nan,
        "s_w_permuted_95": spread[0], "s_w_detectable": spread[0] + 0.8416 * spread[1], "p": float(p),
    }  # fmt: skip


def _by_match(
    a: Ends,
    b: Ends,
    twins_a: Sequence[Ends],
    twins_b: Sequence[Ends],
    matched: pd.DataFrame,
    side_px: float,
    bases: Sequence[Array],
    plan: CircuitPlan,
) -> pd.DataFrame:
    """Return s_w by matched sources of every pair, beside its nulls and its ceiling; nothing where too few sources are matched."""
    index = ByMatch(*matched_sources(a.sources, b.sources), side_px)
    if len(index.a) < LEAST_SOURCES:
        return pd.DataFrame()
    units = [matched[name].to_numpy(np.int64) for name in ("unit_a", "unit_b")]
    others = _equal_r(a, b, matched["r_natural"].to_numpy(float))
    ends, sources = (a, b), (index.a, index.b)

    def seen(of: int, weights: xr.DataArray) -> Array:
        return index.wirings(weights, sources[of])

    weights = [of.of_units(units[k]) for k, of in enumerate(ends)]
    x, y = (seen(k, weights[k]) for k in (0, 1))
    within = _within(weights, side_px)
    read = [seen(k, ends[k].read_from_sources(units[k], weights[k])) for k in (0, 1)]
    squares = [of.squares(sources[k], side_px) for k, of in enumerate(ends)]
    haar = [np.stack([wiring_of(np.tensordot(d, squares[k], axes=1)) for d in bases[k]]) for k in (0, 1)]
    distinct = np.concatenate(others)
    apart = [wiring_of(squares[k][distinct[:, k]]) for k in (0, 1)]
    unmatched = np.split((apart[0] * apart[1]).sum(axis=(1, 2)), np.cumsum([len(some) for some in others])[:-1])
    twins = _by_match_untrained(a, twins_b, units[0], side_px), _by_match_untrained(b, twins_a, units[1], side_px)
    carried = _carried(index, a, b, weights)
    rows = []
    for p in range(len(matched)):
        rng = np.random.default_rng([plan.seed, *(int(of[p]) for of in units)])
        s_w = float((x[p] * y[p]).sum()) if x[p].any() and y[p].any() else float("nan")
        of_bases = [np.einsum("bsp,sp->b", haar[1][:, p], x[p]), np.einsum("bsp,sp->b", haar[0][:, p], y[p])]
        rows.append({
            "sources": "match", "share_within": within[p],
            **_summary(s_w, len(index.a), index.resampled(x[p], y[p], rng), index.permuted(x[p], y[p], rng)),
            **_of_bases(of_bases), "s_w_untrained": _larger(_nanmean([one[p] for one in of]) for of in twins),
            "s_w_unmatched": _nanmean(list(unmatched[p])), "n_unmatched": len(others[p]),
            "s_w_readout": _larger([(x[p] * read[1][p]).sum(), (y[p] * read[0][p]).sum()]), "s_w_ceiling": carried[p],
        })  # fmt: skip
    return pd.DataFrame(rows, index=matched.index)


def _larger(values: Iterable[float]) -> float:
    known = [float(value) for value in values if np.isfinite(value)]
    return max(known) if known else float("nan")


def _by_match_untrained(own: Ends, twins: Sequence[Ends], units: Ints, side_px: float) -> list[Array]:
    """Return s_w of a network's units with the units of each twin (of the other network) that answer most alike, (pair,) each."""
    found = []
    for twin in twins:
        partners, index = (
            _twin_partners(twin, own, units),
            ByMatch(*matched_sources(own.sources, twin.sources), side_px),
        )
        if partners is None or len(index.a) < LEAST_SOURCES:
            continue
        x, y = index.wirings(own.of_units(units), index.a), index.wirings(twin.of_units(partners), index.b)
        found.append((x * y).sum(axis=(1, 2)))
    return found


def _carried(index: ByMatch, a: Ends, b: Ends, weights: Sequence[xr.DataArray]) -> Array:
    """Return what a unit would share with its own circuit carried over to the other network's sources, the mean of both directions, (pair,)."""
    found = []
    for own, other, of, here, there in ((a, b, weights[0], index.a, index.b), (b, a, weights[1], index.b, index.a)):
        whole = placed(of, 0.0, index.side_px, PLACES)
        handed = np.einsum("ns,tsp->ntp", own.values, whole).reshape(len(own.values), -1)
        copied = other.readout(handed).reshape(len(whole), PLACES**2, -1).transpose(0, 2, 1)
        found.append((wiring_of(whole[:, here]) * wiring_of(copied[:, there])).sum(axis=(1, 2)))
    return np.asarray((found[0] + found[1]) / 2)


def _by_angle(
    a: Ends, b: Ends, twins_a: Sequence[Ends], twins_b: Sequence[Ends], matched: pd.DataFrame, family: str, side_px: float,
    bases: Sequence[Array], plan: CircuitPlan,
) -> pd.DataFrame:  # fmt: skip
    """Return s_w by families and relative angles of every pair of detectors, beside its nulls and its ceiling; nothing where sources are too few."""
    if family not in a.detectors or family not in b.detectors or matched.empty:
        return pd.DataFrame()
    targets = [of.detectors[family] for of in (a, b)]
    both = matched[matched["detector_a"] & matched["detector_b"]]
    index = ByAngle(_shared_families(a, b, targets[0].period_deg, plan.families), side_px)
    ends = (a, b)
    n_sources = sum(min(len(of.labels[f].unit) for of in ends) for f in index.families)
    if n_sources < LEAST_SOURCES or both.empty:
        return pd.DataFrame()
    at = [{int(unit): k for k, unit in enumerate(of.unit)} for of in targets]
    places = [np.array([at[k][int(unit)] for unit in both[name]]) for k, name in enumerate(("unit_a", "unit_b"))]
    units = [targets[k].unit[places[k]] for k in (0, 1)]
    angles = [targets[k].angle_deg[places[k]] for k in (0, 1)]
    weights = [ends[k].of_units(targets[k].unit) for k in (0, 1)]
    parts = [index.parts(weights[k], targets[k].angle_deg, ends[k].labels) for k in (0, 1)]
    wirings = [np.concatenate([part.wiring() for part in of]) for of in parts]
    between, within = _all_alike(*wirings), [_all_alike(of, of) for of in wirings]
    of_family = [_nanmean(list(of[~np.eye(len(of), dtype=bool)])) for of in within]
    ceiling = float(np.sqrt(max(of_family[0], 0.0) * max(of_family[1], 0.0)))

    def beside(k: int, found: xr.DataArray) -> Array:
        """Return s_w of the other network's matched units with what stands for this one's."""
        standing = np.concatenate([part.wiring() for part in index.parts(found, angles[k], ends[k].labels)])
        return alike(standing, wirings[1 - k][places[1 - k]])

    inside = _within([weights[k].isel(unit_b=places[k]) for k in (0, 1)], side_px, disc=True)
    haar = [np.stack([beside(k, ends[k].into(d)) for d in bases[k][:, both.index]]) for k in (0, 1)]
    read = [
        beside(k, ends[k].read_from_sources(units[k], weights[k].isel(unit_b=places[k]))) for k in (0, 1)
    ]  # fmt: skip
    twins: list[list[Array]] = []
    for k, those in ((0, twins_a), (1, twins_b)):
        best = [(twin, _twin_partners(twin, ends[1 - k], units[1 - k])) for twin in those]
        twins.append([beside(k, twin.of_units(some)) for twin, some in best if some is not None])
    rows = []
    for p, (i, j) in enumerate(zip(*places, strict=True)):
        rng = np.random.default_rng([plan.seed, int(units[0][p]), int(units[1][p]), 1])
        first, second = parts[0][i], parts[1][j]
        rest = [*np.delete(between[i], j), *np.delete(between[:, j], i)]
        rows.append({
            "sources": "angle", "share_within": inside[p],
            **_summary(between[i, j], n_sources, alike(first.resampled(rng), second.resampled(rng)), alike(first.wiring(), second.permuted(rng))),
            **_of_bases([of[:, p] for of in haar]), "s_w_untrained": _larger(_nanmean([one[p] for one in of]) for of in twins),
            "s_w_unmatched": _nanmean(rest), "n_unmatched": int(np.isfinite(rest).sum()), "s_w_readout": _larger(one[p] for one in read), "s_w_ceiling": ceiling,
        })  # fmt: skip
    return pd.DataFrame(rows, index=both.index)


def _mixture(whole: xr.DataArray, directions: Array) -> xr.DataArray:
    """Return the weights into mixtures (direction, unit) of units."""
    return xr.DataArray(
        np.tensordot(directions, whole.values, axes=1), dims=whole.dims,
        coords={name: whole[name] for name in ("unit_a", "dy", "dx")} | {"unit_b": np.arange(len(directions))},
    )  # fmt: skip


def _shared_families(a: Ends, b: Ends, period_deg: float, families: Sequence[str]) -> tuple[str, ...]:
    def has(of: Ends, family: str) -> bool:
        found = of.labels.get(family)
        return found is not None and len(found.unit) >= LEAST_DETECTORS and found.period_deg == period_deg

    return tuple(family for family in families if has(a, family) and has(b, family))


def _all_alike(x: Array, y: Array) -> Array:
    return np.stack([alike(one[None], y) for one in x])


def power(rows: pd.DataFrame) -> Array:
    """Return the chance of every row (row,) to be same_circuit if its true s_w were the ceiling, 0 to 1; NaN without a ceiling.

    Fisher's z of s_w is taken for normal about the ceiling's, with the error that the row's interval states; nulls stay as they are, and q is taken for 0.05 or less where s_w
    exceeds 95 % of exchanges.
    """
    z = {
        name: np.arctanh(np.clip(rows[name].to_numpy(float), -1 + 1e-12, 1 - 1e-12))
        for name in ("s_w_low", "s_w_high", "s_w_ceiling", "s_w_permuted_95", "s_w_haar_95")
    }
    floor = np.arctanh(np.clip(_floor(rows), -1 + 1e-12, 1 - 1e-12))
    half = (z["s_w_high"] - z["s_w_low"]) / 2
    least = np.fmax(np.fmax(floor + half, z["s_w_permuted_95"]), z["s_w_haar_95"])
    with np.errstate(divide="ignore", invalid="ignore"):  # an interval that is a point: certainty
        return np.asarray(ndtr((z["s_w_ceiling"] - least) / (half / 1.959963984540054)))


def _floor(rows: pd.DataFrame) -> Array:
    """Return the largest null of every row, of those that there are."""
    return rows[[f"s_w_{name}" for name in NULLS if f"s_w_{name}" in rows]].max(axis=1).to_numpy(float)


def same_circuit(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows (row,) are the same circuit: see `judged`."""
    same = (rows["q"] <= 0.05) & (rows["s_w_low"] > _floor(rows) + ROUNDING) & ~(rows["s_w"] <= rows["s_w_haar_95"])
    return same.to_numpy(np.bool_)


def judged(rows: pd.DataFrame) -> NDArray[np.object_]:
    """Return the verdict on every row, one of `VERDICTS`; needs ``q``.

    - same_circuit: q is 0.05 or less, the whole interval of s_w lies above every null that there is, and s_w above 95 % of random bases
    - same_response_other_circuit: the responses are the same feature, the whole interval lies below half of the ceiling (`CEILING_SHARE`), and the weights
      describe both units (`LEAST_FIDELITY`): weights that are not the circuit's say nothing against it
    - undecided: neither
    """
    same = same_circuit(rows)
    other = (
        (rows["verdict_response"] == "same_feature")
        & (rows["fidelity"] >= LEAST_FIDELITY)
        & (rows["s_w_high"] < CEILING_SHARE * rows["s_w_ceiling"])
    )
    return np.select([same, other], VERDICTS[:2], default=VERDICTS[2]).astype(object)
