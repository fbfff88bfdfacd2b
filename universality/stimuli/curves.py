"""Arcs and straight lines through the middle of the image.

Convention: the orientation of an arc is the direction from its centre of curvature to its midpoint, clockwise from
+x with y pointing down, in degrees (Cammarata et al. 2020, Curve Detectors). The midpoint lies in the middle of
the image. Lengths are in image sides, so a curvature of 4 is a circle whose radius is a quarter of the image.

- thin: a stroke along the arc, at most half a circle long, with round ends
- filled: the region on the concave side, continued away from the arc by parallel straight sides. Its border in
  front is the arc; unlike a disc it has no far side that would be an arc of the opposite orientation.
- the straight line (curvature 0) is the limit of both: a stroke, and a half-plane
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.schema import STIMULUS
from universality.spec import CurveStimuli
from universality.stimuli.colour import coloured

BACKGROUND = 0.5
RENDERER_VERSION = 1


def parameters(spec: CurveStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,), orientation fastest, then curvature, then variant."""
    angles = np.arange(spec.orientations) * (360.0 / spec.orientations)
    variant, curvature, orientation = np.meshgrid(
        np.array(spec.variants, dtype=object), np.array(spec.curvatures), angles, indexing="ij"
    )
    return xr.Dataset(
        coords={
            "orientation_deg": (STIMULUS, orientation.ravel(), {"units": "degrees"}),
            "curvature": (STIMULUS, curvature.ravel(), {"units": "1 / image side"}),
            "variant": (STIMULUS, variant.ravel().astype(str)),
        }
    )


def render(spec: CurveStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli, anti-aliased over one pixel: (stimulus, channel, y, x), in [0, 1].

    `interpolation` is of no use here: drawings are computed at the asked size.
    """
    del interpolation
    difference = np.stack(
        [
            _draw(spec, float(theta), float(kappa), str(variant), size_px)
            for theta, kappa, variant in zip(
                chosen["orientation_deg"].values, chosen["curvature"].values, chosen["variant"].values, strict=True
            )
        ]
    )
    return coloured(difference, BACKGROUND, spec.colour)


def _draw(spec: CurveStimuli, theta_deg: float, curvature: float, variant: str, size_px: int) -> NDArray[np.float64]:
    shape, polarity = variant.split("_")
    along, across = _rotated_grid(theta_deg, size_px)
    distance = (_filled_distance if shape == "filled" else _stroke_distance)(along, across, curvature)
    if shape == "thin":
        distance = distance - spec.stroke / 2
    coverage = np.clip(0.5 - distance * size_px, 0.0, 1.0)
    sign = 1.0 if polarity == "bright" else -1.0
    return np.asarray(sign * spec.contrast * coverage)


def _rotated_grid(theta_deg: float, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) maps of the coordinate along the orientation and across it, in image sides from the middle."""
    axis = (np.arange(size_px) - (size_px - 1) / 2) / size_px
    x, y = axis[None, :], axis[:, None]
    theta = np.deg2rad(theta_deg)
    return x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)


def _filled_distance(along: np.ndarray, across: np.ndarray, curvature: float) -> np.ndarray:
    """Signed distance to the border of the filled region, negative inside."""
    if curvature == 0:
        return along
    radius = 1.0 / curvature
    ahead = along + radius
    return np.asarray(np.where(ahead >= 0, np.hypot(ahead, across) - radius, np.abs(across) - radius))


def _stroke_distance(along: np.ndarray, across: np.ndarray, curvature: float) -> np.ndarray:
    """Distance to the arc (half a circle at most), >= 0."""
    if curvature == 0:
        return np.asarray(np.abs(along))
    radius = 1.0 / curvature
    ahead = along + radius
    to_arc = np.abs(np.hypot(ahead, across) - radius)
    to_end = np.hypot(ahead, np.abs(across) - radius)
    return np.asarray(np.where(ahead >= 0, to_arc, to_end))
