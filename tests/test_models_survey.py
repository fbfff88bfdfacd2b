"""How tensors are arranged, told from small modules whose arrangement is known by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from universality.models.survey import Arrangement, surveyed


class Gives(nn.Module):
    """A network of one convolution whose map is rearranged by a function."""

    def __init__(self, how, stride=8, channels=5):
        super().__init__()
        self.conv, self.out, self.how = nn.Conv2d(3, channels, 3, stride, 1), nn.Identity(), how

    def forward(self, x):
        return self.out(self.how(self.conv(x)))


def arranged(how, size=32, **facts):
    survey = surveyed(Gives(how, **facts).eval(), size)
    return survey.arranged(survey.at("out").shape)


def with_tokens(count):
    return lambda x: functional.pad(x.flatten(2).transpose(1, 2), (0, 0, count, 0))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lambda x: x, Arrangement("map", "channels_first", 5, 4, 4)),
        (lambda x: x.permute(0, 2, 3, 1), Arrangement("map", "channels_last", 5, 4, 4)),
        (with_tokens(0), Arrangement("tokens", "channels_last", 5, 4, 4)),
        (with_tokens(1), Arrangement("tokens", "channels_last", 5, 4, 4, 1)),
        (with_tokens(5), Arrangement("tokens", "channels_last", 5, 4, 4, 5)),
        (lambda x: x.flatten(2), Arrangement("tokens", "channels_first", 5, 4, 4)),
        (lambda x: x.flatten(1), Arrangement("vector", "channels_first", 80)),
        (lambda x: x.mean((2, 3), keepdim=True), Arrangement("vector", "channels_first", 5)),
        (lambda x: x.mean((2, 3))[:, None], Arrangement("vector", "channels_first", 5)),
    ],
)
def test_arrangements(how, expected):
    assert arranged(how) == expected


def test_an_input_that_is_not_square():
    assert arranged(lambda x: x, (3, 32, 48)) == Arrangement("map", "channels_first", 5, 4, 6)
    assert arranged(with_tokens(1), (3, 32, 48)) == Arrangement("tokens", "channels_last", 5, 4, 6, 1)
    assert arranged(lambda x: x.permute(0, 2, 3, 1), (3, 32, 48)) == Arrangement("map", "channels_last", 5, 4, 6)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            lambda x: x.unflatten(2, (2, 2)).permute(0, 2, 1, 3, 4).flatten(0, 1),
            "expected a first dimension that counts them",
        ),
        (lambda x: x.flatten(2).transpose(1, 2)[:, :15], "are no grid of tokens"),
        (lambda x: x[:, :, :3], "gives maps of 3 x 4, expected square ones"),
        (lambda x: x[:, None], "a tensor of 5 dimensions"),
    ],
)
def test_what_is_none_of_them_says_why(how, said):
    assert said in arranged(how)


class Bends(nn.Module):
    """Units behind nonlinearities of every kind, gates, and modules that only hand on."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.drop, self.keep = nn.Conv2d(3, 4, 3, 1, 1), nn.GELU(), nn.Dropout(0.5), nn.Identity()
        self.pool, self.squeeze, self.gate = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid()
        self.up, self.silu, self.down, self.last = nn.Conv2d(4, 8, 1), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.keep(self.drop(self.act(self.conv(x))))
        x = x * self.gate(self.squeeze(self.pool(x)))
        a, b = self.up(x).chunk(2, 1)
        return self.last(functional.relu(self.down(self.silu(a) * b)))


def test_what_is_behind_a_nonlinearity_and_what_only_multiplies():
    survey = surveyed(Bends().eval(), 8)
    outputs = {path: survey.at(path) for path in ("conv", "act", "drop", "keep", "gate", "silu", "down")}
    assert [path for path, out in outputs.items() if out.bent] == ["act", "drop", "keep", "silu"]
    assert [path for path, out in outputs.items() if out.handed_on] == ["drop", "keep"]
    assert survey.is_gate(outputs["silu"]) and not survey.is_gate(outputs["act"])
    assert survey.at("down", side="input").gated  # the product of a gated linear unit, which no module gives
    assert survey.at("last", side="input").bent and not survey.at("last", side="input").gated
    assert [outputs[path].depth for path in ("conv", "act", "gate", "down")] == [1, 1, 2, 4]


def test_several_tensors_are_named_and_lie_as_deep_as_they_were_made():
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)

        def forward(self, x):
            one = self.one(x)
            return {"fine": one, "coarse": [self.two(one)]}

    survey = surveyed(Scales().eval(), 16)
    given = {o.item: (o.shape[1], o.depth) for o in survey.outputs if not o.path and o.side == "output"}
    assert given == {"fine": (4, 1), "coarse.0": (6, 2)}


def test_the_network_is_left_as_it_was():
    network = Bends().eval()
    surveyed(network, 8)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.is_grad_enabled()
