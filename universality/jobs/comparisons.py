"""The comparisons of a job as tasks: a key made of its content, and a function of paths and plain values.

Paths travel to the workers, not arrays. The tasks of a large zoo are many (layers x layers), so they are made one after
another and counted without being made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from universality import correspondence
from universality.comparison import Layer, LayerRef, NullPlan, similarity_rows
from universality.jobs.recent import read_layer
from universality.origin import code_digest, package_versions
from universality.partners import Contender, MatchingPlan
from universality.spec import Job, digest

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Task:
    """One comparison: its content's key, what it is for people, and a function of plain values."""

    key: str
    label: str
    function: Callable[..., Tables]
    arguments: tuple[Any, ...]

    def reads(self, stores: frozenset[str]) -> bool:
        """Return whether the task reads one of the stores."""
        return any(not stores.isdisjoint(ref.stores.values()) for ref in _refs(self.arguments))


def _refs(value: Any) -> Iterator[LayerRef]:
    if isinstance(value, LayerRef):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _refs(part)


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a job, in the order of their rows in the tables.

    Attributes
    ----------
    layers : (model, seed) -> the taps' layers; seed None for the trained network
    """

    job: Job
    layers: Mapping[tuple[str, int | None], Sequence[LayerRef]]

    def __len__(self) -> int:
        models = sum(len(self.layers[entry.id, None]) for entry in self.job.models)
        return models + sum(1 + len(self.layers[a, None]) for a, _ in self.job.compared())

    def __iter__(self) -> Iterator[Task]:
        for entry in self.job.models:
            yield from self._families(entry.id)
        for a, b in self.job.compared():
            yield from self._pair(a, b)

    @cached_property
    def nulls(self) -> NullPlan:
        """How many nulls of each kind."""
        return NullPlan(self.job.nulls.haar_rotations, self.job.nulls.shuffles, self.job.seed)

    @cached_property
    def matching(self) -> MatchingPlan:
        """How units are matched."""
        chosen = self.job.comparison
        return MatchingPlan(chosen.matching, chosen.bootstraps, chosen.permutations, self.nulls)

    @cached_property
    def _identities(self) -> dict[tuple[str, int | None], list[str]]:
        """What decides each layer's values and labels; where its stores lie does not."""
        return {key: [digest(repr(replace(ref, store_root=""))) for ref in refs] for key, refs in self.layers.items()}

    @cached_property
    def _networks(self) -> dict[str, str]:
        """What decides the layers of a model and of all its twins together."""
        return {entry.id: digest([self._of(entry.id, place) for place in self._places(entry.id)])
                for entry in self.job.models}  # fmt: skip

    @cached_property
    def _common(self) -> str:
        return digest([code_digest(), package_versions(), repr(self.matching), self.job.comparison.measures])

    def _places(self, model: str) -> range:
        return range(len(self.layers[model, None]))

    def _of(self, model: str, place: int) -> list[str]:
        return [self._identities[model, seed][place] for seed in (None, *self.job.nulls.untrained_seeds)]

    def _twins(self, model: str) -> list[Sequence[LayerRef]]:
        return [self.layers[model, seed] for seed in self.job.nulls.untrained_seeds]

    def _task(self, function: Callable[..., Tables], causes: list[Any], label: str, *arguments: Any) -> Task:
        kind = function.__name__.removesuffix("_task")
        return Task(digest([kind, self._common, *causes])[:32], f"{kind} of {label}", function, arguments)

    def _families(self, model: str) -> Iterator[Task]:
        for place, layer in enumerate(self.layers[model, None]):
            twins = [layers[place] for layers in self._twins(model)]
            label = f"{model}, {layer.tap.name}"
            yield self._task(family_task, self._of(model, place), label, layer, twins, self.nulls)

    def _pair(self, a: str, b: str) -> Iterator[Task]:
        layers_a, layers_b = self.layers[a, None], self.layers[b, None]
        measures = self.job.comparison.measures
        # All taps of two networks share a task: reading the layers would cost more than comparing them.
        yield self._task(
            similarity_task, [self._networks[a], self._networks[b]], f"{a} with {b}",
            layers_a, layers_b, self._twins(a), self._twins(b), measures, self.nulls,
        )  # fmt: skip
        for place, layer in enumerate(layers_a):
            causes = [self._of(a, place), self._networks[b]]
            twins_a = [layers[place] for layers in self._twins(a)]
            label = f"{a}, {layer.tap.name} with {b}"
            yield self._task(
                correspondence_task, causes, label, layer, layers_b, twins_a, self._twins(b), self.matching
            )  # fmt: skip


@dataclass(frozen=True)
class Possible:
    """The comparisons that read none of the stores that are lost."""

    tasks: Comparisons
    lost: frozenset[str]

    def __iter__(self) -> Iterator[Task]:
        return (task for task in self.tasks if not self.lost or not task.reads(self.lost))


def family_task(layer: LayerRef, twins: Sequence[LayerRef], nulls: NullPlan) -> Tables:
    """Return the rows of ``families`` and ``units`` for one layer."""
    trained, untrained = read_layer(layer), [read_layer(twin) for twin in twins]
    units = pd.concat([correspondence.unit_rows(x) for x in (trained, *untrained)], ignore_index=True)
    return {"families": correspondence.family_rows(trained, untrained, nulls), "units": units}


def similarity_task(
    a: Sequence[LayerRef],
    b: Sequence[LayerRef],
    twins_a: Sequence[Sequence[LayerRef]],
    twins_b: Sequence[Sequence[LayerRef]],
    measures: Sequence[str],
    nulls: NullPlan,
) -> Tables:
    """Return the rows of ``similarity`` for all pairs of taps of two networks."""

    def load(refs: Sequence[LayerRef]) -> list[Layer]:
        return [read_layer(ref) for ref in refs]

    untrained_a, untrained_b = ([load(refs) for refs in twins] for twins in (twins_a, twins_b))
    return {"similarity": similarity_rows(load(a), load(b), untrained_a, untrained_b, measures, nulls)}


def correspondence_task(
    a: LayerRef,
    b: Sequence[LayerRef],
    twins_a: Sequence[LayerRef],
    twins_b: Sequence[Sequence[LayerRef]],
    matching: MatchingPlan,
) -> Tables:
    """Return the rows of ``correspondence`` and of its nulls for one layer of a network with all layers of another.

    `twins_a` holds the layer of each untrained twin, `twins_b` for each untrained seed the same layers of the twin.
    """

    def contender(ref: LayerRef, twins: Sequence[LayerRef]) -> Contender:
        return Contender(read_layer(ref), [read_layer(twin) for twin in twins], matching)

    first = contender(a, twins_a)
    parts: dict[str, list[pd.DataFrame]] = {"correspondence": [], "correspondence_nulls": []}
    for place, ref in enumerate(b):
        second = contender(ref, [twins[place] for twins in twins_b])
        parts["correspondence"].append(correspondence.correspondence_rows(first, second))
        parts["correspondence_nulls"].append(correspondence.null_rows(first, second))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
