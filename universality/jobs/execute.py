"""From a job to tables, figures and a report: plan, extract what is missing, compare what is missing, write."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from universality.base.errors import JobError, StoreError, did_you_mean
from universality.base.progress import Progress, Reporter, reporter_for
from universality.jobs import placement
from universality.jobs.estimates import disk, refuse_disk
from universality.jobs.planning import Plan, plan
from universality.jobs.seconds import Spent
from universality.jobs.workers import Workers
from universality.runs import record
from universality.runs.job import Job, read_job
from universality.runs.run import Run, open_run

if TYPE_CHECKING:
    from distributed import Client


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
    models: Mapping[str, Any] | None = None,
    progress: Progress = False,
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
    models : mapping, optional
        Modules of yours by the name that the job's ``[[models]]`` give them, such as ``{"mine": module}``; or (module,
        preprocessing), where preprocessing is a mapping of ``size_px``, ``mean`` and ``std``, which networks of timm carry with them. The
        job's ``taps`` are then module paths, and six, evenly in depth, when left out.
    progress : bool or callable
        True shows every stage: as bars in a notebook, as lines on standard error elsewhere. A function is called with the steps of a stage
        that are done, and with all of them.
    reporter : Reporter, optional
        An object with ``say(text)`` and ``track(description, total)`` that is told instead.

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
    reporter = reporter or reporter_for(progress)
    started = record.Started(time.time(), time.monotonic())
    fresh = "torch" not in sys.modules  # else the imports, most of the start, were made before
    team = Workers(client, scheduler, workers, threads, memory, retries)
    job_path = read_job(Path(job_path)) if not isinstance(job_path, Job) else job_path
    if models:
        take_in_hand(models, job_path, reporter.say)
    job = placement.for_workers(job_path, team)
    team = placement.with_gpus(team, job)
    planned = plan(job, out, store, only=only, without=without)
    _refuse_place(planned, team)
    for warning in planned.warnings:
        reporter.say(warning)
    with record.claimed(planned.out, planned.job, planned.store, planned.table_names):
        removed = planned.store.remove_partial()
        if removed:
            reporter.say(f"removed {removed} store(s) that an interrupted run had left half-written")
        if _verified(planned, repair, reporter):
            planned = plan(job, out, store, only=only, without=without)
        _refuse_unwritable(planned)
        missing = frozenset(p.key for p in planned.missing)
        if not missing:
            reporter.say(f"all {len(planned.stores)} activation stores exist: extracted nothing")
        exists = not missing and planned.tables_exist
        if exists and planned.drawn:
            reporter.say(f"tables, figures and report of exactly this job exist in {planned.out}: computed nothing")
            return open_run(planned.out)
        # With Torch, Dask and Matplotlib: who finds everything computed waits for none of them.
        from universality.jobs.computing import compute, draw_again

        if exists:
            return draw_again(planned, team, reporter)
        refuse_disk(disk(planned), planned.store.location)
        spent = Spent()
        if fresh:
            spent.add("start", 1.0, time.process_time())
        return compute(planned, team, started, spent, reporter)


def take_in_hand(models: Mapping[str, Any], job: Job, say: Callable[[str], None]) -> None:
    """Make the user's modules models of the job; raise `JobError` for one that the job does not name."""
    from universality.models import in_hand

    taps = {entry.id: entry.taps for entry in job.models}
    for name in models:
        if name not in taps:
            raise JobError(f"models holds '{name}'{did_you_mean(name, taps)}, which is no model of the job")
    in_hand.take(models, taps, say)


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
