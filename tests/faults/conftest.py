"""The undisturbed run of the job of seconds, against which every disturbed one is held."""

from pathlib import Path

import pytest
import tiny

import universality


@pytest.fixture(scope="session")
def done(tmp_path_factory) -> Path:
    """Folder with job, run and store; whoever runs or damages anything works on a copy."""
    folder = tmp_path_factory.mktemp("tiny")
    universality.run(tiny.write_job(folder), folder / "run", store=folder / "store", threads=1)
    return folder
