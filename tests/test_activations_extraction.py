"""Extraction against full maps reduced by hand: places, calls, in-place modules, batches, and what is refused."""

import gc
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import float32_slack
from torch import nn

import universality
from universality.activations.extraction import collect, extract, probe, reducer
from universality.activations.sampling import position_targets
from universality.activations.spec import ExtractionSpec
from universality.base.errors import TapError
from universality.jobs.shards import load_task
from universality.models import catalogue, zoo
from universality.models.card import Tap

SIZE_PX = 17


class Small(nn.Module):
    """Two convolutions, one in-place ReLU called after each, and a tail that nothing needs to run."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.tail = nn.Conv2d(6, 2, 1)
        self.never = nn.Conv2d(6, 2, 1)
        self.flat = nn.Flatten()
        self.passes = 0
        self.shapes = []

    def forward(self, x):
        self.passes += 1
        self.shapes.append(tuple(x.shape))
        return self.flat(self.tail(self.relu(self.conv2(self.relu(self.conv1(x))))))


def tap_at(path, channels, size, **facts):
    stated = {
        "path": path,
        "activation": "post",
        "channels": channels,
        "size": size,
        "rf_px": 3,
        "stride_px": 1,
        "rf_start_px": 0.0,
        "relative_depth": 0.5,
    }
    return Tap.model_validate({**stated, **facts})


CONV1 = tap_at("conv1", 4, 17, activation="pre")
RELU1 = tap_at("relu", 4, 17, name="relu:0", call=0, calls=2)
CONV2 = tap_at("conv2", 6, 9, activation="pre", rf_px=5, stride_px=2)
RELU2 = tap_at("relu", 6, 9, name="relu:1", call=1, calls=2, rf_px=5, stride_px=2)
CONV2_INPUT = tap_at("conv2", 4, 17, name="conv2 input", side="input")
TAIL = tap_at("tail", 2, 9, activation="pre", rf_px=5, stride_px=2)
TAPS = (CONV1, RELU1, CONV2, RELU2, CONV2_INPUT)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().eval()


@pytest.fixture
def images():
    return np.random.default_rng(1).standard_normal((10, 3, SIZE_PX, SIZE_PX)).astype(np.float32)


def spec(reduction="mean", **values):
    return ExtractionSpec(**{"reduction": reduction, "batch_size": 4, **values})


def in_batches(images, size=4):
    return [images[start : start + size] for start in range(0, len(images), size)]


def full_maps(network, images):
    """Compute every tap's maps by the definition of the network, in float32, without hooks."""
    with torch.inference_mode():
        conv1 = network.conv1(torch.from_numpy(images))
        relu1 = conv1.clamp(min=0)
        conv2 = network.conv2(relu1)
    maps = {"conv1": conv1, "relu:0": relu1, "conv2": conv2, "relu:1": conv2.clamp(min=0), "conv2 input": relu1}
    return {name: values.double().numpy() for name, values in maps.items()}


def nearest(tap, position):
    distances = [abs(tap.rf_start_px + tap.stride_px * index - position) for index in range(tap.size)]
    return distances.index(min(distances))


def reduce_by_hand(maps, tap, chosen, size_px):
    """Loop over stimuli and places, as the words of the documentation say."""
    if chosen.reduction == "mean":
        return np.array([[plane.sum() / plane.size for plane in stimulus] for stimulus in maps])
    if chosen.reduction == "max":
        return np.array([[max(plane.ravel()) for plane in stimulus] for stimulus in maps])
    if chosen.reduction == "center":
        middle = nearest(tap, (size_px - 1) / 2)
        places = [i for i in range(tap.size) if abs(i - middle) <= chosen.center_radius]
        return np.array([[max(plane[y, x] for y in places for x in places) for plane in stimulus] for stimulus in maps])
    count = chosen.positions
    places = [nearest(tap, k * size_px / (count + 1) - 0.5) for k in range(1, count + 1)]
    return np.array([[[plane[y, x] for plane in stimulus] for y in places for x in places] for stimulus in maps])


REDUCTIONS = [
    {"reduction": "mean"},
    {"reduction": "max"},
    {"reduction": "center", "center_radius": 0},
    {"reduction": "center", "center_radius": 1},
    {"reduction": "center", "center_radius": 8},
    {"reduction": "positions", "positions": 1},
    {"reduction": "positions", "positions": 3},
    {"reduction": "positions", "positions": 5},
]


@pytest.mark.parametrize("chosen", REDUCTIONS, ids=str)
def test_every_tap_and_reduction_against_full_maps(network, images, chosen):
    """All taps in one pass, with a shorter last batch: 10 images in batches of 4."""
    asked = spec(**chosen)
    expected = full_maps(network, images)
    came = collect(extract(network, TAPS, in_batches(images), asked, SIZE_PX))
    assert list(came) == [tap.name for tap in TAPS]
    # The most that any tap is a sum of: both convolutions, and the mean over a map of 17 x 17.
    terms = network.conv1.weight[0].numel() + network.conv2.weight[0].numel() + SIZE_PX**2
    for tap in TAPS:
        by_hand = reduce_by_hand(expected[tap.name], tap, asked, SIZE_PX)
        assert came[tap.name].dtype == np.float32
        assert came[tap.name].shape == by_hand.shape
        slack = float32_slack(expected[tap.name], terms)
        np.testing.assert_allclose(came[tap.name], by_hand, rtol=0, atol=slack, err_msg=tap.name)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 9], ids=lambda size: f"{size}x{size}")
@pytest.mark.parametrize("chosen", REDUCTIONS, ids=str)
def test_reducer_on_even_and_odd_maps(size, chosen):
    maps = np.random.default_rng(size).standard_normal((3, 4, size, size))
    tap, size_px = tap_at("a", 4, size, stride_px=4, rf_start_px=1.5), 4 * size
    asked = spec(**chosen)
    came = reducer(tap, asked, size_px)(torch.from_numpy(maps)).numpy()
    np.testing.assert_allclose(came, reduce_by_hand(maps, tap, asked, size_px), rtol=1e-12)


def test_positions_are_row_first_and_every_unit_keeps_its_place():
    """A map that holds its own coordinates says which place came where."""
    rows, columns = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    maps = torch.stack([rows, columns])[None]
    tap = tap_at("a", 2, 7, stride_px=2, rf_start_px=0.5)
    came = reducer(tap, spec("positions", positions=3), 14)(maps)
    # Targets 3, 6.5 and 10 px; centres at 0.5, 2.5, 4.5, ... px: indices 1, 3 and 5.
    assert came.tolist() == [[[float(y), float(x)] for y in (1, 3, 5) for x in (1, 3, 5)]]


@given(count=st.integers(1, 32), size=st.integers(8, 600))
def test_position_targets_divide_the_side_evenly(count, size):
    targets = position_targets(count, size)
    edges = np.concatenate([[-0.5], targets, [size - 0.5]])  # the sides of the first and the last pixel
    np.testing.assert_allclose(np.diff(edges), size / (count + 1), rtol=1e-9)


def test_in_place_relu_does_not_reach_an_earlier_tap():
    """torchvision's AlexNet: features.4 overwrites what features.3 gave."""
    card = catalogue.card("torchvision/alexnet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        alexnet = zoo.build(card)
    assert alexnet.features[4].inplace
    size = card.preprocessing.size_px
    images = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        before = nn.functional.max_pool2d(alexnet.features[0](torch.from_numpy(images)).clamp(min=0), 3, 2)
        expected = alexnet.features[3](before).numpy()
    pre, post = card.tap("features.3"), card.tap("features.4")
    asked = spec("positions", positions=5, batch_size=2)
    came = collect(extract(alexnet, [pre, post], [images], asked, size))
    assert came["features.3"].min() < 0
    by_hand = reduce_by_hand(expected, pre, asked, size)
    slack = float32_slack(by_hand, sum(alexnet.features[layer].weight[0].numel() for layer in (0, 3)))
    np.testing.assert_allclose(came["features.3"], by_hand, rtol=0, atol=slack)
    np.testing.assert_allclose(came["features.4"], by_hand.clip(min=0), rtol=0, atol=slack)


def test_one_forward_pass_per_batch_for_all_taps(network, images):
    probe(network, TAPS, SIZE_PX)
    assert network.passes == 1
    list(extract(network, TAPS, in_batches(images), spec(), SIZE_PX))
    assert network.passes == 1 + 1 + 3  # one more probe, then ten images in batches of four


def test_every_pass_has_the_same_shape(network, images):
    list(extract(network, TAPS, in_batches(images), spec(), SIZE_PX))
    assert set(network.shapes[1:]) == {(4, 3, SIZE_PX, SIZE_PX)}


def test_stops_behind_the_deepest_tap(network, images):
    ran = []
    network.tail.register_forward_hook(lambda *_: ran.append("tail"))
    list(extract(network, (RELU2, CONV1), in_batches(images), spec(), SIZE_PX))
    assert ran == ["tail"], "only the probe runs the whole network"
    list(extract(network, (CONV1, TAIL), in_batches(images), spec(), SIZE_PX))
    assert len(ran) == 1 + 1 + 3


def test_the_last_tap_is_the_one_that_comes_last_not_the_one_named_last(network):
    assert probe(network, (RELU2, CONV1), SIZE_PX) == "relu:1"
    assert probe(network, (CONV2, CONV2_INPUT), SIZE_PX) == "conv2"
    assert probe(network, (RELU2, RELU1, CONV2), SIZE_PX) == "relu:1"


def test_two_taps_at_one_place_both_come(network, images):
    twin = CONV2.model_copy(update={"name": "twin"})
    came = collect(extract(network, (CONV2, twin), in_batches(images), spec(), SIZE_PX))
    np.testing.assert_array_equal(came["conv2"], came["twin"])


@pytest.mark.parametrize("reduction", ["mean", "max", "center", "positions"])
def test_float64_is_a_dtype_of_the_result(network, images, reduction):
    wide = collect(extract(network, TAPS, in_batches(images), spec(reduction, dtype="float64"), SIZE_PX))
    narrow = collect(extract(network, TAPS, in_batches(images), spec(reduction), SIZE_PX))
    for name in wide:
        assert wide[name].dtype == np.float64
        np.testing.assert_array_equal(wide[name].astype(np.float32), narrow[name])


def test_means_are_summed_in_float64():
    """A float32 sum of a large map loses digits; here it would lose the small values altogether."""
    maps = torch.full((1, 1, 64, 64), 1.0)
    maps[0, 0, 0, 0] = 2.0**25
    came = reducer(tap_at("a", 1, 64), spec(), 64)(maps)
    assert came.item() == (2.0**25 + 64 * 64 - 1) / 64**2


@pytest.mark.parametrize("reduction", ["mean", "max", "center", "positions"])
def test_results_do_not_depend_on_the_batch_size(network, images, reduction):
    whole = collect(extract(network, TAPS, [images], spec(reduction, batch_size=10), SIZE_PX))
    for size in (1, 3, 4, 16):
        parts = extract(network, TAPS, in_batches(images, size), spec(reduction, batch_size=size), SIZE_PX)
        for name, values in collect(parts).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-7, err_msg=f"{name}, {size} a batch")


def test_results_of_one_batch_size_do_not_depend_on_the_neighbours(network, images):
    whole = collect(extract(network, TAPS, in_batches(images), spec(), SIZE_PX))
    alone = collect(extract(network, TAPS, [images[8:]], spec(), SIZE_PX))
    for name in whole:
        np.testing.assert_array_equal(alone[name], whole[name][8:])


def hook_count(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_hooks_are_gone_after_the_end(network, images):
    list(extract(network, TAPS, in_batches(images), spec(), SIZE_PX))
    assert hook_count(network) == 0


def test_hooks_are_gone_after_closing_the_generator(network, images):
    running = extract(network, TAPS, in_batches(images), spec(), SIZE_PX)
    next(running)
    assert hook_count(network) > 0
    running.close()
    assert hook_count(network) == 0


def test_hooks_are_gone_when_the_generator_is_dropped(network, images):
    running = extract(network, TAPS, in_batches(images), spec(), SIZE_PX)
    next(running)
    del running
    gc.collect()
    assert hook_count(network) == 0


def test_hooks_are_gone_after_an_error_in_the_batches(network, images):
    def broken():
        yield images[:4]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(extract(network, TAPS, broken(), spec(), SIZE_PX))
    assert hook_count(network) == 0


def test_hooks_are_gone_after_an_error_in_the_network(network, images):
    with pytest.raises(RuntimeError):
        list(extract(network, TAPS, [images[:, :2]], spec(), SIZE_PX))
    assert hook_count(network) == 0


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        (tap_at("conv3", 4, 17), "no module 'conv3'; did you mean 'conv"),
        (tap_at("never", 2, 9), "module 'never' is never called in a forward pass; choose another module"),
        (
            tap_at("relu", 4, 17),
            "module 'relu' is called 2 times in a forward pass, its card declares 1; set calls = 2",
        ),
        (tap_at("relu", 4, 17, call=2, calls=3), "is called 2 times in a forward pass, its card declares 3"),
        (tap_at("conv1", 4, 17, calls=2), "is called 1 times in a forward pass, its card declares 2"),
        (tap_at("conv1", 5, 17), r"maps \(channels, height, width\) of \(4, 17, 17\), its card states \(5, 17, 17\)"),
        (tap_at("conv2", 6, 8), r"of \(6, 9, 9\), its card states \(6, 8, 8\)"),
        (tap_at("relu", 4, 17, call=1, calls=2), r"of \(6, 9, 9\), its card states \(4, 17, 17\)"),
        (tap_at("flat", 1, 1), "gives a tensor of 2 dimensions, expected feature maps"),
    ],
)
def test_tap_that_contradicts_the_network_is_refused(network, images, tap, message):
    with pytest.raises(TapError, match=message) as caught:
        list(extract(network, [CONV1.model_copy(update={"name": "good"}), tap], [images], spec(), SIZE_PX))
    assert "\n" not in str(caught.value)
    assert hook_count(network) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_no_numbers_are_refused(network, images, value):
    images[9, 0, 8, 8] = value
    running = extract(network, (CONV1,), in_batches(images), spec("center"), SIZE_PX)
    next(running)
    next(running)
    with pytest.raises(TapError, match="tap 'conv1' gave NaN or infinite activations"):
        next(running)
    assert hook_count(network) == 0


def test_nan_of_the_padding_stays_out(network, images):
    """A short batch is padded with zeros; what the network gives for them is dropped."""
    with torch.no_grad():
        network.conv1.bias.zero_()

    class InverseSum(nn.Module):
        def forward(self, x):
            return x / x.abs().sum((1, 2, 3), keepdim=True)

    network.relu = InverseSum()
    came = collect(extract(network, (RELU1,), [images[:2]], spec(), SIZE_PX))
    assert came["relu:0"].shape == (2, 4)
    assert np.isfinite(came["relu:0"]).all()


def test_yielded_arrays_are_not_overwritten_by_the_next_batch(network, images):
    running = extract(network, TAPS, in_batches(images), spec("center"), SIZE_PX)
    first = next(running)
    kept = {name: values.copy() for name, values in first.items()}
    next(running)
    for name, values in first.items():
        np.testing.assert_array_equal(values, kept[name])


def test_extraction_is_lazy(network, images):
    drawn = []

    def batches():
        for index, batch in enumerate(in_batches(images)):
            drawn.append(index)
            yield batch

    running = extract(network, TAPS, batches(), spec(), SIZE_PX)
    assert drawn == []
    next(running)
    assert drawn == [0]
    running.close()


def test_nothing_needs_gradients_afterwards(network, images):
    list(extract(network, TAPS, in_batches(images), spec(), SIZE_PX))
    network(torch.from_numpy(images)).sum().backward()
    assert network.conv1.weight.grad is not None


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 12),
    radius=st.integers(0, 8),
    start=st.integers(-20, 20),
    stride=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_center_is_the_maximum_near_the_middle(size, radius, start, stride, seed):
    maps = np.random.default_rng(seed).standard_normal((2, 3, size, size))
    tap = tap_at("a", 3, size, stride_px=stride, rf_start_px=start / 2)
    asked = spec("center", center_radius=radius)
    came = reducer(tap, asked, 32)(torch.from_numpy(maps)).numpy()
    np.testing.assert_array_equal(came, reduce_by_hand(maps, tap, asked, 32))


def test_collect_joins_batches_in_order():
    parts = [{"a": np.full((2, 1), 0.0)}, {"a": np.full((1, 1), 1.0)}]
    assert collect(parts)["a"].ravel().tolist() == [0.0, 0.0, 1.0]


def channels_last(module):
    return all(t.is_contiguous(memory_format=torch.channels_last) for t in module.parameters() if t.dim() == 4)


def test_a_network_that_is_laid_out_is_not_touched(monkeypatch):
    """Threads share its weights, and to lay them out while another one convolves ends in wrong sizes or a crash."""
    network = Small().eval()
    assert not channels_last(network)
    images = np.random.default_rng(0).standard_normal((2, 3, SIZE_PX, SIZE_PX)).astype(np.float32)
    first = collect(extract(network, [CONV2], [images], spec("mean"), SIZE_PX))
    assert channels_last(network)
    monkeypatch.setattr(nn.Module, "_apply", None)  # what every change of all weights goes through
    again = collect(extract(network, [CONV2], [images], spec("mean"), SIZE_PX))
    np.testing.assert_array_equal(first["conv2"], again["conv2"])


def test_a_loaded_network_is_laid_out_before_threads_share_it(small, tmp_path):
    for network in universality.plan(small.job, tmp_path / "run", tmp_path / "store").networks[:2]:
        loaded = load_task(network)
        # Dask may send it to another worker.
        for module in (loaded.module, loaded.shared(), pickle.loads(pickle.dumps(loaded)).module):
            assert channels_last(module)


class Kinds(nn.Module):
    """A map with channels last, tokens behind a class token and a register, and two vectors, all of one convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.last, self.tokens, self.flat, self.wide = (
            nn.Conv2d(3, 5, 4, 4),
            *(nn.Identity() for _ in range(4)),
        )
        self.head = nn.Linear(2, 5)

    def forward(self, x):
        maps = self.conv(x)
        self.last(maps.permute(0, 2, 3, 1))
        tokens = maps.flatten(2).transpose(1, 2)
        self.tokens(torch.cat([100 + tokens[:, :2], tokens], 1))
        self.wide({"scales": [maps, maps[:, :2].mean((2, 3), keepdim=True)]})
        return self.head(self.flat(maps[:, :2].mean((2, 3))))


KINDS = {
    "last": tap_at("last", 5, 4, layout="channels_last", rf_px=4, stride_px=4, rf_start_px=1.5),
    "tokens": tap_at(
        "tokens", 5, 4, kind="tokens", layout="channels_last", prefix=2, rf_px=None, stride_px=4, rf_start_px=1.5
    ),
    "flat": tap_at("flat", 2, 1, kind="vector", rf_px=None, stride_px=None, rf_start_px=None),
    "wide": tap_at("wide", 2, 1, item="scales.1", kind="vector", rf_px=None, stride_px=None, rf_start_px=None),
    "map": tap_at("wide", 5, 4, name="map", item="scales.0", rf_px=4, stride_px=4, rf_start_px=1.5),
}


def kinds(height=16, width=16, channels=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Kinds().eval()
        network.conv = nn.Conv2d(channels, 5, 4, 4)
    return network, np.random.default_rng(2).standard_normal((5, channels, height, width)).astype(np.float32)


@pytest.mark.parametrize("chosen", REDUCTIONS, ids=str)
def test_maps_with_channels_last_and_tokens_are_reduced_as_the_map_that_they_hold(chosen):
    network, images = kinds()
    taps = [KINDS["last"], KINDS["tokens"], KINDS["map"]]
    came = collect(extract(network, taps, in_batches(images), spec(**chosen), 16))
    with torch.inference_mode():
        maps = network.conv(torch.from_numpy(images)).double().numpy()
    expected = reduce_by_hand(maps, KINDS["map"], spec(**chosen), 16)
    for tap in taps:
        np.testing.assert_allclose(came[tap.name], expected, atol=1e-6, rtol=0, err_msg=tap.name)


@pytest.mark.parametrize("chosen", [c for c in REDUCTIONS if c["reduction"] != "positions"], ids=str)
def test_a_vector_is_recorded_as_it_is(chosen):
    network, images = kinds()
    came = collect(extract(network, [KINDS["flat"], KINDS["wide"]], in_batches(images), spec(**chosen), 16))
    with torch.inference_mode():
        expected = network.conv(torch.from_numpy(images))[:, :2].mean((2, 3)).numpy()
    for values in came.values():
        np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0)


def test_places_of_an_input_that_is_not_square():
    """Scenes fill the middle square: of 16 x 24 px, columns 4 to 19, so the middle columns of the map are its middle ones."""
    network, images = kinds(16, 24)
    tap = KINDS["map"].model_copy(update={"width": 6})
    came = collect(extract(network, [tap], in_batches(images), spec("positions", positions=3), (3, 16, 24)))["map"]
    with torch.inference_mode():
        maps = network.conv(torch.from_numpy(images)).numpy()
    # Places at 1/4, 2/4 and 3/4 of 16 px: 3.5, 7.5 and 11.5, halfway between positions, of which the lower counts.
    rows, columns = (0, 1, 2), (1, 2, 3)
    np.testing.assert_allclose(came, np.stack([maps[:, :, y, x] for y in rows for x in columns], 1), atol=1e-6)
    with pytest.raises(
        TapError, match=r"gives maps \(channels, height, width\) of \(5, 4, 6\), its card states \(5, 4, 4\)"
    ):
        probe(network, [KINDS["map"]], (3, 16, 24))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prefix": 1}, r"a tensor of 3 dimensions \(1, 18, 5\), expected tokens"),
        ({"size": 5}, r"expected tokens \(stimulus, token, channel\) with 5 units and 5 x 5 tokens"),
        ({"kind": "map", "prefix": 0}, "a tensor of 3 dimensions, expected feature maps"),
    ],
)
def test_tokens_that_are_not_as_stated_are_refused(wrong, said):
    network, _ = kinds()
    with pytest.raises(TapError, match=said):
        probe(network, [KINDS["tokens"].model_copy(update=wrong)], 16)


def test_windows_of_an_image_are_no_images():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 2, 4, 4), nn.Identity()

        def forward(self, x):
            return self.out(self.conv(x).unflatten(2, (2, 2)).permute(0, 2, 1, 3, 4).flatten(0, 1))

    tap = tap_at("out", 2, 2, width=4, stride_px=4)
    with pytest.raises(TapError, match="tap 'out' gives 2 maps for one image, expected one"):
        probe(Windows().eval(), [tap], 16)
