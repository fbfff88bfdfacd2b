"""Images of the pocket zoo's own world: a textured shape in front of textured leaves, with its parameters.

The generator is `universality.models.pocket.shapes`; images here come from streams that no training has seen.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from universality.base.schema import STIMULUS
from universality.base.spec import Int, Spec
from universality.models.pocket import shapes


class ShapeStimuli(Spec):
    """Images of the pocket zoo's world."""

    images: Int = Field(144, ge=1, le=1_000_000, description="how many")
    diet: Literal["focus", "sharp"] = Field("focus", description="backgrounds out of focus, or sharp as the shapes")
    seed: Int = Field(0, ge=0, description="of the stream of images, which no training has seen")


RENDERER_VERSION = 1
FIRST_STREAM = 100
"""Streams below are for training, validation, tests of accuracy and those to come."""
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def content() -> list[object]:
    """Return what beside the spec decides the pixels: the versions, and what the generator draws."""
    return [RENDERER_VERSION, shapes.GENERATOR_VERSION]


def parameters(spec: ShapeStimuli) -> xr.Dataset:
    """Return the scalar parameters of every image (see `universality.models.pocket.shapes.sample_parameters`): (stimulus,)."""
    drawn = _drawn(spec, np.arange(spec.images))
    scalars = {name: (STIMULUS, values) for name, values in drawn.items() if values.ndim == 1 and name != "shape"}
    names = {
        "shape": (STIMULUS, np.array(shapes.SHAPES)[drawn["shape"]]),
        "texture": (STIMULUS, np.array(shapes.TEXTURES)[drawn["figure_texture"]]),
        "diet": (STIMULUS, np.full(spec.images, spec.diet)),
    }
    return xr.Dataset(coords=scalars | names)


def _drawn(spec: ShapeStimuli, index: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    if index.size == 0:
        return shapes.sample_parameters(0, FIRST_STREAM + spec.seed, spec.diet)
    first, last = int(index.min()), int(index.max())
    block = shapes.sample_parameters(last - first + 1, FIRST_STREAM + spec.seed, spec.diet, first)
    return {name: values[index - first] for name, values in block.items()}


def render(spec: ShapeStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen images at 64 px and resample them: (stimulus, channel, y, x) in [0, 1]."""
    return render_index(spec, chosen["index"].values, size_px, interpolation)


def render_index(spec: ShapeStimuli, index: NDArray[np.int64], size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the images of these numbers: (image, channel, y, x) in [0, 1]."""
    images = shapes.render(_drawn(spec, index))
    if size_px != shapes.REFERENCE_PX:
        resampling = RESAMPLING[interpolation]
        images = np.stack([np.asarray(Image.fromarray(i).resize((size_px, size_px), resampling)) for i in images])
    return np.moveaxis(images, 3, 1).astype(np.float32) / np.float32(255)
