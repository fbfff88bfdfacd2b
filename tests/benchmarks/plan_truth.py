"""What a plan says that a job needs, beside what the job needed: disk, memory, processor seconds.

    python tests/benchmarks/plan_truth.py [JOB ...] [--threads N]

Each job is planned from the defaults, run with an empty store, and planned again from what that run recorded, in processes
of their own. Work is counted in processor seconds, because the time spent waiting depends on the machine's load and not on
the job. `whole process` is what the system counted for the run, with all that no plan knows of, such as Dask's own threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

import universality
from universality.base import memory
from universality.jobs import estimates, seconds
from universality.jobs.stages import STAGES

ROOT = Path(__file__).parents[2]
JOBS = tuple(ROOT / "analyses" / name / "job.toml" for name in ("quickstart", "pre_and_post", "cluster"))
EXTRACTION = ("load", "calibrate", "images on cpu", "stores")
"""Kinds of work that stand for those of all networks."""


def planned(job: Path, threads: int, folder: Path) -> dict[str, float]:
    """Return what the plan says of a job of which nothing exists."""
    plan = universality.plan(job, folder / "planned", folder / "no_store")
    found = estimates.time(plan)
    return {
        "disk": estimates.disk(plan).expected, "memory": estimates.memory(plan, threads), "extraction": found.extraction,
        "stages": sum(found.stages.values()), "figures": found.figures, "alone": found.alone,
        "whole": found.total,
    }  # fmt: skip


def needed(job: Path, threads: int, folder: Path) -> dict[str, Any]:
    """Return what a run from nothing needs."""
    run = universality.run(job, folder / "run", store=folder / "store", threads=threads)
    whole = time.process_time()
    took = Counter({kind: of["seconds"] for kind, of in run.record["timings"].items()})
    return {
        "disk": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "memory": memory.peak_bytes(),
        # A trained network is loaded once more than is recorded: its weights are looked at first.
        "extraction": sum(took[kind] for kind in (*EXTRACTION, "load")),
        "stages": sum(took[name] for name in STAGES),
        "figures": took["figures"],
        "alone": sum(s for kind, s in took.items() if "tables" in kind) + took["report"],
        "whole": whole,
    }


def answers(job: Path, threads: int) -> dict[str, dict[str, Any]]:
    """Return what the plan says by default, what was needed, and what the plan says then, each from a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {seconds.VARIABLE: str(Path(folder) / "seconds.json")}
        for name, of in (("defaults", "planned"), ("needed", "needed"), ("recorded", "planned")):
            command = [sys.executable, __file__, str(job), "--threads", str(threads), "--of", of, "--folder", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found[name] = json.loads(done.stdout)
    return found


def table(job: Path, found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of one job: what is estimated, by default and from the record, what was needed, and both ratios."""
    units = {"disk": ("disk, MB", 1e6), "memory": ("memory, MB", 1e6), "whole": ("whole process, processor s", 1.0)}
    rows = []
    for key in found["needed"]:
        label, unit = units.get(key, (f"{key}, processor s", 1.0))
        defaults, recorded, was = (found[of][key] / unit for of in ("defaults", "recorded", "needed"))
        rows.append((job.parent.name, label, defaults, recorded, was, defaults / was, recorded / was))
    columns = ["job", "", "by default", "from the record", "needed", "default / needed", "record / needed"]
    return pd.DataFrame(rows, columns=columns).round(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path, nargs="*", default=JOBS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--of", choices=("planned", "needed"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.of:
        print(
            json.dumps({"planned": planned, "needed": needed}[chosen.of](chosen.jobs[0], chosen.threads, chosen.folder))
        )
        return
    for job in chosen.jobs:
        print(table(job, answers(job, chosen.threads)).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
