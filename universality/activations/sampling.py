"""Where in a tap's map units are read: places of a scene, and how far the nearest receptive-field centres lie from them."""

from __future__ import annotations

import numpy as np

from universality.activations.spec import ExtractionSpec
from universality.base.errors import TapError
from universality.models.card import Size, Tap, input_shape
from universality.stimuli.framing import Frame


def position_targets(count: int, size_px: int, start_px: int = 0) -> np.ndarray:
    """Return `count` pixel positions that divide the side of a scene evenly, without its borders.

    They are the same fractions of the scene for every network, so that places correspond across networks. The scene is the
    image, or begins at its pixel `start_px`.
    """
    return start_px + (np.arange(1, count + 1) / (count + 1)) * size_px - 0.5


def targets(spec: ExtractionSpec, frame: Frame) -> list[float]:
    """Return the places along a side, px of the image, at which units are read; none where all of a map is."""
    if spec.reduction == "center":
        return [frame.middle_px]
    if spec.reduction == "positions":
        return [float(at) for at in position_targets(spec.positions, frame.side_px, frame.start_px)]
    return []


def along(tap: Tap, frame: Frame, at: float, shape: tuple[int, int, int]) -> list[tuple[float, int]]:
    """Return a place of the scene in rows and in columns of an input: px of that side, and how many positions the map has there.

    Scenes are drawn on a square as long as the input's longer side, of which the input is the middle.
    """
    sides = zip(shape[1:], (tap.size, tap.columns), strict=True)
    return [(at - (frame.size_px - length) // 2, positions) for length, positions in sides]


def places(tap: Tap, spec: ExtractionSpec, size: Size, frame: Frame | None = None) -> tuple[list[int], list[int]]:
    """Return the rows and columns of a tap's map at which units are read."""
    shape = input_shape(size)
    frame = frame or Frame.in_input(shape)
    at = [along(tap, frame, place, shape) for place in targets(spec, frame)]
    return tuple([tap.index_at(*place[side]) for place in at] for side in (0, 1))  # type: ignore[return-value]


def misalignment_px(tap: Tap, spec: ExtractionSpec, frame: Frame, size: Size | None = None) -> float:
    """Return how far from its place the receptive-field centre of a unit that is read lies, at most, px; NaN for mean and max.

    At most half a stride, unless the place lies beyond the map. Units of a vector lie nowhere: NaN.
    """
    shape = (3, frame.size_px, frame.size_px) if size is None else input_shape(size)
    if tap.kind == "vector":
        return float("nan")
    at = [place for target in targets(spec, frame) for place in along(tap, frame, target, shape)]
    return max((abs(tap.centre_px(*place) - place[0]) for place in at), default=float("nan"))


def refuse_vector(tap: Tap, spec: ExtractionSpec) -> None:
    """Raise `TapError` where places are asked for of a vector, which has none."""
    if tap.kind == "vector" and spec.reduction == "positions":
        raise TapError(
            f"tap '{tap.name}' is a vector and has no positions, expected a map or tokens for extraction.reduction = 'positions'; choose "
            "center, mean or max, or another tap"
        )


def refuse_places(tap: Tap, spec: ExtractionSpec, frame: Frame, size: Size | None = None) -> None:
    """Raise `TapError` where the places of a scene cannot be told apart in a map, or lie beyond it."""
    if tap.stride_px is None:
        return
    came = misalignment_px(tap, spec, frame, size)
    at = [tap.index_at(at) for at in targets(spec, frame)]
    if came > tap.stride_px / 2:
        raise TapError(
            f"tap '{tap.name}': a place of the scene lies {came:g} px from the nearest receptive-field centre, expected at "
            f"most half a stride ({tap.stride_px / 2:g} px); lower extraction.positions or choose another tap"
        )
    if len(set(at)) < len(at):
        raise TapError(
            f"tap '{tap.name}': {len(at)} places along {frame.side_px} px fall on {len(set(at))} positions of the map, "
            f"{tap.stride_px} px apart; lower extraction.positions or choose another tap"
        )
