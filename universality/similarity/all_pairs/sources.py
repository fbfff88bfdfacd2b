"""Layers as sources of tiles: arrays in memory, memory maps, tensors and lazily opened stores give rows when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import array_api_compat
import numpy as np
import xarray as xr

from universality.base.errors import MeasureError
from universality.base.schema import STIMULUS, UNIT


class Source(Protocol):
    """Activations of one layer that can be read by rows: `n` stimuli, `p` units."""

    @property
    def n(self) -> int:
        """Number of stimuli."""

    @property
    def p(self) -> int:
        """Number of units."""

    def tile(self, start: int, stop: int) -> Any:
        """Return the rows from `start` up to `stop` as an array (stimulus, unit) of the array API standard."""


@dataclass(frozen=True)
class ArraySource:
    """An array (n, p) that is sliced: NumPy, a memory map, or a Torch tensor on any device."""

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
class LabelledSource:
    """An xarray array with the dimensions ``stimulus`` and ``unit``; a store that is opened lazily is read by tiles."""

    array: xr.DataArray

    @property
    def n(self) -> int:
        """Number of stimuli."""
        return int(self.array.sizes[STIMULUS])

    @property
    def p(self) -> int:
        """Number of units."""
        return int(self.array.sizes[UNIT])

    def tile(self, start: int, stop: int) -> np.ndarray:
        """Read rows from where they lie."""
        rows = self.array.isel({STIMULUS: slice(start, stop)}).transpose(STIMULUS, UNIT)
        return np.asarray(rows.values)


def as_source(name: str, layer: Any) -> Source:
    """Return `layer` as a source; raise `MeasureError` where it is none."""
    if isinstance(layer, xr.DataArray):
        if set(layer.dims) != {STIMULUS, UNIT}:
            raise MeasureError(
                f"layer '{name}' has the dimensions {layer.dims}, expected ('{STIMULUS}', '{UNIT}'); stack or select "
                "the others first"
            )
        source: Source = LabelledSource(layer)
    elif hasattr(layer, "tile") and hasattr(layer, "n") and hasattr(layer, "p"):
        source = layer
    else:
        source = ArraySource(_array(name, layer))
    if 0 in (source.n, source.p):
        raise MeasureError(
            f"layer '{name}' has shape {(source.n, source.p)}, expected (stimuli, units), both at least 1; drop it"
        )
    return source


def _array(name: str, layer: Any) -> Any:
    array = layer if array_api_compat.is_array_api_obj(layer) else np.asarray(layer)
    if array.ndim != 2:
        raise MeasureError(
            f"layer '{name}' has shape {tuple(array.shape)}, expected (stimuli, units), both at least 1; reshape it"
        )
    if isinstance(array, np.ndarray) and array.dtype.kind not in "fiub":
        raise MeasureError(f"layer '{name}' is not an array of numbers; pass activations (stimuli, units)")
    return array


def as_sources(layers: Mapping[str, Any]) -> dict[str, Source]:
    """Return every layer as a source, in the order given.

    Raises
    ------
    MeasureError
        No layer, a layer that is not (stimuli, units), or layers that do not hold the same stimuli.
    """
    if not isinstance(layers, Mapping) or not layers:
        raise MeasureError("there is no layer to compare; pass a mapping of names to activations (stimuli, units)")
    sources = {str(name): as_source(str(name), layer) for name, layer in layers.items()}
    first, *others = sources
    for name in others:
        if sources[name].n != sources[first].n:
            raise MeasureError(
                f"layer '{first}' has {sources[first].n} stimuli and '{name}' has {sources[name].n}, expected the same "
                "stimuli in the same order; select the common ones first"
            )
    _same_labels(layers)
    return sources


def _same_labels(layers: Mapping[str, Any]) -> None:
    """Refuse labelled layers whose stimuli carry different labels."""
    labelled = {n: x for n, x in layers.items() if isinstance(x, xr.DataArray) and STIMULUS in x.indexes}
    if not labelled:
        return
    first, *others = labelled
    for name in others:
        if not labelled[name].indexes[STIMULUS].equals(labelled[first].indexes[STIMULUS]):
            raise MeasureError(
                f"layers '{first}' and '{name}' have different labels on '{STIMULUS}', expected the same stimuli in "
                "the same order; align them first"
            )
