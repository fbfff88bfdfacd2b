"""Natural images for what is measured on a network before there is a job."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from universality.models.card import Preprocessing
from universality.stimuli import sets
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

IMAGES = 8
"""Each of another photograph."""


def calibration_images(preprocessing: Preprocessing, count: int = IMAGES) -> NDArray[np.float32]:
    """Return natural images (image, channel, y, x), normalised for a network."""
    spec = StimuliSpec(natural=NaturalStimuli(crops=count))
    shown = sets.render("natural", spec, preprocessing.canvas_px, interpolation=preprocessing.interpolation)
    return sets.normalise(shown.values, preprocessing)
