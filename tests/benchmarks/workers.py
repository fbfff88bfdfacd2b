"""The efficiency of two workers.

    python tests/benchmarks/workers.py [--job FILE | --convolutions] [--repeats N]

One and two Dask workers, processes of one thread each, in turn, every time with an empty store. The clusters stand and have
imported everything before the time begins; stages are told apart by the progress that `universality.run` reports. Tables,
figures and report are written by the calling process alone, so they are left out of the efficiency and shown beside it.

Two cores that share memory and clock give less than twice one core. How much less is measured in the same rounds: the forward
passes of the job's trained networks in one and in two bare processes, without Dask, stores or tasks, the images already in
memory, half of each network's batches in either process. `idle` is the time that the workers' threads had no task, `work` the
seconds of their processors: if two need more of them than one, each core was slower. Of several rounds the quickest of each
kind counts, because what else runs on a machine only ever slows it.

`--convolutions` takes a job of its own instead, for which the processors compute nearly all the time: ResNet-18 and ResNet-34
at 224 px with random weights, read from checkpoints as a user's own networks are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch
import torchvision
from distributed import Client
from safetensors.torch import save_file

import universality
from universality.activations import extraction
from universality.base import memory
from universality.jobs.scheduling import comparison_client
from universality.jobs.workers import Workers, single_threaded
from universality.runs.job import read_job
from universality.runs.networks import networks_of

ROOT = Path(__file__).parents[2]
STAGES = {"extraction (images)": "extraction", "figures and report": "writing"}
"""By what a reporter is told; everything else is tasks of the stages between them, which go on at a time."""


class Stages:
    """A reporter that notes when each stage begins."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.began: list[tuple[str, float, float]] = []
        self._begin("start")

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Note the beginning of a stage."""
        stage = STAGES.get(description, "comparisons")
        if stage != self.began[-1][0]:
            self._begin(stage)
        return lambda steps: None

    def end(self) -> None:
        """Note that the last stage is over."""
        self._begin("end")

    def _begin(self, stage: str) -> None:
        # The clock is that of the scheduler's record.
        self.began.append((stage, time.time(), sum(self._client.run(time.process_time).values())))

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return the begin and end of each stage."""
        return {stage: (begin, end) for (stage, begin, _), (_, end, _) in pairwise(self.began)}

    def work_s(self) -> dict[str, float]:
        """Return the seconds that the workers' processors worked in each stage."""
        return {stage: after - before for (stage, _, before), (_, _, after) in pairwise(self.began)}


BARE_BATCHES = 24
"""Batches of each network in the bare passes, over all processes."""
BARE_ROUNDS = 5
_NETWORKS: list[tuple[Any, Any, Any]] = []


CONVOLUTIONS = """
name = "convolutions"
seed = 0
[[models]]
id = "own/resnet18"
taps = ["layer2.1", "layer3.1"]
[[models]]
id = "own/resnet34"
taps = ["layer2.1", "layer3.1"]
[stimuli.natural]
crops = 480
shapes = 0
[stimuli.curves]
orientations = 24
[stimuli.high_low]
orientations = 24
phases = 1
[extraction]
reduction = "center"
[comparison]
families = ["curve", "high_low_frequency"]
measures = ["cka_linear_debiased"]
[nulls]
untrained_seeds = [0]
haar_rotations = 3
shuffles = 3
"""


def convolutions(folder: Path) -> Path:
    """Write the job of two networks with random weights, their cards and checkpoints; return the job's file."""
    places = {"UNIVERSALITY_MODEL_ZOO": "zoo", "UNIVERSALITY_WEIGHTS": "weights"}
    os.environ |= {variable: str(folder / name) for variable, name in places.items()}
    for seed, architecture in enumerate(("resnet18", "resnet34")):
        torch.manual_seed(seed)
        weights = folder / f"{architecture}.safetensors"
        save_file(torchvision.models.get_model(architecture).state_dict(), weights)
        new = ["zoo", "new", f"own/{architecture}", "--library", "torchvision", "--architecture", architecture]
        statistics = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--size", "224"]
        taps = ["--tap", "layer2.1", "--tap", "layer3.1"]
        command = [sys.executable, "-m", "universality", *new, "--weights", str(weights), *statistics, *taps]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (folder / "job.toml").write_text(CONVOLUTIONS, encoding="utf-8")
    return folder / "job.toml"


def prepare(job: Path) -> None:
    """Load the trained networks of a job and draw a batch for each, in this process."""
    single_threaded()
    memory.keep_freed_memory()
    for network in networks_of(read_job(job)):
        if network.seed is None:
            batch = next(network.batches("natural"))
            _NETWORKS.append((network, network.load(), batch))
    forward(1)


def forward(batches: int) -> None:
    """Show each network its batch so many times, reduced as the job says."""
    single_threaded()
    for network, module, batch in _NETWORKS:
        shown = (batch for _ in range(batches))
        for _ in extraction.extract(
            module, network.taps, shown, network.extraction, network.card.preprocessing.size_px
        ):
            pass


def bare(pools: list[Pool], batches: int) -> float:
    """Return the seconds of so many batches of each network, divided among bare processes: a pool of one for each."""
    started = time.perf_counter()
    waiting = [pool.apply_async(forward, (batches // len(pools),)) for pool in pools]
    for result in waiting:
        result.get()
    return time.perf_counter() - started


def busy_s(client: Client, stages: Stages) -> dict[str, float]:
    """Return the seconds that the workers' threads computed tasks in each stage, from the scheduler's own record."""
    spans = [
        (part["start"], part["stop"])
        for task in client.get_task_stream()
        for part in task["startstops"]
        if part["action"] == "compute"
    ]
    found: dict[str, float] = {}
    for stage, (begin, end) in stages.spans().items():
        found[stage] = sum(max(min(stop, end) - max(start, begin), 0.0) for start, stop in spans)
    return found


def warm(job: Path, folder: str) -> None:
    """Import, in a worker, what the job's tasks import when they are first called."""
    single_threaded()
    universality.plan(job, Path(folder) / "run", Path(folder) / "store")
    for name in ("ot.lp", "sklearn.linear_model", "scipy.stats"):
        import_module(name)


def timed(job: Path, workers: int) -> dict[str, float]:
    """Return the seconds of each stage of a run from nothing on so many workers of one thread, and their idle share."""
    with (
        tempfile.TemporaryDirectory() as folder,
        comparison_client(Workers(processes=workers, threads=1)) as client,
    ):
        client.run(warm, job, folder)
        client.get_task_stream()  # the scheduler records from the first question on
        stages = Stages(client)
        universality.run(job, Path(folder) / "run", store=Path(folder) / "store", client=client, reporter=stages)
        stages.end()
        spans, busy, work_s = stages.spans(), busy_s(client, stages), stages.work_s()
        seconds = {stage: end - begin for stage, (begin, end) in spans.items()}
        idle = {
            f"idle in {stage}": 1 - busy[stage] / (workers * seconds[stage]) for stage in ("extraction", "comparisons")
        }
        work = {f"work in {stage}": work_s[stage] for stage in ("extraction", "comparisons")}
        return seconds | idle | work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=ROOT / "analyses" / "quickstart" / "job.toml")
    parser.add_argument("--convolutions", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(convolutions(Path(folder)) if options.convolutions else options.job, options.repeats)


def compare(job: Path, repeats: int) -> None:
    """Time the job with one and two workers, and the limit, so many times; print all of it."""
    read_job(job)  # a pool whose processes cannot begin starts new ones without end
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    limit: dict[int, list[float]] = {1: [], 2: []}
    context = get_context("spawn")
    # Pools of one: a pool of two could give both halves to one process.
    with context.Pool(1, prepare, (job,)) as one, context.Pool(1, prepare, (job,)) as other:
        for _ in range(repeats):
            for _ in range(BARE_ROUNDS):
                limit[1].append(bare([one], BARE_BATCHES))
                limit[2].append(bare([one, other], BARE_BATCHES))
            print("bare", [(round(a, 2), round(b, 2)) for a, b in zip(*limit.values(), strict=True)], flush=True)
            for workers, rows in found.items():
                rows.append(timed(job, workers))
                print(workers, {name: round(value, 2) for name, value in rows[-1].items()}, flush=True)
    show(found, limit)


def show(found: dict[int, list[dict[str, float]]], limit: dict[int, list[float]]) -> None:
    """Print the efficiency of every stage, and the machine's limit beside it."""

    def least(*parts: str) -> tuple[float, float]:
        one, two = (min(sum(row[part] for part in parts) for row in rows) for rows in found.values())
        return one, two

    for stages in (("extraction",), ("comparisons",), ("extraction", "comparisons"), ("writing",)):
        one, two = least(*stages)
        print(
            f"{' and '.join(stages)}: {one:.1f} s with 1 worker, {two:.1f} s with 2, efficiency {one / (2 * two):.2f}"
        )
    one, two = least("work in extraction", "work in comparisons")
    print(f"work of the processors: {one:.1f} s with 1 worker, {two:.1f} s with 2, {two / one:.2f} times as much")
    one, two = (min(seconds) for seconds in limit.values())
    print(
        f"bare forward passes: {one:.1f} s in 1 process, {two:.1f} s in 2, efficiency {one / (2 * two):.2f}: the limit"
    )


if __name__ == "__main__":
    main()
