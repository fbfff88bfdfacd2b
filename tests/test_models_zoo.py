"""The zoo: weights that are checked before they are used, untrained twins, and one sentence for everything that is missing."""

import hashlib
import os
import pickle
import random
import shutil
import urllib.error
import urllib.request
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from universality.base.errors import CardError, WeightsError
from universality.base.paths import resource
from universality.models import catalogue, weight_files, zoo
from universality.models.card import ModelCard
from universality.stimuli import sets

LITE = ("package/efficientnet_lite0", "package/efficientnet_lite1")


@pytest.fixture(autouse=True)
def no_weights_of_the_user(tmp_path, monkeypatch):
    """Neither the user's weights folder nor the libraries' caches nor the network decide a test."""
    monkeypatch.setenv("UNIVERSALITY_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def refuse(*args, **kwargs):
        raise AssertionError("a test asked the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def tiny_card(architecture="test_resnet", source="timm", **weights):
    """A card of a network with half a million weights."""
    tap = {
        "path": "layer1",
        "activation": "post",
        "channels": 1,
        "size": 1,
        "rf_px": 1,
        "stride_px": 1,
        "rf_start_px": 0.0,
        "relative_depth": 0.5,
    }
    return ModelCard.model_validate(
        {
            "id": f"{source}/tiny",
            "source": source,
            "library": "timm",
            "architecture": architecture,
            "training_set": "none",
            "licence": "none",
            "citation": "none",
            "preprocessing": {"size_px": 64, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
            "weights": {"name": "tiny", **weights},
            "taps": [tap],
        }
    )


def seeded(card, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return zoo.build(card)


@pytest.fixture(scope="module")
def state():
    """A valid state dict of the tiny network."""
    return {name: tensor.clone() for name, tensor in seeded(tiny_card(), seed=7).state_dict().items()}


def put(card, content, suffix=".safetensors"):
    """Save a state dict where a user would put it; return the file."""
    path = Path(os.environ["UNIVERSALITY_WEIGHTS"]) / f"{card.id}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def refused(card, *, match):
    with pytest.raises(WeightsError, match=match) as caught:
        zoo.pretrained(card)
    message = str(caught.value)
    assert card.id in message or "weights file" in message
    assert "\n" not in message
    return message


def assert_same_state(network, expected):
    came = network.state_dict()
    assert list(came) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(came[name], tensor), name


# Cards


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(CardError, match="unknown model 'timm/resnet5O'; did you mean 'timm/resnet50'") as caught:
        catalogue.card("timm/resnet5O")
    assert "\n" not in str(caught.value)
    with pytest.raises(CardError, match="choose one of: handwritten/curves, handwritten/high_low"):
        catalogue.card("zzz")


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """A copy of one card in a folder of its own, to spoil."""
    root = tmp_path / "model_zoo"
    (root / "torchvision").mkdir(parents=True)
    shutil.copy(resource("model_zoo/torchvision/alexnet.toml"), root / "torchvision")
    monkeypatch.setattr(catalogue, "resource", lambda _: root)
    return root / "torchvision" / "alexnet.toml"


def test_cards_are_found_by_their_place(own_zoo):
    assert list(catalogue.cards()) == ["torchvision/alexnet"]


def test_card_in_another_place_is_refused(own_zoo):
    own_zoo.rename(own_zoo.with_name("resnet.toml"))
    with pytest.raises(CardError, match="has id 'torchvision/alexnet', expected 'torchvision/resnet' from its path"):
        catalogue.cards()


def test_card_of_an_unknown_source_is_refused(own_zoo):
    own_zoo.write_text(own_zoo.read_text().replace('source = "torchvision"', 'source = "torchvison"'))
    with pytest.raises(CardError, match="unknown source 'torchvison'; did you mean 'torchvision'"):
        catalogue.cards()


def test_malformed_card_names_its_file(own_zoo):
    own_zoo.write_text("id = ")
    with pytest.raises(CardError, match=r"alexnet\.toml' is not valid TOML"):
        catalogue.cards()


def test_networks_are_built_in_eval_mode():
    assert not any(module.training for module in seeded(tiny_card()).modules())


# The weights that come with a package


@pytest.mark.parametrize("model_id", LITE)
def test_packaged_weights_have_the_pinned_hash(model_id):
    card = catalogue.card(model_id)
    network = zoo.pretrained(card)
    assert card.weights.state_dict_sha256 is not None
    assert zoo.state_dict_sha256(network.state_dict()) == card.weights.state_dict_sha256
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("model_id", LITE)
def test_packaged_weights_lie_in_the_order_of_the_file(model_id):
    card = catalogue.card(model_id)
    package = pytest.importorskip(card.weights.package)
    file = Path(package.__file__).parent / card.weights.package_file
    raw = torch.load(file, map_location="cpu", weights_only=True)
    came = zoo.pretrained(card).state_dict()
    assert len(raw) == len(came)
    for (name, tensor), (raw_name, raw_tensor) in zip(came.items(), raw.items(), strict=True):
        assert torch.equal(tensor, raw_tensor), f"{name} from {raw_name}"
        assert name.rsplit(".", 1)[-1] == raw_name.rsplit(".", 1)[-1]  # weight, bias, running_mean, ...


@pytest.mark.parametrize(("photograph", "index"), [("coffee", 967), ("chelsea", 285)], ids=["espresso", "Egyptian cat"])
def test_packaged_weights_know_photographs(photograph, index):
    """Wrong order, wrong padding or wrong normalisation would not name what everybody sees."""
    card = catalogue.card(LITE[0])
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    with Image.open(folder / f"{photograph}.png") as image:
        # The whole picture: a square crop leaves of the cat only its face.
        small = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    pixels = np.asarray(small, dtype=np.float32) / 255
    batch = sets.normalise(pixels.transpose(2, 0, 1)[None], card.preprocessing)
    with torch.inference_mode():
        chances = zoo.pretrained(card)(torch.from_numpy(batch)).softmax(1)[0]
    assert chances.argmax() == index
    assert chances[index] > 0.5


def test_another_state_dict_hash_is_refused_in_one_sentence():
    card = catalogue.card(LITE[0])
    weights = card.weights.model_copy(update={"state_dict_sha256": "0" * 64})
    pinned = card.weights.state_dict_sha256[:12]
    message = refused(card.model_copy(update={"weights": weights}), match="the card states 000000000000")
    assert pinned in message


def test_package_that_is_not_installed():
    card = tiny_card(source="package", package="no_such_package_anywhere", package_file="w.pth")
    message = refused(card, match="'no_such_package_anywhere' is not installed; install no-such-package-anywhere")
    assert "tiny.safetensors" in message


def test_package_without_the_file():
    card = catalogue.card(LITE[0])
    weights = card.weights.model_copy(update={"package_file": "models/none.pth"})
    refused(card.model_copy(update={"weights": weights}), match="lacks models/none.pth")


# Local files


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_local_file_is_loaded(state, suffix):
    card = tiny_card()
    put(card, state, suffix)
    assert_same_state(zoo.pretrained(card), state)


def test_local_checkpoint_with_its_state_dict_inside(state):
    card = tiny_card()
    put(card, {"epoch": 3, "state_dict": state}, ".pth")
    assert_same_state(zoo.pretrained(card), state)


def test_safetensors_come_before_pth(state):
    card = tiny_card()
    put(card, {name: torch.zeros_like(tensor) for name, tensor in state.items()}, ".pth")
    put(card, state)
    assert_same_state(zoo.pretrained(card), state)


def test_local_file_comes_before_the_source():
    card = catalogue.card(LITE[0])
    other = seeded(card, seed=3).state_dict()
    unpinned = card.model_copy(update={"weights": card.weights.model_copy(update={"state_dict_sha256": None})})
    put(card, other, ".pth")
    assert_same_state(zoo.pretrained(unpinned), other)
    refused(card, match="state-dict hash")  # the pinned card does not take other weights from anywhere


def test_default_folder_is_below_the_working_directory(monkeypatch):
    monkeypatch.delenv("UNIVERSALITY_WEIGHTS")
    assert weight_files.weights_folder() == Path("data/weights")


class Code:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))], ids=["torch", "pickle"]
)
@pytest.mark.parametrize("suffix", [".pth", ".bin"])
def test_file_with_code_is_refused_and_the_code_not_run(tmp_path, save, suffix):
    marker, card = tmp_path / "ran", tiny_card()
    path = put(card, {}, suffix)
    save({"weight": Code(marker)}, path)
    refused(card, match="files with code are refused")
    assert not marker.exists()
    with suppress(Exception):  # a bare pickle is no checkpoint, but Torch finds out only after running it
        torch.load(path, weights_only=False)
    assert marker.exists(), "the file holds no code: this test shows nothing"


@pytest.mark.parametrize(
    "content",
    [b"", b"not weights", b"PK\x03\x04", b"\x80\x02}.", b"U", b"Jx", b"\x80\x02.", b"\x89HDF", b"\x00" * 64],
    ids=repr,
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_garbage_is_refused_in_one_sentence(content, suffix):
    card = tiny_card()
    path = put(card, {}, suffix)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Torch warns of strange pickle protocols
        refused(card, match=str(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_file_is_refused(state, suffix):
    card = tiny_card()
    path = put(card, state, suffix)
    path.write_bytes(path.read_bytes()[:-100])
    refused(card, match="not a plain state dict")


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"a": 1}, {0: torch.zeros(1)}], ids=repr)
def test_file_without_state_dict_is_refused(content):
    card = tiny_card()
    put(card, content, ".pth")
    refused(card, match="holds no state dict")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(state, value):
    spoilt = {name: tensor.clone() for name, tensor in state.items()}
    spoilt["layer1.0.conv1.weight"].view(-1)[5] = value
    card = tiny_card()
    put(card, spoilt)
    refused(card, match="NaN or infinite values in 'layer1.0.conv1.weight'")


def test_missing_and_unknown_tensors_are_refused(state):
    card = tiny_card()
    put(card, {name: tensor for name, tensor in state.items() if name != "fc.bias"})
    refused(card, match="no tensor 'fc.bias'")
    put(card, {**state, "extra.weight": torch.zeros(1)})
    refused(card, match="an unknown tensor 'extra.weight'")


def test_the_batch_counter_may_be_missing(state):
    card = tiny_card()
    put(card, {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")})
    assert_same_state(zoo.pretrained(card), state)


def test_wrong_shape_names_the_tensor_and_both_shapes(state):
    card = tiny_card()
    put(card, {**state, "fc.bias": torch.zeros(7)})
    refused(card, match=r"shape \(7,\) for 'fc.bias', expected \(1000,\)")


# Tensors that find their place by order


@pytest.fixture
def ordered(state):
    """The tiny network's tensors under other names, and a card that maps them by order."""
    return tiny_card(mapping="by_order"), {f"t{index:03d}": tensor for index, tensor in enumerate(state.values())}


def test_by_order_gives_each_tensor_its_place(ordered, state):
    card, renamed = ordered
    put(card, renamed, ".pth")
    assert_same_state(zoo.pretrained(card), state)


@pytest.mark.parametrize("change", ["fewer", "more"])
def test_by_order_refuses_another_number_of_tensors(ordered, state, change):
    card, renamed = ordered
    renamed = dict(list(renamed.items())[:-1]) if change == "fewer" else {**renamed, "one more": torch.zeros(1)}
    put(card, renamed, ".pth")
    refused(card, match=f"have {len(renamed)} tensors, expected the {len(state)} tensors")


def test_by_order_refuses_another_shape(ordered, state):
    card, renamed = ordered
    first = next(iter(state))
    put(card, {**renamed, "t000": torch.zeros(2, 3, 1, 1)}, ".pth")
    expected = ", ".join(str(length) for length in state[first].shape)
    refused(card, match=rf"shape \(2, 3, 1, 1\) for '{first}', expected \({expected}\)")


def test_by_order_takes_a_safetensors_file_by_name(ordered, state):
    """Safetensors sort their tensors, so no order is left; a user who saves the network's own state dict is safe."""
    card, _ = ordered
    put(card, state)
    assert_same_state(zoo.pretrained(card), state)


def test_by_order_refuses_a_safetensors_file_with_other_names(ordered):
    """Tensors of one shape could be exchanged without an error."""
    card, renamed = ordered
    put(card, renamed)
    refused(card, match="does not keep the order")


# Sources that cannot be reached


NO_HUB = ["torchvision/alexnet", "timm/resnet18"]


@pytest.mark.parametrize("model_id", NO_HUB)
def test_missing_weights_name_the_place_to_put_them(model_id, monkeypatch, tmp_path):
    monkeypatch.setattr(weight_files, "_unreachable", lambda url: "cannot be reached (URLError)")
    message = refused(catalogue.card(model_id), match=f"weights of '{model_id}' are missing: .* cannot be reached")
    assert str(tmp_path / "weights" / f"{model_id}.safetensors") in message
    assert "UNIVERSALITY_WEIGHTS" in message


@pytest.mark.parametrize("model_id", NO_HUB)
def test_offline_nothing_is_asked(model_id, monkeypatch):
    """`urlopen` fails the test when it is called: with the variable set, no request is made."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = refused(catalogue.card(model_id), match=r"is not asked \(HF_HUB_OFFLINE=1\)")
    assert "reached" not in message


@pytest.mark.parametrize("model_id", NO_HUB)
@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError(), ConnectionResetError()], ids=repr)
def test_an_unreachable_hub_is_asked_once_and_briefly(model_id, error, monkeypatch):
    asked = []

    def unreachable(request, timeout):
        asked.append(timeout)
        raise error

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    refused(catalogue.card(model_id), match=rf"cannot be reached \({type(error).__name__}")
    assert len(asked) == 1
    assert asked[0] <= 10


def test_an_answer_that_is_an_error_is_an_answer(monkeypatch):
    def not_found(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 404, "Not Found", {}, None)

    monkeypatch.setattr("urllib.request.urlopen", not_found)
    assert not weight_files._unreachable("https://example.org/x")


def test_a_failing_download_is_one_sentence(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError('invalid hash value (expected "7be5be79", got "00000000")')

    monkeypatch.setattr(weight_files, "_unreachable", lambda url: "")
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    refused(catalogue.card("torchvision/alexnet"), match="the download of https://.* failed: invalid hash value")


def in_torch_cache(name, content):
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_cached_file_with_another_hash_is_refused():
    path = in_torch_cache("alexnet-owt-7be5be79.pth", b"exchanged")
    message = refused(catalogue.card("torchvision/alexnet"), match="the card states 7be5be79")
    assert str(path) in message
    assert "delete the file" in message


def test_cached_file_with_the_stated_hash_is_taken(state, tmp_path):
    torch.save(state, tmp_path / "saved.pth")
    content = (tmp_path / "saved.pth").read_bytes()
    path = in_torch_cache("tiny-01234567.pth", content)
    prefix = hashlib.sha256(content).hexdigest()[:8]
    url = "https://example.org/models/tiny-01234567.pth"
    card = tiny_card(source="torchvision", url=url, file_sha256_prefix=prefix)
    assert_same_state(zoo.pretrained(card), state)
    path.write_bytes(content + b"\0")
    refused(card, match=f"the card states {prefix}")


# GoogLeNet's auxiliary heads


def test_auxiliary_heads_of_googlenet_are_dropped():
    card = catalogue.card("torchvision/googlenet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        full = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False).state_dict()
    heads = [name for name in full if name.startswith(("aux1.", "aux2."))]
    assert len(heads) > 0
    put(card, full)
    assert_same_state(zoo.pretrained(card), {name: full[name] for name in full if name not in heads})
    keeping = card.model_copy(update={"weights": card.weights.model_copy(update={"drop_prefixes": ()})})
    refused(keeping, match="an unknown tensor 'aux1.")


# Untrained twins


def batches(count=4, size=16, side=64, seed=0):
    """Images with colours of unlike means and spreads, so that a statistic in the wrong place shows."""
    rng = np.random.default_rng(seed)
    scale, shift = (np.array(v, np.float32)[:, None, None] for v in ((0.5, 1.0, 2.0), (-1.0, 0.0, 3.0)))
    return [(rng.standard_normal((size, 3, side, side)) * scale + shift).astype(np.float32) for _ in range(count)]


def test_twins_of_one_seed_are_equal_and_of_another_are_not():
    card = tiny_card()
    first, again, other = (zoo.untrained(card, seed, batches(1)) for seed in (5, 5, 6))
    assert_same_state(again, first.state_dict())
    assert not torch.equal(first.conv1[0].weight, other.conv1[0].weight)
    assert not any(module.training for module in first.modules())


def test_twins_leave_the_global_generators_alone():
    torch.manual_seed(11)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    zoo.untrained(tiny_card(), 5, batches(1))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_twins_do_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    first = zoo.untrained(tiny_card(), 5, batches(1))
    torch.manual_seed(2)
    assert_same_state(zoo.untrained(tiny_card(), 5, batches(1)), first.state_dict())


def first_batchnorm(network):
    return next(m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def inputs_of(module, network, images):
    """Return what `module` is given when `network` sees `images`, in float64."""
    caught = []
    handle = module.register_forward_pre_hook(lambda _, args: caught.append(args[0].detach().double().clone()))
    try:
        with torch.inference_mode():
            network(torch.from_numpy(images))
    finally:
        handle.remove()
    return caught[0]


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "tf_efficientnet_lite0"])
def test_calibration_of_the_first_batchnorm_has_a_closed_form(architecture):
    """What it is given does not depend on any running statistic: its mean and variance follow from the images."""
    calibration = batches()
    network = zoo.untrained(tiny_card(architecture), 0, calibration)
    layer = first_batchnorm(network)
    given = torch.stack([inputs_of(layer, network, batch) for batch in calibration])  # batch, image, channel, y, x
    means = given.mean((1, 3, 4))
    variances = given.transpose(1, 2).flatten(2).var(2, correction=1)
    torch.testing.assert_close(layer.running_mean.double(), means.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.running_var.double(), variances.mean(0), rtol=1e-4, atol=1e-6)
    assert layer.num_batches_tracked == len(calibration)


def test_calibrated_output_has_mean_0_and_variance_1():
    calibration = batches()
    network = zoo.untrained(tiny_card(), 0, calibration)
    layer = first_batchnorm(network)
    assert torch.all(layer.weight == 1) and torch.all(layer.bias == 0)
    given = torch.cat([inputs_of(layer, network, batch) for batch in calibration])
    mean, var = (value.double()[:, None, None] for value in (layer.running_mean, layer.running_var))
    came = (given - mean) / (var + layer.eps).sqrt()
    assert came.mean((0, 2, 3)).abs().max() < 1e-4
    assert (came.var((0, 2, 3)) - 1).abs().max() < 0.01
    uncalibrated = first_batchnorm(seeded(tiny_card(), 0))
    assert uncalibrated.running_mean.abs().max() == 0, "calibration has nothing to do: this test shows nothing"


def test_every_batch_counts_the_same():
    """Cumulative means, not an exponential average that forgets the first batches."""
    early, late = batches(1, seed=1)[0], batches(1, seed=2)[0] + 10
    network = zoo.untrained(tiny_card(), 0, [early, late])
    turned = zoo.untrained(tiny_card(), 0, [late, early])
    torch.testing.assert_close(first_batchnorm(network).running_mean, first_batchnorm(turned).running_mean)
    torch.testing.assert_close(first_batchnorm(network).running_var, first_batchnorm(turned).running_var)


def test_calibration_touches_running_statistics_only():
    network, plain = zoo.untrained(tiny_card(), 0, batches(2)), zoo.untrained(tiny_card(), 0, [])
    for name, tensor in plain.state_dict().items():
        is_statistic = name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked")
        assert torch.equal(network.state_dict()[name], tensor) != is_statistic, name
    assert first_batchnorm(network).momentum == first_batchnorm(plain).momentum


def test_network_without_batchnorm_is_not_run():
    def never():
        raise AssertionError("a batch was drawn for nothing")
        yield

    network = nn.Sequential(nn.Conv2d(3, 1, 1)).eval()
    zoo.calibrate_batchnorm(network, never())


def test_written_versions_are_those_of_the_imported_packages():
    """Keys of untrained twins hold them, so that one read otherwise would have every twin extracted anew."""
    for package in (torch, timm, torchvision):
        assert catalogue.written_version(package.__name__) == package.__version__
    assert catalogue.written_version("safetensors") == safetensors.__version__  # it has no version.py
    with pytest.raises(ModuleNotFoundError):
        catalogue.written_version("no_such_package")


def test_identity_of_a_twin_changes_with_each_cause(monkeypatch):
    card = tiny_card()
    before = catalogue.untrained_identity(card, 0, "c")
    assert catalogue.untrained_identity(card, 0, "c") == before
    others = [
        catalogue.untrained_identity(card, 1, "c"),
        catalogue.untrained_identity(card, 0, "d"),
        catalogue.untrained_identity(tiny_card("test_efficientnet"), 0, "c"),
        catalogue.untrained_identity(card.model_copy(update={"kwargs": {"num_classes": 7}}), 0, "c"),
    ]
    monkeypatch.setattr(catalogue, "written_version", lambda package: "0.0")
    others.append(catalogue.untrained_identity(card, 0, "c"))
    assert len({before, *others}) == 6


# Hashes and normalisation


def test_hash_does_not_depend_on_the_order_of_names(state):
    turned = dict(reversed(state.items()))
    assert list(turned) != list(state)
    assert zoo.state_dict_sha256(turned) == zoo.state_dict_sha256(state)


def test_hash_depends_on_every_bit():
    values = torch.linspace(-1, 1, 4)
    before = zoo.state_dict_sha256({"a": values})
    seen = {before}
    for bit in range(8 * values.numel() * values.element_size()):
        changed = values.clone()
        changed.view(torch.uint8)[bit // 8] ^= 1 << (bit % 8)
        seen.add(zoo.state_dict_sha256({"a": changed}))
    assert len(seen) == 1 + 128


def test_hash_depends_on_names_kinds_and_shapes():
    zeros = torch.zeros(2, 2)
    states = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T.reshape(4)},
        {"a": zeros.to(torch.int32)},
        {"a": zeros, "b": zeros},
        {"a": torch.tensor(0.0)},
        {"a": torch.zeros(0)},
    ]
    assert len({zoo.state_dict_sha256(state) for state in states}) == len(states)


def test_hash_does_not_depend_on_the_memory_layout():
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    last = values.contiguous(memory_format=torch.channels_last)
    assert last.stride() != values.stride()
    assert zoo.state_dict_sha256({"a": last}) == zoo.state_dict_sha256({"a": values})


def test_normalise_is_per_channel():
    card = catalogue.card("torchvision/alexnet")
    image = np.random.default_rng(0).uniform(size=(2, 3, 4, 5)).astype(np.float32)
    came = sets.normalise(image, card.preprocessing)
    assert came.dtype == np.float32
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        np.testing.assert_allclose(came[:, channel], (image[:, channel] - mean) / std, rtol=1e-5, atol=1e-6)


def test_twins_of_two_cards_with_one_architecture_are_two_networks():
    """Else a comparison of untrained twins would compare a network with itself."""
    first, second = (zoo.untrained(catalogue.card(f"{source}/vgg16"), 0, []) for source in ("torchvision", "timm"))
    weights = [next(p for p in network.parameters() if p.ndim == 4) for network in (first, second)]
    assert weights[0].shape == weights[1].shape
    r = np.corrcoef(weights[0].detach().numpy().ravel(), weights[1].detach().numpy().ravel())[0, 1]
    assert abs(r) < 0.1
    identities = {
        catalogue.untrained_identity(catalogue.card(f"{source}/vgg16"), 0, "") for source in ("torchvision", "timm")
    }
    assert len(identities) == 2
