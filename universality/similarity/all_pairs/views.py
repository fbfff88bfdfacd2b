"""Layers made ready for products, tile by tile: centred, with units of length one, or with stimuli of length one.

One pass over the tiles collects the units' means and ranges; every later tile is transformed by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from universality.base.errors import MeasureError
from universality.base.inputs import Source, to_host
from universality.similarity.all_pairs.plan import Plan, ordered_map

Array = NDArray[np.float64]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class ArraySource:
    """An array (n, p) of the array API standard that is sliced."""

    array: Any

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.array.shape[0])

    @property
    def p(self) -> int:
        """Number of units."""
        return int(self.array.shape[1])

    def tile(self, start: int, stop: int) -> Any:
        """Return rows without copying them."""
        return self.array[start:stop]


@dataclass(frozen=True)
class HostSource:
    """Another source, its tiles as NumPy arrays."""

    source: Source

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return self.source.n

    @property
    def p(self) -> int:
        """Number of units."""
        return self.source.p

    def tile(self, start: int, stop: int) -> np.ndarray:
        """Return rows; those of a tensor on the CPU without copying them."""
        return to_host(self.source.tile(start, stop))


@dataclass(frozen=True)
class Ranges:
    """What one pass tells of a layer: which units (p,) vary, and for those the mean and the largest departure from it."""

    live: NDArray[np.int64]
    dead: int
    mean: Array
    reach: Array


@dataclass(frozen=True)
class View:
    """Rows of a layer after `transform`, (rows, `width`)."""

    source: Source
    transform: Callable[[Any], Any]
    width: int

    def tile(self, start: int, stop: int) -> Any:
        """Read and transform rows."""
        return self.transform(self.source.tile(start, stop))


def scan(name: str, source: Source, plan_rows: int) -> Ranges:
    """Read a layer once.

    Raises
    ------
    MeasureError
        A value is NaN or infinite.
    """
    total, low, high = np.zeros(source.p), np.full(source.p, np.inf), np.full(source.p, -np.inf)
    for start in range(0, source.n, plan_rows):
        stop = min(start + plan_rows, source.n)
        x = source.tile(start, stop)
        xp = array_api_compat.array_namespace(x)
        least, most = to_host(xp.min(x, axis=0)), to_host(xp.max(x, axis=0))
        # Both carry a NaN on, so two short arrays tell whether all values are finite.
        if not (np.isfinite(least).all() and np.isfinite(most).all()):
            raise MeasureError(
                f"layer '{name}' has NaN or infinite values among stimuli {start} to {stop - 1}, expected finite "
                "activations; drop those stimuli"
            )
        low, high = np.minimum(low, least), np.maximum(high, most)
        total += to_host(xp.sum(xp.astype(x, xp.float64), axis=0))
    live = np.flatnonzero(high > low)
    mean = total[live] / source.n
    reach = np.maximum(high[live] - mean, mean - low[live])
    return Ranges(live, source.p - live.size, mean, reach)


def _selected(x: Any, ranges: Ranges, dtype: Precision) -> tuple[Any, Any]:
    """Return the live units in the wider of their own and the wanted precision, and the namespace."""
    xp = array_api_compat.array_namespace(x)
    if ranges.dead:
        x = xp.take(x, _like(ranges.live, x, xp), axis=1)
    keep = xp.float32 if x.dtype == xp.float32 and dtype == "float32" else xp.float64
    return xp.astype(x, keep, copy=False), xp


def _like(values: Any, x: Any, xp: Any, dtype: Any = None) -> Any:
    return xp.asarray(values, dtype=dtype, device=array_api_compat.device(x))


def _minus_mean(x: Any, ranges: Ranges, xp: Any) -> Any:
    """Return `x` less the means. In float32 they are taken off in two parts, so their rounding does not stay behind."""
    mean = _like(ranges.mean, x, xp)
    head = xp.astype(mean, x.dtype, copy=False)
    rest = mean - xp.astype(head, xp.float64, copy=False)
    centred = x - head
    if x.dtype == xp.float32:
        centred -= xp.astype(rest, x.dtype)
    return centred


def centred(source: Source, ranges: Ranges, dtype: Precision) -> View:
    """Return the live units less their means, all divided by the largest value, which no measure here depends on."""
    largest = float(ranges.reach.max())

    def transform(tile: Any) -> Any:
        x, xp = _selected(tile, ranges, dtype)
        x = _minus_mean(x, ranges, xp)
        x /= largest
        return xp.astype(x, getattr(xp, dtype), copy=False)

    return View(source, transform, ranges.live.size)


def standardised(source: Source, ranges: Ranges, dtype: Precision, rows: int) -> View:
    """Return the live units less their means with length one over all stimuli; reads the layer once for the lengths."""

    def scaled(tile: Any, divisor: Array) -> tuple[Any, Any]:
        x, xp = _selected(tile, ranges, dtype)
        x = _minus_mean(x, ranges, xp)
        x /= _like(divisor, x, xp, x.dtype)
        return x, xp

    squares = np.zeros(ranges.live.size)
    for start in range(0, source.n, rows):
        x, xp = scaled(source.tile(start, min(start + rows, source.n)), ranges.reach)
        wide = xp.astype(x, xp.float64, copy=False)
        squares += to_host(xp.sum(wide * wide, axis=0))
    lengths = np.sqrt(squares)

    def transform(tile: Any) -> Any:
        # Two steps keep units of any magnitude exact: the product of reach and length could leave the range.
        x, xp = scaled(tile, ranges.reach)
        x /= _like(lengths, x, xp, x.dtype)
        return xp.astype(x, getattr(xp, dtype), copy=False)

    return View(source, transform, ranges.live.size)


def stimulus_patterns(source: Source, ranges: Ranges, dtype: Precision) -> View:
    """Return each stimulus' pattern over the live units less its mean, with length one; NaN where it is flat."""

    def transform(tile: Any) -> Any:
        x, xp = _selected(tile, ranges, dtype)
        # A flat pattern has rounding for its departures: it has no direction.
        varies = xp.max(x, axis=1, keepdims=True) > xp.min(x, axis=1, keepdims=True)
        for _ in range(2):  # the first mean is rounded to the precision of `x`; the second takes that rounding off
            x = x - xp.mean(x, axis=1, keepdims=True)
        x /= xp.where(varies, xp.max(xp.abs(x), axis=1, keepdims=True), xp.nan)
        x /= xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))
        return xp.astype(x, getattr(xp, dtype), copy=False)

    return View(source, transform, ranges.live.size)


def held(views: Sequence[View], plan: Plan) -> list[View]:
    """Return the views with their rows kept in memory if the plan says so, else as they are."""
    if not plan.resident:
        return list(views)
    return list(ordered_map(lambda view: _held(view, plan), views, plan.workers))


def _held(view: View, plan: Plan) -> View:
    whole: Any = None
    for start, stop in plan.spans(plan.rows):
        tile = view.tile(start, stop)
        if whole is None:
            xp = array_api_compat.array_namespace(tile)
            whole = xp.empty((plan.n, view.width), dtype=tile.dtype, device=array_api_compat.device(tile))
        whole[start:stop, :] = tile
    return View(ArraySource(whole), _as_is, view.width)


def _as_is(tile: Any) -> Any:
    return tile
