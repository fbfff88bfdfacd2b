"""The runner: what it does with jobs that end, die, are cancelled or take too much; and one job of the real program."""

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from service_parts import settings, small_job
from sqlalchemy.exc import OperationalError

import universality
from universality.base.errors import SchedulerLostError, StoreError
from universality.service import attempt, trying
from universality.service.database import Database
from universality.service.progress import progress
from universality.service.queue import Queue
from universality.service.runner import Runner, RunnerProcess

PATIENCE_S = 300


def program(body: str) -> tuple[str, ...]:
    """A stand-in for a job's process: it reads what is asked, then runs `body`, which may `say` things."""
    head = "import json, os, signal, sys, time\nasked = json.loads(sys.stdin.readline())\ndef say(**message): print(json.dumps(message), flush=True)\n"
    return (sys.executable, "-S", "-c", head + body)


DONE = "say(ended='done')"
FOR_EVER = "say(kind='say', data={'text': f'begun {os.getpid()}'})\ntime.sleep(600)"


@pytest.fixture
def jobs(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'service.db'}")
    database.upgrade()
    yield Queue(database, lease_s=5.0)
    database.close()


@contextlib.contextmanager
def running(runner: Runner):
    over = threading.Event()
    thread = threading.Thread(target=runner.run, args=(over,))
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def until(condition) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def ended(jobs: Queue, tmp_path, body: str, **limits):
    """Run one job with a stand-in until it has ended; return it."""
    row = jobs.submit(small_job(), "anna")
    with running(Runner(settings(tmp_path, limits=limits), jobs, program(body))):
        until(lambda: jobs.get(row.id).state in ("done", "failed", "cancelled"))
    return jobs.get(row.id)


def said(jobs: Queue, job: str) -> list[str]:
    return [json.loads(event.data)["text"] for event in jobs.events(job) if event.kind == "say"]


def test_a_job_gets_the_places_of_the_service_and_its_words_become_events(jobs, tmp_path):
    body = "say(kind='say', data={'text': asked['out'] + ' ' + asked['store'] + ' ' + asked['job']['name']})\n" + DONE
    row = ended(jobs, tmp_path, body)
    assert row.state == "done" and row.attempts == 1
    assert said(jobs, row.id) == [f"{tmp_path / 'runs' / row.run} {tmp_path / 'store'} small"]


def test_a_job_that_fails_has_its_sentence_and_is_not_begun_again(jobs, tmp_path):
    row = ended(jobs, tmp_path, "say(ended='failed', error='the store is gone')")
    assert (row.state, row.error, row.attempts) == ("failed", "the store is gone", 1)


def test_a_job_that_kills_its_process_is_tried_again_and_then_fails_in_one_sentence(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("universality.service.runner._BACKOFF_S", 0.01)
    row = ended(jobs, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", job_deaths=2)
    assert (row.state, row.attempts) == ("failed", 2)
    assert (
        row.error
        == "the job's process was killed by SIGKILL (out of memory, or a crash of a library), 2 times in a row; see the log of the service"
    )


def test_an_error_that_is_no_sentence_ends_in_one_and_lies_in_the_log(jobs, tmp_path):
    row = ended(jobs, tmp_path, "raise RuntimeError('of a library')", job_deaths=1)
    assert (
        row.error.startswith("the job's process ended with status 1: RuntimeError: of a library")
        and "\n" not in row.error
    )
    assert "Traceback" in (tmp_path / "logs" / f"{row.id}.log").read_text()


def test_a_job_whose_process_died_once_goes_on(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("universality.service.runner._BACKOFF_S", 0.01)
    marker = tmp_path / "died"
    row = ended(
        jobs, tmp_path, f"if not os.path.exists({str(marker)!r}): open({str(marker)!r}, 'w'); os._exit(9)\n{DONE}"
    )
    assert (row.state, row.attempts, row.error) == ("done", 2, None)


def test_a_job_without_its_scheduler_waits_for_it(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr("universality.service.runner._BACKOFF_S", 0.01)
    marker = tmp_path / "away"
    row = ended(
        jobs,
        tmp_path,
        f"if not os.path.exists({str(marker)!r}): open({str(marker)!r}, 'w'); say(ended='away', error='no scheduler')\nelse: {DONE}",
    )
    assert (row.state, row.attempts) == ("done", 2)
    assert [json.loads(e.data).get("why") for e in jobs.events(row.id)][2] == "no scheduler"


def test_cancelling_kills_the_process_and_all_that_it_started(jobs, tmp_path):
    row = jobs.submit(small_job(), "anna")
    child = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\nsay(kind='say', data={'text': str(child.pid)})\n"
    with running(Runner(settings(tmp_path), jobs, program(child + "time.sleep(600)"))):
        until(lambda: said(jobs, row.id))
        jobs.cancel(row.id)
        until(lambda: jobs.get(row.id).state == "cancelled")
    until(lambda: gone(int(said(jobs, row.id)[0])))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_job_that_runs_too_long_fails_in_one_sentence(jobs, tmp_path):
    row = ended(jobs, tmp_path, FOR_EVER, job_seconds=0.2)
    assert row.error == "the job was stopped: it ran longer than the 0 s that this service allows; divide the job"


def test_a_job_that_takes_too_much_memory_fails_in_one_sentence(jobs, tmp_path):
    row = ended(jobs, tmp_path, "held = bytearray(300 << 20)\ntime.sleep(600)", job_bytes=200 << 20)
    assert row.state == "failed" and "of memory, this service allows 210 MB; compare fewer networks" in row.error


def test_a_runner_that_is_told_to_stop_puts_its_jobs_back(jobs, tmp_path):
    row = jobs.submit(small_job(), "anna")
    with running(Runner(settings(tmp_path), jobs, program(FOR_EVER))):
        until(lambda: said(jobs, row.id))
    assert jobs.get(row.id).state == "waiting" and jobs.get(row.id).deaths == 0
    until(lambda: gone(int(said(jobs, row.id)[0].split()[1])))


def test_a_job_that_another_runner_took_is_stopped_here(jobs, tmp_path):
    row = jobs.submit(small_job(), "anna")
    runner = Runner(settings(tmp_path), jobs, program(FOR_EVER))
    with running(runner):
        until(lambda: said(jobs, row.id))
        late = Queue(jobs.database, lease_s=5.0, clock=lambda: time.time() + 100)
        assert late.expire() == [row.id]
        assert late.claim("another").attempt == 2
        until(lambda: gone(int(said(jobs, row.id)[0].split()[1])))
    assert jobs.get(row.id).runner == "another" and jobs.get(row.id).state == "running"


def test_a_runner_outlives_its_database_and_stops_what_it_cannot_hold(jobs, tmp_path, monkeypatch):
    row = jobs.submit(small_job(), "anna")
    runner = Runner(settings(tmp_path), jobs, program(FOR_EVER))
    jobs.lease_s = 1.0
    with running(runner):
        until(lambda: said(jobs, row.id))
        pid, real = int(said(jobs, row.id)[0].split()[1]), jobs.renew

        def away(*_):
            raise OperationalError("renew", {}, ConnectionError("the server is gone"))

        monkeypatch.setattr(jobs, "renew", away)
        until(lambda: gone(pid))
        runner.program = program(DONE)
        monkeypatch.setattr(jobs, "renew", real)
        until(lambda: jobs.get(row.id).state == "done")


# The process of a job


def asked(folder, **changed) -> dict:
    return {
        "job": small_job().plain(),
        "out": str(folder / "run"),
        "store": str(folder / "store"),
        "workers": {"threads": 1},
        "silence_s": 60,
        "held": time.monotonic(),
    } | changed


@pytest.mark.parametrize(
    ("cause", "kind", "sentence"),
    [
        (StoreError("store 's3://x' cannot be reached"), "failed", "store 's3://x' cannot be reached"),
        (SchedulerLostError("the Dask scheduler was lost"), "away", "the Dask scheduler was lost"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "the disk is full (No space left on device); ask whoever runs the service to free space"),
        (MemoryError(), "failed", "the memory did not suffice; compare fewer networks or taps at a time"),
    ],
    ids=["store gone", "scheduler lost", "disk full", "memory"],
)  # fmt: skip
def test_what_ends_a_job_is_one_sentence(tmp_path, monkeypatch, cause, kind, sentence):
    def fails(*_, **__):
        raise cause

    monkeypatch.setattr(trying, "run", fails)
    assert trying.outcome(asked(tmp_path), attempt.Told(io.StringIO())) == {"ended": kind, "error": sentence}


def test_a_job_in_use_by_another_process_is_tried_again_later(tmp_path):
    from universality.base import locks

    (tmp_path / "run").mkdir()
    with locks.held(tmp_path / "run" / ".lock"):
        found = trying.outcome(asked(tmp_path), attempt.Told(io.StringIO()))
    assert found["ended"] == "away" and "is in use by another run" in found["error"]


def test_stages_are_told_at_most_once_a_second_and_at_their_end():
    out, clock = io.StringIO(), SimpleNamespace(now=0.0)
    advance = attempt.Told(out, lambda: clock.now).track("families (tasks)", 16)
    for _ in range(16):
        clock.now += 0.25
        advance(1)
    told = [json.loads(line)["data"] for line in out.getvalue().splitlines()]
    assert [stage["done"] for stage in told] == [0, 4, 8, 12, 16]
    assert told[-1] == {"description": "families (tasks)", "done": 16, "total": 16, "seconds": 4.0}


WAITING = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "universality.jobs":
            time.sleep(600)
if sys.argv[1] == "importing":
    sys.meta_path.insert(0, Slow())
from universality.service import attempt
if sys.argv[1] != "importing":
    from universality.service import trying
    trying.plan = lambda *_: time.sleep(600)
attempt.main()
"""


@pytest.mark.parametrize("why", ["silent", "gone", "stale", "importing"])
def test_a_jobs_process_kills_itself_when_its_runner_is_silent_or_gone(tmp_path, why):
    """Stale: it was held so long ago, before this process was ready to read, that another runner may have it. Importing: the runner goes while it still imports what jobs need."""
    held = time.monotonic() - (10_000 if why == "stale" else 0)
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, why], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    told = asked(tmp_path, silence_s=1.0 if why == "silent" else 600, held=held)
    process.stdin.write(json.dumps(told).encode() + b"\n" + f"{held}\n".encode())
    process.stdin.flush()
    if why in ("gone", "importing"):
        process.stdin.close()
    assert process.wait(PATIENCE_S) == -signal.SIGKILL
    process.stdout.close()
    if why in ("silent", "stale"):
        process.stdin.close()


@pytest.mark.slow
def test_a_job_of_the_service_has_the_tables_of_the_command_line(jobs, tmp_path):
    """The real program in the real runner process, which is killed once while the job runs."""
    row = jobs.submit(small_job(), "anna")
    service = RunnerProcess(settings(tmp_path, lease_s=2.0))
    service.start()
    try:
        until(lambda: jobs.get(row.id).state == "running")
        os.kill(service.pid, signal.SIGKILL)
        until(lambda: jobs.get(row.id).state == "done")
    finally:
        service.stop()
    assert jobs.get(row.id).attempts == 2
    found = progress(jobs.events(row.id))
    told = {stage["description"] for stage in found["stages"]}
    assert len(told) > 1 and told <= set(found["plan"]["seconds"])  # no stage was forgotten in the time that is left
    alone = universality.run(small_job(), tmp_path / "alone", store=tmp_path / "other", threads=1)
    for name in alone.tables:
        ours, theirs = (
            (folder / f"{name}.parquet").read_bytes() for folder in (tmp_path / "runs" / row.run, alone.path)
        )
        assert ours == theirs, name
