"""Forward passes that start at a tap: what comes before it is computed once for all edits of it.

Modules whose calls end before the tap's tensor is there are not run again: they hand on what they gave, or an empty tensor where nothing but such modules takes it. All other code of the
network runs as it is written, so sums, concatenations and functions need no graph. Whether the output is that of a whole pass, to the bit, is tried on the first images; a network
where it is not is shown whole passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from universality.base.errors import EarlierTapError, TapError
from universality.models import hooks
from universality.models.card import Tap

Call = tuple[str, int]
TRIED = 2
"""Images that a pass is tried with."""


@dataclass(frozen=True)
class Passed:
    """What a pass gave: the output, and the maps (image, unit, y, x) of the taps that are read, by name."""

    output: Tensor
    maps: dict[str, Tensor]


class Restarting:
    """A network that is asked again and again what it gives with other maps at a tap.

    Parameters
    ----------
    network : in eval mode
    tap : where passes start
    read : later taps whose maps are wanted
    shared : False for whole passes, of which the result is the same

    Attributes
    ----------
    shares : whether passes start at the tap
    """

    def __init__(self, network: nn.Module, tap: Tap, read: Sequence[Tap] = (), *, shared: bool = True) -> None:
        self.network, self.tap, self.read = network, tap, tuple(read)
        self._shared = shared
        self._before: frozenset[Call] | None = None
        self._needed: frozenset[Call] = frozenset()

    @property
    def shares(self) -> bool:
        """Whether passes start at the tap; known when images were shown."""
        return bool(self._before)

    def show(self, images: Tensor) -> Shown:
        """Show images, and hold what passes from the tap on take.

        Raises
        ------
        TapError
            The tap never fires, or a tap that is read comes before it.
        """
        with torch.no_grad():
            if self._before is None:
                self._before = frozenset()
                if self._shared:
                    self._try(images[:TRIED])
            return self._show(images)

    def _show(self, images: Tensor) -> Shown:
        held: dict[Call, Any] = {}
        kept: list[Tensor] = []

        def after(call: Call, output: Any) -> None:
            if call in self._needed:
                held[call] = _each(output, Tensor.clone)
            elif call in (self._before or ()):
                held[call] = _each(output, lambda t: torch.empty_like(t, device="meta"))

        def take(tap: Tap, maps: Tensor) -> None:
            kept.append(maps.clone())

        with _calls(self.network, lambda call: None, after), hooks.watching(self.network, [self.tap], take):
            passed = self._pass(images)
        if not kept:
            raise TapError(
                f"tap '{self.tap.name}' never fires in a forward pass; choose a module that the network calls"
            )
        return Shown(self, images, kept[0], passed, held)

    def _pass(self, images: Tensor, maps: Tensor | None = None) -> Passed:
        """Run the network, with other maps at the tap if there are any."""
        found: dict[str, Tensor] = {}
        at_tap = [False]

        def act(tap: Tap, value: Any) -> Any:
            at_tap[0] = True
            if maps is None:
                return None
            tensor = hooks.chosen(tap, value).clone()
            hooks.maps_of(tap, tensor).copy_(maps)
            return hooks.put(tap, value, tensor)

        def read(tap: Tap, given: Tensor) -> None:
            if not at_tap[0]:
                raise EarlierTapError(
                    f"tap '{tap.name}' comes before '{self.tap.name}', whose edits it cannot show; read a later tap"
                )
            found[tap.name] = given.clone()

        with hooks.hooked(self.network, [self.tap], act), hooks.watching(self.network, self.read, read):
            output = self.network(images)
        (_, first), *_ = hooks.tensors_in(output)
        return Passed(first, found)

    def _try(self, images: Tensor) -> None:
        """Find what need not run again, and whether it can be left out."""
        before, needed = _prefix(self.network, self.tap, images)
        if not before:
            return
        self._before, self._needed = before, needed
        try:
            shown = self._show(images)
            again = shown.with_maps(shown.maps)
            other = shown.maps.flip(0) + 1
            same = _same(again, shown.intact) and _same(shown.with_maps(other), self._pass(images, other))
        except TapError:
            raise
        except Exception:  # a network may do anything with a tensor without values; what is wrong with the network itself, whole passes say
            same = False
        if not same:
            self._before, self._needed = frozenset(), frozenset()


@dataclass(frozen=True)
class Shown:
    """Images that were shown, ready to be shown again with other maps at the tap.

    Attributes
    ----------
    maps : (image, unit, y, x) at the tap
    intact : what the network gave
    """

    of: Restarting
    images: Tensor
    maps: Tensor
    intact: Passed
    held: dict[Call, Any]

    def with_maps(self, maps: Tensor) -> Passed:
        """Return what the network gives with other maps (image, unit, y, x) at the tap."""
        with torch.no_grad(), _handing_on(self.of.network, self.held, self.of._needed):
            return self.of._pass(self.images, maps)


def _same(x: Passed, y: Passed) -> bool:
    return torch.equal(x.output, y.output) and all(torch.equal(x.maps[name], y.maps[name]) for name in y.maps)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return lists, tuples and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return type(value)({key: _each(part, change) for key, part in value.items()})
    if isinstance(value, (tuple, list)):
        parts = [_each(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


@contextmanager
def _calls(network: nn.Module, before: Callable[[Call], None], after: Callable[[Call, Any], None]) -> Iterator[None]:
    """Tell of every call of every module but the network itself: when it begins, and when it ends with what it gave."""
    counts: dict[str, int] = {}
    handles = []

    def begin(path: str) -> None:
        before((path, counts.get(path, 0)))
        counts[path] = counts.get(path, 0) + 1

    try:
        for path, module in network.named_modules():
            if path:
                handles.append(module.register_forward_pre_hook(lambda *_, path=path: begin(path), prepend=True))
                handles.append(
                    module.register_forward_hook(lambda _, __, out, path=path: after((path, counts[path] - 1), out))
                )
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _handing_on(network: nn.Module, held: dict[Call, Any], needed: frozenset[Call]) -> Iterator[None]:
    """Let modules hand on what is held of their calls instead of running."""
    changed: list[nn.Module] = []

    def standing(path: str, own: Callable[..., Any]) -> Callable[..., Any]:
        counts = [0]

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = (path, counts[0])
            counts[0] += 1
            if call not in held:
                return own(*args, **kwargs)
            # What follows may write in its place.
            return _each(held[call], Tensor.clone) if call in needed else held[call]

        return forward

    try:
        for path in {path for path, _ in held}:
            module = network.get_submodule(path)
            module.__dict__["forward"] = standing(path, module.forward)
            changed.append(module)
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


class _Uses(TorchFunctionMode):
    """Note which tensors Torch's functions are given, and within which calls of modules."""

    def __init__(self, within: list[Call]) -> None:
        super().__init__()
        self.within = within
        self.found: list[tuple[set[int], tuple[Call, ...]]] = []
        self.kept: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [tensor for _, tensor in hooks.tensors_in([*args, *(kwargs or {}).values()])]
        self.kept += given
        self.found.append(({id(tensor) for tensor in given}, tuple(self.within)))
        return func(*args, **(kwargs or {}))


def _prefix(network: nn.Module, tap: Tap, images: Tensor) -> tuple[frozenset[Call], frozenset[Call]]:
    """Return the outermost calls that end before the tap's tensor is there, and those of them whose outputs other code takes."""
    within: list[Call] = []
    inside: dict[Call, tuple[Call, ...]] = {}
    ended: dict[Call, Any] = {}
    done: list[frozenset[Call]] = []
    uses = _Uses(within)

    def begin(call: Call) -> None:
        inside[call] = tuple(within)
        within.append(call)

    def end(call: Call, output: Any) -> None:
        within.pop()
        ended[call] = output
        if tap.side == "output" and call == (tap.path, tap.call):
            done.append(frozenset(ended))

    def given(_: Tap, __: Any) -> None:
        if tap.side == "input":
            done.append(frozenset(ended))

    with _calls(network, begin, end), hooks.hooked(network, [tap], given), uses:
        network(images)
    if not done:
        return frozenset(), frozenset()
    early = done[0]
    outer = frozenset(call for call in early if not early.intersection(inside[call]))
    taken = set().union(*(ids for ids, calls in uses.found if not outer.intersection(calls)))
    needed = {call for call in outer if any(id(tensor) in taken for _, tensor in hooks.tensors_in([ended[call]]))}
    if tap.side == "output":
        needed.add((tap.path, tap.call))
    return outer, frozenset(needed)
