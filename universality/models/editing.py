"""Edit what comes by in a forward pass, and see what any later place gives with and without: where, what, and how are said in one line.

    with editing(network, [Edit("features.13", units=[7])], taps=["features.18"]) as trace:
        found = trace.run(images)
        found.edited["output"], found.intact["output"]

Within the block every call of the network is edited, also by code that knows nothing of it; all hooks are removed on leaving. Blocks lie within one another: the
inner one edits what the outer one left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from universality.base.errors import StimulusError, TapError, did_you_mean
from universality.models import catalogue, hooks, points, zoo
from universality.models.card import ModelCard, Tap
from universality.models.points import OUTPUT, Point

Action = Literal["resample", "mean", "zero", "set", "scale", "add", "replace"]
ACTIONS: tuple[str, ...] = get_args(Action)
_WITH_VALUE = ("set", "scale", "add", "replace")
At = str | Tap | Point
Maps = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Edit:
    """What is done at one place of a network.

    Attributes
    ----------
    tap : name of a card's tap or of a point (see `universality.models.points`), or itself
    units : which units; all when left out
    direction : (unit,) instead of units, the direction along which maps are edited, of any length: what lies across it stays
    positions : (row, column) of those that are edited, or a boolean array (y, x); all when left out
    action : what stands for the maps (image, unit, y, x) that are chosen.
        ``resample`` those of other images: of the reference, else of the same batch in another order; ``mean`` their mean over images and positions of the reference,
        else of the batch; ``zero``; ``set``, ``scale``, ``add`` with a number or one for each unit; ``replace`` with other maps; or a function of the maps that
        gives others of their shape
    value : for set, scale, add a number or (unit,); for replace maps (image, unit, y, x), such as another network's
    """

    tap: At
    units: Sequence[int] | np.ndarray | None = None
    direction: Sequence[float] | np.ndarray | Tensor | None = None
    positions: Sequence[tuple[int, int]] | np.ndarray | None = None
    action: Action | Callable[[Tensor], Tensor] = "resample"
    value: float | Sequence[float] | np.ndarray | Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not callable(self.action):
            if self.action not in ACTIONS:
                raise TapError(
                    f"edit of '{self.place}' has the action '{self.action}'{did_you_mean(str(self.action), ACTIONS)}"
                )
            if (self.action in _WITH_VALUE) != (self.value is not None):
                wants = "needs" if self.action in _WITH_VALUE else "takes no"
                raise TapError(
                    f"edit of '{self.place}': the action '{self.action}' {wants} value; {'give one' if wants == 'needs' else 'drop it'}"
                )
        if self.units is not None and self.direction is not None:
            raise TapError(f"edit of '{self.place}' names units and a direction, expected one of them; drop one")

    @property
    def place(self) -> str:
        """Name of the tap."""
        return self.tap if isinstance(self.tap, str) else self.tap.name

    @property
    def said(self) -> str:
        """The edit in words, for messages."""
        how = self.action if isinstance(self.action, str) else getattr(self.action, "__name__", "function")
        return f"edit '{how}' of '{self.place}'"


@dataclass(frozen=True)
class Found:
    """What taps gave, by name, and the network under ``output``: maps (image, unit, y, x), the output as it is."""

    edited: Maps
    intact: Maps


@dataclass
class Trace:
    """What an edited network gave.

    Attributes
    ----------
    edited : by name, of the last pass that was edited; the network's output under ``output``
    """

    network: nn.Module
    edits: Sequence[_Bound]
    taps: Sequence[Tap | Point]
    edited: Maps = field(default_factory=dict)
    _intact: Maps = field(default_factory=dict)
    _active: bool = True
    _stop: bool = False
    _over: bool = False

    def run(self, images: np.ndarray | Tensor, *, gradients: bool = False, output: bool = True) -> Found:
        """Show images with and without the edits.

        Parameters
        ----------
        images : (image, channel, y, x), as the network takes them
        gradients : whether what comes can be differentiated
        output : whether the network's output is wanted; else a pass ends behind the last tap
        """
        if self._over:
            raise TapError("the block of edits is over, so that nothing would be edited; run it within the block")
        if not output and not self.taps:
            raise TapError("nothing is read: neither the output nor a tap; name taps, or leave output = True")
        shown = _tensor(self.network, images)
        with torch.set_grad_enabled(gradients):
            try:
                self._stop, self._active = not output, False
                hooks.forward(self.network, shown)
                self._active = True
                hooks.forward(self.network, shown)
                self._refuse_unfired()
            finally:
                self._stop, self._active = False, True
        return Found(dict(self.edited), dict(self._intact))

    # What the hooks call ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        (self.edited if self._active else self._intact).clear()
        for edit in self.edits:
            edit.fired = False

    def _read(self, where: Tap | Point, value: Any) -> None:
        tensor = hooks.chosen(where, value)
        maps = hooks.maps_of(points.arranged(where, tensor), tensor)
        into = self.edited if self._active else self._intact
        if self._active and self.edits and not any(edit.fired for edit in self.edits):
            raise TapError(
                f"tap '{where.name}' is read before the edit of '{self.edits[0].of.place}' is made, so that nothing of it can be seen there; read a later "
                "tap, or edit an earlier one"
            )
        into[where.name] = maps.clone()
        if self._stop and len(into) == len(self.taps):
            raise hooks.StopForward

    def _end(self, output: Any) -> None:
        if self._active:
            self._refuse_unfired()
        for item, tensor in hooks.tensors_in(output):
            if self._active and self.edits and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TapError(
                    f"{' and '.join(edit.of.said for edit in self.edits)} made the network's output infinite or NaN; give values of the size that the tap has"
                )
            (self.edited if self._active else self._intact)[OUTPUT + (f"[{item}]" if item else "")] = tensor

    def _refuse_unfired(self) -> None:
        for edit in self.edits:
            if not edit.fired:
                calls = edit.calls.get(edit.at.path, 0)
                raise TapError(
                    f"{edit.of.said} was never made: module '{edit.at.path}' was called {calls} time(s) in this pass and the edit is of call {edit.at.call}; "
                    "choose a module that the network calls" + ("" if calls else ", or read what lies behind the edit")
                )


class _Bound:
    """An edit at the place of a network where it is made."""

    def __init__(self, of: Edit, at: Tap | Point) -> None:
        self.of, self.at = of, at
        self.fired = False
        self.calls: Mapping[str, int] = {}
        self.reference: Tensor | None = None

    def __call__(self, value: Any) -> Any:
        """Return what stands for what a module gives."""
        tensor = hooks.chosen(self.at, value)
        made = edited(self.of, points.arranged(self.at, tensor), tensor, self.reference)
        self.fired = True
        return hooks.put(self.at, value, made)


def edited(edit: Edit, tap: Tap, tensor: Tensor, reference: Tensor | None = None) -> Tensor:
    """Return what a tap's module gives with an edit made: a new tensor, arranged as the old one.

    Parameters
    ----------
    reference : (image, unit, y, x) maps of other images, optional

    Raises
    ------
    TapError
        Units or positions that there are not, values or maps of another shape, or an edit that made NaN or infinity of finite maps.
    """
    own = tensor.clone()
    maps = hooks.maps_of(tap, own)
    if maps.untyped_storage().data_ptr() != own.untyped_storage().data_ptr():
        raise TapError(f"{edit.said}: the tensor cannot be written as maps; choose another tap")
    before = _chosen_part(edit, maps)
    after = _acted(edit, before, None if reference is None else _chosen_part(edit, reference.to(maps)))
    where = _mask(edit, maps)
    if where is not None:
        after = torch.where(where, after, before)
    finite = torch.isfinite(after)
    if not bool(finite.all()) and bool(torch.isfinite(before).all()):
        bad = int((~finite).flatten(2).any(2).any(0).nonzero()[0, 0])
        unit = f" at unit {int(edit.units[bad])}" if edit.units is not None else ""
        raise TapError(f"{edit.said} made NaN or infinite values{unit}; give finite ones")
    if edit.direction is not None:
        maps += (after - before) * _direction(edit, maps)[None, :, None, None]
    elif edit.units is None:
        maps.copy_(after)
    else:
        maps[:, torch.as_tensor(np.asarray(edit.units, dtype=np.int64), device=maps.device)] = after
    return own


def _chosen_part(edit: Edit, maps: Tensor) -> Tensor:
    """Return the maps that an edit changes (image, unit, y, x): of units, or of the direction alone."""
    channels = maps.shape[1]
    if edit.direction is not None:
        return torch.einsum("nuyx,u->nyx", maps, _direction(edit, maps))[:, None]
    if edit.units is None:
        return maps
    units = np.asarray(edit.units)
    if units.ndim != 1 or not units.size or units.dtype.kind not in "iu" or units.min() < 0 or units.max() >= channels:
        raise TapError(
            f"{edit.said} names the units {_short(units)}, expected whole numbers from 0 to {channels - 1}, each a unit of the tap; correct them"
        )
    if len(np.unique(units)) < len(units):
        raise TapError(f"{edit.said} names units twice ({_short(units)}); name each once")
    return maps[:, torch.as_tensor(units.astype(np.int64), device=maps.device)]


def _direction(edit: Edit, maps: Tensor) -> Tensor:
    direction = torch.as_tensor(np.asarray(edit.direction, dtype=np.float64)).to(maps)
    if direction.shape != (maps.shape[1],):
        raise TapError(
            f"{edit.said} has a direction of shape {tuple(direction.shape)}, expected ({maps.shape[1]},), one number for each unit"
        )
    length = torch.linalg.vector_norm(direction)
    if not bool(torch.isfinite(length)) or not bool(length > 0):
        raise TapError(f"{edit.said} has a direction that is 0 or not finite; give one with a length")
    along: Tensor = direction / length
    return along


def _mask(edit: Edit, maps: Tensor) -> Tensor | None:
    if edit.positions is None:
        return None
    rows, columns = maps.shape[2:]
    given = np.asarray(edit.positions)
    if given.dtype == np.bool_ and given.shape == (rows, columns):
        return torch.as_tensor(given, device=maps.device)
    inside = given.ndim == 2 and given.shape[1] == 2 and given.dtype.kind in "iu" and len(given)
    if not inside or (given < 0).any() or (given >= (rows, columns)).any():
        raise TapError(
            f"{edit.said} names the positions {_short(given)}, expected (row, column) within {rows} x {columns}, or a boolean array of that shape"
        )
    mask = torch.zeros((rows, columns), dtype=torch.bool, device=maps.device)
    mask[given[:, 0], given[:, 1]] = True
    return mask


def _short(values: np.ndarray) -> str:
    text = str(values.tolist())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _acted(edit: Edit, maps: Tensor, reference: Tensor | None) -> Tensor:
    """Return what stands for maps (image, unit, y, x), of their shape."""
    action = edit.action
    if callable(action):
        return _of_shape(edit, action(maps.clone()), maps)
    if action == "resample":
        return _resampled(edit, maps, reference)
    if action == "mean":
        wide = (maps if reference is None else reference).double()
        return wide.mean((0, 2, 3), keepdim=True).to(maps.dtype).expand_as(maps)
    if action == "zero":
        return torch.zeros_like(maps)
    if action == "replace":
        return _of_shape(edit, edit.value, maps)
    value = torch.as_tensor(np.asarray(edit.value.detach().cpu() if isinstance(edit.value, Tensor) else edit.value)).to(
        maps
    )
    if value.ndim and value.shape != (maps.shape[1],):
        raise TapError(
            f"{edit.said} has a value of shape {tuple(value.shape)}, expected a number or ({maps.shape[1]},), one for each unit that is edited"
        )
    value = value if not value.ndim else value[None, :, None, None]
    if action == "set":
        return value.expand_as(maps)
    return maps * value if action == "scale" else maps + value


def _of_shape(edit: Edit, value: Any, maps: Tensor) -> Tensor:
    came = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    if came.shape != maps.shape:
        remedy = "resize them with universality.models.editing.resized" if came.ndim == 4 else "give maps of that shape"
        raise TapError(
            f"{edit.said} gives maps of shape {tuple(came.shape)}, expected {tuple(maps.shape)} (image, unit, y, x); {remedy}"
        )
    return came.to(maps)


def _resampled(edit: Edit, maps: Tensor, reference: Tensor | None) -> Tensor:
    count = len(maps)
    if reference is not None:
        if reference.shape[1:] != maps.shape[1:]:
            raise TapError(
                f"{edit.said}: reference images give maps of {tuple(reference.shape[2:])}, expected {tuple(maps.shape[2:])}; give images of one size"
            )
        return reference[torch.from_numpy(np.random.default_rng(count).integers(len(reference), size=count))]
    if count < 2:
        raise TapError(
            f"{edit.said} takes maps of other images and the batch has one; show more at a time, or give reference="
        )
    return maps[torch.from_numpy(exchanged(count, count))]


def exchanged(count: int, seed: int) -> np.ndarray:
    """Return for each of `count` images another one, each of them once: a random cycle, so that no image keeps its own, (image,)."""
    order = np.random.default_rng([seed, count]).permutation(count)
    source = np.empty(count, dtype=np.int64)
    source[order] = np.roll(order, 1)
    return source


def resized(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Return maps (image, unit, y, x) at another number of rows and columns: bilinear between the centres of positions, means where they become fewer."""
    if maps.shape[2:] == (rows, columns):
        return maps
    return nn.functional.interpolate(
        maps, size=(rows, columns), mode="bilinear", align_corners=False, antialias=maps.shape[2] > rows
    )


@contextmanager
def editing(
    network: str | nn.Module, edits: Sequence[Edit] | Edit, taps: Sequence[At] = (), *, reference: np.ndarray | Tensor | None = None
) -> Iterator[Trace]:  # fmt: skip
    """Edit every forward pass of a network within a block.

    Parameters
    ----------
    network : str or nn.Module
        Id of a model card, or a module, which is in eval mode within the block and left in the mode in which it was.
    edits : Edit or sequence of Edit
        Made in the order in which their places come by; at one place in the order given.
    taps : sequence
        Whose maps are wanted, beside the network's output.
    reference : (image, channel, y, x), optional
        Images that ``resample`` and ``mean`` take maps of; the images of each batch when left out, of which the result then depends.

    Yields
    ------
    Trace
        Its `run` shows images with and without the edits.

    Raises
    ------
    TapError
        In one sentence: an edit that is never made, of units, positions or a shape that there are not, one that makes NaN, or a tap that comes before it.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with editing(network, Edit("1", units=[0], action="zero")) as trace:
    ...     found = trace.run(torch.ones(4, 2))
    >>> sorted(found.edited)
    ['output']
    """
    module, card = _network(network)
    asked = [edits] if isinstance(edits, Edit) else list(edits)
    bound = [_Bound(edit, points.found_in(module, edit.tap, card)) for edit in asked]
    trace = Trace(module, bound, [points.found_in(module, tap, card) for tap in taps])
    with ExitStack() as stack:
        stack.enter_context(zoo.evaluating(module))
        stack.callback(setattr, trace, "_over", True)
        if reference is not None:
            _refer(module, bound, reference)
        places = [edit.at for edit in bound]
        handle = module.register_forward_pre_hook(lambda *_: _clear(trace, counted))
        stack.callback(handle.remove)
        counted: list[dict[str, int]] = []
        counted.append(
            stack.enter_context(hooks.hooked(module, _once(places), lambda at, value: _edit(trace, at, value)))
        )
        for edit in bound:
            edit.calls = counted[0]
        counted.append(stack.enter_context(hooks.hooked(module, trace.taps, lambda at, value: trace._read(at, value))))
        handle = module.register_forward_hook(lambda _, __, output: trace._end(output))
        stack.callback(handle.remove)
        yield trace


def _once(places: Sequence[Tap | Point]) -> list[Tap | Point]:
    return list({(at.path, at.call, at.side, at.item): at for at in places}.values())


def _clear(trace: Trace, counted: Sequence[dict[str, int]]) -> None:
    for calls in counted:
        calls.clear()
    trace._begin()


def _edit(trace: Trace, at: Tap | Point, value: Any) -> Any:
    """Return what stands for a value with all edits of a place made, one after another; None where nothing is edited."""
    if not trace._active:
        return None
    for edit in trace.edits:
        if (edit.at.path, edit.at.call, edit.at.side, edit.at.item) == (at.path, at.call, at.side, at.item):
            value = edit(value)
    return value


def _refer(module: nn.Module, bound: Sequence[_Bound], images: np.ndarray | Tensor) -> None:
    found = cache(module, images, [edit.at for edit in bound])
    for edit in bound:
        edit.reference = found[edit.at.name]


def cache(
    network: str | nn.Module, images: np.ndarray | Tensor, taps: Sequence[At] | str = "all", *, batch_size: int = 32
) -> Maps:
    """Return what taps give to images, and the network: what TransformerLens calls a cache.

    Parameters
    ----------
    network : id of a model card, or a module
    images : (image, channel, y, x), as the network takes them
    taps : names of taps or points, or patterns of module paths with the shell's wildcards; ``all`` for what every module gives as maps, tokens or a vector

    Returns
    -------
    dict
        By name maps (image, unit, y, x) on the CPU, and under ``output`` the network's output.

    Raises
    ------
    TapError
        A tap is no place of the network, gives no tensor, or is never reached.
    """
    module, card = _network(network)
    asked, lenient = _asked(module, card, taps)
    held: dict[str, list[Tensor]] = {}

    def note(where: Tap | Point, value: Any) -> None:
        try:
            tensor = hooks.chosen(where, value)
            maps = hooks.maps_of(points.arranged(where, tensor), tensor)
        except TapError:
            if lenient:
                return
            raise
        held.setdefault(where.name, []).append(maps.detach().cpu().clone())

    shown = _tensor(module, images)
    with zoo.evaluating(module), hooks.hooked(module, asked, note) as calls, torch.no_grad():
        for batch in shown.split(batch_size):
            calls.clear()
            output = module(batch)
            for item, tensor in hooks.tensors_in(output):
                held.setdefault(OUTPUT + (f"[{item}]" if item else ""), []).append(tensor.detach().cpu().clone())
    for where in asked:
        if where.name not in held and not lenient:
            raise TapError(f"tap '{where.name}' was never reached; choose a module that the network calls")
    return {name: torch.cat(parts) for name, parts in held.items()}


def _asked(module: nn.Module, card: ModelCard | None, taps: Sequence[At] | str) -> tuple[list[Tap | Point], bool]:
    if taps == "all":
        return [point for point in points.matching(module, "all") if point.path], True
    found: list[Tap | Point] = []
    for tap in [taps] if isinstance(taps, str) else taps:
        wild = isinstance(tap, str) and any(sign in tap for sign in "*?")
        found += points.matching(module, str(tap)) if wild else [points.found_in(module, tap, card)]
    return found, False


def _network(network: str | nn.Module) -> tuple[nn.Module, ModelCard | None]:
    if isinstance(network, nn.Module):
        return network, None
    card = catalogue.card(network)
    return zoo.pretrained(card), card


def _tensor(module: nn.Module, images: Any) -> Tensor:
    shown = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if not shown.is_floating_point() or not len(shown):
        raise StimulusError(
            f"images are {tuple(shown.shape)} of type {str(shown.dtype).removeprefix('torch.')}, expected one or more as the network takes them, in floats"
        )
    return shown.to(hooks.device_of(module))
