"""How a family of units is wired to a family: weights by the difference of preferred angles, and by the offset in the target's own frame.

``P(delta)`` is the mean, over a target's sources whose preferred angle differs from its own by delta, of the weight summed over space; ``P(delta, u, v)``
keeps the offset, turned so that u points along the target's preferred direction, so that networks of other strides and detectors of other angles can be compared.

Weights come as sigma per sigma (`sigma_per_sigma`): what one standard deviation of a source, over natural images, moves a target in its own; or divided by the size of the
weights into the target (`rms`): the root of the mean over sources of the squares summed over places.

References
----------
N. Cammarata et al., Curve circuits, Distill 2021 (weights between detectors by the difference of their orientations).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from universality.base.arrays import reciprocal
from universality.base.errors import MeasureError

Array = NDArray[np.float64]
BINS = 8
"""Differences of preferred angles: 45 degrees each for a full circle."""


@dataclass(frozen=True)
class Units:
    """Units of one layer that have an angle.

    Attributes
    ----------
    unit : (unit,) their numbers in the layer
    angle_deg : (unit,) preferred angles
    period_deg : of the angle: 360 for a direction, 180 for an axis
    """

    unit: NDArray[np.int64]
    angle_deg: Array
    period_deg: float = 360.0


def sigma_per_sigma(weights: xr.DataArray, deviation_a: ArrayLike, deviation_b: ArrayLike) -> xr.DataArray:
    """Return weights in standard deviations of the target for one of the source; units that do not vary have none.

    Parameters
    ----------
    weights : DataArray, (unit_b, unit_a, dy, dx)
        As `expanded_weights` gives them.
    deviation_a, deviation_b : (unit,) of all units of tap A, of tap B, a.u.
    """
    source, target = np.asarray(deviation_a, float), np.asarray(deviation_b, float)[weights["unit_b"].values]
    factors = reciprocal(target)[:, None] * source[weights["unit_a"].values]
    return weights.copy(data=weights.values * factors[:, :, None, None]).assign_attrs(units="sigma per sigma")


def rms(weights: xr.DataArray) -> xr.DataArray:
    """Return weights divided by their size for each target: the root of the mean over sources of the squares summed over places; 0 for a target without any.

    Places are summed over: of a window that was asked for with more room around it, where no weight is, the size is the same.
    """
    size = np.sqrt(np.square(weights.values.astype(float)).sum(axis=(2, 3)).mean(axis=1))
    return weights.copy(data=weights.values * reciprocal(size)[:, None, None, None]).assign_attrs(
        units="rms of the target's weights"
    )


def differences(targets: Units, sources: Units, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin of the source's angle less the target's, (target, source): bin k is centred on k / bins of the period."""
    if targets.period_deg != sources.period_deg:
        raise MeasureError(
            f"targets repeat after {targets.period_deg:g} degrees and sources after {sources.period_deg:g}, expected one period; compare families of one kind of angle"
        )
    turned = (sources.angle_deg[None] - targets.angle_deg[:, None]) / targets.period_deg * bins
    return np.asarray(np.rint(turned).astype(np.int64) % bins)


def angle_profiles(weights: xr.DataArray, targets: Units, sources: Units, bins: int = BINS) -> Array:
    """Return P(delta) of every target, (target, bin): NaN where it has no source of that difference.

    Parameters
    ----------
    weights : DataArray, (unit_b, unit_a, dy, dx)
        It has the targets and the sources among its units.
    """
    summed = weights.sum(("dy", "dx")).sel(unit_b=targets.unit, unit_a=sources.unit).values.astype(float)
    return _mean_by(summed[..., None], differences(targets, sources, bins), bins)[..., 0]


def offset_profiles(
    weights: xr.DataArray, targets: Units, sources: Units, side_px: float, places: int = 3, bins: int = BINS
) -> Array:
    """Return P(delta, u, v) of every target, (target, bin, v, u): NaN where it has no source of that difference.

    Weights are summed into `places` x `places` squares of `side_px` around the middle of the target's field, in the target's frame: u along its preferred
    direction, v at right angles to it (clockwise). What lies beyond the circle within them is left out; a square that no offset falls into has 0.
    """
    picked = weights.sel(unit_b=targets.unit, unit_a=sources.unit)
    found = placed(picked, targets.angle_deg, side_px, places, disc=True)
    flat = _mean_by(found, differences(targets, sources, bins), bins)
    return flat.reshape(len(flat), bins, places, places)


def placed(weights: xr.DataArray, angle_deg: ArrayLike, side_px: float, places: int = 3, disc: bool = False) -> Array:
    """Return weights summed into squares around the middle of each target's field, (target, source, place): row by row, v before u.

    Parameters
    ----------
    weights : DataArray, (unit_b, unit_a, dy, dx)
    angle_deg : (target,) by which each target's frame is turned, degrees; 0 for the frame of the image
    side_px : of a square, px of the image
    places : squares along a side; what lies beyond them is left out
    disc : whether what lies beyond the circle within them is left out too: a frame that is turned then holds the same weights
    """
    values = weights.values.astype(float).reshape(len(weights), weights.shape[1], -1)
    found = np.empty((*values.shape[:2], places * places))
    degrees, of = np.unique(np.broadcast_to(np.asarray(angle_deg, dtype=float), len(values)), return_inverse=True)
    for k, one in enumerate(degrees):
        found[of == k] = values[of == k] @ _squares(weights, one, side_px, places, disc)
    return found


def _squares(weights: xr.DataArray, degrees: float, side_px: float, places: int, disc: bool) -> Array:
    """Return which square each offset falls into, (offset, place): 1 there and 0 elsewhere; 0 everywhere of one that falls into none."""
    x, y = (of.ravel() for of in np.meshgrid(weights["dx"].values, weights["dy"].values))
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    columns, rows = (
        np.rint(along / side_px + (places - 1) / 2).astype(int) for along in (x * cos + y * sin, -x * sin + y * cos)
    )
    inside = (columns >= 0) & (columns < places) & (rows >= 0) & (rows < places)
    if disc:
        inside &= np.hypot(x, y) <= places * side_px / 2
    found = np.zeros((x.size, places * places))
    found[inside, rows[inside] * places + columns[inside]] = 1.0
    return found


def share_within(weights: xr.DataArray, side_px: float, places: int = 3, *, disc: bool = False) -> Array:
    """Return how much of each target's squared weights, 0 to 1, lies in the squares that `placed` sums into, (target,); NaN for a target without weights."""
    power = np.square(weights.values.astype(float)).sum(axis=1).reshape(len(weights), -1)
    inside = power @ _squares(weights, 0.0, side_px, places, disc).sum(axis=1)
    total = power.sum(axis=1)
    return np.where(total > 0, inside * reciprocal(total), np.nan)


def _mean_by(values: Array, bin_of: NDArray[np.int64], bins: int) -> Array:
    """Return means of values (target, source, ...) over sources by bin: (target, bin, ...)."""
    found = np.full((values.shape[0], bins, values.shape[2]), np.nan)
    for k in range(bins):
        here = bin_of == k
        some = here.any(axis=1)
        total = (values * here[..., None]).sum(axis=1)
        found[some, k] = total[some] / here.sum(axis=1)[some, None]
    return found
