"""Images of a folder that a manifest lists (`universality.stimuli.manifest`), shown beside what the comparisons read.

Of each image (`universality.stimuli.image_files`) the largest centred square is cut and resampled.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from universality.base.schema import STIMULUS
from universality.base.spec import Spec
from universality.stimuli import framing, manifest, shapes


class FolderStimuli(Spec):
    """Images of a folder that a manifest lists."""

    manifest: str = Field(
        "",
        description="path of the manifest, or of a folder that holds a manifest.toml, from the current folder if not absolute; "
        "empty for none",
    )


RENDERER_VERSION = 1


def stamp(spec: FolderStimuli) -> Hashable:
    """Return what changes when the manifest does."""
    return manifest.stamp(spec.manifest) if spec.manifest else None


def content(spec: FolderStimuli) -> list[object]:
    """Return what decides the set: version and the manifest's rows, not where the folder lies nor what belongs together."""
    if not spec.manifest:
        return [RENDERER_VERSION, None]
    rows = manifest.read(spec.manifest).rows
    return [RENDERER_VERSION, {"image": [row.model_dump(mode="json", exclude={"group"}) for row in rows]}]


def parameters(spec: FolderStimuli) -> xr.Dataset:
    """Return every image's file, fold (-1 where the manifest states none) and label: (stimulus,), in its order."""
    rows = manifest.read(spec.manifest).rows if spec.manifest else ()
    return xr.Dataset(
        coords={
            "file": (STIMULUS, np.array([row.file for row in rows], dtype=str)),
            "fold": (STIMULUS, np.array([-1 if row.fold is None else row.fold for row in rows], dtype=np.int64)),
            "label": (STIMULUS, np.array([row.label for row in rows], dtype=str)),
        }
    )


def render(spec: FolderStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Load the chosen images, cut the centred square and resample it: (stimulus, channel, y, x), RGB in [0, 1].

    Raises
    ------
    StimulusError
        A file that is missing, differs from the manifest, is no image or too large a one.
    """
    return np.stack([square(image, size_px, interpolation) for image in _images(spec, chosen)])


def render_framed(
    spec: FolderStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str
) -> NDArray[np.float32]:
    """Show the centred squares in a part of the image, the rest of the file around them (`framing.cut`)."""
    return np.stack([framed_square(image, frame, interpolation) for image in _images(spec, chosen)])


def _images(spec: FolderStimuli, chosen: xr.Dataset) -> Iterator[Image.Image]:
    listed = manifest.read(spec.manifest)
    for name in chosen["file"].values:
        yield listed.image(str(name))


def square(image: Image.Image, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Return the largest centred square of an RGB image at `size_px`: (channel, y, x) in [0, 1]."""
    left, top, side = _centred_square(image)
    cut = image.crop((left, top, left + side, top + side)).resize((size_px, size_px), shapes.RESAMPLING[interpolation])
    return np.moveaxis(np.asarray(cut, dtype=np.float32), 2, 0) / np.float32(255)


def framed_square(image: Image.Image, frame: framing.Frame, interpolation: str) -> NDArray[np.float32]:
    """Return the largest centred square of an RGB image in a part of the image: (channel, y, x) in [0, 1]."""
    return framing.cut(image, *_centred_square(image), frame, shapes.RESAMPLING[interpolation])


def _centred_square(image: Image.Image) -> tuple[int, int, int]:
    """Return corner (x, y) and side of the largest centred square."""
    side = min(image.size)
    return (image.width - side) // 2, (image.height - side) // 2, side
