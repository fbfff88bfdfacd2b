"""Every place of a network where a tensor comes by, by name: modules, their calls, and what they are given or give.

A point's name is the module's path, with what tells it from the module's other tensors behind it: ``layer1.0``, ``backbone[out]`` (one of several tensors),
``act#2`` (the third call in one pass), ``features.4:in`` (what the module is given), ``output`` (what the network gives).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor, nn

from universality.base.errors import TapError, did_you_mean
from universality.models import hooks
from universality.models.card import ModelCard, Size, Tap, tap_name
from universality.models.survey import surveyed

_NAME = re.compile(r"^(?P<path>[^\[#:]*)(\[(?P<item>[^\]]+)\])?(#(?P<call>\d+))?(?P<given>:in)?$")
OUTPUT = "output"


@dataclass(frozen=True)
class Point:
    """One place, of which it is not known how its tensor is arranged."""

    path: str
    item: str = ""
    call: int = 0
    side: Literal["input", "output"] = "output"

    @property
    def name(self) -> str:
        """As `named` reads it."""
        call = f"#{self.call}" if self.call else ""
        return f"{tap_name(self.path, self.item)}{call}{':in' if self.side == 'input' else ''}"


@dataclass(frozen=True)
class Listed:
    """What comes by at a point.

    Attributes
    ----------
    shape : of one image
    kind : map | tokens | vector, or why it is none of them
    units : how many; 0 where it is none of them
    relative_depth : convolutions and linear layers run before, of all, 0 to 1
    module : class of the module
    """

    point: Point
    shape: tuple[int, ...]
    kind: str
    units: int
    relative_depth: float
    module: str


def listed(network: nn.Module, size: Size) -> list[Listed]:
    """Return every point of a network in forward order: what each module gives at each of its calls; what it is given has the same name with ``:in``."""
    survey, modules, found = surveyed(network, size), dict(network.named_modules()), []
    for o in survey.outputs:
        if o.side == "output":
            arranged = survey.arranged(o.shape)
            kind, units = (arranged, 0) if isinstance(arranged, str) else (arranged.kind, arranged.channels)
            depth = o.depth / survey.depth if survey.depth else 0.0
            found.append(
                Listed(Point(o.path, o.item, o.call), o.shape[1:], kind, units, depth, type(modules[o.path]).__name__)
            )
    return found


def named(name: str) -> Point:
    """Return the point of a name; raise `TapError` if it is malformed."""
    came = _NAME.match(name)
    if came is None:
        raise TapError(
            f"point '{name}' is malformed, expected a module's path with [item], #call or :in behind it, as in 'act#1'; list them with "
            "universality zoo points ID"
        )
    path = "" if came["path"] == OUTPUT else came["path"]
    return Point(path, came["item"] or "", int(came["call"] or 0), "input" if came["given"] else "output")


def found_in(network: nn.Module, where: str | Tap | Point, card: ModelCard | None = None) -> Tap | Point:
    """Return a tap or point by its name: of the card's taps first, then of any module; raise `TapError` if there is none."""
    if not isinstance(where, str):
        hooks.module_at(network, where.path)
        return where
    if card is not None and where in {tap.name for tap in card.taps}:
        return card.tap(where)
    point = named(where)
    hooks.module_at(network, point.path)
    return point


def matching(network: nn.Module, patterns: str | Sequence[str]) -> list[Point]:
    """Return the outputs of all modules whose path fits a pattern with the shell's wildcards; ``all`` for every module.

    Raises
    ------
    TapError
        A pattern fits no module.
    """
    paths = [path for path, _ in network.named_modules()]
    found: dict[str, Point] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        point = named(pattern) if pattern != "all" else Point("*")
        fitting = [path for path in paths if pattern == "all" or fnmatchcase(path, point.path)]
        if not fitting:
            raise TapError(f"no module fits '{pattern}'{did_you_mean(pattern, [path for path in paths if path])}")
        found |= {path: Point(path, point.item, point.call, point.side) for path in fitting}
    return list(found.values())


def arranged(where: Tap | Point, tensor: Tensor) -> Tap:
    """Return a tap for a tensor: itself, or for a point by the tensor's dimensions.

    Four dimensions are maps (image, unit, y, x), three are tokens (image, token, unit), two a vector (image, unit). Where a network arranges its tensors otherwise, a
    card's tap says so.

    Raises
    ------
    TapError
        The tensor has other dimensions.
    """
    if isinstance(where, Tap):
        return where
    # What is not known of a point, its place in the image and its depth, nobody asks of it here.
    known = {
        "path": where.path, "name": where.name, "item": where.item, "call": where.call, "calls": where.call + 1, "side": where.side,
        "activation": "post", "relative_depth": 1.0,
    }  # fmt: skip
    shape = tensor.shape
    if tensor.ndim == 2:
        return Tap(**known, kind="vector", channels=shape[1], size=1)
    if tensor.ndim == 3:
        return Tap(
            **known, kind="tokens", layout="channels_last", channels=shape[2], size=shape[1], width=1, stride_px=1, rf_start_px=0.0
        )  # fmt: skip
    if tensor.ndim == 4:
        return Tap(**known, channels=shape[1], size=shape[2], width=shape[3], stride_px=1, rf_start_px=0.0)
    raise TapError(
        f"point '{where.name}' gives a tensor of {tensor.ndim} dimensions {tuple(shape)}, expected maps, tokens or a vector; choose another module"
    )
