"""Labelled images for interventions: of the pocket zoo's world with the answers of a network's task; natural images with its own answers elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from universality.activations.network import Network
from universality.base.schema import STIMULUS
from universality.causes.plan import CausePlan
from universality.models.pocket import shapes
from universality.stimuli import sets
from universality.stimuli.shapes import FIRST_STREAM, ShapeStimuli
from universality.stimuli.spec import StimuliSpec

STREAM = 40
"""Of the drawn images, above the job's seed: other ones than a job shows."""


@dataclass(frozen=True)
class Labelled:
    """Images as a network takes them.

    Attributes
    ----------
    images : (image, channel, y, x) float32
    labels : (image,) index of the right class; None where the network's own answers count
    classes : names of the classes; empty where they have none
    kind : shape | texture | own
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    kind: str


def kind_of(network: Network) -> str:
    """Return what a network's answers are measured against: its task, or ``own`` answers where no images with its labels can be drawn."""
    training = network.card.training
    return training.task if training is not None and network.card.library == "pocket" else "own"


def labelled(network: Network, plan: CausePlan, of: Network | None = None) -> Labelled:
    """Return images for a network.

    Parameters
    ----------
    of : the network whose answers are measured, where that is another one: both are shown the same scenes
    """
    asked, preprocessing = of or network, network.card.preprocessing
    kind, training = kind_of(asked), asked.card.training
    if kind == "own" or training is None:
        count = sets.parameters("natural", asked.stimuli).sizes[STIMULUS]
        some = np.unique(np.linspace(0, count - 1, min(plan.images, count)).round().astype(np.int64))
        drawn = sets.render("natural", asked.stimuli, preprocessing.canvas_px, some, preprocessing.interpolation)
        return Labelled(sets.normalise(drawn.values, preprocessing), None, (), kind)
    spec = StimuliSpec(shapes=ShapeStimuli(images=plan.images, diet=training.diet, seed=STREAM + plan.seed))
    drawn = sets.render("shapes", spec, preprocessing.canvas_px, slice(None), preprocessing.interpolation)
    classes = shapes.SHAPES if kind == "shape" else shapes.TEXTURES
    column = "shape" if kind == "shape" else "texture"
    labels = np.array([classes.index(str(name)) for name in drawn[column].values], dtype=np.int64)
    return Labelled(sets.normalise(drawn.values, preprocessing), labels, classes, kind)


def content(network: Network, plan: CausePlan) -> list[object]:
    """Return what decides the images for a network, for keys."""
    if kind_of(network) == "own":
        return [plan.images, sets.stimulus_digest("natural", network.stimuli)]
    return [plan.images, plan.seed, STREAM, FIRST_STREAM, shapes.GENERATOR_VERSION, network.card.digest()]
