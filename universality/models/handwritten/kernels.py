"""Kernels as formulas: Gabor filters, arcs, lines, and boundaries between frequencies.

Angles are clockwise from +x with y pointing down, in degrees. Lengths are in pixels of the map that a kernel looks at. Weights are
float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from universality.base.arrays import Array

PHASES = 4
"""Of a Gabor filter: even and odd, each of both signs."""
TANGENTS_DEG: Array = np.asarray(np.arange(12) * 15.0, dtype=np.float64)
"""Of contours, in one half of the circle: those of the other half look alike."""
TANGENT_SHARPNESS = 4.0
"""Exponent of a contour's tuning to tangents: half the weight 17 degrees off."""
STROKE_PX = 1.2
"""Standard deviation of a contour across itself."""


def places(kernel: int) -> tuple[Array, Array]:
    """Return the positions of a kernel's pixels from its middle, (y, x) each: x, y.

    Examples
    --------
    >>> places(2)[0].tolist()
    [[-0.5, 0.5], [-0.5, 0.5]]
    """
    axis = np.arange(kernel) - (kernel - 1) / 2
    return axis[None, :] + 0 * axis[:, None], axis[:, None] + 0 * axis[None, :]


def gabors(kernel: int, wavelength: float, width: float, tangents_deg: ArrayLike) -> Array:
    """Return Gabor filters (tangent, phase, y, x) for contours along the tangents; a grating of amplitude 1 gives at most 1.

    Parameters
    ----------
    wavelength, width : of the wave across the contour, and standard deviation of the envelope
    """
    x, y = places(kernel)
    envelope = np.exp(-(x**2 + y**2) / (2 * width**2))
    filters = []
    for tangent in np.deg2rad(np.asarray(tangents_deg, dtype=np.float64)):
        across = 2 * np.pi / wavelength * (-x * np.sin(tangent) + y * np.cos(tangent))
        even = envelope * (np.cos(across) - (envelope * np.cos(across)).sum() / envelope.sum())
        odd = envelope * np.sin(across)
        even, odd = even / (even * np.cos(across)).sum(), odd / (odd * np.sin(across)).sum()
        filters.append([even, odd, -even, -odd])
    return np.array(filters)


def energies(groups: int, each: int) -> Array:
    """Return the weights (group, filter) that add up the rectified filters of each of `groups` groups of `each` neighbours."""
    return np.asarray(np.kron(np.eye(groups), np.ones(each)), dtype=np.float64)


def direction(angle_deg: ArrayLike) -> Array:
    """Return unit vectors (..., 2): x, y."""
    turn = np.deg2rad(np.asarray(angle_deg, dtype=np.float64))
    return np.stack([np.cos(turn), np.sin(turn)], axis=-1)


def contour(points: Array, tangents_deg: Array, kernel: int) -> Array:
    """Return weights (tangent of the cell, y, x) along a contour, of sum 1: near its points, for contours along its tangents.

    Parameters
    ----------
    points : (point, 2)
        x, y from the kernel's middle.
    tangents_deg : (point,)
    """
    x, y = places(kernel)
    near = np.exp(-((x - points[:, :1, None]) ** 2 + (y - points[:, 1:, None]) ** 2) / (2 * STROKE_PX**2))
    turned = np.deg2rad(TANGENTS_DEG[:, None] - tangents_deg)
    weights = np.einsum("ts,syx->tyx", np.exp(TANGENT_SHARPNESS * (np.cos(2 * turned) - 1)), near)
    return np.asarray(weights / weights.sum())


def arc(orientation_deg: float, radius: float, kernel: int) -> Array:
    """Return half a circle, placed as `universality.stimuli.curves` places arcs: its midpoint in the middle."""
    turn = orientation_deg + np.linspace(-90, 90, 25)
    return contour(radius * (direction(turn) - direction(orientation_deg)), turn + 90, kernel)


def line(orientation_deg: float, kernel: int) -> Array:
    """Return a line through the middle, as long as the kernel, with the tangent of an arc of that orientation."""
    length = np.linspace(-(kernel - 1) / 2, (kernel - 1) / 2, 25)[:, None]
    return contour(length * direction(orientation_deg + 90), np.full(25, orientation_deg + 90), kernel)


def any_tangent(weights: Array) -> Array:
    """Return the same places, every tangent alike."""
    return np.broadcast_to(weights.mean(axis=0), weights.shape)


def arc_detector(
    orientation_deg: float, radius: float, kernel: int, straight: float = 0.1, others: float = 0.3
) -> Array:
    """Return weights (tangent, y, x): the arc excites; the opposite arc, the straight line, and other contours at its places inhibit.

    Parameters
    ----------
    straight, others : strength of the inhibition by the line and by contours of any tangent, of the arc's own
    """
    own = arc(orientation_deg, radius, kernel)
    against = arc(orientation_deg + 180, radius, kernel) + straight * line(orientation_deg, kernel)
    return np.asarray(own - against - others * any_tangent(own))


def sides(direction_deg: float, kernel: int, width: float) -> Array:
    """Return weights (y, x) that compare the two sides of a boundary through the middle: above 0 ahead, below 0 behind; |sum| 1."""
    x, y = places(kernel)
    ahead = x * np.cos(np.deg2rad(direction_deg)) + y * np.sin(np.deg2rad(direction_deg))
    side = np.exp(-(x**2 + y**2) / (2 * width**2)) * ahead
    return np.asarray(side / np.abs(side).sum())


def boundary_detector(direction_deg: float, kernel: int, width: float, low: float = 0.5) -> Array:
    """Return weights (band: high, low; y, x): high frequencies ahead and low ones behind excite, the reverse inhibits."""
    side = sides(direction_deg, kernel, width)
    return np.stack([side, -low * side])


def of_grey(filters: Array, colours: Sequence[float] = (1 / 3, 1 / 3, 1 / 3)) -> Array:
    """Return weights (filter, channel, y, x) that look at a mean of the colours."""
    return np.asarray(filters[:, None] * np.asarray(colours)[:, None, None])


def phase_scrambled(weights: Array, noise: Array) -> Array:
    """Return weights of the same amplitude spectra over space, the phases of every kernel those of `noise`, its mean kept.

    Parameters
    ----------
    weights, noise : (..., y, x)
    """
    drawn = np.fft.fft2(noise)
    turns = drawn / np.abs(drawn)
    turns[..., 0, 0] = 1.0
    return np.asarray(np.fft.ifft2(np.fft.fft2(weights) * turns).real)
