"""Networks that people send: a card and a checkpoint, both looked at before anything is kept.

A card of a request says what a network is; it can name no file, address or package, and no argument that is a text. The checkpoint is a
safetensors file, whose header says what is in it: it is read and compared with the file's length, and no tensor is loaded.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from typing import Any, BinaryIO

import tomli_w

from universality.base.errors import CardError, ServiceError, TooMuchError, WeightsError
from universality.base.paths import own_cards
from universality.base.toml import MOST_TOML_BYTES, toml_of, validate
from universality.models.card import ModelCard
from universality.models.catalogue import cards
from universality.models.weight_files import SAFETENSORS, weights_folder
from universality.service.settings import Limits

_SOURCE = "file"
_LIBRARIES = ("timm", "torchvision", "pocket")
_NAME = re.compile(r"own/[A-Za-z0-9][A-Za-z0-9_\-]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9_.]{1,80}")
_FETCHING = re.compile(r"pretrained|checkpoint|weights|cache|hf_|hub|local|file|path|url", re.IGNORECASE)
"""In names of arguments by which libraries read or fetch files."""
_MOST_HEADER_BYTES = 16 << 20
_MOST_ARGUMENT = 65_536
"""Of a number among the arguments, either way: a class for each would fill the memory before the weights were looked at. Published networks have 21,843."""
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


def keep(card: bytes, weights: BinaryIO, limits: Limits) -> ModelCard:
    """Check a card and a checkpoint, keep both where jobs and the command line find them, and return the card.

    Raises
    ------
    CardError
        The card is malformed, or names what a card of a request may not.
    WeightsError
        The checkpoint is no safetensors file, or not one that its header describes.
    TooMuchError
        The checkpoint has more tensors, or the card more taps, than the limits allow.
    ServiceError
        There is a network of this name.
    """
    checked = check_card(card, limits)
    check_safetensors(weights, limits)
    place, file = own_cards() / f"{checked.id}.toml", weights_folder() / f"{checked.id}{SAFETENSORS}"
    if checked.id in cards() or place.exists() or file.exists():
        raise ServiceError(f"there is a network '{checked.id}' already; give yours another name")
    for path in (place, file):
        path.parent.mkdir(parents=True, exist_ok=True)
    weights.seek(0)
    # Of two requests with one name the second finds the file that the first has made.
    try:
        with file.open("xb") as kept:
            shutil.copyfileobj(weights, kept, 1 << 20)
            kept.flush()
            os.fsync(kept.fileno())
    except FileExistsError:
        raise ServiceError(f"there is a network '{checked.id}' already; give yours another name") from None
    except OSError as cause:
        file.unlink(missing_ok=True)
        raise ServiceError(
            f"the checkpoint cannot be kept ({cause.strerror or cause}); ask whoever runs the service to free space"
        ) from None
    partial = place.with_suffix(".partial")
    partial.write_text(
        tomli_w.dumps(checked.model_dump(mode="json", exclude_none=True, exclude_defaults=True)), encoding="utf-8"
    )
    partial.replace(place)
    return checked


def check_card(content: bytes, limits: Limits) -> ModelCard:
    """Return the card of a request; see `keep` for what is raised."""
    if len(content) > MOST_TOML_BYTES:
        raise CardError(f"the card has {len(content)} bytes, expected at most {MOST_TOML_BYTES}; send a card in TOML")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CardError("the card is not UTF-8 text; send it as UTF-8") from None
    card = validate(ModelCard, toml_of(text, "the card", "card", CardError), "the card", CardError)
    for wrong, sentence in _wrongs(card):
        if wrong:
            raise CardError(f"the card {sentence}")
    if len(card.taps) > limits.taps:
        raise TooMuchError(f"the card has {len(card.taps)} taps, this service allows {limits.taps}; leave some out")
    return card


def _wrongs(card: ModelCard) -> list[tuple[bool, str]]:
    """Return what a card of a request may not say, each with whether it does."""
    weights = card.weights
    named = [name for name in ("url", "hub_file", "package", "package_file") if getattr(weights, name)]
    texts = [name for name, value in card.kwargs.items() if isinstance(value, str)]
    large = [
        name
        for name, value in card.kwargs.items()
        if not isinstance(value, str)
        and any(abs(number) > _MOST_ARGUMENT for number in (value if isinstance(value, tuple) else (value,)))
    ]
    fetching = [name for name in card.kwargs if _FETCHING.search(name) or not _WORD.fullmatch(name)]
    return [
        (not _NAME.fullmatch(card.id), f"has the id '{card.id[:80]}', expected own/NAME with letters, digits, '_' and '-'; rename it"),
        (card.source != _SOURCE, f"has the source '{card.source[:80]}', expected '{_SOURCE}': its weights come with it; correct it"),
        (card.library not in _LIBRARIES, f"has the library '{card.library}', expected one of {', '.join(_LIBRARIES)}; correct it"),
        (not _WORD.fullmatch(card.architecture), f"has the architecture '{card.architecture[:80]}', expected a name of the library; correct it"),
        (bool(named), f"names weights.{', weights.'.join(named)}, which a card of a request may not; leave them out"),
        (bool(texts), f"has texts as arguments ({', '.join(texts)}), which a card of a request may not; leave them out"),
        (bool(fetching), f"has arguments by which files are read ({', '.join(fetching)}); leave them out"),
        (bool(large), f"has arguments beyond {_MOST_ARGUMENT} ({', '.join(large)}), which a card of a request may not; correct them"),
        (card.untrained, "is of random weights, and a checkpoint came with it; leave out weights.seed"),
        (card.training is not None, "has the section training, which only networks of the project have; leave it out"),
    ]  # fmt: skip


def check_safetensors(file: BinaryIO, limits: Limits) -> None:
    """Compare a file's header with the file itself: kinds, shapes and places of all tensors. Nothing else is read.

    Raises
    ------
    WeightsError
        It is no safetensors file, or damaged.
    TooMuchError
        It is larger, or has more tensors, than the limits allow.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size > limits.upload_bytes:
        raise TooMuchError(
            f"the checkpoint has {size} bytes, this service takes {limits.upload_bytes}; send a smaller one"
        )
    length = int.from_bytes(file.read(8), "little") if size >= 8 else 0
    if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
        raise WeightsError("the checkpoint is no safetensors file; convert it with safetensors.torch.save_file")
    try:
        header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        places = sorted(_place(name, entry) for name, entry in entries.items())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as cause:
        raise WeightsError(
            f"the checkpoint's header is damaged ({type(cause).__name__}: {str(cause)[:120]}); save it again"
        ) from None
    if len(places) > limits.upload_tensors:
        raise TooMuchError(
            f"the checkpoint has {len(places)} tensors, this service takes {limits.upload_tensors}; send a smaller network"
        )
    end = 0
    for begins, ends in places:
        if begins != end:
            raise WeightsError("the checkpoint's tensors overlap or leave gaps; save it again")
        end = ends
    if not places or end != size - 8 - length:
        raise WeightsError(
            f"the checkpoint's header describes {end} bytes, came {size - 8 - length}; save it again, or send it again"
        )


def _place(name: str, entry: dict[str, Any]) -> tuple[int, int]:
    """Return where a tensor begins and ends; raise `ValueError` where that contradicts its shape."""
    kind, shape = entry["dtype"], entry["shape"]
    begins, ends = entry["data_offsets"]
    if (
        kind not in _BYTES
        or len(shape) > 16
        or not all(type(value) is int and value >= 0 for value in (*shape, begins, ends))
    ):
        raise ValueError(f"tensor '{name[:60]}' is of an unknown kind or shape")
    if ends - begins != math.prod(shape) * _BYTES[kind]:
        raise ValueError(f"tensor '{name[:60]}' has another length than its shape")
    return begins, ends
