"""What a plan will need: disk and memory from the shapes, time from shards and comparisons that are timed.

The constants were measured on the demo; `docs/scale.md` holds the estimates beside the truth.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from universality.activations.network import Network
from universality.activations.places import Folder
from universality.activations.store import ActivationStore
from universality.base.errors import StoreError
from universality.base.memory import peak_bytes, resident_bytes
from universality.jobs import recent, rehearsal
from universality.jobs.passes import Pass
from universality.jobs.placement import gpus_here
from universality.jobs.planning import Plan, PlannedStore
from universality.jobs.table_sizes import table_sizes
from universality.jobs.workers import single_threaded
from universality.runs import drawn
from universality.runs.networks import stimulus_sets

if TYPE_CHECKING:
    from universality.jobs.shards import Loaded

COMPRESSED = 0.67
"""Size on disk of stored activations, of their size in memory: 0.64 to 0.69 on four stores of photographs and drawings."""
STORE_BYTES = 20_000
"""Labels, metadata and manifest of a store."""
RESULT_BYTES = 30_000
"""What a kept result takes beside its rows: the description of some 50 columns."""
PARQUET = 0.3
"""Size on disk of a table of the run's directory, of its size in memory: 0.1 to 0.4."""
STORE_S = 0.03
"""Joining the shards of one store, processor s."""
FIGURE_S = 0.5
"""Drawing one figure and writing its files, processor s."""
LAYER_S = 0.5
"""What the tables, the report and its pictures take for one family at one layer, processor s."""
FIGURE_BYTES = 130_000
"""Files of one figure."""
REPORT_BYTES = 1_000_000
"""The report and the record of a run."""
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
    results = RESULT_BYTES * left + tables * left // plan.n_tasks
    drawn = FIGURE_BYTES * _drawn(plan) + REPORT_BYTES
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
    for network in (n for n in plan.networks if n.seed is None):
        rows = int(np.prod(network.shape("natural", network.taps[0])[:-1]))
        sizes[network.card.id] = rows * _FLOAT * sum(tap.channels for tap in network.taps)
    pairs = [sizes[a] + sizes[b] for a, b in plan.job.compared()]
    return variants * max(pairs, default=max(sizes.values()))


@dataclass(frozen=True)
class Timed:
    """One model, timed in one thread, processor s: loading the network and a twin, an image of each set; memory (bytes)."""

    network: Network
    load_s: float
    twin_s: float
    image_s: dict[str, float]
    nbytes: int


@dataclass(frozen=True)
class Needs:
    """What a plan needs: memory of a process that computes (bytes), start of a process and work of the stages (processor s)."""

    memory: int
    start_s: float
    extraction_s: float
    comparisons_s: float
    writing_s: float

    def wall_s(self, threads: int, processes: int | None, showing: int) -> float:
        """Return the time on idle cores.

        Comparisons are divided among all threads, extraction among the tasks that show images at a time; start and writing
        are one process's alone.
        """
        starts = 1 if processes is None else 2
        return starts * self.start_s + self.extraction_s / showing + self.comparisons_s / threads + self.writing_s


def needs(plan: Plan, threads: int) -> Needs:
    """Time a shard of every network, a few comparisons of each kind, and return what the whole plan needs.

    `threads` are those of one process. The process that asks should have done nothing but plan: its own start counts.
    """
    start_s = time.process_time()
    single_threaded()
    missing = {p.network.card.id for p in plan.missing}
    networks = [timed(plan, n) for n in plan.networks if n.seed is None and n.card.id in missing]
    shown = max((t.nbytes for t in networks), default=0)
    memory = resident_bytes() + max(recent.MOST_BYTES + threads * comparison_bytes(plan), threads * shown)
    left = 1 - plan.kept() / plan.n_tasks
    compared = left * rehearsal.comparisons_s(plan) if left else 0.0
    layers = sum(len(network.taps) for network in plan.networks if network.seed is None)
    written = FIGURE_S * _drawn(plan) + LAYER_S * layers * len(plan.job.comparison.families)
    return Needs(memory, start_s, extraction_s(plan, networks), compared, written)


def _drawn(plan: Plan) -> int:
    return drawn.count(
        plan.job.drawn(), plan.job.comparison.families, [per for s in plan.stages for per in s.figures.values()]
    )


def timed(plan: Plan, network: Network) -> Timed:
    """Load a trained network and its first twin, and have two batches of each set extracted after one that warms up."""
    from universality.jobs.shards import load_task

    before = resident_bytes()
    loaded, load_s = rehearsal.clocked(time.process_time, load_task, network)
    image_s = {name: _image_s(network, loaded, name) for name in stimulus_sets(plan.job)}
    twin = next(n for n in plan.networks if n.card.id == network.card.id and n.seed is not None)
    _, twin_s = rehearsal.clocked(time.process_time, load_task, twin)
    return Timed(network, load_s, twin_s, image_s, max(peak_bytes() - before, 0))


def _image_s(network: Network, loaded: Loaded, name: str) -> float:
    """Return the time of one image of a set, drawn, shown and kept as a shard: that of two batches after one that warms up.

    The batches lie in the middle of the set: photographs are read once, so that the first images are no rule.
    """
    from universality.jobs.shards import shard_task

    shown = Pass(network, name, network.frame(network.taps[0]), network.taps)
    batch, count = network.extraction.batch_size, network.shape(name, network.taps[0])[0]
    location = f"memory://rehearsal-{uuid.uuid4().hex}"
    begin = max(count // 2 // batch - 1, 0) * batch
    warm, rows = (range(start, min(start + size, count)) for start, size in ((0, batch), (begin, 2 * batch)))
    try:
        if begin:
            shard_task(shown, warm, location, loaded)
        # A GPU's work is none of the processor's.
        clock = time.perf_counter if network.extraction.device == "cuda" else time.process_time
        return rehearsal.clocked(clock, shard_task, shown, rows, location, loaded)[1] / len(rows)
    finally:
        place = ActivationStore(location).place
        for folder in place.names():
            place.remove(folder)


def extraction_s(plan: Plan, networks: Sequence[Timed]) -> float:
    """Return the work of extracting what is missing, processor s.

    A trained network is loaded twice: its weights are looked at before anything is computed.
    """
    by_card = {t.network.card.id: t for t in networks}
    total = STORE_S * len(plan.missing)
    for of in _by_network(plan.missing):
        network = of[0].network
        found = by_card[network.card.id]
        seen = {(p.stimulus_set, network.frame(p.tap)): network.shape(p.stimulus_set, p.tap)[0] for p in of}
        total += 2 * found.load_s if network.seed is None else found.twin_s
        total += sum(count * found.image_s[name] for (name, _), count in seen.items())
    return total


def sentences(plan: Plan, threads: int, measure_time: bool, workers: int | None = None) -> list[str]:
    """Return memory, (if it is to be measured) time and the size of the tables of a plan, one sentence each.

    `threads` are those of each of the local processes `workers`, or of this process without them.
    """
    return [*_of_workers(plan, threads, measure_time, workers), _of_tables(plan)]


def _of_tables(plan: Plan) -> str:
    sizes = table_sizes(plan)
    expected, most = ((resident_bytes() + need) / 1e6 for need in sizes.joining)
    return (
        f"tables: about {sizes.rows} rows, {sizes.nbytes / 1e6:.0f} MB in memory (at most {sizes.most / 1e6:.0f}); the process that "
        f"joins them needs about {expected:.0f} MB (at most {most:.0f})"
    )


def _of_workers(plan: Plan, threads: int, measure_time: bool, workers: int | None) -> list[str]:
    on_gpus = plan.job.extraction.device == "cuda"
    if not measure_time or (on_gpus and not gpus_here()):
        why = "this machine has no GPU to time extraction on" if measure_time else "--time measures extraction too"
        need = (resident_bytes() + recent.MOST_BYTES + threads * comparison_bytes(plan)) / 1e6
        return [f"memory: about {need:.0f} MB for comparisons in {threads} thread(s) of one worker; {why}"]
    found, every = needs(plan, threads), threads * (workers or 1)
    # A GPU shows the images of one task at a time.
    showing = gpus_here() if on_gpus else every
    who = f"{threads} thread(s)" if workers is None else f"{workers} worker(s) of {threads} thread(s)"
    return [
        f"memory: about {found.memory / 1e6:.0f} MB for {threads} thread(s) of one worker",
        f"time: about {found.wall_s(every, workers, showing):.0f} s on idle cores with {who}: start {found.start_s:.0f} s, extraction "
        f"{found.extraction_s / showing:.0f} s, comparisons {found.comparisons_s / every:.0f} s, figures and report "
        f"{found.writing_s:.0f} s",
        f"work: {found.extraction_s + found.comparisons_s:.0f} s of one core for extraction and comparisons",
    ]
