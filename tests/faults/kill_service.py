"""Kill the parts of a service at random moments, and compare the tables of every accepted job with an undisturbed run's.

    python tests/faults/kill_service.py --kills 50 --report kills.md
    python tests/faults/kill_service.py --kills 50 --database postgresql --report kills.md

Most kills wait until everything is up again and a job runs, some hit a service that is still starting. Two services share one database and one Dask scheduler with a worker; whatever is killed is started again, as an init system does.
Jobs of seconds, each with images of its own, are submitted all the time by a client that tries again when a connection breaks. In the end every job
that was accepted must be done, once, with the tables of `universality.run`; meanwhile nothing may run one job twice at the same
time, which is looked for ten times a second. On PostgreSQL the database server is killed too.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
import tiny

import universality
from universality.base.toml import toml_of
from universality.runs.job import Job, job_of

PARTS = ("web", "runner", "job", "worker", "scheduler", "database")
PATIENCE_S = 900.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Kept:
    """A process that is started again whenever it ends."""

    def __init__(
        self, command: list[str], log: Path, before: Callable[[], object] = lambda: None, **how: object
    ) -> None:
        self._command, self._log, self._before, self._how = command, log, before, how
        self._over = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._over.is_set():
            self._before()
            with self._log.open("ab") as log:
                self.process = subprocess.Popen(
                    self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._how
                )
            self.starts += 1
            self.process.wait()
            self._over.wait(0.5)

    def end(self) -> None:
        self._over.set()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
        self._thread.join(5)


def kept_postgres(folder: Path) -> tuple[Kept, str]:
    """Start a PostgreSQL server of one's own, which does not run as root, and return it with its URL."""
    port, data = free_port(), folder / "postgres"
    data.mkdir()
    how: dict[str, object] = {}
    if os.getuid() == 0:
        for part in (folder, *folder.parents[:-1]):
            part.chmod(part.stat().st_mode | 0o111)
        owner = pwd.getpwnam("postgres")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        how = {"user": "postgres", "group": owner.pw_gid}
    subprocess.run(
        ["initdb", "-D", str(data), "-A", "trust", "-U", "universality", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        **how,
    )
    lock = data / "postmaster.pid"
    server = Kept(
        ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-c", "log_min_messages=fatal"],
        folder / "postgres.log", before=lambda: lock.unlink(missing_ok=True), **how,
    )  # fmt: skip
    return server, f"postgresql://universality@127.0.0.1:{port}/postgres"


def of_module(module: str) -> list[psutil.Process]:
    """The processes that run a module of the service."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if module in (process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return 0


class Twice:
    """Looks ten times a second whether two processes run the same job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: list[str] = []
        self.looks = self.children = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.looks += 1
            by_job: dict[str, list[psutil.Process]] = {}
            for process in of_module("universality.service.attempt"):
                by_job.setdefault(process.info["cmdline"][-1], []).append(process)
            for job, found in by_job.items():
                # A child that is about to become another program has its parent's command line for a moment.
                own = {process.pid for process in found}
                parents = [process for process in found if _parent(process) not in own]
                self.children += len(found) - len(parents)
                if len(parents) > 1:
                    self.seen.append(f"{job}: {[(p.pid, _parent(p), p.info['status']) for p in found]}")

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Trial:
    """Two services, their scheduler, worker and database, and the jobs that were accepted."""

    def __init__(self, folder: Path, database: str, unfinished: int) -> None:
        self.folder = folder
        self._unfinished = unfinished
        log = folder / "logs"
        log.mkdir()
        self.database: Kept | None = None
        url = f"sqlite:///{folder / 'service.db'}"
        if database == "postgresql":
            self.database, url = kept_postgres(folder)
            time.sleep(3)
        port = free_port()
        address = f"tcp://127.0.0.1:{port}"
        dask = [sys.executable, "-m", "distributed.cli"]
        self.scheduler = Kept(
            [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            log / "scheduler",
        )
        worker = [
            *dask[:2],
            "distributed.cli.dask_worker",
            address,
            "--nthreads",
            "2",
            "--no-nanny",
            "--no-dashboard",
            "--death-timeout",
            "30",
        ]
        self.worker = Kept([*worker, "--local-directory", str(folder / "dask")], log / "worker")
        limits = folder / "limits.toml"
        limits.write_text("job_deaths = 100\nrequests_per_minute = 100000\n")
        self.ports = [free_port(), free_port()]
        self.services = [
            Kept(
                [sys.executable, "-m", "universality", "serve", "--port", str(port), "--runs", str(folder / "runs"), "--store", str(folder / "store"),
                 "--database", url, "--scheduler", address, "--limits", str(limits)],
                log / f"service{n}", cwd=folder,
            )
            for n, port in enumerate(self.ports)
        ]  # fmt: skip
        self.clients = [universality.Client(f"http://127.0.0.1:{port}", timeout_s=120) for port in self.ports]
        self.probes = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) for port in self.ports]
        self.jobs: dict[str, Job] = {}
        self._over = threading.Event()
        self._submitting = threading.Thread(target=self._submit, daemon=True)

    def start(self) -> None:
        """Wait until both services answer, then keep submitting."""
        for probe in self.probes:
            tiny.wait_until(lambda probe=probe: _answers(probe), 300)
        self._submitting.start()

    def _submit(self) -> None:
        while not self._over.wait(0.5):
            client = random.choice(self.clients)
            with contextlib.suppress(universality.UniversalityError):
                if sum(job["state"] in ("waiting", "running") for job in client.jobs(500)) >= self._unfinished:
                    continue
                values = toml_of(tiny.JOB, "the job", "job", universality.UniversalityError)
                values["stimuli"]["natural"]["seed"] = len(self.jobs)
                job = job_of(values, "the job")
                self.jobs[client.submit(job)] = job

    def whole(self) -> bool:
        """Return whether everything is up again and a job runs."""
        there = self.victims()
        parts = {"web", "runner", "job", "worker", "scheduler"} | ({"database"} if self.database is not None else set())
        return parts <= set(there) and all(_answers(probe) for probe in self.probes)

    def stop_submitting(self) -> None:
        self._over.set()
        self._submitting.join()

    def victims(self) -> dict[str, list[int]]:
        """Return what can be killed now, by part."""
        own = {kept.process.pid for kept in self.services if kept.process is not None and kept.process.poll() is None}
        runners = [p.pid for p in of_module("universality.service.runner") if p.ppid() in own]
        # Other services of this machine may run jobs too: only those that were accepted here are killed.
        attempts = [p.pid for p in of_module("universality.service.attempt") if p.info["cmdline"][-1] in self.jobs]
        found = {"web": list(own), "runner": runners, "job": attempts}
        for name, kept in (("worker", self.worker), ("scheduler", self.scheduler), ("database", self.database)):
            if kept is not None and kept.process is not None and kept.process.poll() is None:
                found[name] = [kept.process.pid]
        return {name: pids for name, pids in found.items() if pids}

    def ended(self) -> list[dict[str, object]]:
        """Wait until every job has ended and return them."""

        def all_ended() -> bool:
            with contextlib.suppress(universality.UniversalityError):
                return all(self.clients[0].job(job)["state"] not in ("waiting", "running") for job in self.jobs)
            return False

        tiny.wait_until(all_ended, PATIENCE_S)
        return [self.clients[0].job(job) for job in self.jobs]

    def close(self) -> None:
        for kept in (*self.services, self.worker, self.scheduler, self.database):
            if kept is not None:
                kept.end()


def _answers(probe: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return probe.get("/api/v1/jobs", params={"limit": 1}).status_code == 200
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--after", type=float, nargs=2, default=(0.0, 10.0), help="s until the next kill, once everything is up again"
    )
    parser.add_argument("--unready", type=float, default=0.25, help="share of kills that do not wait for that")
    parser.add_argument(
        "--unfinished", type=int, default=2, help="jobs that wait or run before another one is submitted"
    )
    parser.add_argument("--minutes", type=float, default=120.0, help="no more kills after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    folder = Path(tempfile.mkdtemp(prefix="universality-kill-service-"))
    trial = Trial(folder, asked.database, asked.unfinished)
    kills: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    twice = Twice(folder)
    try:
        trial.start()
        while sum(kills.values()) < asked.kills and time.monotonic() - began < 60 * asked.minutes:
            if rng.random() > asked.unready:
                with contextlib.suppress(TimeoutError):
                    tiny.wait_until(trial.whole, 240)
            time.sleep(rng.uniform(*asked.after))
            there = trial.victims()
            part = rng.choice([name for name in PARTS if name in there])
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(there[part]), signal.SIGKILL)
                kills[part] += 1
                print(
                    f"{time.monotonic() - began:.0f} s: killed {part} ({sum(kills.values())} of {asked.kills}), {len(trial.jobs)} jobs accepted",
                    flush=True,
                )
        trial.stop_submitting()
        jobs = trial.ended()
        events = {
            job: [data["state"] for _, kind, data in trial.clients[0].events(job) if kind == "state"]
            for job in trial.jobs
        }
    finally:
        twice.end()
        trial.close()
    same = 0
    for job, spec in trial.jobs.items():
        out = folder / "alone" / job
        universality.run(spec, out, store=folder / "alone" / "store", threads=1)
        run = folder / "runs" / f"{spec.name}-{job}"
        same += run.is_dir() and tiny.table_hashes(out) == tiny.table_hashes(run)
    took = time.monotonic() - began
    states = collections.Counter(str(job["state"]) for job in jobs)
    once = sum(states_of.count("done") == 1 for states_of in events.values())
    begun = sum(int(str(job["attempts"])) for job in jobs)
    lines = [
        "| part killed with SIGKILL | kills |", "|---|---|", *(f"| {part} | {kills[part]} |" for part in PARTS if kills[part]), f"| all | {sum(kills.values())} |", "",
        "| what became of the jobs | number |", "|---|---|", f"| accepted | {len(jobs)} |", f"| begun (attempts) | {begun} |",
        f"| done | {states['done']} |", f"| failed or cancelled | {len(jobs) - states['done']} |", f"| ended exactly once | {once} |",
        f"| tables identical to an undisturbed run's, to the byte | {same} |",
        f"| moments at which a job ran twice (of {twice.looks} looks) | {len(twice.seen)} |",
        f"| minutes | {took / 60:.0f} |",
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text)
    print(f"children of jobs' processes seen before they became another program: {twice.children}")
    print(*twice.seen, sep="\n")
    for job in jobs:
        if job["state"] != "done":
            print(job)
    if asked.report is not None:
        asked.report.write_text(text)
    if same == once == states["done"] == len(jobs) and not twice.seen:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        sys.exit(f"not all is well: see {folder}")


if __name__ == "__main__":
    main()
