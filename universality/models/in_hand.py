"""Modules in hand as models of a job: a card is measured on each, and the module itself travels with the job.

Its identity is the hash of its weights and its structure, so that the same module with the same weights is found in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from universality.base.errors import CardError
from universality.base.spec import digest
from universality.base.toml import validate
from universality.models import catalogue, drafting, zoo
from universality.models.card import ModelCard, Preprocessing
from universality.models.survey import surveyed

LIBRARY = "hand"
_MODULES: dict[str, nn.Module] = {}


def preprocessing_of(module: nn.Module, given: Preprocessing | Mapping[str, Any] | None) -> Preprocessing | None:
    """Return what makes an image the module's input: what is given, else what a network of timm carries with it; else None."""
    if isinstance(given, Preprocessing):
        return given
    if given is None:
        config = getattr(module, "pretrained_cfg", None)
        if not isinstance(config, Mapping) or not {"input_size", "mean", "std"} <= config.keys():
            return None
        channels, height, width = config["input_size"]
        given = {"size_px": height, "mean": tuple(config["mean"])[:channels], "std": tuple(config["std"])[:channels]}
        given |= {"width_px": width} if width != height else {}
    return validate(Preprocessing, {"interpolation": "bicubic", **given}, "preprocessing", CardError)


def take(
    models: Mapping[str, Any], taps: Mapping[str, Sequence[str] | None], say: Callable[[str], None] = lambda text: None
) -> None:
    """Make modules known by name for this process, and measure their taps.

    Parameters
    ----------
    models : name -> module, or (module, preprocessing)
    taps : name -> module paths; None, or no entry, for six, evenly in depth

    Raises
    ------
    CardError
        A name that a card has, something that is no module, or a module of which nobody said how its images are made.
    """
    for name, given in models.items():
        module, asked = given if isinstance(given, tuple) else (given, None)
        if not isinstance(module, nn.Module):
            raise CardError(
                f"model '{name}' is {type(module).__name__}, expected a torch.nn.Module or (module, preprocessing)"
            )
        if name in catalogue.cards() and name not in catalogue.IN_HAND:
            raise CardError(f"model '{name}' has a card; give your module another name")
        preprocessing = preprocessing_of(module, asked)
        if preprocessing is None:
            raise CardError(
                f"nothing says how images are made for '{name}'; give (module, dict(size_px=..., mean=(...), std=(...)))"
            )
        catalogue.IN_HAND[name] = _card(name, module, preprocessing, taps.get(name), say)
        _MODULES[name] = module


def module_of(card: ModelCard) -> nn.Module | None:
    """Return the module of a card in hand; None where this process was not given it."""
    return _MODULES.get(card.id) if card.library == LIBRARY else None


def _card(
    name: str, module: nn.Module, preprocessing: Preprocessing, taps: Sequence[str] | None, say: Callable[[str], None]
) -> ModelCard:
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    asked = drafting.Asked(name, library=LIBRARY, architecture=kind, taps=tuple(taps or ()))
    with zoo.evaluating(module):
        survey = surveyed(module, preprocessing.shape)
        found = drafting.measured(module, asked, survey, say)
    return ModelCard(
        id=name, source=LIBRARY, library=LIBRARY, architecture=kind, kwargs={"structure": digest(repr(module))[:16]},
        training_set="not stated: a module in hand", licence="not stated", citation="not stated", preprocessing=preprocessing,
        weights={"name": "in hand", "state_dict_sha256": zoo.state_dict_sha256(module.state_dict())}, taps=found,
    )  # fmt: skip
