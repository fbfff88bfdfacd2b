"""How long the comparisons of a plan will take, from a few of each kind on made-up activations of the job's own shapes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from universality.activations.layer import Layer, LayerRef, Shown, load_layer
from universality.activations.network import Network
from universality.activations.store import ActivationStore
from universality.correspondence import tables
from universality.correspondence.search import Contender
from universality.jobs import recent
from universality.jobs.planning import Plan
from universality.jobs.workers import single_threaded
from universality.models.card import Tap
from universality.runs.job import Job
from universality.runs.networks import compared_sets, stimulus_sets
from universality.similarity.tables import similarity_rows
from universality.stimuli import sets

Answer = TypeVar("Answer")
Item = TypeVar("Item")

STRATA = 3
"""Sizes at which comparisons are timed."""
ONE_IN = 8
"""Units per detector: the demo's layers hold 2 to 55 % of detectors."""


def comparisons_s(plan: Plan) -> float:
    """Return the work of all comparisons, processor s: a few of each kind, timed, for all that are like them in size.

    Layers (for families) and pairs of layers (for the others) are put in the order of their size and divided into
    `STRATA` of equal number; the middle one of each stands for its stratum. Reading the layers is timed apart. What a
    process does only the first time is not counted.

    Made-up units are hardly ever detectors, and the evidence is made for matched detectors only: every `ONE_IN`-th unit is
    taken for one.
    """
    taps = {entry.id: [ref.tap for ref in plan.inputs.layers[entry.id, None]] for entry in plan.job.models}
    every = [tap for of in taps.values() for tap in of]
    single_threaded()
    rehearsed = _Rehearsed(plan)
    smallest = min(every, key=lambda tap: tap.channels)
    rehearsed.family(smallest)
    rehearsed.pair(smallest, smallest)
    families = sum(many * rehearsed.family(tap) for tap, many in _strata(every, lambda tap: tap.channels))
    pairs = [(x, y) for a, b in plan.job.compared() for x in taps[a] for y in taps[b]]
    # Some of the work grows with the units of both layers, some with their product.
    typical = _strata(pairs, lambda pair: (pair[0].channels + pair[1].channels, pair[0].channels * pair[1].channels))
    return families + sum(many * rehearsed.pair(*pair) for pair, many in typical) + _loads(plan) * rehearsed.load()


def _strata(items: Sequence[Item], size: Callable[[Item], Any]) -> list[tuple[Item, int]]:
    """Return the middle item of each stratum by size, and how many items the stratum has."""
    ordered = sorted(items, key=size)
    count = min(STRATA, len(ordered))
    edges = [len(ordered) * k // count for k in range(count + 1)] if count else [0]
    return [(ordered[(start + stop) // 2], stop - start) for start, stop in pairwise(edges)]


def _loads(plan: Plan) -> int:
    """Return how many layers are read: each with all its stores, and once for two networks whose layers are all kept."""
    networks = 1 + len(plan.job.nulls.untrained_seeds)
    taps = {entry.id: len(plan.inputs.layers[entry.id, None]) for entry in plan.job.models}
    kept = {n.card.id: networks * _kept_bytes(plan, n) for n in plan.networks if n.seed is None}
    loads = sum(taps.values())
    for a, b in plan.job.compared():
        once = kept[a] + kept[b] <= recent.MOST_BYTES
        loads += taps[a] + taps[b] + (0 if once else taps[a] * (1 + taps[b]))
    return networks * loads


def _kept_bytes(plan: Plan, network: Network) -> int:
    """Return what all layers of a network take once they are read, bytes."""
    values = sum(int(np.prod(network.shape(name, tap))) for name in stimulus_sets(plan.job) for tap in network.taps)
    return values * np.dtype(np.float64).itemsize


@dataclass(frozen=True)
class _Rehearsed:
    """Comparisons of made-up layers, timed, processor s."""

    plan: Plan

    def _layers(self, tap: Tap, first: int) -> tuple[Layer, list[Layer]]:
        """Return a layer and its twins."""
        job = self.plan.job
        return _made_up(job, tap, first), [
            _made_up(job, tap, first + k) for k, _ in enumerate(job.nulls.untrained_seeds, 1)
        ]

    def family(self, tap: Tap) -> float:
        """Return the time of the rows of one layer."""
        layer, twins = self._layers(tap, 0)
        nulls = self.plan.inputs.nulls
        return _seconds(
            lambda: [
                (
                    tables.family_rows(family, layer, twins, nulls),
                    *(tables.unit_rows(family, x) for x in (layer, *twins)),
                )
                for family in self.plan.job.comparison.families
            ]
        )

    def pair(self, x: Tap, y: Tap) -> float:
        """Return the time of similarity and correspondence of one pair of layers."""
        job, inputs = self.plan.job, self.plan.inputs
        (a, twins_a), (b, twins_b) = self._layers(x, 0), self._layers(y, 1000)
        of_a, of_b = [[twin] for twin in twins_a], [[twin] for twin in twins_b]
        measured = _seconds(lambda: similarity_rows([a], [b], of_a, of_b, job.comparison.measures, inputs.nulls))
        left, right = (
            _with_detectors(Contender(of, twins, inputs.matching)) for of, twins in ((a, twins_a), (b, twins_b))
        )
        return measured + _seconds(lambda: (tables.correspondence_rows(left, right), tables.null_rows(left, right)))

    def load(self) -> float:
        """Return the time of reading one layer from stores: the mean over one small layer of each model."""
        refs = [refs[0] for (_, seed), refs in self.plan.inputs.layers.items() if seed is None]
        ref = min(refs, key=lambda ref: ref.tap.channels)
        location = f"memory://rehearsal-{uuid.uuid4().hex}"
        store = ActivationStore(location)
        network = next(n for n in self.plan.networks if n.card.id == ref.model and n.seed is None)
        try:
            for name in ref.stores:
                shown = sets.parameters(name, self.plan.job.stimuli)
                shape, dtype = network.shape(name, ref.tap), network.extraction.dtype
                with store.writing(network.key(name, ref.tap), shown, shape, dtype, {}) as writer:
                    writer.append(np.zeros(shape, dtype))
            there = replace(ref, store_root=location)
            load_layer(there)
            return _seconds(lambda: load_layer(there))
        finally:
            for name in store.place.names():
                store.place.remove(name)


def _with_detectors(contender: Contender) -> Contender:
    """Take every `ONE_IN`-th unit of a contender for a detector."""
    for table in contender.tables.values():
        table["detector"] = np.arange(len(table)) % ONE_IN == 0
    return contender


def clocked(clock: Callable[[], float], work: Callable[..., Answer], *arguments: Any) -> tuple[Answer, float]:
    """Return what a function gives, and the time it took by a clock, s."""
    started = clock()
    answer = work(*arguments)
    return answer, clock() - started


def _seconds(work: Callable[[], Any]) -> float:
    return clocked(time.process_time, work)[1]


def _made_up(job: Job, tap: Tap, seed: int) -> Layer:
    """Return a layer of the job's shape whose units answer at random."""
    rng = np.random.default_rng(seed)
    natural = sets.parameters("natural", job.stimuli)
    places = job.extraction.positions**2 if job.extraction.reduction == "positions" else 1
    fold = np.repeat(natural["fold"].values, places)
    photograph = np.repeat(np.unique(natural["photograph"].values, return_inverse=True)[1], places)
    shown = {}
    for name in compared_sets(job)[1:]:
        parameters = sets.parameters(name, job.stimuli)
        shown[name] = Shown(rng.standard_normal((parameters.sizes["stimulus"], tap.channels)), parameters)
    ref = LayerRef("made-up", None, tap, "", {})
    return Layer(ref, rng.standard_normal((len(fold), tap.channels)), fold, photograph, shown, places)
