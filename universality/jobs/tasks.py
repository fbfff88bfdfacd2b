"""What stages are made of: a task under a key made of its content, and the layers and networks that tasks are about.

Paths travel to the workers, not arrays. The tasks of a large zoo are many (layers x layers), so they are made one after
another and counted without being made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from universality.activations.layer import LayerRef
from universality.activations.network import Network, Variant
from universality.activations.nulls import NullPlan
from universality.base.spec import digest
from universality.correspondence.search import MatchingPlan
from universality.features.families import FAMILIES
from universality.runs.job import Job

Tables = dict[str, pd.DataFrame]
Keys = Callable[[Any], str]
"""From the causes of a result to the key that it is kept under."""


@dataclass(frozen=True)
class Task:
    """One piece of a stage's work.

    Attributes
    ----------
    stage : name of its stage
    keys : part -> digest of everything that decides the part's result; a task without parts has one, the empty name
    label : what it is, for people
    function : called with `arguments` (plain values, paths, and what `late` adds); returns tables by name. That of a task
        with parts is also given the names of those that are wanted, and returns tables by name for each
    late : from the tables of the stages that the task's stage needs, further arguments; they decide nothing that the keys
        do not name
    """

    stage: str
    keys: Mapping[str, str]
    label: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    late: Callable[[Tables], tuple[Any, ...]] | None = None

    def reads(self, stores: frozenset[str]) -> bool:
        """Return whether the task reads one of the stores."""
        return any(not stores.isdisjoint(ref.stores.values()) for ref in _layers_in(self.arguments))

    def kept(self, keys: frozenset[str]) -> bool:
        """Return whether all its results are among the keys."""
        return keys.issuperset(self.keys.values())

    def bound(self, tables: Tables) -> Task:
        """Return the task with all its arguments."""
        if self.late is None:
            return self
        return replace(self, arguments=(*self.arguments, *self.late(tables)), late=None)

    def results(self, wanted: Sequence[str]) -> dict[str, Tables]:
        """Compute the parts that are wanted."""
        if tuple(self.keys) == ("",):
            return {"": self.function(*self.arguments)}
        made: dict[str, Tables] = self.function(*self.arguments, tuple(wanted))
        return made


def _layers_in(value: Any) -> Iterator[LayerRef]:
    """Yield every layer in nested sequences and mappings."""
    if isinstance(value, LayerRef):
        yield value
    elif isinstance(value, Mapping):
        yield from _layers_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _layers_in(part)


@dataclass(frozen=True)
class Inputs:
    """What the tasks of all stages are made from.

    Attributes
    ----------
    layers : (model, variant) -> the taps' layers; see `Variant`
    networks : (model, variant) -> the network
    """

    job: Job
    layers: Mapping[tuple[str, Variant], Sequence[LayerRef]]
    networks: Mapping[tuple[str, Variant], Network]

    @property
    def models(self) -> list[str]:
        """The ids of the job's models, in its order."""
        return [entry.id for entry in self.job.models]

    @property
    def copied(self) -> list[str]:
        """The ids of the models that have noisy copies."""
        return [model for model in self.models if self.job.copies_of(model)]

    @property
    def uncopied(self) -> list[Network]:
        """The networks themselves and their untrained twins; noisy copies serve the ceilings alone."""
        return [network for network in self.networks.values() if network.copy_r is None]

    @cached_property
    def nulls(self) -> NullPlan:
        """How many nulls of each kind."""
        return NullPlan(self.job.nulls.haar_rotations, self.job.nulls.shuffles, self.job.seed)

    @cached_property
    def matching(self) -> MatchingPlan:
        """How units are matched."""
        chosen = self.job.comparison
        return MatchingPlan(chosen.families, chosen.matching, chosen.bootstraps, chosen.permutations, self.nulls)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """None for the trained networks, then the seeds of their untrained twins."""
        return (None, *self.job.nulls.untrained_seeds)

    def twins(self, model: str) -> list[Sequence[LayerRef]]:
        """Return the layers of each untrained twin of a model."""
        return [self.layers[model, seed] for seed in self.job.nulls.untrained_seeds]

    def judged(self, model: str) -> list[int]:
        """Return the places, among a model's taps, of those that take part in what needs scenes of their own.

        That is all but similarity. Under the policy same_receptive_field taps without a receptive field have no scene.
        """
        network = self.networks[model, None]
        return [place for place, ref in enumerate(self.layers[model, None]) if network.judged(ref.tap)]

    def layers_judged(self, model: str, seed: Variant) -> list[LayerRef]:
        """Return the layers at those places."""
        return [self.layers[model, seed][place] for place in self.judged(model)]

    def identity(self, model: str, place: int, seed: Variant, families: tuple[str, ...] | None = None) -> str:
        """Return what decides the values and labels of one layer, of a model's taps the one at `place`; no path does.

        `families` are those whose stimuli count besides the natural images; all of the job when left out.
        """
        return self._identities[model, seed, place, self.job.comparison.families if families is None else families]

    @cached_property
    def _identities(self) -> dict[tuple[str, Variant, int, tuple[str, ...]], str]:
        chosen = self.job.comparison.families
        return {
            (model, seed, place, families): _identity(ref, families)
            for (model, seed), refs in self.layers.items()
            for place, ref in enumerate(refs)
            for families in ((), chosen, *((family,) for family in chosen))
        }

    def of_layer(self, model: str, place: int, families: tuple[str, ...] | None = None) -> list[str]:
        """Return what decides a layer and that of each of its twins."""
        return [self.identity(model, place, seed, families) for seed in self.seeds]

    def of_model(self, model: str, families: tuple[str, ...] | None = None) -> str:
        """Return what decides the layers of a model and of all its twins together."""
        chosen = self.job.comparison.families if families is None else families
        if (model, chosen) not in self._of_models:
            places = range(len(self.layers[model, None]))
            self._of_models[model, chosen] = digest([self.of_layer(model, place, chosen) for place in places])
        return self._of_models[model, chosen]

    @cached_property
    def _of_models(self) -> dict[tuple[str, tuple[str, ...]], str]:
        return {}


def _identity(ref: LayerRef, families: tuple[str, ...]) -> str:
    shown = ("natural", *(name for family in families for name in FAMILIES[family].sets))
    stores = {name: ref.stores[name] for name in dict.fromkeys(shown)}
    basis = [] if ref.basis is None else [ref.basis.identity]
    return digest([ref.model, ref.seed, ref.tap.plain(), stores, families, repr(ref.scene), *basis])


def rows_of(inputs: Inputs, *sets: str) -> int:
    """Return how many rows the activations for some stimulus sets have: stimuli, times places. All networks see the same."""
    network = next(iter(inputs.networks.values()))
    return sum(math.prod(network.shape(name, network.taps[0])[:-1]) for name in sets)


def pairs_of_layers(inputs: Inputs) -> Iterator[tuple[int, int]]:
    """Yield the units of both layers of every pair that is compared."""
    for a, b in inputs.job.compared():
        for x, y in itertools.product(inputs.layers[a, None], inputs.layers[b, None]):
            yield x.width, y.width
