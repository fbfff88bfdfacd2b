"""Layers that this process read last: the tasks of two networks read the same ones again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from universality.activations.layer import Layer, LayerRef, load_layer
from universality.base.recent import Recent
from universality.circuits.reading import LOADED

MOST_BYTES = 128 << 20
"""What the layers kept take together, at most; a larger one is not kept."""


class RecentLayers:
    """The layers read last, up to so many bytes.

    A layer's stores are named by their content, so what was read once is what would be read again. The arrays are shared
    between tasks and therefore cannot be written to.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, load: Callable[[LayerRef], Layer] = load_layer) -> None:
        self._load = load
        self._layers = Recent(most_bytes, nbytes)

    def __call__(self, ref: LayerRef) -> Layer:
        """Return a layer, read if it is not kept."""
        return self._layers.get(repr(ref), lambda: _sealed(self._load(ref)))

    def forget(self) -> None:
        """Keep none."""
        self._layers.forget()


def nbytes(layer: Layer) -> int:
    """Return what a layer's activations take, bytes."""
    own = layer.natural.nbytes + sum(shown.activations.nbytes for shown in layer.shown.values())
    return own + (0 if layer.in_units is None else nbytes(layer.in_units))


def _sealed(layer: Layer) -> Layer:
    for values in (layer.natural, layer.fold, layer.photograph, *(shown.activations for shown in layer.shown.values())):
        values.flags.writeable = False
    if layer.in_units is not None:
        _sealed(layer.in_units)
    return layer


read_layer = RecentLayers()
"""What the tasks of this process read layers with."""


@contextmanager
def forgetting() -> Iterator[None]:
    """Let this process, whose threads may compute, keep no layer and no network afterwards."""
    try:
        yield
    finally:
        read_layer.forget()
        LOADED.forget()
