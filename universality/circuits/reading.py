"""Networks of a job asked for weights: each process keeps those that it loaded last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.activations.layer import Layer, LayerRef
from universality.activations.network import Network
from universality.base.arrays import Array
from universality.base.errors import TapError
from universality.base.recent import Recent
from universality.circuits.pairs import Ends, Weights
from universality.circuits.plan import WeightKind
from universality.circuits.profiles import Units
from universality.features.families import FAMILIES
from universality.models.card import Tap

if TYPE_CHECKING:
    import xarray as xr
    from torch import nn

MOST_BYTES = 256 << 20
"""What the networks kept take together, at most, but for the `LEAST` used last."""
LEAST = 2
"""Two networks are compared at a time, and asked in turns: however large, they are kept."""


@dataclass(frozen=True)
class Loaded:
    """A network, and what a thread holds while it asks: hooks of two would meet."""

    module: nn.Module
    lock: Lock = field(default_factory=Lock)

    @property
    def nbytes(self) -> int:
        """What its weights take, bytes."""
        return sum(value.nbytes for value in self.module.state_dict().values())


LOADED: Recent[Loaded] = Recent(MOST_BYTES, lambda loaded: loaded.nbytes, LEAST)


IMAGES = 32
"""Natural images at which gradients are taken."""


def weights_of(network: Network, kind: WeightKind = "linear", some: slice = slice(None)) -> Weights:
    """Return what gives the weights of a network into directions of a later tap: linear ones, or the mean of its gradients at (some) natural images."""

    def weights(first: Tap, second: Tap, directions: Array) -> xr.DataArray:
        from universality.circuits.expanded import weights_into  # with Torch

        loaded = LOADED.get(network.identity, lambda: Loaded(network.load()))
        images, shape = _images(network)[some] if kind == "mean_gradient" else None, network.card.preprocessing.shape
        with loaded.lock:
            return weights_into(loaded.module, first, second, directions, shape, network.label, images)

    return weights


def _images(network: Network) -> NDArray[np.float32]:
    """Return natural images of the job, some from everywhere: photographs come before drawn ones."""
    from universality.stimuli import sets

    preprocessing = network.card.preprocessing
    count = sets.parameters("natural", network.stimuli).sizes["stimulus"]
    places = np.unique(np.linspace(0, count - 1, min(IMAGES, count)).round().astype(int))
    images = sets.render("natural", network.stimuli, preprocessing.canvas_px, places, preprocessing.interpolation)
    return sets.normalise(images.values, preprocessing)


def sources_of(
    network: Network, refs: Sequence[LayerRef], target: LayerRef, kind: WeightKind = "linear"
) -> list[LayerRef]:
    """Return the layers that a tap depends on, the nearest first: of the taps that come before it in depth."""
    found, ask = [], weights_of(network, kind, slice(1))
    for ref in sorted(
        (of for of in refs if of.tap.relative_depth < target.tap.relative_depth), key=lambda of: -of.tap.relative_depth
    ):
        try:
            ask(ref.tap, target.tap, np.eye(1, target.tap.channels))
        except TapError:  # not connected, or it gives no tensor to take derivatives by
            continue
        found.append(ref)
    return found


def labels(units: pd.DataFrame, ref: LayerRef) -> dict[str, Units]:
    """Return the detectors of a trained layer, by family, with their preferred angles.

    Parameters
    ----------
    units : the table of this name
    """
    here = units[
        (units["model"] == ref.model) & (units["tap"] == ref.tap.name) & (units["seed"] == -1) & units["detector"]
    ]
    return {
        str(family): Units(
            rows["unit"].to_numpy(np.int64), rows["preferred_deg"].to_numpy(float), FAMILIES[str(family)].period_deg
        )
        for family, rows in here.groupby("family", sort=False)
    }


def ends(
    network: Network, source: LayerRef, target: LayerRef, units: pd.DataFrame, read: Callable[[LayerRef], Layer], kind: WeightKind = "linear",
) -> Ends:  # fmt: skip
    """Return one network's part of a comparison; detectors are those of the trained network, also where this one is an untrained twin.

    Sources count as the network hands them on, clipped where a nonlinearity clips; targets are matched, as everywhere, by their values before that.
    """
    first, second = read(source).handed_on, read(target)
    # Linear weights are held against mean gradients, these of half of the images against those of the other half.
    against = (slice(None),) if kind == "linear" else (slice(0, None, 2), slice(1, None, 2))
    weights, *checks = (
        between(ask, first, second)
        for ask in (weights_of(network, kind), *(weights_of(network, "mean_gradient", some) for some in against))
    )
    return Ends(first, second, weights, tuple(checks), labels(units, source), labels(units, target))


def between(weights: Weights, first: Layer, second: Layer) -> Weights:
    """Return what gives the weights between two layers as they are seen: projected on the directions of a basis that one is seen in.

    From one of a source's code to what it adds to the source's units, through the weights between units, to the linear part of the target's code.
    """
    written, read = first.basis.written, second.basis.read
    if written is None and read is None:
        return weights

    def projected(a: Tap, b: Tap, directions: Array) -> xr.DataArray:
        return onto_written(weights(a, b, directions if read is None else directions @ read), written)

    return projected


def onto_written(weights: xr.DataArray, written: Array | None) -> xr.DataArray:
    """Return weights by a source's units as weights by the directions of a basis, which add `written` (direction, unit) to the units; as they are without a basis."""
    if written is None:
        return weights
    values = np.einsum("tuyx,du->tdyx", weights.values, written.astype(weights.dtype))
    return (
        weights.isel(unit_a=np.zeros(len(written), dtype=int))
        .assign_coords(unit_a=np.arange(len(written)))
        .copy(data=values)
    )


def twin(
    networks: Mapping[int | None, Network], layers: Mapping[int | None, Sequence[LayerRef]], seed: int, source: LayerRef, target: LayerRef, units: pd.DataFrame,
    read: Callable[[LayerRef], Layer], kind: WeightKind = "linear",
) -> Ends:  # fmt: skip
    """Return an untrained twin's part at the taps of two layers of the trained network; fidelity is not asked for."""
    at = {ref.tap.name: ref for ref in layers[seed]}
    found = ends(networks[seed], at[source.tap.name], at[target.tap.name], units, read, kind)
    return replace(found, checks=())


def with_twins(
    networks: Mapping[int | None, Network], layers: Mapping[int | None, Sequence[LayerRef]], source: LayerRef, target: LayerRef,
    units: pd.DataFrame, read: Callable[[LayerRef], Layer], kind: WeightKind = "linear",
) -> tuple[Ends, list[Ends]]:  # fmt: skip
    """Return the trained network's part, and that of each of its untrained twins: by seed, None for the trained one."""

    def of(seed: int | None) -> Ends:
        at = {ref.tap.name: ref for ref in layers[seed]}
        return ends(networks[seed], at[source.tap.name], at[target.tap.name], units, read, kind)

    return of(None), [of(seed) for seed in networks if seed is not None]
