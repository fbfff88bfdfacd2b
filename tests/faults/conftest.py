"""The undisturbed run of the short job, with which every disturbed one is compared."""

from pathlib import Path

import pytest
import tiny

import universality


def _run_tiny(folder: Path) -> None:
    universality.run(tiny.write_job(folder), folder / "run", store=folder / "store", threads=1)


@pytest.fixture(scope="session")
def done(once) -> Path:
    """Folder with job, run and store; tests that run or damage anything work on a copy."""
    return once("tiny", _run_tiny)
