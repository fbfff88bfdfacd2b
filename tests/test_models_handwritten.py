"""Hand-written networks of the zoo: formulas that turn, units that the rules find, twins that they do not, and cards that hold."""

from types import MethodType

import numpy as np
import planted
import pytest
import torch

from universality.base.errors import CardError, WeightsError
from universality.circuits.expanded import expanded_weights
from universality.features import answers
from universality.features.tuning import circular_difference
from universality.models import catalogue, zoo
from universality.models.handwritten import kernels, networks
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

SPEC = StimuliSpec(
    natural=NaturalStimuli(crops=40, shapes=40),
    curves=CurveStimuli(orientations=12),
    high_low=HighLowStimuli(orientations=12, phases=1),
)
FAMILY = {"handwritten/curves": "curve", "handwritten/high_low": "high_low_frequency"}
ANGLES = np.arange(16) * 22.5
NETWORKS = pytest.mark.parametrize("name", list(FAMILY))


def units_of(network, card, family):
    """The rows of the family's rule for the last layer of a network."""
    network.preprocessing, network.tap = card.preprocessing, lambda activation: card.tap("relu")
    network.answers = MethodType(planted.Planted.answers, network)
    return answers.units(planted.layers(network, family, SPEC, ("post",))["relu"], family)


@NETWORKS
def test_the_rule_finds_every_written_unit_at_its_angle(name):
    card = catalogue.card(name)
    found = units_of(zoo.pretrained(card), card, FAMILY[name])
    assert found["detector"].all()
    expected = np.tile(ANGLES, len(found) // len(ANGLES))
    # Textures are drawn once and angles are few: nearer to its own angle than to any neighbour's.
    assert np.abs(circular_difference(found["preferred_deg"], expected)).max() < 22.5 / 2


@NETWORKS
def test_the_rule_finds_nothing_in_an_untrained_twin_that_answers(name):
    card = catalogue.card(name)
    found = units_of(zoo.untrained(card, 0, []), card, FAMILY[name])
    assert found["live"].mean() > 0.8, "a twin that is silent is no null"
    assert not found["detector"].any()


@NETWORKS
def test_every_load_gives_the_weights_of_the_card_and_every_seed_a_twin_of_its_own(name):
    card = catalogue.card(name)
    assert card.weights.state_dict_sha256
    assert zoo.state_dict_sha256(zoo.pretrained(card).state_dict()) == card.weights.state_dict_sha256
    first, again, other = (zoo.state_dict_sha256(zoo.untrained(card, s, []).state_dict()) for s in (3, 3, 4))
    assert first == again
    assert len({first, other, card.weights.state_dict_sha256}) == 3


def test_twins_have_kernels_of_the_written_size():
    card = catalogue.card("handwritten/curves")
    twin, written = zoo.untrained(card, 0, []), zoo.pretrained(card)
    for layer in ("simple", "detectors"):
        sizes = [getattr(n, layer).weight.square().mean(dim=(1, 2, 3)).sqrt() for n in (twin, written)]
        assert torch.allclose(*sizes, rtol=0.2)
    assert torch.equal(twin.complex.weight, written.complex.weight)


def test_weights_that_are_not_the_cards_are_refused():
    card = catalogue.card("handwritten/curves")
    other = card.model_copy(update={"weights": card.weights.model_copy(update={"state_dict_sha256": "0" * 64})})
    with pytest.raises(WeightsError, match=r"computed here have the state-dict hash .* use the version of the package"):
        zoo.pretrained(other)
    with pytest.raises(CardError, match="no hand-written network 'curvs'; did you mean 'curves'"):
        zoo.pretrained(card.model_copy(update={"architecture": "curvs"}))
    with pytest.raises(CardError, match="did you mean 'high_low'"):
        zoo.FACTS["handwritten"]("hihg_low")


def test_a_quarter_turn_of_the_angle_is_a_quarter_turn_of_the_kernel():
    """Clockwise with y down; the tangents of the cells turn along, by half of their circle."""
    for made in (kernels.arc_detector(30.0, 4.0, 15), kernels.arc(30.0, 4.0, 15)):
        turned = np.roll(np.rot90(made, -1, axes=(1, 2)), 6, axis=0)
        again = kernels.arc_detector(120.0, 4.0, 15) if made.min() < 0 else kernels.arc(120.0, 4.0, 15)
        np.testing.assert_allclose(again, turned, atol=1e-12)
    np.testing.assert_allclose(
        kernels.boundary_detector(120.0, 7, 1.6), np.rot90(kernels.boundary_detector(30.0, 7, 1.6), -1, axes=(1, 2)), atol=1e-12
    )  # fmt: skip


def test_an_arc_lies_on_its_circle():
    """Convention of the drawn arcs: the centre of curvature lies a radius behind the middle."""
    x, y = kernels.places(19)
    weights = kernels.arc(0.0, 4.0, 19).sum(axis=0)
    away = np.hypot(x + 4.0, y)
    assert np.average(away, weights=weights) == pytest.approx(4.0, abs=0.25)
    assert weights[np.abs(away - 4.0) < 2.4].sum() > 0.93 * weights.sum()
    assert weights[x > -4.0].sum() > 0.75 * weights.sum(), "half a circle, on the far side of its centre"


def test_a_gabor_filter_answers_by_one_to_its_grating_and_not_to_grey():
    even, odd, *_ = kernels.gabors(10, 5.0, 2.0, [0.0])[0]
    _, y = kernels.places(10)
    assert (even * np.cos(2 * np.pi * y / 5.0)).sum() == pytest.approx(1.0)
    assert (odd * np.sin(2 * np.pi * y / 5.0)).sum() == pytest.approx(1.0)
    assert even.sum() == pytest.approx(0.0, abs=1e-12)
    assert odd.sum() == pytest.approx(0.0, abs=1e-12)


def test_linear_weights_between_the_taps_are_the_written_kernels():
    came = expanded_weights("handwritten/curves", "complex", "relu", units=[5]).sel(unit_b=5).values
    written = kernels.arc_detector(5 * 22.5, networks.RADII_PX[0] / 2, networks.ARC_KERNEL)
    # Rows and columns at the rim that are 0 are left out.
    rim = [(long - short) // 2 for long, short in zip(written.shape, came.shape, strict=True)]
    inside = written[tuple(slice(cut, size - cut) for cut, size in zip(rim, written.shape, strict=True))]
    assert np.corrcoef(came.ravel(), inside.ravel())[0, 1] > 0.9999
