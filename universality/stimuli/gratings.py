"""Sinusoidal gratings over the whole image, for units that answer to edges and lines of one orientation.

The orientation is the direction across the stripes, towards which the phase advances, clockwise from +x with y pointing
down, in degrees. Half a turn more is the same grating with the phase reversed, so orientations divide 180 degrees. Value:
``background + contrast cos(2 pi cpi t + phase)``, t the distance from the middle along the orientation in scale x image
side. Sampled at the pixels' centres; frequencies that leave a cycle less than 2.5 px are refused, because at 2 px the
phase would decide whether anything is seen.
"""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec
from universality.stimuli.colour import coloured
from universality.stimuli.fields import COLOUR_MEANING, Colour, Frequencies, Scale
from universality.stimuli.geometry import refuse_aliases, turned_grid


class GratingStimuli(Spec):
    """Sinusoidal gratings."""

    orientations: Int = Field(18, ge=4, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Frequencies = Field((3.0, 6.0, 12.0, 24.0), description="cycles / image side")
    phases: Int = Field(4, ge=2, le=64, description="phases, evenly over 360 degrees")
    contrast: Float = Field(0.4, gt=0, le=0.5, description="amplitude about the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=COLOUR_MEANING)
    scale: Scale = 1.0


BACKGROUND = 0.5
RENDERER_VERSION = 1
PX_PER_CYCLE = 2.5


def parameters(spec: GratingStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,): orientation fastest, then phase, then frequency."""
    angles = np.arange(spec.orientations) * (180.0 / spec.orientations)
    phases = np.arange(spec.phases) * (360.0 / spec.phases)
    cpi, phase, angle = np.array(list(itertools.product(spec.frequencies_cpi, phases, angles))).T
    return xr.Dataset(
        coords={
            "orientation_deg": (STIMULUS, angle, {"units": "degrees"}),
            "cpi": (STIMULUS, cpi, {"units": "cycles / (scale x image side)"}),
            "phase_deg": (STIMULUS, phase, {"units": "degrees"}),
        }
    )


def refuse(spec: GratingStimuli, size_px: int) -> None:
    """Raise `StimulusError` if an image (or a scene in one) of `size_px` cannot show the highest frequency."""
    _refuse(spec, max(spec.frequencies_cpi), size_px)


def _refuse(spec: GratingStimuli, cpi: float, size_px: int) -> None:
    refuse_aliases("gratings", cpi / spec.scale, size_px, "stimuli.gratings.frequencies_cpi", PX_PER_CYCLE)


def render(spec: GratingStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), in [0, 1]; `interpolation` is not used here.

    Raises
    ------
    StimulusError
        If an image of `size_px` cannot show the highest frequency.
    """
    del interpolation
    _refuse(spec, float(chosen["cpi"].max()), size_px)
    columns = ("orientation_deg", "cpi", "phase_deg")
    difference = np.stack(
        [
            wave(float(theta), float(cpi), float(phase), size_px, spec.scale)
            for theta, cpi, phase in zip(*(chosen[name].values for name in columns), strict=True)
        ]
    )
    return coloured(spec.contrast * difference, BACKGROUND, spec.colour)


def wave(theta_deg: float, cpi: float, phase_deg: float, size_px: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Return a grating of amplitude 1 about 0: (y, x)."""
    along, _ = turned_grid(theta_deg, size_px, scale)
    return np.asarray(np.cos(2 * np.pi * cpi * along + np.deg2rad(phase_deg)))
