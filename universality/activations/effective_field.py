"""The side of the effective receptive field at every tap of a trained network."""

from __future__ import annotations

from universality.models.card import ModelCard
from universality.models.receptive_field import effective_side_px
from universality.models.zoo import pretrained
from universality.stimuli import sets
from universality.stimuli.framing import Frame
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec


def effective_sides_px(card: ModelCard, share: float = 0.9) -> dict[str, int]:
    """Return the side of the effective receptive field at every tap of a trained network, px.

    Taps without a receptive field have no effective one. Over natural crops and images of the pocket zoo's world that lie in the theoretical field; see `effective_side_px`.
    """
    network, preprocessing = pretrained(card), card.preprocessing
    shown = StimuliSpec(natural=NaturalStimuli(crops=15, shapes=12))
    sides = {}
    for tap in card.taps:
        if tap.whole_image:
            continue
        frame = Frame.of(tap, preprocessing.canvas_px)
        images = sets.render(
            "natural", shown, preprocessing.canvas_px, interpolation=preprocessing.interpolation, frame=frame
        )
        sides[tap.name] = effective_side_px(network, tap, sets.normalise(images.values, preprocessing), share)
    return sides
