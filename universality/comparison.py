"""Layers with their labels, and every measure on every pair of them beside its nulls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import comparators, schema
from universality.detectors import FAMILIES, Grid, Responses
from universality.spec import Tap
from universality.stimuli import Scene
from universality.store import ActivationStore


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
        return comparators.live_units(self.natural[self.fold == 0]) & comparators.live_units(
            self.natural[self.fold == 1]
        )

    def halves(self) -> Halves:
        """Return the live units' standardised activations where matches are decided and where they are scored."""
        live = np.flatnonzero(self.live)
        decide, score = (comparators.standardised(self.natural[self.fold == fold][:, live]) for fold in (0, 1))
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


def rotations(units: int, count: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield `count` Haar-random (units, units) orthogonal matrices."""
    for index in range(count):
        yield rotation(units, index, seed)


@lru_cache(maxsize=8)
def rotation(units: int, index: int, seed: int) -> NDArray[np.float64]:
    """Return the Haar-random (units, units) orthogonal matrix number `index`, not to be written to: it is shared."""
    made = comparators.haar_orthogonal(units, np.random.default_rng([seed, units, index]))
    made.flags.writeable = False
    return made


@dataclass(frozen=True)
class NullPlan:
    """How many nulls of each kind, and their seed."""

    haar_rotations: int
    shuffles: int
    seed: int


class _Prepared:
    """Summaries of one layer in its variations, made when first asked for; measures share equal preparations."""

    def __init__(self, x: NDArray[np.float64], plan: NullPlan, places: int = 1) -> None:
        self._x = x
        self._places = places
        self._plan = plan
        self._made: dict[tuple[Callable[..., Any], int, str, int], Any] = {}
        self.units = int(comparators.live_units(x).sum())

    def plain(self, measure: str) -> Any:
        return self._get(measure, "plain", 0, lambda: self._x)

    def haar(self, measure: str) -> Iterator[Any]:
        # One rotation shows that a basis-free measure does not change; unit matching needs the mean over several.
        count = 1 if comparators.comparator(measure).basis_free else self._plan.haar_rotations
        for index in range(count):
            yield self._get(measure, "haar", index, partial(self._rotated, index))

    def shuffled(self, measure: str) -> Iterator[Any]:
        for index in range(self._plan.shuffles):
            yield self._get(measure, "shuffled", index, partial(self._reordered, index))

    def _rotated(self, index: int) -> NDArray[np.float64]:
        return self._x @ rotation(self._x.shape[1], index, self._plan.seed)

    def _reordered(self, index: int) -> NDArray[np.float64]:
        # Places of one image stay together: stimuli are shuffled, not places.
        images = len(self._x) // self._places
        rng = np.random.default_rng([self._plan.seed, images, index])
        order = rng.permutation(images)[:, None] * self._places + np.arange(self._places)
        return np.asarray(self._x[order.ravel()])

    def _get(self, measure: str, kind: str, index: int, make: Callable[[], NDArray[np.float64]]) -> Any:
        entry = comparators.comparator(measure)
        # min_n decides whether there is a summary at all, so measures that differ in it share none.
        key = (entry.prepare, entry.min_n, kind, index)
        if key not in self._made:
            self._made[key] = comparators.prepare(measure, make())
        return self._made[key]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def similarity_rows(
    layers_a: Sequence[Layer],
    layers_b: Sequence[Layer],
    twins_a: Sequence[Sequence[Layer]],
    twins_b: Sequence[Sequence[Layer]],
    measures: Sequence[str],
    plan: NullPlan,
) -> pd.DataFrame:
    """Return the table ``similarity`` for all pairs of taps of two networks.

    Parameters
    ----------
    layers_a, layers_b : one `Layer` per tap
    twins_a, twins_b : for each untrained seed, the same taps of the untrained twin
    """
    a, b = ([_Prepared(layer.natural, plan, layer.places) for layer in layers] for layers in (layers_a, layers_b))
    untrained = [
        ([_Prepared(x.natural, plan, x.places) for x in xs], [_Prepared(y.natural, plan, y.places) for y in ys])
        for xs, ys in zip(twins_a, twins_b, strict=True)
    ]
    rows = []
    for i, layer_a in enumerate(layers_a):
        for j, layer_b in enumerate(layers_b):
            for measure in measures:

                def scored(x: Any, y: Any, measure: str = measure) -> float:
                    return comparators.score_prepared(measure, x, y)[0]

                plain = a[i].plain(measure)
                value, reason = comparators.score_prepared(measure, plain, b[j].plain(measure))
                rows.append(
                    {
                        **pair_identity(layer_a.ref, layer_b.ref),
                        "measure": measure,
                        "direction": comparators.comparator(measure).direction,
                        "value": value,
                        "value_untrained": _mean(
                            [scored(x[i].plain(measure), y[j].plain(measure)) for x, y in untrained]
                        ),
                        "value_haar": _mean([scored(plain, y) for y in b[j].haar(measure)]),
                        "value_shuffled": _mean([scored(plain, y) for y in b[j].shuffled(measure)]),
                        "n": len(layer_a.natural),
                        "p": a[i].units,
                        "q": b[j].units,
                        "reason": reason,
                    }
                )
    return schema.as_table(schema.SIMILARITY, pd.DataFrame(rows))


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
