"""A model card for a network of one's own: measured taps, the library's preprocessing, and where the weights lie.

A card states facts; here they are measured on the network (`receptive_field.describe_taps`) or read from the library
that supplies the architecture, and what cannot be measured (licence, citation, training set) is left for the user to fill in.
"""

from __future__ import annotations

import re
import shutil
import time
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray
from torch import nn

from universality.base.errors import CardError, TapError, WeightsError
from universality.base.paths import UNKNOWN, own_cards
from universality.base.toml import validate
from universality.models import catalogue, checkpoints, twins, weight_files, zoo
from universality.models.card import CHANNELS, ModelCard, Preprocessing, Tap, tap_name
from universality.models.receptive_field import Place, Say, describe_taps
from universality.models.survey import Output, Survey, surveyed

Side = Literal["pre", "post"]
Natural = Callable[[Preprocessing], NDArray[np.float32]]
"""Natural images (image, channel, y, x), normalised for a network."""
LEAST_MAP = 3
"""Smallest side of a map that is offered as a tap: below it there is no middle position with neighbours."""
MOST_SECONDS = 45.0
"""For the receptive fields of taps that are chosen by themselves; named ones are measured however long it takes."""
OPENERS: tuple[dict[str, Any], ...] = (
    {"zero_init_last": False}, {"ls_init_value": 1.0}, {"init_values": 1.0}, {"layer_scale": 1.0}, {"layer_scale_init_value": 1.0},
    {"layer_scale_init_values": 1.0}, {"layerscale_value": 1.0},
)  # fmt: skip
"""The libraries' own arguments with which residual branches are open from the start. A layer scale of 1 counts a branch as it is."""
SIZES = ("img_size", "image_size")
"""The libraries' arguments for the input of a network that takes one size only."""
_ROUNDS = 3
_REFUSALS = (
    AssertionError, AttributeError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, OSError,
)  # fmt: skip
"""What networks raise for an input that they do not take."""


@dataclass(frozen=True)
class Asked:
    """What a user says of a network; the rest is measured.

    Attributes
    ----------
    library, architecture : who supplies the architecture, and its name there; empty: from the id
    kwargs : arguments of the architecture, such as ``num_classes``
    taps : module paths, with ``[ITEM]`` for one of several tensors; empty: `most_taps` of them, evenly in depth
    size_px, width_px : side of the input, and its width where it is not square, px; None: the library's
    mean, std : per channel; None: the library's
    weights : a checkpoint that is copied into the weights folder; None: from the card's source
    part, by_order, drop : which set of tensors in it, whether they go by order, prefixes of what to leave out
    random : seed of random weights instead of trained ones: an untrained network as a model
    """

    model_id: str
    library: str = ""
    architecture: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    taps: Sequence[str] = ()
    most_taps: int = 6
    size_px: int | None = None
    width_px: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: Path | None = None
    part: str = ""
    by_order: bool = False
    drop: Sequence[str] = ()
    random: int | None = None
    licence: str = UNKNOWN
    training_set: str = UNKNOWN
    citation: str = UNKNOWN


def arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a mapping; values are TOML values, and plain text where they are none.

    Examples
    --------
    >>> arguments(["num_classes=10", "act_layer=gelu"])
    {'num_classes': 10, 'act_layer': 'gelu'}
    """
    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals):
            raise CardError(f"argument '{pair}' is no KEY=VALUE, such as num_classes=10; correct --argument")
        try:
            found[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = text
    return found


def channels(option: str, text: str) -> tuple[float, ...] | None:
    """Return one number for each channel from ``0.5,0.5,0.5``; None from an empty text."""
    if not text:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in CHANNELS:
        raise CardError(
            f"{option} is '{text}', expected a number for each channel, such as 0.5,0.5,0.5, or 0.5 for luminance"
        )
    return found


def sides(option: str, text: str) -> tuple[int | None, int | None]:
    """Return height and width (None for a square) from ``224`` or ``128x64``; both None from an empty text."""
    if not text:
        return None, None
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    if not found:
        raise CardError(f"{option} is '{text}', expected px such as 224, or height x width such as 128x64")
    height, width = int(found[1]), int(found[2] or found[1])
    return height, None if width == height else width


def draft(asked: Asked, natural: Natural | None = None, say: Say = lambda text: None) -> ModelCard:
    """Return a card whose taps were measured on the network.

    Parameters
    ----------
    natural : gives natural images for a network, on which its untrained twin is judged; without it the twin is not looked at
    say : is told what is done, what takes long and what is left out

    Raises
    ------
    CardError
        No architecture of that name, an id that another card has, or a network that takes no images.
    TapError
        A named module does not exist or gives no units.
    WeightsError
        The checkpoint does not fit.
    """
    if asked.model_id in catalogue.cards():
        raise CardError(f"model '{asked.model_id}' has a card already; give another id, or edit that card")
    source, _, name = asked.model_id.partition("/")
    library = asked.library or source
    if library not in zoo.FACTS:
        raise CardError(
            f"library '{library}' is not known, expected one of {', '.join(zoo.FACTS)}; name it with --library"
        )
    architecture = asked.architecture or name
    facts = zoo.FACTS[library](architecture)
    preprocessing = _preprocessing(facts, asked)
    plain = {
        "id": asked.model_id,
        "source": _source(source, asked),
        "library": library,
        "architecture": architecture,
        "kwargs": {**({} if asked.weights else facts.kwargs), **asked.kwargs},
        "training_set": asked.training_set
        if asked.random is None
        else f"nothing: random weights of seed {asked.random}",
        "licence": asked.licence,
        "citation": asked.citation,
        "preprocessing": preprocessing.plain(),
        "weights": _weights(facts, asked),
        "taps": [_PLACEHOLDER],
    }
    plain = {key: value for key, value in plain.items() if value not in ({}, "")}
    say(f"building {architecture} of {library}, and showing it an image of {_in_words(preprocessing.shape)}")
    card, network, survey = _shown(validate(ModelCard, plain, f"model '{asked.model_id}'", CardError))
    if asked.weights is not None:
        # Before anything is measured: a file that does not fit is a mistake to be told at once.
        card = _with_file(card, network, asked.weights)
        for text in (*card.weights.done, *card.weights.lost):
            say(f"weights: {text}")
    if natural is not None:
        say("looking at what the blocks of an untrained twin do with natural images")
        card, network = _judged(card, network, natural(preprocessing))
    taps = measured(network, asked, survey, say)
    return card.model_copy(update={"taps": taps})


def measured(network: nn.Module, asked: Asked, survey: Survey, say: Say) -> tuple[Tap, ...]:
    """Return the taps that are asked for, or some evenly in depth, with their receptive fields."""
    return _named(network, asked, survey, say) if asked.taps else _evenly(network, asked, survey, say)


def _source(source: str, asked: Asked) -> str:
    if asked.random is not None:
        if asked.weights is not None:
            raise CardError(
                "--weights and --random are both given, expected one: a file, or the seed of random weights"
            )
        return "random"
    return source if source in weight_files.SOURCES and asked.weights is None else "file"


def _weights(facts: zoo.Facts, asked: Asked) -> dict[str, Any]:
    """Return what the card says of its weights before a file is read."""
    if asked.random is not None:
        return {"name": "random", "seed": asked.random}
    if asked.weights is None:
        return dict(facts.weights)
    mapping = "by_order" if asked.by_order else "by_name"
    return {"name": asked.weights.name, "part": asked.part, "mapping": mapping, "drop_prefixes": tuple(asked.drop)}


def _with_file(card: ModelCard, network: nn.Module, path: Path) -> ModelCard:
    """Return the card with what its file holds and what was done to it; the network has the file's weights then."""
    fitted = zoo.load(network, checkpoints.read(path), card, path)
    found = {
        "part": card.weights.part and fitted.part, "done": fitted.done, "lost": fitted.lost,
        "state_dict_sha256": zoo.state_dict_sha256(network.state_dict()),
    }  # fmt: skip
    return card.model_copy(update={"weights": card.weights.model_copy(update=found)})


_PLACEHOLDER = {
    "activation": "post", "channels": 1, "size": 1, "rf_px": 1, "stride_px": 1, "rf_start_px": 0.0, "relative_depth": 1.0,
    "path": "-",
}  # fmt: skip


def _in_words(shape: tuple[int, int, int]) -> str:
    return f"{' x '.join(map(str, shape[1:]))} px in {shape[0]} channel{'s' if shape[0] > 1 else ''}"


def _preprocessing(facts: zoo.Facts, asked: Asked) -> Preprocessing:
    own = {key: value for key in ("size_px", "mean", "std") if (value := getattr(asked, key)) is not None}
    if asked.size_px is not None:
        own["width_px"] = asked.width_px
    values = {**facts.preprocessing, **own}
    count = asked.kwargs.get("in_chans", len(values["mean"]))
    if count not in CHANNELS:
        said = ", ".join(f"{number} ({what})" for number, what in CHANNELS.items())
        raise CardError(
            f"model '{asked.model_id}': argument in_chans is {count}, expected a number of channels that a picture in colour can be "
            f"shown in: {said}"
        )
    for key, fill in (("mean", 0.0), ("std", 1.0)):
        if count == len(values[key]):
            continue
        if key in own:
            raise CardError(
                f"model '{asked.model_id}': the network takes {count} channel(s), came {len(values[key])} number(s) in --{key}; give one for "
                "each channel"
            )
        known = tuple(values[key])[:3]
        values[key] = (sum(known) / len(known),) if count == 1 else (*known, fill)
        how = (
            "their averages are taken for luminance"
            if count == 1
            else "the fourth, which is 1 everywhere, is not changed"
        )
        said = f"The library states mean and std for three channels: {how}."
        values["note"] = " ".join(text for text in (facts.preprocessing.get("note", ""), said) if text)
    return validate(Preprocessing, values, f"model '{asked.model_id}'", CardError)


def _shown(card: ModelCard) -> tuple[ModelCard, nn.Module, Survey]:
    """Return the card, its network, and what that gives to an image; built for the input's size where it takes one only."""
    shape = card.preprocessing.shape
    network = _built(card)
    try:
        return card, network, surveyed(network, shape)
    except _REFUSALS as cause:
        refused = cause
    side = shape[1] if shape[1] == shape[2] else shape[1:]
    for name in SIZES:
        if name in card.kwargs:
            continue
        sized = card.model_copy(update={"kwargs": {**card.kwargs, name: side}})
        try:
            network = _built(sized)
            return sized, network, surveyed(network, shape)
        except (CardError, *_REFUSALS):
            continue
    raise CardError(
        f"architecture '{card.architecture}' of {card.library} takes no image of {_in_words(shape)} ({_first_line(refused)}); give another "
        "--size, or the architecture's own argument with --argument"
    )


def _first_line(cause: BaseException) -> str:
    text = str(cause).strip()
    return f"{type(cause).__name__}: {text.splitlines()[0][:120]}" if text else type(cause).__name__


def _built(card: ModelCard) -> nn.Module:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torchvision warns that some architectures will begin otherwise one day.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(0)
        return zoo.build(card)


def _judged(card: ModelCard, network: nn.Module, images: NDArray[np.float32]) -> tuple[ModelCard, nn.Module]:
    """Return the card with what its untrained twin lacks as a null, mended by the library's own argument as far as one can.

    An argument mends where it leaves the names and shapes of the weights as they are, so that a checkpoint still fits.
    """
    first = _of_twin(card, images)
    best, chosen, found = card, network, first
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for opener in OPENERS:
        if not found.shut:
            break
        opened = card.model_copy(update={"kwargs": {**card.kwargs, **opener}})
        if opener.keys() & card.kwargs.keys():
            continue
        try:
            other = _built(opened)
        except CardError:
            continue
        if {name: tensor.shape for name, tensor in other.state_dict().items()} == shapes:
            came = _of_twin(opened, images)
            if len(came.shut) < len(found.shut):
                best, chosen, found = opened, other, came
    if best is not card:
        ((name, value),) = ((name, value) for name, value in best.kwargs.items() if name not in card.kwargs)
        note = f"Residual branches are open from the start ({name} = {str(value).lower()}); with the library's default "
        shut = f"{len(first.shut)} blocks of an untrained twin hand on their input."
        best = best.model_copy(update={"note": note + shut})
    return best.model_copy(update={"void_twin": found.void}), chosen


def _of_twin(card: ModelCard, images: NDArray[np.float32]) -> twins.Twin:
    return twins.examined(zoo.untrained(card, 0, [images]), images)


def _named(network: nn.Module, asked: Asked, survey: Survey, say: Say) -> tuple[Tap, ...]:
    """Return the taps that were asked for; of a module that gives several tensors, all that are units."""
    taps: list[Tap] = []
    places = [place for text in asked.taps for place in _places(survey, text)]
    found = describe_taps(network, places, survey.shape, survey=survey, say=say)
    for text in asked.taps:
        of = [came for place, came in zip(places, found, strict=True) if place in _places(survey, text)]
        good = [came for came in of if isinstance(came, Tap)]
        if not good:
            raise next(came for came in of if isinstance(came, TapError))
        for came in of:
            if isinstance(came, TapError):
                say(f"left out: {came}")
        taps += good
    return tuple(dict.fromkeys(taps))


def _places(survey: Survey, text: str) -> list[Place]:
    """Return the places of ``PATH`` or ``PATH[ITEM]``; ``output`` is what the network itself gives."""
    whole = re.fullmatch(r"(.*?)(?:\[([^\]]+)\])?", text)
    assert whole is not None  # anything matches
    path, item = whole[1], whole[2] or ""
    if path == "output" and path not in survey.calls:
        path = ""
    given = [o for o in survey.outputs if (o.path, o.call, o.side) == (path, 0, "output")]
    if not item and len(given) > 1:
        return [_place(o) for o in given]
    return [_place(o) for o in given if o.item == item] or [Place(path, item)]


def _place(output: Output) -> Place:
    side: Side = "post" if output.bent or output.gated or output.positive else "pre"
    name = f"{tap_name(output.path, output.item)}:input" if output.side == "input" else ""
    return Place(output.path, output.item, output.call, output.side, side, name)


def _evenly(network: nn.Module, asked: Asked, survey: Survey, say: Say) -> tuple[Tap, ...]:
    """Return measured taps at relative depths that are as even as the network's modules allow, shallow first.

    What cannot be measured is not tried again: the next nearest comes in its place.
    """
    candidates = {_place(output): output.depth / survey.depth for output in _candidates(survey)}
    found: dict[Place, Tap] = {}
    until = time.monotonic() + MOST_SECONDS
    say(
        f"{len(candidates)} places give units behind a nonlinearity; {min(asked.most_taps, len(candidates))} are taken, evenly in depth"
    )
    for _ in range(_ROUNDS):
        wanted = _nearest(candidates, asked.most_taps)
        new = [place for place in wanted if place not in found]
        for place, came in zip(
            new, describe_taps(network, new, survey.shape, survey=survey, say=say, until=until), strict=True
        ):
            if isinstance(came, Tap):
                found[place] = came
            else:
                del candidates[place]
                say(f"left out: {came}")
        wanted = [place for place in wanted if place in found]
        if len(wanted) == len(_nearest(candidates, asked.most_taps)) or time.monotonic() > until:
            break
    if not wanted:
        raise CardError(
            f"model '{asked.model_id}': no module gives maps or tokens of at least {LEAST_MAP} x {LEAST_MAP} positions that can be "
            "measured; give a larger --size, or name modules with --tap"
        )
    return tuple(sorted((found[place] for place in wanted), key=lambda tap: tap.relative_depth))


def _nearest(candidates: Mapping[Place, float], most: int) -> list[Place]:
    """Return places of different depth nearest to even ones; a whole block a little off is nearer than a part inside one."""
    chosen: list[Place] = []
    for goal in ((k + 0.5) / most for k in range(most)):
        taken = {candidates[place] for place in chosen}
        left = [place for place, depth in candidates.items() if depth not in taken]
        if left:
            nearest = min(
                left, key=lambda place: (abs(candidates[place] - goal) + 0.02 * place.path.count("."), place.path)
            )
            chosen.append(nearest)
    return chosen


def _candidates(survey: Survey) -> list[Output]:
    """Return what is offered as taps: maps and tokens of modules that are called once, behind a nonlinearity.

    Gates are none, nor is what a module only hands on. Of modules that give one tensor the outermost counts. In a gated linear
    unit the units are the product, which no module gives: it is recorded where the next one is given it. A network in which
    nothing bends a map is offered before its nonlinearities.
    """
    usable = [output for output in survey.outputs if _usable(survey, output)]
    behind = [o for o in usable if o.gated or (o.bent and not survey.is_gate(o))]
    behind = behind or [o for o in usable if o.positive and o.side == "output" and not survey.is_gate(o)]
    owners: dict[object, Output] = {}
    for output in behind or [o for o in usable if o.side == "output"]:
        if output.side == "output" or (
            output.gated and (output.mark not in owners or owners[output.mark].side == "input")
        ):
            owners[output.mark] = output
    return list(owners.values())


def _usable(survey: Survey, output: Output) -> bool:
    if survey.calls.get(output.path, 0) > 1 or output.handed_on or not 0 < output.depth < survey.depth:
        return False
    arranged = survey.arranged(output.shape)
    return (
        not isinstance(arranged, str) and arranged.kind != "vector" and min(arranged.size, arranged.width) >= LEAST_MAP
    )


def write(card: ModelCard, weights: Path | None = None) -> Path:
    """Write a card into the folder of one's own cards, and copy its checkpoint into the weights folder.

    Raises
    ------
    CardError, WeightsError
        A file is there already.
    """
    path = own_cards() / f"{card.id}.toml"
    if path.exists():
        raise CardError(f"'{path}' exists already; give another id, or delete it")
    path.parent.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        place = weight_files.weights_folder() / f"{card.id}{weight_files.suffix_of(weights)}"
        if place.exists():
            raise WeightsError(f"'{place}' exists already; give another id, or delete it")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, place)
    path.write_text(_toml(card), encoding="utf-8")
    return path


def _toml(card: ModelCard) -> str:
    """Return the card as TOML without what has its default."""
    plain = card.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for tap in plain["taps"]:
        if tap.get("name") == tap_name(tap["path"], tap.get("item", "")):
            del tap["name"]
    return tomli_w.dumps(plain)
