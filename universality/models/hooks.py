"""Watch a network's modules during one forward pass: by path and call index; all hooks are removed afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from universality.base.errors import TapError, did_you_mean
from universality.models.card import Tap

Sink = Callable[[Tap, Tensor], None]


class Where(Protocol):
    """Where a tensor comes by: a `Tap`, or a `universality.models.points.Point` of which no more is known."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def path(self) -> str:
        """Of the module."""

    @property
    def call(self) -> int:
        """Which of the module's calls in one pass."""

    @property
    def side(self) -> Literal["input", "output"]:
        """What the module is given, or what it gives."""

    @property
    def item(self) -> str:
        """Which of several tensors."""


At = TypeVar("At", bound=Where)


class StopForward(Exception):
    """Raised inside a hook to end a forward pass after the deepest tap; caught by `forward`."""


def module_at(network: nn.Module, path: str) -> nn.Module:
    """Return the module at `path`; raise `TapError` with the nearest path if there is none."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    try:
        return modules[path]
    except KeyError:
        near = did_you_mean(path, [name for name in modules if name])
        raise TapError(f"network {type(network).__name__} has no module '{path}'{near}") from None


@contextmanager
def watching(network: nn.Module, taps: Sequence[Tap], sink: Sink) -> Iterator[dict[str, int]]:
    """Call ``sink(tap, maps)`` whenever a tap's module is called at the tap's call index.

    Whatever the tap's kind and layout, maps are (stimulus, unit, y, x): see `maps_of`. They are a view of the network's own
    tensor: a later in-place operation may overwrite it, so the sink has to reduce or copy it before it returns. Yields the number of calls per module path, counted from the start of the block;
    reset them with ``clear()`` before each forward pass. All hooks are removed on leaving, also after an error.
    """

    def look(tap: Tap, value: Any) -> None:
        sink(tap, maps_of(tap, chosen(tap, value)))

    with hooked(network, taps, look) as calls:
        yield calls


@contextmanager
def hooked(network: nn.Module, taps: Sequence[At], act: Callable[[At, Any], Any]) -> Iterator[dict[str, int]]:
    """Call ``act(tap, value)`` with what a tap's module gives (or is given) at the tap's call index; what it returns, but None, takes the value's place.

    Blocks within one another act in the order in which they were entered, each on what those before it left. Counting of calls and removal of
    hooks are as in `watching`.
    """
    calls: dict[str, int] = {}
    modules = {path: module_at(network, path) for path in dict.fromkeys(tap.path for tap in taps)}
    handles = []

    def on_input(path: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = None
        for tap in taps:
            if tap.path == path and tap.side == "input" and tap.call == calls.get(path, 0):
                came = act(tap, args)
                if came is not None:
                    changed = args = came
        return changed

    def on_output(path: str, output: Any) -> Any:
        call, changed = calls.get(path, 0), None
        calls[path] = call + 1
        for tap in taps:
            if tap.path == path and tap.side == "output" and tap.call == call:
                came = act(tap, output)
                if came is not None:
                    changed = output = came
        return changed

    try:
        for path, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda _, args, path=path: on_input(path, args)))
            handles.append(module.register_forward_hook(lambda _, args, out, path=path: on_output(path, out)))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


_EXPECTED = {
    "map": "feature maps (stimulus, channel, y, x)",
    "tokens": "tokens (stimulus, token, channel)",
    "vector": "a vector (stimulus, unit)",
}


def tensors_in(value: Any, item: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a module gives, each with its place or key in lists, tuples and mappings, such as ``0`` or ``out``."""
    if isinstance(value, Tensor):
        yield item, value
    elif isinstance(value, (tuple, list, Mapping)):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from tensors_in(part, f"{item}.{key}" if item else str(key))


def chosen(tap: Where, value: Any) -> Tensor:
    """Return of what a module gives (or of its arguments) the tensor that a tap means.

    Raises
    ------
    TapError
        There is no tensor, or none of the tap's item.
    """
    if tap.item:
        given = dict(tensors_in(value))
        if tap.item not in given:
            raise TapError(
                f"tap '{tap.name}': module '{tap.path}' gives no tensor '{tap.item}'{did_you_mean(tap.item, given)}"
            )
        return given[tap.item]
    while isinstance(value, (tuple, list)) and len(value) > 0:
        value = value[0]
    if isinstance(value, Tensor):
        return value
    named = ", ".join(f"'{tap.path}[{item}]'" for item, _ in tensors_in(value))
    raise TapError(
        f"tap '{tap.name}' gives {type(value).__name__}, expected {_EXPECTED[getattr(tap, 'kind', 'map')]}; "
        + (f"name one of what it holds: {named}" if named else "choose a convolutional module")
    )


def maps_of(tap: Tap, value: Tensor) -> Tensor:
    """Return what a tap's module gives as maps (stimulus, unit, y, x), a view where one is possible.

    Of tokens only those of the grid are in it; a vector is a map of one position.

    Raises
    ------
    TapError
        The tensor is not of the tap's kind.
    """
    last = tap.layout == "channels_last"
    if tap.kind == "vector":
        if value.ndim > 1 and value[0].numel() == tap.channels:
            return value.flatten(1)[:, :, None, None]
    elif tap.kind == "tokens":
        if value.ndim == 3:
            tokens = value.transpose(1, 2) if last else value
            grid = tokens[:, :, tap.prefix :]
            if grid.shape[2] == tap.size * tap.columns:
                return grid.reshape(*grid.shape[:2], tap.size, tap.columns)
    elif value.ndim == 4:
        return value.permute(0, 3, 1, 2) if last else value
    raise TapError(
        f"tap '{tap.name}' gives a tensor of {value.ndim} dimensions {tuple(value.shape)}, expected {_EXPECTED[tap.kind]} with "
        f"{tap.channels} units and {tap.shown}; correct the card or choose another module"
        if tap.kind != "map"
        else f"tap '{tap.name}' gives a tensor of {value.ndim} dimensions, expected {_EXPECTED['map']}; choose a convolutional module"
    )


def put(tap: Where, value: Any, tensor: Tensor) -> Any:
    """Return what a module gives (or its arguments) with another tensor at the place that `chosen` takes it from."""
    if isinstance(value, Tensor):
        return tensor
    if tap.item:
        head, _, rest = tap.item.partition(".")
        return _with(value, head, lambda part: put(_Inner(rest), part, tensor))
    return _with(value, "0", lambda part: put(tap, part, tensor))


@dataclass(frozen=True)
class _Inner:
    """A place within what holds it."""

    item: str
    name: str = ""
    path: str = ""
    call: int = 0
    side: Literal["input", "output"] = "output"


def _with(value: Any, key: str, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        copied = copy.copy(value)
        copied[next(k for k in value if str(k) == key)] = change(next(v for k, v in value.items() if str(k) == key))  # type: ignore[index]
        return copied
    parts = [change(part) if str(k) == key else part for k, part in enumerate(value)]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def forward(network: nn.Module, images: Tensor) -> None:
    """Run the network for its hooks only; a `StopForward` raised by a hook ends the pass."""
    try:
        network(images)
    except StopForward:
        return


def weight_calls(network: nn.Module) -> tuple[Callable[[], int], Callable[[], None]]:
    """Count calls of convolutions and linear layers; return (count so far, remove the hooks)."""
    count = [0]

    def step(*_: object) -> None:
        count[0] += 1

    handles = [
        module.register_forward_hook(step) for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    ]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return (lambda: count[0]), remove


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the network's first parameter (the CPU for a network without parameters)."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))
