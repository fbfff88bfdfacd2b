"""How a family of units is wired to a family: weights by the difference of preferred angles, and by the offset in the target's own frame.

``P(delta)`` is the mean, over a target's sources whose preferred angle differs from its own by delta, of the weight summed over space; ``P(delta, u, v)``
keeps the offset, turned so that u points along the target's preferred direction, so that networks of other strides and detectors of other angles can be compared.

Weights come as sigma per sigma (`sigma_per_sigma`): what one standard deviation of a source, over natural images, moves a target in its own; or divided by the root mean
square of all weights into the target (`rms`).

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
    """Return weights divided by the root mean square of all weights into each target; 0 for a target without any."""
    size = np.sqrt((weights.values.astype(float) ** 2).mean(axis=(1, 2, 3)))
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
    values = weights.values.astype(float)
    x, y = np.meshgrid(weights["dx"].values, weights["dy"].values)
    found = np.zeros((*values.shape[:2], places, places))
    for target, degrees in enumerate(np.broadcast_to(np.asarray(angle_deg, dtype=float), len(values))):
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        u, v = x * cos + y * sin, -x * sin + y * cos
        columns, rows = (np.rint(along / side_px + (places - 1) / 2).astype(int) for along in (u, v))
        inside = (columns >= 0) & (columns < places) & (rows >= 0) & (rows < places)
        if disc:
            inside &= np.hypot(x, y) <= places * side_px / 2
        for row, column in {(int(r), int(c)) for r, c in zip(rows[inside], columns[inside], strict=True)}:
            here = inside & (rows == row) & (columns == column)
            found[target, :, row, column] = values[target][:, here].sum(axis=1)
    return found.reshape(*values.shape[:2], places * places)


def _mean_by(values: Array, bin_of: NDArray[np.int64], bins: int) -> Array:
    """Return means of values (target, source, ...) over sources by bin: (target, bin, ...)."""
    found = np.full((values.shape[0], bins, values.shape[2]), np.nan)
    for k in range(bins):
        here = bin_of == k
        some = here.any(axis=1)
        total = (values * here[..., None]).sum(axis=1)
        found[some, k] = total[some] / here.sum(axis=1)[some, None]
    return found
