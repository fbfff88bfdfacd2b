"""From a model card to a network in eval mode, with weights that are checked before they are used.

Architectures are data (the cards in `model_zoo/`, see `universality.models.catalogue`); files come from `universality.models.weight_files`. Checkpoints are
read as safetensors or with ``weights_only=True``, nothing else. timm and torchvision take seconds to import, so they are where a network
is built.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import pickle
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from universality.base.errors import CardError, WeightsError, did_you_mean
from universality.base.spec import digest
from universality.models.card import ModelCard
from universality.models.weight_files import find_weights

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

StateDict = Mapping[str, Tensor]

_DRAWING = threading.RLock()
"""Torch's generator belongs to the process: threads that build networks at the same time would draw from one another's seed."""


def build(model_card: ModelCard) -> nn.Module:
    """Return the card's architecture with random weights, in eval mode.

    The random numbers are Torch's global ones: seed them, or use `untrained`.

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
    """Return the card's network with its pretrained weights, in eval mode.

    A file in the weights folder (``$UNIVERSALITY_WEIGHTS``, else ``data/weights``) named after the card's id comes
    before the card's source.

    Raises
    ------
    WeightsError
        If no weights can be had, a tensor's shape differs from the network's, or a hash differs from the card's.
    """
    path = find_weights(model_card)
    network = build(model_card)
    load_mapped(network, read_checkpoint(path), model_card, path)
    expected = model_card.weights.state_dict_sha256
    came = state_dict_sha256(network.state_dict())
    if expected is not None and came != expected:
        raise WeightsError(
            f"weights of '{model_card.id}' from '{path}' have the state-dict hash {came[:12]}..., the card states "
            f"{expected[:12]}...; use the file that the card names, or write a card of your own for these weights"
        )
    return network.eval()


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
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(digest([model_card.id, seed])[:15], 16))
        network = build(model_card)
    calibrate_batchnorm(network, calibration)
    return network


def calibrate_batchnorm(network: nn.Module, batches: Iterable[np.ndarray]) -> None:
    """Set the running statistics of every BatchNorm to the mean over `batches`; other modules stay in eval mode."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
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


# What Torch's restricted unpickler raises for files that are no checkpoints.
_UNREADABLE = (
    pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    OverflowError, struct.error, AssertionError, NotImplementedError,
)  # fmt: skip


def read_checkpoint(path: Path) -> StateDict:
    """Read a state dict from a safetensors file, or any other file with ``weights_only=True``."""
    try:
        with path.open("rb"):
            pass  # for an unreadable file the libraries report that there is none
    except OSError as cause:
        raise WeightsError(
            f"weights file '{path}' cannot be read: {cause.strerror or cause}; change its permissions"
        ) from None
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Torch warns of what it then refuses, or of kinds of tensors that are refused below.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as cause:
        raise WeightsError(
            f"weights file '{path}' is not a plain state dict ({type(cause).__name__}), expected safetensors or a "
            "file that loads with weights_only=True; files with code are refused"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"weights file '{path}' holds no state dict (names to tensors); save model.state_dict()")
    if any(tensor.layout != torch.strided or tensor.device.type != "cpu" for tensor in state.values()):
        raise WeightsError(
            f"weights file '{path}' holds sparse or empty (meta) tensors, expected plain ones; convert them"
        )
    return state


def load_mapped(network: nn.Module, state: StateDict, model_card: ModelCard, path: Path) -> None:
    """Put the tensors of `state` into `network` as the card says, after checking every name and shape."""
    weights = model_card.weights
    kept = (
        {k: v for k, v in state.items() if not k.startswith(weights.drop_prefixes)} if weights.drop_prefixes else state
    )
    target = network.state_dict()
    if weights.mapping == "by_order" and kept.keys() != target.keys():
        if path.suffix == ".safetensors":
            raise WeightsError(
                f"weights of '{model_card.id}' in '{path}' go by order, and a safetensors file does not keep the order "
                "of its tensors; save the network's own state dict, or give a .pth file"
            )
        if len(kept) != len(target):
            raise WeightsError(_mismatch(model_card, path, f"{len(kept)} tensors", f"{len(target)}"))
        kept = dict(zip(target, kept.values(), strict=True))
    # Checkpoints from before BatchNorm counted its batches lack that counter, which eval mode never reads.
    optional = {name for name in target if name.endswith("num_batches_tracked")}
    missing = [name for name in target if name not in kept and name not in optional]
    unknown = [name for name in kept if name not in target]
    if missing or unknown:
        first = f"no tensor '{missing[0]}'" if missing else f"an unknown tensor '{unknown[0]}'"
        raise WeightsError(
            _mismatch(model_card, path, first, f"the {len(target)} tensors of {model_card.architecture}")
        )
    for name, tensor in kept.items():
        if tensor.shape != target[name].shape:
            raise WeightsError(
                _mismatch(model_card, path, f"shape {tuple(tensor.shape)} for '{name}'", f"{tuple(target[name].shape)}")
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise WeightsError(_mismatch(model_card, path, f"NaN or infinite values in '{name}'", "finite weights"))
    network.load_state_dict({**{name: target[name] for name in optional}, **kept})


def _mismatch(model_card: ModelCard, path: Path, came: str, expected: str) -> str:
    return f"weights of '{model_card.id}' in '{path}' have {came}, expected {expected}; give the file the card names"


@dataclass(frozen=True)
class Facts:
    """What a library says of an architecture: its preprocessing and its default weights, as a card states them."""

    preprocessing: dict[str, Any]
    weights: dict[str, str]


def _timm_facts(architecture: str) -> Facts:
    import timm

    if not timm.is_model(architecture):
        raise CardError(f"timm has no architecture '{architecture}'{did_you_mean(architecture, timm.list_models())}")
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
    name = f"{architecture}.{config['tag']}" if config.get("tag") else architecture
    return Facts(preprocessing, {"name": name, "url": f"timm/{name}" if config.get("hf_hub_id") else ""})


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
    shown = default.transforms()
    # Those of networks that segment are shown whole images.
    preprocessing = {
        "size_px": int(getattr(shown, "crop_size", shown.resize_size)[0]), "resize_px": int(shown.resize_size[0]),
        "interpolation": shown.interpolation.value, "mean": tuple(shown.mean), "std": tuple(shown.std),
    }  # fmt: skip
    prefix = default.url.rsplit("-", 1)[-1].split(".")[0]
    return Facts(preprocessing, {"name": default.name, "url": default.url, "file_sha256_prefix": prefix})


def _pocket_facts(architecture: str) -> Facts:
    from universality.models.pocket import networks as pocket_networks

    known = pocket_networks.ARCHITECTURES
    if architecture not in known:
        raise CardError(f"the pocket zoo has no architecture '{architecture}'{did_you_mean(architecture, known)}")
    half = (0.5, 0.5, 0.5)
    preprocessing = {"size_px": 64, "interpolation": "bicubic", "mean": half, "std": tuple(x / 2 for x in half)}
    return Facts(preprocessing, {"name": architecture})


FACTS: dict[str, Callable[[str], Facts]] = {
    "timm": _timm_facts,
    "torchvision": _torchvision_facts,
    "pocket": _pocket_facts,
}
"""By library: what it says of an architecture; raises `CardError` with the nearest name for one it lacks."""
