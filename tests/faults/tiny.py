"""A job of seconds, and tasks that go wrong."""

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from universality import figures
from universality.activations.network import Network
from universality.report import page

JOB = """
name = "tiny"
seed = 3

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.4"]

[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.4"]

[stimuli.natural]
crops = 64

[stimuli.curves]
orientations = 8
curvatures = [0.0, 5.0]
variants = ["thin_dark", "filled_dark"]

[stimuli.curve_controls]
orientations = 8
curvatures = [5.0]
variants = ["thin_dark"]

[extraction]
reduction = "center"

[comparison]
measures = ["cka_linear_debiased"]
matching = ["mutual_nearest"]
bootstraps = 100
permutations = 19

[nulls]
calibration_crops = 32
haar_rotations = 1
shuffles = 1

[stages]
without = ["natural", "examples", "circuits", "recovery", "motifs", "atlas"]
"""
THIRD = """
[[models]]
id = "pocket/resnet-focus-s0"
taps = ["layer1.0"]
"""
TABLES = ("families", "units", "similarity", "correspondence", "correspondence_nulls", "pairs")
"""Those of its stages."""
PATIENCE_S = 120


def write_job(folder: Path, text: str = JOB) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return path


def table_hashes(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / f"{name}.parquet").read_bytes()).hexdigest() for name in TABLES}


class Blank(figures.Drawing):
    """An empty figure."""

    def figure(self, width_mm: float = 1.0) -> Figure:
        return Figure((1, 1))


def draw_blanks(count: int) -> None:
    """Let the jobs of this process, and of those forked from it, write so many empty figures and a report of one word.

    Files are written as ever, but what is in them: drawing takes two thirds of such a job, and whoever calls this looks at none.
    """
    figures.drawings = lambda *_: (Blank("blank", f"blank__{n}", "Blank.", (), {}, {}) for n in range(count))
    page.render = lambda *_: "undrawn"


def rows(number: int) -> dict[str, pd.DataFrame]:
    """What a task that goes well finds."""
    return {"similarity": pd.DataFrame({"value": [float(number)]})}


def breaks(number: int) -> dict[str, pd.DataFrame]:
    raise ValueError(f"planted in {number}")


def kills_its_worker(number: int) -> dict[str, pd.DataFrame]:
    os.kill(os.getpid(), signal.SIGKILL)
    return rows(number)


def _dies(module, inputs) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Poison(Network):
    """A network that loads well and kills the worker that shows it an image."""

    def load(self):
        module = super().load()
        module.register_forward_pre_hook(_dies)
        return module


def kills_its_worker_once(marker: str) -> dict[str, pd.DataFrame]:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return rows(0)


def breaks_once(marker: str) -> dict[str, pd.DataFrame]:
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("planted once")
    return rows(0)


def takes_memory(number: int) -> dict[str, pd.DataFrame]:
    """Take 4 GB, 32 MB at a time; the memory limit of the worker stops it long before."""
    held = []
    for _ in range(128):
        held.append(np.ones(1 << 22))
        time.sleep(0.02)  # the watcher looks ten times a second
    return rows(len(held))


def waits_for(started: str, go: str) -> dict[str, pd.DataFrame]:
    """Say that it runs, then wait until it may end."""
    Path(started).touch()
    wait_until(Path(go).exists)
    return rows(0)


def visible_gpus() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def wait_until(condition, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)
