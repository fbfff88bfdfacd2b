"""Layers with their labels, read from their stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.activations.store import ActivationStore
from universality.base import arrays, schema
from universality.features.families import FAMILIES, Grid, Responses
from universality.models.card import Tap
from universality.stimuli.framing import Scene


@dataclass(frozen=True)
class LayerRef:
    """Where a layer's activations lie: everything a worker needs, and no array.

    `seed` is None for the trained network, else the seed of the untrained twin; `stores` maps the stimulus set to the
    name of its store; `scene` says how scenes lay in the images shown, where that is known; `families` are those whose
    stimuli are read (sets can belong to several): when empty, all whose sets are there.
    """

    model: str
    seed: int | None
    tap: Tap
    store_root: str
    stores: dict[str, str]
    scene: Scene | None = None
    families: tuple[str, ...] = ()


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
class Layer:
    """A layer's activations in memory.

    Attributes
    ----------
    natural : (row, unit) float64, a.u.; with the reduction ``positions`` each place of a crop is a row
    fold, photograph : (row,) fold (0 decides matches, 1 scores them) and index of the photograph
    drawn : by family, (stimulus, unit) float64, a.u., its stimulus sets one after the other; with ``positions`` the
        middle place
    grids : by family, where in `drawn` each combination of parameters lies
    places : rows per natural image
    """

    ref: LayerRef
    natural: NDArray[np.float64]
    fold: NDArray[np.int64]
    photograph: NDArray[np.int64]
    drawn: Mapping[str, NDArray[np.float64]]
    grids: Mapping[str, Grid]
    places: int = 1

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Which units vary over the natural crops of both folds."""
        return arrays.live_units(self.natural[self.fold == 0]) & arrays.live_units(self.natural[self.fold == 1])

    def halves(self) -> Halves:
        """Return the live units' standardised activations where matches are decided and where they are scored."""
        live = np.flatnonzero(self.live)
        decide, score = (arrays.standardised(self.natural[self.fold == fold][:, live]) for fold in (0, 1))
        return Halves(live, decide, score)

    @property
    def scored_photographs(self) -> NDArray[np.int64]:
        """Photograph of each row of the scoring fold, numbered from 0 without gaps."""
        return np.unique(self.photograph[self.fold == 1], return_inverse=True)[1]

    def responses(self, family: str) -> Responses:
        """Responses to a family's stimuli, in sigma of the natural images; live are the units that can also be matched."""
        made = FAMILIES[family].responses(self.drawn[family], self.natural, self.grids[family])
        answer: Responses = replace(made, sigma=replace(made.sigma, live=self.live))
        return answer

    def units(self, family: str) -> pd.DataFrame:
        """One row per unit with every criterion of a family."""
        if family not in self._units:
            self._units[family] = FAMILIES[family].table(self.responses(family))
        return self._units[family].copy()

    @cached_property
    def _units(self) -> dict[str, pd.DataFrame]:
        """The tables that were asked for: several tasks ask for those of a layer that one process keeps."""
        return {}

    def rotated(self, rotation: NDArray[np.float64]) -> Layer:
        """Return the layer in another orthonormal basis: the Haar null. Units become mixtures of units."""
        drawn = {family: values @ rotation for family, values in self.drawn.items()}
        return replace(self, natural=self.natural @ rotation, drawn=drawn)


def load_layer(ref: LayerRef) -> Layer:
    """Read a layer's activations for natural images and its families' stimuli from its stores.

    The checksums of the stores were compared when the job was planned; here the codec's own guard the reading.
    """
    store = ActivationStore(ref.store_root)
    natural = store.open(ref.stores["natural"], verify=False, lazy=False)
    values = natural[schema.ACTIVATION].values.astype(np.float64)
    fold = natural["fold"].values
    photograph = np.unique(natural["photograph"].values, return_inverse=True)[1]
    places = 1
    if values.ndim == 3:
        places = values.shape[1]
        values = values.reshape(-1, values.shape[2])
        fold, photograph = np.repeat(fold, places), np.repeat(photograph, places)
    drawn, grids = {}, {}
    for name, family in FAMILIES.items():
        if name in ref.families or (not ref.families and ref.stores.keys() >= set(family.sets)):
            shown = [store.open(ref.stores[one], verify=False, lazy=False) for one in family.sets]
            answers = np.concatenate([one[schema.ACTIVATION].values.astype(np.float64) for one in shown])
            drawn[name] = answers if answers.ndim == 2 else answers[:, places // 2]
            grids[name] = family.grid(*shown)
    return Layer(ref, values, fold, photograph, drawn, grids, places)


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
