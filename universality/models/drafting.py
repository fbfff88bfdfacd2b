"""A model card for a network of one's own: measured taps, the library's preprocessing, and where the weights lie.

A card states facts; here they are measured on the network (`receptive_field.describe_tap`) or read from the library
that supplies the architecture, and what cannot be measured (licence, citation, training set) is left for the user to fill in.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w
import torch
from torch import Tensor, nn

from universality.base.errors import CardError, TapError, WeightsError
from universality.base.paths import UNKNOWN, own_cards
from universality.base.toml import validate
from universality.models import catalogue, checkpoints, weight_files, zoo
from universality.models.card import ModelCard, Preprocessing, Tap
from universality.models.hooks import weight_calls
from universality.models.receptive_field import describe_tap

Side = Literal["pre", "post"]
LEAST_MAP = 3
"""Smallest side of a map that is offered as a tap: below it there is no middle position with neighbours."""
OPENED = "Residual branches are open from the start (zero_init_last = false), or an untrained twin would be its shortcuts alone."
SHUT = "Some normalisations start at 0: an untrained twin lacks the branches behind them and is a weak null."


@dataclass(frozen=True)
class Asked:
    """What a user says of a network; the rest is measured.

    Attributes
    ----------
    library, architecture : who supplies the architecture, and its name there; empty: from the id
    kwargs : arguments of the architecture, such as ``num_classes``
    taps : module paths; empty: `most_taps` of them, evenly in depth
    size_px : side of the input, px; None: the library's
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
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
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


def channels(option: str, text: str) -> tuple[float, float, float] | None:
    """Return three numbers from ``0.5,0.5,0.5``; None from an empty text."""
    if not text:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise CardError(f"{option} is '{text}', expected three numbers such as 0.5,0.5,0.5") from None
    return red, green, blue


def draft(asked: Asked) -> ModelCard:
    """Return a card whose taps were measured on the network.

    Raises
    ------
    CardError
        No architecture of that name, an id that another card has, or a network without square maps.
    TapError
        A named module does not exist or gives no maps.
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
    without_taps = validate(ModelCard, plain, f"model '{asked.model_id}'", CardError)
    without_taps, network = _built(without_taps)
    if asked.weights is not None:
        # Before anything is measured: a file that does not fit is a mistake to be told at once.
        without_taps = _with_file(without_taps, network, asked.weights)
    taps = (
        _named(network, asked, preprocessing.size_px) if asked.taps else _evenly(network, asked, preprocessing.size_px)
    )
    return without_taps.model_copy(update={"taps": taps})


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


def _built(card: ModelCard) -> tuple[ModelCard, nn.Module]:
    """Return the card and its network; where timm would start residual branches at 0, with branches that are open.

    An untrained twin with closed branches would be its shortcuts alone, and useless as a null.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = zoo.build(card)
        except (TypeError, ValueError) as cause:
            raise CardError(
                f"architecture '{card.architecture}' of {card.library} refuses the arguments {card.kwargs or '(none)'}: "
                f"{str(cause).splitlines()[0]}; correct --argument"
            ) from None
        if card.library == "timm" and "zero_init_last" not in card.kwargs and _has_shut_branches(network):
            opened = card.model_copy(update={"kwargs": {**card.kwargs, "zero_init_last": False}, "note": OPENED})
            try:
                return opened, zoo.build(opened)
            except TypeError:
                return card.model_copy(update={"note": SHUT}), network
    return card, network


def _has_shut_branches(network: nn.Module) -> bool:
    weights = (getattr(module, "weight", None) for module in network.modules())
    return any(isinstance(weight, Tensor) and weight.numel() > 0 and not weight.any() for weight in weights)


_PLACEHOLDER = {
    "activation": "post", "channels": 1, "size": 1, "rf_px": 1, "stride_px": 1, "rf_start_px": 0.0, "relative_depth": 1.0,
    "path": "-",
}  # fmt: skip


def _preprocessing(facts: zoo.Facts, asked: Asked) -> Preprocessing:
    own = {key: value for key in ("size_px", "mean", "std") if (value := getattr(asked, key)) is not None}
    return validate(Preprocessing, {**facts.preprocessing, **own}, f"model '{asked.model_id}'", CardError)


def _named(network: nn.Module, asked: Asked, size_px: int) -> tuple[Tap, ...]:
    seen, _ = _outputs(network, size_px)
    sides = {path: _side(network.get_submodule(path), calls[0]) for path, calls in seen.items()}
    return tuple(_measured(network, path, size_px, sides.get(path, "post")) for path in asked.taps)


def _evenly(network: nn.Module, asked: Asked, size_px: int) -> tuple[Tap, ...]:
    """Return measured taps at relative depths that are as even as the network's modules allow, shallow first."""
    found: list[Tap] = []
    candidates = list(_maps(network, size_px).items())
    for goal in [(k + 0.5) / asked.most_taps for k in range(asked.most_taps)]:
        for path, (_, kind) in sorted(candidates, key=lambda item: _distance(item, goal)):
            if path in {tap.path for tap in found}:
                break
            try:
                found.append(_measured(network, path, size_px, kind))
            except TapError:
                continue  # it sees the whole input, or its field is not square: the next nearest module
            break
    if not found:
        raise CardError(
            f"model '{asked.model_id}': no module gives square maps of at least {LEAST_MAP} x {LEAST_MAP} positions with a "
            "measurable receptive field, which units in space need; name modules with --tap"
        )
    return tuple(sorted(found, key=lambda tap: tap.relative_depth))


def _measured(network: nn.Module, path: str, size_px: int, side: Side) -> Tap:
    try:
        return describe_tap(network, path, size_px, activation=side)
    except (AssertionError, RuntimeError, ValueError) as cause:
        # A network may refuse the larger image in which the field is measured, or fail in any other way.
        raise CardError(
            f"the receptive field of module '{path}' cannot be measured: the network refuses an input larger than {size_px} px "
            f"({str(cause).splitlines()[0][:80]}); write the card by hand, as in model_zoo/"
        ) from None


def _distance(candidate: tuple[str, tuple[float, Side]], goal: float) -> tuple[float, str]:
    """Return how far a module is from what is wanted; a whole block a little off is nearer than a part inside one."""
    path, (depth, side) = candidate
    return abs(depth - goal) + 0.03 * path.count(".") + (0.05 if side == "pre" else 0.0), path


@dataclass(frozen=True)
class _Output:
    """What a module gave when it was called: depth, the tensor itself (so that its identity stays taken), its sign."""

    depth: int
    maps: Any
    positive: bool


def _maps(network: nn.Module, size_px: int) -> dict[str, tuple[float, Side]]:
    """Return relative depth, and side of the nonlinearity, of every module that gives usable maps, called once.

    Of modules that hand on the same tensor the outermost counts.
    """
    seen, total = _outputs(network, size_px)
    found: dict[str, tuple[float, Side]] = {}
    owners: dict[int, str] = {}
    for path, calls in seen.items():
        first = calls[0]
        if len(calls) > 1 or not 0 < first.depth < total or not _usable(first.maps):
            continue
        found.pop(owners.get(id(first.maps), ""), None)
        owners[id(first.maps)] = path
        found[path] = (first.depth / total, _side(network.get_submodule(path), first))
    return found


def _side(module: nn.Module, first: _Output) -> Side:
    """Return on which side of the nonlinearity a module's output lies.

    Values below 0 for noise mean before it; a smooth one (GELU, SiLU), which gives such values, is told by its class.
    """
    nonlinearity = type(module).__module__ == "torch.nn.modules.activation"
    return "post" if nonlinearity or first.positive else "pre"


def _outputs(network: nn.Module, size_px: int) -> tuple[dict[str, list[_Output]], int]:
    """Return what every module gave in one forward pass of noise, and the number of weight layers that ran."""
    seen: dict[str, list[_Output]] = {}
    counted, remove = weight_calls(network)

    # The sign is read inside the hook: an in-place nonlinearity behind the module may overwrite the tensor.
    def note(path: str, out: Any) -> None:
        positive = isinstance(out, Tensor) and bool((out >= 0).all())
        seen.setdefault(path, []).append(_Output(counted(), out, positive))

    handles = [
        module.register_forward_hook(lambda _, __, out, path=path: note(path, out))
        for path, module in network.named_modules()
        if path
    ]
    try:
        with torch.inference_mode():
            network(torch.randn(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(0)))
        return seen, counted()
    finally:
        remove()
        for handle in handles:
            handle.remove()


def _usable(maps: Any) -> bool:
    return isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[2] == maps.shape[3] >= LEAST_MAP


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
        if tap.get("name") == tap["path"]:
            del tap["name"]
    return tomli_w.dumps(plain)
