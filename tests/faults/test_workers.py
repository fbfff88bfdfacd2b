"""Killed workers, failing tasks, a lost scheduler: one sentence, and what is finished is kept."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import apart
import dask
import pytest
import tiny
from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker, WorkerState

from universality.base.errors import RunError
from universality.base.progress import Quiet
from universality.jobs import comparing, extracting, scheduling
from universality.jobs.planning import plan
from universality.jobs.results import Results
from universality.jobs.tasks import Task
from universality.jobs.workers import Failure, Workers, raise_failures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(forked):
    """Two worker processes, and those that come in the place of the dead."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        scheduling.comparison_client(Workers(processes=2, threads=1, memory="1500MB")) as client,
    ):
        yield client


def task(function, *arguments, key="") -> Task:
    label = f"{function.__name__}{arguments}"
    return Task("toy", {"": (key or label).encode().hex()[:60]}, label, function, arguments)


def key_of(of: Task) -> str:
    return of.keys[""]


def good(count: int) -> list[Task]:
    return [task(tiny.rows, number) for number in range(count)]


def compute(tasks, store, client, retries=0):
    return comparing.compute(tasks, str(store), lambda: client, retries, Quiet())


def test_worker_processes_that_do_not_start_are_one_sentence(monkeypatch):
    def fails(**settings):
        raise RuntimeError("Nanny failed to start.") from OSError("planted")

    monkeypatch.setattr(scheduling, "LocalCluster", fails)
    with (
        pytest.raises(RunError, match=r"worker processes did not start \(OSError: planted\); run the job again"),
        scheduling.comparison_client(Workers(processes=2)),
    ):
        pass


class TestOneTaskGoesWrong:
    @pytest.mark.parametrize(
        ("bad", "cause"),
        [
            (tiny.breaks, "ValueError: planted in 7"),
            (tiny.kills_its_worker, "the worker died every time"),
            (tiny.takes_memory, "the worker died every time"),
        ],
    )
    def test_others_finish_and_it_is_named(self, cluster, tmp_path, bad, cause):
        tasks = [*good(3), task(bad, 7), *(task(tiny.rows, n) for n in range(3, 6))]
        failures = compute(tasks, tmp_path, cluster)
        assert [failure.label for failure in failures] == [f"{bad.__name__}(7,)"]
        assert cause in failures[0].cause
        results = Results(str(tmp_path))
        there = {key_of(t) for t in tasks if results.read(key_of(t)) is not None}
        assert there == {key_of(t) for t in tasks if t.function != bad}

    def test_who_only_waited_beside_it_is_not_blamed(self):
        """Dask names every task of a dead worker: each is tried once more while nothing else is under way."""
        tasks = good(3)
        queue, lost = comparing._Queue(iter(tasks), 3, retries=0), KilledWorker("", WorkerState.__new__(WorkerState), 1)
        batches = [queue.take(1, alone=False) for _ in tasks]
        assert [queue.settle(batch, lost) for batch in batches] == [[], [], []]
        assert queue.take(1, alone=False) == []
        for suspect, outcome in zip(
            tasks, ([comparing.Outcome(0.1, None)], lost, [comparing.Outcome(0.1, None)]), strict=True
        ):
            assert queue.take(1, alone=True) == [suspect]
            assert queue.take(1, alone=False) == []  # nothing beside it
            assert queue.settle([suspect], outcome) == [suspect]
        assert queue.take(1, alone=True) == []
        assert [failure.label for failure in queue.failures] == [tasks[1].label]

    def test_failures_become_one_sentence(self):
        failures = [Failure.of(name, ValueError("planted")) for name in ("first", "second")]
        with pytest.raises(
            RunError, match=r"2 of 9 tasks failed: 'first' with ValueError: planted \(and 1 more\); mend"
        ):
            raise_failures(failures, 9)


def test_a_network_that_kills_its_workers_is_named_and_the_others_are_extracted(cluster, tmp_path):
    """Tasks that ran beside it when a worker died are tried again alone."""
    planned = plan(tiny.write_job(tmp_path), tmp_path / "run", tmp_path / "store")
    passes = [shown for shown in planned.passes if shown.stimulus_set == "natural"]
    bad = passes[1].network
    poison = tiny.Poison(**{field.name: getattr(bad, field.name) for field in fields(bad)})
    passes[1] = replace(passes[1], network=poison)
    failures = extracting.extract(passes, planned.store, lambda: cluster, 0, Quiet())
    assert [(failure.label, failure.lost) for failure in failures] == [(bad.label, True)]
    assert "the worker died every time" in failures[0].cause
    there = {entry.network.label for entry in planned.stores if planned.store.has(entry.key)}
    assert there == {shown.network.label for shown in passes} - {bad.label}
    assert len(there) == 3


def test_a_worker_that_dies_is_started_again_however_soon_dask_looks():
    with (
        # Of the deaths that Dask allows a task, the cluster of this module allows none. Here processes start as in a job.
        dask.config.set(
            {
                "distributed.deploy.lost-worker-timeout": "1ms",
                "distributed.scheduler.allowed-failures": 3,
                "distributed.worker.multiprocessing-method": "spawn",
            }
        ),
        scheduling.comparison_client(Workers(processes=1, threads=1)) as client,
    ):
        (before,) = client.run(os.getpid).values()
        os.kill(before, signal.SIGKILL)
        assert client.submit(os.getpid, pure=False).result(timeout=tiny.PATIENCE_S) != before


class TestItGoesWrongOnce:
    def test_killed_worker_costs_nothing(self, cluster, tmp_path):
        tasks = [*good(4), task(tiny.kills_its_worker_once, str(tmp_path / "marker"))]
        assert compute(tasks, tmp_path, cluster) == []
        assert len(Results(str(tmp_path)).listed()) == 5

    @pytest.mark.parametrize(("retries", "failed"), [(0, 1), (1, 0)])
    def test_retries_are_counted(self, cluster, tmp_path, retries, failed):
        tasks = [task(tiny.breaks_once, str(tmp_path / "marker"))]
        assert len(compute(tasks, tmp_path, cluster, retries)) == failed

    def test_finished_tasks_are_not_done_again(self, cluster, tmp_path):
        compute(good(2), tmp_path, cluster)
        # Tasks of these keys that would fail, were they done.
        again = [task(tiny.breaks, n, key=t.label) for n, t in enumerate(good(2))]
        assert compute(again, tmp_path, cluster) == []

    def test_damaged_result_is_found_and_done_again(self, cluster, tmp_path):
        tasks = good(2)
        compute(tasks, tmp_path, cluster)
        path = next(path for path in (tmp_path / "results").rglob("*") if path.name == key_of(tasks[0]))
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        _, damaged = comparing.gather(tasks, str(tmp_path))
        assert damaged == 1
        assert compute(tasks, tmp_path, cluster) == []
        assert Results(str(tmp_path)).read(key_of(tasks[0])) is not None


def ends_in_one_sentence(tmp_path, client, interfere, match):
    """Compute three good tasks and one that does not end; once it runs, `interfere`."""
    started, go = tmp_path / "started", tmp_path / "go"
    tasks = [*good(3), task(tiny.waits_for, str(started), str(go))]
    results = Results(str(tmp_path / "store"))
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(compute, tasks, tmp_path / "store", client)
        tiny.wait_until(lambda: started.exists() and len(results.listed()) == 3)
        interfere()
        with pytest.raises(RunError, match=match) as caught:
            computed.result(timeout=tiny.PATIENCE_S)
        go.touch()
    assert "\n" not in str(caught.value)
    assert "what is finished is kept" in str(caught.value)
    assert len(results.listed()) == 3


WORKER = ["worker", "--nthreads", "2", "--no-nanny", "--no-dashboard"]


def _dask(*arguments: str) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    from dask.cli import run_cli

    sys.argv = ["dask", *arguments]
    run_cli()


def dask_process(*arguments: str):
    """Start a command of Dask's, as on another machine."""
    process = apart.SERVER.Process(target=_dask, args=arguments, daemon=True)
    process.start()
    return process


def test_all_workers_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling, "WORKER_TIMEOUT_S", 1.0)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        worker = dask_process(*WORKER, cluster.scheduler_address)
        try:
            client.wait_for_workers(1, timeout=tiny.PATIENCE_S)
            ends_in_one_sentence(tmp_path, client, worker.kill, "has had no worker for 1 s")
        finally:
            worker.kill()
            worker.join()


def test_scheduler_gone(tmp_path):
    file = tmp_path / "scheduler.json"
    scheduler = dask_process("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    worker = dask_process(*WORKER, "--scheduler-file", str(file))
    try:
        tiny.wait_until(file.exists)
        with Client(scheduler_file=str(file), timeout="5s") as client:
            client.wait_for_workers(1, timeout=tiny.PATIENCE_S)
            ends_in_one_sentence(tmp_path, client, scheduler.kill, "the Dask scheduler was lost")
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.join()
