"""Gratings, lines and edges of the same orientations, for units that answer to any contour of one orientation.

The orientation is at right angles to the contour, clockwise from +x with y pointing down, in degrees. Lines and
gratings are the same after half a turn; an edge is shown with either polarity. So orientations divide 180 degrees.

- grating: as in :mod:`universality.stimuli.gratings`, at every frequency and phase
- line_dark, line_bright: a stroke through the middle of the image
- edge_ahead, edge_behind: a border through the middle, the side towards the orientation (or the other) darker than grey
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec
from universality.stimuli import gratings
from universality.stimuli.colour import coloured
from universality.stimuli.fields import COLOUR_MEANING, Colour, Frequencies, Scale
from universality.stimuli.geometry import coverage, refuse_aliases, turned_grid


class ContourStimuli(Spec):
    """Gratings, lines and edges of one set of orientations."""

    orientations: Int = Field(18, ge=8, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Frequencies = Field((3.0, 6.0, 12.0, 24.0), description="of the gratings, cycles / image side")
    phases: Int = Field(4, ge=3, le=64, description="of the gratings, evenly over 360 degrees")
    grating_contrast: Float = Field(0.4, gt=0, le=0.5, description="amplitude about the grey background")
    stroke: Float = Field(0.02, gt=0, lt=0.5, description="width of lines, in image sides")
    contrast: Float = Field(
        0.5, gt=0, le=0.5, description="line against background, and one side of an edge against it"
    )
    colour: Colour = Field("grey", description=COLOUR_MEANING)
    scale: Scale = 1.0


BACKGROUND = 0.5
RENDERER_VERSION = 1
GRATING = "grating"
KINDS = (GRATING, "line_dark", "line_bright", "edge_ahead", "edge_behind")


def parameters(spec: ContourStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,); frequency and phase are NaN for lines and edges."""
    kind, cpi, phase, angle = zip(*_rows(spec), strict=True)
    return xr.Dataset(
        coords={
            "kind": (STIMULUS, np.array(kind)),
            "cpi": (STIMULUS, np.array(cpi), {"units": "cycles / (scale x image side)"}),
            "phase_deg": (STIMULUS, np.array(phase), {"units": "degrees"}),
            "orientation_deg": (STIMULUS, np.array(angle), {"units": "degrees"}),
        }
    )


def _rows(spec: ContourStimuli) -> Iterator[tuple[str, float, float, float]]:
    angles = [float(angle) for angle in np.arange(spec.orientations) * (180.0 / spec.orientations)]
    phases = [float(phase) for phase in np.arange(spec.phases) * (360.0 / spec.phases)]
    yield from itertools.product([GRATING], spec.frequencies_cpi, phases, angles)
    yield from itertools.product(KINDS[1:], [np.nan], [np.nan], angles)


def refuse(spec: ContourStimuli, size_px: int) -> None:
    """Raise `StimulusError` if an image (or a scene in one) of `size_px` cannot show the highest frequency."""
    highest = max(spec.frequencies_cpi) / spec.scale
    refuse_aliases("gratings", highest, size_px, "stimuli.contours.frequencies_cpi", gratings.PX_PER_CYCLE)


def render(spec: ContourStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), in [0, 1]; `interpolation` is not used here.

    Raises
    ------
    StimulusError
        If an image of `size_px` cannot show the highest frequency.
    """
    del interpolation
    refuse(spec, size_px)
    columns = ("kind", "orientation_deg", "cpi", "phase_deg")
    difference = np.stack(
        [
            _draw(spec, str(kind), float(theta), float(cpi), float(phase), size_px)
            for kind, theta, cpi, phase in zip(*(chosen[name].values for name in columns), strict=True)
        ]
    )
    return coloured(difference, BACKGROUND, spec.colour)


def _draw(
    spec: ContourStimuli, kind: str, theta_deg: float, cpi: float, phase_deg: float, size_px: int
) -> NDArray[np.float64]:
    """Return (y, x): the difference from the background."""
    if kind == GRATING:
        return spec.grating_contrast * gratings.wave(theta_deg, cpi, phase_deg, size_px, spec.scale)
    along, _ = turned_grid(theta_deg, size_px, spec.scale)
    shape, which = kind.split("_")
    if shape == "line":
        sign = 1.0 if which == "bright" else -1.0
        return sign * spec.contrast * coverage(np.abs(along) - spec.stroke / 2, size_px, spec.scale)
    return -spec.contrast * coverage(-along if which == "ahead" else along, size_px, spec.scale)
