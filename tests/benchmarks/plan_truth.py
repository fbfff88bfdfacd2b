"""What a plan says that a job needs, beside what the job needed: disk, memory, processor seconds.

    python tests/benchmarks/plan_truth.py [JOB ...] [--threads N]

Each job is planned and then run with an empty store, in processes of their own. Work is counted in processor seconds,
because the time spent waiting depends on the machine's load and not on the job: that of extraction and comparisons in
the tasks' own threads, that of writing in the whole process. `beside the tasks` is what Dask's own threads took in
these two stages; it grows with the time that passes, so on a busy machine it is too large. The line below says in
which functions the work was done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

import universality
from universality.base import memory
from universality.jobs import comparing, estimates, workers

ROOT = Path(__file__).parents[2]
JOBS = (ROOT / "analyses" / "quickstart" / "job.toml",)
STAGES = {"extraction (images)": "extraction", "comparisons (tasks)": "comparisons", "figures and report": "writing"}


TASKS = {
    "extraction": ("check_task", "load_task", "shard_task", "store_task"),
    "comparisons": ("family_task", "similarity_task", "correspondence_task"),
}


class Stages:
    """A reporter that counts the processor seconds of each stage; before the first is the start."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = [("start", time.process_time())]

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Note the beginning of a stage."""
        self.began.append((STAGES[description], time.process_time()))
        return lambda steps: None

    def seconds(self) -> dict[str, float]:
        """Return the processor seconds of each stage, the last one ending now."""
        ends = [moment for _, moment in self.began[1:]] + [time.process_time()]
        return {stage: end - began for (stage, began), end in zip(self.began, ends, strict=True)}


_SPENT, _LOCK = Counter[str](), threading.Lock()
_STEP, _COMPARISON = workers.run_single_threaded, comparing._one


def _counted_step(task: Callable[..., Any], *arguments: Any) -> Any:
    return _counted(task.__name__, _STEP, task, *arguments)


def _counted_comparison(results: Any, task: Any) -> Any:
    return _counted(task.function.__name__, _COMPARISON, results, task)


def _counted(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    started = time.thread_time()
    try:
        return call(*arguments)
    finally:
        with _LOCK:
            _SPENT[name] += time.thread_time() - started


def planned(job: Path, threads: int, folder: Path) -> dict[str, float]:
    """Return what the plan says."""
    plan = universality.plan(job, folder / "run", folder / "store")
    needs = estimates.needs(plan, threads)
    return {
        "disk": estimates.disk(plan).expected, "memory": needs.memory, "extraction": needs.extraction_s,
        "comparisons": needs.comparisons_s, "writing": needs.writing_s,
    }  # fmt: skip


def needed(job: Path, threads: int, folder: Path) -> dict[str, Any]:
    """Return what a run from nothing needs."""
    import plan_truth as here  # functions of __main__ would be sent by value, with a lock that cannot be sent

    workers.run_single_threaded, comparing._one = here._counted_step, here._counted_comparison
    stages = Stages()
    universality.run(job, folder / "run", store=folder / "store", threads=threads, reporter=stages)
    sizes = Counter[str]()
    for path in folder.rglob("*"):
        if path.is_file():
            sizes["/".join(path.relative_to(folder).parts[:2]) if path.is_relative_to(folder / "run") else "store"] += (
                path.stat().st_size
            )
    return {
        "disk": sum(sizes.values()),
        "sizes": dict(sizes),
        "figures": len(list((folder / "run" / "figures").glob("*.png"))),
        "memory": memory.peak_bytes(),
        **stages.seconds(),
        "of_function": dict(here._SPENT),
    }


def both(job: Path, threads: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the plan says and what was needed, each from a process of its own."""
    answers = []
    for of in ("planned", "needed"):
        command = [sys.executable, __file__, str(job), "--threads", str(threads), "--of", of]
        answers.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return answers[0], answers[1]


def table(name: str, plan: dict[str, Any], truth: dict[str, Any]) -> pd.DataFrame:
    """Return the rows of one job: plan, needed, ratio."""
    rows = [("disk, MB", "disk", 1e6), ("memory, MB", "memory", 1e6)]
    rows += [(f"{stage}, processor s", stage, 1.0) for stage in ("extraction", "comparisons", "writing")]
    truth = truth | {stage: sum(truth["of_function"].get(name, 0.0) for name in TASKS[stage]) for stage in TASKS}
    found = [(label, plan[key] / unit, truth[key] / unit) for label, key, unit in rows]
    stages = [key for _, key, unit in rows if unit == 1.0]
    found.append(("all three, processor s", sum(plan[key] for key in stages), sum(truth[key] for key in stages)))
    return pd.DataFrame(
        [(name, label, round(said), round(was), round(said / was, 2)) for label, said, was in found],
        columns=["job", "", "plan", "needed", "ratio"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path, nargs="*", default=JOBS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--of", choices=("planned", "needed"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.of:
        with tempfile.TemporaryDirectory() as folder:
            answer = {"planned": planned, "needed": needed}[chosen.of](chosen.jobs[0], chosen.threads, Path(folder))
        print(json.dumps(answer))
        return
    for job in chosen.jobs:
        plan, truth = both(job, chosen.threads)
        print(table(str(job), plan, truth).to_string(index=False), flush=True)
        print(
            {name: round(seconds, 1) for name, seconds in truth["of_function"].items()}, f"start {truth['start']:.1f}"
        )


if __name__ == "__main__":
    main()
