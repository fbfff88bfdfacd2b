"""What every module of a network gives in one forward pass: which dimension holds its units, how deep it lies, and how it was made.

How a tensor is arranged is read off its shape: rows and columns are the two dimensions in the proportion of the input, tokens a
row of vectors as long as a grid that the network has, a vector has one dimension. Which tensors nonlinearities made, and
which are gates, is seen where Torch's functions are called, whether by a module or by the network's own code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from universality.models import hooks
from universality.models.card import Size, input_shape

Side = Literal["input", "output"]
IMAGES = 2
"""Shown at once, so that a first dimension that counts images can be told from one that does not."""
MOST_PREFIX = 16
"""Tokens before those of the grid: class tokens and registers of the libraries' transformers are at most five."""
Mark = tuple[int, int]
_DIMENSIONS = 4
"""Of maps with their batch."""
_BENDING = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "softplus",
        "hardtanh",
    }
)
"""Functions whose outputs are units behind a nonlinearity. Sigmoids and softmaxes, which the libraries use for gates and weights,
are none of them; nor is the hyperbolic tangent."""
CEILINGS = {"relu6": 6.0}
"""Largest values of functions that cut at 0 and clip from above."""
_BENDING_CLASSES = frozenset(
    {"Swish", "HardSwish", "QuickGELU", "GELUTanh", "HardMish", "PReLU", "StarReLU", "SquaredReLU", "ReLUSquared"}
)  # of timm; they are written with products, and those have no name
_PRODUCTS = frozenset({"mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"})


@dataclass(frozen=True)
class Arrangement:
    """How a tensor is arranged, as `universality.models.card.Tap` states it."""

    kind: Literal["map", "tokens", "vector"]
    layout: Literal["channels_first", "channels_last"]
    channels: int
    size: int = 1
    width: int = 1
    prefix: int = 0


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor that a module gave or was given.

    Attributes
    ----------
    path, call, side, item : the place, as a tap states it
    shape : with the batch, of `IMAGES` images
    depth : weight layers that had run; of one of several tensors, when it was made
    mark : the tensor, and how often it had been changed in place
    bent : whether a nonlinearity made it: this tensor, unchanged since
    gated : whether it is the product of such a tensor with another of its size, as in gated linear units
    gate : whether it was multiplied with another tensor of its size: half of a unit, not one
    handed_on : whether the module gave the very tensor that it was given
    positive : whether no value was below 0
    clipped : whether a nonlinearity that clips from above made it
    """

    path: str
    call: int
    side: Side
    item: str
    shape: tuple[int, ...]
    depth: int
    tensor: Tensor = field(repr=False)
    mark: Mark
    bent: bool
    gated: bool
    handed_on: bool
    positive: bool
    clipped: bool = False


@dataclass(frozen=True)
class Survey:
    """What the modules of a network give.

    Attributes
    ----------
    outputs : in forward order
    depth : weight layers that ran
    calls : by path, how often the module was called
    grids : (rows, columns) of every map that was seen
    prefix : how many tokens before the grid's the network says that it has; None where it says nothing
    shape : channels, height and width of the input
    """

    outputs: tuple[Output, ...]
    depth: int
    calls: dict[str, int]
    grids: frozenset[Mark]
    prefix: int | None
    shape: tuple[int, int, int]
    gates: frozenset[Mark] = frozenset()

    def at(self, path: str, call: int = 0, side: Side = "output", item: str = "") -> Output | None:
        """Return what was given at a place; without an item, the first of several tensors."""
        here = (o for o in self.outputs if (o.path, o.call, o.side) == (path, call, side))
        return next((o for o in here if not item or o.item == item), None)

    def is_gate(self, output: Output) -> bool:
        """Return whether a tensor was multiplied with another of its size."""
        return output.mark in self.gates

    def arranged(self, shape: tuple[int, ...]) -> Arrangement | str:
        """Return how a tensor is arranged, or in words why it is neither a map nor tokens nor a vector."""
        images, *sizes = shape
        if images != IMAGES or not sizes:
            return f"gives a tensor {shape} for {IMAGES} images, expected a first dimension that counts them (windows of images are none)"
        if sum(size > 1 for size in sizes) <= 1:
            return Arrangement("vector", "channels_first", max(sizes))
        if len(sizes) == _DIMENSIONS - 1:
            return self._map(*sizes)
        if len(sizes) == 2:
            return self._tokens(*sizes)
        return f"gives a tensor of {len(shape)} dimensions {shape}, expected maps, tokens or a vector"

    def _map(self, first: int, middle: int, last: int) -> Arrangement | str:
        if self._proportioned(middle, last):
            return Arrangement("map", "channels_first", first, middle, last)
        if self._proportioned(first, middle):
            return Arrangement("map", "channels_last", last, first, middle)
        height, width = self.shape[1:]
        expected = (
            "expected square ones"
            if height == width
            else f"expected them in the proportion of the input, {height} x {width}"
        )
        return f"gives maps of {middle} x {last}, {expected}"

    def _proportioned(self, rows: int, columns: int) -> bool:
        return proportioned(rows, columns, *self.shape[1:])

    def _tokens(self, first: int, last: int) -> Arrangement | str:
        for tokens, units, layout in ((first, last, "channels_last"), (last, first, "channels_first")):
            found = self._grid(tokens, layout == "channels_last")
            if found is not None:
                (rows, columns), prefix = found
                return Arrangement("tokens", layout, units, rows, columns, prefix)  # type: ignore[arg-type]
        return f"gives {first} x {last} values for an image, which are no grid of tokens"

    def _grid(self, tokens: int, may_have_prefix: bool) -> tuple[tuple[int, int], int] | None:
        known = self.prefix or 0
        prefixes = dict.fromkeys([known, 0, *range(MOST_PREFIX + 1)]) if may_have_prefix else [0]
        of_size = {rows * columns: (rows, columns) for rows, columns in sorted(self.grids)}
        for prefix in prefixes:
            if tokens - prefix in of_size:
                return of_size[tokens - prefix], prefix
        # A grid that no module gave as a map: pooled tokens.
        rows = round((max(tokens - known, 1) * self.shape[1] / self.shape[2]) ** 0.5)
        columns = (tokens - known) // max(rows, 1)
        inner = self.grids - {self.shape[1:]}
        part_of_one = any(a % max(rows, 1) == 0 and b % max(columns, 1) == 0 for a, b in inner)
        if rows * columns == tokens - known > 1 and self._proportioned(rows, columns) and (part_of_one or not inner):
            return (rows, columns), known
        return None


def proportioned(rows: int, columns: int, height: int, width: int) -> bool:
    """Return whether rows and columns stand as height and width of the input, up to a row of rounding where these differ."""
    return rows == columns if height == width else abs(rows * width - columns * height) < max(height, width)


def name_of(function: Any, arguments: Mapping[str, Any]) -> str:
    """Return the name of a function of Torch that is called with some keyword arguments, in place or not."""
    name = str(getattr(function, "__name__", "")).removesuffix("_")
    if name == "hardtanh" and (arguments.get("min_val"), arguments.get("max_val")) == (0.0, CEILINGS["relu6"]):
        return "relu6"  # as the module ReLU6 is written
    return name


class _Functions(TorchFunctionMode):
    """Note which tensors nonlinearities made, which were multiplied with another of their size, and the products.

    A tensor is known by itself and by how often it was changed in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bent: set[Mark] = set()
        self.gates: set[Mark] = set()
        self.gated: set[Mark] = set()
        self.clipped: set[Mark] = set()
        self.kept: list[Tensor] = []  # so that no other tensor takes the identity of one that is gone

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        factors = [a for a in args if isinstance(a, Tensor)] if name in _PRODUCTS else []
        marks = [(id(a), a._version) for a in factors]
        out = func(*args, **(kwargs or {}))
        bending = name_of(func, kwargs or {})
        if bending in _BENDING and isinstance(out, Tensor):
            self.kept.append(out)
            self.bent.add((id(out), out._version))
            if bending in CEILINGS:
                self.clipped.add((id(out), out._version))
        elif len(factors) == 2 and factors[0].shape == factors[1].shape and factors[0] is not factors[1]:
            self.kept += [*factors, out]
            self.gates.update(marks)
            if self.bent.intersection(marks):
                self.gated.add((id(out), out._version))
        return out


def surveyed(network: nn.Module, size: Size) -> Survey:
    """Return what every module of a network gives to images of noise; the network is left as it was."""
    shape = input_shape(size)
    counted, remove = hooks.weight_calls(network)
    functions = _Functions()
    outputs: list[Output] = []
    calls: dict[str, int] = {}
    given: dict[str, list[Mark]] = {}
    made: dict[Mark, int] = {}

    def note(path: str, side: Side, value: Any, module: nn.Module) -> None:
        for item, tensor in hooks.tensors_in(value):
            mark = (id(tensor), tensor._version)
            depth = made.setdefault(mark, counted())
            if side == "output" and type(module).__name__ in _BENDING_CLASSES:
                functions.bent.add(mark)
            outputs.append(
                Output(
                    path, calls.get(path, 0), side, "" if tensor is value or side == "input" else item, tuple(tensor.shape),
                    counted() if tensor is value or side == "input" else depth, tensor, mark, mark in functions.bent,
                    mark in functions.gated, side == "output" and mark in given.get(path, ()), _positive(tensor),
                    mark in functions.clipped,
                )
            )  # fmt: skip

    def before(path: str, module: nn.Module, args: Any) -> None:
        given[path] = [(id(tensor), tensor._version) for _, tensor in hooks.tensors_in(args)]
        note(path, "input", args[:1], module)  # a tuple: its tensor is the module's first input

    def after(path: str, module: nn.Module, out: Any) -> None:
        note(path, "output", out, module)
        calls[path] = calls.get(path, 0) + 1

    try:
        # No inference mode: there tensors have no versions, and an in-place step could not be told from none.
        with torch.no_grad(), _hooked(network, before, after), functions:
            network(noise(shape, hooks.device_of(network), IMAGES))
    finally:
        remove()
    grids = frozenset(
        grid for o in outputs for grid in _grids(o.shape) if min(grid) > 1 and proportioned(*grid, shape[1], shape[2])
    )
    return Survey(tuple(outputs), counted(), calls, grids, _said_prefix(network), shape, frozenset(functions.gates))


def noise(shape: tuple[int, int, int], device: torch.device, count: int) -> Tensor:
    """Return images (count, channel, y, x) of Gaussian noise, the same every time."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)).to(device)


def _positive(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool((tensor >= 0).all())


def _grids(shape: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    return ((shape[2], shape[3]), (shape[1], shape[2])) if len(shape) == _DIMENSIONS else ()


def _said_prefix(network: nn.Module) -> int | None:
    said = getattr(network, "num_prefix_tokens", None)
    if isinstance(said, int):
        return said
    return 1 if isinstance(getattr(network, "class_token", None), Tensor) else None


@contextmanager
def _hooked(network: nn.Module, before: Any, after: Any) -> Iterator[None]:
    handles = []
    try:
        for path, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(lambda m, args, path=path: before(path, m, args)))
            handles.append(module.register_forward_hook(lambda m, _, out, path=path: after(path, m, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()
