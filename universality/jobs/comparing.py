"""Tasks of stages on a cluster: each result is kept when it is there, small ones share a Dask task, failures wait for the end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
from distributed import Client, Future

from universality.base.errors import UniversalityError
from universality.base.progress import Reporter
from universality.jobs.results import Results
from universality.jobs.scheduling import Watch, watching
from universality.jobs.seconds import Spent
from universality.jobs.tasks import Tables, Task
from universality.jobs.workers import Failure


class Outcome(NamedTuple):
    """What came of a task: the time that passed (s), the failure, the processor seconds, and the share of its parts computed."""

    seconds: float
    failure: Failure | None
    processor_s: float = 0.0
    share: float = 0.0


Outcomes = list[Outcome]

BATCH_S = 0.5
"""Work that a Dask task should hold, s: far above what scheduling it costs, far below what is lost with a worker."""
MOST_IN_BATCH = 256
_IN_BLOCK = 256
"""Results whose rows are joined at a time."""
_AHEAD = 2
"""Dask tasks under way for each thread, so that none waits for the next."""


def compute(
    tasks: Iterable[Task],
    location: str,
    opened: Callable[[], Client],
    retries: int,
    reporter: Reporter,
    spent: Spent | None = None,
    tables: Tables | None = None,
) -> list[Failure]:
    """Compute the tasks whose results are not kept at `location`; return the failures once all others have ended.

    Tasks of several stages follow one another without waiting; each stage has its own bar of progress. Tasks computed and
    their processor seconds are added to `spent` under the stage's name. `tables` are those that are finished, for tasks that
    take some of them.
    """
    kept = Results(location).listed()
    left = Counter(task.stage for task in tasks if not task.kept(kept))
    if not left:
        return []
    queue = _Queue((task.bound(tables or {}) for task in tasks if not task.kept(kept)), left.total(), retries)
    advance = {stage: reporter.track(f"{stage} (tasks)", count) for stage, count in left.items()}
    with watching(opened()) as watch:
        batches: dict[Future[Any], Sequence[Task]] = {}
        while True:
            _submit(queue, watch, batches, location)
            if not watch.pending:
                return queue.failures
            for future in watch.ended():
                outcomes = watch.outcome(future)
                if outcomes is not None:
                    batch = batches.pop(future)
                    for task in queue.settle(batch, outcomes):
                        advance[task.stage](1)
                    if spent is not None and isinstance(outcomes, list):
                        for task, outcome in zip(batch, outcomes, strict=True):
                            spent.add(task.stage, outcome.share, outcome.processor_s)


def _submit(queue: _Queue, watch: Watch, batches: dict[Future[Any], Sequence[Task]], location: str) -> None:
    threads = watch.threads()
    while len(watch.pending) < _AHEAD * threads and (batch := queue.take(threads, alone=not watch.pending)):
        future = watch.submit("tasks", batch_task, location, batch)
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

    def settle(self, batch: Sequence[Task], outcomes: Outcomes | BaseException) -> list[Task]:
        """Take in what came of a batch; return the tasks that are done with, whether they have a result or failed."""
        if isinstance(outcomes, BaseException):
            return self._lost(batch, outcomes)
        mean = sum(outcome.seconds for outcome in outcomes) / len(outcomes)
        self._mean_s = max(0.7 * self._mean_s + 0.3 * mean, 1e-5)
        return [task for task, came in zip(batch, outcomes, strict=True) if self._ended(task, came.failure)]

    def _lost(self, batch: Sequence[Task], cause: BaseException) -> list[Task]:
        """Deal with a batch whose worker died, or refused it: what refuses one task refuses all."""
        if not self._alone and not isinstance(cause, UniversalityError):
            self._suspects.extend(batch)
            return []
        return [task for task in batch if self._ended(task, Failure.of(task.label, cause))]

    def _ended(self, task: Task, failure: Failure | None) -> bool:
        if failure is not None and self._tries[task.label] < self._retries:
            self._tries[task.label] += 1
            (self._suspects if self._alone else self._again).append(task)
            return False
        if failure is not None:
            self.failures.append(failure)
        return True


def batch_task(location: str, tasks: Sequence[Task]) -> Outcomes:
    """Compute tasks one after another and keep their results; return what came of each."""
    results = Results(location)
    return [_one(results, task) for task in tasks]


def _one(results: Results, task: Task) -> Outcome:
    started, worked = time.perf_counter(), time.thread_time()
    try:
        wanted = [part for part, key in task.keys.items() if not results.has(key)]
        for part, tables in task.results(wanted).items() if wanted else ():
            results.write(task.keys[part], tables)
    except Exception as cause:
        return Outcome(time.perf_counter() - started, Failure.of(task.label, cause))
    share = len(wanted) / len(task.keys)
    return Outcome(time.perf_counter() - started, None, time.thread_time() - worked, share)


def gather(tasks: Iterable[Task], location: str) -> tuple[dict[str, Tables], int]:
    """Return by stage the rows that its tasks made, in their order, and how many results are damaged: these are removed."""
    results, damaged = Results(location), 0
    parts: dict[str, dict[str, _Parts]] = {}
    for task in tasks:
        of_stage = parts.setdefault(task.stage, {})
        for key in task.keys.values():
            tables = results.read_arrow(key)
            if tables is None:
                damaged += 1
                results.remove(key)
                continue
            for name, rows in tables.items():
                of_stage.setdefault(name, _Parts()).add(rows)
    if damaged:
        return {}, damaged
    return {stage: {name: rows.frame() for name, rows in of.items()} for stage, of in parts.items()}, 0


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

    def frame(self) -> pd.DataFrame:
        """Return all rows, one after another."""
        blocks = [*self._blocks, *self._last]
        self._blocks, self._last = [], []
        frame: pd.DataFrame = _joined(blocks).to_pandas()
        return frame


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    # A column of lists has no type where a part has no rows.
    return pa.concat_tables(parts, promote_options="default").combine_chunks()
