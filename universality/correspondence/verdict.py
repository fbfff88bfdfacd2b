"""Whether two units are the same feature: how the evidence of a pair is computed, and the one rule from it to a verdict.

The tables of correspondence, the census (index of universality, cliques) and tracing judge units here and nowhere else. What
the rule looks at depends on the pair of layers and the two units alone, not on who asks or which other pairs are asked about:
the same random bases, and the same errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from universality.activations.layer import Halves
from universality.base import intervals
from universality.correspondence import resampling
from universality.correspondence.random_bases import SCALINGS, InBases

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

VERDICTS = ("same_feature", "correlated_only", "family_only", "unmatched")
TOP_K = 3
"""Partners have to be among each other's best so many."""
NEAR_DEG = 20.0
"""Largest difference of preferred orientations of one and the same feature, degrees."""
POWER = 0.8
"""With this probability a job is to confirm a pair before it is said to be able to."""
LEAST_Z = 2.5758293035489004
"""Least excess in standard deviations over single bases: 0.5 % of random bases offer more. At 1 %, 2 of 785 pairs of the demo that could have got the
verdict got it with one layer in a random basis; the goal is at most 0.1 %."""
NORMAL_95 = 1.959963984540054
"""Standard deviations between the middle and an end of a 95 % interval of a normal error."""


@dataclass(frozen=True)
class Evidence:
    """What the verdict on pairs of units rests on; every array is (pair,).

    Attributes
    ----------
    detector_a, detector_b : whether each unit is a detector of the family on its own
    near_a, near_b : whether it is one or a near miss
    rank_ab, rank_ba : rank of each unit among all live units of its layer for the other one, on the deciding fold; 1 is best
    excess_low : lower end of the 95 % interval of the held-out correlation less that in random bases, the least of all sides'
    excess_z : that difference in standard deviations over single bases, the least of all sides'
    apart_deg : difference of preferred orientations, degrees, of either sign; NaN where one has none
    """

    detector_a: Flags
    detector_b: Flags
    near_a: Flags
    near_b: Flags
    rank_ab: Indices
    rank_ba: Indices
    excess_low: Array
    excess_z: Array
    apart_deg: Array

    @property
    def above(self) -> Flags:
        """Which are above random bases."""
        return above_bases(self.excess_low, self.excess_z)

    @property
    def of_family(self) -> Flags:
        """Which are pairs of a detector with a detector or a near miss."""
        return of_family(self.detector_a, self.detector_b, self.near_a, self.near_b)


@dataclass(frozen=True)
class Judgement:
    """Verdicts (pair,), each one of `VERDICTS`, and what each pair lacks to be the same feature (empty if nothing)."""

    verdict: NDArray[np.object_]
    lacks: NDArray[np.object_]


def judge(found: Evidence) -> Judgement:
    """Return the verdict on pairs of units, with its reasons.

    - same_feature: all four conditions below hold
    - correlated_only: above random bases, but another condition is missing
    - family_only: both are of the family, but not more alike than a random direction would be
    - unmatched: neither

    Notes
    -----
    Each condition stands against another explanation of a high correlation. The verdict needs all of them, so a pair that one of
    the explanations accounts for is called the same feature no more often than it meets the condition against that one:

    - *both of the family*, one a detector and the other at least a near miss, against units that share a response, but not the family.
      Thresholds were set on untrained twins, and what is near by what detectors lose in noisy copies of their own network: two thresholds
      in a row would reject every third true pair.
    - *each among the other's best* `TOP_K` against hubs: units that answer to brightness are a good partner of many.
    - *above random bases* against any direction of the layer doing as well. The null is the best partner in a Haar-random basis
      of the other layer, of its units as they are and divided by their standard deviations, found on the deciding fold and scored on the
      other, like the unit itself. Two things are asked on every side. Whether the pair is above the mean over bases: the interval's lower end
      is above 0 by the chance of the photographs in 2.5 % of pairs at most. And whether it is above what one more random basis would
      offer, `LEAST_Z` of their standard deviations: units that are no better than a basis drawn at random are so in 0.5 %. As all sides
      have to be above, these are bounds for the pair (intersection-union test). They are rates per pair, not corrected for
      how many pairs are asked about: the table of nulls states how many pass where nothing corresponds.
    - *same tuning* (preferred orientations within `NEAR_DEG`) against units of one family that differ in what they prefer; of
      two orientations drawn at random 11 % (22 % where the period is 180 degrees) are so close.

    Untrained twins are no condition: a pair more alike than random bases is the same unit also where it needed no training,
    and what untrained networks share is counted beside. Neither is p or q: permuting images asks whether images matter at
    all, and two untrained networks pass that in most pairs.

    An excess that is not known (NaN, as where no unit of the other layer's random bases varies) is not above 0.
    """
    both = found.of_family
    above = found.above
    mutual = (found.rank_ab <= TOP_K) & (found.rank_ba <= TOP_K)
    near = np.abs(found.apart_deg) <= NEAR_DEG
    named = {
        "both of the family": both, f"among each other's best {TOP_K}": mutual, "above random bases": above, "same tuning": near,
    }  # fmt: skip
    lacks = np.full(both.shape, "", dtype=object)
    for name, holds in named.items():
        lacks[~holds] += np.where(lacks[~holds] == "", name, ", " + name).astype(object)
    verdict = np.select([both & above & mutual & near, above, both], VERDICTS[:3], default=VERDICTS[3])
    return Judgement(verdict.astype(object), lacks)


def of_family(detector_a: Flags, detector_b: Flags, near_a: Flags, near_b: Flags) -> Flags:
    """Return which pairs are of a detector with a detector or a near miss."""
    return np.asarray((detector_a & near_b) | (near_a & detector_b))


def above_bases(excess_low: Array, excess_z: Array) -> Flags:
    """Return which pairs are above random bases: above their mean, and above what a single one offers."""
    return np.asarray((excess_low > 0) & (excess_z > LEAST_Z))


def confirmable_with(images: int) -> float:
    """Return about the least correlation of a true pair that is above random bases with probability `POWER`, 0 to 1, before anything is shown.

    A fit to `tests/benchmarks/power.py`: layers of pocket networks beside themselves with noise, 238 to 720 natural images, half of which
    decide; 0.75, 0.69, 0.63, 0.60 and 0.57 at 238, 344, 476, 540 and 720, from which the fit is 0.03 away at most (376 crops of photographs alone: 0.62, 0.06 from it). Layers whose units share much need more,
    as the columns ``power`` and ``r_confirmable`` say afterwards.
    """
    return min(0.76 * (238 / images) ** 0.23, 1.0) if images else 1.0


def same_unit(rank_ab: Indices, rank_ba: Indices, above: Flags) -> Flags:
    """Return which pairs of units of whatever family, or none, are one and the same.

    Without a family there are no detectors and no preferred orientations to compare. In their place stands a narrower
    reciprocity: each has to be the other's best partner, not among its best three. `above` random bases is as for `judge`.
    """
    return np.asarray((rank_ab == 1) & (rank_ba == 1) & above)


@dataclass(frozen=True)
class Scored:
    """How alike pairs of units are on the scoring fold, beyond what random bases of either layer offer.

    A side is one layer's random bases under one scaling, seen from the other layer: four in all.

    Attributes
    ----------
    r : (pair,) held-out correlation
    side : (side, pair) `r` less the mean of that of the best partners in the random bases
    error : (side, pair) standard error of `side`
    half : (side, pair) half widths of its 95 % interval
    spread : (side, pair) standard deviation of the best partner's correlation over single bases
    parts : (side, photograph, pair) what each photograph adds to `side`
    """

    r: Array
    side: Array
    error: Array
    half: Array
    spread: Array
    parts: Array

    @property
    def z(self) -> Array:
        """The excess in standard deviations over single bases (pair,), the least of all sides; NaN where one is unknown."""
        with np.errstate(divide="ignore"):
            return np.asarray((self.side / self.spread).min(axis=0))

    @property
    def above(self) -> Flags:
        """Which pairs are above random bases."""
        return above_bases(self.low, self.z)

    @property
    def _needed(self) -> Array:
        """Least excess (side, pair) that is above random bases."""
        return np.maximum(self.half, LEAST_Z * self.spread)

    @property
    def excess(self) -> Array:
        """The excess (pair,) of the side that leaves least; a side without random bases does not count."""
        return np.asarray(np.fmin.reduce(self.side))

    @property
    def low(self) -> Array:
        """The lower end of the interval of the excess (pair,), the least of all sides; NaN where one is unknown."""
        return np.asarray((self.side - self.half).min(axis=0))

    @property
    def high(self) -> Array:
        """The upper end (pair,), the least of all sides."""
        return np.asarray((self.side + self.half).min(axis=0))

    @property
    def power(self) -> Array:
        """How probably a pair of this excess is above random bases (pair,), 0 to 1, with other photographs and other bases.

        The least of all sides: they share `r`, so that the one that is hardest to beat decides.
        """
        return np.asarray(ndtr((self.side - self._needed) / self.error).min(axis=0))

    @property
    def confirmable(self) -> Array:
        """The least correlation (pair,) that is above random bases with probability `POWER`."""
        needed = self.r - self.side + self._needed + ndtri(POWER) * self.error
        return np.asarray(needed.max(axis=0))

    def kept(self, weights: Array) -> Flags:
        """Return whether the excess stays above its error in resampled photographs (resample, photograph): (resample, pair)."""
        # To first order, drawing a photograph once more or less adds or takes away its part.
        moved = np.stack([(weights - 1.0) @ parts for parts in self.parts])
        return np.asarray((moved > (self._needed - self.side)[:, None]).all(axis=0))


def scored(a: Halves, b: Halves, pairs: Indices, nulls: tuple[InBases, InBases], photographs: resampling.Photographs) -> Scored:  # fmt: skip
    """Return how alike pairs (pair, 2) of live units of two layers are.

    Each source of error counts once: photographs (jackknife, of the pair and of its partners in all bases together, so that what they share
    cancels), with Student's t for few photographs; and that the mean over bases is one of so many bases, with the normal
    distribution.

    Parameters
    ----------
    nulls : what units of `a`, those of the pairs at least, find in random bases of `b`, and the reverse
    photographs : those of the scoring fold
    """
    x, y = a.score[:, pairs[:, 0]], b.score[:, pairs[:, 1]]
    r, parts = resampling.paired(x, y), resampling.correlation_parts(x, y, photographs)
    t = intervals.t_quantile(photographs.count)
    side, error, half, spread, of_side = [], [], [], [], []
    for null, units in zip(nulls, pairs.T, strict=True):
        at = np.searchsorted(null.units, units)
        for scaling in range(len(SCALINGS)):
            own = parts - null.parts[scaling][:, at]
            images, bases = (own**2).sum(axis=0), null.spread[scaling, at] ** 2 / max(null.r.shape[1], 1)
            side.append(r - null.level[scaling, at])
            error.append(np.sqrt(images + bases))
            half.append(np.sqrt(t**2 * images + NORMAL_95**2 * bases))
            spread.append(null.spread[scaling, at])
            of_side.append(own)
    return Scored(r, *(np.stack(of) for of in (side, error, half, spread, of_side)))
