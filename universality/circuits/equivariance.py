"""Whether a family is wired to a family by the difference of their angles alone: ``W(a -> b) = W(Ta -> Tb)``.

The weights from sources that prefer one angle into targets that prefer another make a tensor (target's bin, source's bin, square of the target's own frame). Its circulant part is the
mean over all cells of one difference of angles; its share of the variance is 1 where a turn of the image changes nothing but the units' names.

References
----------
C. Olah et al., Naturally occurring equivariance in neural networks, Distill 2020. N. Cammarata et al., Curve circuits, Distill 2021 (weights that are circulant by eye). The share is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from universality.base.arrays import Array, Ints
from universality.base.errors import MeasureError
from universality.circuits.chance import p_above
from universality.circuits.profiles import BINS, Units

PERMUTATIONS = 399


def bins_of(units: Units, bins: int = BINS) -> Ints:
    """Return the bin of each unit's angle: bin k is centred on k / bins of the period."""
    return np.asarray(np.rint(units.angle_deg / units.period_deg * bins).astype(np.int64) % bins)


def angle_tensor(values: ArrayLike, targets: Ints, sources: Ints, bins: int = BINS) -> Array:
    """Return the mean of values (target, source, ...) by bin of the target and of the source, (bin, bin, ...); NaN where there is none."""
    given = np.asarray(values, dtype=np.float64)
    of_target, of_source = (np.eye(bins)[np.asarray(at)] for at in (targets, sources))
    counts = np.outer(of_target.sum(axis=0), of_source.sum(axis=0))
    total = np.einsum("ta,ts...->as...", of_target, given)
    total = np.einsum("sb,as...->ab...", of_source, total)
    shape = (bins, bins, *(1,) * (given.ndim - 2))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts.reshape(shape) > 0, total / np.maximum(counts, 1).reshape(shape), np.nan))


def circulant_share(tensor: ArrayLike) -> float:
    """Return how much of the variance of a tensor (bin, bin, ...) over its cells, 0 to 1, the mean by difference of bins holds.

    1 where only differences count. Cells that are NaN are left out; what all cells have in common is no variance. A tensor without any order has about one part in as many as there
    are cells for each difference: compare it with `permuted_shares`. NaN where nothing varies.

    Raises
    ------
    MeasureError
        The first two dimensions differ.
    """
    values = np.asarray(tensor, dtype=np.float64)
    if values.ndim < 2 or values.shape[0] != values.shape[1]:
        raise MeasureError(f"tensor has shape {values.shape}, expected (bin, bin, ...)")
    bins = len(values)
    flat = values.reshape(bins * bins, -1)
    difference = ((np.arange(bins)[None] - np.arange(bins)[:, None]) % bins).ravel()
    there = np.isfinite(flat).all(axis=1)
    if not there.any():
        return float("nan")
    less = flat[there] - flat[there].mean(axis=0)
    total = np.square(less).sum()
    if total <= 1e-24 * np.square(flat[there]).sum():
        return float("nan")
    held = sum(
        np.count_nonzero(here) * np.square(less[here].mean(axis=0)).sum()
        for here in (difference[there] == k for k in range(bins))
        if here.any()
    )
    return float(held / total)


def permuted_shares(
    values: ArrayLike,
    targets: Ints,
    sources: Ints,
    rng: np.random.Generator,
    bins: int = BINS,
    draws: int = PERMUTATIONS,
) -> Array:
    """Return circulant shares with the sources' angles exchanged among themselves, (draw,): the same cells, no order."""
    given = np.asarray(values, dtype=np.float64)
    return np.array(
        [circulant_share(angle_tensor(given, targets, rng.permutation(sources), bins)) for _ in range(draws)]
    )


def summary(values: ArrayLike, targets: Ints, sources: Ints, rng: np.random.Generator, name: str) -> dict[str, float]:
    """Return the circulant share of weights (target, source, ...) beside that of exchanged angles, under names that begin with `name`."""
    share = circulant_share(angle_tensor(values, targets, sources))
    drawn = permuted_shares(values, targets, sources, rng)
    known = drawn[np.isfinite(drawn)]
    mean, high = (float(known.mean()), float(np.quantile(known, 0.95))) if known.size else (np.nan, np.nan)
    return {name: share, f"{name}_permuted": mean, f"{name}_permuted_95": high, f"p_{name}": p_above(share, drawn)}
