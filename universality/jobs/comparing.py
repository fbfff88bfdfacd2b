"""Comparisons on a cluster: each result is kept when it is there, small ones share a Dask task, failures wait for the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa
from distributed import Client, Future

from universality import evidence, schema
from universality.jobs.comparisons import Task
from universality.jobs.progress import Reporter
from universality.jobs.recent import forgetting
from universality.jobs.results import Results
from universality.jobs.scheduling import Watch, watching
from universality.jobs.workers import Failure, single_threaded

Outcomes = list[tuple[float, Failure | None]]

BATCH_S = 0.5
"""Work that a Dask task should hold, s: far above what scheduling it costs, far below what is lost with a worker."""
MOST_IN_BATCH = 256
_IN_BLOCK = 256
"""Results whose rows are joined at a time."""
_AHEAD = 2
"""Dask tasks under way for each thread, so that none waits for the next."""


def compute(
    tasks: Iterable[Task], location: str, opened: Callable[[], Client], retries: int, reporter: Reporter
) -> list[Failure]:
    """Compute the tasks whose results are not kept at `location`; return the failures once all others have ended."""
    kept = Results(location).listed()
    total = sum(1 for task in tasks if task.key not in kept)
    if not total:
        return []
    queue = _Queue((task for task in tasks if task.key not in kept), total, retries)
    advance = reporter.track("comparisons (tasks)", total)
    with watching(opened()) as watch, forgetting():
        batches: dict[Future[Any], Sequence[Task]] = {}
        while True:
            _submit(queue, watch, batches, location)
            if not watch.pending:
                return queue.failures
            for future in watch.ended():
                outcomes = watch.outcome(future)
                if outcomes is not None:
                    advance(queue.settle(batches.pop(future), outcomes))


def _submit(queue: _Queue, watch: Watch, batches: dict[Future[Any], Sequence[Task]], location: str) -> None:
    threads = watch.threads()
    while len(watch.pending) < _AHEAD * threads and (batch := queue.take(threads, alone=not watch.pending)):
        future = watch.client.submit(batch_task, location, batch, key=watch.new_key("compare"), pure=False)
        watch.pending.add(future)
        batches[future] = batch


class _Queue:
    """Tasks still to be done: new ones by the batch, those that failed one by one until they have had their tries.

    What was lost with a worker in company runs once more when nothing else does: see `Failure`.
    """

    def __init__(self, tasks: Iterator[Task], total: int, retries: int) -> None:
        self.failures: list[Failure] = []
        self._tasks = tasks
        self._left = total
        self._retries = retries
        self._again: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._alone = False
        self._tries: Counter[str] = Counter()
        self._mean_s = BATCH_S

    def take(self, threads: int, alone: bool) -> list[Task]:
        """Return the next batch: about `BATCH_S` of work, less towards the end so that all threads end together.

        `alone` says that nothing is under way: a suspect can be tried.
        """
        if self._alone and not alone:
            return []
        self._alone = False
        if self._again:
            return [self._again.popleft()]
        size = min(int(BATCH_S / self._mean_s), MOST_IN_BATCH, self._left // (2 * threads))
        batch = list(islice(self._tasks, max(size, 1)))
        self._left -= len(batch)
        if not batch and alone and self._suspects:
            self._alone = True
            return [self._suspects.popleft()]
        return batch

    def settle(self, batch: Sequence[Task], outcomes: Outcomes | BaseException) -> int:
        """Take in what came of a batch; return how many tasks are done with, for better or worse."""
        if isinstance(outcomes, BaseException):
            return self._lost(batch, outcomes)
        mean = sum(seconds for seconds, _ in outcomes) / len(outcomes)
        self._mean_s = max(0.7 * self._mean_s + 0.3 * mean, 1e-5)
        return sum(self._ended(task, failure) for task, (_, failure) in zip(batch, outcomes, strict=True))

    def _lost(self, batch: Sequence[Task], cause: BaseException) -> int:
        """Deal with a batch whose worker died."""
        if not self._alone:
            self._suspects.extend(batch)
            return 0
        return self._ended(batch[0], Failure.of(batch[0].label, cause))

    def _ended(self, task: Task, failure: Failure | None) -> int:
        if failure is not None and self._tries[task.key] < self._retries:
            self._tries[task.key] += 1
            (self._suspects if self._alone else self._again).append(task)
            return 0
        if failure is not None:
            self.failures.append(failure)
        return 1


def batch_task(location: str, tasks: Sequence[Task]) -> Outcomes:
    """Compute tasks one after another and keep their results; return seconds and failure of each."""
    single_threaded()
    results = Results(location)
    return [_one(results, task) for task in tasks]


def _one(results: Results, task: Task) -> tuple[float, Failure | None]:
    started = time.perf_counter()
    try:
        if not results.has(task.key):
            results.write(task.key, task.function(*task.arguments))
    except Exception as cause:
        return time.perf_counter() - started, Failure.of(task.label, cause)
    return time.perf_counter() - started, None


def gather(tasks: Iterable[Task], location: str) -> tuple[dict[str, pd.DataFrame], list[Task]]:
    """Return the tables that tasks make, rows in the order of the tasks, and the tasks whose results are damaged: these are removed."""
    results, damaged = Results(location), []
    parts = {name: _Parts() for name in schema.TABLES}
    for task in tasks:
        tables = results.read_arrow(task.key)
        if tables is None:
            damaged.append(task)
            results.remove(task.key)
            continue
        for name, rows in tables.items():
            parts[name].add(rows)
    if damaged:
        return {}, damaged
    joined = {name: parts.pop(name).frame(table) for name, table in schema.TABLES.items() if name != schema.PAIRS.name}
    # The false discovery rate is that of all taps of a pair of models together: no single task sees them.
    return joined | {name: evidence.with_q(joined[name]) for name in ("correspondence", "correspondence_nulls")}, []


class _Parts:
    """The rows of one table, as results bring them."""

    def __init__(self) -> None:
        self._blocks: list[pa.Table] = []
        self._last: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Take the next rows. Few rows of 50 columns take less than what describes them: many of them become one block."""
        self._last.append(rows)
        if len(self._last) == _IN_BLOCK:
            self._blocks.append(_joined(self._last))
            self._last = []

    def frame(self, table: schema.Table) -> pd.DataFrame:
        """Return all rows, one after another."""
        blocks = [*self._blocks, *self._last]
        self._blocks, self._last = [], []
        if not blocks:
            return schema.empty_table(table)
        frame: pd.DataFrame = _joined(blocks).to_pandas()
        return frame


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    # A column of lists has no type where a part has no rows.
    return pa.concat_tables(parts, promote_options="default").combine_chunks()
