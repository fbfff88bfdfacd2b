"""What the tests of the service share: an application in a folder, and a small job."""

import contextlib
import threading
import time
import tomllib
from pathlib import Path

import uvicorn
from fastapi.testclient import TestClient

from universality.runs.job import Job, job_of
from universality.service.app import create_app
from universality.service.settings import Limits, Settings

HERE = "http://127.0.0.1:8000"
SMALL = """
name = "small"

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.4"]

[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.4"]

[stimuli.natural]
crops = 64

[extraction]
reduction = "center"

[comparison]
families = []
measures = ["cka_linear_debiased"]

[nulls]
calibration_crops = 32
haar_rotations = 1
shuffles = 1
"""
"""Two layers are compared, and no units: seconds."""


def small_job(**changed) -> Job:
    return job_of(tomllib.loads(SMALL) | changed, "the job")


def settings(folder: Path, **changed) -> Settings:
    limits = changed.pop("limits", {})
    return Settings(
        runs=folder / "runs", stores=str(folder / "store"), database=f"sqlite:///{folder / 'service.db'}", logs=folder / "logs", threads=1,
        limits=Limits(**limits), **changed,
    )  # fmt: skip


def client_of(folder: Path, **changed) -> TestClient:
    return TestClient(create_app(settings(folder, **changed)), base_url=HERE, follow_redirects=False)


@contextlib.contextmanager
def listening(app):
    """Serve an application at a free port of this machine, and yield the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
