"""The other side of a tap's nonlinearity, found by following tensors through one forward pass.

A card states each tap on one side of a nonlinearity. Both sides can be asked for in a job: ``features.9`` and
``features.9:pre``. The nonlinearity, whether a module or a function, is the one that made the tap's tensor (for a tap behind
it) or the one that takes the tap's tensor (for a tap before it), the tensor itself and not a copy or a changed one; the other
side is where a module is given or gives that same tensor. Both sides are recorded in one pass.

Where units are joined from branches, each with a nonlinearity of its own (Inception's mixed layers), no one tensor lies
before it; where a normalisation comes between (ResNetV2), none lies behind it. Both are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from universality.models import hooks
from universality.models.card import ModelCard, Size, Tap, input_shape
from universality.models.survey import CEILINGS, name_of

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
}
"""Those that never fall, by name: a maximum over positions may be taken before or behind them."""
SMOOTH = frozenset({"gelu", "silu", "mish", "hardswish", "elu", "celu", "selu", "leaky_relu", "softplus"})
"""Others that are followed. A maximum over positions before most of them is not that behind them: each side is recorded as it is."""


@dataclass(frozen=True)
class Counterpart:
    """The other side of a tap's nonlinearity (`tap`), and the nonlinearity's name in `NONLINEARITIES` or `SMOOTH`."""

    tap: Tap
    nonlinearity: str


@dataclass(frozen=True, eq=False)
class _Seen:
    """A tensor where a module was given it or gave it, and which of its in-place versions it was."""

    path: str
    call: int
    side: str
    tensor: Tensor
    version: int


@dataclass(frozen=True, eq=False)
class _Applied:
    """A nonlinearity that ran."""

    name: str
    before: Tensor
    before_version: int
    after: Tensor
    after_version: int


def _name(function: Any, kwargs: dict[str, Any]) -> str | None:
    """Return the name of a nonlinearity of Torch that is being called; None for any other function."""
    called = name_of(function, kwargs)
    return called if called in NONLINEARITIES or called in SMOOTH else None


class _Functions(TorchFunctionMode):
    """Note every nonlinearity that runs, whether a module or the network's own code calls it."""

    def __init__(self, events: list[_Seen | _Applied]) -> None:
        super().__init__()
        self._events = events

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name(func, kwargs)
        if name is None:
            return func(*args, **kwargs)
        before = args[0] if args else kwargs["input"]
        version = before._version
        after = func(*args, **kwargs)
        self._events.append(_Applied(name, before, version, after, after._version))
        return after


@contextmanager
def _followed(network: nn.Module, events: list[_Seen | _Applied]) -> Iterator[None]:
    calls: dict[str, int] = {}

    def note(path: str, side: str, value: Any) -> None:
        while isinstance(value, (tuple, list)) and value:
            value = value[0]
        if isinstance(value, Tensor):
            events.append(_Seen(path, calls.get(path, 0), side, value, value._version))

    def output(path: str, value: Any) -> None:
        note(path, "output", value)
        calls[path] = calls.get(path, 0) + 1

    handles = []
    try:
        for path, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _, a, path=path: note(path, "input", a)))
            handles.append(module.register_forward_hook(lambda _, a, out, path=path: output(path, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def counterparts(network: nn.Module, taps: Sequence[Tap], size: Size) -> dict[str, Counterpart | None]:
    """Return the other side of every tap's nonlinearity by tap name; None where it has none of its own.

    One forward pass of a grey image; weights are of no importance.
    """
    events: list[_Seen | _Applied] = []
    # No inference mode: there tensors have no versions, and an in-place step could not be told from none.
    with torch.no_grad(), _followed(network, events), _Functions(events):
        network(torch.zeros(1, *input_shape(size), device=hooks.device_of(network)))
    calls: dict[str, int] = {}
    for event in events:
        if isinstance(event, _Seen) and event.side == "output":
            calls[event.path] = event.call + 1
    return {tap.name: _counterpart(events, tap, calls) for tap in taps}


def _counterpart(events: list[_Seen | _Applied], tap: Tap, calls: dict[str, int]) -> Counterpart | None:
    if tap.item:
        return None  # of several tensors of a module the first alone is followed
    place = next(i for i, event in enumerate(events) if _is_tap(event, tap))
    here = events[place]
    assert isinstance(here, _Seen)
    if tap.activation == "post":
        applied = next((e for e in reversed(events[:place]) if isinstance(e, _Applied) and _made(e, here)), None)
        if applied is None:
            return None
        wanted = partial(_same, applied.before, applied.before_version)
        found = next((e for e in reversed(events[: events.index(applied)]) if wanted(e)), None)
    else:
        applied = next((e for e in events[place:] if isinstance(e, _Applied) and _took(e, here)), None)
        if applied is None:
            return None
        wanted = partial(_same, applied.after, applied.after_version)
        found = next((e for e in events[events.index(applied) :] if wanted(e)), None)
    if not isinstance(found, _Seen):
        return None
    other = "pre" if tap.activation == "post" else "post"
    moved = {
        "path": found.path, "call": found.call, "calls": calls[found.path], "side": found.side, "name": f"{tap.name}:{other}",
        "activation": other, "clips_at": CEILINGS.get(applied.name) if other == "post" else None,
    }  # fmt: skip
    return Counterpart(tap.model_copy(update=moved), applied.name)


def _is_tap(event: _Seen | _Applied, tap: Tap) -> bool:
    return isinstance(event, _Seen) and (event.path, event.call, event.side) == (tap.path, tap.call, tap.side)


def _same(tensor: Tensor, version: int, event: _Seen | _Applied) -> bool:
    return isinstance(event, _Seen) and event.tensor is tensor and event.version == version


def _made(applied: _Applied, seen: _Seen) -> bool:
    return _same(applied.after, applied.after_version, seen)


def _took(applied: _Applied, seen: _Seen) -> bool:
    return _same(applied.before, applied.before_version, seen)


@lru_cache(maxsize=32)
def _of_card(text: str) -> dict[str, Counterpart | None]:
    from universality.models import zoo

    card = ModelCard.model_validate_json(text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = zoo.build(card)
    return counterparts(network, card.taps, card.preprocessing.shape)


def other_side(card: ModelCard, tap: Tap) -> Counterpart | None:
    """Return the other side of the nonlinearity of a card's tap; None where it has none of its own."""
    return _of_card(card.model_dump_json())[tap.name]
