"""Watch a network's modules during one forward pass: by path and call index; all hooks are removed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from universality.base.errors import TapError, did_you_mean
from universality.models.card import Tap

Sink = Callable[[Tap, Tensor], None]


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
    """Call ``sink(tap, tensor)`` whenever a tap's module is called at the tap's call index.

    The tensor is the network's own: a later in-place operation may overwrite it, so the sink has to reduce or
    copy it before it returns. Yields the number of calls per module path, counted from the start of the block;
    reset them with ``clear()`` before each forward pass. All hooks are removed on leaving, also after an error.
    """
    calls: dict[str, int] = {}
    modules = {path: module_at(network, path) for path in dict.fromkeys(tap.path for tap in taps)}
    handles = []

    def on_input(path: str, args: tuple[Any, ...]) -> None:
        for tap in taps:
            if tap.path == path and tap.side == "input" and tap.call == calls.get(path, 0):
                sink(tap, _tensor(tap, args))

    def on_output(path: str, output: Any) -> None:
        call = calls.get(path, 0)
        calls[path] = call + 1
        for tap in taps:
            if tap.path == path and tap.side == "output" and tap.call == call:
                sink(tap, _tensor(tap, output))

    try:
        for path, module in modules.items():
            handles.append(module.register_forward_pre_hook(lambda _, args, path=path: on_input(path, args)))
            handles.append(module.register_forward_hook(lambda _, args, out, path=path: on_output(path, out)))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _tensor(tap: Tap, value: Any) -> Tensor:
    while isinstance(value, (tuple, list)) and len(value) > 0:
        value = value[0]
    if not isinstance(value, Tensor) or value.ndim != 4:
        came = f"a tensor of {value.ndim} dimensions" if isinstance(value, Tensor) else type(value).__name__
        raise TapError(
            f"tap '{tap.name}' gives {came}, expected feature maps (stimulus, channel, y, x); "
            "choose a convolutional module"
        )
    return value


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
