"""Sources of two networks set side by side, so that the incoming weights of two units can be correlated: matched one to one, or by family and relative angle.

A unit's *wiring* is its weight from every source in nine squares of its field. Resampling draws sources anew, exchanging gives one source's weights to another.

References
----------
The two ways: see `universality.circuits.pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from universality.activations.layer import Layer
from universality.base.arrays import Array, Ints, reciprocal
from universality.circuits.profiles import BINS, Units, differences, placed
from universality.similarity.matching import correlations, hungarian

PLACES = 3
LEAST_R = 0.3
"""Held-out correlation of two sources that are taken for the same."""
BOOTSTRAPS = 400
PERMUTATIONS = 999


def matched_sources(a: Layer, b: Layer) -> tuple[Ints, Ints]:
    """Return the units of two earlier layers that are taken for the same, (source,) each: one to one, of `LEAST_R` or more on held-out images."""
    first, second = a.halves(), b.halves()
    if not first.live.size or not second.live.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    i, j = hungarian(correlations(first.decide, second.decide)).T
    kept = (first.score[:, i] * second.score[:, j]).sum(axis=0) >= LEAST_R
    return first.live[i[kept]], second.live[j[kept]]


@dataclass(frozen=True)
class ByMatch:
    """Wirings by matched sources: see the module's docstring.

    Attributes
    ----------
    a, b : (source,) matched units of the two earlier layers
    side_px : of a square
    """

    a: Ints
    b: Ints
    side_px: float

    def wirings(self, weights: xr.DataArray, sources: Ints) -> Array:
        """Return wirings (target, source, place) of length one over all; 0 for a target without weights."""
        return wiring_of(placed(weights.isel(unit_a=sources), 0.0, self.side_px, PLACES))

    def permuted(self, x: Array, y: Array, rng: np.random.Generator) -> Array:
        """Return s_w of one wiring with another whose sources are exchanged, (permutation,)."""
        products = x @ y.T
        orders = rng.permuted(np.tile(np.arange(len(y)), (PERMUTATIONS, 1)), axis=1)
        return np.asarray(products[np.arange(len(x))[None], orders].sum(axis=1))

    def resampled(self, x: Array, y: Array, rng: np.random.Generator) -> Array:
        """Return s_w with sources drawn anew with replacement, (resample,)."""
        counts = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=BOOTSTRAPS)
        xy, xx, yy = (counts @ (one * other).sum(axis=1) for one, other in ((x, y), (x, x), (y, y)))
        return np.asarray(xy * reciprocal(np.sqrt(xx * yy)))


def wiring_of(values: Array) -> Array:
    """Return weights (target, source, place) less the mean over sources at each place, of length one over all; 0 for a target without weights of its own."""
    less = values - values.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(less).sum(axis=(1, 2)))
    # Rounding of equal weights is no wiring.
    size = np.where(size > 1e-9 * np.sqrt(np.square(values).sum(axis=(1, 2))), size, 0.0)
    return np.asarray(less * reciprocal(size)[:, None, None])


@dataclass(frozen=True)
class ByAngle:
    """Wirings by families of sources and differences of preferred angles.

    Attributes
    ----------
    families : those with detectors enough in both earlier layers, of the targets' period
    side_px : of a square
    """

    families: tuple[str, ...]
    side_px: float

    def parts(self, weights: xr.DataArray, angles: Array, labels: Mapping[str, Units]) -> list[Parts]:
        """Return of every target, from each family, the weights in squares of its own frame, and the sources' bins."""
        each = []
        for family in self.families:
            of = labels[family]
            values = placed(weights.sel(unit_a=of.unit), angles, self.side_px, PLACES, disc=True)
            if of.period_deg == 180:  # an axis says which way a frame lies only up to half a turn
                values = (values + values[..., ::-1]) / 2
            targets = Units(np.arange(len(angles)), np.asarray(angles, dtype=float), of.period_deg)
            each.append((values, differences(targets, of)))
        return [Parts([(values[t], bins[t]) for values, bins in each]) for t in range(len(angles))]


@dataclass(frozen=True)
class Parts:
    """One target's weights from each family of sources: squares (source, place) and the bin of each source."""

    families: list[tuple[Array, Ints]]

    def wiring(self, counts: Sequence[Array] | None = None, bins: Sequence[Ints] | None = None) -> Array:
        """Return the mean weight by family, bin and square, (draw, entry), NaN where there is no source.

        Parameters
        ----------
        counts : by family, (draw, source), optional
            How often each source counts.
        bins : by family, (draw, source), optional
            Other bins of the sources.
        """
        found = []
        for f, (values, bins_of) in enumerate(self.families):
            at = bins_of[None] if bins is None else bins[f]
            often = np.ones((1, len(bins_of))) if counts is None else counts[f]
            for k in range(BINS):
                of = (at == k) * often
                total = of.sum(axis=1, keepdims=True)
                with np.errstate(invalid="ignore"):
                    found.append(np.where(total > 0, of @ values / np.where(total > 0, total, 1), np.nan))
        return np.concatenate(found, axis=1)

    def permuted(self, rng: np.random.Generator) -> Array:
        """Return wirings with the bins exchanged among the sources of each family, (permutation, entry)."""
        return self.wiring(
            bins=[rng.permuted(np.tile(bins_of, (PERMUTATIONS, 1)), axis=1) for _, bins_of in self.families]
        )

    def resampled(self, rng: np.random.Generator) -> Array:
        """Return wirings with the sources of each family drawn anew, (resample, entry)."""
        return self.wiring([
            rng.multinomial(len(bins_of), np.full(len(bins_of), 1 / len(bins_of)), size=BOOTSTRAPS).astype(float) for _, bins_of in self.families
        ])  # fmt: skip


def alike(x: Array, y: Array, least: int = BINS) -> Array:
    """Return the correlation of wirings row by row, over the entries that both have, (draw,); one row stands for all.

    NaN where they share fewer than `least` entries, or one of them is constant there.
    """
    x, y = np.broadcast_arrays(x, y)
    both = np.isfinite(x) & np.isfinite(y)
    n = both.sum(axis=1, keepdims=True)

    def less(values: Array) -> Array:
        known = np.where(both, values, 0.0)
        return np.where(both, known - known.sum(axis=1, keepdims=True) * reciprocal(n), 0.0)

    p, q = less(x), less(y)
    length = np.sqrt(np.square(p).sum(axis=1) * np.square(q).sum(axis=1))
    found = (p * q).sum(axis=1) * reciprocal(length)
    return np.where((n[:, 0] >= least) & (length > 0), found, np.nan)
