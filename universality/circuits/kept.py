"""Weights kept in a store by what decides them: large ones are computed once, and then read piece by piece as they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import xarray as xr

from universality.activations.store import ActivationStore
from universality.base.errors import StoreError
from universality.base.schema import FORMAT_VERSION
from universality.base.spec import digest

VERSION = 1
"""Raised when weights change for equal causes."""
LEAST_BYTES = 64 << 20
"""Smaller weights are not kept: they are computed in seconds."""
_NAME = "weight"


def name_of(causes: Any) -> str:
    """Return the name of the store of weights that these causes decide."""
    return digest(["weights between taps", FORMAT_VERSION, VERSION, causes])[:32]


def kept(store: ActivationStore, name: str, make: Callable[[], xr.DataArray]) -> xr.DataArray:
    """Return weights from a store, as Dask arrays of its pieces; what is not there is made, and kept if it takes `LEAST_BYTES`.

    Every file is compared with its checksum first: what is damaged is set aside and made again.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    store.check()
    if store.exists(name):
        with suppress(StoreError):
            return _opened(store, name)
        # Another process may have set it aside meanwhile.
        with suppress(OSError):
            store.set_aside(name)
    found = make()
    if found.nbytes < LEAST_BYTES:
        return found
    # A piece is the weights into one unit of tap B, or into several up to a few MB.
    sizes = dict(zip(found.dims, found.shape, strict=True))
    each = max(int(sizes["unit_b"] * (4 << 20) // found.nbytes), 1)
    pieces = {dim: min(each, size) if dim == "unit_b" else 1 if dim == "image" else size for dim, size in sizes.items()}
    # Attributes belong to the array: a dataset's own are the store's.
    store.keep(name, found.rename(_NAME).chunk(pieces).to_dataset())
    return _opened(store, name)


def _opened(store: ActivationStore, name: str) -> xr.DataArray:
    return store.open(name)[_NAME]
