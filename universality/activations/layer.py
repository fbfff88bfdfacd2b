"""Layers with their labels, read from their stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.activations.bases import UNITS, Basis, haar
from universality.activations.dictionaries.kept import BasisRef
from universality.activations.store import ActivationStore
from universality.base import arrays, schema
from universality.models.card import Tap
from universality.stimuli.framing import Scene


@dataclass(frozen=True)
class LayerRef:
    """Where a layer's activations lie: everything a worker needs, and no array.

    `seed` is None for the trained network, else the seed of the untrained twin; `copy_r` is that of a noisy copy, else None; `stores` maps each stimulus set that is
    read to the name of its store; `scene` says how scenes lay in the images shown, where that is known. `basis` is the one that the layer is seen in, None for its units.
    """

    model: str
    seed: int | None
    tap: Tap
    store_root: str
    stores: dict[str, str]
    scene: Scene | None = None
    copy_r: float | None = None
    basis: BasisRef | None = None

    @property
    def width(self) -> int:
        """How many units the layer has: those of the tap, or the directions of its basis."""
        return self.tap.channels if self.basis is None else self.basis.directions


@dataclass(frozen=True)
class Halves:
    """The live units of a layer in both folds.

    Attributes
    ----------
    live : (live unit,) their numbers in the layer
    decide, score : (row, live unit) standardised activations in fold 0, in fold 1
    """

    live: NDArray[np.int64]
    decide: NDArray[np.float64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """What a layer answered to one stimulus set other than the natural images.

    Attributes
    ----------
    activations : (stimulus, unit) float64, a.u.; with the reduction ``positions`` those at the middle place
    parameters : of every stimulus, coordinates on the dimension ``stimulus``
    derived : what others made of the parameters alone and want to find again, in whatever basis the layer is seen
    """

    activations: NDArray[np.float64]
    parameters: xr.Dataset
    derived: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Layer:
    """A layer's activations in memory.

    Attributes
    ----------
    natural : (row, unit) float64, a.u.; with the reduction ``positions`` each place of a crop is a row
    fold, photograph : (row,) fold (0 decides matches, 1 scores them) and index of the photograph
    shown : by stimulus set, what it answered
    places : rows per natural image
    clip : where the layer's nonlinearity clips its units from above, a.u., (unit,) or one for all; `natural` and `shown` hold the values before that,
        cut at 0 (of means over positions those behind it). None where it does not clip, and of a layer that is seen in directions
    basis : that it is seen in
    in_units : the same layer in its units, which random bases are made of; None where it is seen in them
    """

    ref: LayerRef
    natural: NDArray[np.float64]
    fold: NDArray[np.int64]
    photograph: NDArray[np.int64]
    shown: Mapping[str, Shown]
    places: int = 1
    clip: NDArray[np.float64] | float | None = None
    basis: Basis = UNITS
    in_units: Layer | None = None

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Which units vary over the natural crops of both folds."""
        return arrays.live_units(self.natural[self.fold == 0]) & arrays.live_units(self.natural[self.fold == 1])

    @property
    def handed_on(self) -> Layer:
        """The layer, as it was read, as its network hands it on: clipped where its nonlinearity clips. Tuning and matching read the values before that."""
        if self.in_units is not None:
            return self if self.in_units.clip is None else self.in_units.handed_on.in_basis(self.basis)
        if self.clip is None:
            return self
        shown = {name: replace(of, activations=self.clipped(of.activations)) for name, of in self.shown.items()}
        return replace(self, natural=self.clipped(self.natural), shown=shown, clip=None)

    def clipped(self, activations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return activations (row, unit) of this layer as its nonlinearity clips them."""
        return activations if self.clip is None else np.asarray(np.minimum(activations, self.clip))

    def halves(self) -> Halves:
        """Return the live units' standardised activations where matches are decided and where they are scored."""
        live = np.flatnonzero(self.live)
        decide, score = (arrays.standardised(self.natural[self.fold == fold][:, live]) for fold in (0, 1))
        return Halves(live, decide, score)

    @property
    def scored_photographs(self) -> NDArray[np.int64]:
        """Photograph of each row of the scoring fold, numbered from 0 without gaps."""
        return np.unique(self.photograph[self.fold == 1], return_inverse=True)[1]

    @cached_property
    def derived(self) -> dict[Any, Any]:
        """What others made of this layer and want to find again: several tasks ask for it of a layer that one process keeps."""
        return {}

    def standardised(self) -> Layer:
        """Return the layer with each unit divided by its standard deviation over natural images; units that do not vary are 0."""
        spread = self.natural.std(axis=0)
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=np.ptp(self.natural, axis=0) > 0)
        shown = {name: replace(of, activations=of.activations * scale) for name, of in self.shown.items()}
        in_units = None if self.in_units is None else self.in_units.standardised()
        clip = None if self.clip is None else self.clip * scale
        return replace(self, natural=self.natural * scale, shown=shown, clip=clip, in_units=in_units)

    def as_sparse_as(self, other: Layer) -> Layer:
        """Return the layer with each unit's bias lowered until it is active for as many natural images as its counterpart in `other`.

        Active is above 0. After a nonlinearity that cuts at 0, and before it, lowering a bias by c gives max(x - c, 0); a unit that is
        already as sparse stays as it is, cut at 0.
        """
        active = (other.natural > 0).mean(axis=0)
        rank = np.round(active * len(self.natural)).astype(np.int64)
        falling = np.sort(self.natural, axis=0)[::-1]
        # The first value that is no longer to be active.
        lowered = np.maximum(falling[np.minimum(rank, len(falling) - 1), np.arange(rank.size)], 0.0)
        lowered = np.where(rank >= len(falling), 0.0, lowered)

        def cut(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.maximum(values - lowered, 0.0))

        shown = {name: replace(of, activations=cut(of.activations)) for name, of in self.shown.items()}
        return replace(self, natural=cut(self.natural), shown=shown)

    def in_basis(self, basis: Basis) -> Layer:
        """Return the layer seen in a basis of its units: its units are the basis's directions."""
        units = self.in_units or self
        if basis is UNITS:
            return units
        shown = {name: replace(of, activations=basis.seen(of.activations)) for name, of in units.shown.items()}
        return replace(units, natural=basis.seen(units.natural), shown=shown, clip=None, basis=basis, in_units=units)

    def in_random(self, index: int, seed: int) -> Layer:
        """Return the layer in the Haar-random basis number `index` of its units: in as many directions as it has now."""
        return self.in_basis(haar(index, seed, self.natural.shape[1]))


def load_layer(ref: LayerRef) -> Layer:
    """Read a layer's activations for natural images and its other stimulus sets from its stores.

    The checksums of the stores were compared when the job was planned; here the codec's own guard the reading.
    """
    store = ActivationStore(ref.store_root)
    read = {name: store.open(key, verify=False, lazy=False) for name, key in ref.stores.items()}
    natural = read.pop("natural")
    values = natural[schema.ACTIVATION].values.astype(np.float64)
    fold = natural["fold"].values
    photograph = np.unique(natural["photograph"].values, return_inverse=True)[1]
    places = 1
    if values.ndim == 3:
        places = values.shape[1]
        values = values.reshape(-1, values.shape[2])
        fold, photograph = np.repeat(fold, places), np.repeat(photograph, places)
    shown = {}
    for name, of in read.items():
        answers = of[schema.ACTIVATION].values.astype(np.float64)
        middle = answers if answers.ndim == 2 else np.ascontiguousarray(answers[:, places // 2])
        shown[name] = Shown(middle, of.drop_vars(schema.ACTIVATION))
    layer = Layer(ref, values, fold, photograph, shown, places, ref.tap.clips_at)
    return layer if ref.basis is None else layer.in_basis(ref.basis.basis(ref.store_root))


def pair_identity(a: LayerRef, b: LayerRef) -> dict[str, Any]:
    """Return the columns that say which two layers a row is about."""
    return {
        "model_a": a.model,
        "model_b": b.model,
        "tap_a": a.tap.name,
        "tap_b": b.tap.name,
        "depth_a": a.tap.relative_depth,
        "depth_b": b.tap.relative_depth,
    }
