"""How long the comparisons of a plan will take, from one of each kind on made-up activations of the job's own shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality import correspondence, stimuli
from universality.comparison import Layer, LayerRef, similarity_rows
from universality.detectors import FAMILIES
from universality.jobs.planning import Plan
from universality.jobs.scheduling import single_threaded
from universality.schema import STIMULUS
from universality.spec import Job, Tap

TUNED = 0.1


def comparisons_s(plan: Plan) -> float:
    """Return the work of all comparisons, s of one thread: each kind once at a typical size, times how many there are.

    Of the made-up units a share of `TUNED` answer like detectors, for which evidence is gathered: networks with many more or
    fewer take longer or less.
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
    match_s = _seconds(lambda: correspondence.correspondence_rows(a, b, twins, tasks.matching))
    pairs = sum(len(taps[x]) * len(taps[y]) for x, y in job.compared())
    return len(every) * family_s + pairs * (similarity_s + match_s)


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
    shown = {str(name): stimuli.parameters(FAMILIES[name].stimuli, job.stimuli) for name in job.comparison.families}
    drawn = {name: _answers(of, tap.channels, rng) for name, of in shown.items()}
    grids = {name: FAMILIES[name].grid(of) for name, of in shown.items()}
    ref = LayerRef("made-up", None, tap, "", {})
    return Layer(ref, rng.standard_normal((len(fold), tap.channels)), fold, photograph, drawn, grids, places)


def _answers(shown: xr.Dataset, units: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (stimulus, unit) answers: noise, and for the first units a bump about an angle of their own."""
    answers = 0.1 * rng.standard_normal((shown.sizes[STIMULUS], units))
    tuned = max(int(TUNED * units), 1)
    away = np.deg2rad(shown["orientation_deg"].values[:, None] - rng.uniform(0, 360, tuned))
    # The straight line and the boundary between equal frequencies are controls: detectors hardly answer to them.
    control = np.zeros(len(away), dtype=bool)
    for name, none in (("curvature", 0.0), ("ratio", 1.0)):
        control |= shown[name].values == none if name in shown.coords else False
    answers[:, :tuned] += np.where(control[:, None], 0.2, 6.0) * np.exp(3.0 * (np.cos(away) - 1.0))
    return answers
