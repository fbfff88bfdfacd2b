"""Both sides of a nonlinearity, for every card: what lies behind is the function of what lies before, to the bit."""

import built
import numpy as np
import pytest
import torch
from tapped import recorded
from torch import nn
from torch.nn import functional

from universality.activations import extraction
from universality.activations.network import tap_of
from universality.activations.spec import ExtractionSpec
from universality.base.errors import CardError, TapError
from universality.models import catalogue, zoo
from universality.models.nonlinearity import NONLINEARITIES, counterparts
from universality.models.receptive_field import describe_tap

# Seeds and diets of the pocket zoo share their architectures and taps.
IDS = [
    model_id for model_id in catalogue.cards() if not model_id.startswith("pocket/") or model_id.endswith("focus-s0")
]
SHOWN_PX = 64  # a nonlinearity is one of each value: the smallest square that every network's pools accept shows it
JOINED = {"inception3a", "inception3b", "inception4a", "inception4b", "inception4c", "inception5a", "inception5b"}


def seeded(make, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*args).eval()


@pytest.mark.parametrize("model_id", IDS)
def test_behind_is_the_function_of_before_for_every_card(model_id):
    card = catalogue.card(model_id)
    shell, size = built.shell(card), card.preprocessing.size_px
    found = counterparts(shell, card.taps, size)
    without = {name for name, other in found.items() if other is None}
    # Mixed layers are joined from branches; between ResNetV2's blocks and their nonlinearity lies a normalisation; written complex cells are sums.
    sums = {"complex"} if card.library == "handwritten" else set()
    assert without == sums | {
        t.name for t in card.taps if t.name in JOINED or ("resnetv2" in model_id and "norm" not in t.name)
    }
    taps = [tap for tap in card.taps if tap.name not in without]
    others = {tap.name: found[tap.name] for tap in taps}
    shown = min(size, SHOWN_PX)
    images = torch.randn(2, 3, shown, shown, generator=torch.Generator().manual_seed(1))
    maps = recorded(built.network(card), [*taps, *(other.tap for other in others.values())], images)
    for tap in taps:
        other = others[tap.name]
        pair = {tap.activation: maps[tap.name], other.tap.activation: maps[other.tap.name]}
        assert set(pair) == {"pre", "post"}
        assert pair["pre"].min() < 0, "nothing for the nonlinearity to do: this test shows nothing"
        assert torch.equal(NONLINEARITIES[other.nonlinearity](pair["pre"]), pair["post"]), tap.name
        # Where a card's nonlinearity clips, by its largest value: of the values themselves, far above any ceiling.
        largest = NONLINEARITIES[other.nonlinearity](torch.tensor(1e6)).item()
        assert tap.clips_at == (largest if largest < 1e6 else None), tap.name
        stated = tap.model_dump(exclude={"name", "path", "call", "calls", "side", "activation", "clips_at"})
        assert other.tap.model_dump(include=set(stated)) == stated
    extraction.probe(shell, [other.tap for other in others.values()], size)


@pytest.mark.parametrize("reduction", ["center", "max", "mean", "positions"])
def test_maxima_commute_with_the_nonlinearity_and_means_do_not(reduction):
    """What is stored behind ReLU6 is what it was given, cut at 0; so are its own values, but of means."""
    card = catalogue.card("package/efficientnet_lite0")
    taps = [tap_of(card, name) for name in ("blocks.1.1.bn2", "blocks.1.1.bn2:pre")]
    images = np.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype(np.float32)
    spec = ExtractionSpec(reduction=reduction, batch_size=4)
    (came,) = extraction.extract(seeded(zoo.build, card), taps, [images], spec, 224)
    post, pre = (came[tap.name] for tap in taps)
    assert np.array_equal(np.maximum(pre, 0), post) == (reduction != "mean")
    plain = [taps[0].model_copy(update={"clips_at": None})]
    (clipped,) = extraction.extract(seeded(zoo.build, card), plain, [images], spec, 224)
    np.testing.assert_array_equal(np.minimum(post, 6), clipped[taps[0].name])


class Steps(nn.Module):
    """A function of Torch behind a normalisation, one behind a sum in place, and one module that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.block1, self.block2, self.act, self.last = (
            nn.Identity(),
            nn.Identity(),
            nn.ReLU(inplace=True),
            nn.Identity(),
        )

    def forward(self, x):
        x = self.block1(functional.relu(self.norm1(self.conv1(x)), inplace=True))
        y = self.norm2(self.conv2(x))
        y += x
        x = self.block2(torch.relu(y))
        return self.last(self.act(self.act(x - 1) - 0.1))


def steps(path, **facts):
    network = seeded(Steps)
    return network, describe_tap(network, path, 16, **facts)


def test_a_function_is_found_behind_the_module_that_gives_its_input():
    network, tap = steps("block1")
    other = counterparts(network, [tap], 16)["block1"]
    assert (other.tap.path, other.tap.side, other.nonlinearity) == ("norm1", "output", "relu")
    network, tap = steps("norm1", activation="pre")
    other = counterparts(network, [tap], 16)["norm1"]
    assert (other.tap.path, other.tap.side, other.tap.activation) == ("block1", "input", "post")


def test_what_a_sum_in_place_has_changed_is_not_the_other_side():
    """norm2 gave the same tensor, but before the sum: recording it there would be another quantity."""
    network, tap = steps("block2")
    assert counterparts(network, [tap], 16)["block2"] is None
    network, tap = steps("norm2", activation="pre")
    assert counterparts(network, [tap], 16)["norm2"] is None


@pytest.mark.parametrize("call", [0, 1])
def test_calls_are_told_apart(call):
    network, tap = steps("act", call=call)
    other = counterparts(network, [tap], 16)["act"]
    assert (other.tap.path, other.tap.call, other.tap.calls, other.tap.side) == ("act", call, 2, "input")


@pytest.mark.parametrize("kind", [nn.GELU, nn.SiLU, nn.Hardswish])
def test_smooth_ones_are_followed_too(kind):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), kind(), nn.Conv2d(4, 2, 1)).eval()
    other = counterparts(network, [describe_tap(network, "1", 16)], 16)["1"]
    assert (other.tap.path, other.tap.side, other.tap.activation) == ("1", "input", "pre")


def test_no_hook_is_left_behind():
    network, tap = steps("act", call=0)
    counterparts(network, [tap], 16)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("model_id", "name", "error", "message"),
    [
        ("pocket/vgg-focus-s0", "features.9:post", CardError, "is itself the side 'post' .* name it 'features.9'"),
        ("pocket/inceptionv1-focus-s0", "inception3a:pre", TapError, "has no side 'pre': its units are joined from"),
        ("pocket/vgg-focus-s0", "features.99:pre", CardError, "has no tap 'features.99'"),
        ("pocket/vgg-focus-s0", "features.9:before", CardError, "has no tap 'features.9:before'"),
    ],
)
def test_sides_that_do_not_exist_are_refused(model_id, name, error, message):
    with pytest.raises(error, match=message):
        tap_of(catalogue.card(model_id), name)


def test_names_with_a_call_are_names_of_the_card():
    card = catalogue.card("torchvision/resnet50")
    assert tap_of(card, "layer2.0.relu:1") == card.tap("layer2.0.relu:1")
    assert tap_of(card, "layer2.0.relu:1:pre").side == "input"
