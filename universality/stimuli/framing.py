"""Where in an image a scene lies: the whole of it, or the receptive field of one unit.

Under the policy ``same_receptive_field`` a stimulus is a scene as large as the receptive field of the tap's centre unit and
lies exactly there, so that units of different networks are shown the same scene in the same part of their field. Around the
scene, in what is left of the image, lies what the kind of stimulus has there:

- drawings: the drawn world goes on (`extended`)
- photographs: the photograph goes on, and is mirrored at its own border (`cut`)
- pictures that end: they are mirrored, repeated, or laid on grey (`padded`)

What lies around cannot reach the centre unit itself; units beside it and other places of the map see parts of it. A scene
larger than the image is cut: the image shows the part that its pixels cover, at the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from universality.base.spec import Spec
from universality.models.card import Tap

FRAMING_VERSION = 1
Pixels = NDArray[np.float32]
Render = Callable[[Any, xr.Dataset, int, str], Pixels]


@dataclass(frozen=True)
class Frame:
    """The place of a square scene in a square image, the same along both sides.

    Attributes
    ----------
    size_px : side of the image, px
    start_px : first row and column of the scene, px; negative where the image cuts the scene
    side_px : side of the scene, px
    """

    size_px: int
    start_px: int
    side_px: int

    @classmethod
    def whole(cls, size_px: int) -> Frame:
        """Return the frame of a scene that is the image."""
        return cls(size_px, 0, size_px)

    @classmethod
    def in_input(cls, shape: tuple[int, int, int]) -> Frame:
        """Return the frame of a scene that is as large as an input (channels, height, width) has room for.

        The image is then a square as long as the input's longer side, of which the input is the middle.

        Examples
        --------
        >>> Frame.in_input((3, 64, 64)) == Frame.whole(64), Frame.in_input((3, 64, 96))
        (True, Frame(size_px=96, start_px=16, side_px=64))
        """
        long, short = max(shape[1:]), min(shape[1:])
        return cls(long, (long - short) // 2, short)

    @classmethod
    def of(cls, tap: Tap, size_px: int, side_px: int | None = None) -> Frame:
        """Return the receptive field of the tap's centre unit in an image of `size_px`, or the middle `side_px` of it.

        Examples
        --------
        >>> tap = Tap(path="c", activation="pre", channels=8, size=16, rf_px=26, stride_px=4, rf_start_px=1.5, relative_depth=0.5)
        >>> Frame.of(tap, 64)
        Frame(size_px=64, start_px=17, side_px=26)
        """
        side = tap.rf_px if side_px is None else side_px
        if side is None:
            return cls.whole(size_px)
        return cls(size_px, math.floor(tap.centre_px((size_px - 1) / 2) - (side - 1) / 2), side)

    @property
    def middle_px(self) -> float:
        """Place of the scene's middle in the image, px."""
        return self.start_px + (self.side_px - 1) / 2

    @property
    def shown(self) -> float:
        """Share of the scene's side that lies in the image, 0 to 1."""
        inside = min(self.start_px + self.side_px, self.size_px) - max(self.start_px, 0)
        return inside / self.side_px

    @property
    def room_px(self) -> tuple[int, int]:
        """Rows of the image before and behind the scene, px; 0 where the scene reaches the border or beyond."""
        return max(self.start_px, 0), max(self.size_px - self.start_px - self.side_px, 0)

    def inside(self, images: NDArray[Any], before_px: int) -> NDArray[Any]:
        """Return the image's part (..., size, size) of a canvas (..., y, x) that begins `before_px` ahead of the scene."""
        first = before_px - self.start_px
        window = slice(first, first + self.size_px)
        return images[..., window, window]


@dataclass(frozen=True)
class Scene:
    """What of a scene a tap is shown, for the record.

    Attributes
    ----------
    side_px : side of the scene at the network's input size, px
    shown : share of that side which lies in the image, 0 to 1
    misalignment_px : largest distance from a place of the scene to the receptive-field centre of the unit read there, px
    """

    side_px: float
    shown: float
    misalignment_px: float


def extended(render: Render, spec: Spec, chosen: xr.Dataset, frame: Frame, interpolation: str) -> Pixels:
    """Draw stimuli whose kind has a `scale`, at the size of the scene, going on around it: (stimulus, channel, y, x).

    The canvas is centred on the scene, with as many whole px on every side, so scenes of equal size are equal to the pixel.
    """
    margin = max(frame.room_px)
    canvas = frame.side_px + 2 * margin
    scaled = spec.model_copy(update={"scale": spec.scale * frame.side_px / canvas})  # type: ignore[attr-defined]
    return np.ascontiguousarray(frame.inside(render(scaled, chosen, canvas, interpolation), margin))


def padded(scene: Pixels, frame: Frame, surround: Literal["mirror", "repeat", "grey"]) -> Pixels:
    """Put scenes (stimulus, channel, y, x) of the frame's side into images of its size.

    `surround` says what lies around: the scene mirrored at its border, repeated, or the grey of 0.5.
    """
    around = ((0, 0), (0, 0), frame.room_px, frame.room_px)
    if surround == "grey":
        canvas = np.pad(scene, around, mode="constant", constant_values=0.5)
    else:
        canvas = np.pad(scene, around, mode="symmetric" if surround == "mirror" else "wrap")
    return np.ascontiguousarray(frame.inside(canvas, frame.room_px[0]))


def cut(
    image: Image.Image, x: float, y: float, side: float, frame: Frame, resampling: Image.Resampling
) -> NDArray[np.float32]:
    """Return the image (channel, y, x) in [0, 1] whose scene is a square of a photograph.

    Around the square comes the photograph, in the same proportion, mirrored at the last whole pixel that it fills.

    Parameters
    ----------
    x, y, side : corner and side of the square, px of the photograph
    """
    step = side / frame.side_px
    across, down = (_reach(first, side, length, frame) for first, length in ((x, image.width), (y, image.height)))
    box = (
        max(x - across[0] * step, 0.0), max(y - down[0] * step, 0.0),
        min(x + side + across[1] * step, float(image.width)), min(y + side + down[1] * step, float(image.height)),
    )  # fmt: skip
    real = image.resize((frame.side_px + sum(across), frame.side_px + sum(down)), resampling, box=box)
    pixels = np.moveaxis(np.asarray(real, dtype=np.float32), 2, 0) / np.float32(255)
    for axis, reach in ((1, down), (2, across)):
        missing = tuple(max(room - there, 0) for room, there in zip(frame.room_px, reach, strict=True))
        around = [(0, 0), (0, 0), (0, 0)]
        around[axis] = (missing[0], missing[1])
        first = reach[0] + missing[0] - frame.start_px
        pixels = np.pad(pixels, around, mode="symmetric").take(np.arange(first, first + frame.size_px), axis)
    return np.ascontiguousarray(pixels)


def _reach(first: float, side: float, length: int, frame: Frame) -> tuple[int, int]:
    """Return how many whole px of the image before and behind the scene are cut from the photograph along one side.

    As many as the image has room for and the photograph has; and more, where its other end is mirrored, which needs them.
    """
    step = side / frame.side_px
    have = (math.floor(first / step), math.floor((length - first - side) / step))
    # A mirror shows as much as it has to fill, counted back from the end of the photograph.
    fill = [max(room - there, 0) for room, there in zip(frame.room_px, have, strict=True)]
    seen = [fill[1 - end] - frame.side_px - have[1 - end] for end in (0, 1)]
    before, after = (min(there, max(room, need)) for there, room, need in zip(have, frame.room_px, seen, strict=True))
    return before, after
