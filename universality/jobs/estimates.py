"""What a plan will need: disk and memory from the shapes, time from the seconds that earlier runs recorded.

The constants were measured on the demo; `docs/scale.md` holds the estimates beside the truth.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from universality.activations.places import Folder
from universality.base.errors import StoreError
from universality.base.schema import STIMULUS
from universality.correspondence.verdict import POWER, confirmable_with
from universality.jobs import recent
from universality.jobs.passes import loading, showing
from universality.jobs.placement import gpus_here
from universality.jobs.planning import Plan, PlannedStore
from universality.jobs.seconds import DEFAULTS, MEASURED, Recorded, recorded
from universality.jobs.table_sizes import table_sizes
from universality.runs.job import Job
from universality.stimuli import sets

COMPRESSED = 0.67
"""Size on disk of stored activations, of their size in memory: 0.64 to 0.69 on four stores of photographs and drawings."""
STORE_BYTES = 20_000
"""Labels, metadata and manifest of a store."""
RESULT_BYTES = 30_000
"""What a kept result takes beside its rows: the description of some 50 columns."""
PARQUET = 0.3
"""Size on disk of a table of the run's directory, of its size in memory: 0.1 to 0.4."""
FIGURE_BYTES = 130_000
"""Files of one figure."""
REPORT_BYTES = 1_000_000
"""The report and the record of a run."""
PROCESS_BYTES = 1_100_000_000
"""A process with everything imported."""
PIXEL_BYTES = 820
"""What one thread takes for each pixel of a batch that it shows to a network: two took 1.5 GB at 240 px, 16 at a time."""
_FLOAT = 8


@dataclass(frozen=True)
class Disk:
    """Bytes that a plan will write: `expected`, and `most` if nothing could be compressed; `free` where it is known."""

    expected: int
    most: int
    free: int | None


def disk(plan: Plan) -> Disk:
    """Return what the missing stores, their shards, the results, tables, figures and the report will take."""
    raw = sum(p.nbytes for p in plan.missing)
    tables, left = table_sizes(plan).nbytes, plan.n_tasks - plan.kept()
    results = RESULT_BYTES * left + tables * left // max(plan.n_tasks, 1)
    drawn = FIGURE_BYTES * plan.figures + REPORT_BYTES
    fixed = STORE_BYTES * len(plan.missing) + results + int(PARQUET * tables) + drawn
    # The shards of a network lie beside its stores until these are joined.
    shards = max((sum(p.nbytes for p in of) for of in _by_network(plan.missing)), default=0)
    return Disk(int(COMPRESSED * raw) + fixed, raw + shards + fixed, _free(plan))


def _by_network(stores: Sequence[PlannedStore]) -> list[list[PlannedStore]]:
    found: dict[int, list[PlannedStore]] = {}
    for planned in stores:
        found.setdefault(id(planned.network), []).append(planned)
    return list(found.values())


def _free(plan: Plan) -> int | None:
    if not isinstance(plan.store.place, Folder):
        return None
    root = plan.store.place.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    return shutil.disk_usage(existing).free


def refuse_disk(needed: Disk, location: str) -> None:
    """Raise `StoreError` if the disk is too short for what is expected."""
    if needed.free is not None and needed.free < needed.expected:
        raise StoreError(
            f"store '{location}' needs about {needed.expected / 1e6:.0f} MB, the disk has {needed.free / 1e6:.0f} MB free; "
            "free space or choose another folder with --store"
        )


def comparison_bytes(plan: Plan) -> int:
    """Return what the largest comparison holds beside the process itself, bytes.

    All taps of two networks in float64, each with its twins, its rotations and its shuffles, made ready for a measure.
    """
    nulls = plan.job.nulls
    variants = 1 + len(nulls.untrained_seeds) + nulls.haar_rotations + nulls.shuffles
    sizes: dict[str, int] = {}
    for network in (n for n in plan.networks if n.trained):
        rows = int(np.prod(network.shape("natural", network.taps[0])[:-1]))
        sizes[network.card.id] = rows * _FLOAT * sum(tap.channels for tap in network.taps)
    pairs = [sizes[a] + sizes[b] for a, b in plan.job.compared()]
    return variants * max(pairs, default=max(sizes.values()))


def memory(plan: Plan, threads: int) -> int:
    """Return what a process that computes needs with so many threads, bytes."""
    shown = [p.network for p in plan.missing]
    batch = max((n.extraction.batch_size * n.card.preprocessing.pixels for n in shown), default=0)
    comparing = recent.MOST_BYTES + threads * comparison_bytes(plan)
    return PROCESS_BYTES + max(comparing, threads * PIXEL_BYTES * batch)


@dataclass(frozen=True)
class Time:
    """What a plan takes, processor s (NaN where nothing is known).

    Attributes
    ----------
    start : of a process
    extraction : of what is missing
    stages : by name, of the tasks whose results are not kept
    figures : of all of them
    alone : what one process does alone at the end: joining and writing tables, the report
    beside : what the scheduler takes beside all this
    source : where the seconds come from, in words
    """

    start: float
    extraction: float
    stages: Mapping[str, float]
    figures: float
    alone: float
    beside: float
    source: str

    @property
    def total(self) -> float:
        """All of it, in one process."""
        return self.start + self.extraction + sum(self.stages.values()) + self.figures + self.alone + self.beside

    def wall(self, threads: int, processes: int | None, showing: int) -> float:
        """Return the time on idle cores, s, of which `showing` tasks at a time show images."""
        return sum(self.parts(threads, processes, showing).values())

    def parts(self, threads: int, processes: int | None, showing: int) -> dict[str, float]:
        """Return the same by what a run tells its reporter of: ``start`` aside, the descriptions of its bars (`Reporter.track`)."""
        starts = 1 if processes is None else 2
        return {
            "start": starts * self.start,
            "extraction (images)": self.extraction / showing,
            **{f"{stage} (tasks)": seconds / threads for stage, seconds in self.stages.items()},
            "figures and report": (self.figures + self.beside) / threads + self.alone,
        }


class _Clock:
    """Seconds of work, as earlier runs took, else by default; remembers of what there is no record."""

    def __init__(self, known: Recorded) -> None:
        self._known = known
        self._lacking: dict[str, None] = {}

    def __call__(self, name: str, *work: tuple[str, float]) -> float:
        """Return the seconds of some work, counted in one or more ways, the most particular first; NaN if none is known.

        `name` is that of the work for people.
        """
        if not work[0][1]:
            return 0.0
        if (rate := self._known.rate(work[0][0])) is not None:
            return rate * work[0][1]
        self._lacking[name] = None
        for kind, count in work:
            for rate in (self._known.rate(kind), DEFAULTS.get(kind)):
                if rate is not None:
                    return rate * count
        return math.nan

    def source(self) -> str:
        """Return where the seconds came from."""
        runs = self._known.runs
        if not runs:
            return f"from the defaults ({MEASURED}): no run on this machine has been recorded yet"
        said = f"from {runs} earlier run{'s' if runs > 1 else ''} on this machine"
        return f"{said}; not recorded yet, so by default: {', '.join(self._lacking)}" if self._lacking else said


def time(plan: Plan) -> Time:
    """Return what a plan takes, from the seconds that runs on this machine recorded, else from the defaults."""
    took = _Clock(recorded())
    start = took("start", ("start", 1.0))
    extraction = _extraction(plan, took)
    stages, alone = {}, 0.0
    if plan.missing or not plan.tables_exist:
        for stage, left in zip(plan.stages, plan.left(), strict=True):
            work = stage.work(plan.inputs)
            stages[stage.name] = took(stage.name, (stage.name, left * work)) if stage.count(plan.inputs) else 0.0
            alone += took(stage.name, (f"tables of {stage.name}", work))
        alone += took("tables", ("tables", plan.n_tasks)) + took("tables", ("written tables", len(plan.table_names)))
    elif plan.drawn:
        return Time(start, 0.0, {}, 0.0, 0.0, 0.0, took.source())
    alone += took("report", ("report", plan.reported))
    figures = took("figures", ("figures", plan.figures))
    beside = took("scheduler", ("beside", extraction + sum(stages.values()) + figures + alone))
    return Time(start, extraction, stages, figures, alone, beside, took.source())


def _extraction(plan: Plan, took: _Clock) -> float:
    """Return the work of extracting what is missing. A trained network is loaded twice: its weights are looked at first."""
    passes = plan.passes
    total = took("extraction", ("stores", len(plan.missing)))
    for network in {id(shown.network): shown.network for shown in passes}.values():
        total += (2 if network.trained else 1) * took(network.card.id, *loading(network))
    return total + sum(took(shown.network.card.id, *showing(shown, sum(map(len, shown.shards)))) for shown in passes)


def sentences(plan: Plan, threads: int, workers: int | None = None, found: Time | None = None) -> list[str]:
    """Return memory, time and the size of the tables of a plan, one sentence each.

    `threads` are those of each of the local processes `workers`, or of this process without them; `found` is what `time`
    gives.
    """
    return [*_of_workers(plan, threads, workers, found or time(plan)), _of_tables(plan), *_of_power(plan)]


def smallest_correlation(job: Job) -> float | None:
    """Return the true correlation of units that a job tells from random bases with probability `POWER`; None where it matches none."""
    if not (job.compared() and job.comparison.families):
        return None
    return confirmable_with(int(sets.parameters("natural", job.stimuli).sizes[STIMULUS]))


def _of_power(plan: Plan) -> list[str]:
    smallest = smallest_correlation(plan.job)
    if smallest is None:
        return []
    images = int(sets.parameters("natural", plan.job.stimuli).sizes[STIMULUS])
    return [
        f"power: with {images} natural images, a pair of units whose true correlation is {smallest:.2f} is told from "
        f"random bases with probability {POWER:g} (layers of pocket networks; column r_confirmable says it for each pair afterwards)"
    ]


def _of_tables(plan: Plan) -> str:
    sizes = table_sizes(plan)
    expected, most = ((PROCESS_BYTES + need) / 1e6 for need in sizes.joining)
    return (
        f"tables: about {sizes.rows} rows, {sizes.nbytes / 1e6:.0f} MB in memory (at most {sizes.most / 1e6:.0f}); the process that "
        f"joins them needs about {expected:.0f} MB (at most {most:.0f})"
    )


def _of_workers(plan: Plan, threads: int, workers: int | None, found: Time) -> list[str]:
    every = threads * (workers or 1)
    who = f"{threads} thread(s)" if workers is None else f"{workers} worker(s) of {threads} thread(s)"
    said = [f"memory: about {memory(plan, threads) / 1e6:.0f} MB for {threads} thread(s) of one worker"]
    if math.isnan(found.extraction):
        return [*said, "time: unknown, as no run has shown images on a GPU of this machine yet"]
    # A GPU shows the images of one task at a time.
    showing = max(gpus_here(), 1) if plan.job.extraction.device == "cuda" else every
    return [
        *said,
        f"time: about {found.wall(every, workers, showing):.0f} s on idle cores with {who} (start {found.start:.0f} s, extraction "
        f"{found.extraction / showing:.0f} s, stages {sum(found.stages.values()) / every:.0f} s, figures and report "
        f"{found.figures / every + found.alone:.0f} s), {found.source}",
        f"work: {found.total:.0f} processor s",
    ]
