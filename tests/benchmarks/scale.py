"""A simulated zoo: what planning, scheduling, a whole run and all pairs of layers take as the number of models grows.

    python tests/benchmarks/scale.py [--models N ...] [--workers N] [--all-pairs LAYERS] [--scheduling] [--folder DIR]

``--models``: so many made-up models of 20 taps, each with an untrained twin, every model compared with the next one. Their
activations are drawn at random (8 units, 64 images, 96 contours) and written by the real writer; everything from the plan to
the report is `universality.run` itself, on worker processes of one thread. The answer is known: models 2k and 2k + 1 hold the
same units in another order, all others are independent. Every size runs in a process of its own.

``--all-pairs``: `compare_all` on so many layers, a sample of its values computed again by brute force.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import numpy as np
import psutil
import tiny
from distributed import Client, LocalCluster

import universality
from universality import compare_all, comparators, origin, pairs, runs, stimuli, zoo
from universality.jobs import Quiet, Task, comparing, estimates, execute, plan, writing
from universality.networks import Network, stimulus_sets
from universality.spec import Job
from universality.store import ActivationStore

TAPS, UNITS, TUNED, EMPTY = 20, 8, 2, 2000
PEAK_SIGMA, NARROW = 6.0, 2.0
CHECKED = 200
"""Pairs of layers that brute force computes again."""


def made_up_zoo(models: int) -> dict[str, Any]:
    """Return so many cards, each with 20 taps of 8 units."""
    card = zoo.card("pocket/vgg-focus-s0")
    taps = tuple(
        tap.model_copy(update={"name": f"tap{n:02}", "path": f"{tap.path}.{n}", "channels": UNITS, "relative_depth": n / TAPS})
        for n, tap in zip(range(TAPS), itertools.cycle(card.taps), strict=False)
    )  # fmt: skip
    return {
        f"pocket/made-up-{n:05}": card.model_copy(
            update={
                "id": f"pocket/made-up-{n:05}", "taps": taps,
                "weights": card.weights.model_copy(update={"state_dict_sha256": f"{n:064x}"}),
            }
        )
        for n in range(models)
    }  # fmt: skip


def job_of(cards: dict[str, Any], ring: bool = True) -> Job:
    """Return the job that compares every model with the next one, or all pairs."""
    names = list(cards)
    return Job.model_validate(
        {
            "name": "zoo", "models": [{"id": name} for name in names], "extraction": {"reduction": "center"},
            "stimuli": {
                "natural": {"crops": 64},
                "contours": {"orientations": 8, "frequencies_cpi": [4.0, 8.0], "phases": 4},
            },
            "comparison": {
                "families": ["oriented_edge"], "measures": ["cka_linear_debiased", "unit_match_hungarian"],
                "matching": ["hungarian"], "bootstraps": 100, "permutations": 19,
            },
            "nulls": {"haar_rotations": 1, "shuffles": 1},
            "pairs": list(zip(names, [*names[1:], names[0]], strict=True)) if ring and len(names) > 2 else None,
        }
    )  # fmt: skip


def number_of(model: str) -> int:
    """Return the number of a made-up model."""
    return int(model[-5:])


def order_of(model: int) -> np.ndarray:
    """Return which of the common units each unit of a model is."""
    return np.random.default_rng(model).permutation(UNITS) if model % 2 else np.arange(UNITS)


def activations(network: Network, stimulus_set: str, tap: int, shown: Any) -> np.ndarray:
    """Return made-up answers (stimulus, unit): at random to images; two units are tuned to the orientation of contours."""
    model = number_of(network.card.id)
    owner = [model // 2, 0] if network.seed is None else [model, 1]
    rng = np.random.default_rng([*owner, tap, len(stimulus_set)])
    values = rng.standard_normal((shown.sizes["stimulus"], UNITS))
    if stimulus_set == "contours" and network.seed is None:
        preferred = rng.uniform(0.0, np.pi, TUNED)
        away = 2 * (np.radians(shown["orientation_deg"].values)[:, None] - preferred)
        values = 0.1 * np.abs(values)
        values[:, :TUNED] += PEAK_SIGMA * np.exp(NARROW * (np.cos(away) - 1))
    return (values if network.seed is not None else values[:, order_of(model)]).astype(np.float32)


def plant(network: Network, job: Job, location: str) -> int:
    """Write all stores of a network as extraction would; return how many."""
    store, written = ActivationStore(location), 0
    environment = origin.extraction_environment()
    for name in stimulus_sets(job):
        shown = stimuli.parameters(name, job.stimuli)
        for place, tap in enumerate(network.taps):
            attributes = {**network.provenance(name, tap), **environment}
            key, shape = network.key(name, tap), network.shape(name, tap)
            with store.writing(key, shown, shape, "float32", attributes) as writer:
                writer.append(activations(network, name, place, shown))
            written += 1
    return written


class Clock:
    """Seconds and largest resident memory, of this process and of its children together, stage by stage."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}
        self._stage, self._done, self._me = ["outside"], threading.Event(), psutil.Process()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self._done.wait(0.2):
            used = [self._me.memory_info().rss]
            for child in self._me.children(recursive=True):
                try:
                    used.append(child.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            for stage in ("whole", self._stage[-1]):
                row = self.rows.setdefault(stage, [0.0, 0.0, 0.0])
                row[1:] = max(row[1], used[0]), max(row[2], sum(used[1:]))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens now to a stage."""
        self._stage.append(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            row = self.rows.setdefault(name, [0.0, 0.0, 0.0])
            row[0] += time.perf_counter() - started
            self._stage.pop()

    def watch(self, module: Any, function: str, name: str) -> None:
        """Count every call of a function to a stage."""
        called: Callable[..., Any] = getattr(module, function)

        @functools.wraps(called)
        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self.stage(name):
                return called(*arguments, **keywords)

        setattr(module, function, counted)

    def show(self) -> None:
        """Print the table."""
        self._done.set()
        print(f"{'stage':28}{'s':>10}{'main MB':>10}{'workers MB':>12}")
        for name, (seconds, main, others) in self.rows.items():
            print(f"{name:28}{seconds:10.1f}{main / 1e6:10.0f}{others / 1e6:12.0f}")


def whole_run(models: int, workers: int, folder: Path) -> None:
    """Print what a run of so many models takes, and whether its tables hold the answer that was planted."""
    cards = made_up_zoo(models)
    zoo.card = cards.__getitem__  # networks_of asks here
    job, store = job_of(cards), folder / "store"
    clock = Clock()
    with clock.stage("plan"):
        planned = plan(job, folder / "run", store)
    missing = {id(p.network): p.network for p in planned.missing}
    with clock.stage("writing made-up stores"), ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        written = sum(pool.map(plant, missing.values(), itertools.repeat(job), itertools.repeat(str(store))))
    print(f"{models} models: {len(planned.stores)} stores ({written} written), {len(planned.tasks)} tasks", flush=True)
    print(*estimates.sentences(planned, 1, False), sep="\n", flush=True)
    for module, function, stage in (
        (execute, "plan", "plan"), (execute, "_verified", "verifying stores"), (comparing, "compute", "comparing"),
        (comparing, "gather", "gathering"), (pairs, "pair_rows", "table of pairs"), (runs, "write_table", "writing tables"),
        (writing.records, "facts_of", "provenance"), (writing.report, "write", "report"), (execute, "write", "figures and the rest"),
    ):  # fmt: skip
        clock.watch(module, function, stage)
    with clock.stage("run, all stages"):
        found = universality.run(job, folder / "run", store=store, workers=workers, threads=1)
    clock.show()
    check(found, models)


def check(found: universality.Run, models: int) -> None:
    """Print how the tables compare with what was planted; raise if they do not hold it."""
    rows = found.similarity
    a, b = rows["model_a"].map(number_of), rows["model_b"].map(number_of)
    copies = (a // 2 == b // 2) & (rows["tap_a"] == rows["tap_b"])
    for measure, of in rows.groupby("measure"):
        alike, others = of["value"][copies[of.index]], of["value"][~copies[of.index]]
        print(f"{measure}: copies {alike.min():.6f} to {alike.max():.6f} ({len(alike)}), others mean {others.mean():.3f} ({len(others)})")  # fmt: skip
        assert np.allclose(alike, 1.0, atol=1e-5), measure
    matched = found.correspondence
    a, b = matched["model_a"].map(number_of), matched["model_b"].map(number_of)
    copies = (a // 2 == b // 2) & (matched["tap_a"] == matched["tap_b"])
    inside = matched[copies]
    right = [
        order_of(x)[i] == order_of(y)[j]
        for x, y, i, j in zip(a[copies], b[copies], inside["unit_a"], inside["unit_b"], strict=True)
    ]
    print(f"matched units of copies: {sum(right)} of {len(right)} the planted one; expected {models // 2 * TAPS * TUNED}")
    verdicts = {name: of["verdict"].value_counts().to_dict() for name, of in (("copies", inside), ("others", matched[~copies]))}
    print("verdicts:", verdicts)
    assert all(right) and len(right) == models // 2 * TAPS * TUNED


def all_pairs(layers: int) -> None:
    """Print what all pairs of so many layers take in the engine, and how far a sample lies from brute force."""
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((layers // 2, 64, UNITS), dtype=np.float32)
    # Every second layer is the one before in another basis, scaled: its similarity to it is 1.
    turned = drawn @ comparators.haar_orthogonal(UNITS, rng).astype(np.float32) * 3
    named = {f"layer{2 * k + odd}": (drawn, turned)[odd][k] for k in range(layers // 2) for odd in (0, 1)}
    clock = Clock()
    started, before = time.process_time(), psutil.Process().memory_info().rss
    with clock.stage("compare_all"):
        found = compare_all(named, ("cka_linear_debiased",), memory_limit="1 GiB")
    worked = time.process_time() - started
    clock.show()
    values, names = found.values["cka_linear_debiased"], list(named)
    some = rng.integers(0, layers, (CHECKED, 2))
    some[: CHECKED // 4] = 2 * rng.integers(0, layers // 2, CHECKED // 4)[:, None] + np.arange(2)
    brute = [comparators.score("cka_linear_debiased", named[names[i]], named[names[j]])[0] for i, j in some]
    apart = np.abs(values[some[:, 0], some[:, 1]] - brute).max()
    print(f"{layers} layers, {layers * (layers - 1) // 2} pairs: {worked:.0f} processor s, {before / 1e6:.0f} MB before")
    print(f"largest difference from brute force in {CHECKED} pairs: {apart:.1e}")


def planning(models: int, folder: Path) -> None:
    """Print what planning all pairs of the zoo takes, and how fast its tasks are named."""
    cards = made_up_zoo(models)
    zoo.card = cards.__getitem__
    started = time.process_time()
    planned = plan(job_of(cards, ring=False), folder / "run", folder / "store")
    seconds, count = time.process_time() - started, len(planned.tasks)
    print(f"{models} models x {TAPS} taps: planned in {seconds:.1f} s, {len(planned.stores)} stores, {count} tasks")
    started = time.process_time()
    named = sum(1 for _ in itertools.islice(planned.tasks, models * TAPS, models * TAPS + 20_000))
    each = (time.process_time() - started) / (named + models * TAPS)
    print(f"naming a task: {1e6 * each:.0f} us; all of them: {each * count:.0f} s")
    print(f"peak memory: {estimates.peak_bytes() / 1e6:.0f} MB")


def scheduling(folder: Path) -> None:
    """Print what a comparison costs beside its own work, alone in a Dask task and batched."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        for most in (1, comparing.MOST_IN_BATCH):
            comparing.MOST_IN_BATCH = most
            tasks = [Task(f"{most:08x}{n:024x}", str(n), tiny.rows, (n,)) for n in range(EMPTY)]
            started = time.process_time()
            comparing.compute(tasks, str(folder / "store"), lambda: client, 0, Quiet())
            each = (time.process_time() - started) / EMPTY
            print(f"a comparison that does nothing, at most {most} in a Dask task: {1e6 * each:.0f} us, result kept")


@contextmanager
def _within(given: Path | None) -> Iterator[Path]:
    """Yield a new folder, deleted afterwards; or a given one, which stays: what is in it is not made again."""
    folder = Path(tempfile.mkdtemp()) if given is None else given
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all-pairs", type=int, metavar="LAYERS")
    parser.add_argument("--planning", type=int, metavar="MODELS")
    parser.add_argument("--scheduling", action="store_true")
    parser.add_argument("--folder", type=Path, help="kept, with its stores and results")
    chosen = parser.parse_args()
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    with _within(chosen.folder) as folder:
        if len(chosen.models) == 1:
            whole_run(chosen.models[0], chosen.workers, folder)
        for models in chosen.models if len(chosen.models) > 1 else ():
            command = [sys.executable, __file__, "--models", str(models), "--workers", str(chosen.workers)]
            subprocess.run(command, check=True)
        if chosen.planning:
            planning(chosen.planning, folder)
        if chosen.all_pairs:
            all_pairs(chosen.all_pairs)
        if chosen.scheduling:
            scheduling(folder)


if __name__ == "__main__":
    main()
