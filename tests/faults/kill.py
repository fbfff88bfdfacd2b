"""Kill a job again and again at random moments, run it to the end, and compare its tables with an undisturbed run's.

    python tests/faults/kill.py --kills 50 --report kills.md
    python tests/faults/kill.py --kills 50 --job analyses/quickstart/job.toml --each 13 --after 2 40 --report demo.md
    python tests/faults/kill.py --kills 16 --job analyses/quickstart/job.toml --each 4 --begin comparisons --report late.md
    python tests/faults/kill.py --kills 30 --whom worker --each 3 --report workers.md
    python tests/faults/kill.py --kills 2 --whom job worker --each 2

Each trial starts with an empty store, is killed with SIGKILL at a random moment of a stage drawn at random (by what
the stage took undisturbed: most kills would fall into figures if moments were drawn over the whole run), and is run
again (killed again with probability 1/2) until it ends. In a job of minutes a late stage is reached once in a trial
at best: `--after` draws the moment over the whole life instead, in s since it began, and `--each` lives of a trial
are cut short, each of which goes on where the last was killed. With `--begin` a trial finds all in its store that
stands before a stage (a copy of what the undisturbed run left), and the moments are drawn over the life that is left:
so the late stages of a long job, and the writing of tables between comparisons and figures, are hit without waiting
for the early ones. With `--whom worker` the job runs on two processes and one of these is killed, `--each` times in
the one life that the job has; ``--whom job worker`` makes so many kills of each, beside one undisturbed run. Children,
and workers, are forked from a process that has imported everything, so that the moments fall into the job and not into its start.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import dask
import psutil

sys.path.insert(0, str(Path(__file__).parent))
import apart  # says what the fork server imports
import tiny

import universality
import universality.jobs
import universality.models.pocket.networks
from universality.jobs import comparing
from universality.jobs.planning import plan
from universality.jobs.results import Results
from universality.jobs.shards import Shards
from universality.runs.run import open_run

FORK = multiprocessing.get_context("fork")
STAGES = ("start", "extraction", "comparisons", "tables", "figures", "end")
LATE = STAGES[1:-1]
BEGIN = ("extraction", "comparisons", "tables")
JOB_ITSELF, WORKER = "job", "worker"

Blow = tuple[str, float]
"""When to kill: so many s after a stage began."""


@dataclass(frozen=True)
class Trial:
    """One job that was killed: when (s), in which stages, what lay there afterwards, and how it ended.

    `said` is the sentence with which a job that lost workers ended before its time, if it did.
    """

    moments: tuple[float, ...]
    stages: tuple[str, ...]
    shards: int
    stores: int
    results: int
    same: bool
    unfinished_refused: bool
    said: str = ""


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
        stage = "comparisons" if description.endswith("(tasks)") else description.split()[0]
        if stage not in dict(noted(self._path)):
            note(self._path, stage)
        return lambda steps: None


def _job(folder: Path, job: Path, workers: int | None) -> None:
    # Whatever goes wrong ends the child with a status other than 0: the parent looks at that.
    note(folder / "stages", "start")
    gather = comparing.gather

    def noted_gather(*arguments):
        note(folder / "stages", "tables")
        return gather(*arguments)

    comparing.gather = noted_gather
    threads = 1 if workers else 2
    if workers:
        forkserver.ensure_running()  # before Dask would have it import something else
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    try:
        universality.run(
            job,
            folder / "run",
            store=folder / "store",
            reporter=Stage(folder / "stages"),
            workers=workers,
            threads=threads,
        )
    except universality.base.errors.UniversalityError as error:
        (folder / "said").write_text(str(error), encoding="utf-8")
        sys.exit(1)
    note(folder / "stages", "end")


class Life:
    """The job in a forked child, until it ends or is killed."""

    def __init__(self, folder: Path, job: Path, workers: int | None = None) -> None:
        self._stages = folder / "stages"
        self._stages.write_text("")
        (folder / "said").unlink(missing_ok=True)
        self._child = FORK.Process(target=_job, args=(folder, job, workers))
        self._child.start()

    @property
    def stage(self) -> str:
        """The stage that began last."""
        return ([name for name, _ in noted(self._stages)] or ["start"])[-1]

    def wait(self, blow: Blow) -> str:
        """Wait for the moment of the kill, or the end; return the stage."""
        stage, after_s = blow
        while self._child.is_alive() and not any(name == stage for name, _ in noted(self._stages)):
            self._child.join(0.01)
        self._child.join(after_s)
        return self.stage

    def kill(self) -> None:
        """Kill the job."""
        if self._child.is_alive():
            os.kill(self._child.pid, signal.SIGKILL)
        self._child.join()

    def kill_worker(self, rng: random.Random) -> None:
        """Kill one of its worker processes, if there are any now."""
        try:
            below = psutil.Process(self._child.pid).children(recursive=True)
            servers = {p.pid for p in below if "multiprocessing.forkserver" in " ".join(p.cmdline())}
            workers = sorted(p.pid for p in below if p.ppid() in servers)
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            pass  # it ended by itself in between

    def ended(self) -> int:
        """Let it end; return its exit status."""
        self._child.join()
        return int(self._child.exitcode or 0)


def kept(folder: Path, job: Path) -> tuple[int, int, int]:
    """Return how many shards, stores and results are there; every one that can be opened is undamaged."""
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


def _unfinished_is_refused(folder: Path, stage: str) -> bool:
    """Return whether a run that has not ended cannot be opened."""
    try:
        open_run(folder / "run")
    except universality.base.errors.RunError:
        return True
    return stage == "end"


def _same(folder: Path, whole: Path) -> bool:
    """Return whether the runs of two trials have the same tables, to the byte."""
    return tiny.table_hashes(folder / "run") == tiny.table_hashes(whole / "run")


def head_start(folder: Path, whole: Path, begin: str) -> None:
    """Make the folder of a trial; put all into it that an undisturbed run has when a stage begins."""
    folder.mkdir(parents=True)
    if begin in BEGIN[1:]:
        shutil.copytree(whole / "store", folder / "store")
    if begin == "comparisons":
        shutil.rmtree(folder / "store" / "results")


def trial(folder: Path, job: Path, blow: Callable[[], Blow], each: int, whole: Path, _: random.Random) -> Trial:
    """Kill one job, start after start, then let it end."""
    moments, stages, refused, found = [], [], True, (0, 0, 0)
    for when in (blow() for _ in range(each)):
        life = Life(folder, job)
        life.wait(when)
        life.kill()
        if life.stage == "end":
            break  # nothing was killed
        moments.append(when[1])
        stages.append(life.stage)
        refused = refused and _unfinished_is_refused(folder, life.stage)
        found = kept(folder, job)
        print(f"killed in {stages[-1]} after {moments[-1]:.1f} s; shards, stores, results: {found}", flush=True)
    same = Life(folder, job).ended() == 0 and _same(folder, whole)
    return Trial(tuple(moments), tuple(stages), *found, same, refused)


def worker_trial(
    folder: Path, job: Path, blow: Callable[[], Blow], each: int, whole: Path, rng: random.Random
) -> Trial:
    """Kill workers of one job on two processes; where it gives up in one sentence, run it again."""
    life, moments, stages, said = Life(folder, job, workers=2), [], [], ""
    # In the order of the job.
    for when in sorted((blow() for _ in range(each)), key=lambda when: (STAGES.index(when[0]), when[1])):
        stages.append(life.wait(when))
        moments.append(when[1])
        life.kill_worker(rng)
    same = life.ended() == 0
    refused = same or _unfinished_is_refused(folder, life.stage)
    if not same:
        said = (folder / "said").read_text(encoding="utf-8") if (folder / "said").exists() else ""
        same = bool(said) and "\n" not in said and Life(folder, job, workers=2).ended() == 0
    same = same and _same(folder, whole)
    return Trial(tuple(moments), tuple(stages), *kept(folder, job), same, refused, said)


TRIALS = {JOB_ITSELF: trial, WORKER: worker_trial}


def undisturbed(folder: Path, job: Path) -> dict[str, float]:
    """Run the job undisturbed; return how long each stage took, s."""
    folder.mkdir(parents=True)
    if Life(folder, job).ended():
        raise RuntimeError("the undisturbed run failed")
    begun = noted(folder / "stages")
    lasts = {name: end - start for (name, start), (_, end) in itertools.pairwise(begun)}
    print(f"undisturbed: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in lasts.items())}", flush=True)
    return lasts


@dataclass(frozen=True)
class Wanted:
    """How often, whom and when to kill: see the module. `whole` holds `run` and `store` of an undisturbed run, if there is one."""

    kills: int = 50
    seed: int = 0
    whom: tuple[str, ...] = (JOB_ITSELF,)
    job: Path | None = None
    each: int | None = None
    after: tuple[float, float] | None = None
    begin: str = "start"
    whole: Path | None = None


def trials(asked: Wanted, folder: Path) -> list[Trial]:
    """Make trials until so many kills were made (of jobs that had ended before their moment at most as many again)."""
    for name in apart.PRELOADED:
        importlib.import_module(name)  # for the children that are forked from here
    if asked.job is None:
        tiny.draw_blanks(1)  # of the job of seconds, in the children that are forked from here
    job = asked.job or tiny.write_job(folder)
    lasts = {} if asked.whole else undisturbed(folder / "whole", job)
    whole = asked.whole or folder / "whole"
    rng = random.Random(asked.seed)

    def blow() -> Blow:
        if asked.after is not None:
            return "start", rng.uniform(*asked.after)
        if asked.begin != "start":
            return "start", rng.uniform(0.0, lasts["start"] + sum(lasts[s] for s in LATE[LATE.index(asked.begin) :]))
        stage = rng.choice(sorted(lasts))
        return stage, rng.uniform(0.0, lasts[stage])

    every = []
    for whom in asked.whom:
        done: list[Trial] = []
        while (left := asked.kills - sum(len(t.moments) for t in done)) > 0 and len(done) < 2 * asked.kills:
            # Without a number: a geometric number with probability 1/2, at least 1.
            each = min(asked.each, left) if asked.each else 1 + next(n for n in itertools.count() if rng.random() < 0.5)
            own = folder / f"{whom} {len(done)}"
            head_start(own, whole, asked.begin)
            done.append(TRIALS[whom](own, job, blow, each, whole, rng))
            print(done[-1], flush=True)
        every += done
    return every


def survived(done: list[Trial]) -> bool:
    """Return whether every job ended as it should."""
    return all(t.same and t.unfinished_refused for t in done)


def report(done: list[Trial]) -> str:
    """Return the trials as Markdown: kills by stage, and how the jobs ended."""
    hit = [stage for t in done for stage in t.stages]
    lines = ["| stage in which the kill fell | kills |", "|---|---|"]
    lines += [f"| {stage} | {hit.count(stage)} |" for stage in STAGES if stage in hit]
    lines += ["", "| | |", "|---|---|", f"| kills | {len(hit)} |", f"| jobs | {len(done)} |",
              f"| ended with identical tables | {sum(t.same for t in done)} |",
              f"| gave up in one sentence first | {sum(bool(t.said) for t in done)} |",
              f"| unfinished run never opened | {sum(t.unfinished_refused for t in done)} |",
              f"| jobs that found something to go on with | {sum(t.shards + t.stores + t.results > 0 for t in done)} |"]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the trials and write the report; the exit status says whether all survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whom", nargs="+", choices=TRIALS, default=[JOB_ITSELF])
    parser.add_argument("--job", type=Path, help="a job file instead of a job of seconds")
    parser.add_argument("--each", type=int, help="kills of each job")
    parser.add_argument("--after", type=float, nargs=2, metavar=("LOW", "HIGH"), help="s since the job began")
    parser.add_argument(
        "--begin", choices=("start", *BEGIN), default="start", help="put all into the store that stands before it"
    )
    parser.add_argument(
        "--whole",
        type=Path,
        help="with --after: folder with run and store of an undisturbed run, instead of making one",
    )
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    if chosen.whole and not chosen.after:
        parser.error("--whole needs --after: without it the duration of the stages is unknown")
    after = tuple(chosen.after) if chosen.after else None
    asked = Wanted(
        chosen.kills, chosen.seed, tuple(chosen.whom), chosen.job, chosen.each, after, chosen.begin, chosen.whole
    )
    with tempfile.TemporaryDirectory() as folder:
        done = trials(asked, Path(folder))
    text = report(done)
    print(text)
    if chosen.report:
        chosen.report.write_text(text, encoding="utf-8")
    return 0 if survived(done) else 1


if __name__ == "__main__":
    sys.exit(main())
