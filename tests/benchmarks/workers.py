"""How much of the ideal two workers reach, and whether the plan's time is the truth, on the demo's job.

    python tests/benchmarks/workers.py [--job FILE] [--repeats N]

One and two Dask workers, processes of one thread each, in turn, every time with an empty store. The clusters stand and have
imported everything before the time begins; stages are told apart by the progress that `universality.run` reports. Tables,
figures and report are written by the calling process alone, so they are left out of the efficiency and shown beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from distributed import Client, LocalCluster

import universality
from universality.jobs.scheduling import run_single_threaded

ROOT = Path(__file__).parents[2]
STAGES = {"extraction (images)": "extraction", "comparisons (tasks)": "comparisons", "figures and report": "writing"}


class Stages:
    """A reporter that notes when each stage begins."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = [("start", time.perf_counter())]

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Note the beginning of a stage."""
        self.began.append((STAGES[description], time.perf_counter()))
        return lambda steps: None

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, the last one ending now."""
        ends = [moment for _, moment in self.began[1:]] + [time.perf_counter()]
        return {stage: end - began for (stage, began), end in zip(self.began, ends, strict=True)}


def timed(job: Path, workers: int) -> dict[str, float]:
    """Return the seconds of each stage of a run from nothing on so many workers of one thread."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", env={"MALLOC_ARENA_MAX": "1"}
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(run_single_threaded, universality.plan, job, Path(folder) / "run", Path(folder) / "store")
        stages = Stages()
        universality.run(job, Path(folder) / "run", store=Path(folder) / "store", client=client, reporter=stages)
        return stages.seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=ROOT / "analyses" / "quickstart" / "job.toml")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(options.repeats):
        for workers, rows in found.items():
            rows.append(timed(options.job, workers))
            print(workers, {stage: round(seconds, 1) for stage, seconds in rows[-1].items()}, flush=True)
    for stage in ("extraction", "comparisons", "extraction and comparisons", "writing"):
        one, two = (median(sum(row[part] for part in stage.split(" and ")) for row in rows) for rows in found.values())
        print(f"{stage}: {one:.1f} s with 1 worker, {two:.1f} s with 2, efficiency {one / (2 * two):.2f}")


if __name__ == "__main__":
    main()
