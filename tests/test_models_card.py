"""Every card of `model_zoo/` against the network it describes, by oracles that share nothing with the package.

A NaN in the image reaches exactly the units that see its pixel: convolutions, maxima, rectifiers and sums all hand it
on, whatever the weights. So one forward pass of the real network with random weights measures the receptive field,
stride and offset of every tap at every position, with the network's own padding.
"""

from functools import cached_property

import built
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from universality.activations import extraction
from universality.base.errors import TapError
from universality.base.paths import resource
from universality.models import catalogue, hooks

PLACES = sorted(path.relative_to(resource("model_zoo")) for path in resource("model_zoo").glob("*/*.toml"))
IDS = [place.with_suffix("").as_posix() for place in PLACES]
TAPS = [(model_id, tap) for model_id in IDS for tap in catalogue.card(model_id).taps]
ACCEPTED_PX = 64  # the smallest square that every network's pools accept
STRIP_PX = 32  # width of the images that measure along the height: the narrowest in which every tap still fires
MARGIN_PX = 256  # a multiple of every stride, so that padding which depends on the size stays as at the card's size
SMALLER_PX = 96  # likewise a multiple: how much smaller the images are in which the gradients of small fields are taken


def _told_apart(model_id):
    """What the tests of networks without their weights see of a card: cards that share it, as seeds do, share its outcome."""
    card = catalogue.card(model_id)
    return card.architecture_digest(), card.preprocessing.shape, card.taps


ARCHITECTURES = list({_told_apart(model_id): model_id for model_id in reversed(IDS)}.values())[::-1]


class Network:
    """A card's network: as a shell, and with weights if what it computes has not been measured yet.

    timm and torchvision build some networks that compute the same; what is measured of one then holds for the other, and is
    compared with either card.
    """

    def __init__(self, card, measured):
        self.card, self._measured = card, measured

    @cached_property
    def shell(self):
        return built.shell(self.card)

    @cached_property
    def computation(self):
        return built.computation(self.shell, self.card)

    @cached_property
    def weighed(self):
        network = built.network(self.card)
        open_residual_branches(network)
        return network

    def once(self, measure, *asked):
        """What `measure(network, taps, *asked)` gives, of the first network that computes this."""
        taps = [(tap.name, tap.path, tap.call, tap.side) for tap in self.card.taps]
        key = (measure, self.computation, tuple(taps), *asked)
        if key not in self._measured:
            self._measured[key] = measure(self.weighed, self.card.taps, *asked)
        return self._measured[key]


@pytest.fixture(scope="module")
def measured():
    return {}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def card(request):
    return catalogue.card(request.param)


@pytest.fixture(scope="module")
def network(card, measured):
    return Network(card, measured)


def open_residual_branches(network):
    # Some blocks start with a last normalisation of 0: the branch is shut and passes no gradient.
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.numel() <= built.CLASSIFIER and not weight.any():
            nn.init.ones_(weight)


def test_networks_that_compute_the_same_are_known_and_others_told_from_them():
    def computed(model_id, change=lambda network: None):
        card = catalogue.card(model_id)
        network = built.shell(card)
        change(network)
        return built.computation(network, card)

    one = computed("torchvision/vgg16")
    assert one == computed("timm/vgg16") != computed("timm/vgg19")
    for change in (
        lambda network: setattr(network.features[0], "padding", (0, 0)),
        lambda network: setattr(network.features[2], "dilation", (2, 2)),
        lambda network: setattr(network.features[4], "ceil_mode", True),
        lambda network: network.features[28].register_forward_pre_hook(lambda _, args: (args[0] + args[0],)),
    ):
        assert computed("torchvision/vgg16", change) != one


def test_the_cards_of_other_peoples_networks_are_there():
    assert len([model for model in IDS if not model.startswith(("pocket/", "handwritten/"))]) == 13
    assert list(catalogue.cards()) == IDS


@pytest.mark.parametrize("model_id", IDS)
def test_id_is_the_place_and_the_facts_are_there(model_id):
    card = catalogue.card(model_id)
    assert card.id == model_id
    assert card.source == model_id.split("/")[0]
    assert card.licence and card.citation and card.training_set
    # The weights of a hand-written network are computed, and known by their hash.
    computed = card.library == "handwritten" and card.weights.state_dict_sha256
    assert card.weights.url or card.weights.package_file or computed


@pytest.mark.parametrize(
    ("model_id", "tap", "rf_px"),
    [
        ("torchvision/alexnet", "features.1", 11),  # conv1: its kernel
        ("torchvision/alexnet", "features.4", 51),
        ("torchvision/alexnet", "features.7", 99),
        ("torchvision/alexnet", "features.9", 131),
        ("torchvision/alexnet", "features.11", 163),  # conv5
        ("torchvision/vgg16", "features.29", 196),  # conv5_3
        ("timm/vgg16", "features.29", 196),
        ("torchvision/resnet50", "layer4.2", 427),  # stride in the 3x3 convolution (v1.5)
        ("timm/resnet50", "layer4.2", 427),
        ("timm/resnet18", "layer4.1", 435),
    ],
)
def test_published_receptive_field(model_id, tap, rf_px):
    assert catalogue.card(model_id).tap(tap).rf_px == rf_px


def test_probe_agrees_with_every_tap(card, network):
    """Path, calls, call, channels and map size, in one full forward pass."""
    assert extraction.probe(network.shell, card.taps, card.preprocessing.size_px) in [tap.name for tap in card.taps]


@pytest.mark.parametrize("model_id", ["torchvision/alexnet", "timm/resnet18", "pocket/inceptionv1-focus-s0"])
def test_probe_refuses_each_wrong_fact(model_id):
    card = catalogue.card(model_id)
    network, tap, size = built.shell(card), card.taps[-1], card.preprocessing.size_px
    for wrong in (
        {"channels": tap.channels + 1},
        {"size": tap.size + 1},
        {"calls": tap.calls + 1},
        {"path": "nowhere"},
    ):
        with pytest.raises(TapError):
            extraction.probe(network, [tap.model_copy(update=wrong)], size)


class CountWeightOperations(TorchDispatchMode):
    """Counts convolutions and matrix products where they are computed, whatever module asks for them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("convolution", "linear", "addmm", "mm")
        return func(*args, **(kwargs or {}))


def test_relative_depth_counts_the_operations_that_ran(card, network):
    counter, at, calls = CountWeightOperations(), {}, {}
    modules = dict(network.shell.named_modules())

    def note(path):
        call = calls[path] = calls.get(path, -1) + 1
        at[path, call] = counter.count

    handles = [modules[p].register_forward_hook(lambda *_, p=p: note(p)) for p in {tap.path for tap in card.taps}]
    try:
        with torch.no_grad(), counter:
            network.shell(
                torch.zeros(1, 3, ACCEPTED_PX, ACCEPTED_PX, device="meta")
            )  # the same operations as in a larger image
    finally:
        for handle in handles:
            handle.remove()
    measured = {tap.name: at[tap.path, tap.call] / counter.count for tap in card.taps}
    stated = {tap.name: tap.relative_depth for tap in card.taps}
    assert stated == pytest.approx(measured, abs=6e-5)


def footprints(network, taps, height, width, rows=(), columns=()):
    """Return, by tap name, which (image, y, x) of the map the NaN of each row or column of the image reached."""
    found, images = {}, image_with_nan(height, width, rows, columns)

    def note(tap, maps):
        found[tap.name] = maps.isnan().any(1).numpy()
        if len(found) == len(taps):
            raise hooks.StopForward

    with torch.inference_mode(), hooks.watching(network, taps, note):
        hooks.forward(network, images)
    return found


def stated_footprint(tap, length, pixels):
    """Return which of `length` positions see each pixel, by the card."""
    centres = tap.rf_start_px + tap.stride_px * np.arange(length)
    return np.abs(centres - np.asarray(pixels)[:, None]) <= (tap.rf_px - 1) / 2


def image_with_nan(height, width, rows=(), columns=()):
    images = torch.randn(len(rows) + len(columns), 3, height, width, generator=torch.Generator().manual_seed(1))
    for image, row in zip(images, rows, strict=False):
        image[:, row, :] = torch.nan
    for image, column in zip(images[len(rows) :], columns, strict=True):
        image[:, :, column] = torch.nan
    return images


def test_receptive_fields_at_the_size_of_the_card(card, network):
    size = card.preprocessing.size_px
    rows = (0, size // 3, size // 2, size // 2 + 1)
    seen = network.once(footprints, size, STRIP_PX, rows)
    for tap in card.taps:
        assert seen[tap.name].shape[1] == tap.size
        np.testing.assert_array_equal(
            seen[tap.name].any(2), stated_footprint(tap, tap.size, rows), err_msg=f"{card.id} {tap.name}"
        )


def ends(tap, length):
    """Return the first and last pixel of one field in the middle, and the pixels just outside it."""
    centre = tap.rf_start_px + tap.stride_px * round((length / 2 - tap.rf_start_px) / tap.stride_px)
    first, last = (int(centre + sign * (tap.rf_px - 1) / 2) for sign in (-1, 1))
    return first - 1, first, last, last + 1


def telling(taps, length):
    """Return few pixels near the middle that show both ends of the fields of every tap to the pixel.

    A pixel tells of a tap what every pixel tells that lies whole strides away; so one pixel serves many taps.
    """
    chosen = []
    for tap in sorted(taps, key=lambda tap: -tap.stride_px):
        for end in ends(tap, length):
            if not any((pixel - end) % tap.stride_px == 0 for pixel in chosen):
                chosen.append(end + tap.stride_px * round((length / 2 - end) / tap.stride_px))
    return chosen


@pytest.mark.parametrize("model_id", IDS)
def test_the_pixels_that_are_looked_at_tell_every_wrong_field_from_the_right_one(model_id):
    taps = catalogue.card(model_id).taps
    length = 4 * MARGIN_PX
    for tap in taps:
        for wrong in (
            {"rf_px": tap.rf_px + 2},
            {"rf_px": tap.rf_px - 2},
            {"rf_start_px": tap.rf_start_px + 1},
            {"rf_start_px": tap.rf_start_px - 1},
            {"rf_start_px": tap.rf_start_px + 0.5, "rf_px": tap.rf_px + 1},  # one end only
            {"rf_start_px": tap.rf_start_px - 0.5, "rf_px": tap.rf_px - 1},
            {"stride_px": tap.stride_px + 1},
        ):
            stated = tap.model_copy(update=wrong)
            pixels = telling([stated if other is tap else other for other in taps], length)
            places = length // tap.stride_px
            seen, said = (stated_footprint(t, places, pixels) for t in (tap, stated))
            assert (seen != said).any(), (tap.name, wrong)


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_receptive_fields_where_whole_fields_fit(card, network, side):
    """In a longer image no field touches the border, so that both its ends show to the pixel, the stride and the offset."""
    largest = max(tap.rf_px for tap in card.taps)
    length = card.preprocessing.size_px + MARGIN_PX
    while length < 2.2 * largest:
        length += MARGIN_PX
    pixels = tuple(telling(card.taps, length))
    asked = (length, STRIP_PX, pixels) if side == "rows" else (STRIP_PX, length, (), pixels)
    seen = network.once(footprints, *asked)
    for tap in card.taps:
        came = seen[tap.name].any(2 if side == "rows" else 1)
        assert not came.all(1).any(), "the image is too short to show the ends of this field"
        np.testing.assert_array_equal(
            came, stated_footprint(tap, came.shape[1], pixels), err_msg=f"{card.id} {tap.name}"
        )


def sequential_geometry(features, upto):
    """Receptive field, stride and first centre after module `upto`, by the textbook recursion."""
    field, stride, start = 1, 1, 0.0
    for name, module in features.named_children():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            kernel, step, pad = (
                value[0] if isinstance(value, tuple) else value
                for value in (module.kernel_size, module.stride, module.padding)
            )
            field += (kernel - 1) * stride
            start += ((kernel - 1) / 2 - pad) * stride
            stride *= step
        if name == upto:
            return field, stride, start
    raise AssertionError(upto)


def test_sequential_networks_follow_the_recursion(card, network):
    if card.architecture not in ("alexnet", "vgg16", "vgg19"):
        pytest.skip("not a sequence of modules")
    for tap in card.taps:
        stated = (tap.rf_px, tap.stride_px, tap.rf_start_px)
        assert stated == sequential_geometry(network.shell.features, tap.path.removeprefix("features.")), tap.name


def gradient_supports(network, taps, size, names):
    """Return, by name of those taps, (first row, last row, first column, last column) that the centre unit's gradient reaches."""
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3)).requires_grad_()
    taps = [tap for tap in taps if tap.name in names]
    caught = {}
    with hooks.watching(network, taps, lambda tap, maps: caught.update({tap.name: maps.clone()})):
        hooks.forward(network, images)
    return {tap.name: gradient_box(caught[tap.name], tap.center_index(images.shape[-1]), images) for tap in taps}


def gradient_box(maps, index, images):
    weights = torch.randn(maps.shape[:2], generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((maps[:, :, index, index] * weights).sum(), images, retain_graph=True)
    seen = (gradient != 0).any(0).any(0)
    rows, columns = (torch.nonzero(seen.any(axis)).ravel() for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def stated_box(tap, size):
    """Return the first and last pixel of the centre unit's field by the card, which may lie outside the image."""
    centre = tap.rf_start_px + tap.stride_px * tap.center_index(size)
    return tuple(int(centre + sign * (tap.rf_px - 1) / 2) for sign in (-1, 1))


def test_real_gradient_of_the_centre_unit_fills_the_stated_field(card, network):
    """Not a copy made linear: rectifiers and maxima as they are, so only many channels fill a field to its ends.

    A field larger than the image shows as the whole image here; its ends show above, in a longer one. Fields that fit into
    a smaller image are looked at there, where a pass backwards costs a third.
    """
    whole = card.preprocessing.size_px
    small = max(whole - SMALLER_PX, 0)
    fits = {
        tap.name: stated_box(tap, small)[0] >= 0 and stated_box(tap, small)[1] < small for tap in card.taps if small
    }
    for size in (small, whole):
        taps = [tap for tap in card.taps if fits.get(tap.name, False) == (size == small)]
        if not taps:
            continue
        boxes = network.once(gradient_supports, size, tuple(tap.name for tap in taps))
        for tap in taps:
            low, high = stated_box(tap, size)
            low, high = max(low, 0), min(high, size - 1)
            assert boxes[tap.name] == (low, high, low, high), f"{card.id} {tap.name}"


@pytest.mark.parametrize(("model_id", "tap"), TAPS, ids=[f"{model_id}-{tap.name}" for model_id, tap in TAPS])
def test_centre_unit_is_the_one_nearest_the_middle(model_id, tap):
    size = catalogue.card(model_id).preprocessing.size_px
    centres = tap.rf_start_px + tap.stride_px * np.arange(tap.size)
    assert tap.center_index(size) == np.argmin(np.abs(centres - (size - 1) / 2))  # argmin: the lower of two
