"""The work of a job that is not done yet: extract, compare, write.

`execute` imports this only where there is work: with it come Torch, Dask and Matplotlib.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from distributed import Client

from universality.base import schema
from universality.base.errors import StoreError
from universality.base.progress import Reporter
from universality.jobs import comparing, extracting, placement, seconds
from universality.jobs.planning import Plan
from universality.jobs.recent import forgetting
from universality.jobs.scheduling import opener
from universality.jobs.seconds import Spent
from universality.jobs.stage import Stage
from universality.jobs.stages import STAGES
from universality.jobs.tasks import Tables, Task
from universality.jobs.workers import Failure, Workers, elsewhere, raise_failures
from universality.jobs.writing import draw, write
from universality.runs import run
from universality.runs.record import Started, cannot_be_written, mark_started
from universality.runs.run import Run


def compute(planned: Plan, team: Workers, started: Started, spent: Spent, reporter: Reporter) -> Run:
    """Extract what is missing, compare what is missing, and write the run's directory.

    What the work took is added to `spent` and recorded, for this machine's plans unless workers elsewhere did it.
    """
    missing, before, begun = frozenset(p.key for p in planned.missing), spent.seconds, time.process_time()
    with opener(team, reporter.say) as opened:
        if missing:
            if planned.job.extraction.device == "cuda":
                placement.refuse_here(team)
                placement.require_gpus(opened())
            raise_failures(extracting.check(planned.passes, opened), len(planned.networks))
        failures = (
            extracting.extract(planned.passes, planned.store, opened, team.retries, reporter, spent) if missing else []
        )
        tables = _compared(planned, missing, failures, opened, team.retries, spent, reporter)
        # From here on until the end, what lies in the directory belongs to no finished run.
        mark_started(planned.out, planned.job, planned.table_names)
        with cannot_be_written(planned.out):
            finished = write(planned, tables, len(missing), started, opened, spent, reporter)
    if elsewhere(team):
        return finished
    if team.processes is None and planned.job.extraction.device == "cpu":
        # All of it was done by this process, and so was what Dask took beside it.
        noted = spent.seconds - before
        spent.add("beside", noted, max(time.process_time() - begun - noted, 0.0))
    seconds.record(spent)
    return finished


def draw_again(planned: Plan, team: Workers, reporter: Reporter) -> Run:
    """Draw figures and report of the run that exists: the code that draws is another than it was."""
    reporter.say(
        f"tables of exactly this job exist in {planned.out}; figures and report are drawn anew, as their code changed"
    )
    record = {name: value for name, value in run.open_run(planned.out).record.items() if name != "digest"}
    mark_started(planned.out, planned.job, planned.table_names)
    with opener(team, reporter.say) as opened, cannot_be_written(planned.out):
        return draw(planned, record, opened, Spent(), reporter)


def _compared(
    planned: Plan,
    missing: frozenset[str],
    failures: list[Failure],
    opened: Callable[[], Client],
    retries: int,
    spent: Spent,
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
            tasks = _Wave(planned, wave, lost)
            tried = Spent()
            failures = failures + comparing.compute(
                tasks, planned.store.location, opened, retries, reporter, tried, computed.tables
            )
            for failure in failures if len(failures) > 1 else ():
                reporter.say(f"failed: {failure.label}: {failure.cause}")
            raise_failures(failures, len(planned.passes) + planned.n_tasks)
            for name, (computed_now, took_s) in tried.took().items():
                of = STAGES[name]
                spent.add(name, of.work(planned.inputs) * computed_now / of.count(planned.inputs), took_s)
            with spent.clocked("tables", sum(stage.count(planned.inputs) for stage in wave)):
                rows = _gathered(planned, tasks, computed.tables, opened, retries, reporter)
            computed.take(wave, rows, spent)
            waiting = [stage for stage in waiting if stage not in wave]
    return computed.tables


@dataclass(frozen=True)
class _Wave:
    """The tasks of some stages that read no lost store, made anew whenever they are asked for."""

    planned: Plan
    stages: Sequence[Stage]
    lost: frozenset[str]

    def __iter__(self) -> Iterator[Task]:
        for task in self.planned.tasks(self.stages):
            if not self.lost or not task.reads(self.lost):
                yield task


@dataclass(frozen=True)
class _Computed:
    """The tables that are finished, and by stage the rows of those that still wait for the tables that they need."""

    planned: Plan
    tables: Tables
    rows: dict[str, Tables]

    def holds(self, stages: Iterable[str]) -> bool:
        """Return whether the tables of all of these stages are finished."""
        return all(table.name in self.tables for name in stages for table in STAGES[name].tables_of(self.planned.job))

    def take(self, stages: Sequence[Stage], rows: dict[str, Tables], spent: Spent) -> None:
        """Take in what the tasks of some stages made; finish every stage, in the order of the table, whose needs are there."""
        self.rows.update({stage.name: rows.get(stage.name, {}) for stage in stages})
        for stage in self.planned.stages:
            if stage.name in self.rows and self.holds(stage.needs):
                tables = stage.tables_of(self.planned.job)
                empty = {table.name: schema.empty_table(table) for table in tables}
                with spent.clocked(f"tables of {stage.name}", stage.work(self.planned.inputs)):
                    made = stage.finished(self.planned.inputs, empty | self.rows.pop(stage.name), self.tables)
                self.tables.update({table.name: made[table.name] for table in tables})


def _gathered(
    planned: Plan, tasks: _Wave, tables: Tables, opened: Callable[[], Client], retries: int, reporter: Reporter
) -> dict[str, Tables]:
    """Return the rows of the tasks by stage; damaged results are computed again, once."""
    location = planned.store.location
    rows, damaged = comparing.gather(tasks, location)
    if damaged:
        reporter.say(f"{damaged} kept result(s) were damaged: computing them again")
        raise_failures(comparing.compute(tasks, location, opened, retries, reporter, tables=tables), planned.n_tasks)
        rows, damaged = comparing.gather(tasks, location)
    if damaged:
        raise StoreError(
            f"{damaged} results in store '{location}' were gone or damaged again as soon as they were written; see who "
            "else deletes there, and run the job again"
        )
    return rows
