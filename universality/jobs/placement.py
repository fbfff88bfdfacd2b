"""Where a job's images are shown: which device a job means, and whether the workers have it, before anything is submitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from universality.base.errors import DeviceError
from universality.jobs.workers import GPU, Workers, elsewhere, workers_of
from universality.runs.job import Job, read_job

if TYPE_CHECKING:
    from distributed import Client


def gpus_here() -> int:
    """Return how many GPUs Torch can use in this process; only jobs that may want one ask."""
    from universality.activations import devices

    return devices.count()


def settled(job: Job, device: str | None = None) -> Job:
    """Return a job whose device is cpu or cuda: ``auto`` becomes `device`, by default what this process has.

    Keys, digests and records are made of the settled job only, so that one that was settled otherwise elsewhere is
    another job and shares no activations with this one.
    """
    if job.extraction.device != "auto":
        return job
    found = device or ("cuda" if gpus_here() else "cpu")
    return job.model_copy(update={"extraction": job.extraction.model_copy(update={"device": found})})


def for_workers(job_path: str | Path | Job, workers: Workers) -> Job:
    """Return the job, read and settled on what the workers that will compute declare.

    A scheduler, a client that was given and the active one are asked; local workers have what this process has.
    """
    job = job_path if isinstance(job_path, Job) else read_job(Path(job_path))
    if job.extraction.device != "auto" or not elsewhere(workers):
        return settled(job)
    from universality.jobs.scheduling import comparison_client

    with comparison_client(workers) as client:
        return settled(job, "cuda" if gpu_workers(client) else "cpu")


def with_gpus(workers: Workers, job: Job) -> Workers:
    """Return the workers; those that a job on GPUs will open here declare this machine's."""
    return replace(workers, gpus=gpus_here()) if job.extraction.device == "cuda" else workers


def gpu_workers(client: Client) -> list[str]:
    """Return the addresses of the workers that declare a GPU."""
    return [address for address, worker in workers_of(client).items() if worker["resources"].get(GPU)]


def require_gpus(client: Client) -> None:
    """Refuse workers of which none declares a GPU, or one declares what Torch cannot use there.

    Dask would wait for ever for the first, and tasks would fail one by one on the second.

    Raises
    ------
    DeviceError
    """
    known, found = workers_of(client), gpu_workers(client)
    if not found:
        address = "" if client.scheduler is None else client.scheduler.address
        raise DeviceError(
            f"extraction.device = 'cuda' needs a worker that declares the resource {GPU}, came {len(known)} worker(s) without; "
            f"start some with `dask worker {address} --resources {GPU}=1` or dask-cuda, or set "
            "extraction.device = 'cpu'"
        )
    for address, usable in client.run(gpus_here, workers=found, on_error="return").items():
        if usable == 0:
            raise DeviceError(
                f"worker '{address}' declares the resource {GPU}, expected a GPU that Torch can use there, came none; check its "
                "driver, its build of Torch and CUDA_VISIBLE_DEVICES, or start it without the resource"
            )


def refuse_here(workers: Workers) -> None:
    """Refuse to open local workers for GPUs on a machine without one.

    Raises
    ------
    DeviceError
    """
    if not (elsewhere(workers) or workers.gpus):
        raise DeviceError(
            "extraction.device = 'cuda' needs a GPU that Torch can use, came none on this machine; give --scheduler with "
            "workers that have one, or set extraction.device = 'cpu'"
        )
