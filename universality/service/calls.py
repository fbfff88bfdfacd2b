"""What the helper process does, one line of JSON for each call (`helper.Helper`)."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from universality.base.errors import MissingError, UniversalityError, did_you_mean
from universality.jobs import estimates
from universality.jobs.planning import plan as plan_of
from universality.jobs.workers import Workers
from universality.runs.job import job_of
from universality.runs.run import open_run
from universality.service import unit_facts


def plan(job: dict[str, Any], out: str, store: str, workers: int | None, threads: int | None) -> dict[str, Any]:
    """Return what a job would take: time, disk, smallest correlation that it can confirm, tasks, and all as sentences."""
    planned = plan_of(job_of(job, "the job"), out, store)
    needed, time = estimates.disk(planned), estimates.time(planned)
    each = Workers(processes=workers, threads=threads).threads_each()
    every, shown = each * (workers or 1), planned.table()
    return {
        "name": planned.job.name,
        "seconds": time.wall(every, workers, every),
        "processor_seconds": time.total,
        "disk_bytes": {"expected": needed.expected, "most": needed.most, "free": needed.free},
        "memory_bytes": estimates.memory(planned, each),
        "smallest_effect": estimates.smallest_correlation(planned.job),
        "networks": json.loads(shown.to_json(orient="records")),
        "taps": sum(len(network.taps) for network in planned.networks if network.trained),
        "images": max((int(rows["images"].sum()) for _, rows in shown.groupby("network")), default=0),
        "stages": [{"name": stage.name, "tasks": stage.count(planned.inputs)} for stage in planned.stages],
        "tasks": {"all": planned.n_tasks, "kept": planned.kept()},
        "stores": {"all": len(planned.stores), "missing": len(planned.missing)},
        "sentences": estimates.sentences(planned, each, workers, time),
        "warnings": planned.warnings,
    }


def figure(run: str, stem: str, suffix: str, width_mm: float) -> str:
    """Draw one figure of a run, or write the numbers that it draws (csv), and return the path of the file, which the caller deletes with its folder."""
    from universality.figures import FIGURES, Tables, drawings
    from universality.figures.export import lacking
    from universality.figures.style import save

    opened = open_run(run)
    lacks, job = lacking(opened), opened.job
    kind = opened.record.get("figures", {}).get(stem, {}).get("kind")
    kinds = [kind] if kind in FIGURES else [name for name in FIGURES if name not in lacks]
    for drawing in drawings(Tables(opened), job.drawn(), job.matched_by(), job.comparison.families, kinds):
        if drawing.stem == stem:
            folder = Path(tempfile.mkdtemp(prefix="universality-figure-"))
            if suffix == "csv":
                drawing.data().to_csv(folder / "figure.csv", index=False, lineterminator="\n")
                return str(folder / "figure.csv")
            about = {"kind": drawing.kind, "caption": drawing.caption}
            (file,) = save(
                drawing.figure(width_mm), folder / "figure", opened.record.get("provenance"), [f".{suffix}"], **about
            )
            return str(file)
    raise MissingError(f"run '{job.name}' has no figure '{stem}'{did_you_mean(stem, opened.record.get('figures', {}))}")


CALLS: dict[str, Callable[..., Any]] = {"plan": plan, "figure": figure, **unit_facts.CALLS}


def main() -> None:
    """Answer calls until the standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes where errors go
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": CALLS[asked["call"]](**asked["arguments"])}
        except UniversalityError as cause:
            answer = {"error": str(cause), "kind": type(cause).__name__}
        except MemoryError:
            answer = {"error": "the memory does not suffice for this; ask for less", "kind": "TooMuchError"}
        out.write(json.dumps(answer, default=float) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
