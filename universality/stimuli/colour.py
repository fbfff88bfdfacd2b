"""Colour axes of drawings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from universality.stimuli.fields import Colour

AXES: dict[Colour, tuple[float, float, float]] = {
    "grey": (1.0, 1.0, 1.0),
    "red_green": (1.0, -1.0, 0.0),
    "blue_yellow": (-1.0, -1.0, 1.0),
}
"""Red, green and blue part of a difference from grey; "bright" is red or blue. Only grey changes every channel alike."""


def coloured(difference: NDArray[np.floating], background: float, colour: Colour) -> NDArray[np.float32]:
    """Return images (image, channel, y, x) in [0, 1] from differences (image, y, x) to a grey background."""
    axis = np.array(AXES[colour])[:, None, None]
    return np.asarray(np.clip(background + axis * difference[:, None], 0.0, 1.0), dtype=np.float32)
