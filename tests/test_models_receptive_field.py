"""The measured receptive field against mathematics, against a NaN's footprint, and against the cards."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame, LayerNorm2d, ScaledStdConv2d, ScaledStdConv2dSame
from torch import nn
from torch.nn import functional

from universality.base.errors import TapError
from universality.models import catalogue, zoo
from universality.models.receptive_field import Place, describe_tap, describe_taps, effective_side_px


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


def skips(described):
    """Whether no unit of the last layer looks at some rows of the image: strides wider than what is looked at between them."""
    offsets, stride = {0}, 1
    for kind, kernel, step, _, dilation in described:
        dilation = dilation if kind == "convolution" else 1
        offsets = {at + place * dilation * stride for at in offsets for place in range(kernel)}
        stride *= step
    return len({at % stride for at in offsets}) < stride


def test_of_a_network_that_skips_rows_no_field_is_stated():
    """Two strides of 3 by single pixels: most rows reach no unit, so the ends of a field cannot be seen; none is better than a wrong one."""
    described = [("convolution", 1, 3, 0, 1), ("convolution", 1, 3, 0, 1), ("convolution", 2, 1, 1, 2)]
    assert skips(described)
    network, _ = sequential(described)
    assert describe_tap(network.eval(), str(len(network) - 1), 256).rf_px is None


@settings(deadline=None, max_examples=30)
@given(layers.filter(lambda described: not skips(described)))
def test_sequences_follow_the_recursion(described):
    network, expected = sequential(described)
    tap = describe_tap(network.eval(), str(len(network) - 1), 256)
    assert geometry(tap) == expected


class Branches(nn.Module):
    """A residual sum, branches of unlike reach joined, functional nonlinearities, and one module called twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Identity()
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
        x = self.pool(functional.relu(self.stem(self.first(x)), inplace=True))
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


@pytest.mark.parametrize(
    ("path", "call", "message"),
    [
        ("wid", 0, "no module 'wid'; did you mean 'wide'"),
        ("wide", 1, "was called 1 times, so call 1 never comes"),
        ("first", 0, "lies before the first convolution or linear layer"),
    ],
)
def test_what_cannot_be_described_is_refused(path, call, message):
    with pytest.raises(TapError, match=message):
        describe_tap(seeded(Branches), path, 64, call=call)


@pytest.mark.parametrize("path", ["1", "2", "4"])
def test_behind_global_pooling_there_are_no_positions(path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2, 5)
    ).eval()
    tap = describe_tap(network, path, 32)
    assert (tap.kind, tap.size, tap.rf_px, tap.stride_px, tap.rf_start_px) == ("vector", 1, None, None, None)
    assert tap.channels == {"1": 4, "2": 2, "4": 5}[path]


def test_a_map_pooled_to_one_size_has_no_receptive_field():
    tap = describe_tap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 2, 1)).eval(), "2", 32)
    assert (tap.kind, tap.size, tap.whole_image) == ("map", 4, True)
    assert (tap.stride_px, tap.rf_start_px) == (8, 3.5)  # where its grid lies in the image


class Gate(nn.Module):
    """Squeeze and excitation, or context that is added, or one that is laid out over the map first."""

    def __init__(self, how):
        super().__init__()
        self.how, self.squeeze = how, nn.Conv2d(4, 4, 1)

    def forward(self, x):
        gate = self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
        if self.how == "added":
            return x + gate
        if self.how == "divided":
            return x / x.norm(dim=(2, 3), keepdim=True)
        return x * (gate.expand_as(x) if self.how == "laid out" else gate)


@pytest.mark.parametrize("how", ["multiplied", "added", "divided", "laid out"])
def test_gates_count_as_constants(how):
    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Gate(how), nn.Conv2d(4, 4, 3, padding=1)))
    assert geometry(describe_tap(network, "2", 32)) == (7, 2, 0.0)


def test_gates_of_maps_with_channels_last_count_as_constants():
    class Last(nn.Module):
        def forward(self, x):
            x = x.permute(0, 2, 3, 1)
            return x * x.norm(dim=(1, 2), keepdim=True)

    tap = describe_tap(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Last())), "1", 32)
    assert (tap.layout, tap.channels, tap.size, *geometry(tap)) == ("channels_last", 4, 16, 3, 2, 0.0)


def test_kernels_that_the_whole_image_decides_count_as_constants():
    class Dynamic(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(4, 4 * 4 * 9)

        def forward(self, x):
            return functional.conv2d(x, self.mix(x.mean((2, 3)))[0].view(4, 4, 3, 3), padding=1)

    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Dynamic()))
    assert geometry(describe_tap(network, "1", 32)) == (7, 2, 0.0)


def test_a_gate_with_a_value_at_every_position_is_none():
    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Conv2d(4, 1, 5, padding=2)

        def forward(self, x):
            return x * self.look(x).sigmoid()

    assert geometry(describe_tap(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), Spatial())), "1", 32)) == (
        11,
        2,
        0.0,
    )


class Attention(nn.Module):
    """Tokens of a patch grid behind a class token, which look at one another."""

    def __init__(self):
        super().__init__()
        self.patch, self.tokens, self.mixed, self.last = (
            nn.Conv2d(3, 8, 4, 4),
            nn.Identity(),
            nn.Linear(8, 8),
            nn.Identity(),
        )
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.tokens(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
        return self.last(self.mixed(functional.scaled_dot_product_attention(x, x, x)))


def test_behind_attention_every_unit_sees_the_whole_image():
    network = seeded(Attention)
    patch, tokens, last = describe_taps(network, [Place("patch"), Place("tokens"), Place("last")], 32)
    assert (patch.kind, *geometry(patch)) == ("map", 4, 4, 1.5)
    assert (tokens.kind, tokens.size, tokens.prefix, tokens.channels, *geometry(tokens)) == (
        "tokens",
        8,
        1,
        8,
        4,
        4,
        1.5,
    )
    assert (last.kind, last.size, last.prefix, *geometry(last)) == ("tokens", 8, 1, None, 4, 1.5)


def test_windows_are_no_receptive_field():
    """Neighbours in one window see the same, neighbours across its border do not: no one field moves with the unit."""

    class Windows(nn.Module):
        def forward(self, x):
            return x.unflatten(2, (-1, 4)).mean(3, keepdim=True).expand(-1, -1, -1, 4, -1).flatten(2, 3) + x

    network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Windows(), nn.Conv2d(4, 4, 3, padding=1)))
    tap = describe_tap(network, "1", 32)
    assert (tap.whole_image, tap.stride_px) == (True, 1)


def test_enlarged_maps():
    enlarge = {"nearest": nn.Upsample(scale_factor=2), "learnt": nn.ConvTranspose2d(4, 4, 2, 2)}
    for kind, module in enlarge.items():
        network = seeded(lambda module=module: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), module, nn.Conv2d(4, 4, 1)))
        tap = describe_tap(network, "2", 16)
        # Of each pair of positions both see one pixel and its neighbours, a quarter of a pixel off their own centre.
        assert (tap.size, *geometry(tap)) == (32, 4, 0.5, -0.25), kind


def test_an_enlarged_map_is_held_by_the_smallest_field_that_all_positions_share():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.MaxPool2d(4), nn.Conv2d(4, 4, 1), nn.Upsample(scale_factor=4), nn.Conv2d(4, 4, 1)
        )
    )
    tap = describe_tap(network, "4", 32)
    # Four positions in a row see the same four pixels: 3 px before the first one's own, 3 px behind the last one's.
    assert geometry(tap) == (7, 1, 0.0)


def test_a_network_that_takes_one_size_only():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.next = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)

        def forward(self, x):
            assert x.shape[2:] == (32, 48), "wrong size"
            return self.next(self.conv(x))

    tap = describe_tap(seeded(Fixed), "next", (3, 32, 48))
    assert (tap.size, tap.width, *geometry(tap)) == (8, 12, 7, 4, 0.0)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    network = seeded(lambda: nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1)))
    assert geometry(describe_tap(network, "0", (channels, 32, 32))) == (3, 2, 0.0)


def test_one_of_several_tensors():
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.both = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Identity()

        def forward(self, x):
            one = self.one(x)
            return {"fine": one, "coarse": self.two(one)}

    network = seeded(Scales)
    fine, coarse = describe_taps(network, [Place("", "fine"), Place("", "coarse")], 32)
    assert (fine.name, fine.channels, fine.relative_depth, *geometry(fine)) == ("output[fine]", 4, 0.5, 3, 2, 0.0)
    assert (coarse.name, coarse.channels, coarse.relative_depth, *geometry(coarse)) == (
        "output[coarse]",
        6,
        1.0,
        7,
        4,
        0.0,
    )
    with pytest.raises(TapError, match=r"expected one of 'output\[fine\]', 'output\[coarse\]'"):
        describe_tap(network, "", 32)


def test_what_is_not_measured_in_time_is_given_up_alone():
    late = describe_taps(seeded(Branches), [Place("wide"), Place("head")], 64, until=0.0)
    assert isinstance(late[0], TapError) and "'wide' was not measured in the time given" in str(late[0])
    assert late[1].kind == "vector"  # nothing had to be measured


def test_fields_that_differ_between_rows_and_columns_are_refused():
    with pytest.raises(TapError, match="differs between rows and columns"):
        describe_tap(nn.Sequential(nn.Conv2d(3, 1, (3, 5), padding=(1, 2))).eval(), "0", 32)


def test_maps_that_are_not_square_are_refused():
    with pytest.raises(TapError, match="expected square ones"):
        describe_tap(nn.Sequential(nn.Conv2d(3, 1, (3, 5))).eval(), "0", 32)


def test_a_convolution_of_another_kind():
    network = nn.Sequential(ScaledStdConv2d(3, 4, 3, stride=2, padding=1), ScaledStdConv2dSame(4, 4, 5)).eval()
    assert geometry(describe_tap(network, "1", 32)) == (11, 2, 0.0)


@pytest.mark.parametrize(
    ("model_id", "names"),
    [
        ("package/efficientnet_lite0", ["blocks.2.1.bn2"]),
        ("torchvision/googlenet", ["conv3", "inception3b"]),
        ("torchvision/resnet50", ["relu", "layer2.0.relu:1"]),
        ("timm/resnet18", ["layer2.0"]),
        ("timm/resnetv2_50", ["stages.1.blocks.2.norm3"]),
        ("pocket/inceptionv1-focus-s0", None),
    ],
)
def test_cards_state_what_is_measured(model_id, names):
    """One way to write a card is to measure it; tests of the cards themselves use other oracles."""
    card = catalogue.card(model_id)
    taps = list(card.taps) if names is None else [card.tap(name) for name in names]
    places = [Place(tap.path, tap.item, tap.call, tap.side, tap.activation, tap.name) for tap in taps]
    assert describe_taps(seeded(zoo.build, card), places, card.preprocessing.shape) == taps


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
