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

from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec, unique
from universality.stimuli.colour import coloured
from universality.stimuli.fields import COLOUR_MEANING, Colour, Scale, Variant
from universality.stimuli.geometry import coverage, filled_distance, stroke_distance, turned_grid


class CurveStimuli(Spec):
    """Arcs and straight lines through the middle of the image."""

    orientations: Int = Field(36, ge=8, le=360, description="orientations, evenly over 360 degrees")
    curvatures: Annotated[
        tuple[Annotated[Float, Field(ge=0, le=100)], ...], Field(min_length=2), AfterValidator(unique)
    ] = Field((0.0, 3.0, 5.0, 8.0, 12.0), description="1 / radius, in 1 / image side; 0 is the straight line")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("thin_dark", "thin_bright", "filled_dark", "filled_bright"),
        description="lines or filled shapes, darker or brighter than the grey",
    )
    stroke: Float = Field(0.02, gt=0, lt=0.5, description="stroke width of thin arcs, in image sides")
    contrast: Float = Field(0.5, gt=0, le=0.5, description="distance from the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=COLOUR_MEANING)
    arc_length_deg: Float = Field(180.0, gt=0, le=180, description="extent of the arcs, degrees of their circle")
    jitter: Int = Field(1, ge=1, le=9, description="so many by so many copies at places about the middle; 1 is none")
    jitter_span: Float = Field(
        0.03, gt=0, le=0.5, description="side of the square that the copies divide evenly, in image sides: one stride"
    )
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _line_and_curves(self) -> CurveStimuli:
        if 0.0 not in self.curvatures:
            raise ValueError("curvatures must contain 0, the straight line: it is the control")
        if min(c for c in self.curvatures if c > 0) < 0.01:
            raise ValueError("curvatures other than 0 must be at least 0.01: flatter arcs cannot be told from lines")
        return self


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
