"""A card for a network of one's own is one command, and states what the network does."""

import shutil

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


class ShutBranch(torch.nn.Module):
    def __init__(self, opened):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        torch.nn.init.constant_(self.norm.weight, float(opened))


def test_shut_branches_are_opened(monkeypatch):
    """With timm's default an untrained twin would be its shortcuts alone."""
    monkeypatch.setattr(zoo, "build", lambda card: ShutBranch(card.kwargs.get("zero_init_last") is False))
    card = catalogue.card("timm/resnet18").model_copy(update={"kwargs": {}})
    opened, network = drafting._built(card)
    assert opened.kwargs == {"zero_init_last": False}
    assert "open" in opened.note
    assert network.norm.weight.all()


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
