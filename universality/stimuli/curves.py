"""Arcs and straight lines through the middle of the image.

Convention: the orientation of an arc is the direction from its centre of curvature to its midpoint, clockwise from
+x with y pointing down, in degrees (Cammarata et al. 2020, Curve Detectors). The midpoint lies in the middle of
the image, or up to half of `jitter_span` away from it. Lengths are in units of ``scale`` x image side, so at scale 1 a
curvature of 4 is a circle whose radius is a quarter of the image.

- thin: a stroke along the arc, half a circle or the stated extent long, with round ends
- filled: the region on the concave side, continued away from the arc by the straight tangents of its ends (parallel
  for half a circle). Its border in front is the arc; unlike a disc it has no far side that would be an arc of the
  opposite orientation.
- the straight line (curvature 0) is the limit of both: a stroke, and a half-plane
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.base.schema import STIMULUS
from universality.stimuli.colour import coloured
from universality.stimuli.geometry import coverage, filled_distance, stroke_distance, turned_grid
from universality.stimuli.spec import CurveStimuli

BACKGROUND = 0.5
RENDERER_VERSION = 1


def parameters(spec: CurveStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,): orientation fastest, then curvature, variant and jitter."""
    angles = np.arange(spec.orientations) * (360.0 / spec.orientations)
    shifts = _shifts(spec)
    jitter_y, jitter_x, variant, curvature, orientation = np.meshgrid(
        shifts, shifts, np.array(spec.variants, dtype=object), np.array(spec.curvatures), angles, indexing="ij"
    )
    return xr.Dataset(
        coords={
            "orientation_deg": (STIMULUS, orientation.ravel(), {"units": "degrees"}),
            "curvature": (STIMULUS, curvature.ravel(), {"units": "1 / (scale x image side)"}),
            "variant": (STIMULUS, variant.ravel().astype(str)),
            "jitter_x": (STIMULUS, jitter_x.ravel(), {"units": "image sides"}),
            "jitter_y": (STIMULUS, jitter_y.ravel(), {"units": "image sides"}),
        }
    )


def _shifts(spec: CurveStimuli) -> NDArray[np.float64]:
    """Return the middles of `jitter` equal parts of the span, about 0: with one stride as span, copies fill the stride."""
    return np.asarray(((np.arange(spec.jitter) + 0.5) / spec.jitter - 0.5) * spec.jitter_span)


def render(spec: CurveStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli, anti-aliased over one pixel: (stimulus, channel, y, x), in [0, 1].

    `interpolation` is not used here: drawings are computed at the asked size.
    """
    del interpolation
    columns = ("orientation_deg", "curvature", "variant", "jitter_x", "jitter_y")
    difference = np.stack(
        [
            _draw(spec, float(theta), float(kappa), str(variant), (float(x), float(y)), size_px)
            for theta, kappa, variant, x, y in zip(*(chosen[name].values for name in columns), strict=True)
        ]
    )
    return coloured(difference, BACKGROUND, spec.colour)


def _draw(
    spec: CurveStimuli, theta_deg: float, curvature: float, variant: str, shift: tuple[float, float], size_px: int
) -> NDArray[np.float64]:
    shape, polarity = variant.split("_")
    along, across = turned_grid(theta_deg, size_px, spec.scale, shift)
    distance = (filled_distance if shape == "filled" else stroke_distance)(
        along, across, curvature, spec.arc_length_deg
    )
    if shape == "thin":
        distance = distance - spec.stroke / 2
    sign = 1.0 if polarity == "bright" else -1.0
    return np.asarray(sign * spec.contrast * coverage(distance, size_px, spec.scale))
