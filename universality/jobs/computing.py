"""The work of a job that is not done yet: extract, compare, write.

`execute` imports this only where there is work: with it come Torch, Dask and Matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from distributed import Client

from universality import pairs, records
from universality.errors import StoreError
from universality.jobs import comparing, extracting, placement
from universality.jobs.comparisons import Possible
from universality.jobs.planning import Plan
from universality.jobs.progress import Reporter
from universality.jobs.scheduling import opener
from universality.jobs.workers import Failure, Workers, elsewhere, raise_failures
from universality.jobs.writing import write
from universality.records import Started
from universality.runs import Run


def compute(planned: Plan, team: Workers, started: Started, reporter: Reporter) -> Run:
    """Extract what is missing, compare what is missing, and write the run's directory."""
    missing = frozenset(p.key for p in planned.missing)
    with opener(team, reporter.say) as opened:
        if missing:
            if planned.job.extraction.device == "cuda":
                placement.refuse_here(team)
                placement.require_gpus(opened())
            # Who started the workers can start them otherwise.
            advise = reporter.say if elsewhere(team) else None
            raise_failures(extracting.check(planned.passes, opened, advise), len(planned.networks))
        failures = extracting.extract(planned.passes, planned.store, opened, team.retries, reporter) if missing else []
        tables = _compared(planned, missing, failures, opened, team.retries, reporter)
        # From here on until the end, what lies in the directory belongs to no finished run.
        records.mark_started(planned.out, planned.job)
        with records.cannot_be_written(planned.out):
            return write(planned, tables, len(missing), started, reporter)


def _compared(
    planned: Plan,
    missing: frozenset[str],
    failures: list[Failure],
    opened: Callable[[], Client],
    retries: int,
    reporter: Reporter,
) -> dict[str, pd.DataFrame]:
    """Compare what is not kept yet and return the tables; raise for all that failed, when everything else is kept."""
    location = planned.store.location
    lost = frozenset(key for key in missing if failures and not planned.store.has(key))
    tasks = Possible(planned.tasks, lost)
    for _ in range(2):
        failures = failures + comparing.compute(tasks, location, opened, retries, reporter)
        for failure in failures if len(failures) > 1 else ():
            reporter.say(f"failed: {failure.label}: {failure.cause}")
        raise_failures(failures, len(planned.passes) + len(planned.tasks))
        tables, damaged = comparing.gather(tasks, location)
        if not damaged:
            break
        reporter.say(f"{len(damaged)} kept result(s) were damaged: computing them again")
    else:
        raise StoreError(
            f"{len(damaged)} results in store '{location}' were gone or damaged again as soon as they were written; see who "
            "else deletes there, and run the job again"
        )
    return tables | {
        "pairs": pairs.pair_rows(
            tables["families"], tables["correspondence"], tables["correspondence_nulls"], tables["similarity"],
            planned.job.comparison.matching,
        )
    }  # fmt: skip
