"""Which units of two layers are the same, by one rule for networks, untrained twins and random bases.

Arrays in, arrays out. The table ``correspondence`` judges the units of trained networks one matched pair at a time; here
the same rule is applied to every pair of layers at once, and to their nulls in the same way, so that shares of
shared units and cliques can be counted in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from universality import comparators, evidence
from universality.comparators.matching import mutual_top
from universality.tuning import circular_difference

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
    angle_deg : (live unit,) degrees; NaN where the rule knows none
    period_deg : the angles' period, degrees
    """

    eligible: Flags
    angle_deg: Array
    period_deg: float = 360.0


@dataclass(frozen=True)
class View:
    """A layer's live units, as they are or in a random basis.

    Attributes
    ----------
    live : (live unit,) their numbers in the layer
    decide, score : (row, live unit) standardised activations in fold 0, in fold 1
    marks : by rule; `ANY_UNIT` or a family of detectors
    """

    live: Indices
    decide: Array
    score: Array
    marks: Mapping[str, Marks]


@dataclass(frozen=True)
class Resampling:
    """The images of both folds and how often each photograph is drawn in every resample.

    Attributes
    ----------
    decide, score : (row,) photograph of each row, numbered from 0 without gaps
    decide_weights, score_weights : (resample, photograph)
    count : photographs that bound the error of the scoring fold
    """

    decide: Indices
    score: Indices
    decide_weights: Array
    score_weights: Array
    count: int

    @classmethod
    def of(cls, fold: Indices, photograph: Indices, places: int, resamples: int, seed: int) -> Resampling:
        """Draw the resamples; `fold` and `photograph` are those of the rows of a layer, `places` its rows per image."""
        decide, score = (np.unique(photograph[fold == f], return_inverse=True)[1] for f in (0, 1))
        # Another seed for the other fold: no photograph lies in both.
        first, _ = evidence.bootstrap_weights(decide, places, resamples, seed + 1)
        second, count = evidence.bootstrap_weights(score, places, resamples, seed)
        return cls(decide, score, first, second, count)


@dataclass(frozen=True)
class Links:
    """Pairs of units of two views that are among each other's best, and how sure each is.

    Attributes
    ----------
    rule : (pair,) names
    pairs : (pair, 2) indices into the live units of both views
    r : (pair,) correlation on the scoring fold
    excess, excess_low : (pair,) `r` less that of the best partner in random bases of either layer, whichever leaves less,
        with the lower end of its 95 % interval
    kept : (resample, pair) whether the excess stays above its error with the scoring fold's photographs resampled
    """

    rule: NDArray[np.str_]
    pairs: Indices
    r: Array
    excess: Array
    excess_low: Array
    kept: Flags

    @property
    def linked(self) -> Flags:
        """Which pairs are the same: their excess is above 0 with its whole interval."""
        return np.asarray(self.excess_low > 0)


def candidates(r: Array, rule: str, a: Marks, b: Marks) -> Indices:
    """Return the pairs (pair, 2) of eligible units that are among each other's best by the correlations `r` (p, q).

    Units of any kind have to be mutual nearest neighbours among all live units. Detectors of a family have to be among each
    other's best `evidence.TOP_K`, with preferred orientations within `evidence.NEAR_DEG`, as for the verdict same_feature.
    """
    if not (a.eligible.any() and b.eligible.any()):
        return np.zeros((0, 2), dtype=np.int64)
    pairs = mutual_top(r, best_of(rule))
    i, j = pairs.T
    wanted = a.eligible[i] & b.eligible[j]
    if rule != ANY_UNIT:
        apart = np.abs(circular_difference(a.angle_deg[i], b.angle_deg[j], a.period_deg))
        wanted &= apart <= evidence.NEAR_DEG
    return np.asarray(pairs[wanted])


def best_of(rule: str) -> int:
    """Return among how many best partners of each other two units have to be."""
    return 1 if rule == ANY_UNIT else evidence.TOP_K


class Block:
    """All correlations between two layers and their random bases on the deciding fold, and the links in them.

    Parameters
    ----------
    a, b : sequence of View
        First the layer as it is, then at least two random bases of it.
    """

    def __init__(self, a: Sequence[View], b: Sequence[View], resampling: Resampling) -> None:
        self.a, self.b, self._resampling = a, b, resampling
        self._r = [[comparators.correlations(x.decide, y.decide) for y in b] for x in a]

    def links(self, u: int, v: int) -> Links:
        """Return the links between view `u` of the first layer and view `v` of the second, by every rule they share."""
        x, y = self.a[u], self.b[v]
        found = {name: candidates(self._r[u][v], name, x.marks[name], y.marks[name]) for name in x.marks}
        pairs = np.concatenate(list(found.values()))
        rule = np.repeat(list(found), [len(part) for part in found.values()]).astype(np.str_)
        i, j = pairs.T
        r, spread = _scored(x.score[:, i], y.score[:, j], self._resampling.score)
        sides = [
            self._excess(r, spread, x, i, [(self._r[u][w], self.b[w]) for w in _others(v, len(self.b))]),
            self._excess(r, spread, y, j, [(self._r[w][v].T, self.a[w]) for w in _others(u, len(self.a))]),
        ]
        excess, low = (np.minimum(*values) for values in zip(*(side[:2] for side in sides), strict=True))
        kept = sides[0][2] & sides[1][2]
        return Links(rule, pairs, r, excess, low, kept)

    def _excess(
        self, r: Array, spread: Array, unit: View, i: Indices, nulls: Sequence[tuple[Array, View]]
    ) -> tuple[Array, Array, Flags]:
        """Return excess, its lower end, and whether it stays above its error in every resample."""
        in_bases = [_scored(unit.score[:, i], view.score[:, r_to[i].argmax(axis=1)], self._resampling.score)
                    for r_to, view in nulls]  # fmt: skip
        levels = np.stack([level for level, _ in in_bases])
        excess = r - levels.mean(axis=0)
        # To first order, drawing a photograph once more or less adds or takes away its part.
        parts = spread - np.mean([part for _, part in in_bases], axis=0)
        resampled = excess + (self._resampling.score_weights - 1.0) @ parts
        if not i.size:
            return excess, excess, np.zeros(resampled.shape, dtype=np.bool_)
        low, _ = evidence.excess_interval(excess, resampled, levels, self._resampling.count)
        return excess, low, resampled > excess - low


def _others(view: int, count: int) -> Iterator[int]:
    """Yield the random bases that serve as nulls of a view: a basis cannot be its own null."""
    return (w for w in range(1, count) if w != view)


def _scored(x: Array, y: Array, photographs: Indices) -> tuple[Array, Array]:
    """Return the correlations of paired standardised columns, and each photograph's part in them (photograph, pair).

    The part is the influence function of a correlation, x y - r (x x + y y) / 2 (Devlin, Gnanadesikan and Kettenring 1975,
    Biometrika 62, for standardised variables), summed over the photograph's rows; the parts of all add up to 0.
    """
    r = np.clip(np.einsum("ni,ni->i", x, y), -1.0, 1.0)
    influence = x * y - 0.5 * r * (x * x + y * y)
    order = np.argsort(photographs, kind="stable")
    starts = np.searchsorted(photographs[order], np.arange(int(photographs.max()) + 1))
    return r, np.asarray(np.add.reduceat(influence[order], starts, axis=0))


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
    moments = [_weighted_moments(side.decide, weights) for side in (x, y)]
    for place, w in enumerate(weights):
        (mean_a, length_a), (mean_b, length_b) = ((mean[place], length[place]) for mean, length in moments)
        forth = ((x.decide[:, rows].T * w) @ y.decide - w.sum() * np.outer(mean_a[rows], mean_b)) / length_b
        back = ((y.decide[:, columns].T * w) @ x.decide - w.sum() * np.outer(mean_b[columns], mean_a)) / length_a
        # Ranks of a unit's partners do not depend on the unit's own length.
        rank_ab = 1 + (forth[row] > forth[row, j][:, None] + 1e-12 * length_a[i][:, None]).sum(axis=1)
        rank_ba = 1 + (back[column] > back[column, i][:, None] + 1e-12 * length_b[j][:, None]).sum(axis=1)
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
