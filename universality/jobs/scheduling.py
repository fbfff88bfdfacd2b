"""The cluster that computes: opened here or elsewhere, watched, and what happens when a worker or the scheduler is lost.

Threads are decided here for every stage: one thread of Torch and of the linear algebra in each task, as many tasks at a
time as the workers have threads. So nothing depends on how many threads a machine has, to the last bit.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from distributed import Client, Future, LocalCluster, wait
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from threadpoolctl import threadpool_limits

from universality.base import memory
from universality.base.errors import JobError, RunError, SchedulerAwayError, SchedulerLostError
from universality.jobs import agreement
from universality.jobs.workers import GPU, Workers, active, elsewhere, workers_of

WORKER_TIMEOUT_S = 30.0
SCHEDULER_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 0.5
_HERE = "127.0.0.1"
_LASTING = {"distributed.scheduler.worker-ttl": None, "distributed.deploy.lost-worker-timeout": "1h"}
"""Dask's settings by which local workers last as long as their cluster. Nobody looks whether they are silent: a clock that
jumps ahead, or a computer that slept, would make all of them so, and one that dies closes its connection. A worker that has
died is started again; Dask looks some time after each death, and gives one up for ever that happens to be absent then, which
is likely after 15 s (its default) where one task kills it again and again."""

_UNSAMPLED = {"distributed.worker.profile.enabled": False}
"""Dask's sampling of what its workers do, a hundred times a second, takes 2 to 3 % of a processor as long as the cluster is
there, busy or not. Nothing of a run reads it; of the dashboard it is the page of profiles."""


@contextmanager
def opener(workers: Workers, say: Callable[[str], None] = lambda _: None) -> Iterator[Callable[[], Client]]:
    """Yield a function that returns the workers' client, opened when first asked for; close only what was opened here.

    Where the scheduler has a dashboard, `say` is told its address.
    """
    with ExitStack() as stack:
        opened: list[Client] = []

        def client() -> Client:
            if not opened:
                own = not elsewhere(workers)
                opened.append(stack.enter_context(comparison_client(workers)))
                if not own or workers.processes is not None:
                    agreement.require(opened[0])
                if address := dashboard(opened[0], own):
                    say(f"dashboard: {address}")
            return opened[0]

        yield client


@contextmanager
def comparison_client(workers: Workers) -> Iterator[Client]:
    """Yield the given client, one for the scheduler, the active one, or a local one; close only what was opened here."""
    if workers.client is not None:
        yield workers.client
    elif workers.scheduler is not None:
        with _remote(workers.scheduler) as client:
            yield client
    elif (found := active(workers)) is not None:
        yield found
    else:
        with _local(workers) as client:
            yield client


def dashboard(client: Client, own: bool = False) -> str | None:
    """Return the address of the scheduler's dashboard; None where it has none, or nothing to draw one with.

    `own` says that the scheduler was started here: it listens at `_HERE` only, and Dask would name the machine's address.
    """
    try:
        port = client.scheduler_info()["services"].get("dashboard")
        # A lambda travels by value: the scheduler need not have this package.
        if port is None or not client.run_on_scheduler(lambda: importlib.util.find_spec("bokeh") is not None):
            return None
        return f"http://{_HERE}:{port}/status" if own else str(client.dashboard_link)
    except Exception:  # what only shows a run must not end it
        return None


@contextmanager
def _remote(address: str) -> Iterator[Client]:
    timeout = f"{SCHEDULER_TIMEOUT_S:g}s"
    try:
        # A client that fails stays Dask's default, and whatever is computed in this process afterwards waits for it for ever: a first one tries the address.
        Client(address, timeout=timeout, set_as_default=False).close()
        opened = Client(address, timeout=timeout)
    except OSError as cause:  # Dask's time-out is one
        raise SchedulerAwayError(
            f"no Dask scheduler answers at '{address}' ({type(cause).__name__}); start it, or leave out --scheduler"
        ) from None
    except (ValueError, TypeError, RuntimeError, ImportError) as cause:
        said = str(cause).splitlines()[0] if str(cause) else "no reason"
        raise JobError(
            f"Dask cannot use the scheduler's address '{address}' ({type(cause).__name__}: {said}), expected one such as "
            "tcp://host:8786; correct --scheduler"
        ) from None
    with opened:
        try:
            opened.wait_for_workers(1, timeout=WORKER_TIMEOUT_S)
        except TimeoutError:
            raise SchedulerAwayError(
                f"the Dask scheduler at '{address}' has no worker after {WORKER_TIMEOUT_S:g} s; start one with "
                f"`dask worker {address}`"
            ) from None
        yield opened


@contextmanager
def _local(workers: Workers) -> Iterator[Client]:
    settings: dict[str, Any] = {
        "n_workers": workers.processes or 1,
        "threads_per_worker": workers.threads_each(),
        "dashboard_address": f"{_HERE}:0",
        "worker_dashboard_address": f"{_HERE}:0",
        "silence_logs": 50,
    }
    kind: type[LocalCluster] = LocalCluster
    if workers.processes is None:
        memory.keep_freed_memory()  # before the workers' threads start
        settings |= {"processes": False, "memory_limit": 0, "resources": {GPU: workers.gpus} if workers.gpus else None}
    else:
        settings |= {"processes": True, "memory_limit": workers.memory or "auto"}
        if workers.gpus:
            from universality.activations import devices

            kind, settings = _OneGpuEach, settings | {"gpus": devices.visible()}
    # Where networks are shown images, their module has imported Torch by now; comparisons need none.
    torch = sys.modules.get("torch")
    of_torch = None if torch is None else torch.get_num_threads()
    try:
        with (
            threadpool_limits(limits=1),
            dask.config.set(_LASTING | _UNSAMPLED),
            _one_arena(),
            _started(kind, settings) as cluster,
            Client(cluster) as opened,
        ):
            if workers.gpus and workers.processes:
                opened.wait_for_workers(workers.processes, timeout=4 * WORKER_TIMEOUT_S)
            yield opened
    finally:
        if torch is not None:
            torch.set_num_threads(of_torch)


@contextmanager
def _one_arena() -> Iterator[None]:
    """Have the threads of each process that Dask starts use one arena, see `memory.keep_freed_memory`.

    What a cluster is given as ``env`` is set when the process runs, too late for its glibc. Dask sets this in the calling
    process as well, and leaves it there.
    """
    name = "MALLOC_ARENA_MAX"
    unset = name not in os.environ
    try:
        with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": 1}):
            yield
    finally:
        if unset:
            os.environ.pop(name, None)


class _OneGpuEach(LocalCluster):
    """Local processes, of which the first ones are given one GPU each and declare it; the others see none."""

    def __init__(self, n_workers: int, gpus: Sequence[str], **settings: Any) -> None:
        self._gpus = gpus
        super().__init__(n_workers=0, **settings)  # type: ignore[no-untyped-call]
        self.scale(n_workers)  # type: ignore[no-untyped-call]

    def new_worker_spec(self) -> dict[Any, Any]:
        """Return name and settings of the next process."""
        ((name, spec),) = super().new_worker_spec().items()  # type: ignore[no-untyped-call]
        options, own = spec["options"], self._gpus[name] if name < len(self._gpus) else None
        options = options | {
            "env": options.get("env", {}) | {"CUDA_VISIBLE_DEVICES": own or ""},
            "resources": {GPU: 1} if own else None,
        }
        return {name: spec | {"options": options}}


def _started(kind: type[LocalCluster], settings: dict[str, Any]) -> LocalCluster:
    """Start a local cluster; a worker process that dies before it has begun is one sentence."""
    try:
        return kind(**settings)
    except (RuntimeError, OSError, TimeoutError) as cause:
        root = cause.__cause__ or cause
        raise RunError(
            f"the local worker processes did not start ({type(root).__name__}: {str(root).splitlines()[0] if str(root) else 'no reason'}); "
            "run the job again, with fewer --workers if memory is short"
        ) from None


class Watch:
    """Futures under way on a client, and a look at the cluster while none of them ends.

    `needed` is a resource without which they could only wait.
    """

    def __init__(self, client: Client, needed: str | None = None) -> None:
        self.client = client
        self._needed = needed
        self.pending: set[Future[Any]] = set()
        self._alone_since: float | None = None
        self._name, self._keys = uuid.uuid4().hex, 0

    def new_key(self, name: str) -> str:
        """Return a key that Dask has not seen: under an old one it might return what it remembers."""
        self._keys += 1
        return f"{name}-{self._name}-{self._keys}"

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any, **how: Any) -> Future[Any]:
        """Submit one call, to be made with one thread by a worker that computes with what this process has."""
        call = (agreement.run_as, agreement.here(), function, *arguments)
        return self.client.submit(*call, key=self.new_key(name), pure=False, **how)

    def threads(self) -> int:
        """Return how many tasks the cluster computes at a time (at least 1)."""
        return max(sum(int(worker["nthreads"]) for worker in workers_of(self.client).values()), 1)

    def ended(self) -> set[Future[Any]]:
        """Wait for futures that have ended, take them from those under way and return them.

        Raises
        ------
        RunError
            If the scheduler is gone, or has had no worker (none with the resource that is needed) for `WORKER_TIMEOUT_S`.
        """
        while True:
            try:
                done = wait(self.pending, timeout=_LOOK_EVERY_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                self._look()
                continue
            self._alone_since = None
            self.pending -= done
            return set(done)

    def outcome(self, future: Future[Any]) -> Any:
        """Return the result or the exception of a future that has ended; None if it was lost and is under way again."""
        try:
            if future.status == "error":
                return future.exception(timeout=_LOOK_EVERY_S)
            if future.status == "finished":
                return future.result(timeout=_LOOK_EVERY_S)
        except TimeoutError:
            pass
        # The worker that held the result died: the scheduler has it computed again, or notes that nobody can.
        self.pending.add(future)
        return None

    def _look(self) -> None:
        if self.client.status == "running" and self._someone():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > WORKER_TIMEOUT_S:
            kind = f"worker with the resource {self._needed}" if self._needed else "worker"
            raise SchedulerLostError(
                f"the Dask scheduler has had no {kind} for {WORKER_TIMEOUT_S:g} s; start workers and run the job again: "
                "what is finished is kept"
            )

    def _someone(self) -> bool:
        workers = workers_of(self.client).values()
        return any(self._needed is None or worker["resources"].get(self._needed) for worker in workers)


@contextmanager
def watching(client: Client, needed: str | None = None) -> Iterator[Watch]:
    """Yield a watch; what is still under way on leaving is cancelled, a lost scheduler becomes one sentence."""
    watch = Watch(client, needed)
    try:
        yield watch
    except (CancelledError, CommClosedError, FutureCancelledError) as cause:
        raise SchedulerLostError(
            f"the Dask scheduler was lost ({type(cause).__name__}); start it and run the job again: what is finished is kept"
        ) from None
    finally:
        if watch.pending and client.status == "running":
            client.cancel(list(watch.pending))
