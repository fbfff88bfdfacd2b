"""From a job to tables, figures and a report: plan, extract what is missing, compare what is missing, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from universality import records, runs, schema
from universality.errors import JobError, StoreError
from universality.jobs import comparing, extracting, placement
from universality.jobs.estimates import disk, refuse_disk
from universality.jobs.planning import Plan, plan
from universality.jobs.progress import Quiet, Reporter
from universality.jobs.recent import forgetting
from universality.jobs.scheduling import Failure, Workers, elsewhere, opener, raise_failures
from universality.jobs.stages import STAGES, Stage
from universality.jobs.tasks import Tables, Task
from universality.jobs.writing import draw, drawing_digest, write
from universality.runs import Run
from universality.spec import Job


def run(
    job_path: str | Path | Job,
    out: str | Path | None = None,
    *,
    store: str | Path | None = None,
    client: Client | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | None = None,
    retries: int = 0,
    repair: bool = False,
    only: Iterable[str] | None = None,
    without: Iterable[str] | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Run a comparison job to its tables, figures and report, computing only what does not exist yet.

    Parameters
    ----------
    job_path : path or Job
        The job's TOML file, or the job itself.
    out : path, optional
        Run directory, by default ``data/runs/NAME``.
    store : path or URL, optional
        Folder of the activation stores, by default ``data/store``; jobs may share it. Or a URL that fsspec knows, such
        as ``s3://bucket/folder``; ``memory://`` is seen by this process only.
    client : distributed.Client, optional
        Extracts and compares; it is not closed. Without it: `scheduler`, else the active client, else local threads.
    scheduler : str, optional
        Address of a Dask scheduler whose workers can read and write the stores' folder.
    workers, threads : int, optional
        Local worker processes instead of threads of this process, and threads of each; the cores by default. The tables
        do not depend on them.
    memory : str, optional
        Memory of each local process, such as ``"4GB"``; above it the worker is restarted.
    retries : int
        How often a task that failed is tried again.
    repair : bool
        Set damaged stores aside and extract them anew, instead of refusing to go on.
    only, without : names of stages, optional
        Instead of what the job's ``[stages]`` says: these and what they need, beside what the directory holds; all but
        these and what needs them.

    Returns
    -------
    Run
        The finished run, as `open_run` gives it.

    Raises
    ------
    UniversalityError
        In one sentence, for everything that a user can mend. Tasks that fail are reported when all others have ended.

    Examples
    --------
    It takes a minute or two and writes files, so it is not run here; the suite runs the README's example.

    >>> import universality
    >>> run = universality.run("analyses/quickstart/job.toml", out="my-run")  # doctest: +SKIP
    >>> run.families[["model", "tap", "share", "share_untrained"]]  # doctest: +SKIP
    """
    reporter = reporter or Quiet()
    started = records.Started(time.time(), time.monotonic())
    team = Workers(client, scheduler, workers, threads, memory, retries)
    job = placement.for_workers(job_path, team)
    team = placement.with_gpus(team, job)
    planned = plan(job, out, store, only=only, without=without)
    _refuse_place(planned, team)
    for warning in planned.warnings:
        reporter.say(warning)
    with (
        records.claimed(planned.out, planned.job, planned.store, planned.table_names),
        opener(team, reporter.say) as opened,
    ):
        removed = planned.store.remove_partial()
        if removed:
            reporter.say(f"removed {removed} store(s) that an interrupted run had left half-written")
        if _verified(planned, repair, reporter):
            planned = plan(job, out, store, only=only, without=without)
        _refuse_unwritable(planned)
        missing = frozenset(p.key for p in planned.missing)
        if not missing:
            reporter.say(f"all {len(planned.stores)} activation stores exist: extracted nothing")
            if planned.tables_exist:
                return _drawn(planned, opened, reporter)
        refuse_disk(disk(planned), planned.store.location)
        if missing:
            if planned.job.extraction.device == "cuda":
                placement.refuse_here(team)
                placement.require_gpus(opened())
            # Who started the workers can start them otherwise.
            advise = reporter.say if elsewhere(team) else None
            raise_failures(extracting.check(planned.passes, opened, advise), len(planned.networks))
        failures = extracting.extract(planned.passes, planned.store, opened, retries, reporter) if missing else []
        tables = _compared(planned, missing, failures, opened, retries, reporter)
        # From here on until the end, what lies in the directory belongs to no finished run.
        records.mark_started(planned.out, planned.job, planned.table_names)
        with records.cannot_be_written(planned.out):
            return write(planned, tables, len(missing), started, opened, reporter)


def _drawn(planned: Plan, opened: Callable[[], Client], reporter: Reporter) -> Run:
    """Return the run that exists, its figures and report drawn again where the code that draws is another now."""
    run = runs.open_run(planned.out)
    if run.record.get("drawn_by") == drawing_digest():
        reporter.say(f"tables, figures and report of exactly this job exist in {planned.out}: computed nothing")
        return run
    reporter.say(
        f"tables of exactly this job exist in {planned.out}; figures and report are drawn by another version of the code"
    )
    record = {name: value for name, value in run.record.items() if name != "digest"}
    records.mark_started(planned.out, planned.job, planned.table_names)
    with records.cannot_be_written(planned.out):
        return draw(planned, record, opened, reporter)


def _refuse_place(planned: Plan, team: Workers) -> None:
    """Refuse a store in the memory of this process where other processes compute."""
    if planned.store.location.startswith("memory://") and (team.client or team.scheduler or team.processes):
        raise JobError(
            f"store '{planned.store.location}' is seen by this process only, expected one that all workers reach; give a "
            "folder or another URL with --store"
        )


def _refuse_unwritable(planned: Plan) -> None:
    """Refuse a folder that may only be read, unless all is there: else the work would be done and then lost."""
    if planned.store.place.writable():
        return
    missing, left = len(planned.missing), planned.n_tasks - planned.kept()
    if missing or left:
        raise StoreError(
            f"store '{planned.store.location}' cannot be written: it may only be read, and lacks {missing} stores and {left} "
            "results; choose another folder with --store, or have its owner run the job"
        )


def _compared(
    planned: Plan,
    missing: frozenset[str],
    failures: list[Failure],
    opened: Callable[[], Client],
    retries: int,
    reporter: Reporter,
) -> Tables:
    """Compute what is not kept yet and return the tables; raise for all that failed, when everything else is kept.

    Stages whose tasks take tables of others wait for these; all others are one wave.
    """
    lost = frozenset(key for key in missing if failures and not planned.store.has(key))
    waiting, computed = list(planned.stages), _Computed(planned, {}, {})
    with forgetting():
        while waiting:
            wave = [stage for stage in waiting if not stage.waits or computed.holds(stage.needs)]
            tasks = _Bound(planned, wave, computed.tables, lost)
            failures = failures + comparing.compute(tasks, planned.store.location, opened, retries, reporter)
            for failure in failures if len(failures) > 1 else ():
                reporter.say(f"failed: {failure.label}: {failure.cause}")
            raise_failures(failures, len(planned.passes) + planned.n_tasks)
            computed.take(wave, _gathered(planned, tasks, opened, retries, reporter))
            waiting = [stage for stage in waiting if stage not in wave]
    return computed.tables


@dataclass(frozen=True)
class _Bound:
    """The tasks of a wave of stages that read no lost store, made anew whenever they are asked for."""

    planned: Plan
    stages: Sequence[Stage]
    tables: Tables
    lost: frozenset[str]

    def __iter__(self) -> Iterator[Task]:
        for task in self.planned.tasks(self.stages):
            if not self.lost or not task.reads(self.lost):
                yield task.bound(self.tables)


@dataclass(frozen=True)
class _Computed:
    """The tables that are finished, and by stage the rows of those that still wait for the tables that they need."""

    planned: Plan
    tables: Tables
    rows: dict[str, Tables]

    def holds(self, stages: Iterable[str]) -> bool:
        """Return whether the tables of all of these stages are finished."""
        return all(table.name in self.tables for name in stages for table in STAGES[name].tables)

    def take(self, stages: Sequence[Stage], rows: dict[str, Tables]) -> None:
        """Take in what the tasks of some stages made; finish every stage, in the order of the table, whose needs are there."""
        self.rows.update({stage.name: rows.get(stage.name, {}) for stage in stages})
        for stage in self.planned.stages:
            if stage.name in self.rows and self.holds(stage.needs):
                empty = {table.name: schema.empty_table(table) for table in stage.tables}
                made = stage.finished(self.planned.inputs, empty | self.rows.pop(stage.name), self.tables)
                self.tables.update({table.name: made[table.name] for table in stage.tables})


def _gathered(
    planned: Plan, tasks: _Bound, opened: Callable[[], Client], retries: int, reporter: Reporter
) -> dict[str, Tables]:
    """Return the rows of the tasks by stage; damaged results are computed again, once."""
    location = planned.store.location
    rows, damaged = comparing.gather(tasks, location)
    if damaged:
        reporter.say(f"{damaged} kept result(s) were damaged: computing them again")
        raise_failures(comparing.compute(tasks, location, opened, retries, reporter), planned.n_tasks)
        rows, damaged = comparing.gather(tasks, location)
    if damaged:
        raise StoreError(
            f"{damaged} results in store '{location}' were gone or damaged again as soon as they were written; see who "
            "else deletes there, and run the job again"
        )
    return rows


def _verified(planned: Plan, repair: bool, reporter: Reporter) -> int:
    """Compare the existing stores with their checksums; set damaged ones aside if asked to, else raise. Return how many."""
    damaged = 0
    for entry in planned.stores:
        if not planned.store.exists(entry.key):
            continue
        try:
            planned.store.verify(entry.key)
        except StoreError as error:
            if not repair:
                raise
            aside = planned.store.set_aside(entry.key)
            reporter.say(f"set a damaged store of {entry.network.label}, {entry.tap.name} aside as '{aside}': {error}")
            damaged += 1
    return damaged
