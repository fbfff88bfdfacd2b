"""A simulated zoo of 1,000 models with 20 taps each: how long planning takes, and what scheduling costs per comparison.

    python tests/benchmarks/scale.py

Cards are made up (the architecture of one pocket network under 1,000 names), so nothing can be extracted: the plan and its
tasks are real, and the cost of scheduling is measured with tasks that do nothing.
"""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import tiny
from distributed import Client, LocalCluster

from universality import zoo
from universality.jobs import Quiet, Task, comparing, plan
from universality.spec import Job

MODELS, TAPS, EMPTY = 1000, 20, 2000


def made_up_zoo() -> dict[str, object]:
    """Return so many cards, each with so many taps."""
    card = zoo.card("pocket/vgg-focus-s0")
    taps = tuple(
        tap.model_copy(update={"name": f"{tap.name}.{n}", "call": 0})
        for n, tap in zip(range(TAPS), itertools.cycle(card.taps), strict=False)
    )
    hashes = (f"{n:064x}" for n in range(MODELS))
    return {
        f"pocket/made-up-{n}": card.model_copy(
            update={
                "id": f"pocket/made-up-{n}", "taps": taps,
                "weights": card.weights.model_copy(update={"state_dict_sha256": h}),
            }
        )
        for n, h in enumerate(hashes)
    }  # fmt: skip


def planning(folder: Path) -> None:
    """Print what planning the whole zoo takes, and how fast its tasks are named."""
    cards = made_up_zoo()
    zoo.card = cards.__getitem__  # networks_of asks here
    job = Job.model_validate(
        {
            "name": "zoo", "models": [{"id": name} for name in cards], "extraction": {"reduction": "center"},
            "stimuli": {"natural": {"crops": 64}, "curves": {"orientations": 8, "curvatures": [0.0, 5.0]}},
        }
    )  # fmt: skip
    started = time.perf_counter()
    planned = plan(job, folder / "run", folder / "store")
    seconds, count = time.perf_counter() - started, len(planned.tasks)
    print(f"{MODELS} models x {TAPS} taps: planned in {seconds:.1f} s, {len(planned.stores)} stores, {count} tasks")
    started = time.perf_counter()
    named = sum(1 for _ in itertools.islice(planned.tasks, MODELS * TAPS, MODELS * TAPS + 20_000))
    each = (time.perf_counter() - started) / (named + MODELS * TAPS)
    print(f"naming a task: {1e6 * each:.0f} us; all of them: {each * count:.0f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def scheduling(folder: Path) -> None:
    """Print what a comparison costs beside its own work, alone in a Dask task and batched."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        for most in (1, comparing.MOST_IN_BATCH):
            comparing.MOST_IN_BATCH = most
            tasks = [Task(f"{most:08x}{n:024x}", str(n), tiny.rows, (n,)) for n in range(EMPTY)]
            started = time.perf_counter()
            comparing.compute(tasks, str(folder / "store"), lambda: client, 0, Quiet())
            each = (time.perf_counter() - started) / EMPTY
            print(f"a comparison that does nothing, at most {most} in a Dask task: {1e6 * each:.0f} us, result kept")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        planning(Path(temporary))
        scheduling(Path(temporary))
