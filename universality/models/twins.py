"""Whether an untrained twin is a null: how much its blocks change what they are given.

A twin shows what an architecture gives without training. Where residual branches begin closed (a layer scale of 1e-6, a
normalisation whose last weights begin at 0), its blocks hand on their input, and the twin is its stem and its downsampling alone: a
weak null for deep layers. Whether that is so is measured on natural images, at every module with weight layers inside that
gives a tensor of the shape it was given.

Two thresholds were chosen before anything was measured. A block counts as the identity where a unit's output has a
correlation above 0.9999 with its input, and differs from it by less than the 1.4 % (the square root of 2 - 2 r) that such a
correlation leaves room for; a gate that scales all of its input alike is none. A measure of similarity changes by no more than
about 1 - r^2 = 0.0002 from before such a block to behind it, which no table shows, and a hundred of them in a row, each with a
change of its own, still leave a correlation of 0.99 between first and last. A branch as strong as its input gives 0.7, one of a
tenth of it 0.995. A twin counts as void where such blocks hold half of the network's weights or more (those of the last layer,
which makes classes of what it is given, aside): then most of what was to be trained does nothing in it. A closed gate, or one block
of twelve, is no reason to mistrust it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from universality.base.errors import CardError
from universality.models import hooks

HANDED_ON = 0.9999
"""Correlation between what a block is given and what it gives above which it is the identity."""
VOID_SHARE = 0.5
"""Share of the weights that lie idle from which a twin is no null."""
_LAYERS = (nn.Conv2d, nn.Linear)
_LEAST_VALUES = 8


@dataclass(frozen=True)
class Block:
    """What a module does with its input.

    Attributes
    ----------
    path, kind : the module, and its class
    change : norm of (output - input) / norm of the input
    correlation : median over units of the correlation between input and output, over images and positions; NaN where no unit
        varies
    weights : of the convolutions and linear layers inside
    """

    path: str
    kind: str
    change: float
    correlation: float
    weights: int

    @property
    def handed_on(self) -> bool:
        """Whether the module gives what it was given."""
        return self.correlation > HANDED_ON and self.change < (2 - 2 * HANDED_ON) ** 0.5


@dataclass(frozen=True)
class Twin:
    """What the blocks of an untrained twin do.

    Attributes
    ----------
    blocks : every module with weight layers inside whose output has the shape of its input, in forward order
    weights : of all convolutions and linear layers but the last
    images : how many it was shown
    """

    blocks: tuple[Block, ...]
    weights: int
    images: int

    @property
    def shut(self) -> list[Block]:
        """The blocks that hand on their input; of those that lie inside one another the innermost."""
        return _innermost([block for block in self.blocks if block.handed_on])

    @property
    def void(self) -> str:
        """Why the twin is no null, in one sentence; empty where it is one."""
        shut = self.shut
        idle = sum(block.weights for block in shut)
        if not shut or idle < VOID_SHARE * self.weights:
            return ""
        kinds = sorted({block.kind for block in shut})
        alike = _innermost([block for block in self.blocks if block.kind in kinds])
        return (
            f"Of an untrained twin {len(shut)} of {len(alike)} blocks ({', '.join(kinds)}) with {idle / self.weights:.0%} of the weights "
            f"hand on their input: correlation with their output above {HANDED_ON}, relative change at most "
            f"{max(block.change for block in shut):.1g} over {self.images} natural images; the twin is no null for what lies behind them."
        )


def examined(network: nn.Module, images: NDArray[np.float32]) -> Twin:
    """Return what the blocks of an untrained network do with natural images.

    Parameters
    ----------
    images : (image, channel, y, x) float32
        Normalised for the network.
    """
    found: list[Block] = []
    given: dict[str, Tensor] = {}
    called: dict[str, int] = {}
    handles = []

    def before(path: str, args: tuple[object, ...]) -> None:
        # A nonlinearity inside may work in place.
        given[path] = args[0].detach().clone() if args and isinstance(args[0], Tensor) else torch.empty(0)

    def after(path: str, module: nn.Module, out: object) -> None:
        before = given.pop(path, torch.empty(0))
        if isinstance(out, Tensor) and out.shape == before.shape and out.ndim > 1:
            inside = sum(_weights(part) for part in module.modules())
            found.append(Block(path, type(module).__name__, *_effect(before, out.detach()), inside))

    def note(path: str, layer: nn.Module) -> None:
        called.pop(path, None)  # the last call counts
        called[path] = _weights(layer)

    try:
        for path, module in network.named_modules():
            if isinstance(module, _LAYERS):
                handles.append(module.register_forward_hook(lambda m, *_, path=path: note(path, m)))
            elif path and any(isinstance(part, _LAYERS) for part in module.modules()):
                handles.append(module.register_forward_pre_hook(lambda _, args, path=path: before(path, args)))
                handles.append(module.register_forward_hook(lambda m, _, out, path=path: after(path, m, out)))
        with torch.no_grad():
            hooks.forward(network, torch.from_numpy(images).to(hooks.device_of(network)))
    finally:
        for handle in handles:
            handle.remove()
    return Twin(tuple(found), sum(list(called.values())[:-1]), len(images))


def _weights(module: nn.Module) -> int:
    return module.weight.numel() if isinstance(module, _LAYERS) else 0


def _effect(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Return relative change and the median correlation over units; which dimension counts units does not matter for the median.

    Units are taken to be the second dimension of maps (channels first) and the last of anything else. For maps with channels
    last the rows of the map stand for them: of an identity each row is one too.
    """
    size = float(before.norm())
    change = float((after - before).norm()) / size if size else float("nan")
    axis = 1 if before.ndim == 4 else before.ndim - 1
    x, y = (value.movedim(axis, 0).flatten(1) for value in (before, after))
    if x.shape[1] < _LEAST_VALUES:
        x, y = x.reshape(1, -1), y.reshape(1, -1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    norms = (x.square().sum(1, dtype=torch.float64) * y.square().sum(1, dtype=torch.float64)).sqrt()
    varies = norms > 0
    r = (x * y).sum(1, dtype=torch.float64)[varies] / norms[varies]
    return change, float(r.median()) if r.numel() else float("nan")


def _innermost(found: Sequence[Block]) -> list[Block]:
    """Return the blocks inside which there is no other of them."""
    paths = [block.path for block in found]
    return [block for block in found if not any(path.startswith(f"{block.path}.") for path in paths)]


def reinitialised(network: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a module whose parts have their own initial weights again, in eval mode.

    Raises
    ------
    CardError
        Parameters belong to a module that cannot initialise itself: how it begins only its author knows.
    """
    twin = copy.deepcopy(network).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, module in twin.named_modules():
            own = [name for name, _ in module.named_parameters(recurse=False)]
            reset = getattr(module, "reset_parameters", None)
            if own and not callable(reset):
                raise CardError(
                    f"'{own[0]}' of '{path or type(network).__name__}' cannot be initialised again (its module has no reset_parameters); "
                    "write a card whose factory builds the network, or compare without twins (untrained=False)"
                )
            if callable(reset):
                reset()
    return twin
