"""Kill a small job again and again at random moments, run it to the end, and compare its tables with an undisturbed run's.

    python tests/faults/kill.py --kills 50 --report kills.md

Each trial starts with an empty store, is killed with SIGKILL at a random moment of a stage drawn at random (by what the stage
took undisturbed: figures would take most blows if moments were drawn over the whole run), and is run again (killed again
with probability 1/2) until it ends. Children are forked from a process that has imported everything,
so that the moments fall into the job and not into its start.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import tiny

import universality
import universality.jobs
from universality.jobs.planning import plan
from universality.jobs.results import Results
from universality.jobs.shards import Shards
from universality.runs import open_run

FORK = multiprocessing.get_context("fork")
STAGES = ("start", "extraction", "comparisons", "figures", "end")


@dataclass(frozen=True)
class Trial:
    """One job that was killed: when (s), in which stages, what lay there afterwards, and how it ended."""

    moments: tuple[float, ...]
    stages: tuple[str, ...]
    shards: int
    stores: int
    results: int
    same: bool
    unfinished_refused: bool


def note(path: Path, stage: str) -> None:
    """Write down that a stage begins now."""
    with path.open("a") as file:
        file.write(f"{stage} {time.monotonic()}\n")


def noted(path: Path) -> list[tuple[str, float]]:
    """Return the stages begun so far and when."""
    return [(line.split()[0], float(line.split()[1])) for line in path.read_text().splitlines()]


class Stage:
    """A reporter that writes the stage to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, text: str) -> None:
        pass

    def track(self, description: str, total: int):
        stage = next(name for name in STAGES if name in description)
        note(self._path, stage)
        return lambda steps: None


def _job(folder: Path, job: Path) -> None:
    # Whatever goes wrong ends the child with a status other than 0: the parent looks at that.
    note(folder / "stages", "start")
    universality.run(job, folder / "run", store=folder / "store", reporter=Stage(folder / "stages"), threads=2)
    note(folder / "stages", "end")


def _run(folder: Path, job: Path, stage: str = "", after_s: float = 0.0) -> int:
    """Run the job in a forked child, killed so many seconds after a stage began; return its exit status."""
    (folder / "stages").write_text("")
    child = FORK.Process(target=_job, args=(folder, job))
    child.start()
    while stage and child.is_alive() and not any(name == stage for name, _ in noted(folder / "stages")):
        child.join(0.01)
    child.join(after_s if stage else None)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    return int(child.exitcode or 0)


def _kept(folder: Path, job: Path) -> tuple[int, int, int]:
    """Return how many shards, stores and results are there; every one that can be asked for is whole."""
    planned = plan(job, folder / "run", folder / "store")
    for entry in planned.stores:
        if entry.exists:
            planned.store.verify(entry.key)
    names = list((folder / "store" / "shards").glob("*/*"))
    whole = sum(Shards(planned.store).has(path.name) for path in names)
    results = Results(planned.store.location)
    return (
        whole,
        sum(entry.exists for entry in planned.stores),
        sum(results.read(k) is not None for k in results.listed()),
    )


def _unfinished_is_refused(folder: Path) -> bool:
    """Return whether a run that has not ended cannot be opened."""
    try:
        open_run(folder / "run")
    except universality.errors.RunError:
        return True
    return noted(folder / "stages")[-1][0] == "end"


def trial(folder: Path, job: Path, lasts: dict[str, float], wanted: dict[str, str], rng: random.Random) -> Trial:
    """Kill one job at random moments, then let it end."""
    folder.mkdir(parents=True)
    moments, stages, refused, kept = [], [], True, (0, 0, 0)
    while not moments or rng.random() < 0.5:
        stage = rng.choice(sorted(lasts))
        moments.append(rng.uniform(0.0, lasts[stage]))
        _run(folder, job, stage, moments[-1])
        stages.append(noted(folder / "stages")[-1][0])
        refused = refused and _unfinished_is_refused(folder)
        kept = _kept(folder, job)
    ended = _run(folder, job) == 0
    same = ended and tiny.table_hashes(folder / "run") == wanted
    return Trial(tuple(moments), tuple(stages), *kept, same, refused)


def trials(kills: int, folder: Path, seed: int = 0) -> list[Trial]:
    """Make trials until so many kills were dealt."""
    job, whole = tiny.write_job(folder), folder / "whole"
    whole.mkdir()
    if _run(whole, job):
        raise RuntimeError("the undisturbed run failed")
    begun = noted(whole / "stages")
    lasts = {name: end - start for (name, start), (_, end) in itertools.pairwise(begun)}
    wanted, rng, done = tiny.table_hashes(whole / "run"), random.Random(seed), []
    while sum(len(t.moments) for t in done) < kills:
        done.append(trial(folder / f"trial {len(done)}", job, lasts, wanted, rng))
        print(done[-1], flush=True)
    return done


def report(done: list[Trial]) -> str:
    """Return the trials as Markdown: kills by stage, and how the jobs ended."""
    hit = [stage for t in done for stage in t.stages]
    lines = ["| stage in which the kill fell | kills |", "|---|---|"]
    lines += [f"| {stage} | {hit.count(stage)} |" for stage in STAGES if stage in hit]
    lines += ["", "| | |", "|---|---|", f"| kills | {len(hit)} |", f"| jobs | {len(done)} |",
              f"| ended with identical tables | {sum(t.same for t in done)} |",
              f"| unfinished run never opened | {sum(t.unfinished_refused for t in done)} |",
              f"| jobs that found something to go on with | {sum(t.shards + t.stores + t.results > 0 for t in done)} |"]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the trials and write the report; the exit status says whether all survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = trials(chosen.kills, Path(folder), chosen.seed)
    text = report(done)
    print(text)
    if chosen.report:
        chosen.report.write_text(text, encoding="utf-8")
    return 0 if all(t.same and t.unfinished_refused for t in done) else 1


if __name__ == "__main__":
    sys.exit(main())
