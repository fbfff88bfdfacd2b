"""The undisturbed run of the short job, with which every disturbed one is compared."""

from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import apart  # noqa: F401 - says what the fork server imports
import dask
import pytest
import tiny

import universality


def _run_tiny(folder: Path) -> None:
    universality.run(tiny.write_job(folder), folder / "run", store=folder / "store", threads=1)


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    """Worker processes are forked from a process that has imported everything, where a job would start them by themselves."""
    forkserver.ensure_running()  # before Dask would have it import something else
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.fixture(scope="session")
def done(once) -> Path:
    """Folder with job, run and store; tests that run or damage anything work on a copy."""
    return once("tiny", _run_tiny)
