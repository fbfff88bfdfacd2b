"""The measured receptive field against mathematics, against a NaN's footprint, and against the cards."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame, LayerNorm2d
from torch import nn
from torch.nn import functional

from universality.base.errors import TapError
from universality.models import catalogue, zoo
from universality.models.receptive_field import describe_tap, effective_side_px, linear_functions, positive_linear_copy


def seeded(make, *args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*args).eval()


def geometry(tap):
    return tap.rf_px, tap.stride_px, tap.rf_start_px


layers = st.lists(
    st.tuples(
        st.sampled_from(["convolution", "maximum", "mean"]),
        st.integers(1, 5),  # kernel
        st.integers(1, 3),  # stride
        st.integers(0, 2),  # padding, at most half the kernel
        st.integers(1, 2),  # dilation
    ),
    min_size=1,
    max_size=3,
)


def sequential(described):
    """Return the network of the described layers, and its (field, stride, start) by the textbook recursion."""
    modules, field, stride, start, channels = [nn.Conv2d(3, 3, 1)], 1, 1, 0.0, 3
    for kind, kernel, step, pad, dilation in described:
        pad = min(pad, kernel // 2)
        dilation = dilation if kind == "convolution" else 1
        if kind == "convolution":
            modules += [nn.Conv2d(channels, 2, kernel, step, pad, dilation), nn.BatchNorm2d(2), nn.ReLU(inplace=True)]
            channels = 2
        else:
            modules.append({"maximum": nn.MaxPool2d, "mean": nn.AvgPool2d}[kind](kernel, step, pad))
        reach = dilation * (kernel - 1)
        field += reach * stride
        start += (reach / 2 - pad) * stride
        stride *= step
    return nn.Sequential(*modules), (field, stride, start)


@settings(deadline=None, max_examples=30)
@given(layers)
def test_sequences_follow_the_recursion(described):
    network, expected = sequential(described)
    tap = describe_tap(network.eval(), str(len(network) - 1), 256)
    assert geometry(tap) == expected


class Branches(nn.Module):
    """A residual sum, branches of unlike reach joined, functional nonlinearities, and one module called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.narrow = nn.Conv2d(4, 4, 1)
        self.wide = nn.Conv2d(4, 4, 5, padding=2)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.act = nn.ReLU(inplace=True)
        self.joined = nn.Identity()
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(functional.relu(self.stem(x), inplace=True))
        x = self.act(self.depthwise(x)) + x
        x = self.joined(torch.cat([self.narrow(x), torch.relu(self.wide(x))], 1))
        x = self.act(self.norm(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("stem", (7, 2, 0.0)),
        ("pool", (11, 4, 0.0)),
        ("depthwise", (19, 4, 0.0)),
        ("narrow", (19, 4, 0.0)),
        ("wide", (35, 4, 0.0)),
        ("joined", (35, 4, 0.0)),
    ],
)
def test_branches_by_hand(path, expected):
    tap = describe_tap(seeded(Branches), path, 64)
    assert geometry(tap) == expected


def test_everything_else_that_a_card_states():
    network = seeded(Branches)
    stem, wide = describe_tap(network, "stem", 64, activation="pre"), describe_tap(network, "wide", 64, name="w")
    assert (stem.channels, stem.size, stem.calls, stem.activation) == (4, 32, 1, "pre")
    assert (wide.channels, wide.size, wide.name, wide.path) == (4, 16, "w", "wide")
    # Five weight layers: stem, depthwise, narrow, wide, head, in this order.
    assert (stem.relative_depth, wide.relative_depth) == (0.2, 0.8)
    assert describe_tap(network, "narrow", 64, side="input").relative_depth == 0.4


def test_calls_and_sides():
    network = seeded(Branches)
    first, second = (describe_tap(network, "act", 64, call=call) for call in (0, 1))
    assert (first.call, first.calls, first.channels, first.rf_px) == (0, 2, 4, 19)
    assert (second.call, second.calls, second.channels, second.rf_px) == (1, 2, 8, 35)
    assert geometry(describe_tap(network, "depthwise", 64, side="input")) == (11, 4, 0.0)


class Same(nn.Module):
    """Padding that depends on the input, as TensorFlow's: at even sizes all of it comes after the last pixel."""

    def __init__(self):
        super().__init__()
        self.one = Conv2dSame(3, 2, 3, stride=2)
        self.two = Conv2dSame(2, 2, 3, stride=2)

    def forward(self, x):
        return self.two(self.one(x))


def test_padding_that_depends_on_the_size():
    # Even maps: a window of 3 at stride 2 begins on the pixel itself, so its centre lies one pixel further.
    assert geometry(describe_tap(seeded(Same), "two", 64)) == (7, 4, 3.0)
    # An odd image of 65 px is padded on both sides: 65 -> 33 -> 17.
    assert geometry(describe_tap(seeded(Same), "two", 65)) == (7, 4, 0.0)


def nan_footprint(network, path, size_px, pixel):
    image = torch.randn(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    image[:, :, pixel, pixel] = torch.nan
    caught = []
    handle = network.get_submodule(path).register_forward_hook(lambda *args: caught.append(args[2].isnan().any(1)[0]))
    try:
        with torch.inference_mode():
            network(image)
    finally:
        handle.remove()
    return caught[0].numpy()


@pytest.mark.parametrize("make", [Branches, Same])
@pytest.mark.parametrize("pixel", [0, 31, 40, 63])
def test_units_that_see_a_pixel_are_those_the_field_says(make, pixel):
    """In the network itself: a NaN reaches what sees it, whatever the weights."""
    network = seeded(make)
    path = "wide" if make is Branches else "two"
    tap = describe_tap(network, path, 64)
    sees = np.abs(tap.rf_start_px + tap.stride_px * np.arange(tap.size) - pixel) <= (tap.rf_px - 1) / 2
    np.testing.assert_array_equal(nan_footprint(network, path, 64, pixel), sees[:, None] & sees[None, :])


@pytest.mark.parametrize("make", [lambda: nn.GroupNorm(2, 4), lambda: LayerNorm2d(4)], ids=["group", "layer"])
def test_other_normalisations_count_as_identity(make):
    """Their statistics reach over the map or the channels; what a card states is the reach of the windows."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), make(), nn.Conv2d(4, 4, 3, stride=2, padding=1)).eval()
    assert geometry(describe_tap(network, "2", 32)) == (5, 2, 0.0)


def test_weights_do_not_matter():
    """Dead and cancelling weights hide a field from a plain gradient, not from the theoretical one."""
    network = seeded(Branches)
    expected = describe_tap(network, "wide", 64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert describe_tap(network, "wide", 64) == expected


def test_the_network_is_left_as_it_was():
    network = seeded(Branches)
    before, text = copy.deepcopy(network.state_dict()), repr(network)
    describe_tap(network, "wide", 64)
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert repr(network) == text
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_copy_is_linear_and_positive():
    copied = positive_linear_copy(seeded(Branches))
    a, b = (torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    with torch.no_grad(), linear_functions():
        stem = {name: copied.wide(copied.narrow(copied.pool(copied.stem(x)))) for name, x in (("a", a), ("b", b))}
        both = copied.wide(copied.narrow(copied.pool(copied.stem(2 * a - b))))
    torch.testing.assert_close(both, 2 * stem["a"] - stem["b"])
    assert (stem["a"] > 0).all()


def test_functions_come_back_after_an_error():
    kept = functional.relu, functional.relu6, torch.relu
    with pytest.raises(ZeroDivisionError), linear_functions():
        assert functional.relu(torch.tensor(-1.0)) == -1
        raise ZeroDivisionError
    assert (functional.relu, functional.relu6, torch.relu) == kept


@pytest.mark.parametrize(
    ("path", "call", "message"),
    [
        ("wid", 0, "no module 'wid'; did you mean 'wide'"),
        ("wide", 1, "was called 1 times, so call 1 never comes"),
        ("head", 0, "gives a tensor of 2 dimensions, expected feature maps"),
    ],
)
def test_what_cannot_be_described_is_refused(path, call, message):
    with pytest.raises(TapError, match=message):
        describe_tap(seeded(Branches), path, 64, call=call)


@pytest.mark.parametrize("path", ["1", "2"])
def test_behind_global_pooling_there_is_no_receptive_field(path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1)).eval()
    with pytest.raises(TapError, match="has no receptive field"):
        describe_tap(network, path, 32)


def test_what_sees_the_whole_input_at_every_size_has_no_receptive_field():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True)

    with pytest.raises(TapError, match="has no receptive field"):
        describe_tap(nn.Sequential(nn.Conv2d(3, 1, 3), Gate()).eval(), "1", 16)


def test_fields_that_differ_between_rows_and_columns_are_refused():
    with pytest.raises(TapError, match="differs between rows and columns"):
        describe_tap(nn.Sequential(nn.Conv2d(3, 1, (3, 5), padding=(1, 2))).eval(), "0", 32)


def test_maps_that_are_not_square_are_refused():
    with pytest.raises(TapError, match="expected square ones"):
        describe_tap(nn.Sequential(nn.Conv2d(3, 1, (3, 5))).eval(), "0", 32)


def test_a_convolution_of_another_kind_is_refused():
    class Odd(nn.Conv2d):
        pass

    with pytest.raises(TapError, match="through a Odd cannot be measured; write it into the card"):
        describe_tap(nn.Sequential(Odd(3, 1, 3)).eval(), "0", 32)


@pytest.mark.parametrize(
    ("model_id", "names"),
    [
        ("package/efficientnet_lite0", None),
        ("package/efficientnet_lite1", ["blocks.2.1.bn2", "blocks.4.1.bn2"]),
        ("torchvision/alexnet", ["features.1", "features.3", "features.11"]),
        ("torchvision/googlenet", ["conv3", "inception3b", "inception4c"]),
        ("torchvision/resnet50", ["relu", "layer2.0.relu:1", "layer4.2"]),
        ("timm/resnet18", ["layer1.0", "layer4.1"]),
        ("timm/resnetv2_50", ["stages.0.blocks.2", "stages.1.blocks.2.norm3"]),
        ("torchvision/vgg16", ["features.3", "features.15"]),
    ],
)
def test_cards_state_what_is_measured(model_id, names):
    """One way to write a card is to measure it; tests of the cards themselves use other oracles."""
    card = catalogue.card(model_id)
    network = seeded(zoo.build, card)
    for tap in card.taps if names is None else [card.tap(name) for name in names]:
        came = describe_tap(
            network,
            tap.path,
            card.preprocessing.size_px,
            call=tap.call,
            side=tap.side,
            activation=tap.activation,
            name=tap.name,
        )
        assert came == tap


class TestEffective:
    """Two means over 3 x 3: a pyramid of 5 x 5, whose squares along a side are 1, 4, 9, 4, 1 of 19."""

    @pytest.fixture
    def pyramid(self):
        network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.Conv2d(2, 2, 3, padding=1, bias=False))
        for module in network:
            nn.init.ones_(module.weight)
        return network.eval()

    @pytest.mark.parametrize(("share", "side"), [(0.2, 1), (0.23, 3), (0.8, 3), (0.81, 5), (0.99, 5)])
    def test_closed_form(self, pyramid, share, side):
        # (9 / 19)^2 = 0.224 within one pixel, (17 / 19)^2 = 0.801 within three.
        images = np.zeros((1, 3, 16, 16), np.float32)
        assert effective_side_px(pyramid, describe_tap(pyramid, "1", 16), images, share) == side

    def test_trained_weights_use_less_than_the_field(self):
        card = catalogue.card("pocket/vgg-focus-s0")
        tap = card.tap("features.9")
        images = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)
        sides = [effective_side_px(zoo.pretrained(card), tap, images, share) for share in (0.5, 0.9)]
        assert 2 <= sides[0] < sides[1] < tap.rf_px
        assert all(side % 2 == tap.rf_px % 2 for side in sides)

    def test_silent_units_are_refused(self):
        silent = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU()).eval()
        nn.init.constant_(silent[0].bias, -100.0)
        with pytest.raises(TapError, match="tap '1': no unit at the centre answers to these images"):
            effective_side_px(silent, describe_tap(silent, "1", 16), np.zeros((1, 3, 16, 16), np.float32))
