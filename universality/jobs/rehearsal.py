"""How long the comparisons of a plan will take, from one of each kind on made-up activations of the job's own shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from universality import correspondence, stimuli
from universality.comparison import Layer, LayerRef, similarity_rows
from universality.detectors import FAMILIES
from universality.jobs.planning import Plan
from universality.jobs.scheduling import single_threaded
from universality.partners import Contender
from universality.spec import Job, Tap

ONE_IN = 8
"""Units per detector: the demo's layers hold 2 to 55 % of detectors."""


def comparisons_s(plan: Plan) -> float:
    """Return the work of all comparisons, s of one thread: each kind once at a typical size, times how many there are.

    Made-up units are hardly ever detectors, and the evidence is made for matched detectors only: every `ONE_IN`-th unit is
    taken for one.
    """
    job, tasks = plan.job, plan.tasks
    taps = {entry.id: [ref.tap for ref in tasks.layers[entry.id, None]] for entry in job.models}
    every = [tap for of in taps.values() for tap in of]
    # The work grows with the square of the units.
    typical = math.sqrt(sum(tap.channels**2 for tap in every) / len(every))
    tap = min(every, key=lambda tap: abs(tap.channels - typical))
    single_threaded()
    a, b = (_made_up(job, tap, number) for number in (0, 1))
    twins = [_made_up(job, tap, 2 + number) for number, _ in enumerate(job.nulls.untrained_seeds)]
    family_s = _seconds(lambda: (correspondence.family_rows(a, twins, tasks.nulls), correspondence.unit_rows(a)))
    alike = [[twin] for twin in twins]
    similarity_s = _seconds(lambda: similarity_rows([a], [b], alike, alike, job.comparison.measures, tasks.nulls))
    x, y = (_with_detectors(Contender(layer, twins, tasks.matching)) for layer in (a, b))
    match_s = _seconds(lambda: (correspondence.correspondence_rows(x, y), correspondence.null_rows(x, y)))
    pairs = sum(len(taps[x]) * len(taps[y]) for x, y in job.compared())
    return len(every) * family_s + pairs * (similarity_s + match_s)


def _with_detectors(contender: Contender) -> Contender:
    """Take every `ONE_IN`-th unit of a contender for a detector."""
    for table in contender.tables.values():
        table["detector"] = np.arange(len(table)) % ONE_IN == 0
    return contender


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _made_up(job: Job, tap: Tap, seed: int) -> Layer:
    """Return a layer of the job's shape whose units answer at random."""
    rng = np.random.default_rng(seed)
    natural = stimuli.parameters("natural", job.stimuli)
    places = job.extraction.positions**2 if job.extraction.reduction == "positions" else 1
    fold = np.repeat(natural["fold"].values, places)
    photograph = np.repeat(np.unique(natural["photograph"].values, return_inverse=True)[1], places)
    shown = {
        name: [stimuli.parameters(s, job.stimuli) for s in FAMILIES[name].sets] for name in job.comparison.families
    }
    drawn = {
        name: rng.standard_normal((sum(one.sizes["stimulus"] for one in of), tap.channels))
        for name, of in shown.items()
    }
    grids = {name: FAMILIES[name].grid(*of) for name, of in shown.items()}
    ref = LayerRef("made-up", None, tap, "", {})
    return Layer(ref, rng.standard_normal((len(fold), tap.channels)), fold, photograph, drawn, grids, places)
