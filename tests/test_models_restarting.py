"""Passes that start at a tap give, to the bit, what whole passes give."""

import pytest
import torch
from tapped import tap_at
from torch import nn

from universality.base.errors import TapError
from universality.models.pocket import networks
from universality.models.restarting import Restarting


class Early(nn.Module):
    """What comes early is used again late, by a function and in place; one module is called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        one = self.stem(x)
        two = self.act(self.middle(one))
        one += two
        out = self.last(torch.cat([self.act(one), nn.functional.relu(two)], 1))
        return (out * (1.0 if float(one.detach().sum()) > 0 else 0.5)).mean((2, 3))


class Stateful(nn.Module):
    """The layer behind the tap asks an earlier one what it did last: its pass cannot be left out."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 1))
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        self.kept = []
        handle = self.first[0].register_forward_hook(lambda _, __, out: self.kept.append(out))
        y = self.second(self.first(x))
        handle.remove()
        return (y + self.kept[0]).mean((2, 3))


def with_hooks(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()), [
        name for name, m in network.named_modules() if "forward" in vars(m)
    ]


PLACES = {
    "vgg": ("features.13", "features.18"),
    "alexnet": ("features.9", "features.11"),
    "resnet": ("layer2.1", "layer3.0"),
    "resnet, within a block": ("layer2.1.act1", "layer3.0"),
    "inceptionv1": ("inception3b", "inception4a"),
    "inceptionv1, within a branch": ("inception3b.branch2.0", "inception4a"),
}


@pytest.mark.parametrize("name", PLACES)
def test_passes_from_the_tap_are_whole_passes_to_the_bit(name):
    torch.manual_seed(0)
    network = networks.build(name.split(",")[0], 12).eval()
    images, (path, later) = torch.randn(3, 3, 64, 64), PLACES[name]
    came = {}
    for shared in (True, False):
        of = Restarting(network, tap_at(path), [tap_at(later)], shared=shared)
        shown = of.show(images)
        assert of.shares == shared
        changed = shown.maps.clone()
        changed[:, 1] = shown.maps.flip(0)[:, 1] + 0.5
        came[shared] = shown.intact, shown.with_maps(shown.maps), shown.with_maps(changed)
        assert torch.equal(came[shared][0].output, network(images))
    for one, other in zip(came[True], came[False], strict=True):
        assert torch.equal(one.output, other.output) and torch.equal(one.maps[later], other.maps[later])
    assert torch.equal(came[True][0].output, came[True][1].output)
    assert not torch.equal(came[True][0].output, came[True][2].output)
    assert with_hooks(network) == (0, [])


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("call", [0, 1])
def test_what_comes_early_and_is_used_late_is_held(side, call):
    torch.manual_seed(1)
    network, images = Early().eval(), torch.randn(4, 3, 6, 6)
    came = []
    for shared in (True, False):
        shown = Restarting(network, tap_at("act", call=call, calls=2, side=side), shared=shared).show(images)
        came.append(shown.with_maps(shown.maps * 2 - 1).output)
    assert torch.equal(*came)


def test_a_network_that_cannot_be_entered_in_the_middle_is_shown_whole_passes():
    torch.manual_seed(0)
    network, images = Stateful().eval(), torch.randn(2, 3, 4, 4)
    of = Restarting(network, tap_at("second"))
    shown = of.show(images)
    assert not of.shares
    assert torch.equal(shown.with_maps(shown.maps).output, network(images))


def test_a_tap_that_is_read_too_early_or_never_fires_is_one_sentence():
    network, images = networks.build("alexnet", 12).eval(), torch.randn(2, 3, 64, 64)
    with pytest.raises(TapError, match=r"tap 'features.3' comes before 'features.6', whose edits it cannot show"):
        Restarting(network, tap_at("features.6"), [tap_at("features.3")]).show(images)
    with pytest.raises(TapError, match=r"tap 'features.6' never fires"):
        Restarting(network, tap_at("features.6", call=1, calls=2)).show(images)
    assert with_hooks(network) == (0, [])
