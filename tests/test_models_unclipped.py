"""Values before a clipping, against the network's own arithmetic: what is read, stored and keyed, what stays clipped, and what is refused.

The planted networks are a convolution of one pixel whose units are random colours times a gain, behind ReLU6: every answer follows from a formula.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from tapped import tap_at
from torch import nn
from torch.nn import functional

import universality
from universality.activations import bases
from universality.activations.extraction import collect, extract, reducer
from universality.activations.layer import LayerRef, load_layer
from universality.activations.network import Network, tap_of
from universality.activations.nulls import NullPlan
from universality.activations.spec import ExtractionSpec
from universality.activations.store import ActivationStore
from universality.base.errors import TapError
from universality.circuits import reading
from universality.features import visualisation
from universality.features.rules import ties_of
from universality.jobs.stages import similarity_task
from universality.models import catalogue, copies, unclipped
from universality.models.card import Preprocessing, Tap
from universality.models.folding import folded
from universality.models.receptive_field import Place, describe_taps
from universality.models.survey import surveyed
from universality.similarity import correlations
from universality.stimuli.spec import StimuliSpec

SIDE = 9
REDUCTIONS = ("center", "max", "positions", "mean")


class Net(nn.Module):
    """A block as EfficientNet-Lite has it (BatchNorm, then ReLU6 in place), one whose ReLU6 is a function, and branches that are joined."""

    def __init__(self, kind=nn.ReLU6):
        super().__init__()
        self.conv1, self.norm, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), kind(inplace=True)
        self.conv2, self.out = nn.Conv2d(6, 5, 3, padding=1), nn.Identity()
        self.left, self.right, self.joined = nn.Conv2d(5, 2, 1), nn.Conv2d(5, 2, 1), nn.Identity()
        self.last = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            for conv in (self.conv1, self.conv2, self.left, self.right):
                conv.weight *= 12

    def forward(self, x):
        x = self.out(functional.relu6(self.conv2(self.act(self.norm(self.conv1(x)))), inplace=True))
        return self.last(self.joined(torch.cat([functional.relu6(self.left(x)), functional.relu6(self.right(x))], 1)))


def seeded(make, *args, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(*args).eval()


@pytest.fixture(scope="module")
def network():
    return seeded(Net)


@pytest.fixture(scope="module")
def taps(network):
    return describe_taps(network, [Place(path) for path in ("act", "out", "joined")], SIDE)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((11, 3, SIDE, SIDE)).astype(np.float32)


def by_definition(network, images):
    """The maps before the two nonlinearities, by plain calls of the modules."""
    with torch.inference_mode():
        first = network.norm(network.conv1(torch.from_numpy(images)))
        second = network.conv2(first.clamp(0, 6))
    return {"act": first, "out": second}


def shown(network, taps, images, reduction="center", size=4):
    spec = ExtractionSpec(reduction=reduction, batch_size=size)
    return collect(extract(network, taps, np.array_split(images, range(size, len(images), size)), spec, SIDE))


def test_what_clips_is_seen_on_the_network(taps):
    """Joined branches have no one place before: they stay clipped, and their tap says nothing."""
    assert [tap.clips_at for tap in taps] == [6.0, 6.0, None]
    other = seeded(Net, nn.ReLU)
    survey = surveyed(other, SIDE)
    assert unclipped.ceilings(other, [tap.model_copy(update={"clips_at": None}) for tap in taps], survey) == {
        "out": 6.0
    }


@pytest.mark.parametrize("fold", [False, True], ids=["as built", "folded"])
@pytest.mark.parametrize("reduction", ["center", "max", "positions"])
def test_values_before_the_clipping_are_read_in_the_same_pass(network, taps, images, reduction, fold):
    """A ReLU in the place of the ReLU6 of this tap alone; its minimum with 6 is what the network hands on, to the bit."""
    seen = folded(network, taps, SIDE) if fold else network
    came = shown(seen, taps, images, reduction)
    # Without the statement everything is clipped, as it was before there was one.
    handed_on = shown(seen, [tap.model_copy(update={"clips_at": None}) for tap in taps], images, reduction)
    for name, maps in by_definition(network, images).items():
        rectified = maps.clamp(min=0)
        tap = next(tap for tap in taps if tap.name == name)
        expected = reducer(tap, ExtractionSpec(reduction=reduction), SIDE)(rectified).numpy()
        assert expected.max() > 12, "nothing is clipped: this test shows nothing"
        np.testing.assert_allclose(came[name], expected, rtol=0 if not fold else 1e-5, atol=0 if not fold else 1e-4)
        np.testing.assert_array_equal(np.minimum(came[name], 6), handed_on[name])
    np.testing.assert_array_equal(came["joined"], handed_on["joined"])


def test_means_are_of_what_the_network_hands_on(network, taps, images):
    """The clipping does not commute with them."""
    came = shown(network, taps, images, "mean")
    for name, maps in by_definition(network, images).items():
        np.testing.assert_array_equal(came[name], maps.clamp(0, 6).mean((2, 3), dtype=torch.float64).float())


def test_batches_decide_nothing(network, taps, images):
    whole = shown(network, taps, images, "positions", size=11)
    for size in (1, 3, 16):
        for name, values in shown(network, taps, images, "positions", size).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-3)


def test_the_other_side_that_is_asked_for_by_name_is_not_cut():
    card = catalogue.card("package/efficientnet_lite0")
    assert tap_of(card, "blocks.1.1.bn2:pre").clips_at is None
    with pytest.raises(ValidationError, match="values before a nonlinearity are not clipped; leave out clips_at"):
        Tap.model_validate(card.tap("blocks.1.1.bn2").model_dump() | {"activation": "pre"})


@pytest.mark.parametrize(
    ("path", "stated", "why"),
    [("act", 5.0, "'relu6' makes them"), ("joined", 6.0, "none does"), ("conv2", 6.0, "none does")],
)
def test_a_card_that_is_wrong_is_refused(network, path, stated, why):
    tap = tap_at(path, clips_at=stated)
    with pytest.raises(
        TapError, match=f"tap '{path}' states clips_at = {stated:g}, expected a nonlinearity .*{why}; correct the card"
    ):
        unclipped.places(network, [tap], SIDE)


def network_of(reduction, **facts):
    """A network of a card, of which only keys and records are asked."""
    card = catalogue.card("package/efficientnet_lite0")
    return Network(card, None, card.taps, StimuliSpec(), ExtractionSpec(reduction=reduction), StimuliSpec(), **facts)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_keys_tell_values_before_a_clipping_from_clipped_ones(reduction):
    """Whose reduction is a mean has the clipped values under the key that they always had; so has every tap that does not clip."""
    network = network_of(reduction)
    tap = network.taps[0]
    plain = tap.model_copy(update={"clips_at": None})
    same = network.key("natural", tap).name == network.key("natural", plain).name
    assert same == (reduction == "mean")
    # What does not clip has no such word in what its key is made of.
    assert "clips_at" not in network.key("natural", plain).tap
    assert "clips_at" not in plain.plain()
    said = network.provenance("natural", tap).get("values")
    assert said == (None if reduction == "mean" else "before the clipping at 6, cut at 0")
    assert "values" not in network.provenance("natural", plain)


# Planted networks: units are colours times a gain

UNITS, IMAGES, GAIN = 12, 300, 60.0
ORDER = np.random.default_rng(5).permutation(UNITS)


class Planted(nn.Module):
    """Unit k answers ReLU6(gain x the part of a uniform colour along direction k) to it."""

    def __init__(self, directions, gain):
        super().__init__()
        self.conv, self.act, self.last = nn.Conv2d(3, UNITS, 1, bias=False), nn.ReLU6(), nn.Conv2d(UNITS, 1, 1)
        self.conv.weight = nn.Parameter(torch.from_numpy(gain * directions)[:, :, None, None].float())
        self.eval()

    def forward(self, x):
        return self.last(self.act(self.conv(x)))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The colours, the directions, and the layers of two networks as a job stores them: the second has the first's units in another order, with other gains."""
    rng = np.random.default_rng(1)
    colours, directions = rng.standard_normal((IMAGES, 3)), rng.standard_normal((UNITS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    store = ActivationStore(tmp_path_factory.mktemp("store"))
    refs = {}
    of_colours = np.broadcast_to(colours[:, :, None, None], (IMAGES, 3, SIDE, SIDE)).astype(np.float32)
    labels = {"fold": np.arange(IMAGES) % 2, "photograph": np.arange(IMAGES)}
    for name, made in (
        ("a", (directions, GAIN)),
        ("b", (directions[ORDER], 9.0)),
        ("twin", (rng.standard_normal((UNITS, 3)), GAIN)),
    ):
        network = Planted(*made)
        tap = tap_at("act", channels=UNITS, size=SIDE, clips_at=6.0)
        values = shown(network, [tap], of_colours, size=50)["act"]
        dataset = xr.Dataset(
            {"activation": (("stimulus", "unit"), values)}, {key: ("stimulus", of) for key, of in labels.items()}
        )
        store.keep(name, dataset)
        refs[name] = LayerRef(name, None, tap, store.location, {"natural": name})
    return colours, directions, refs


def test_matching_finds_what_was_planted_where_clipped_values_are_arbitrary(planted):
    """By the formula r of true partners is 1; of clipped values, most of them 0 or 6, it is that of two step functions, and many images tie."""
    colours, directions, refs = planted
    a, b = (load_layer(refs[name]) for name in "ab")
    formula = GAIN * np.maximum(colours @ directions.T, 0)
    np.testing.assert_allclose(a.natural, formula, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(a.handed_on.natural, np.minimum(formula, 6), rtol=1e-5, atol=1e-4)

    def alike(first, second):
        """Correlations of all units on the deciding fold, and of the true partners alone."""
        r = correlations(first.halves().decide, second.halves().decide)
        return r, r[ORDER, np.arange(UNITS)]

    r, of_partners = alike(a, b)
    np.testing.assert_array_equal(r.argmax(axis=0), ORDER)
    np.testing.assert_allclose(of_partners, 1, atol=1e-6)
    assert alike(a.handed_on, b.handed_on)[1].max() < 0.95
    # Ties: as many images as the formula puts above the ceiling; of the values before it there is one largest.
    np.testing.assert_array_equal(ties_of(a.clipped(a.natural)), (formula >= 6).sum(axis=0))
    assert ties_of(a.natural).max() == 1
    # The image that excites a unit most is that of the formula; the first of those at 6 is another.
    np.testing.assert_array_equal(a.natural.argmax(axis=0), formula.argmax(axis=0))
    assert (a.handed_on.natural.argmax(axis=0) != formula.argmax(axis=0)).sum() > UNITS / 2


def test_layers_are_compared_as_they_are_handed_on(planted):
    _, _, refs = planted
    plan = NullPlan(2, 2, 0)
    twins = [[refs["twin"]]]
    measures = ["cka_linear_debiased", "unit_match_hungarian"]
    rows = similarity_task([refs["a"]], [refs["b"]], twins, twins, plan, measures)
    a, b = (load_layer(refs[name]).natural for name in "ab")
    for measure in measures:
        (value,) = rows[measure]["similarity"]["value"]
        clipped = universality.score(measure, np.minimum(a, 6), np.minimum(b, 6)).value
        assert value == pytest.approx(clipped, abs=1e-12)
        assert abs(value - universality.score(measure, a, b).value) > 0.01


def test_a_layer_clips_in_whatever_it_is_seen(planted):
    _, _, refs = planted
    layer = load_layer(refs["a"])
    clipped = np.minimum(layer.natural, 6)
    scaled = layer.standardised().handed_on.natural
    np.testing.assert_allclose(scaled, clipped / layer.natural.std(axis=0), rtol=1e-14)
    basis = bases.haar(0, 3)
    turned = layer.in_basis(basis)
    np.testing.assert_array_equal(turned.natural, basis.seen(layer.natural))
    assert turned.clip is None
    np.testing.assert_array_equal(turned.handed_on.natural, basis.seen(clipped))
    plain = replace(layer, clip=None)
    assert plain.handed_on is plain and plain.in_basis(basis).handed_on.basis is basis


def test_weights_go_from_what_is_handed_on_to_what_is_matched(planted):
    _, _, refs = planted
    none = pd.DataFrame({"model": [], "tap": [], "seed": [], "detector": np.zeros(0, bool), "family": []})
    found = reading.ends(None, refs["a"], refs["b"], none, load_layer)
    assert found.sources.natural.max() == 6
    np.testing.assert_array_equal(found.targets.natural, load_layer(refs["b"]).natural)


def test_made_images_reach_what_natural_ones_are_ranked_by():
    """What an image reaches is read before the clipping, as the answers to natural images beside it are."""
    network = Planted(np.random.default_rng(2).standard_normal((UNITS, 3)), GAIN)
    prepared = Preprocessing(size_px=SIDE, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    tap = tap_at("act", channels=UNITS, size=SIDE, clips_at=6.0)
    (read,) = unclipped.places(network, [tap], SIDE)
    images = np.random.default_rng(3).integers(0, 256, (2, 1, 1, 3), dtype=np.uint8).repeat(SIDE, 1).repeat(SIDE, 2)
    came = visualisation.answers(visualisation.Lens(network, read, read, prepared), images)
    colours = images[:, 0, 0] / 127.5 - 1
    formula = np.maximum(colours @ network.conv.weight.detach().numpy()[:, :, 0, 0].T, 0)
    assert formula.max() > 6
    np.testing.assert_allclose(came, formula, rtol=1e-4, atol=1e-3)


def test_noisy_copies_are_as_alike_as_asked_before_the_clipping():
    """The halving stops where values before the clipping correlate by r; clipped ones would do so at another strength of noise."""
    network, rng = Planted(np.random.default_rng(2).standard_normal((UNITS, 3)), GAIN), np.random.default_rng(3)
    shown = [rng.standard_normal((256, 3, 3, 3)).astype(np.float32)]
    tap = tap_at("act", channels=UNITS, size=3, clips_at=6.0)
    copy = copies.noisy(network, [tap], 0.84, 0, shown)

    def middle(of, ceiling):
        with torch.inference_mode():
            return of.conv(torch.from_numpy(shown[0]))[:, :, 1, 1].clamp(0, ceiling).numpy().astype(float)

    def alike(ceiling):
        x, y = middle(network, ceiling), middle(copy, ceiling)
        return np.median([np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(UNITS)])

    assert alike(np.inf) == pytest.approx(0.84, abs=0.03)
    assert alike(6) < alike(np.inf) - 0.03
