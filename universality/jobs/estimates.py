"""What a plan will need: disk and memory from the shapes, time from batches and comparisons that are timed.

The constants were measured on the demo; `docs/scale.md` holds the estimates beside the truth.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from universality import devices, extraction
from universality.errors import StoreError
from universality.jobs import rehearsal
from universality.jobs.planning import Plan, PlannedStore
from universality.jobs.scheduling import single_threaded
from universality.jobs.shards import Loaded, on_device
from universality.networks import Network, stimulus_sets
from universality.places import Folder

COMPRESSED = 0.67
"""Size on disk of stored activations, of their size in memory: 0.64 to 0.69 on four stores of photographs and drawings."""
STORE_BYTES = 20_000
"""Labels, metadata and manifest of a store."""
UNIT_BYTES = 1_000
"""A unit's rows of all tables, in the kept results and in the run's directory."""
_FLOAT = 8


@dataclass(frozen=True)
class Disk:
    """Bytes that a plan will write: `expected`, and `most` if nothing could be compressed; `free` where it is known."""

    expected: int
    most: int
    free: int | None


def disk(plan: Plan) -> Disk:
    """Return what the missing stores, their shards and the results will take."""
    raw = sum(p.nbytes for p in plan.missing)
    fixed = STORE_BYTES * len(plan.missing) + UNIT_BYTES * _units(plan)
    # The shards of a network lie beside its stores until these are joined.
    shards = max((sum(p.nbytes for p in of) for of in _by_network(plan.missing)), default=0)
    return Disk(int(COMPRESSED * raw) + fixed, raw + shards + fixed, _free(plan))


def _units(plan: Plan) -> int:
    families = len(plan.job.comparison.families)
    return families * sum(tap.channels for network in plan.networks for tap in network.taps)


def _by_network(stores: Sequence[PlannedStore]) -> list[list[PlannedStore]]:
    found: dict[int, list[PlannedStore]] = {}
    for planned in stores:
        found.setdefault(id(planned.network), []).append(planned)
    return list(found.values())


def _free(plan: Plan) -> int | None:
    if not isinstance(plan.store.place, Folder):
        return None
    root = plan.store.place.root
    existing = next(path for path in (root, *root.parents) if path.exists())
    return shutil.disk_usage(existing).free


def refuse_disk(needed: Disk, location: str) -> None:
    """Raise `StoreError` if the disk is too short for what is expected."""
    if needed.free is not None and needed.free < needed.expected:
        raise StoreError(
            f"store '{location}' needs about {needed.expected / 1e6:.0f} MB, the disk has {needed.free / 1e6:.0f} MB free; "
            "free space or choose another folder with --store"
        )


def comparison_bytes(plan: Plan) -> int:
    """Return what the largest comparison holds beside the process itself, bytes.

    All taps of two networks in float64, each with its twins, its rotations and its shuffles, made ready for a measure.
    """
    nulls = plan.job.nulls
    variants = 1 + len(nulls.untrained_seeds) + nulls.haar_rotations + nulls.shuffles
    sizes: dict[str, int] = {}
    for network in (n for n in plan.networks if n.seed is None):
        rows = int(np.prod(network.shape("natural", network.taps[0])[:-1]))
        sizes[network.card.id] = rows * _FLOAT * sum(tap.channels for tap in network.taps)
    pairs = [sizes[a] + sizes[b] for a, b in plan.job.compared()]
    return variants * max(pairs, default=max(sizes.values()))


@dataclass(frozen=True)
class Timed:
    """One model, timed in one thread: loading the network and a twin (s), an image of each set (s), memory (bytes)."""

    network: Network
    load_s: float
    twin_s: float
    image_s: dict[str, float]
    nbytes: int


def timed(plan: Plan, network: Network) -> Timed:
    """Load a trained network and its first twin, and show it two batches of each set; the second one is timed."""
    single_threaded()
    before, start = resident_bytes(), time.perf_counter()
    module = network.load()
    load_s = time.perf_counter() - start
    image_s = {name: _image_s(network, module, name) for name in stimulus_sets(plan.job)}
    start = time.perf_counter()
    next(n for n in plan.networks if n.card.id == network.card.id and n.seed is not None).load()
    return Timed(network, load_s, time.perf_counter() - start, image_s, max(peak_bytes() - before, 0))


def _image_s(network: Network, module: nn.Module, name: str) -> float:
    """Return the time of drawing and showing one image of a set, of a whole batch after one that warms up."""
    spec, frame = network.extraction, network.frame(network.taps[0])
    count = network.shape(name, network.taps[0])[0]
    spec = spec.model_copy(update={"batch_size": min(spec.batch_size, max(count // 2, 1))})
    begin = count // 2 // spec.batch_size * spec.batch_size  # photographs are read once: later images are the rule
    with on_device(network, Loaded(module), spec.batch_size) as (placed, _):
        ended = [time.perf_counter()]
        for batch in range(2):
            rows = range(begin - batch * spec.batch_size, begin - batch * spec.batch_size + spec.batch_size)
            images = network.batches(name, frame, rows if rows.start >= 0 else range(spec.batch_size))
            for _ in extraction.extract(placed, network.taps, images, spec, network.card.preprocessing.size_px, frame):
                pass
            ended.append(time.perf_counter())
    return (ended[-1] - ended[-2]) / spec.batch_size


def extraction_s(plan: Plan, networks: Sequence[Timed]) -> float:
    """Return the work of extracting what is missing, s of one thread."""
    by_card = {t.network.card.id: t for t in networks}
    total = 0.0
    for of in _by_network(plan.missing):
        network = of[0].network
        found = by_card[network.card.id]
        seen = {(p.stimulus_set, network.frame(p.tap)): network.shape(p.stimulus_set, p.tap)[0] for p in of}
        total += found.load_s if network.seed is None else found.twin_s
        total += sum(count * found.image_s[name] for (name, _), count in seen.items())
    return total


def sentences(plan: Plan, threads: int, measure_time: bool) -> list[str]:
    """Return memory and (if it is to be measured) time of a plan, one sentence each."""
    compared = comparison_bytes(plan)
    on_gpus = plan.job.extraction.device == "cuda"
    if not measure_time or (on_gpus and not devices.count()):
        why = "this machine has no GPU to time extraction on" if measure_time else "--time measures extraction too"
        need = (resident_bytes() + threads * compared) / 1e6
        return [f"memory: about {need:.0f} MB for comparisons in {threads} thread(s) of one worker; {why}"]  # fmt: skip
    missing = {p.network.card.id for p in plan.missing}
    networks = [timed(plan, n) for n in plan.networks if n.seed is None and n.card.id in missing]
    shown = max((t.nbytes for t in networks), default=0)
    need = (resident_bytes() + threads * max(compared, shown)) / 1e6
    # A GPU shows the images of one task at a time.
    images = extraction_s(plan, networks) / (devices.count() if on_gpus else threads)
    pairs = rehearsal.comparisons_s(plan) * (1 - plan.kept() / len(plan.tasks)) / threads
    return [
        f"memory: about {need:.0f} MB for {threads} thread(s) of one worker",
        f"time: about {images + pairs:.0f} s with {threads} thread(s): extraction {images:.0f} s, "
        f"comparisons {pairs:.0f} s; figures and report come on top",
    ]


def resident_bytes() -> int:
    """Return the memory that this process holds now, bytes; its peak where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of ours
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has held, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
