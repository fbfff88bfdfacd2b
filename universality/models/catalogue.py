"""The model cards, and what is known of a network from its card alone: nothing here loads a network.

Torch, timm and torchvision take seconds to import; listing networks and naming their activations need none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from universality.base.errors import CardError, did_you_mean
from universality.base.paths import own_cards, resource
from universality.base.spec import digest
from universality.models.card import ModelCard, read_card
from universality.models.weight_files import SOURCES

UNTRAINED_RECIPE_VERSION = 2
COPY_RECIPE_VERSION = 2
CALIBRATION_BATCH = 16
IN_HAND: dict[str, ModelCard] = {}
"""Cards of modules that this process was given (`models.in_hand`), or that a run which it opened had."""


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
    return dict(sorted({**shipped, **own, **IN_HAND}.items()))


@lru_cache(maxsize=4)
def _shipped_cards(root: Path) -> tuple[tuple[str, ModelCard], ...]:
    return _cards(root)


def _cards(root: Path) -> tuple[tuple[str, ModelCard], ...]:
    found = []
    for path in sorted(root.glob("*/*.toml")):
        card = read_card(path)
        expected = f"{path.parent.name}/{path.stem}"
        if card.id != expected:
            raise CardError(f"model card '{path}' has id '{card.id}', expected '{expected}' from its path; mend either")
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


def training_sets(model_ids: Iterable[str]) -> dict[str, str]:
    """Return by model what its weights were trained on, in a word or two: the classes over which nothing is averaged."""
    known = cards()
    return {
        model: re.split(r",| \(", known[model].training_set)[0] if model in known else "something not stated"
        for model in dict.fromkeys(model_ids)
    }


def untrained_identity(model_card: ModelCard, seed: int, calibration_digest: str) -> str:
    """Return the digest of the recipe of `universality.models.zoo.untrained`: it stands for the weights before they are made."""
    return digest(
        [
            "untrained",
            UNTRAINED_RECIPE_VERSION,
            model_card.id,
            model_card.architecture_digest(),
            seed,
            calibration_digest,
            CALIBRATION_BATCH,
            written_version("torch"),
            written_version("timm"),
            written_version("torchvision"),
        ]
    )


def copy_identity(model_card: ModelCard, made_of: str) -> str:
    """Return the digest of the recipe of `universality.models.copies.noisy`; `made_of` digests the original, the correlation and the images."""
    versions = [written_version(name) for name in ("torch", "timm", "torchvision")]
    return digest(["noisy copy", COPY_RECIPE_VERSION, model_card.id, made_of, CALIBRATION_BATCH, versions])


@cache
def written_version(package: str) -> str:
    """Return ``package.__version__`` as the package's own ``version.py`` writes it, without importing the package.

    It is not always the version that pip knows: a build for a kind of device may say so in one of them only.
    """
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / "version.py"
        written = (
            re.search(r"""^__version__ *= *["']([^"']+)["']""", file.read_text("utf-8"), re.MULTILINE)
            if file.is_file()
            else None
        )
        if written:
            return written[1]
    return str(importlib.import_module(package).__version__)
