"""What the units of one layer find in another layer and in its nulls, asked once for all families and methods of matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import similarity
from universality.activations.layer import Halves, Layer
from universality.activations.nulls import NullPlan
from universality.base import intervals
from universality.base.recent import Recent
from universality.correspondence import random_bases, resampling
from universality.features import answers
from universality.similarity import mixture, transport
from universality.similarity.predictivity import Fold

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

NULLS = ("untrained", "haar")


@dataclass(frozen=True)
class MatchingPlan:
    """Which families' detectors are matched and how, and how many resamples and permutations say how sure a match is.

    `verdicts_only` leaves out what no verdict asks for: p, soft matching and ceilings are NaN.
    """

    families: tuple[str, ...]
    methods: tuple[str, ...]
    bootstraps: int
    permutations: int
    nulls: NullPlan
    verdicts_only: bool = False


@dataclass(frozen=True)
class Side:
    """A layer made ready for matching: its live units in both folds, and their tuning by family (live unit, angle)."""

    halves: Halves
    tuning: dict[str, Array]

    @classmethod
    def of(cls, layer: Layer, families: Sequence[str]) -> Side:
        """Return the live units of a layer."""
        halves = layer.halves()
        tuning = {family: np.maximum(answers.responses(layer, family).tuning[halves.live], 0.0) for family in families}
        return cls(halves, tuning)


@dataclass(frozen=True)
class Contender:
    """A layer with everything that matching needs of it for any partner; each part is made when first asked for.

    Attributes
    ----------
    layer : the layer itself
    twins : the same layer of the untrained twins
    plan : how many nulls and resamples
    """

    layer: Layer
    twins: Sequence[Layer]
    plan: MatchingPlan

    @cached_property
    def side(self) -> Side:
        """The layer ready for matching."""
        return Side.of(self.layer, self.plan.families)

    @cached_property
    def nulls(self) -> dict[str, list[Side]]:
        """The layer's nulls by name: its untrained twins, and itself in Haar-random bases.

        A null layer in which no unit varies holds no partner and is left out.
        """
        nulls, families = self.plan.nulls, self.plan.families
        turned = (self.layer.in_random(index, nulls.seed) for index in range(nulls.haar_rotations))
        made = {"untrained": self.twins, "haar": turned}
        return {
            name: [side for side in (Side.of(layer, families) for layer in layers) if side.halves.live.size]
            for name, layers in made.items()
        }

    @property
    def bases(self) -> random_bases.RandomBases:
        """The random bases that units of other layers have to exceed; the first are those of `nulls`."""
        return random_bases.RandomBases.of(self.layer, self.plan.nulls.haar_rotations, self.plan.nulls.seed)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The units of every family, with every criterion."""
        return {family: answers.units(self.layer, family) for family in self.plan.families}

    @cached_property
    def mixed(self) -> Fold:
        """The layer's live units, decomposed to be mixed: fitted where matches are decided."""
        return _mixed(self.layer)

    @cached_property
    def twins_mixed(self) -> list[Fold]:
        """The same of those untrained twins that have a live unit."""
        return [_mixed(twin) for twin in self.twins if twin.live.any()]

    @cached_property
    def resamples(self) -> Resamples:
        """The photographs of the scoring fold, resampled and permuted: the same for every layer that was shown them."""
        return Resamples.of(self.layer, self.plan)

    @cached_property
    def turned(self) -> Contender:
        """The layer in a Haar-random basis that is none of its nulls'.

        Another rotation of a rotated layer is one more Haar-random basis of the layer, so both have the same nulls.
        """
        nulls = self.plan.nulls
        turned = self.layer.in_random(max(nulls.haar_rotations, random_bases.LEAST_BASES), nulls.seed)
        return _Turned(turned, self.twins, replace(self.plan, verdicts_only=True), self)


@dataclass(frozen=True)
class _Turned(Contender):
    origin: Contender

    @cached_property
    def nulls(self) -> dict[str, list[Side]]:
        return self.origin.nulls

    @property
    def bases(self) -> random_bases.RandomBases:
        return self.origin.bases


def _mixed(layer: Layer) -> Fold:
    return mixture.prepare(layer.natural[:, layer.live], layer.fold == 0)


@dataclass(frozen=True)
class Found:
    """What units of one layer find in another layer; the last axis of every array runs over `units`.

    Attributes
    ----------
    units : (unit,) their places among the layer's live units, increasing
    partners : by null, (null layer, unit): the best partner by fold 0 among the null layer's live units
    natural : by null, the held-out correlation with the best partner: with that of each untrained twin (twin, unit), and with that of each draw of
        `in_bases` (draw, unit) under ``haar``, of which there are more than null layers
    in_bases : what they find in the random bases
    mass : by null, (unit,): the mass that soft matching moves to that partner in the first null layer of the kind
    maxima : (permutation, unit) largest correlation with any unit of the other layer, images permuted; None if not asked for
    ceiling, ceiling_untrained : (unit,) held-out correlation with the best mixture of the other layer, of its twins (mean)
    """

    units: Indices
    partners: dict[str, list[Indices]]
    natural: dict[str, Array]
    in_bases: random_bases.InBases
    mass: dict[str, Array]
    maxima: Array | None
    ceiling: Array
    ceiling_untrained: Array


@dataclass(frozen=True)
class Resamples:
    """The rows that score: their photographs, bootstrap weights (bootstrap, photograph), and permuted (permutation, row)."""

    photographs: resampling.Photographs
    weights: Array
    orders: Indices

    @classmethod
    def of(cls, layer: Layer, plan: MatchingPlan) -> Resamples:
        """Return the resamples of the photographs that a layer was shown."""
        photographs, places, seed = layer.scored_photographs, layer.places, plan.nulls.seed
        permutations = 0 if plan.verdicts_only else plan.permutations

        def drawn() -> Resamples:
            weights, _ = resampling.bootstrap_weights(photographs, places, plan.bootstraps, seed)
            orders = resampling.permuted_rows(photographs, places, permutations, seed)
            return cls(resampling.Photographs.of(photographs, places), weights, orders)

        return _RESAMPLES.get((photographs.tobytes(), places, plan.bootstraps, permutations, seed), drawn)

    @property
    def nbytes(self) -> int:
        """What they take, bytes."""
        return self.weights.nbytes + self.orders.nbytes + self.photographs.of_row.nbytes

    def interval(self, r: Array, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the ends of the 95 % interval of the correlations `r` of paired columns (pair,)."""
        resampled = resampling.bootstrap_correlations(x, y, self.photographs.of_row, self.weights)
        return intervals.correlation_interval(r, resampled, self.photographs.count)


_RESAMPLES: Recent[Resamples] = Recent(64 << 20, lambda resamples: resamples.nbytes)
"""All layers of a job are shown the same photographs."""


@dataclass(frozen=True)
class Quest:
    """Live units `units` of a layer, increasing, that look for partners in another one."""

    own: Contender
    other: Contender
    units: Indices


def search(quests: Sequence[Quest]) -> list[Found]:
    """Return what units find in another layer, in its nulls, and with the images permuted, quest by quest.

    Quests that ask for the same layer's random bases share them, and one layer's units are asked about once.
    """
    in_bases: dict[int, random_bases.InBases] = {}
    # They are held while they are told apart by where they lie in memory: a freed one's place could be that of another.
    bases = [quest.other.bases for quest in quests]
    groups: dict[int, list[int]] = {}
    for at, of in enumerate(bases):
        groups.setdefault(id(of), []).append(at)
    for group in groups.values():
        asked = [(quests[at].own.side.halves, quests[at].units) for at in group]
        found = random_bases.in_bases(asked, bases[group[0]], quests[group[0]].own.resamples.photographs)
        in_bases |= dict(zip(group, found, strict=True))
    return [_found(quest, in_bases[at]) for at, quest in enumerate(quests)]


def _found(quest: Quest, in_bases: random_bases.InBases) -> Found:
    own, other, units = quest.own, quest.other, quest.units
    halves = own.side.halves
    twins = [side.halves for side in other.nulls["untrained"]]
    best = [similarity.correlations(halves.decide[:, units], twin.decide).argmax(axis=1) for twin in twins]
    with_twins = [
        resampling.paired(halves.score[:, units], twin.score[:, b]) for twin, b in zip(twins, best, strict=True)
    ]
    natural = {"untrained": np.array(with_twins).reshape(-1, units.size), "haar": in_bases.r[0]}
    partners = {"untrained": best, "haar": list(in_bases.partner[0][: len(other.nulls["haar"])])}
    nothing = np.full(units.size, np.nan)
    found = Found(units, partners, natural, in_bases, dict.fromkeys(NULLS, nothing), None, nothing, nothing)
    brief = own.plan.verdicts_only or other.plan.verdicts_only
    return found if brief else _with_context(found, own, other)


def _with_context(found: Found, own: Contender, other: Contender) -> Found:
    """Return also what no verdict asks for: soft matching in the nulls, permuted images, ceilings."""
    halves, units = own.side.halves, found.units
    mass = {}
    for name, sides in other.nulls.items():
        # One null layer of a kind: the transport problem of a whole layer takes longer than all the rest.
        each = [
            transport.shared_mass(similarity.correlations(halves.decide, side.halves.decide))[units, best]
            for side, best in zip(sides[:1], found.partners[name], strict=False)
        ]
        mass[name] = nanmean(np.array(each).reshape(-1, units.size))
    whole = own.layer.natural[:, halves.live[units]]
    twins = [mixture.correlations(mixed, whole) for mixed in other.twins_mixed]
    return replace(
        found,
        mass=mass,
        maxima=resampling.permutation_maxima(halves.score[:, units], other.side.halves.score, own.resamples.orders),
        ceiling=mixture.correlations(other.mixed, whole),
        ceiling_untrained=nanmean(np.array(twins).reshape(-1, units.size)),
    )


def nanmean(values: Array) -> Array:
    """Mean over axis 0 of the defined values; NaN where none is (a null unit without tuning has no correlation)."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0))
