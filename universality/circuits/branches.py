"""Whether a family lies in one branch of a block whose branches are joined along the channels.

Branches are found by running the network: a tap's channels are cut where they are, value by value, what a module within the tap's own gave. So no architecture has a case of its own,
and a branch is never guessed from names.

References
----------
C. Voss et al., Branch specialization, Distill 2021 (all detectors of curved lines in InceptionV1's mixed3b in one branch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from universality.models import hooks, zoo
from universality.models.card import Tap


@dataclass(frozen=True)
class Branch:
    """Channels `start` to `stop` - 1 of a tap are what the module `path` gives."""

    path: str
    start: int
    stop: int


def branches(network: nn.Module, tap: Tap, size: tuple[int, int, int]) -> list[Branch]:
    """Return the branches that a tap's channels are joined from, in the order of the channels; none where they are not joined from any.

    Parameters
    ----------
    network : nn.Module
    tap : Tap
        The output of a module.
    size : (channel, y, x) of the input
    """
    if tap.side != "output" or tap.item:
        return []
    block = hooks.module_at(network, tap.path)
    given: dict[str, Tensor] = {}
    joined: list[Tensor] = []
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32))
    handles = [
        module.register_forward_hook(_keeper(given, name)) for name, module in block.named_modules() if name
    ] + [block.register_forward_hook(_last(joined))]  # fmt: skip
    try:
        with zoo.evaluating(network), torch.no_grad():
            hooks.forward(network, image)
    finally:
        for handle in handles:
            handle.remove()
    return _cut(joined[-1], given) if joined else []


def _keeper(given: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, object], None]:
    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            given[name] = output.detach().clone()  # what follows may write in its place

    return keep


def _last(joined: list[Tensor]) -> Callable[[nn.Module, object, object], None]:
    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            joined.append(output.detach().clone())

    return keep


def _cut(joined: Tensor, given: Mapping[str, Tensor]) -> list[Branch]:
    """Return the pieces of a map (image, channel, y, x) that are what modules gave; none unless they are all of it and two or more."""
    found: list[Branch] = []
    channels = joined.shape[1] if joined.dim() == 4 else 0
    while (start := found[-1].stop if found else 0) < channels:
        pieces = [(of.shape[1], name) for name, of in given.items() if _lies_at(of, joined, start)]
        if not pieces:
            return []
        # Of modules that give the same the outermost, which comes first; of several widths the largest.
        width = max(width for width, _ in pieces)
        name = min((name for many, name in pieces if many == width), key=lambda of: of.count("."))
        found.append(Branch(name, start, start + width))
    return found if len(found) > 1 else []


def _lies_at(piece: Tensor, joined: Tensor, start: int) -> bool:
    if piece.dim() != 4 or piece.shape[2:] != joined.shape[2:] or piece.shape[1] >= joined.shape[1]:
        return False
    here = joined[:, start : start + piece.shape[1]]
    # Zeros alone say nothing of where they come from.
    return here.shape == piece.shape and bool(piece.any()) and torch.equal(here, piece)


def branch_rows(of: Sequence[Branch], family: ArrayLike, live: ArrayLike) -> pd.DataFrame:
    """Return the share of a family in each branch beside what its size lets expect, and the hypergeometric chance of as many.

    Parameters
    ----------
    of : the branches of one tap
    family : (unit,) numbers of the family's units
    live : (unit,) numbers of the units that could be in it
    """
    from scipy.stats import hypergeom  # takes most of a second to import

    units, could = np.asarray(family, dtype=np.int64), np.asarray(live, dtype=np.int64)
    rows = []
    for branch in of:
        inside, held = (int(((at >= branch.start) & (at < branch.stop)).sum()) for at in (could, units))
        rows.append({
            "branch": branch.path, "first_unit": branch.start, "n_units": inside, "n_detectors": held, "n_family": units.size,
            "share": held / units.size if units.size else np.nan, "share_expected": inside / could.size if could.size else np.nan,
            "p": float(hypergeom.sf(held - 1, could.size, units.size, inside)) if units.size else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)
