"""What a service is started with. Nothing of it ever comes from a request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from universality.base.errors import ServiceError
from universality.base.paths import DEFAULT_RUNS, DEFAULT_STORE

DEFAULT_DATABASE = "data/service/service.db"
DEFAULT_UPLOADS = "data/service/uploads"


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
    job_bytes : memory of a job's processes, bytes; None for no limit
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
    job_bytes: int | None = None
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
    uploads : folder of uploaded checkpoints and their cards
    host, port : where the service listens
    names : further host names under which browsers reach it, such as that of a reverse proxy
    scheduler : address of a Dask scheduler; None for local workers
    workers, threads : local worker processes of a job (None: threads of the job's own process), and threads of each
    at_once : jobs that run at the same time
    lease_s : how long a job belongs to a runner that says nothing, s
    most_deaths : how often a job's process may die with nothing gained before the job fails
    limits : what requests and jobs may take
    """

    runs: Path = Path(DEFAULT_RUNS)
    stores: str = DEFAULT_STORE
    database: str = f"sqlite:///{DEFAULT_DATABASE}"
    uploads: Path = Path(DEFAULT_UPLOADS)
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    scheduler: str | None = None
    workers: int | None = None
    threads: int | None = None
    at_once: int = 1
    lease_s: float = 15.0
    most_deaths: int = 3
    limits: Limits = field(default_factory=Limits)

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the service, so that nobody needs a token."""
        return is_loopback(self.host)

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
