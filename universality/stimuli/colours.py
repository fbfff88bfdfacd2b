"""Patches of colour that all have the luminance of the grey background.

Colours lie on circles in the plane of equal relative luminance (linear sRGB, weights of Rec. 709) through the grey. Hue
0 is red against a green that makes up for it, 90 is blue against yellow, 180 and 270 are their opponents. Saturation is
the share of the largest radius at which every hue can still be shown, so it is no share of a hue's own range.
Borders are anti-aliased over one pixel in linear light, so they have the same luminance as well.

- field: the whole image
- disc: a disc in the middle on grey
- half: the colour on the side towards the orientation, grey on the other
- opponent: the colour on the side towards the orientation, the opposite hue on the other

Equal luminance holds for a screen and an eye after that standard, not for a network's own channels.
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
from universality.stimuli.fields import Saturations, Scale, need_opponents
from universality.stimuli.geometry import coverage, turned_grid


class ColourStimuli(Spec):
    """Patches of equal luminance."""

    hues: Int = Field(12, ge=2, le=360, description="hues, evenly over 360 degrees; even, so that each has an opponent")
    saturations: Saturations = Field(
        (0.5, 1.0), description="share of the largest distance from grey that every hue can reach"
    )
    orientations: Int = Field(8, ge=2, le=360, description="orientations of the half-fields, evenly over 360 degrees")
    disc: Float = Field(0.3, gt=0, le=1, description="diameter of the discs, in image sides")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _opponents(self) -> ColourStimuli:
        need_opponents(self.hues)
        return self


Array = NDArray[np.float64]
BACKGROUND = 0.5
RENDERER_VERSION = 1
KINDS = ("field", "disc", "half", "opponent")
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Relative luminance of linear red, green and blue (Rec. ITU-R BT.709)."""


def parameters(spec: ColourStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,); the orientation is NaN where there is none."""
    kind, saturation, hue, angle = zip(*_rows(spec), strict=True)
    return xr.Dataset(
        coords={
            "kind": (STIMULUS, np.array(kind)),
            "hue_deg": (STIMULUS, np.array(hue), {"units": "degrees"}),
            "saturation": (STIMULUS, np.array(saturation), {"units": "1"}),
            "orientation_deg": (STIMULUS, np.array(angle), {"units": "degrees"}),
        }
    )


def _rows(spec: ColourStimuli) -> Iterator[tuple[str, float, float, float]]:
    hues = [float(h) for h in np.arange(spec.hues) * (360.0 / spec.hues)]
    angles = [float(a) for a in np.arange(spec.orientations) * (360.0 / spec.orientations)]
    for kind in KINDS:
        yield from itertools.product([kind], spec.saturations, hues, [np.nan] if kind in ("field", "disc") else angles)


def render(spec: ColourStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), sRGB in [0, 1]; `interpolation` is not used here."""
    del interpolation
    columns = ("kind", "hue_deg", "saturation", "orientation_deg")
    images = [
        patch(str(kind), float(hue), float(saturation), float(angle), size_px, spec.disc, spec.scale)
        for kind, hue, saturation, angle in zip(*(chosen[name].values for name in columns), strict=True)
    ]
    return np.stack(images).astype(np.float32)


def patch(
    kind: str, hue_deg: float, saturation: float, angle_deg: float, size_px: int, disc: float = 0.3, scale: float = 1.0
) -> Array:
    """Return one image (channel, y, x), sRGB in [0, 1]; `disc` is the diameter of discs, in `scale` x image side."""
    difference = amount(kind, angle_deg, size_px, disc, scale) * _direction(hue_deg, saturation)
    return _encoded(_decoded(BACKGROUND) + difference)


def amount(kind: str, angle_deg: float, size_px: int, disc: float = 0.3, scale: float = 1.0) -> Array:
    """Return (y, x): how much of the colour's difference from grey each pixel has, -1 to 1."""
    if kind == "field":
        return np.ones((size_px, size_px))
    along, across = turned_grid(0.0 if kind == "disc" else angle_deg, size_px, scale)
    if kind == "disc":
        return coverage(np.hypot(along, across) - disc / 2, size_px, scale)
    towards = coverage(-along, size_px, scale)
    return towards if kind == "half" else 2 * towards - 1


def _direction(hue_deg: float, saturation: float) -> Array:
    """Return (channel, 1, 1): the difference from grey in linear light, of luminance 0."""
    red, green, blue = LUMINANCE
    axes = np.array([[1.0, -red / green, 0.0], [-blue / (red + green), -blue / (red + green), 1.0]])
    grey = _decoded(BACKGROUND)
    largest = min(grey, 1 - grey) / np.hypot(*axes).max()
    hue = np.deg2rad(hue_deg)
    return np.asarray(saturation * largest * (np.array([np.cos(hue), np.sin(hue)]) @ axes))[:, None, None]


def _decoded(value: float) -> float:
    """Return linear light of an sRGB value above 0.04 (IEC 61966-2-1)."""
    return float(((value + 0.055) / 1.055) ** 2.4)


def _encoded(linear: Array) -> Array:
    """Return sRGB values of linear light in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)  # rounding may leave the range by an ulp
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
