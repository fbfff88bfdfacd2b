"""Layers that this process read last: the tasks of two networks read the same ones again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from universality.activations.layer import Layer, LayerRef, load_layer

MOST_BYTES = 128 << 20
"""What the layers kept take together, at most; a larger one is not kept."""


class RecentLayers:
    """The layers read last, up to so many bytes.

    A layer's stores are named by their content, so what was read once is what would be read again. The arrays are shared
    between tasks and therefore cannot be written to.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, load: Callable[[LayerRef], Layer] = load_layer) -> None:
        self._most, self._load = most_bytes, load
        self._layers: OrderedDict[str, Layer] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    def __call__(self, ref: LayerRef) -> Layer:
        """Return a layer, read if it is not kept."""
        key = repr(ref)
        with self._lock:
            if key in self._layers:
                self._layers.move_to_end(key)
                return self._layers[key]
        layer = _sealed(self._load(ref))
        with self._lock:
            self._keep(key, layer)
        return layer

    def _keep(self, key: str, layer: Layer) -> None:
        if key in self._layers:  # another thread read it meanwhile
            return
        self._layers[key] = layer
        self._nbytes += nbytes(layer)
        while self._nbytes > self._most:
            self._nbytes -= nbytes(self._layers.popitem(last=False)[1])

    def forget(self) -> None:
        """Keep none."""
        with self._lock:
            self._layers.clear()
            self._nbytes = 0


def nbytes(layer: Layer) -> int:
    """Return what a layer's activations take, bytes."""
    return layer.natural.nbytes + sum(shown.activations.nbytes for shown in layer.shown.values())


def _sealed(layer: Layer) -> Layer:
    for values in (layer.natural, layer.fold, layer.photograph, *(shown.activations for shown in layer.shown.values())):
        values.flags.writeable = False
    return layer


read_layer = RecentLayers()
"""What the tasks of this process read layers with."""


@contextmanager
def forgetting() -> Iterator[None]:
    """Let this process, whose threads may compute, keep no layer afterwards."""
    try:
        yield
    finally:
        read_layer.forget()
