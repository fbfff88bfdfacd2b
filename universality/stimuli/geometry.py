"""Signed distances of drawings to their borders, in a frame turned towards the orientation.

Lengths are in units of ``scale`` x image side, from the middle of the image (or from where it is shifted): a smaller
scale shrinks a drawing about that point. An orientation is clockwise from +x with y pointing down, in degrees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from universality.base.errors import StimulusError

Array = NDArray[np.float64]


def refuse_aliases(what: str, cpi: float, size_px: int, key: str, px_per_cycle: float = 2.0) -> None:
    """Raise `StimulusError` if images of `size_px` cannot show `cpi` cycles / image side, each of `px_per_cycle` px."""
    if cpi * px_per_cycle > size_px:
        raise StimulusError(
            f"{what} of {cpi:g} cycles / image side need images of at least {px_per_cycle * cpi:g} px, came {size_px} px; "
            f"lower {key} or raise the scale"
        )


def turned_grid(
    theta_deg: float, size_px: int, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Return (y, x) maps of the coordinate along the orientation and across it; `shift` is (x, y) in image sides."""
    axis = (np.arange(size_px) - (size_px - 1) / 2) / size_px
    x, y = (axis[None, :] - shift[0]) / scale, (axis[:, None] - shift[1]) / scale
    theta = np.deg2rad(theta_deg)
    return np.asarray(x * np.cos(theta) + y * np.sin(theta)), np.asarray(-x * np.sin(theta) + y * np.cos(theta))


def coverage(distance: Array, size_px: int, scale: float = 1.0) -> Array:
    """Return the covered share of each pixel from signed distances (negative inside), anti-aliased over one pixel.

    A stroke of w < 1 px gets (1 + w)^2 / 4 px of ink instead of w.
    """
    return np.asarray(np.clip(0.5 - distance * (size_px * scale), 0.0, 1.0))


def half_angle(extent_deg: float) -> tuple[float, float]:
    """Return cosine and sine of half an extent; exactly 0 and 1 for 180 degrees."""
    rest = np.deg2rad(90.0 - extent_deg / 2)
    return float(np.sin(rest)), float(np.cos(rest))


def stroke_distance(along: Array, across: Array, curvature: float, extent_deg: float = 180.0) -> Array:
    """Distance to an arc through the origin, of `extent_deg` about its midpoint, >= 0; curvature 0 is a whole line."""
    if curvature == 0:
        return np.asarray(np.abs(along))
    radius = 1.0 / curvature
    cosine, sine = half_angle(extent_deg)
    ahead, aside = along + radius, np.abs(across)
    to_arc = np.abs(np.hypot(ahead, across) - radius)
    to_end = np.hypot(ahead - radius * cosine, aside - radius * sine)
    return np.asarray(np.where(ahead * sine - aside * cosine >= 0, to_arc, to_end))


def filled_distance(along: Array, across: Array, curvature: float, extent_deg: float = 180.0) -> Array:
    """Signed distance to the border of the region behind an arc and the tangents at its two ends, negative inside."""
    if curvature == 0:
        return along
    radius = 1.0 / curvature
    cosine, sine = half_angle(extent_deg)
    ahead, aside = along + radius, np.abs(across)
    to_tangent = ahead * cosine + aside * sine - radius
    return np.asarray(np.where(ahead * sine - aside * cosine >= 0, np.hypot(ahead, across) - radius, to_tangent))


def corner_sides_distance(along: Array, across: Array, length: float, extent_deg: float) -> Array:
    """Distance to two sides of `length` that meet in the origin and turn by `extent_deg` there, >= 0."""
    cosine, sine = half_angle(extent_deg)
    aside = np.abs(across)
    # A side runs from the origin backwards along (-sine, cosine): at right angles to the radius at the arc's end.
    run = np.clip(-along * sine + aside * cosine, 0.0, length)
    return np.asarray(np.hypot(along + run * sine, aside - run * cosine))


def corner_distance(along: Array, across: Array, extent_deg: float) -> Array:
    """Signed distance to two half-lines that meet in the origin, negative behind them; exact inside and at the sides."""
    cosine, sine = half_angle(extent_deg)
    aside = np.abs(across)
    beyond = -along * sine + aside * cosine < 0
    return np.asarray(np.where(beyond, np.hypot(along, across), along * cosine + aside * sine))
