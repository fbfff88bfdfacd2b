"""A simulated zoo: what planning, scheduling, a whole run and all pairs of layers take as the number of models grows.

    python tests/benchmarks/scale.py [--models N ...] [--ring N] [--drawn N] [--workers N] [--folder DIR]
    python tests/benchmarks/scale.py [--planning MODELS] [--scheduling] [--all-pairs LAYERS [--parts N]]

``--models``: so many made-up models of 20 taps, each with an untrained twin, in rings within which every model is compared with
the next one. Their activations are drawn at random (8 units, 64 images, 96 contours) and written by the real writer;
everything from the plan to the report is `universality.run` itself, on worker processes of one thread. The answer is known:
models 2k and 2k + 1 hold the same units in another order, all others are independent. Every size runs in a process of its own.
``--drawn N``: only the first N models (whole rings) are drawn and compared; the stores of the others are links to theirs, and the
results of the others' comparisons are theirs under other names. So a zoo of any size can be planned, verified, gathered,
written and drawn within the time that a few models' comparisons take.

``--all-pairs``: `compare_all` on so many layers, a sample of its values computed again by brute force.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import re
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
import pandas as pd
import psutil
import tiny
from distributed import Client, LocalCluster

import universality
from universality import compare_all, report, similarity
from universality.activations.network import Network
from universality.activations.store import ActivationStore
from universality.base import arrays, memory
from universality.base.progress import Quiet
from universality.correspondence import layer_pairs
from universality.jobs import comparing, computing, estimates, execute, writing
from universality.jobs.planning import Plan, PlannedStore, plan
from universality.jobs.results import Results
from universality.jobs.scheduling import opener
from universality.jobs.tasks import Task
from universality.jobs.workers import Workers
from universality.models import catalogue
from universality.runs import provenance, run
from universality.runs.job import Job
from universality.runs.networks import stimulus_sets
from universality.stimuli import sets

TAPS, UNITS, TUNED, EMPTY = 20, 8, 2, 2000
PEAK_SIGMA, NARROW = 6.0, 2.0
_CARD = catalogue.card  # made-up cards take its place
CHECKED = 200
"""Pairs of layers that brute force computes again."""


def made_up_zoo(models: int) -> dict[str, Any]:
    """Return so many cards, each with 20 taps of 8 units."""
    card = _CARD("pocket/vgg-focus-s0")
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


def job_of(cards: dict[str, Any], ring: int | None = None) -> Job:
    """Return the job that compares every model with the next one of its ring, or (without rings) all pairs."""
    names = list(cards)
    rings = [names[start : start + ring] for start in range(0, len(names), ring)] if ring else []
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
            "nulls": {"haar_rotations": 1, "shuffles": 1}, "stages": {"without": ["natural", "atlas"]},
            "pairs": [pair for of in rings for pair in zip(of, [*of[1:], of[0]], strict=True)] if ring else None,
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
    environment = provenance.extraction_environment()
    for name in stimulus_sets(job):
        shown = sets.parameters(name, job.stimuli)
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


def write_stores(planned: Plan, drawn: int, workers: int) -> int:
    """Write the stores of the first models as extraction would, let those of the others be links; return how many were written."""
    missing = {id(p.network): p.network for p in planned.missing if number_of(p.network.card.id) < drawn}
    location = planned.store.location
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        written = sum(pool.map(plant, missing.values(), itertools.repeat(planned.job), itertools.repeat(location)))

    def place(p: PlannedStore) -> tuple[Any, ...]:
        return number_of(p.network.card.id) % drawn, p.network.seed, p.stimulus_set, p.tap.name

    first = {place(p): p.key for p in planned.stores if number_of(p.network.card.id) < drawn}
    for p in planned.missing:
        if number_of(p.network.card.id) >= drawn and not planned.store.path(p.key).is_symlink():
            planned.store.path(p.key).symlink_to(planned.store.path(first[place(p)]), target_is_directory=True)
    return written


def copy_results(planned: Plan, drawn: int) -> int:
    """Keep the results of the first models' comparisons as those of the others, under their names; return how many."""
    results, copied, by_name = Results(planned.store.location), 0, {}
    for task in planned.tasks():
        if all(number < drawn for number in numbers_of(task)):
            by_name[place_of(task, drawn)] = {part: results.read(key) for part, key in task.keys.items()}
            continue
        names = {f"pocket/made-up-{n % drawn:05}": f"pocket/made-up-{n:05}" for n in numbers_of(task)}
        for part, key in task.keys.items():
            if not results.has(key):
                tables = by_name[place_of(task, drawn)][part]
                results.write(key, {name: renamed(table, names) for name, table in tables.items()})
                copied += 1
    return copied


def numbers_of(task: Task) -> list[int]:
    """Return the numbers of the models that a task is about."""
    return [int(number) for number in re.findall(r"made-up-(\d{5})", task.label)]


def place_of(task: Task, drawn: int) -> str:
    """Return the label of the task of the first models that a task is like."""
    return re.sub(r"made-up-(\d{5})", lambda found: f"{int(found[1]) % drawn}", task.label)


def renamed(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return a table with other names of its models."""
    columns = [name for name in ("model", "model_a", "model_b") if name in table]
    return table.assign(**{name: table[name].map(names).astype(table[name].dtype) for name in columns})


def whole_run(models: int, ring: int, drawn: int, workers: int, folder: Path) -> None:
    """Print what a run of so many models takes, and whether its tables hold the answer that was planted."""
    cards = made_up_zoo(models)
    catalogue.card = cards.__getitem__  # networks_of asks here
    job, clock = job_of(cards, ring), Clock()
    with clock.stage("plan"):
        planned = plan(job, folder / "run", folder / "store")
    print(*estimates.sentences(planned, 1), sep="\n", flush=True)
    with clock.stage("writing made-up stores"):
        written = write_stores(planned, drawn, workers)
    print(f"{models} models: {len(planned.stores)} stores ({written} written now), {planned.n_tasks} tasks", flush=True)
    if drawn < models:
        first = job_of(made_up_zoo(drawn), ring)
        settings = Workers(processes=workers, threads=1)
        with clock.stage("comparing the first models"), opener(settings) as opened:
            tasks = list(plan(first, folder / "first", folder / "store").tasks())
            assert not comparing.compute(tasks, planned.store.location, opened, 0, Quiet())
        with clock.stage("copying their results"):
            print(f"{copy_results(planned, drawn)} results copied", flush=True)
    watch_stages(clock)
    with clock.stage("run, all stages"):
        found = universality.run(job, folder / "run", store=folder / "store", workers=workers, threads=1)
    clock.show()
    check(found, models, drawn)


def watch_stages(clock: Clock) -> None:
    """Let the clock tell the stages of a run apart."""
    for module, function, stage in (
        (execute, "plan", "plan"), (execute, "_verified", "verifying stores"), (comparing, "compute", "comparing"),
        (comparing, "gather", "gathering"), (layer_pairs, "pair_rows", "table of pairs"), (run, "write_table", "writing tables"),
        (writing, "facts_of", "provenance"), (writing, "write_figure", "saving figures"),
        (report, "write", "report"), (computing, "write", "drawing and the rest"),
    ):  # fmt: skip
        clock.watch(module, function, stage)


def check(found: universality.Run, models: int, drawn: int) -> None:
    """Print how the tables compare with what was planted in the first `drawn` models; raise if they do not hold it."""
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
        order_of(x % drawn)[i] == order_of(y % drawn)[j]
        for x, y, i, j in zip(a[copies], b[copies], inside["unit_a"], inside["unit_b"], strict=True)
    ]
    print(
        f"matched units of copies: {sum(right)} of {len(right)} the planted one; expected {models // 2 * TAPS * TUNED}"
    )
    verdicts = {
        name: of["verdict"].value_counts().to_dict() for name, of in (("copies", inside), ("others", matched[~copies]))
    }
    print("verdicts:", verdicts)
    assert all(right) and len(right) == models // 2 * TAPS * TUNED


def all_pairs(layers: int, parts: int) -> None:
    """Print what all pairs of so many layers take in the engine, and how far a sample lies from brute force.

    With several parts, two of them at a time: what a machine needs that cannot hold the matrix of all pairs.
    """
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((layers // 2, 64, UNITS), dtype=np.float32)
    # Every second layer is the one before in another basis, scaled: its similarity to it is 1.
    turned = drawn @ arrays.haar_orthogonal(UNITS, rng).astype(np.float32) * 3
    named = {f"layer{2 * k + odd}": (drawn, turned)[odd][k] for k in range(layers // 2) for odd in (0, 1)}
    blocks = [list(part) for part in np.array_split(list(named), parts)]
    clock, apart, worked = Clock(), 0.0, 0.0
    before = psutil.Process().memory_info().rss
    for block in [[*x, *y] for x, y in itertools.combinations(blocks, 2)] or blocks:
        some = {name: named[name] for name in block}
        started = time.process_time()
        with clock.stage("compare_all"):
            found = compare_all(some, ("cka_linear_debiased",), memory_limit="1 GiB")
        worked += time.process_time() - started
        apart = max(apart, far_from_brute_force(some, found.values["cka_linear_debiased"], rng))
        del found
    clock.show()
    print(
        f"{layers} layers, {layers * (layers - 1) // 2} pairs: {worked:.0f} processor s, {before / 1e6:.0f} MB before"
    )
    print(f"largest difference from brute force in {CHECKED} pairs of each call: {apart:.1e}")


def far_from_brute_force(named: dict[str, np.ndarray], values: np.ndarray, rng: np.random.Generator) -> float:
    """Return the largest difference of a sample of values, a quarter of them from neighbours, from one pair at a time."""
    names = list(named)
    some = rng.integers(0, len(names), (CHECKED, 2))
    some[: CHECKED // 4, 1] = (some[: CHECKED // 4, 0] + 1) % len(names)
    brute = [similarity.score("cka_linear_debiased", named[names[i]], named[names[j]]).value for i, j in some]
    return float(np.abs(values[some[:, 0], some[:, 1]] - brute).max())


def planning(models: int, folder: Path) -> None:
    """Print what planning all pairs of the zoo takes, and how fast its tasks are named."""
    cards = made_up_zoo(models)
    catalogue.card = cards.__getitem__
    started = time.process_time()
    planned = plan(job_of(cards), folder / "run", folder / "store")
    seconds, count = time.process_time() - started, planned.n_tasks
    print(f"{models} models x {TAPS} taps: planned in {seconds:.1f} s, {len(planned.stores)} stores, {count} tasks")
    started = time.process_time()
    named = sum(1 for _ in itertools.islice(planned.tasks(), models * TAPS, models * TAPS + 20_000))
    each = (time.process_time() - started) / (named + models * TAPS)
    print(f"naming a task: {1e6 * each:.0f} us; all of them: {each * count:.0f} s")
    print(f"peak memory: {memory.peak_bytes() / 1e6:.0f} MB")


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
    parser.add_argument("--ring", type=int, default=10)
    parser.add_argument("--drawn", type=int, help="models drawn and compared, a multiple of --ring; all by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all-pairs", type=int, metavar="LAYERS")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--planning", type=int, metavar="MODELS")
    parser.add_argument("--scheduling", action="store_true")
    parser.add_argument("--folder", type=Path, help="kept, with its stores and results")
    chosen = parser.parse_args()
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    with _within(chosen.folder) as folder:
        if len(chosen.models) == 1:
            whole_run(chosen.models[0], chosen.ring, chosen.drawn or chosen.models[0], chosen.workers, folder)
        for models in chosen.models if len(chosen.models) > 1 else ():
            each = {
                "models": models,
                "ring": chosen.ring,
                "drawn": min(chosen.drawn or models, models),
                "workers": chosen.workers,
            }
            options = [text for name, value in each.items() for text in (f"--{name}", str(value))]
            subprocess.run([sys.executable, __file__, *options], check=True)
        if chosen.planning:
            planning(chosen.planning, folder)
        if chosen.all_pairs:
            all_pairs(chosen.all_pairs, chosen.parts)
        if chosen.scheduling:
            scheduling(folder)


if __name__ == "__main__":
    main()
