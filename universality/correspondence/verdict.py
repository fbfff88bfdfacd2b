"""Whether two units are the same feature: how the evidence of a pair is computed, and the one rule from it to a verdict.

The tables of correspondence, the census (index of universality, cliques) and tracing judge units here and nowhere else. What
the rule looks at depends on the pair of layers and the two units alone, not on who asks or which other pairs are asked about:
the same random bases, the same error, and a variance over bases that is that of the whole layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from universality import similarity
from universality.activations.bases import Basis, haars
from universality.activations.layer import Halves
from universality.correspondence import resampling

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

VERDICTS = ("same_feature", "correlated_only", "family_only", "unmatched")
TOP_K = 3
"""Partners have to be among each other's best so many."""
NEAR_DEG = 20.0
"""Largest difference of preferred orientations of one and the same feature, degrees."""
LEAST_BASES = 2
"""However few random bases a job asks for: from a single one the spread over bases is unknown."""


@dataclass(frozen=True)
class Evidence:
    """What the verdict on pairs of units rests on; every array is (pair,).

    Attributes
    ----------
    detector_a, detector_b : whether each unit is a detector of the family on its own
    rank_ab, rank_ba : rank of each unit among all live units of its layer for the other one, on the deciding fold; 1 is best
    excess_low : lower end of the 95 % interval of the held-out correlation less that in random bases, the lower of both sides'
    apart_deg : difference of preferred orientations, degrees, of either sign; NaN where one has none
    """

    detector_a: Flags
    detector_b: Flags
    rank_ab: Indices
    rank_ba: Indices
    excess_low: Array
    apart_deg: Array


@dataclass(frozen=True)
class Judgement:
    """Verdicts (pair,), each one of `VERDICTS`, and what each pair lacks to be the same feature (empty if nothing)."""

    verdict: NDArray[np.object_]
    lacks: NDArray[np.object_]


def judge(found: Evidence) -> Judgement:
    """Return the verdict on pairs of units, with its reasons.

    - same_feature: all four conditions below hold
    - correlated_only: the excess is above 0, but another condition is missing
    - family_only: both are detectors, but not more alike than a random direction would be
    - unmatched: neither

    Notes
    -----
    Each condition stands against another explanation of a high correlation. The verdict needs all of them, so a pair that one of
    the explanations accounts for is called the same feature no more often than it meets the condition against that one:

    - *both are detectors* against units that share a response, but not the family. Thresholds were set on untrained twins.
    - *each among the other's best* `TOP_K` against hubs: units that answer to brightness are a good partner of many.
    - *above random bases* against any direction of the layer doing as well. The null is the best partner in a Haar-random basis
      of the other layer, found on the deciding fold and scored on the other, like the unit itself. The interval covers
      photographs and bases; its lower end is above 0 by chance in 2.5 % of pairs at most on each side, and as both sides
      have to be above, that is the bound for the pair (intersection-union test). It is a rate per pair, not corrected for
      how many pairs are asked about: the table of nulls states how many pass where nothing corresponds.
    - *same tuning* (preferred orientations within `NEAR_DEG`) against units of one family that differ in what they prefer; of
      two orientations drawn at random 11 % (22 % where the period is 180 degrees) are so close.

    Untrained twins are no condition: a pair more alike than random bases is the same unit also where it needed no training,
    and what untrained networks share is counted beside. Neither is p or q: permuting images asks whether images matter at
    all, and two untrained networks pass that in most pairs.

    An excess that is not known (NaN, as where no unit of the other layer's random bases varies) is not above 0.
    """
    both = found.detector_a & found.detector_b
    above = found.excess_low > 0
    mutual = (found.rank_ab <= TOP_K) & (found.rank_ba <= TOP_K)
    near = np.abs(found.apart_deg) <= NEAR_DEG
    named = {
        "two detectors": both, f"among each other's best {TOP_K}": mutual, "above random bases": above, "same tuning": near,
    }  # fmt: skip
    lacks = np.full(both.shape, "", dtype=object)
    for name, holds in named.items():
        lacks[~holds] += np.where(lacks[~holds] == "", name, ", " + name).astype(object)
    verdict = np.select([both & above & mutual & near, above, both], VERDICTS[:3], default=VERDICTS[3])
    return Judgement(verdict.astype(object), lacks)


def same_unit(rank_ab: Indices, rank_ba: Indices, excess_low: Array) -> Flags:
    """Return which pairs of units of whatever family, or none, are one and the same.

    Without a family there are no detectors and no preferred orientations to compare. In their place stands a narrower
    reciprocity: each has to be the other's best partner, not among its best three. The excess is as for `judge`.
    """
    return np.asarray((rank_ab == 1) & (rank_ba == 1) & (excess_low > 0))


def null_bases(count: int, seed: int) -> Iterator[Basis]:
    """Yield the random bases that the units of other layers have to exceed: `LEAST_BASES` at least."""
    return haars(max(count, LEAST_BASES), seed)


@dataclass(frozen=True)
class InBases:
    """What all live units of one layer find in random bases of another.

    Attributes
    ----------
    partner : (basis, unit) the best partner by the deciding fold, among the basis' live units
    r : (basis, unit) held-out correlation with it
    parts : (photograph, unit) what each photograph adds to the mean of `r` over bases, see `resampling.correlation_parts`
    variance : variance of `r` over bases, mean over all units of the layer, for there are few bases; NaN for fewer than two
    """

    partner: Indices
    r: Array
    parts: Array
    variance: float

    @property
    def level(self) -> Array:
        """Mean correlation over bases (unit,); NaN where there is none."""
        return np.asarray(self.r.mean(axis=0)) if len(self.r) else np.full(self.r.shape[1], np.nan)


def in_bases(own: Halves, bases: Sequence[Halves], photographs: resampling.Photographs) -> InBases:
    """Return what the live units of a layer find in random bases of another one.

    Parameters
    ----------
    bases : those in which some unit varies
    photographs : those of the scoring fold
    """
    units = own.live.size
    partner = [similarity.correlations(own.decide, basis.decide).argmax(axis=1) for basis in bases]
    scores = [basis.score[:, best] for basis, best in zip(bases, partner, strict=True)]
    r = np.array([resampling.paired(own.score, score) for score in scores]).reshape(-1, units)
    parts = sum((resampling.correlation_parts(own.score, score, photographs) for score in scores), np.zeros((1, units)))
    variance = float(np.mean(np.var(r, axis=0, ddof=1))) if len(bases) > 1 and units else np.nan
    return InBases(np.array(partner, dtype=np.int64).reshape(-1, units), r, parts / max(len(bases), 1), variance)


@dataclass(frozen=True)
class Scored:
    """How alike pairs of units are on the scoring fold, beyond what random bases of either layer offer.

    Attributes
    ----------
    r : (pair,) held-out correlation
    side : (side, pair) `r` less that of the best partner in random bases of the other layer, from either side
    half : (side, pair) half widths of the 95 % intervals of `side`
    parts : (side, photograph, pair) what each photograph adds to `side`
    """

    r: Array
    side: Array
    half: Array
    parts: Array

    @property
    def excess(self) -> Array:
        """The excess (pair,) of the side that leaves less; a side without random bases does not count."""
        return np.asarray(np.fmin(*self.side))

    @property
    def low(self) -> Array:
        """The lower ends of the interval of the excess (pair,), the lower of both sides'; NaN where one is unknown."""
        return np.asarray((self.side - self.half).min(axis=0))

    @property
    def high(self) -> Array:
        """The upper ends (pair,), the lower of both sides'."""
        return np.asarray((self.side + self.half).min(axis=0))

    def kept(self, weights: Array) -> Flags:
        """Return whether the excess stays above its error in resampled photographs (resample, photograph): (resample, pair)."""
        # To first order, drawing a photograph once more or less adds or takes away its part.
        moved = np.stack([(weights - 1.0) @ parts for parts in self.parts])
        return np.asarray((moved > (self.half - self.side)[:, None]).all(axis=0))


def scored(a: Halves, b: Halves, pairs: Indices, nulls: tuple[InBases, InBases], photographs: resampling.Photographs) -> Scored:  # fmt: skip
    """Return how alike pairs (pair, 2) of live units of two layers are.

    Two errors add up in the interval: that of the photographs (jackknife), and that of the bases, because another basis would
    have held another best partner. The variance over bases counts (1 + 1 / bases) times: once for the basis that the matched
    layer itself might be, once for the mean.

    Parameters
    ----------
    nulls : what the units of `a` find in random bases of `b`, and the reverse
    photographs : those of the scoring fold
    """
    x, y = a.score[:, pairs[:, 0]], b.score[:, pairs[:, 1]]
    r, parts = resampling.paired(x, y), resampling.correlation_parts(x, y, photographs)
    side, half, of_side = [], [], []
    for null, units in zip(nulls, pairs.T, strict=True):
        own = parts - null.parts[:, units]
        count = len(null.r)
        variance = (own**2).sum(axis=0) + null.variance * (1.0 + 1.0 / max(count, 1))
        side.append(r - null.level[units])
        half.append(resampling.t_quantile(photographs.count) * np.sqrt(variance))
        of_side.append(own)
    return Scored(r, np.stack(side), np.stack(half), np.stack(of_side))
