"""Crops of photographs turned about their middle, for the joint tuning of units on natural images.

Crop k is crop k of the set ``natural`` (same seed and smallest side), at the same size. It is shown through a disc, grey
outside, that stays where it is while the picture turns, so that no border turns with it. A turned square would need
pixels from outside the crop: the disc does not, but for the few that interpolation at its rim asks for. These
come from the photograph around the crop, or repeat its last row or column where it ends.

Angles are clockwise as seen with y pointing down, in degrees. The crop is resampled to the asked size once, then turned
with bicubic interpolation in 8 bits; multiples of 90 degrees only exchange pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, Field

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec, unique
from universality.stimuli import natural, shapes
from universality.stimuli.geometry import coverage, turned_grid
from universality.stimuli.natural import NaturalStimuli


class RotatedStimuli(Spec):
    """Crops of photographs, turned."""

    crops: Annotated[
        tuple[Annotated[Int, Field(ge=0, lt=1_000_000)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field(tuple(range(12)), description="numbers of the crops in the set natural of the same side and seed")
    orientations: Int = Field(36, ge=2, le=360, description="angles, evenly over 360 degrees")
    aperture: Float = Field(0.95, gt=0, le=1, description="diameter of the disc that is shown, in image sides")
    min_side_px: Int = Field(96, ge=16, description="as in the set natural")
    seed: Int = Field(0, ge=0, description="as in the set natural")


BACKGROUND = 0.5
RENDERER_VERSION = 1
MARGIN_PX = 4
"""Ring of further pixels around the crop; bicubic interpolation at the disc's rim asks for two."""


def content(spec: RotatedStimuli) -> list[object]:
    """Return what beside the spec decides the pixels: versions and photographs."""
    del spec
    return [RENDERER_VERSION, natural.RENDERER_VERSION, natural.manifest_digest()]


def parameters(spec: RotatedStimuli) -> xr.Dataset:
    """Return every image's photograph, fold, number and box of the crop, and angle: (stimulus,), angle fastest."""
    angles = np.arange(spec.orientations) * (360.0 / spec.orientations)
    crops = NaturalStimuli(crops=max(spec.crops) + 1, min_side_px=spec.min_side_px, seed=spec.seed)
    number = np.repeat(np.array(spec.crops), angles.size)
    table = natural.parameters(crops).drop_vars("shape_index").isel({STIMULUS: number})
    return table.assign_coords(
        crop=(STIMULUS, number), angle_deg=(STIMULUS, np.tile(angles, len(spec.crops)), {"units": "degrees"})
    )


def render(spec: RotatedStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Cut the chosen crops, turn them and cover their corners: (stimulus, channel, y, x), RGB in [0, 1]."""
    shown = coverage(np.hypot(*turned_grid(0.0, size_px)) - spec.aperture / 2, size_px)[:, :, None]
    columns = ("photograph", "crop_x_px", "crop_y_px", "crop_side_px", "angle_deg")
    out = np.empty((chosen.sizes[STIMULUS], 3, size_px, size_px), dtype=np.float32)
    for row, (name, x, y, side, angle) in enumerate(zip(*(chosen[c].values for c in columns), strict=True)):
        larger = _with_margin(str(name), float(x), float(y), float(side), size_px, interpolation)
        # Pillow turns against the clock.
        turned = larger.rotate(-float(angle), Image.Resampling.BICUBIC)
        inner = np.asarray(turned, dtype=np.float64)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] / 255
        out[row] = np.moveaxis(BACKGROUND + shown * (inner - BACKGROUND), 2, 0)
    return out


@lru_cache(maxsize=16)
def _with_margin(name: str, x: float, y: float, side: float, size_px: int, interpolation: str) -> Image.Image:
    """Return the crop at `size_px` and the margin around it."""
    photo = np.asarray(natural.load_photograph(name))
    margin = MARGIN_PX * side / size_px
    ring = math.ceil(margin)
    padded = Image.fromarray(np.pad(photo, ((ring, ring), (ring, ring), (0, 0)), mode="edge"))
    box = (x + ring - margin, y + ring - margin, x + ring + side + margin, y + ring + side + margin)
    length = size_px + 2 * MARGIN_PX
    return padded.resize((length, length), shapes.RESAMPLING[interpolation], box=box)
