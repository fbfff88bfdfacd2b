"""Where in a tap's map units are read: places of a scene, and how far the nearest receptive-field centres lie from them."""

from __future__ import annotations

import numpy as np

from universality.activations.spec import ExtractionSpec
from universality.base.errors import TapError
from universality.models.card import Tap
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


def misalignment_px(tap: Tap, spec: ExtractionSpec, frame: Frame) -> float:
    """Return how far from its place the receptive-field centre of a unit that is read lies, at most, px; NaN for mean and max.

    At most half a stride, unless the place lies beyond the map.
    """
    away = [abs(tap.rf_start_px + tap.stride_px * tap.index_at(at) - at) for at in targets(spec, frame)]
    return max(away, default=float("nan"))


def refuse_places(tap: Tap, spec: ExtractionSpec, frame: Frame) -> None:
    """Raise `TapError` where the places of a scene cannot be told apart in a map, or lie beyond it."""
    came, places = misalignment_px(tap, spec, frame), [tap.index_at(at) for at in targets(spec, frame)]
    if came > tap.stride_px / 2:
        raise TapError(
            f"tap '{tap.name}': a place of the scene lies {came:g} px from the nearest receptive-field centre, expected at "
            f"most half a stride ({tap.stride_px / 2:g} px); lower extraction.positions or choose another tap"
        )
    if len(set(places)) < len(places):
        raise TapError(
            f"tap '{tap.name}': {len(places)} places along {frame.side_px} px fall on {len(set(places))} positions of the map, "
            f"{tap.stride_px} px apart; lower extraction.positions or choose another tap"
        )
