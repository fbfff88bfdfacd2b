"""Two half-planes of texture, one of high and one of low spatial frequency, and their controls.

Convention: the orientation is the direction towards the high-frequency side, clockwise from +x with y pointing down, in
degrees (after Schubert et al. 2021, High-Low Frequency Detectors). The boundary passes through the middle of the image.
Frequencies are in cycles per image side, so that a set looks alike at every size; a `scale` other than 1 shrinks the
textures about the middle, so that frequencies are in cycles / (scale x image side). A texture is a sum of plane waves of
random direction and phase, its spectrum a Gaussian of a quarter octave around its frequency. It does not turn with the
boundary: what changes with the orientation is the boundary alone. Both sides have the same mean and the same contrast,
within the middle square of scale x image side if the scale is below 1, else within the image.

- high_low: the base frequency on one side, base / ratio on the other; ratio 1 has independent textures of the base frequency
- same_low: base / largest ratio on both sides
- contrast_edge: the base frequency on both sides, the far side at a third of the contrast
- orientation_edge: the base frequency on both sides, the waves of the near side across the boundary and those of the far side along it, within
  15 degrees: a boundary between orientations
- luminance_edge: two plain greys, the brighter one in the direction of the orientation
- full_high, full_low: one texture without a boundary
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec, unique
from universality.stimuli.colour import coloured
from universality.stimuli.fields import COLOUR_MEANING, Colour, Scale
from universality.stimuli.geometry import refuse_aliases


class HighLowStimuli(Spec):
    """Half-planes of high and low spatial frequency."""

    orientations: Int = Field(36, ge=8, le=360, description="orientations, evenly over 360 degrees")
    base_cpi: Annotated[
        tuple[Annotated[Float, Field(ge=1, le=1000)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field((10.0, 14.0, 19.0), description="frequency of the high side, cycles / image side")
    ratios: Annotated[
        tuple[Annotated[Float, Field(ge=1, le=100)], ...], Field(min_length=2), AfterValidator(unique)
    ] = Field((1.0, 6.0), description="high / low frequency; the largest one decides, 1 is the control")
    phases: Int = Field(2, ge=1, le=100, description="independent draws of the textures")
    contrast: Float = Field(0.14, gt=0, le=0.5, description="standard deviation of the textures, in [0, 1] units")
    colour: Colour = Field("grey", description=COLOUR_MEANING)
    seed: Int = Field(0, ge=0, description="of the textures")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _ratio_1(self) -> HighLowStimuli:
        if 1.0 not in self.ratios:
            raise ValueError("ratios must contain 1, the boundary between equal frequencies: it is the control")
        return self


Array = NDArray[np.float64]
BACKGROUND = 0.5
RENDERER_VERSION = 3
WAVES = 64
BANDWIDTH_OCTAVES = 0.25
WEAK_SIDE = 1 / 3
ORIENTED_DEG = 15.0
"""Waves of an oriented texture lie so far from its direction at most."""


def parameters(spec: HighLowStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,); NaN where a kind of image has no such parameter."""
    rows = list(_rows(spec))
    kind, high, ratio, phase, orientation = zip(*rows, strict=True)
    return xr.Dataset(
        coords={
            "kind": (STIMULUS, np.array(kind, dtype=str)),
            "high_cpi": (STIMULUS, np.array(high), {"units": "cycles / (scale x image side)"}),
            "ratio": (STIMULUS, np.array(ratio), {"units": "1"}),
            "phase": (STIMULUS, np.array(phase), {"units": "1"}),
            "orientation_deg": (STIMULUS, np.array(orientation), {"units": "degrees"}),
        }
    )


def _rows(spec: HighLowStimuli) -> Iterator[tuple[str, float, float, int, float]]:
    angles = [float(a) for a in np.arange(spec.orientations) * (360.0 / spec.orientations)]
    largest = max(spec.ratios)
    for ratio, high, phase, angle in itertools.product(spec.ratios, spec.base_cpi, range(spec.phases), angles):
        yield "high_low", high, ratio, phase, angle
    for kind in ("same_low", "contrast_edge", "orientation_edge"):
        for high, phase, angle in itertools.product(spec.base_cpi, range(spec.phases), angles):
            yield kind, high, largest, phase, angle
    for angle in angles:
        yield "luminance_edge", np.nan, np.nan, -1, angle
    for kind in ("full_high", "full_low"):
        for high, phase in itertools.product(spec.base_cpi, range(spec.phases)):
            yield kind, high, largest, phase, np.nan


def refuse(spec: HighLowStimuli, size_px: int) -> None:
    """Raise `StimulusError` if an image (or a scene in one) of `size_px` cannot show the highest frequency."""
    _refuse(spec, max(spec.base_cpi), size_px)


def _refuse(spec: HighLowStimuli, cpi: float, size_px: int) -> None:
    refuse_aliases("high-low stimuli", cpi / spec.scale, size_px, "stimuli.high_low.base_cpi")


def render(spec: HighLowStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), in [0, 1].

    The boundary is anti-aliased over one pixel; `interpolation` is not used here.

    Raises
    ------
    StimulusError
        If an image of `size_px` cannot show the highest frequency: two pixels a cycle are the least.
    """
    del interpolation
    _refuse(spec, max((cpi for cpi in chosen["high_cpi"].values if not np.isnan(cpi)), default=0.0), size_px)
    columns = ("kind", "high_cpi", "ratio", "phase", "orientation_deg")
    difference = np.stack(
        [
            _draw(spec, str(kind), float(high), float(ratio), int(phase), float(angle), size_px)
            for kind, high, ratio, phase, angle in zip(*(chosen[name].values for name in columns), strict=True)
        ]
    )
    return coloured(difference, BACKGROUND, spec.colour)


def _draw(
    spec: HighLowStimuli, kind: str, high: float, ratio: float, phase: int, angle_deg: float, size_px: int
) -> Array:
    if kind == "luminance_edge":
        return spec.contrast * (2.0 * _side(angle_deg, size_px) - 1.0)

    # Each of up to three textures of an image (high, low or second high) is an independent draw.
    def texture(cpi: float, draw: int, across_deg: float | None = None) -> Array:
        return _texture(cpi, spec.seed, phase, draw, size_px, spec.scale, across_deg)

    if kind.startswith("full"):
        full = texture(high, 0) if kind == "full_high" else texture(high / ratio, 1)
        return spec.contrast * _normalised(full, _scene(size_px, spec.scale))
    near, far, strength = _sides(kind, high, ratio, angle_deg, texture)
    inside, scene = _side(angle_deg, size_px), _scene(size_px, spec.scale)
    near, far = _normalised(near, inside * scene), _normalised(far, (1.0 - inside) * scene)
    return spec.contrast * (inside * near + strength * (1.0 - inside) * far)


def _scene(size_px: int, scale: float) -> Array:
    """Return (y, x): 1 within the middle square of scale x image side, anti-aliased over one pixel."""
    away = np.abs(np.arange(size_px) - (size_px - 1) / 2)
    within = np.clip(0.5 + scale * size_px / 2 - away, 0.0, 1.0)
    return np.asarray(within[:, None] * within[None, :])


def _sides(
    kind: str, high: float, ratio: float, angle_deg: float, texture: Callable[..., Array]
) -> tuple[Array, Array, float]:
    """Return the textures of the near and far side, and the far one's contrast."""
    if kind == "same_low":
        return texture(high / ratio, 1), texture(high / ratio, 2), 1.0
    if kind == "contrast_edge":
        return texture(high, 0), texture(high, 2), WEAK_SIDE
    if kind == "orientation_edge":
        return texture(high, 0, angle_deg), texture(high, 2, angle_deg + 90.0), 1.0
    return texture(high, 0), texture(high / ratio, 1 if ratio > 1 else 2), 1.0


def _side(angle_deg: float, size_px: int) -> Array:
    """Return (y, x): 1 on the side towards `angle_deg`, 0 on the other, anti-aliased over one pixel."""
    axis = np.arange(size_px) - (size_px - 1) / 2
    theta = np.deg2rad(angle_deg)
    return np.asarray(np.clip(axis[None, :] * np.cos(theta) + axis[:, None] * np.sin(theta) + 0.5, 0.0, 1.0))


def _normalised(texture: Array, weights: Array) -> Array:
    """Shift and scale a texture so that over `weights` it has mean 0 and standard deviation 1."""
    centred = texture - np.average(texture, weights=weights)
    return np.asarray(centred / np.sqrt(np.average(centred**2, weights=weights)))


@lru_cache(maxsize=256)
def _texture(
    cpi: float, seed: int, phase: int, draw: int, size_px: int, scale: float, across_deg: float | None = None
) -> Array:
    """Return a texture (y, x) as a sum of plane waves, the same picture at every size; with `across_deg` waves vary in that direction only."""
    # Not seeded by the frequency: the same draw at another frequency is the same texture, magnified.
    rng = np.random.default_rng([seed, phase, draw])
    direction, offset = rng.uniform(0.0, 2 * np.pi, (2, WAVES))
    if across_deg is not None:
        direction = np.deg2rad(across_deg) + np.deg2rad(ORIENTED_DEG) * (direction / np.pi - 1.0)
    frequency = cpi * 2.0 ** (BANDWIDTH_OCTAVES * rng.standard_normal(WAVES))
    place = ((np.arange(size_px) + 0.5) / size_px - 0.5) / scale
    along_x = np.exp(2j * np.pi * np.outer(place, frequency * np.cos(direction)))
    along_y = np.exp(2j * np.pi * np.outer(place, frequency * np.sin(direction)) + 1j * offset)
    return np.asarray((along_y @ along_x.T).real)
