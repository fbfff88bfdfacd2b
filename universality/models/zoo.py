"""From a model card to a network in eval mode, with weights that are checked before they are used.

Architectures are data (the cards in `model_zoo/`, see `universality.models.catalogue`); files come from `universality.models.weight_files`, and what is in them
from `universality.models.checkpoints`. timm and torchvision take seconds to import, so they are where a network
is built.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from universality.base import memory
from universality.base.errors import CardError, WeightsError, did_you_mean
from universality.base.spec import digest
from universality.models import checkpoints
from universality.models.card import ModelCard
from universality.models.checkpoints import Fitted, StateDict, Wanted
from universality.models.weight_files import find_weights

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_DRAWING = threading.RLock()
"""Torch's generator belongs to the process: threads that build networks at the same time would draw from one another's seed."""


def build(model_card: ModelCard) -> nn.Module:
    """Return the card's architecture with random weights, in eval mode.

    The random numbers are Torch's global ones: seed them, or use `untrained`. Of a hand-written network kernels are drawn, see `universality.models.handwritten.networks`.

    Raises
    ------
    CardError
        The library knows no such architecture, or not with these arguments.
    """
    kwargs: dict[str, Any] = dict(model_card.kwargs)
    try:
        with _DRAWING:
            if model_card.library == "pocket":
                from universality.models.pocket import networks as pocket_networks

                network = pocket_networks.build(model_card.architecture, **kwargs)
            elif model_card.library == "handwritten":
                from universality.models.handwritten import networks as handwritten_networks

                network = handwritten_networks.drawn(model_card.architecture, **kwargs)
            elif model_card.library == "factory":
                network = factory(model_card.architecture)(**kwargs)
                if not isinstance(network, nn.Module):
                    raise TypeError(f"it returned {type(network).__name__}, no torch.nn.Module")
            elif model_card.library == "timm":
                import timm

                network = timm.create_model(model_card.architecture, pretrained=False, **kwargs)
            else:
                import torchvision

                builder = torchvision.models.get_model_builder(model_card.architecture)
                # Networks that segment fetch weights of their backbone unless they are told not to.
                if "weights_backbone" in inspect.signature(builder).parameters:
                    kwargs.setdefault("weights_backbone", None)
                network = builder(weights=None, **kwargs)
    except (LookupError, TypeError, ValueError, RuntimeError, AssertionError, AttributeError) as cause:
        # What the libraries raise for a name or an argument that they do not know.
        said = str(cause).splitlines()[0][:160] if str(cause) else type(cause).__name__
        raise CardError(
            f"model card '{model_card.id}': {model_card.library} builds no architecture '{model_card.architecture}' with "
            f"{kwargs} ({said}); correct the card"
        ) from None
    evaluated: nn.Module = network.eval()
    return evaluated


def pretrained(model_card: ModelCard) -> nn.Module:
    """Return the card's network with its pretrained weights, in eval mode; of a card of random weights the untrained network.

    A hand-written network has no weights file: its kernels are computed.

    A file in the weights folder (``$UNIVERSALITY_WEIGHTS``, else ``data/weights``) named after the card's id comes
    before the card's source.

    Raises
    ------
    WeightsError
        If no weights can be had, a tensor's shape differs from the network's, or a hash differs from the card's.
    """
    if model_card.untrained:
        return _seeded(model_card, [model_card.id, "random", model_card.weights.seed])
    if model_card.library == "handwritten":
        return _written(model_card)
    path = find_weights(model_card)
    network = build(model_card)
    fitted = load(network, checkpoints.read(path), model_card, path)
    unsaid = [text for text in fitted.lost if text not in model_card.weights.lost]
    if unsaid:
        raise WeightsError(
            f"weights of '{model_card.id}' from '{path}' do not fit as they are ({'; '.join(unsaid)}), which the card does not "
            "state; write a card for this file with universality zoo new"
        )
    _check_hash(
        network,
        model_card,
        f"from '{path}' ",
        "use the file that the card names, or write a card of your own for these weights",
    )
    return network.eval()


def _written(model_card: ModelCard) -> nn.Module:
    from universality.models.handwritten import networks as handwritten_networks

    known = handwritten_networks.ARCHITECTURES
    if model_card.architecture not in known:
        raise CardError(
            f"model card '{model_card.id}': there is no hand-written network '{model_card.architecture}'"
            f"{did_you_mean(model_card.architecture, known)}; correct the card"
        )
    network = handwritten_networks.written(model_card.architecture)
    _check_hash(
        network,
        model_card,
        "computed here ",
        "its formulas are others than the card's: use the version of the package that the card came with",
    )
    return network


def _check_hash(network: nn.Module, model_card: ModelCard, whence: str, remedy: str) -> None:
    """Raise `WeightsError` if a network's weights are not those that its card states."""
    expected = model_card.weights.state_dict_sha256
    came = state_dict_sha256(network.state_dict())
    if expected is not None and came != expected:
        raise WeightsError(
            f"weights of '{model_card.id}' {whence}have the state-dict hash {came[:12]}..., the card states {expected[:12]}...; {remedy}"
        )


def untrained(model_card: ModelCard, seed: int, calibration: Iterable[np.ndarray]) -> nn.Module:
    """Return the card's architecture with seeded random weights and calibrated normalisation, in eval mode.

    Parameters
    ----------
    seed : int
        Seeds the initialisation, together with the card's id: twins of two cards with one architecture are not the same
        network. Torch's global generator is left as it was.
    calibration : iterable of (batch, channel, y, x) float32 arrays, normalised for the network
        Natural images that set the running statistics of BatchNorm layers (plain means over the batches).
    """
    network = _seeded(model_card, [model_card.id, seed])
    calibrate_batchnorm(network, calibration)
    return network


def _seeded(model_card: ModelCard, cause: list[Any]) -> nn.Module:
    """Return the architecture as it is initialised under a seed made of `cause`."""
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(digest(cause)[:15], 16))
        return build(model_card)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let no parameter of a network take a gradient, and leave each as it was: what passes one depends on what was asked for."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Show images to a network in eval mode, and leave every module in the mode in which it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def calibrate_batchnorm(network: nn.Module, batches: Iterable[np.ndarray]) -> None:
    """Set the running statistics of every BatchNorm to the mean over `batches`; other modules stay in eval mode."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    memory.keep_freed_memory()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative mean, so that every batch counts the same
        layer.train()
    with torch.inference_mode():
        for batch in batches:
            network(torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def state_dict_sha256(state: StateDict) -> str:
    """Return the SHA-256 over names, kinds, shapes and bytes of all tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def load(network: nn.Module, content: Any, model_card: ModelCard, path: Path) -> Fitted:
    """Put what a file holds into `network` as the card says, and return what was done to it.

    Raises
    ------
    WeightsError
        See `checkpoints.fit`.
    """
    weights = model_card.weights
    wanted = Wanted(weights.part, weights.mapping == "by_order", weights.drop_prefixes)
    fitted = checkpoints.fit(content, network, wanted, path, model_card.id)
    network.load_state_dict(dict(fitted.state))
    return fitted


@dataclass(frozen=True)
class Facts:
    """What a library says of an architecture, as a card states it: preprocessing, default weights, arguments tied to them."""

    preprocessing: dict[str, Any]
    weights: dict[str, Any]
    kwargs: dict[str, Any] = field(default_factory=dict)


def _timm_facts(architecture: str) -> Facts:
    import timm
    from timm.models import split_model_name_tag

    stem, tag = split_model_name_tag(architecture)
    if not timm.is_model(stem):
        raise CardError(f"timm has no architecture '{stem}'{did_you_mean(stem, timm.list_models())}")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{stem}.*")]
    if tag and tag not in tags:
        raise CardError(
            f"timm has no weights '{tag}' of '{stem}'{did_you_mean(tag, tags)}, expected one of {', '.join(tags) or 'none'}"
        )
    found = timm.get_pretrained_cfg(architecture)
    config: dict[str, Any] = {} if found is None else dataclasses.asdict(found)
    size_px, width_px = (int(side) for side in config.get("input_size", (3, 224, 224))[1:])
    resize_px = int(size_px / config.get("crop_pct", 1.0))
    interpolation = config.get("interpolation", "bicubic")
    preprocessing = {
        "size_px": size_px, "resize_px": resize_px, "mean": config.get("mean", _IMAGENET_MEAN),
        "std": config.get("std", _IMAGENET_STD),
        "interpolation": interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
    }  # fmt: skip
    if width_px != size_px:
        preprocessing["width_px"] = width_px
    # As timm itself resolves them: the hub's repository, wherever it lies, before an address.
    weights = {"name": f"{stem}.{config['tag']}" if config.get("tag") else stem}
    if config.get("hf_hub_id"):
        weights |= {"url": config["hf_hub_id"], "hub_file": config.get("hf_hub_filename") or ""}
    elif config.get("url"):
        weights["url"] = config["url"]
    return Facts(preprocessing, weights)


_OTHER_TASKS = {
    "detection": "detects objects and resizes each image by itself",
    "video": "takes clips of video",
    "optical_flow": "takes pairs of images",
    "quantization": "computes with whole numbers of 8 bits",
}
"""Folders of torchvision's architectures that are none for a card, and why."""


def _torchvision_facts(architecture: str) -> Facts:
    import torchvision

    known = torchvision.models.list_models()
    if architecture not in known:
        raise CardError(f"torchvision has no architecture '{architecture}'{did_you_mean(architecture, known)}")
    for folder, what in _OTHER_TASKS.items():
        if architecture in torchvision.models.list_models(module=getattr(torchvision.models, folder)):
            raise CardError(
                f"architecture '{architecture}' of torchvision {what}, expected a network that takes a batch of single images and hands "
                "it from layer to layer; take its backbone"
            )
    default = torchvision.models.get_model_weights(architecture).DEFAULT
    tied, dropped = _tied(architecture, default)
    shown = default.transforms()
    # Those of networks that segment are shown whole images.
    preprocessing = {
        "size_px": int(getattr(shown, "crop_size", shown.resize_size)[0]), "resize_px": int(shown.resize_size[0]),
        "interpolation": shown.interpolation.value, "mean": tuple(shown.mean), "std": tuple(shown.std),
    }  # fmt: skip
    prefix = default.url.rsplit("-", 1)[-1].split(".")[0]
    return Facts(
        preprocessing,
        {"name": default.name, "url": default.url, "file_sha256_prefix": prefix, "drop_prefixes": dropped},
        tied,
    )


def _tied(architecture: str, weights: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arguments that torchvision ties to some weights, and the prefixes of tensors that it drops from them.

    Its builders set arguments where weights are given (``transform_input`` of Inception), or remove parts after loading
    (auxiliary classifiers). They are found by building the
    architecture both ways, without a download, and comparing the plain values that the networks hold.
    """
    import torchvision

    builder = torchvision.models.get_model_builder(architecture)
    original = type(weights).get_state_dict
    with _DRAWING, torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # builders announce changes of initial values, of which there are none here
        takes = inspect.signature(builder).parameters
        # Networks that segment have their second classifier with weights only, and would fetch a backbone without.
        with_weights = {"aux_loss": True} if "aux_loss" in takes else {}
        plain = builder(
            weights=None, **with_weights, **({"weights_backbone": None} if "weights_backbone" in takes else {})
        )
        type(weights).get_state_dict = lambda self, *args, **kwargs: plain.state_dict()
        try:
            theirs = builder(weights=weights)
        finally:
            type(weights).get_state_dict = original
    known = inspect.signature(type(plain).__init__).parameters
    tied = {
        name: value
        for name, value in vars(theirs).items()
        if name in known and isinstance(value, (bool, int, float, str)) and value != vars(plain).get(name)
    }
    dropped = {f"{name.partition('.')[0]}." for name in plain.state_dict().keys() - theirs.state_dict().keys()}
    return tied | with_weights, tuple(sorted(dropped))


def _pocket_facts(architecture: str) -> Facts:
    from universality.models.pocket import networks as pocket_networks

    known = pocket_networks.ARCHITECTURES
    if architecture not in known:
        raise CardError(f"the pocket zoo has no architecture '{architecture}'{did_you_mean(architecture, known)}")
    half = (0.5, 0.5, 0.5)
    preprocessing = {"size_px": 64, "interpolation": "bicubic", "mean": half, "std": tuple(x / 2 for x in half)}
    return Facts(preprocessing, {"name": architecture})


def factory(name: str) -> Callable[..., Any]:
    """Return the function that a card names as ``package.module:function``; it is the user's own code, from their environment.

    Raises
    ------
    CardError
        The name is malformed, of Python's own library, or leads to nothing that can be called.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise CardError(
            f"factory '{name}' is no name of a function, expected package.module:function; correct the card"
        )
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise CardError(
            f"factory '{name}' is of Python's own library, which builds no networks; name a function of your own"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as cause:
        raise CardError(
            f"factory '{name}' cannot be imported here ({cause}); install its package, or correct the card"
        ) from None
    if not callable(found):
        raise CardError(f"factory '{name}' is {type(found).__name__}, expected a function that returns a network")
    made: Callable[..., Any] = found
    return made


def _handwritten_facts(architecture: str) -> Facts:
    from universality.models.handwritten import networks as handwritten_networks

    known = handwritten_networks.ARCHITECTURES
    if architecture not in known:
        raise CardError(f"there is no hand-written network '{architecture}'{did_you_mean(architecture, known)}")
    # The images of the pocket zoo, so that one picture is the input of both.
    return Facts(_pocket_facts("alexnet").preprocessing, {"name": "formulas"})


def _factory_facts(architecture: str) -> Facts:
    factory(architecture)
    # What its images have to be like only its author knows: the size and the normalisation have to be given.
    return Facts({"interpolation": "bicubic"}, {"name": architecture})


FACTS: dict[str, Callable[[str], Facts]] = {
    "timm": _timm_facts,
    "torchvision": _torchvision_facts,
    "pocket": _pocket_facts,
    "handwritten": _handwritten_facts,
    "factory": _factory_facts,
}
"""By library: what it says of an architecture; raises `CardError` with the nearest name for one it lacks."""
