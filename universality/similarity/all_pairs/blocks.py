"""Products between the units of all pairs of layers, Z' W, a block of stacked layers at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import array_api_compat

from universality.similarity.all_pairs.plan import Plan, ordered_map, too_small
from universality.similarity.all_pairs.views import View

Value = TypeVar("Value")


def groups(widths: Sequence[int], columns: int) -> list[list[int]]:
    """Return consecutive layers whose units together are at most `columns`.

    Examples
    --------
    >>> groups([3, 3, 3, 5], 6)
    [[0, 1], [2], [3]]
    """
    found: list[list[int]] = []
    for i, width in enumerate(widths):
        if found and sum(widths[k] for k in found[-1]) + width <= columns:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def cross_blocks(
    views: Sequence[View], plan: Plan, consume: Callable[[int, int, Any], Value], own: bool = True
) -> Iterator[tuple[int, int, Value]]:
    """Yield (i, j, consume(i, j, block)) for all i <= j (without `own`: i < j), with the (p_i, p_j) float64 sum of ``Z_i' Z_j`` over stimuli.

    The block is of the views' namespace and device. `consume` runs in the worker's thread and returns what is kept.

    Raises
    ------
    MeasureError
        The budget does not hold one block.
    """
    if plan.columns == 0:
        raise too_small(plan)
    parts = groups([view.width for view in views], plan.columns)
    pairs = [(a, b) for k, a in enumerate(parts) for b in parts[k:] if own or a != b or len(a) > 1]

    def work(pair: tuple[list[int], list[int]]) -> list[tuple[int, int, Value]]:
        left, right = pair
        product = _summed(views, left, right, plan)
        found = []
        for i, rows in _slices(views, left):
            for j, columns in _slices(views, right):
                if i < j or (own and i == j):
                    found.append((i, j, consume(i, j, product[rows, columns])))
        return found

    for values in ordered_map(work, pairs, plan.workers):
        yield from values


def _slices(views: Sequence[View], group: list[int]) -> Iterator[tuple[int, slice]]:
    start = 0
    for i in group:
        yield i, slice(start, start + views[i].width)
        start += views[i].width


def _summed(views: Sequence[View], left: list[int], right: list[int], plan: Plan) -> Any:
    """Return the stacked product of two groups; only the sum over the tiles is in float64 where the tiles are not."""
    total: Any = None
    for start, stop in plan.spans(plan.rows):
        a = _stacked(views, left, start, stop)
        b = a if left == right else _stacked(views, right, start, stop)
        xp = array_api_compat.array_namespace(a)
        product = a.T @ b
        if total is None:
            total = xp.astype(product, xp.float64, copy=False)
        else:
            total += product
    return total


def _stacked(views: Sequence[View], group: list[int], start: int, stop: int) -> Any:
    tiles = [views[i].tile(start, stop) for i in group]
    if len(tiles) == 1:
        return tiles[0]
    return array_api_compat.array_namespace(tiles[0]).concat(tiles, axis=1)
