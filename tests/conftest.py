"""A small job on the real networks, run once: one shallow tap, few stimuli. And what all tests share."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from edited_job import EDITED_JOB
from filelock import FileLock
from undrawn import draw_nothing, drawn

import universality
from universality.jobs import seconds

if TYPE_CHECKING:
    from universality.runs.run import Run

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

[stimuli.curve_controls]
orientations = 8
curvatures = [5.0]
variants = ["thin_dark"]

[extraction]
reduction = "center"

[comparison]
bootstraps = 100

[nulls]
calibration_crops = 32
haar_rotations = 2
shuffles = 2

[stages]
without = ["natural", "examples", "circuits", "recovery", "motifs", "atlas"]
"""


@pytest.fixture(scope="session", autouse=True)
def _seconds_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """New files in a folder of their own: what the jobs of tests take is no estimate for this machine's user."""
    folder = tmp_path_factory.mktemp("seconds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(seconds.VARIABLE, str(folder / "seconds.json"))
        yield (folder / f"{number}.json" for number in itertools.count())


@pytest.fixture(autouse=True)
def seconds_file(_seconds_files: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's runs record their seconds: a file that no other test sees, and no folder for every test of the suite."""
    file = next(_seconds_files)
    monkeypatch.setenv(seconds.VARIABLE, str(file))
    return file


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the jobs of tests marked `draws`, and shared ones, draw figures and a report."""
    if request.node.get_closest_marker("draws") is None:
        draw_nothing(monkeypatch)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return `once(name, make)`: a folder that the first worker to ask for it makes, for all workers of the test run."""

    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "shared"
    shared.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return once


class Heartbeat:
    """Says on a terminal what is still running when no test has ended for eight seconds."""

    SILENCE_S = 8.0

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._since: dict[str, float] = {}
        self._last = time.monotonic()
        self._else = "imports"
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._since[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._since.pop(nodeid, None)
        self._last = time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._else = "worker processes that end"

    def pytest_unconfigure(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(1):
            now = time.monotonic()
            if now - self._last >= self.SILENCE_S:
                self._last = now
                running = [f"{name} ({now - start:.0f} s)" for name, start in list(self._since.items())]
                self._say(f"\n[still running: {', '.join(running) or self._else}]\n")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported stays: the millions of objects of Torch and others are not gone through again and again for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and reporter.isatty and not hasattr(session.config, "workerinput"):
        writer = session.config.get_terminal_writer()
        session.config.pluginmanager.register(Heartbeat(lambda text: writer.write(text, flush=True)))


@dataclass(frozen=True)
class SmallRun:
    job: Path
    out: Path
    store: Path
    run: Run


@pytest.fixture(scope="session", autouse=True)
def _few_torch_threads():
    """Workers of the test run share the cores; waiting for one another costs more than a second thread gives."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


POCKET_TAPS = {
    "package/efficientnet_lite0": "pocket/vgg-focus-s0", "package/efficientnet_lite1": "pocket/alexnet-focus-s0",
    '"blocks.1.1.bn2", "blocks.2.1.bn2"': '"features.4"', '"blocks.2.1.bn2"': '"features.4"',
    "bootstraps = 100": 'bootstraps = 100\npermutations = 19\nmeasures = ["cka_linear_debiased"]',
}  # fmt: skip


@pytest.fixture
def pocket_job(tmp_path) -> Path:
    """The small job on two pocket networks, for tests that have to extract all of it."""
    text = SMALL_JOB
    for name, pocket in POCKET_TAPS.items():
        text = text.replace(name, pocket)
    path = tmp_path / "pocket.toml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class HostileRun:
    text: str
    run: Run


@pytest.fixture
def hostile(small) -> HostileRun:
    """The small run with markup that would run a script as its question, its digest and the name of one network."""
    from universality.runs.run import Run

    evil = """</script><script>alert(1)</script><!--<img src=x onerror="alert(2)">'"""
    job = small.run.record["job"]
    renamed = "package/efficientnet_lite1"
    models = [{**entry, "id": evil if entry["id"] == renamed else entry["id"]} for entry in job["models"]]
    record = {**small.run.record, "job": {**job, "question": evil, "models": models}, "job_digest": evil}
    tables = {}
    for name in ("families", "similarity", "correspondence", "units", "units_curve"):
        table = small.run.table(name)
        tables[name] = table.assign(**{c: table[c].replace(renamed, evil) for c in table if c.startswith("model")})
    return HostileRun(evil, Run(small.out, record, tables=tables))


def _run_small(folder: Path) -> None:
    job = folder / "job.toml"
    job.write_text(SMALL_JOB, encoding="utf-8")
    universality.run(job, folder / "run", store=folder / "store")


@pytest.fixture(scope="session")
def whole(once, small) -> Run:
    """The small run with every stage; of the figures that `small` has it draws few."""

    def make(folder: Path) -> None:
        from universality.jobs.stages import STAGES

        shutil.copytree(small.store, folder / "store")
        stages = [name for name, stage in STAGES.items() if not {"copies", "edits", "dictionaries"} & {*stage.asks}]
        others = (
            kind for stage in STAGES.values() for kind in stage.figures if stage.name not in small.run.record["stages"]
        )
        with drawn("detectors_against_depth", "matches_and_nulls", *others):
            universality.run(small.job, folder / "run", store=folder / "store", only=stages)

    folder = once("whole", make)
    return universality.open_run(folder / "run", folder / "store")


@pytest.fixture(scope="session")
def edited(once) -> Run:
    """A run of two pocket networks whose units are edited."""

    def make(folder: Path) -> None:
        (folder / "job.toml").write_text(EDITED_JOB, encoding="utf-8")
        with drawn("ablation_by_class", "transplants_and_nulls"):
            universality.run(folder / "job.toml", folder / "run", store=folder / "store")

    folder = once("edited", make)
    return universality.open_run(folder / "run", folder / "store")


@pytest.fixture(scope="session")
def small(once) -> Iterator[SmallRun]:
    """A finished run for all tests: those that run or damage anything copy its folders first."""
    from universality.activations.store import ActivationStore

    folder = once("small", _run_small)
    yield SmallRun(folder / "job.toml", folder / "run", folder / "store", universality.open_run(folder / "run"))
    assert set(ActivationStore(folder / "store").runs().values()) == {str(folder / "run")}, (
        "a test used the small store"
    )


@pytest.fixture(scope="module")
def browser():
    """A real browser; a file that uses it carries the mark `chromium.needs_browser`."""
    from chromium import started

    with started() as launched:
        yield launched
