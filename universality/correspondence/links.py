"""Which units of two layers are the same, for networks, untrained twins and random bases alike.

Arrays in, arrays out. The table ``correspondence`` judges the pairs that a matching chose; here every pair of two layers that
may be the same is judged, by the same rule (`universality.correspondence.verdict`), and so are their nulls, so that shares of shared units and
cliques can be counted in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from universality import similarity
from universality.activations.layer import Halves
from universality.correspondence import random_bases, verdict
from universality.correspondence.resampling import Photographs, bootstrap_weights
from universality.features.tuning import circular_difference
from universality.similarity.matching import EQUAL, mutual_top

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

ANY_UNIT = "any_unit"
"""The rule for units of whatever family, or none."""


@dataclass(frozen=True)
class Marks:
    """Which live units a rule is about, and their preferred orientations.

    Attributes
    ----------
    eligible : (live unit,)
    near : (live unit,) which may be their partners: a near miss of a family, too
    angle_deg : (live unit,) degrees; NaN where the rule knows none
    period_deg : the angles' period, degrees
    """

    eligible: Flags
    near: Flags
    angle_deg: Array
    period_deg: float = 360.0


@dataclass(frozen=True)
class View:
    """A layer's live units, as they are or in a random basis.

    Attributes
    ----------
    halves : their activations in both folds
    marks : by rule; `ANY_UNIT` or a family of detectors
    """

    halves: Halves
    marks: Mapping[str, Marks]


@dataclass(frozen=True)
class Sight:
    """A layer as it is judged.

    Attributes
    ----------
    views : first the layer as it is, then in random bases of its own, in which nothing should correspond
    bases : the random bases that units of other layers have to exceed, none of which is a view; the same as in ``correspondence``
    """

    views: Sequence[View]
    bases: random_bases.RandomBases


@dataclass(frozen=True)
class Resampling:
    """The images of both folds and how often each photograph is drawn in every resample.

    Attributes
    ----------
    decide : (row,) photograph of each row of the deciding fold, numbered from 0 without gaps
    score : the photographs of the scoring fold
    decide_weights, score_weights : (resample, photograph)
    """

    decide: Indices
    score: Photographs
    decide_weights: Array
    score_weights: Array

    @classmethod
    def of(cls, fold: Indices, photograph: Indices, places: int, resamples: int, seed: int) -> Resampling:
        """Draw the resamples; `fold` and `photograph` are those of the rows of a layer, `places` its rows per image."""
        decide, score = (np.unique(photograph[fold == f], return_inverse=True)[1] for f in (0, 1))
        # Another seed for the other fold: no photograph lies in both.
        first, _ = bootstrap_weights(decide, places, resamples, seed + 1)
        second, _ = bootstrap_weights(score, places, resamples, seed)
        return cls(decide, Photographs.of(score, places), first, second)


@dataclass(frozen=True)
class Links:
    """Pairs of units of two views that lack nothing to be the same but, it may be, an excess over random bases.

    Attributes
    ----------
    rule : (pair,) names
    pairs : (pair, 2) indices into the live units of both views
    r : (pair,) correlation on the scoring fold
    excess, excess_low, excess_z : (pair,) as in the table ``correspondence``
    kept : (resample, pair) whether the excess stays above its error with the scoring fold's photographs resampled
    linked : (pair,) which are the same: of verdict same_feature, for any unit by `verdict.same_unit`
    """

    rule: NDArray[np.str_]
    pairs: Indices
    r: Array
    excess: Array
    excess_low: Array
    excess_z: Array
    kept: Flags
    linked: Flags


def candidates(r: Array, rule: str, a: Marks, b: Marks) -> Indices:
    """Return the pairs (pair, 2) of eligible units that only an excess can keep from being the same.

    Units of any kind are each other's best partner by the correlations `r` (p, q) among all live units, detectors of a family are
    among each other's best `verdict.TOP_K` with preferred orientations within `verdict.NEAR_DEG`.
    """
    if not (a.near.any() and b.near.any()):
        return np.zeros((0, 2), dtype=np.int64)
    pairs = mutual_top(r, best_of(rule), EQUAL)
    i, j = pairs.T
    wanted = verdict.of_family(a.eligible[i], b.eligible[j], a.near[i], b.near[j])
    if rule != ANY_UNIT:
        wanted &= np.abs(_apart(pairs, a, b)) <= verdict.NEAR_DEG
    return np.asarray(pairs[wanted])


def _apart(pairs: Indices, a: Marks, b: Marks) -> Array:
    return circular_difference(b.angle_deg[pairs[:, 1]], a.angle_deg[pairs[:, 0]], a.period_deg)


def best_of(rule: str) -> int:
    """Return among how many best partners of each other two units have to be."""
    return 1 if rule == ANY_UNIT else verdict.TOP_K


@dataclass(frozen=True)
class Block:
    """Two layers, and the links between their views.

    Attributes
    ----------
    a, b : the layers
    resampling : their images
    """

    a: Sight
    b: Sight
    resampling: Resampling

    def links(self, views: Sequence[tuple[int, int]]) -> list[Links]:
        """Return the links between some views of the first layer and of the second, by every rule they share.

        Pairs of views ask for the same random bases, which are made once.
        """
        asked = [_Asked.of(self.a.views[u], self.b.views[v]) for u, v in views]
        shown = self.resampling.score
        of_a = random_bases.in_bases([(each.x.halves, each.i) for each in asked], self.b.bases, shown)
        of_b = random_bases.in_bases([(each.y.halves, each.j) for each in asked], self.a.bases, shown)
        return [
            each.links(nulls, self.resampling) for each, nulls in zip(asked, zip(of_a, of_b, strict=True), strict=True)
        ]


@dataclass(frozen=True)
class _Asked:
    """Two views with their correlations on the deciding fold, and by rule the pairs that only an excess can keep from being the same."""

    x: View
    y: View
    r: Array
    found: dict[str, Indices]

    @classmethod
    def of(cls, x: View, y: View) -> _Asked:
        r = similarity.correlations(x.halves.decide, y.halves.decide)
        return cls(x, y, r, {name: candidates(r, name, x.marks[name], y.marks[name]) for name in x.marks})

    @cached_property
    def pairs(self) -> Indices:
        return np.concatenate(list(self.found.values()))

    @cached_property
    def i(self) -> Indices:
        return np.unique(self.pairs[:, 0])

    @cached_property
    def j(self) -> Indices:
        return np.unique(self.pairs[:, 1])

    def links(self, nulls: tuple[random_bases.InBases, random_bases.InBases], resampling: Resampling) -> Links:
        x, y, r, pairs = self.x, self.y, self.r, self.pairs
        rule = np.repeat(list(self.found), [len(part) for part in self.found.values()]).astype(np.str_)
        beyond = verdict.scored(x.halves, y.halves, pairs, nulls, resampling.score)
        linked = np.zeros(len(pairs), dtype=np.bool_)
        for name in self.found:
            chosen = rule == name
            linked[chosen] = _same(
                r, name, pairs[chosen], (beyond.low[chosen], beyond.z[chosen]), x.marks[name], y.marks[name]
            )
        kept = beyond.kept(resampling.score_weights)
        return Links(rule, pairs, beyond.r, beyond.excess, beyond.low, beyond.z, kept, linked)


def _same(r: Array, rule: str, pairs: Indices, excess: tuple[Array, Array], a: Marks, b: Marks) -> Flags:
    """Return which pairs are the same by a rule."""
    i, j = pairs.T
    ranks = similarity.ranks(r, i, j), similarity.ranks(r.T, j, i)
    if rule == ANY_UNIT:
        return verdict.same_unit(*ranks, verdict.above_bases(*excess))
    found = verdict.Evidence(a.eligible[i], b.eligible[j], a.near[i], b.near[j], *ranks, *excess, _apart(pairs, a, b))
    return np.asarray(verdict.judge(found).verdict == verdict.VERDICTS[0])


def rematched(x: View, y: View, links: Links, resampling: Resampling) -> Flags:
    """Return whether each link is found again with the photographs of the deciding fold resampled: (resample, pair).

    Units are matched anew among all live units; a unit that does not vary in a resample matches nothing there.
    """
    again = np.zeros((len(resampling.decide_weights), len(links.pairs)), dtype=np.bool_)
    if not len(links.pairs):
        return again
    best = np.array([best_of(str(rule)) for rule in links.rule])
    i, j = links.pairs.T
    (rows, row), (columns, column) = (np.unique(side, return_inverse=True) for side in (i, j))
    weights = resampling.decide_weights[:, resampling.decide]
    first, second = x.halves.decide, y.halves.decide
    moments = [_weighted_moments(decide, weights) for decide in (first, second)]
    for place, w in enumerate(weights):
        (mean_a, length_a), (mean_b, length_b) = ((mean[place], length[place]) for mean, length in moments)
        forth = ((first[:, rows].T * w) @ second - w.sum() * np.outer(mean_a[rows], mean_b)) / length_b
        back = ((second[:, columns].T * w) @ first - w.sum() * np.outer(mean_b[columns], mean_a)) / length_a
        # Ranks of a unit's partners do not depend on the unit's own length.
        rank_ab = 1 + (forth[row] > forth[row, j][:, None] + EQUAL * length_a[i][:, None]).sum(axis=1)
        rank_ba = 1 + (back[column] > back[column, i][:, None] + EQUAL * length_b[j][:, None]).sum(axis=1)
        varies = np.isfinite(length_a[i]) & np.isfinite(length_b[j])
        again[place] = (rank_ab <= best) & (rank_ba <= best) & varies
    return again


def _weighted_moments(x: Array, weights: Array) -> tuple[Array, Array]:
    """Return weighted means and lengths about them (resample, unit); infinite where a unit does not vary, so r is 0."""
    total = weights.sum(axis=1, keepdims=True)
    mean = weights @ x / total
    squares = weights @ (x * x) - total * mean * mean
    # Columns have length one: what is left of one that is constant in a resample is rounding, of either sign.
    return mean, np.sqrt(np.where(squares > 1e-12, squares, np.inf))
