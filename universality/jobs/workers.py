"""Which workers a job asks for, and what is said of tasks that failed on them; Dask is imported where a cluster is opened (`scheduling`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from universality.base.errors import TasksFailedError, UniversalityError

if TYPE_CHECKING:
    from distributed import Client

GPU = "GPU"
"""The resource of which a worker declares one for each of its GPUs, and a task that shows images on a GPU takes one."""


@dataclass(frozen=True)
class Workers:
    """Who computes.

    Attributes
    ----------
    client : used and left open; without it `scheduler`, else the active client, else a local cluster
    scheduler : address of a Dask scheduler
    processes : local worker processes; None for threads of this process
    threads : threads of each worker; None for the machine's cores divided among the processes
    memory : limit of each local process, such as ``"4GB"``; a worker above it is restarted
    retries : how often a task that failed is tried again
    gpus : GPUs that local workers declare and use, one task at a time on each
    """

    client: Client | None = None
    scheduler: str | None = None
    processes: int | None = None
    threads: int | None = None
    memory: str | None = None
    retries: int = 0
    gpus: int = 0

    def threads_each(self) -> int:
        """Return the threads of each local worker."""
        return self.threads or max((os.cpu_count() or 1) // (self.processes or 1), 1)


def single_threaded() -> None:
    """Give this thread's task one thread of the linear algebra and of Torch: the other cores have tasks of their own.

    Tasks that need Torch import it with their module, before this is called; a process that only compares has none.
    """
    threadpool_limits(limits=1)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """Return what the scheduler knows of each worker, by address."""
    # Some releases tell of five workers only, unless they are asked for all.
    return dict(client.scheduler_info(n_workers=-1)["workers"])


def elsewhere(workers: Workers) -> bool:
    """Return whether workers compute that were not started here: a client, a scheduler, or the active client's."""
    return bool(workers.client or workers.scheduler or active(workers))


def active(workers: Workers) -> Client | None:
    """Return the client that is active in this thread, unless local workers are asked for."""
    if workers.processes is not None or workers.threads is not None:
        return None
    if "distributed" not in sys.modules:
        return None  # who has a client has imported Dask
    from distributed import get_client

    try:
        found = get_client()
        # One that never reached its scheduler stays the active one; one that has lost it is an error, which is said later.
        return None if found.status == "connecting" else found
    except ValueError:
        return None


@dataclass(frozen=True)
class Failure:
    """A task that failed: what it was for, and why; `error` where a user's mistake is the cause.

    `lost` says that workers died with it. Dask blames every task that waited on a worker for the worker's death, so who
    is lost in company is a suspect only: it has to be tried once more alone.
    """

    label: str
    cause: str
    error: UniversalityError | None = None
    lost: bool = False

    @classmethod
    def of(cls, label: str, cause: BaseException | None) -> Failure:
        """Return the failure of the task `label` with its exception."""
        if isinstance(cause, UniversalityError):
            return cls(label, str(cause), cause)
        from distributed.scheduler import KilledWorker

        if isinstance(cause, KilledWorker):
            return cls(label, "the worker died every time (killed, or out of memory)", lost=True)
        return cls(label, f"{type(cause).__name__}: {cause}")


def raise_failures(failures: Sequence[Failure], total: int) -> None:
    """Raise one sentence for all failures among `total` tasks; a single user's mistake speaks for itself."""
    if not failures:
        return
    first = failures[0]
    if first.error is not None and all(failure.cause == first.cause for failure in failures):
        raise first.error
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    raise TasksFailedError(
        f"{len(failures)} of {total} tasks failed: '{first.label}' with {first.cause}{others}; mend the cause and run the "
        "job again, what is finished is kept"
    )
