"""A card for a network of one's own is one command, and states what the network does."""

import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from universality.base.errors import CardError, TapError, WeightsError
from universality.base.paths import OWN_CARDS_VARIABLE, own_cards, resource
from universality.cli import app
from universality.models import catalogue, drafting, weight_files, zoo
from universality.models.card import read_card
from universality.models.drafting import Asked, draft

VGG = resource("data/pocket_zoo") / "vgg-focus-s0.safetensors"
OWN_VGG = Asked(
    "own/vgg", "pocket", "vgg", {"n_classes": 12}, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), weights=VGG
)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv(OWN_CARDS_VARIABLE, str(tmp_path / "cards"))
    monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(tmp_path / "weights"))
    return tmp_path


def with_taps(asked, *taps):
    return Asked(**{**vars(asked), "taps": taps})


@pytest.mark.usefixtures("folders")
def test_named_taps_are_those_of_the_hand_checked_card():
    shipped = catalogue.card("pocket/vgg-focus-s0")
    paths = [tap.path for tap in shipped.taps]
    assert draft(with_taps(OWN_VGG, *paths)).taps == shipped.taps


@pytest.mark.usefixtures("folders")
def test_preprocessing_and_weights_of_a_library_are_those_of_its_card():
    """AlexNet's published preprocessing and the address of its checkpoint stand in the shipped card."""
    shipped = catalogue.card("torchvision/alexnet")
    asked = Asked("own/alexnet", "torchvision", "alexnet", taps=("features.3",))
    drafted = draft(asked)
    assert drafted.preprocessing == shipped.preprocessing
    assert drafted.taps == (shipped.tap("features.3"),)  # pre-activation, though the next ReLU works in place
    assert drafted.source == "file"


@pytest.mark.usefixtures("folders")
def test_a_source_keeps_its_address(monkeypatch):
    monkeypatch.setattr(catalogue, "cards", dict)
    drafted = draft(Asked("torchvision/alexnet", taps=("features.3",)))
    monkeypatch.undo()
    shipped = catalogue.card("torchvision/alexnet")
    assert (drafted.source, drafted.weights) == (shipped.source, shipped.weights)


@pytest.mark.usefixtures("folders")
def test_chosen_taps_are_even_in_depth_and_true():
    card = draft(OWN_VGG)
    depths = [tap.relative_depth for tap in card.taps]
    assert depths == sorted(set(depths))
    assert len(depths) >= 4
    assert depths[0] < 0.35 and 0.6 < depths[-1] < 1
    from universality.activations import extraction

    assert extraction.probe(zoo.build(card), card.taps, card.preprocessing.size_px)


def test_written_card_and_weights_are_read_again(folders):
    card = draft(OWN_VGG)
    path = drafting.write(card, VGG)
    assert read_card(path) == card
    assert catalogue.card("own/vgg") == card
    network = zoo.pretrained(card)
    assert (
        zoo.state_dict_sha256(network.state_dict()) == catalogue.card("pocket/vgg-focus-s0").weights.state_dict_sha256
    )
    with pytest.raises(CardError, match="has a card already"):
        draft(OWN_VGG)
    with pytest.raises(CardError, match="exists already"):
        drafting.write(card, VGG)


def test_a_weights_file_is_never_overwritten(folders):
    place = weight_files.weights_folder() / "own" / "vgg.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(WeightsError, match="exists already"):
        drafting.write(draft(OWN_VGG), VGG)
    assert place.read_bytes() == b"mine"
    assert not own_cards().exists() or not list(own_cards().rglob("*.toml"))


def test_own_card_with_an_id_of_the_package_is_refused(folders):
    place = own_cards() / "pocket" / "vgg-focus-s0.toml"
    place.parent.mkdir(parents=True)
    shutil.copyfile(resource("model_zoo") / "pocket" / "vgg-focus-s0.toml", place)
    with pytest.raises(CardError, match="has the id of a card of the package"):
        catalogue.cards()


class Scaled(torch.nn.Module):
    """A convolution and a residual block whose branch begins with a scale of its own."""

    def __init__(self, scale=1e-6, activation=torch.nn.ReLU):
        super().__init__()
        self.stem, self.block = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Sequential(Branch(scale, activation))
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))


class Branch(torch.nn.Module):
    def __init__(self, scale, activation):
        super().__init__()
        self.conv, self.act, self.out = torch.nn.Conv2d(8, 8, 3, 1, 1), activation(), torch.nn.Conv2d(8, 8, 1)
        self.gamma = torch.nn.Parameter(torch.full((8, 1, 1), float(scale)))

    def forward(self, x):
        return x + self.gamma * self.out(self.act(self.conv(x)))


def natural(preprocessing):
    return np.random.default_rng(0).standard_normal((4, *preprocessing.shape)).astype(np.float32)


def built_by(monkeypatch, name, networks):
    """Have the pocket zoo's library build one of `networks`, chosen by the value of the argument `name`."""

    def build(card):
        unknown = card.kwargs.keys() - {name}
        if unknown:
            raise CardError(f"unexpected argument {unknown}")
        return networks[card.kwargs.get(name)]().eval()

    monkeypatch.setattr(zoo, "build", build)


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("name", ["ls_init_value", "layer_scale", "init_values"])
def test_a_void_twin_is_mended_by_the_librarys_own_argument(monkeypatch, name):
    built_by(monkeypatch, name, {None: Scaled, 1.0: lambda: Scaled(1.0)})
    card = draft(Asked("own/net", "pocket", "vgg", size_px=16), natural)
    assert card.kwargs == {name: 1.0} and card.void_twin == ""
    assert (
        f"open from the start ({name} = 1.0)" in card.note
        and "1 blocks of an untrained twin hand on their input" in card.note
    )


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    "other", [Scaled, lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))], ids=["void", "other weights"]
)
def test_a_void_twin_that_no_argument_mends_is_said(monkeypatch, other):
    """An argument that leaves the twin void, or leaves out the scale itself so that no checkpoint would fit, mends nothing."""
    built_by(monkeypatch, "ls_init_value", {None: Scaled, 1.0: other})
    card = draft(Asked("own/net", "pocket", "vgg", size_px=16), natural)
    assert card.kwargs == {} and card.note == ""
    assert card.void_twin.startswith("Of an untrained twin 1 of 1 blocks (Branch) with 75% of the weights hand on")


@pytest.mark.usefixtures("folders")
def test_an_ordinary_twin_is_left_alone(monkeypatch):
    built_by(monkeypatch, "ls_init_value", {None: lambda: Scaled(1.0)})
    card = draft(Asked("own/net", "pocket", "vgg", size_px=16), natural)
    assert (card.kwargs, card.note, card.void_twin) == ({}, "", "")


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("library", "architecture", "taps", "kind", "field"),
    [
        ("timm", "test_vit", {f"blocks.{i}.mlp.act" for i in range(6)}, "tokens", False),
        ("timm", "test_efficientnet", None, "map", True),
        ("timm", "test_convnext", None, "map", True),
        ("timm", "test_nfnet", None, "map", True),
    ],
)
def test_chosen_taps_of_other_architectures(library, architecture, taps, kind, field):
    """Behind the nonlinearity, no gate and nothing that is only handed on; the network itself gives what the card states."""
    from universality.activations import extraction

    card = draft(Asked("own/net", library, architecture, size_px=64))
    assert {tap.kind for tap in card.taps} == {kind} and {not tap.whole_image for tap in card.taps} == {field}
    assert {tap.activation for tap in card.taps} == {"post"} and len(card.taps) >= 3
    if taps:
        assert {tap.path for tap in card.taps} == taps
    network = zoo.build(card)
    extraction.probe(network, card.taps, card.preprocessing.shape)
    for tap in card.taps:
        module = network.get_submodule(tap.path)
        assert (
            not isinstance(module, (torch.nn.Identity, torch.nn.Dropout, torch.nn.Sigmoid)) and ".se." not in tap.path
        )


@pytest.mark.usefixtures("folders")
def test_gated_units_are_recorded_where_they_are_handed_on():
    card = draft(Asked("own/net", "timm", "eva02_tiny_patch14_224", {"depth": 2}, size_px=56))
    assert {(tap.path.split(".")[-1], tap.side, tap.name.split(":")[-1]) for tap in card.taps} == {
        ("fc2", "input", "input")
    }


@pytest.mark.usefixtures("folders")
def test_a_network_of_one_size_is_built_for_the_size_that_is_asked_for():
    card = draft(Asked("own/net", "timm", "vit_tiny_patch16_224", {"depth": 2}, size_px=48, width_px=64))
    assert card.kwargs == {"depth": 2, "img_size": (48, 64)}
    assert {(tap.size, tap.width, tap.prefix) for tap in card.taps} == {(3, 4, 1)}
    assert read_card(drafting.write(card)) == card


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(("count", "mean"), [(1, (0.5,)), (4, (0.5, 0.5, 0.5, 0.0))])
def test_other_numbers_of_channels(count, mean):
    card = draft(Asked("own/net", "timm", "test_resnet", {"in_chans": count}, size_px=64))
    assert card.preprocessing.mean == pytest.approx(mean) and card.preprocessing.shape == (count, 64, 64)
    assert "three channels" in card.preprocessing.note


@pytest.mark.usefixtures("folders")
def test_all_tensors_of_a_module_and_vectors_can_be_named():
    said = []
    asked = Asked(
        "own/net", "timm", "test_resnet", {"features_only": True}, ("output", "layer1", "output[1]"), size_px=64
    )
    card = draft(asked, say=said.append)
    assert [tap.name for tap in card.taps] == [*(f"output[{i}]" for i in range(5)), "layer1"]
    assert [tap.size for tap in card.taps] == [32, 16, 8, 4, 2, 16]
    vector = draft(Asked("own/vgg", "torchvision", "vgg11", taps=("classifier.1",), size_px=64)).taps[0]
    assert (vector.kind, vector.channels, vector.activation) == ("vector", 4096, "post")


@pytest.mark.usefixtures("folders")
def test_what_cannot_be_measured_is_said_once_and_not_tried_again(monkeypatch):
    monkeypatch.setattr(drafting, "MOST_SECONDS", 0.0)
    said = []
    with pytest.raises(CardError, match="no module gives maps or tokens"):
        draft(OWN_VGG, say=said.append)
    left_out = [text for text in said if text.startswith("left out")]
    assert len(left_out) == len(set(left_out)) == 6 and "not measured in the time given" in left_out[0]


@pytest.mark.parametrize(
    ("text", "sides"), [("", (None, None)), ("224", (224, None)), ("128x64", (128, 64)), ("64x64", (64, None))]
)
def test_sides(text, sides):
    assert drafting.sides("--size", text) == sides


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (Asked("own/net"), CardError, "library 'own' is not known"),
        (Asked("timm/resnet34x"), CardError, "did you mean 'resnet34'"),
        (Asked("torchvision/alexnett"), CardError, "did you mean 'alexnet'"),
        (Asked("own/x", "pocket", "vg"), CardError, "did you mean 'vgg'"),
        (Asked("a b", "pocket", "vgg"), CardError, "key 'id'"),
        (with_taps(OWN_VGG, "features.400"), TapError, "no module 'features.400'"),
        (Asked(**{**vars(OWN_VGG), "kwargs": {"n_classes": 9}}), WeightsError, "shape"),
        (Asked(**{**vars(OWN_VGG), "kwargs": {"classes": 9}}), CardError, "argument"),
        (
            Asked("own/x", "timm", "test_resnet", {"in_chans": 5}),
            CardError,
            "in_chans is 5, expected a number of channels",
        ),
        (Asked("own/x", "timm", "test_resnet", {"in_chans": 1}, mean=(0.5, 0.5, 0.5)), CardError, "takes 1 channel"),
        (
            Asked("own/x", "timm", "vit_tiny_patch16_224", {"img_size": 96}, size_px=64),
            CardError,
            "takes no image of 64 x 64 px",
        ),
        (Asked("torchvision/fasterrcnn_resnet50_fpn"), CardError, "detects objects"),
    ],
)
def test_mistakes_are_one_sentence(asked, error, words):
    with pytest.raises(error, match=words) as caught:
        draft(asked)
    assert "\n" not in str(caught.value)


def test_the_command_writes_nothing_when_it_fails(folders):
    runner = CliRunner()
    answer = runner.invoke(
        app, ["zoo", "new", "own/x", "--library", "pocket", "--architecture", "vgg", "--argument", "n"]
    )
    assert isinstance(answer.exception, CardError)
    assert not list(folders.rglob("*"))


def test_the_command(folders):
    arguments = ["zoo", "new", "own/vgg", "--library", "pocket", "--architecture", "vgg", "--argument", "n_classes=12"]
    arguments += ["--weights", str(VGG), "--tap", "features.13", "--licence", "BSD-3-Clause"]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    card = catalogue.card("own/vgg")
    assert (card.licence, [tap.path for tap in card.taps]) == ("BSD-3-Clause", ["features.13"])
