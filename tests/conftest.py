"""A small job on the real networks, run once per worker: one shallow tap, few stimuli."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import universality
from universality.runs import Run
from universality.store import ActivationStore

SMALL_JOB = """
name = "small"
question = "Does the whole path hold together?"
seed = 3

[[models]]
id = "package/efficientnet_lite0"
taps = ["blocks.1.1.bn2", "blocks.2.1.bn2"]

[[models]]
id = "package/efficientnet_lite1"
taps = ["blocks.2.1.bn2"]

[stimuli.natural]
crops = 60

[stimuli.curves]
orientations = 8
curvatures = [0.0, 5.0]

[extraction]
reduction = "center"

[comparison]
bootstraps = 100

[nulls]
calibration_crops = 32
haar_rotations = 2
shuffles = 2
"""


@dataclass(frozen=True)
class SmallRun:
    job: Path
    out: Path
    store: Path
    run: Run


@pytest.fixture(scope="session", autouse=True)
def _few_torch_threads():
    """Workers of the test run share the cores; waiting for one another costs more than a second thread gives."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@dataclass(frozen=True)
class HostileRun:
    text: str
    run: Run


@pytest.fixture
def hostile(small) -> HostileRun:
    """The small run with markup that would run a script as its question, its digest and the name of one network."""
    evil = """</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">'"""
    job = small.run.record["job"]
    renamed = "package/efficientnet_lite1"
    models = [{**entry, "id": evil if entry["id"] == renamed else entry["id"]} for entry in job["models"]]
    run = Run(small.out, {**small.run.record, "job": {**job, "question": evil, "models": models}, "job_digest": evil})
    for name in ("families", "similarity", "correspondence", "units"):
        table = getattr(small.run, name)
        run.__dict__[name] = table.assign(
            **{c: table[c].replace(renamed, evil) for c in table if c.startswith("model")}
        )
    return HostileRun(evil, run)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Iterator[SmallRun]:
    """A finished run for all tests of a worker: those that run or damage anything copy its folders first."""
    folder = tmp_path_factory.mktemp("small")
    job = folder / "job.toml"
    job.write_text(SMALL_JOB, encoding="utf-8")
    finished = universality.run(job, folder / "run", store=folder / "store")
    yield SmallRun(job, folder / "run", folder / "store", finished)
    assert set(ActivationStore(folder / "store").runs().values()) == {str(folder / "run")}, (
        "a test used the small store"
    )
