"""The pictures that natural images are cut from, whole: photographs, images of the pocket zoo's world, and one's own images.

A unit looks at a small part of a picture. Where over whole pictures it answers most says more of it than its answers to the
middles of crops, so whole pictures are shown: as squares over the shorter side that cover the longer one, each scaled to the
network's input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.base.spec import digest
from universality.stimuli import folder, manifest, natural, shapes
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.shapes import ShapeStimuli

VERSION = 1
MOST_SHAPES = 72
"""Drawn images that are shown, the first of the job's: every shape and every texture six times."""
SHAPE_PX = 256
"""Side to which drawn images, of 64 px, are enlarged where people look at them."""
BEYOND = (128, 128, 128)
"""Grey that stands for what lies beyond the border of a picture."""
_SLACK = 0.02
"""Share of the shorter side that may stay uncovered at the ends of the longer one before there is one more square."""

Source = Literal["photograph", "drawn", "own"]


@dataclass(frozen=True)
class Picture:
    """One whole picture.

    Attributes
    ----------
    source : a photograph of ours, an image drawn in the pocket zoo's world, or an image of one's own
    number : of the drawn image, or of the folder of one's own
    fold : 0 decides matches, 1 scores them
    licence : author and licence, where they are known
    """

    name: str
    source: Source
    number: int
    fold: int
    licence: str = ""


def pictures(spec: NaturalStimuli) -> list[Picture]:
    """Return the whole pictures of a job's natural images: all photographs if it shows crops, drawn images, and one's own images."""
    found = []
    if spec.crops:
        found += [Picture(photo.name, "photograph", 0, photo.fold, photo.credit) for photo in natural.photographs()]
    rows = natural.parameters(spec)
    of_shapes = np.flatnonzero(rows["shape_index"].values >= 0)[:MOST_SHAPES]
    found += [
        Picture(
            str(rows["photograph"].values[row]),
            "drawn",
            int(rows["shape_index"].values[row]),
            int(rows["fold"].values[row]),
        )
        for row in of_shapes
    ]
    if spec.folders:
        found += [
            Picture(
                str(rows["file"].values[row]),
                "own",
                int(rows["folder_index"].values[row]),
                int(rows["fold"].values[row]),
            )
            for row in np.flatnonzero(rows["folder_index"].values >= 0)
        ]
    return found


def content(spec: NaturalStimuli) -> str:
    """Return the digest of everything that decides the pictures and how they are cut into squares."""
    drawn = min(spec.shapes, MOST_SHAPES)
    own = [[manifest.read(place).digest for place in spec.folders], spec.images, folder.RENDERER_VERSION]
    return digest(
        [
            VERSION, natural.manifest_digest() if spec.crops else "", [drawn, spec.diet, spec.seed, shapes.content()] if drawn else "",
            own if spec.folders else "",
        ]
    )  # fmt: skip


def opened(spec: NaturalStimuli, picture: Picture) -> Image.Image:
    """Return a picture, RGB; raise `StimulusError` if its file is missing, differs or cannot be decoded."""
    if picture.source == "photograph":
        return natural.load_photograph(picture.name)
    if picture.source == "drawn":
        return _shape(spec.diet, spec.seed, spec.shapes, picture.number)
    return manifest.read(spec.folders[picture.number]).image(picture.name)


@lru_cache(maxsize=MOST_SHAPES)
def _shape(diet: Literal["focus", "sharp"], seed: int, images: int, number: int) -> Image.Image:
    of = ShapeStimuli(images=max(images, 1), diet=diet, seed=seed)
    drawn = shapes.render_index(of, np.array([number]), SHAPE_PX, "bicubic")[0]
    return Image.fromarray(np.rint(np.moveaxis(drawn, 0, -1) * 255).astype(np.uint8))


@dataclass(frozen=True)
class Square:
    """A square part of a picture, px of the picture: left, top, side."""

    x: int
    y: int
    side: int


def squares(width: int, height: int) -> tuple[Square, ...]:
    """Return squares over the shorter side of a picture, as few as cover it, evenly along the longer side.

    Examples
    --------
    >>> squares(960, 640)
    (Square(x=0, y=0, side=640), Square(x=320, y=0, side=640))
    """
    side, long = min(width, height), max(width, height)
    count = max(math.ceil(long / side - _SLACK), 1)
    at = np.rint(np.linspace(0, long - side, count)).astype(int) if count > 1 else [(long - side) // 2]
    return tuple(Square(int(x), 0, side) if width > height else Square(0, int(x), side) for x in at)


def shown(image: Image.Image, square: Square, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Return a square of a picture at `size_px`: (channel, y, x), RGB in [0, 1]."""
    box = (square.x, square.y, square.x + square.side, square.y + square.side)
    small = image.resize((size_px, size_px), shapes.RESAMPLING[interpolation], box=box)
    return np.moveaxis(np.asarray(small, dtype=np.float32) / np.float32(255), 2, 0)


def cut(image: Image.Image, x: float, y: float, side: float, size_px: int) -> Image.Image:
    """Return a square of a picture around a place, in the picture's own pixels scaled to `size_px`; beyond its border it is grey.

    Parameters
    ----------
    x, y : left and top of the square, px of the picture; may lie beyond it
    side : px of the picture
    """
    whole = Image.new("RGB", (size_px, size_px), BEYOND)
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + side, float(image.width)), min(y + side, float(image.height))
    if right - left <= 0 or bottom - top <= 0:
        return whole
    scale = size_px / side
    place = round((left - x) * scale), round((top - y) * scale)
    size = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    # Averaged to twice the size first: a third less time, and no difference that is seen.
    whole.paste(image.resize(size, Image.Resampling.BICUBIC, (left, top, right, bottom), reducing_gap=2.0), place)
    return whole
