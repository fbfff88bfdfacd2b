"""How much of the ideal two workers reach, and whether the plan's time is the truth, on the demo's job.

    python tests/benchmarks/workers.py [--job FILE] [--repeats N]

One and two Dask workers, processes of one thread each, in turn, every time with an empty store. The clusters stand and have
imported everything before the time begins; stages are told apart by the progress that `universality.run` reports. Tables,
figures and report are written by the calling process alone, so they are left out of the efficiency and shown beside it.

Two cores that share memory and clock give less than twice one core. How much less is measured in the same rounds: the forward
passes of the job's trained networks in one and in two bare processes, without Dask, stores or tasks, the images already in
memory, half of each network's batches in either process. `idle` is the time that the workers' threads had no task.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from statistics import median
from typing import Any

from distributed import Client, LocalCluster

import universality
from universality import extraction, memory
from universality.jobs.scheduling import run_single_threaded, single_threaded
from universality.networks import networks_of
from universality.spec import read_job

ROOT = Path(__file__).parents[2]
STAGES = {"extraction (images)": "extraction", "comparisons (tasks)": "comparisons", "figures and report": "writing"}


class Stages:
    """A reporter that notes when each stage begins."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = [("start", time.time())]  # the clock of the scheduler's record

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Note the beginning of a stage."""
        self.began.append((STAGES[description], time.time()))
        return lambda steps: None

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return the begin and end of each stage, the last one ending now."""
        ends = [moment for _, moment in self.began[1:]] + [time.time()]
        return {stage: (begin, end) for (stage, begin), end in zip(self.began, ends, strict=True)}


BARE_BATCHES = 24
"""Batches of each network in the bare passes, over all processes."""
BARE_ROUNDS = 5
_NETWORKS: list[tuple[Any, Any, Any]] = []


def prepare(job: Path) -> None:
    """Load the trained networks of a job and draw a batch for each, in this process."""
    single_threaded()
    memory.keep_freed_memory()
    for network in networks_of(read_job(job)):
        if network.seed is None:
            batch = next(network.batches("natural"))
            _NETWORKS.append((network, network.load(), batch))
    forward(1)


def forward(batches: int) -> None:
    """Show each network its batch so many times, reduced as the job says."""
    single_threaded()
    for network, module, batch in _NETWORKS:
        shown = (batch for _ in range(batches))
        for _ in extraction.extract(
            module, network.taps, shown, network.extraction, network.card.preprocessing.size_px
        ):
            pass


def bare(pools: list[Pool], batches: int) -> float:
    """Return the seconds of so many batches of each network, divided among bare processes: a pool of one for each."""
    started = time.perf_counter()
    waiting = [pool.apply_async(forward, (batches // len(pools),)) for pool in pools]
    for result in waiting:
        result.get()
    return time.perf_counter() - started


def busy_s(client: Client, stages: Stages) -> dict[str, float]:
    """Return the seconds that the workers' threads computed tasks in each stage, from the scheduler's own record."""
    spans = [
        (part["start"], part["stop"])
        for task in client.get_task_stream()
        for part in task["startstops"]
        if part["action"] == "compute"
    ]
    found: dict[str, float] = {}
    for stage, (begin, end) in stages.spans().items():
        found[stage] = sum(max(min(stop, end) - max(start, begin), 0.0) for start, stop in spans)
    return found


def timed(job: Path, workers: int) -> dict[str, float]:
    """Return the seconds of each stage of a run from nothing on so many workers of one thread, and their idle share."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", env={"MALLOC_ARENA_MAX": "1"}
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(run_single_threaded, universality.plan, job, Path(folder) / "run", Path(folder) / "store")
        client.get_task_stream()  # the scheduler records from the first question on
        stages = Stages()
        universality.run(job, Path(folder) / "run", store=Path(folder) / "store", client=client, reporter=stages)
        spans, busy = stages.spans(), busy_s(client, stages)
        seconds = {stage: end - begin for stage, (begin, end) in spans.items()}
        idle = {
            f"idle in {stage}": 1 - busy[stage] / (workers * seconds[stage]) for stage in ("extraction", "comparisons")
        }
        return seconds | idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=ROOT / "analyses" / "quickstart" / "job.toml")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    limit: dict[int, list[float]] = {1: [], 2: []}
    context = get_context("spawn")
    # Pools of one: a pool of two could give both halves to one process.
    with context.Pool(1, prepare, (options.job,)) as one, context.Pool(1, prepare, (options.job,)) as other:
        for _ in range(options.repeats):
            for _ in range(BARE_ROUNDS):
                limit[1].append(bare([one], BARE_BATCHES))
                limit[2].append(bare([one, other], BARE_BATCHES))
            for workers, rows in found.items():
                rows.append(timed(options.job, workers))
                print(workers, {name: round(value, 2) for name, value in rows[-1].items()}, flush=True)
    show(found, limit)


def show(found: dict[int, list[dict[str, float]]], limit: dict[int, list[float]]) -> None:
    """Print the efficiency of every stage, and the machine's limit beside it."""
    for stage in ("extraction", "comparisons", "extraction and comparisons", "writing"):
        one, two = (median(sum(row[part] for part in stage.split(" and ")) for row in rows) for rows in found.values())
        print(f"{stage}: {one:.1f} s with 1 worker, {two:.1f} s with 2, efficiency {one / (2 * two):.2f}")
    one, two = (median(seconds) for seconds in limit.values())
    print(
        f"bare forward passes: {one:.1f} s in 1 process, {two:.1f} s in 2, efficiency {one / (2 * two):.2f}: the limit"
    )


if __name__ == "__main__":
    main()
