"""Whether detectors of two networks are wired alike: profiles of their incoming weights, compared beside what stands for chance.

A target's *wiring* is its incoming weights from every family of sources, by the difference of preferred angles and by the offset in the target's own frame
(`profiles.offset_profiles`): numbers that mean the same in every network. ``s_w`` is the correlation of two wirings.

Nulls: the sources' angles permuted within their family (are angles what orders the weights?), random directions of the target's layer (does any unit of this
layer look so?), untrained twins with the trained labels (is it the architecture?). Beside them the same with other targets of the family, unmatched: wirings are in each
target's own frame, so a family whose members are wired alike has no more to say of one pair than of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from universality.base.arrays import standardised
from universality.circuits.profiles import BINS, Units, angle_profiles, offset_profiles, rms

Array = NDArray[np.float64]
PLACES = 3
"""Squares along a side of the target's field into which offsets are put."""
LEAST_ENTRIES = 12
"""Numbers that two wirings have to share."""


@dataclass(frozen=True)
class Wiring:
    """How the detectors of one layer are wired to detectors of an earlier one.

    Attributes
    ----------
    targets : their numbers in the layer, (target,)
    angle : (target, source family, bin), NaN where there is no such source
    offset : (target, source family * bin * place), NaN likewise
    """

    targets: NDArray[np.int64]
    angle: Array
    offset: Array


def wiring(weights: xr.DataArray, targets: Units, sources: Mapping[str, Units], bins: int = BINS) -> Wiring:
    """Return the wiring of targets to families of sources; weights are divided by the root mean square of all into a target.

    Parameters
    ----------
    weights : DataArray, (unit_b, unit_a, dy, dx)
        In sigma per sigma.
    sources : by name of the family; all of the targets' period
    """
    scaled = rms(weights)
    along = weights["dx"].values
    step = float(along[1] - along[0]) if along.size > 1 else 1.0
    side_px = (float(np.ptp(along)) + step) / PLACES
    angle = np.stack([angle_profiles(scaled, targets, of, bins) for of in sources.values()], axis=1)
    parts = [offset_profiles(scaled, targets, of, side_px, PLACES, bins) for of in sources.values()]
    return Wiring(targets.unit, angle, np.stack(parts, axis=1).reshape(len(targets.unit), -1))


def permuted(sources: Mapping[str, Units], rng: np.random.Generator) -> dict[str, Units]:
    """Return sources whose angles are exchanged within each family."""
    return {name: Units(of.unit, rng.permutation(of.angle_deg), of.period_deg) for name, of in sources.items()}


def mixed(weights: xr.DataArray, count: int, rng: np.random.Generator) -> tuple[xr.DataArray, Units]:
    """Return the weights into random directions of the target's layer (of standardised units), and angles drawn for them."""
    shares = rng.standard_normal((count, weights.sizes["unit_b"]))
    shares /= np.linalg.norm(shares, axis=1, keepdims=True)
    values = np.tensordot(shares, weights.values.astype(float), axes=1)
    made = xr.DataArray(
        values,
        dims=weights.dims,
        coords={"unit_b": np.arange(count), "unit_a": weights["unit_a"], "dy": weights["dy"], "dx": weights["dx"]},
    )
    return made, Units(np.arange(count), rng.uniform(0, 360, count))


def alike(a: ArrayLike, b: ArrayLike) -> Array:
    """Return s_w of every wiring of one network with every one of another, (target, target): correlations over the entries that both have.

    NaN where they share fewer than `LEAST_ENTRIES`, or one of them is constant there.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    found = np.full((len(x), len(y)), np.nan)
    for i, one in enumerate(x):
        for j, other in enumerate(y):
            both = np.isfinite(one) & np.isfinite(other)
            if both.sum() >= LEAST_ENTRIES and np.ptp(one[both]) > 0 and np.ptp(other[both]) > 0:
                found[i, j] = (standardised(one[both, None])[:, 0] * standardised(other[both, None])[:, 0]).sum()
    return found


def family_alike(a: Wiring, b: Wiring, by: str = "offset") -> float:
    """Return the correlation of the mean wirings of two families, by ``angle`` or by ``offset``; NaN as in `alike`."""
    means = [_nanmean(getattr(of, by).reshape(len(of.targets), -1)) for of in (a, b)]
    both = np.isfinite(means[0]) & np.isfinite(means[1])
    if both.sum() < min(LEAST_ENTRIES, BINS) or any(np.ptp(mean[both]) == 0 for mean in means):
        return float("nan")
    return float(np.corrcoef(means[0][both], means[1][both])[0, 1])


def _nanmean(values: Array) -> Array:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def matched(found: Array, pairs: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """Return s_w of matched pairs (places of targets in `found`), and of each the mean with the other targets of the second network."""
    own, others = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for k, (i, j) in enumerate(pairs):
        own[k] = found[i, j]
        rest = np.delete(found[i], j)
        if np.isfinite(rest).any():
            others[k] = np.nanmean(rest)
    return own, others
