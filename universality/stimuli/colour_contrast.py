"""Boundaries between colours of equal luminance, and the same and other images in grey.

Hues, saturations and the plane of equal luminance are those of :mod:`universality.stimuli.colours`. Orientations divide
360 degrees.

- half: the colour on the side towards the orientation, the grey background on the other
- opponent: the colour on the side towards the orientation, the opposite hue on the other (the opposite hue's image is
  the same after half a turn, so half of the hues are shown)
- field: the colour everywhere
- grey_half, grey_opponent, grey_field: the same with a lighter or a darker grey for the colour
- grey_grating: sinusoidal gratings, orientations over 180 degrees

Grey controls differ from the background by `luminance` (in sRGB, every channel): at 0.4 further, as a distance in RGB,
than any colour of the set does, so an advantage of colour is none of contrast.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec
from universality.stimuli import colours, gratings
from universality.stimuli.fields import Frequencies, Saturations, Scale, need_opponents
from universality.stimuli.geometry import refuse_aliases


class ColourContrastStimuli(Spec):
    """Boundaries of equal luminance, and luminance controls."""

    hues: Int = Field(12, ge=8, le=360, description="hues, evenly over 360 degrees; even, so that each has an opponent")
    saturations: Saturations = Field(
        (0.5, 1.0), description="share of the largest distance from grey that every hue can reach"
    )
    orientations: Int = Field(8, ge=4, le=360, description="of boundaries, evenly over 360 degrees; even")
    luminance: Float = Field(0.4, gt=0, le=0.5, description="distance of the grey controls from the background")
    frequencies_cpi: Frequencies = Field(
        (3.0, 6.0, 12.0, 24.0), description="of the grey gratings, cycles / image side"
    )
    phases: Int = Field(4, ge=2, le=64, description="of the grey gratings, evenly over 360 degrees")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _even(self) -> ColourContrastStimuli:
        need_opponents(self.hues)
        if self.orientations % 2:
            raise ValueError("orientations must be even: every boundary is shown both ways round")
        return self


RENDERER_VERSION = 1
GREY = "grey_"
GRATING = "grey_grating"
Row = tuple[str, float, float, float, float, float]
COLUMNS = ("kind", "hue_deg", "saturation", "orientation_deg", "cpi", "phase_deg")
_UNITS = {"hue_deg": "degrees", "saturation": "1", "orientation_deg": "degrees", "cpi": "cycles / (scale x image side)"}


def parameters(spec: ColourContrastStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,); NaN for what a kind does not have.

    Of grey patches `saturation` is 1 for the lighter and -1 for the darker grey.
    """
    values = dict(zip(COLUMNS, zip(*_rows(spec), strict=True), strict=True))
    return xr.Dataset(
        coords={
            name: (STIMULUS, np.array(column), {"units": _UNITS.get(name, "degrees")} if name != "kind" else {})
            for name, column in values.items()
        }
    )


def _rows(spec: ColourContrastStimuli) -> Iterator[Row]:
    hues = [float(hue) for hue in np.arange(spec.hues) * (360.0 / spec.hues)]
    angles = [float(angle) for angle in np.arange(spec.orientations) * (360.0 / spec.orientations)]
    phases = [float(phase) for phase in np.arange(spec.phases) * (360.0 / spec.phases)]
    none, signs = [np.nan], (1.0, -1.0)
    half_hues = hues[: spec.hues // 2]
    yield from itertools.product(["half"], hues, spec.saturations, angles, none, none)
    yield from itertools.product(["opponent"], half_hues, spec.saturations, angles, none, none)
    yield from itertools.product(["field"], hues, spec.saturations, none, none, none)
    yield from itertools.product(["grey_half"], none, signs, angles, none, none)
    # A lighter grey against a darker one is its own opposite, half a turn further.
    yield from itertools.product(["grey_opponent"], none, signs[:1], angles, none, none)
    yield from itertools.product(["grey_field"], none, signs, none, none, none)
    yield from itertools.product(
        [GRATING], none, signs[:1], [angle / 2 for angle in angles], spec.frequencies_cpi, phases
    )


def refuse(spec: ColourContrastStimuli, size_px: int) -> None:
    """Raise `StimulusError` if an image (or a scene in one) of `size_px` cannot show the gratings' highest frequency."""
    highest, key = max(spec.frequencies_cpi) / spec.scale, "stimuli.colour_contrast.frequencies_cpi"
    refuse_aliases("gratings", highest, size_px, key, gratings.PX_PER_CYCLE)


def render(spec: ColourContrastStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), sRGB in [0, 1]; `interpolation` is not used here.

    Raises
    ------
    StimulusError
        If an image of `size_px` cannot show the gratings' highest frequency.
    """
    del interpolation
    refuse(spec, size_px)
    rows: Iterator[Row] = zip(*(chosen[name].values.tolist() for name in COLUMNS), strict=True)
    return np.stack([_draw(spec, row, size_px) for row in rows]).astype(np.float32)


def _draw(spec: ColourContrastStimuli, row: Row, size_px: int) -> NDArray[np.float64]:
    """Return one image (channel, y, x)."""
    kind, hue_deg, saturation, angle_deg, cpi, phase_deg = row
    if not kind.startswith(GREY):
        return colours.patch(kind, hue_deg, saturation, angle_deg, size_px, scale=spec.scale)
    if kind == GRATING:
        amount = gratings.wave(angle_deg, cpi, phase_deg, size_px, spec.scale)
    else:
        amount = colours.amount(kind.removeprefix(GREY), angle_deg, size_px, scale=spec.scale)
    grey = colours.BACKGROUND + saturation * spec.luminance * amount
    return np.repeat(grey[None], 3, axis=0)
