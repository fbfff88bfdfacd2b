"""Checkpoints as training scripts leave them: what is unwrapped, what is asked about, what is refused, each in one sentence."""

import argparse
import re
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from universality.base.errors import CardError, WeightsError
from universality.models import checkpoints, weight_files, zoo
from universality.models.checkpoints import Wanted


def network(classes=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            ("conv", nn.Conv2d(3, 4, 3)),
            ("bn", nn.BatchNorm2d(4)),
            ("flat", nn.Flatten()),
            ("fc", nn.Linear(4, classes)),
        ]
        return nn.Sequential(OrderedDict(layers)).eval()


STATE = network(seed=1).state_dict()


def under(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state=STATE):
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def kind(dtype):
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in STATE.items()}


def fitted(tmp_path, content, wanted=None, target=None, suffix=".pth"):
    path = tmp_path / f"file{suffix}"
    save_file(content, path) if suffix == ".safetensors" else torch.save(content, path)
    return checkpoints.fit(checkpoints.read(path), target or network(), wanted or Wanted(), path, "own/net")


def refused(tmp_path, content, *said, **how):
    with pytest.raises(WeightsError) as caught:
        fitted(tmp_path, content, **how)
    assert all(text in str(caught.value) for text in said) and "\n" not in str(caught.value), caught.value
    return str(caught.value)


FORMS = {
    "plain": (STATE, ()),
    "nested": ({"epoch": 3, "state_dict": STATE}, ("under 'state_dict'",)),
    "model": ({"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}, ("under 'model'",)),
    "data parallel": (under("module."), ("prefix 'module.'",)),
    "compiled, then parallel": (under("module._orig_mod."), ("prefix 'module._orig_mod.'",)),
    "lightning": ({"state_dict": under("model."), "hyper_parameters": {"lr": 0.1}}, ("'state_dict'", "prefix 'model.'")),
    "deep": ({"ema": {"decay": 0.9, "module": STATE}}, ("under 'ema/module'",)),
    "namespace": ({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, ("'state_dict'",)),
    "twice the same": ({"model": STATE, "ema": dict(STATE)}, ("under 'model'",)),
    "parameters": ({n: nn.Parameter(t) if t.is_floating_point() else t for n, t in STATE.items()}, ()),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_training_scripts_leave_is_unwrapped_and_said(tmp_path, form):
    content, said = FORMS[form]
    found = fitted(tmp_path, content)
    assert found.state.keys() == STATE.keys()
    assert all(torch.equal(found.state[name], STATE[name]) for name in STATE)
    text = "; ".join(found.done)
    assert all(part in text for part in said) and bool(said) == bool(text) and not found.lost


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_kinds_of_numbers_are_converted_and_said(tmp_path, dtype, suffix):
    found = fitted(tmp_path, kind(dtype), suffix=suffix)
    assert found.done == (f"converted from {str(dtype).removeprefix('torch.')}",)
    for name, tensor in kind(dtype).items():
        assert found.state[name].dtype == STATE[name].dtype
        torch.testing.assert_close(found.state[name], tensor.to(STATE[name].dtype), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"state_dict": STATE, "state_dict_ema": other()}, ("state_dict", "state_dict_ema")),
        ({"state_dict": under("net.") | under("net_ema.", other())}, ("state_dict/net", "state_dict/net_ema")),
    ],
)
def test_of_two_sets_that_differ_the_user_is_asked(tmp_path, content, parts):
    refused(tmp_path, content, *(f"'{part}'" for part in parts), "--weights-part")
    for part, expected in zip(parts, (STATE, other()), strict=True):
        found = fitted(tmp_path, content, Wanted(part=part))
        assert torch.equal(found.state["conv.weight"], expected["conv.weight"]) and found.part == part
    refused(tmp_path, content, "no set of tensors 'emma'", parts[0], wanted=Wanted(part="emma"))


def test_a_backbone_without_its_classifier_is_taken_and_the_gap_is_said(tmp_path):
    content = {name: tensor for name, tensor in STATE.items() if not name.startswith("fc.")}
    found = fitted(tmp_path, content)
    assert found.lost == ("no classifier in the file: 'fc.weight', 'fc.bias' are 0",)
    assert not found.state["fc.weight"].any() and torch.equal(found.state["conv.weight"], STATE["conv.weight"])
    refused(
        tmp_path,
        {name: tensor for name, tensor in STATE.items() if not name.startswith("conv.")},
        "no tensor 'conv.weight'",
    )


def test_tensors_beside_the_network_are_left_out_and_said(tmp_path):
    found = fitted(tmp_path, under("model.") | {"loss.weight": torch.ones(2)})
    assert found.lost == ("left out 'loss.weight'",)


def test_more_tensors_than_the_architecture_has_are_another_architecture(tmp_path):
    refused(tmp_path, dict(STATE) | {"conv2.weight": torch.ones(2)}, "unknown tensor 'conv2.weight'", "--drop")
    assert fitted(tmp_path, dict(STATE) | {"aux.weight": torch.ones(2)}, Wanted(drop_prefixes=("aux.",))).state


def test_another_number_of_classes_names_the_argument(tmp_path):
    refused(
        tmp_path, network(7).state_dict(), "shape (7, 4) for 'fc.weight', expected (3, 4)", "--argument num_classes=7"
    )


def test_order_counts_where_it_is_asked_for_and_is_offered_where_it_would_do(tmp_path):
    renamed = {f"t{place}": tensor for place, tensor in enumerate(STATE.values())}
    refused(tmp_path, renamed, "--by-order")
    found = fitted(tmp_path, renamed, Wanted(by_order=True))
    assert torch.equal(found.state["fc.bias"], STATE["fc.bias"]) and found.done == ("placed by their order",)
    refused(tmp_path, renamed, "go by order", suffix=".safetensors", wanted=Wanted(by_order=True))
    refused(tmp_path, dict(list(renamed.items())[:3]), "have 3 tensors", wanted=Wanted(by_order=True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "holds no state dict"),
        (torch.ones(3), "holds no state dict (names to tensors) but Tensor"),
        (kind(torch.complex64), "complex numbers in 'conv.weight'"),
        (
            {name: tensor * float("nan") if tensor.is_floating_point() else tensor for name, tensor in STATE.items()},
            "NaN or infinite",
        ),
        (network(), "it needs"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_what_it_is(tmp_path, content, said):
    refused(tmp_path, content, said)


@pytest.mark.parametrize("suffix", [".pth.tar", ".ckpt", ".PTH", ".pt", ".bin", ".tar"])
def test_a_file_is_found_again_under_every_usual_suffix(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(tmp_path))
    card = argparse.Namespace(id="own/net")
    path = tmp_path / "own" / f"net{suffix}"
    path.parent.mkdir()
    torch.save(STATE, path)
    assert weight_files.local_weights(card) == path
    assert weight_files.suffix_of(path) == suffix.lower()


def test_a_file_of_another_kind_is_named(tmp_path):
    with pytest.raises(WeightsError, match=re.escape("ends in none of .safetensors, .pth")):
        weight_files.suffix_of(tmp_path / "weights.docx")


# What the libraries say of their weights


@pytest.mark.parametrize("asked", ["resnet18.tv_in1k", "rdnet_tiny", "resnet50"])
def test_weights_lie_where_timm_says(asked):
    import timm

    said, known = zoo.FACTS["timm"](asked).weights, timm.get_pretrained_cfg(asked)
    assert said["url"] == known.hf_hub_id and said["name"].endswith(known.tag)


def test_unknown_tags_are_named():
    with pytest.raises(CardError, match=re.escape("no weights 'tv_in2k' of 'resnet18'")):
        zoo.FACTS["timm"]("resnet18.tv_in2k")


def test_arguments_tied_to_weights_are_those_of_the_shipped_card():
    """The card of GoogLeNet was written by hand from torchvision's source."""
    from universality.models import catalogue

    facts, card = zoo.FACTS["torchvision"]("googlenet"), catalogue.card("torchvision/googlenet")
    assert facts.kwargs == {name: card.kwargs[name] for name in ("aux_logits", "transform_input")}
    assert set(facts.weights["drop_prefixes"]) == set(card.weights.drop_prefixes)
    assert zoo.FACTS["torchvision"]("inception_v3").kwargs == {"transform_input": True}
    assert zoo.FACTS["torchvision"]("resnet18").kwargs == {}


def test_the_hub_is_the_one_that_the_settings_name(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://mirror.example")
    assert weight_files.hub_address("a/b") == "http://mirror.example/a/b"


# Factories


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n\ndef make(width=4):\n    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())\n\n"
        "def number():\n    return 3\n\nconstant = 3\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)


def of_factory(name, **kwargs):
    from universality.models.card import ModelCard

    return ModelCard.model_validate(
        {
            "id": "own/net", "source": "file", "library": "factory", "architecture": name, "kwargs": kwargs, "training_set": "none",
            "licence": "none", "citation": "none", "weights": {"name": "none"},
            "preprocessing": {"size_px": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"},
            "taps": [{"path": "1", "activation": "post", "channels": 4, "size": 14, "rf_px": 3, "stride_px": 1, "rf_start_px": 1.0, "relative_depth": 1.0}],
        }
    )  # fmt: skip


def test_a_function_of_the_users_own_builds_the_network(own_package):
    assert zoo.build(of_factory("my_nets:make", width=6))[0].out_channels == 6
    a, b = (zoo.untrained(of_factory("my_nets:make"), seed, ()).state_dict()["0.weight"] for seed in (0, 1))
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os:system", "of Python's own library"),
        ("my_nets", "expected package.module:function"),
        ("my_nets:make()", "expected package.module:function"),
        ("my_nets:mak", "cannot be imported here"),
        ("no_such_package.nets:make", "cannot be imported here"),
        ("my_nets:constant", "is int, expected a function"),
        ("my_nets:number", "no torch.nn.Module"),
    ],
)
def test_what_builds_no_network_is_refused_by_what_it_is(own_package, name, said):
    with pytest.raises(CardError, match=re.escape(said)):
        zoo.build(of_factory(name))


def test_random_weights_are_a_model_that_is_called_untrained(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    import universality
    from universality.cli import app
    from universality.models.catalogue import card
    from universality.runs.job import Job

    monkeypatch.setenv("UNIVERSALITY_MODEL_ZOO", str(tmp_path / "zoo"))
    call = "zoo new own/random --library pocket --architecture vgg --argument n_classes=12 --tap features.4 --random 3"
    assert CliRunner().invoke(app, call.split()).exit_code == 0
    known = card("own/random")
    assert known.untrained and known.training_set == "nothing: random weights of seed 3"
    first, again = (zoo.pretrained(known).state_dict() for _ in range(2))
    twin = zoo.untrained(known, 3, ()).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["features.0.weight"], twin["features.0.weight"]
    )  # a twin of the same seed is another draw
    models = [{"id": "own/random"}, {"id": "pocket/vgg-focus-s0", "taps": ["features.4"]}]
    job = Job.model_validate(
        {"name": "r", "models": models, "extraction": {"reduction": "mean"}, "comparison": {"families": []}}
    )
    planned = universality.plan(job, tmp_path / "run", tmp_path / "store")
    assert any("its weights are random (seed 3): it is untrained itself" in text for text in planned.warnings)
    assert planned.networks[0].label == "own/random (untrained)"
