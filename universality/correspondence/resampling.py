"""How sure a matched pair of units is: intervals over images, permutation p, false discovery rate.

Arrays in, arrays out. Resampling and permuting act on whole images (and on the photographs they come from), never on
pixels or places of one image: those are not independent.

References
----------
Y. Benjamini and Y. Hochberg, JRSS B 57, 1995. B. Phipson and G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010 (a
permutation p is never 0). B. Efron and C. Stein, Ann. Stat. 9, 1981 (the jackknife's variance is too large rather than too
small).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import betaincinv

from universality.base.discovery import false_discovery

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def wilson_interval(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927, JASA 22); NaN of none."""
    if n == 0:
        return float("nan"), float("nan")
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return float(max(low, 0.0)), float(min(high, 1.0))


def upper_bound(successes: int, n: int) -> float:
    """Return the upper end of the one-sided 95 % interval of a share (Clopper and Pearson 1934, Biometrika 26); NaN of none.

    Examples
    --------
    >>> f"0 of 37: below {upper_bound(0, 37):.0%}"
    '0 of 37: below 8%'
    """
    if n == 0:
        return float("nan")
    return 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 0.95))


@dataclass(frozen=True)
class Photographs:
    """The photographs of some rows.

    Photographs of which there are several crops, and images that stand for themselves, are two strata: each is resampled
    within itself. Where the crops of few photographs make up a tenth of the rows or more, these few bound what is known.

    Attributes
    ----------
    of_row : (row,) index of each row's photograph, 0 to the number of photographs less 1
    strata : indices of the photographs of each stratum, together all of them
    count : photographs of the smallest stratum that counts: an error rests on no more
    """

    of_row: Indices
    strata: tuple[Indices, ...]
    count: int

    @classmethod
    def of(cls, of_row: Indices, places: int) -> Photographs:
        """Tell the strata apart; `places` are the rows per image."""
        sizes = np.bincount(of_row)
        strata = tuple(s for s in (np.flatnonzero(sizes > places), np.flatnonzero(sizes <= places)) if s.size)
        count = min(s.size for s in strata if sizes[s].sum() >= len(of_row) / 10)
        return cls(of_row, strata, count)

    @cached_property
    def sums(self) -> _Sums:
        """Sums over the rows of each photograph."""
        return _Sums(self.of_row)


def bootstrap_weights(photographs: Indices, places: int, bootstraps: int, seed: int) -> tuple[Array, int]:
    """Return how often each photograph is drawn, and how many photographs the error rests on (`Photographs.count`).

    Parameters
    ----------
    photographs : (row,) index of each row's photograph, 0 to the number of photographs less 1
    places : int
        Rows per image.

    Returns
    -------
    (bootstrap, photograph) counts, and the number of photographs of the smallest stratum that counts
    """
    found = Photographs.of(photographs, places)
    rng = np.random.default_rng([seed, int(photographs.max()) + 1])
    weights = np.zeros((bootstraps, int(photographs.max()) + 1))
    for stratum in found.strata:
        shares = np.full(stratum.size, 1.0 / stratum.size)
        weights[:, stratum] = rng.multinomial(stratum.size, shares, size=bootstraps)
    return weights, found.count


def bootstrap_correlations(x: Array, y: Array, photographs: Indices, weights: Array) -> Array:
    """Return the correlations of paired columns in resampled photographs: (bootstrap, pair).

    Parameters
    ----------
    x, y : (row, pair)
    photographs : (row,) index of each row's photograph, 0 to the number of photographs less 1
    weights : (bootstrap, photograph)

    Returns
    -------
    (bootstrap, pair), -1 to 1; NaN where a unit never varies over the photographs drawn.
    """
    sums = _Sums(photographs)
    sx, sy, sxx, syy, sxy = (weights @ sums(values) for values in (x, y, x * x, y * y, x * y))
    n = (weights @ sums.rows)[:, None]
    return _correlation(n, (sx, *_variance(n, sx, sxx)), sy, syy, sxy)


def paired(x: Array, y: Array) -> Array:
    """Return the correlations (pair,) of paired standardised columns (row, pair)."""
    return np.asarray(np.clip(np.einsum("ni,ni->i", x, y), -1.0, 1.0))  # rounding may exceed 1 by an ulp


def correlation_parts(x: Array, y: Array, photographs: Photographs) -> Array:
    """Return what each photograph adds to the correlations of paired columns: (photograph, pair).

    The parts come from the jackknife: every photograph is left out once, its part is the fall of the correlation from its
    stratum's mean, scaled so that the squares of the parts add up to the jackknife's variance, and so that
    ``r + (weights - 1) @ parts`` is, to first order, the correlation in resampled photographs. The parts of a stratum add up to
    0. Nothing is drawn, so nobody who asks for the same pair gets another error. Where nothing varies without a photograph, there is
    no correlation to fall to, and the first-order part stands for it: the influence function x y - r (x x + y y) / 2 (Devlin,
    Gnanadesikan and Kettenring 1975, Biometrika 62, for standardised variables), summed over the photograph's rows.

    Parameters
    ----------
    x, y : (row, pair), standardised

    Returns
    -------
    (photograph, pair)
    """
    return Parts(x, photographs).of(y)


class Parts:
    """One side of `correlation_parts`, (row, pair), kept for all the others that it is correlated with."""

    def __init__(self, x: Array, photographs: Photographs) -> None:
        self._x, self._photographs, self._sums = x, photographs, photographs.sums
        self._n = _left_out(self._sums.rows[:, None])
        sx, self._sxx = self._sums(x), self._sums(x * x)
        self._sx, sxx = _left_out(sx), _left_out(self._sxx)
        self._variance, self._varies = _variance(self._n, self._sx, sxx)

    def of(self, y: Array) -> Array:
        """Return the parts (photograph, pair) of the correlations with `y` (row, pair)."""
        return self.of_several(y[:, None])[:, 0]

    def of_several(self, ys: Array) -> Array:
        """Return the parts (photograph, other, pair) of the correlations with several others `ys`, (row, other, pair)."""
        sums, x = self._sums, self._x[:, None]
        syy, sxy = sums(ys * ys), sums(x * ys)
        moved = _left_out(sums(ys)), _left_out(syy), _left_out(sxy)
        of_x = self._sx[:, None], self._variance[:, None], self._varies[:, None]
        left_out = _correlation(self._n[:, None], of_x, *moved)
        if np.isnan(left_out).any():
            r = np.stack([paired(self._x, ys[:, other]) for other in range(ys.shape[1])])
            influence = r - (sxy - 0.5 * r * (self._sxx[:, None] + syy))
            left_out = np.where(np.isnan(left_out), influence, left_out)
        parts = np.empty_like(left_out)
        for stratum in self._photographs.strata:
            k = stratum.size
            parts[stratum] = np.sqrt((k - 1) / k) * (left_out[stratum].mean(axis=0) - left_out[stratum])
        return parts


def _left_out(moment: Array) -> Array:
    """Return the sums of all photographs but one: (photograph left out, ...)."""
    return np.asarray(moment.sum(axis=0) - moment)


class _Sums:
    """Sums over the rows of each photograph; `rows` is how many each has."""

    def __init__(self, of_row: Indices) -> None:
        rows, count = len(of_row), int(of_row.max()) + 1
        self.rows = np.bincount(of_row, minlength=count).astype(np.float64)
        self._members = csr_array((np.ones(rows), (of_row, np.arange(rows))), shape=(count, rows))

    def __call__(self, values: Array) -> Array:
        """Return the sums (photograph, ...) of values (row, ...)."""
        return np.asarray(self._members @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])


def _variance(n: Array, s: Array, ss: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return n times the sum of squares about the mean, and where it is more than rounding.

    A unit that is constant in the photographs chosen leaves a variance of rounding size, of either sign.
    """
    mass = n * ss
    variance = mass - s * s
    return variance, variance > 1e-10 * n * ss


def _correlation(n: Array, of_x: tuple[Array, Array, NDArray[np.bool_]], sy: Array, syy: Array, sxy: Array) -> Array:
    """Return the correlation of sums of any shapes that fit, `of_x` sum, variance and whether it varies; NaN where one side does not."""
    sx, variance_x, varies_x = of_x
    variance_y, varies_y = _variance(n, sy, syy)
    varies = varies_x & varies_y
    length = np.sqrt(np.where(varies, variance_x * variance_y, 1.0))
    return np.asarray(np.where(varies, np.clip((n * sxy - sx * sy) / length, -1.0, 1.0), np.nan))


def permutation_p(
    x: Array, y: Array, observed: Array, photographs: Indices, places: int, permutations: int, seed: int
) -> Array:
    """Return the p of each unit's correlation against the best partner it would find with the images permuted.

    The observed correlation belongs to one partner, chosen on other images; the null takes the largest of all
    correlations with the other layer, so it also covers a choice that was made on these images.

    Parameters
    ----------
    x : (row, unit), standardised
    y : (row, other unit), standardised
    observed : (unit,) correlation with the matched partner
    photographs : (row,) index of each row's photograph
    places : int
        Rows per image: they move together.
    permutations : int
        The smallest p is 1 / (permutations + 1).
    """
    return p_of(observed, permutation_maxima(x, y, permuted_rows(photographs, places, permutations, seed)))


def permuted_rows(photographs: Indices, places: int, permutations: int, seed: int) -> Indices:
    """Return for every permutation the row that takes each row's place: (permutation, row).

    Crops of one photograph resemble one another, so photographs move as wholes (their crops in a new order), and images
    that stand for themselves change places among themselves. The order does not depend on which of two layers is permuted.
    """
    rng = np.random.default_rng([seed, len(photographs) // places, 7])
    groups = [np.flatnonzero(photographs == k) for k in range(int(photographs.max()) + 1)]
    orders = [_permuted(groups, places, len(photographs), rng) for _ in range(permutations)]
    return np.array(orders, dtype=np.int64).reshape(permutations, len(photographs))


def permutation_maxima(x: Array, y: Array, orders: Indices) -> Array:
    """Return the largest correlation of each unit with any unit of the other layer, images permuted: (permutation, unit).

    Parameters
    ----------
    x : (row, unit), standardised
    y : (row, other unit), standardised
    orders : (permutation, row), see `permuted_rows`
    """
    return np.stack([(_reordered(x, order).T @ y).max(axis=1) for order in orders])


def p_of(observed: Array, maxima: Array) -> Array:
    """Return the permutation p of correlations (unit,) among those of permuted images (permutation, unit)."""
    return np.asarray((1 + (maxima >= observed - 1e-12).sum(axis=0)) / (len(maxima) + 1))


def _reordered(x: Array, order: Indices) -> Array:
    """Return the rows in another order, columns of length one: photographs of unequal size leave or repeat a few rows."""
    moved = x[order]
    return moved if np.bincount(order, minlength=len(x)).max() == 1 else _standardised(moved)


def _standardised(x: Array) -> Array:
    """Return columns of mean 0 and length one; one that does not vary becomes 0."""
    centred = x - x.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12))


def _permuted(groups: list[Indices], places: int, rows: int, rng: np.random.Generator) -> Indices:
    """Return for every row the row that takes its place."""
    order = np.empty(rows, dtype=np.int64)
    alone = [group for group in groups if group.size == places]
    if alone:
        stacked = np.stack(alone)
        order[stacked] = stacked[rng.permutation(len(stacked))]
    several = [group for group in groups if group.size != places]
    for place, source in enumerate(rng.permutation(len(several))):
        here, there = several[place], several[source].reshape(-1, places)
        shuffled = there[rng.permutation(len(there))].ravel()
        order[here] = np.resize(shuffled, here.size)
    return order


def with_q(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its Benjamini-Hochberg `q` within every pair of models, family and method (and null; and way of comparing circuits)."""
    by = [
        name for name in ("null", "seed", "model_a", "model_b", "family", "method", "back", "sources") if name in table
    ]
    return table.assign(q=false_discovery(table, by))
