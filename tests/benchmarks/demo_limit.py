"""How far the demo is from its limit: its processor seconds beside those of bare forward passes, sgemm and assignment.

    python tests/benchmarks/demo_limit.py [JOB]
    python tests/benchmarks/demo_limit.py [JOB] --ran FOLDER --seconds S    # a run made before, in FOLDER/run and FOLDER/store

The job is run with an empty store, as its command is, and the system counts its processor seconds. The limit is what no
program can leave out that computes the same on the same machine, measured right after, on one thread:

- forward: every network is shown as many images as the job shows it, already drawn, up to its deepest tap; a few batches
  are timed and multiplied
- sgemm: the product of every two layers that are compared, and of each of the two with itself, for the networks and for every
  one of their nulls, in float32, on the run's own activations
- assignment: SciPy's optimal one on the correlations of every two layers, and on those with shuffled rows for every null

Loading, calibrating twins, drawing images, tuning, verdicts, tables, figures and the report are not in it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from universality.activations import extraction
from universality.activations.network import Network
from universality.base import memory
from universality.jobs.planning import plan
from universality.models import hooks
from universality.runs.run import Run, open_run

JOB = Path(__file__).parents[2] / "analyses" / "quickstart" / "job.toml"
BATCHES = 8


def ran(job: Path, folder: Path) -> float:
    """Run the job as its command does, and return its processor seconds."""
    command = [
        sys.executable, "-m", "universality", "run", str(job), "--out", str(folder / "run"), "--store", str(folder / "store"),
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = {"UNIVERSALITY_SECONDS": str(folder / "seconds.json")}
    subprocess.run(command, check=True, env={**os.environ, **own}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def forward_s(job: Path, folder: Path) -> float:
    """Return the processor seconds of bare forward passes on all images that the job shows; a twin takes what its network takes."""
    planned = plan(job, folder / "planned", folder / "no_store")
    images: Counter[str] = Counter()
    for shown in planned.passes:
        images[shown.network.card.id] += sum(map(len, shown.shards))
    return sum(images[n.card.id] * _seconds_of_an_image(n) for n in planned.networks if n.seed is None)


def _seconds_of_an_image(network: Network) -> float:
    module, size = extraction.laid_out(network.load()), network.extraction.batch_size
    shape = network.card.preprocessing.shape
    last = network.card.tap(extraction.probe(module, network.taps, shape))
    pixels = np.random.default_rng(0).standard_normal((size, *shape), dtype=np.float32)
    batch = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)

    def stop(*_: object) -> None:
        raise hooks.StopForward

    with torch.inference_mode(), hooks.watching(module, [last], stop) as calls:

        def one() -> None:
            calls.clear()
            hooks.forward(module, batch)

        one()
        return _clocked(lambda: [one() for _ in range(BATCHES)]) / (BATCHES * size)


def _clocked(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def products_s(run: Run) -> tuple[float, float]:
    """Return the processor seconds of all products and of all assignments."""
    taps = {entry["model"]: [] for entry in run.record["stores"]}
    for entry in run.record["stores"]:
        if entry["tap"] not in taps[entry["model"]]:
            taps[entry["model"]].append(entry["tap"])
    layers = {
        (model, tap): _standard(run.activations(model, tap).values) for model, names in taps.items() for tap in names
    }
    nulls, rng = run.job.nulls, np.random.default_rng(0)
    n_nulls = len(nulls.untrained_seeds) + nulls.haar_rotations + nulls.shuffles
    sgemm = assigned = 0.0
    for a, b in run.job.compared():
        for tap_a, tap_b in itertools.product(taps[a], taps[b]):
            x, y = layers[a, tap_a], layers[b, tap_b]
            sgemm += (1 + n_nulls) * _clocked(lambda x=x, y=y: (x.T @ y, x.T @ x, y.T @ y))
            real, shuffled = x.T @ y, x[rng.permutation(len(x))].T @ y
            assigned += _clocked(lambda r=real: linear_sum_assignment(r, maximize=True))
            assigned += n_nulls * _clocked(lambda s=shuffled: linear_sum_assignment(s, maximize=True))
    return sgemm, assigned


def _standard(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    norms = np.linalg.norm(centred, axis=0)
    return np.asarray(centred / np.where(norms > 0, norms, 1), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path, nargs="?", default=JOB)
    parser.add_argument("--ran", type=Path, help="folder of a run made before")
    parser.add_argument("--seconds", type=float, help="the processor seconds of that run")
    chosen = parser.parse_args()
    if (chosen.ran is None) != (chosen.seconds is None):
        parser.error("--ran and --seconds are given together")
    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(1):
        folder = chosen.ran or Path(temporary)
        whole = chosen.seconds if chosen.ran else ran(chosen.job, folder)
        torch.set_num_threads(1)
        memory.keep_freed_memory()
        forward = forward_s(chosen.job, Path(temporary))
        sgemm, assigned = products_s(open_run(folder / "run", folder / "store"))
    limit = forward + sgemm + assigned
    print(f"torch {torch.__version__}, job {chosen.job.parent.name}")
    print(f"whole run: {whole:.1f} processor s")
    print(f"limit: {limit:.1f} processor s (forward {forward:.1f}, sgemm {sgemm:.2f}, assignment {assigned:.2f})")
    print(f"whole run / limit: {whole / limit:.2f}")


if __name__ == "__main__":
    main()
