"""The process that runs a service's jobs: it claims them, starts one process for each attempt, and says how each ends.

It computes nothing itself and may be killed at any moment: the jobs it held are claimed by the next runner once their lease
has run out, and go on where they stopped. Several runners may work on one database.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.exc import DBAPIError

from universality.service.database import Database
from universality.service.queue import Claim, Queue
from universality.service.settings import Settings, from_plain
from universality.service.states import Action

_LOOK_EVERY_S = 0.25
_BACKOFF_S, _LONGEST_BACKOFF_S = 2.0, 60.0
_KEPT_LOG_BYTES = 1 << 20
PROGRAM = (sys.executable, "-m", "universality.service.attempt")


@dataclass
class Attempt:
    """A job's process, what it has said that is not in the database yet, and why it was stopped, if it was."""

    claim: Claim
    process: subprocess.Popen[bytes]
    log: Path
    messages: queue.SimpleQueue[dict[str, Any] | None]
    reader: threading.Thread
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    gained: int = -1
    outcome: dict[str, Any] | None = None
    closed: bool = False
    cancelled: bool = False
    refused: str = ""

    def take(self) -> None:
        """Take in what the process has said."""
        with contextlib.suppress(queue.Empty):
            while True:
                message = self.messages.get_nowait()
                if message is None:
                    self.closed = True
                elif "ended" in message:
                    self.outcome = message
                elif "gained" in message:
                    self.gained = message["gained"]
                else:
                    self.notes.append((message["kind"], message["data"]))

    def stop(self) -> None:
        """Kill the process and all that it started; those that outlive it too."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for the process, which has ended or was killed, and close what was open to it."""
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def held(self) -> None:
        """Tell the process since when its job is known to be ours: by a clock that all processes of a machine share."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.write(f"{self.heard}\n".encode())
            self.process.stdin.flush()

    def bytes_used(self) -> int:
        """Return the memory of the process and of all that it started, bytes."""
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += one.memory_info().rss
        return total


class Runner:
    """Runs the jobs of one database until it is told to stop; `program` makes one attempt at a job (`attempt`)."""

    def __init__(self, settings: Settings, jobs: Queue, program: Sequence[str] = PROGRAM) -> None:
        self.program = program
        self.settings = settings
        self.jobs = jobs
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.attempts: list[Attempt] = []
        self._renewed = 0.0

    def run(self, over: threading.Event) -> None:
        """Claim and run jobs until `over` is set; then stop what runs and put it back."""
        try:
            while not over.is_set():
                try:
                    self.step()
                except DBAPIError as cause:
                    print(
                        f"the database does not answer ({type(cause).__name__}); trying again",
                        file=sys.stderr,
                        flush=True,
                    )
                    over.wait(1.0)
                self._stop_what_is_not_held()
                over.wait(_LOOK_EVERY_S)
        finally:
            self._put_back()

    def step(self) -> None:
        """Look once at everything: leases, what the processes said, which ended, and whether there is more to do."""
        if time.monotonic() - self._renewed >= min(1.0, self.jobs.lease_s / 5):
            self._renew(time.monotonic())
            self.jobs.expire()
        for attempt in list(self.attempts):
            self._look(attempt)
        while len(self.attempts) < self.settings.at_once:
            asked = time.monotonic()  # the lease begins no earlier
            if (claim := self.jobs.claim(self.name)) is None:
                break
            self.attempts.append(self._begin(claim, asked))

    def _begin(self, claim: Claim, held: float) -> Attempt:
        settings = self.settings
        settings.logs.mkdir(parents=True, exist_ok=True)
        log = settings.logs / f"{claim.id}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [*self.program, claim.id],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
        messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_listen, args=(process, messages), daemon=True)
        reader.start()
        attempt = Attempt(claim, process, log, messages, reader, heard=held)
        workers = {"scheduler": settings.scheduler, "workers": settings.workers, "threads": settings.threads}
        asked = {
            "job": claim.job, "out": str(settings.runs / claim.run), "store": settings.stores,
            "silence_s": 0.7 * self.jobs.lease_s, "held": held, "workers": workers,
        }  # fmt: skip
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        return attempt

    def _renew(self, now: float) -> None:
        held = self.jobs.renew(self.name, [attempt.claim for attempt in self.attempts])
        self._renewed = now
        for attempt in list(self.attempts):
            if attempt.claim.id not in held:
                attempt.stop()
                attempt.close()
                self.attempts.remove(attempt)
                continue
            attempt.heard = now
            attempt.held()
            self._limit(attempt, now, cancel=held[attempt.claim.id])

    def _limit(self, attempt: Attempt, now: float, *, cancel: bool) -> None:
        """Stop a job that somebody cancelled, or that takes more than it may."""
        limits = self.settings.limits
        if cancel:
            attempt.cancelled = True
        elif now - attempt.began > limits.job_seconds:
            attempt.refused = (
                f"it ran longer than the {limits.job_seconds:.0f} s that this service allows; divide the job"
            )
        elif (used := attempt.bytes_used()) > limits.job_bytes:
            attempt.refused = (
                f"it took {used / 1e6:.0f} MB of memory, this service allows {limits.job_bytes / 1e6:.0f} MB; compare fewer "
                "networks or taps at a time"
            )
        if attempt.cancelled or attempt.refused:
            attempt.stop()

    def _look(self, attempt: Attempt) -> None:
        """Write down what a process said, and end its job if it has ended."""
        attempt.take()
        ended = attempt.process.poll() is not None and attempt.closed
        if attempt.notes:
            self.jobs.note(self.name, attempt.claim, attempt.notes)
            attempt.notes = []
        if not ended:
            return
        attempt.stop()  # whatever of its group is left
        self._ended(attempt)
        attempt.close()
        self.attempts.remove(attempt)
        _shorten(attempt.log)

    def _ended(self, attempt: Attempt) -> None:
        claim, outcome = attempt.claim, attempt.outcome or {}
        if outcome.get("ended") == "done":
            self.jobs.end(self.name, claim, Action.FINISH)
        elif attempt.cancelled:
            self.jobs.end(self.name, claim, Action.CANCEL)
        elif attempt.refused:
            self.jobs.end(self.name, claim, Action.FAIL, f"the job was stopped: {attempt.refused}")
        elif outcome.get("ended") == "failed":
            self.jobs.end(self.name, claim, Action.FAIL, outcome["error"])
        else:
            self._again(attempt, outcome.get("error") or _death(attempt))

    def _again(self, attempt: Attempt, why: str) -> None:
        """Put a job back whose process died or whose scheduler is away, unless that happened too often with nothing gained."""
        deaths = self.jobs.deaths(self.name, attempt.claim, attempt.gained)
        if deaths is None:
            return
        if deaths >= self.settings.limits.job_deaths:
            self.jobs.end(
                self.name, attempt.claim, Action.FAIL, f"{why}, {deaths} times in a row; see the log of the service"
            )
        else:
            wait_s = min(_BACKOFF_S * 2 ** min(deaths - 1, 10), _LONGEST_BACKOFF_S)
            self.jobs.give_back(self.name, attempt.claim, why, after_s=wait_s)

    def _stop_what_is_not_held(self) -> None:
        """Kill attempts whose lease could not be renewed for so long that another runner may take them."""
        for attempt in self.attempts:
            if time.monotonic() - attempt.heard > 0.7 * self.jobs.lease_s:
                attempt.stop()

    def _put_back(self) -> None:
        for attempt in self.attempts:
            attempt.stop()
            attempt.close()
            with contextlib.suppress(DBAPIError):
                self.jobs.give_back(self.name, attempt.claim, "the service stopped")
        self.attempts = []


def _listen(process: subprocess.Popen[bytes], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):  # the last line of one that was killed may be half a line
            messages.put(json.loads(line))
    messages.put(None)


def _death(attempt: Attempt) -> str:
    """Return how a process ended that did not say so itself."""
    status = attempt.process.returncode
    if status < 0:
        name = signal.Signals(-status).name
        return f"the job's process was killed by {name} (out of memory, or a crash of a library)"
    return f"the job's process ended with status {status}: {_last_line(attempt.log)}"


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text("utf-8", errors="replace")[-4000:].strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"
    return "its log cannot be read"


def _shorten(log: Path) -> None:
    """Keep the end of a long log, and none that is empty."""
    with contextlib.suppress(OSError):
        size = log.stat().st_size
        if not size:
            log.unlink()
        elif size > _KEPT_LOG_BYTES:
            log.write_bytes(log.read_bytes()[-_KEPT_LOG_BYTES:])


def main() -> None:
    """Run jobs until the standard input ends: whoever started this is gone then, or wants it to stop."""
    settings = from_plain(json.loads(sys.stdin.readline()))
    over = threading.Event()

    def listen() -> None:
        while sys.stdin.readline():
            pass
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    database = Database(settings.database)
    Runner(settings, Queue(database, settings.lease_s)).run(over)
    database.close()


class RunnerProcess:
    """The runner of a service, in a process of its own that is started again whenever it ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the runner."""
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        """Have the runner put back what it runs and end."""
        self._over.set()
        if (process := self._process) is not None:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
            try:
                process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(patience_s)

    def _keep(self) -> None:
        wait_s = 0.5
        while not self._over.is_set():
            began = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "universality.service.runner"], stdin=subprocess.PIPE, start_new_session=True
            )
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(asdict(self._settings), default=str).encode() + b"\n")
                self._process.stdin.flush()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            wait_s = 0.5 if time.monotonic() - began > 10 else min(2 * wait_s, 30.0)
            self._over.wait(wait_s)


if __name__ == "__main__":
    main()
