"""What units of one layer find in random bases of another: the null that every verdict has to exceed.

Bases are drawn once for a layer, and the same whoever asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from universality.activations.bases import mixed, turned
from universality.activations.layer import Halves, Layer
from universality.base import arrays
from universality.correspondence import resampling

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Indices = NDArray[np.int64]

LEAST_BASES = 120
"""However few random bases a job asks for. Each is asked twice, for its directions and for these reversed, which are a Haar-random basis too, and whose best
partner is another one: twice as many draws, whose mean is known to a sixteenth of their spread. How many pairs still change
their verdict with the draw is in docs/truth_tests.md. They cost no forward pass."""
PARTS_BASES = 20
"""So many of them say what photographs do to their mean, which varies little from basis to basis."""
REFERENCE = 32
"""Units of a layer, evenly from all of its live ones, that say how much the correlation usually varies over bases."""
OWN_SHARE = 0.25
"""Weight of a unit's own variance over bases beside what is usual in its layer. The best guess of it would have a weight of 0.9 (over the
layers of the quickstart job its logarithm varies between units by a variance of 0.09); less makes the verdict depend less on the draw of the bases
(docs/truth_tests.md), and the share of single bases that `verdict.LEAST_Z` lets pass holds on average over a layer's units, not for each."""
SCALINGS = ("raw", "standardised")
"""Random directions of the units as they are, in which units of high variance dominate, and of units of equal variance."""


@dataclass(frozen=True)
class RandomBases:
    """The random bases of a layer that units of other layers have to exceed: the same directions for every scaling.

    Attributes
    ----------
    begun : (direction, row) what all bases begin with (`bases.turned`), float32: enough to choose a partner. The rows are the centred activations
        of the deciding fold in every scaling, in the order of `SCALINGS`, and then those of the scoring fold. None for a layer in which no
        unit varies in both folds.
    count, seed : how many bases, and the seed of them all
    directions : of each basis: as many as the layer has in its own
    """

    begun: Single | None
    count: int
    seed: int
    directions: int | None = None

    @classmethod
    def of(cls, layer: Layer, count: int, seed: int) -> RandomBases:
        """Return a layer's random bases, `LEAST_BASES` at least; they are kept with the layer."""
        count = max(count, LEAST_BASES)
        name = ("random bases", count, seed)
        if name not in layer.derived:
            # They are asked about natural images only.
            bare = replace(layer.in_units or layer, shown={})
            begun = _begun((bare, bare.standardised()), seed) if layer.live.any() else None
            # Where another thread made them meanwhile, its own stay: searches are grouped by them.
            layer.derived.setdefault(name, cls(begun, count, seed, layer.natural.shape[1]))
        kept: RandomBases = layer.derived[name]
        return kept


def _begun(scaled: tuple[Layer, ...], seed: int) -> Single:
    folds = [arrays.centred(of.natural[of.fold == fold]) for fold in (0, 1) for of in scaled]
    return np.ascontiguousarray(turned(np.concatenate(folds), seed).astype(np.float32).T)


@dataclass(frozen=True)
class InBases:
    """What live units of one layer find in the random bases of another; arrays run over the scalings, `SCALINGS`, first.

    A draw is a basis, or the same with all directions reversed: first all bases as they are, then all of them reversed.

    Attributes
    ----------
    units : (unit,) their places among the layer's live units, increasing
    partner : (scaling, basis, unit) the best partner by the deciding fold, among all directions of the basis as it is
    r : (scaling, draw, unit) held-out correlation with the best partner
    parts : (scaling, photograph, unit) what each photograph adds to the mean of `r` over draws, see `resampling.correlation_parts`
    usual : (scaling,) variance of `r` over draws, mean over units of the layer that are the same whoever asks (`REFERENCE`)
    """

    units: Indices
    partner: Indices
    r: Array
    parts: Array
    usual: Array

    def of(self, units: Indices) -> InBases:
        """Return the same of some of its units, increasing."""
        at = np.searchsorted(self.units, units)
        return InBases(units, self.partner[..., at], self.r[..., at], self.parts[..., at], self.usual)

    @property
    def level(self) -> Array:
        """Mean correlation over draws (scaling, unit); NaN where there is none."""
        return np.asarray(self.r.mean(axis=1)) if self.r.size else np.full((len(self.r), self.units.size), np.nan)

    @property
    def spread(self) -> Array:
        """Standard deviation of the correlation over draws (scaling, unit), from the unit's own draws and what is usual in its layer.

        The mean of both variances with fixed weights (`OWN_SHARE`), in the form of the posterior mean of Smyth 2004 (Statistical Applications in
        Genetics and Molecular Biology 3, equation for s tilde). A unit's own variance alone is known so badly that verdicts change with the draw.
        """
        if not self.r.size:
            return np.full((len(self.r), self.units.size), np.nan)
        return np.asarray(np.sqrt(OWN_SHARE * self.r.var(axis=1, ddof=1) + (1.0 - OWN_SHARE) * self.usual[:, None]))


def in_bases(asked: Sequence[tuple[Halves, Indices]], bases: RandomBases, photographs: resampling.Photographs) -> list[InBases]:  # fmt: skip
    """Return what live units of some layers find in the random bases of another one, in the order in which they are asked about.

    What a unit finds depends on itself and the bases alone, not on what else is asked: several layers share the work of making the bases, and
    the units of a layer that is asked about several times are looked at once.

    Parameters
    ----------
    asked : layers, each with the places of units among its live ones, increasing
    photographs : those of the scoring fold
    """
    if bases.begun is None:
        return [_nothing(units) for _, units in asked]
    # `asked` holds the layers, so that no two of them lie in one place.
    layers = {id(own): own for own, _ in asked}
    of_layer = {place: reduce(np.union1d, [units for own, units in asked if id(own) == place]) for place in layers}
    looking = {place: _Looking(own, of_layer[place], bases.count, photographs) for place, own in layers.items()}
    deciding_rows, scoring_rows = (len(half) for half in (asked[0][0].decide, asked[0][0].score))
    scalings = len(SCALINGS)
    ends = np.cumsum([0, *[deciding_rows] * scalings, *[scoring_rows] * scalings])
    for basis in range(bases.count):
        seen = mixed(bases.begun, basis, bases.seed, bases.directions)
        folds = [seen[:, start:end] for start, end in itertools.pairwise(ends)]
        deciding = [fold / np.linalg.norm(fold, axis=1)[:, None] for fold in folds[:scalings]]
        for layer in looking.values():
            layer.look(basis, deciding, folds[scalings:])
    found = {place: layer.found for place, layer in looking.items()}
    return [found[id(own)].of(units) for own, units in asked]


def _nothing(units: Indices) -> InBases:
    scalings = len(SCALINGS)
    nothing = np.empty((scalings, 0, units.size))
    unknown = np.full((scalings, 1, units.size), np.nan)
    return InBases(units, nothing.astype(np.int64), nothing, unknown, np.full(scalings, np.nan))


class _Looking:
    """Units of one layer while they are shown one random basis of another layer after the other."""

    def __init__(self, own: Halves, units: Indices, count: int, photographs: resampling.Photographs) -> None:
        reference = np.unique(np.linspace(0, own.live.size - 1, min(REFERENCE, own.live.size)).round().astype(np.int64))
        every = np.union1d(units, reference)
        self._units, self._count = units, count
        self._asked, self._reference = np.searchsorted(every, units), np.searchsorted(every, reference)
        self._decide = np.ascontiguousarray(own.decide[:, every].T, dtype=np.float32)
        self._score = np.ascontiguousarray(own.score[:, every].T)
        self._of_units = resampling.Parts(own.score[:, units], photographs)
        scalings = len(SCALINGS)
        self._partner = np.empty((scalings, count, units.size), dtype=np.int64)
        self._r = np.empty((scalings, 2 * count, every.size))
        self._parts = np.zeros((scalings, photographs.sums.rows.size, units.size))

    def look(self, basis: int, deciding: Sequence[Single], scoring: Sequence[Single]) -> None:
        """Find partners in a basis, whose centred directions (direction, row) are given for every scaling, of length 1 where they decide."""
        for scaling, (decide, score) in enumerate(zip(deciding, scoring, strict=True)):
            # Directions come last, so that the largest is looked for in memory's own order.
            alike = self._decide @ decide.T
            most, least = alike.argmax(axis=1), alike.argmin(axis=1)
            self._partner[scaling, basis] = most[self._asked]
            for at, (best, sign) in enumerate(((most, 1.0), (least, -1.0))):
                found = score[best].astype(np.float64)
                length = np.sqrt(np.einsum("un,un->u", found, found))
                r = np.einsum("un,un->u", self._score, found) * arrays.reciprocal(length)
                self._r[scaling, at * self._count + basis] = sign * np.clip(r, -1.0, 1.0)
                if sign > 0 and basis < PARTS_BASES:
                    mixtures = arrays.standardised(found[self._asked].T)
                    self._parts[scaling] += self._of_units.of(mixtures) / min(PARTS_BASES, self._count)

    @property
    def found(self) -> InBases:
        """What was found in all bases."""
        usual = self._r[:, :, self._reference].var(axis=1, ddof=1).mean(axis=1)
        return InBases(self._units, self._partner, self._r[:, :, self._asked], self._parts, usual)
