"""What a service is started with. Nothing of it ever comes from a request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from universality.base.errors import ServiceError, did_you_mean
from universality.base.paths import DEFAULT_RUNS, DEFAULT_STORE
from universality.base.toml import parse_toml

DEFAULT_DATABASE = "data/service/service.db"
DEFAULT_LOGS = "data/service/logs"


@dataclass(frozen=True)
class Limits:
    """What one request, one job and one user may take.

    Attributes
    ----------
    body_bytes : of the body of a request, uploads aside
    upload_bytes, upload_tensors : of an uploaded checkpoint
    requests_per_minute : of one token, or of one address without a token
    refusals_per_minute : requests with a wrong token from one address, before all its requests are refused for a minute
    waiting_jobs : jobs of one user that wait or run
    models, taps, images : of a job: networks, taps of all networks, images of all stimulus sets shown to one network
    draws : resamples, permutations and random bases of a job, each
    job_seconds : of one attempt at a job, s
    job_bytes : memory of a job's processes, bytes, looked at every second
    job_deaths : how often in a row the process of a job may die, with nothing gained between, before the job fails
    plan_seconds : to plan a job, s
    rows : of one page of a table as JSON
    """

    body_bytes: int = 1 << 20
    upload_bytes: int = 1 << 30
    upload_tensors: int = 10_000
    requests_per_minute: int = 1200
    refusals_per_minute: int = 20
    waiting_jobs: int = 50
    models: int = 24
    taps: int = 200
    images: int = 50_000
    draws: int = 10_000
    job_seconds: float = 12 * 3600.0
    job_bytes: int = 16 << 30
    job_deaths: int = 5
    plan_seconds: float = 60.0
    rows: int = 10_000


@dataclass(frozen=True)
class Settings:
    """Where a service listens, what it reads and writes, and who computes.

    Attributes
    ----------
    runs : folder of the runs; every run in it is shown, and jobs write theirs into it
    stores : folder or URL of the activations
    database : SQLAlchemy URL of the jobs, tokens, notes and lists
    logs : folder of what the processes of jobs print
    host, port : where the service listens
    names : host names under which others reach it through a reverse proxy; with one, everybody needs a token
    scheduler : address of a Dask scheduler; None for local workers
    workers, threads : local worker processes of a job (None: threads of the job's own process), and threads of each
    at_once : jobs that run at the same time
    lease_s : how long a job belongs to a runner that says nothing, s
    limits : what requests and jobs may take
    """

    runs: Path = Path(DEFAULT_RUNS)
    stores: str = DEFAULT_STORE
    database: str = f"sqlite:///{DEFAULT_DATABASE}"
    logs: Path = Path(DEFAULT_LOGS)
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    scheduler: str | None = None
    workers: int | None = None
    threads: int | None = None
    at_once: int = 1
    lease_s: float = 15.0
    limits: Limits = field(default_factory=Limits)

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the service, so that nobody needs a token."""
        return is_loopback(self.host) and not self.names

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_database(url: str) -> None:
    """Raise `ServiceError` for an address that names no database of a known kind."""
    kind = url.partition(":")[0]
    if kind not in ("sqlite", "postgresql", "postgresql+psycopg"):
        raise ServiceError(
            f"database '{url}' is of a kind that is not known, expected sqlite:///FILE or postgresql://USER@HOST/NAME; correct --database"
        )


def read_limits(path: Path | None) -> Limits:
    """Return the limits that a TOML file states, the others as they are by default; raise `ServiceError` for what is no limit."""
    if path is None:
        return Limits()
    values = parse_toml(path, "limits", ServiceError)
    known = {entry.name: entry for entry in fields(Limits)}
    for name, value in values.items():
        if name not in known:
            raise ServiceError(f"limits '{path}': unknown limit '{name}'{did_you_mean(name, known)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ServiceError(f"limits '{path}': '{name}' is {value!r}, expected a number above 0")
    return Limits(**values)


def from_plain(values: dict[str, Any]) -> Settings:
    """Return settings from plain values, as a service hands them to its own processes."""
    limits = Limits(**values["limits"])
    paths = {name: Path(values[name]) for name in ("runs", "logs")}
    return Settings(**{**values, **paths, "names": tuple(values["names"]), "limits": limits})
