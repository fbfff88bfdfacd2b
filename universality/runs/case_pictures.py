"""The natural images that a unit's cases were found at, as its network saw them: what a sheet of cases shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.activations.network import Network
from universality.features.examples import SHOWN, THUMBNAIL_PX
from universality.models.card import Tap
from universality.stimuli import sets, whole
from universality.stimuli.natural import NaturalStimuli

EACH = 6
"""Pictures of each case, at most."""


def facts(spec: NaturalStimuli, parameters: Any, images: Sequence[int]) -> list[dict[str, Any]]:
    """Return the name, and author and licence where known, of the pictures that natural images are of.

    Parameters
    ----------
    parameters : Dataset
        Of all natural images, as `sets.parameters` returns them.
    """
    licences = {picture.name: picture.licence for picture in whole.pictures(spec) if picture.licence}
    names = [str(name) for name in parameters["photograph"].values[list(images)]]
    return [
        {"image": int(image), "picture": name, "licence": licences.get(name, "")}
        for image, name in zip(images, names, strict=True)
    ]


def of_images(network: Network, tap: Tap, images: Sequence[int], size_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
    """Return natural images as a network saw them, (picture, y, x, channel): of each the middle half of the receptive field of a tap's middle unit.

    Of a tap whose units see the whole image, all of it; so, too, as much as there is of a field that goes beyond the image.
    """
    preprocessing = network.card.preprocessing
    canvas, rows = preprocessing.canvas_px, np.asarray(images, dtype=np.int64)
    drawn = sets.render("natural", network.stimuli, canvas, rows, preprocessing.interpolation)
    pixels = np.rint(np.moveaxis(drawn.values, 1, -1) * 255).clip(0, 255).astype(np.uint8)
    side = canvas if tap.rf_px is None else min(SHOWN * tap.rf_px, canvas)
    centre = tap.centre_px((preprocessing.size_px - 1) / 2) + (canvas - preprocessing.size_px) / 2 + 0.5
    start = min(max(centre - side / 2, 0.0), canvas - side)
    # Networks see shapes of a few pixels: drawn larger, each stays a square of one colour.
    box = (start, start, start + side, start + side)
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.LANCZOS, box=box))
            for image in pixels
        ]
    )
