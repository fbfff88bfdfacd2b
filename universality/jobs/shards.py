"""Extraction in shards: a network shown a stretch of a stimulus set, each tap's rows kept under a key of their own.

A shard's key is the digest of everything that decides its rows, so a shard is computed once whoever asks, a crash loses
only the shards under way, and a longer set of the same stimuli begins with the shards of the shorter one. Every forward
pass has the shape and the images that it would have without shards, so the values do not depend on who computed which.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from universality.activations import devices, extraction, pieces
from universality.activations.network import Network
from universality.activations.store import ActivationStore
from universality.base.errors import DeviceError, StoreError
from universality.base.schema import ACTIVATION
from universality.jobs.passes import Pass
from universality.models.card import Tap
from universality.models.folding import folded
from universality.runs import provenance
from universality.stimuli import sets

FOLDER = "shards"


@dataclass(frozen=True)
class Loaded:
    """A network in memory, laid out for extraction; its size tells Dask what moving it to another worker would cost.

    `seconds` is what loading it took, processor s; `void` says why an untrained twin is no null.
    """

    module: nn.Module
    seconds: float = 0.0
    void: str = ""

    def __sizeof__(self) -> int:
        return sum(t.nbytes for t in (*self.module.parameters(), *self.module.buffers()))

    def shared(self) -> nn.Module:
        """Return a module of its own hooks on the same weights, so that two threads can watch one network."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return copy.deepcopy(self.module, {id(tensor): tensor for tensor in tensors})


@dataclass(frozen=True)
class Maker:
    """Who made the rows of a shard: the kind of processor (`provenance.processor`), and the GPU's name ("" on the CPU).

    Of an untrained twin that is no null, `void` says why.
    """

    processor: str
    gpu: str
    void: str = ""


@dataclass(frozen=True)
class Shard:
    """Rows (stimulus, ...) of a tap, and who made them."""

    rows: NDArray[Any]
    makers: tuple[Maker, ...]


_UNKNOWN = "not recorded"
"""Of stores of before this was recorded."""


def _makers(attributes: Mapping[str, Any]) -> tuple[Maker, ...]:
    """Return who made a store's rows; all pairs of its processors and GPUs, because it states each by itself."""
    gpus = attributes.get("gpus", [""])
    void = attributes.get("void_twin", "")
    return tuple(Maker(processor, gpu, void) for processor in attributes.get("processors", [_UNKNOWN]) for gpu in gpus)


class Shards:
    """The shards beside the stores of a place."""

    def __init__(self, store: ActivationStore) -> None:
        self._store = store

    def write(self, key: str, rows: NDArray[Any], maker: Maker) -> None:
        """Commit the rows (stimulus, ...) of a shard, after a line that says who made them."""
        sink = io.BytesIO()
        said = {name: value for name, value in asdict(maker).items() if value or name != "void"}
        sink.write(json.dumps(said).encode() + b"\n")
        np.save(sink, rows, allow_pickle=False)
        pieces.write(self._store.place, pieces.name_of(FOLDER, key), sink.getvalue())

    def read(self, key: str) -> Shard | None:
        """Return a shard, or None if it is absent or damaged."""
        content = pieces.read(self._store.place, pieces.name_of(FOLDER, key))
        if content is None:
            return None
        if not content.startswith(b"{"):  # of before makers were recorded
            return Shard(np.load(io.BytesIO(content), allow_pickle=False), (Maker(_UNKNOWN, ""),))
        line, _, rows = content.partition(b"\n")
        said = json.loads(line)
        if rows:
            return Shard(np.load(io.BytesIO(rows), allow_pickle=False), (Maker(**said),))
        try:
            # Verified, unlike the layers of a comparison: no plan has looked at this store.
            dataset = self._store.open(said["store"])
        except StoreError:
            return None
        values = np.asarray(dataset[ACTIVATION][said["start"] : said["stop"]].values)
        return Shard(values, _makers(dataset.attrs))

    def has(self, key: str) -> bool:
        """Return whether a shard's rows can be read."""
        return self.read(key) is not None

    def release(self, key: str, store_key: str, rows: range, *, keep_place: bool) -> None:
        """Free the room of a shard whose rows a store holds now; with `keep_place` remember where they are."""
        name = pieces.name_of(FOLDER, key)
        if keep_place:
            at = {"start": rows.start, "stop": rows.stop, "store": store_key}
            pieces.write(self._store.place, name, json.dumps(at).encode())
        else:
            self._store.place.remove(name)


def check_task(network: Network) -> None:
    """Raise what loading a network, or asking it at its taps, would raise; keep nothing."""
    loaded, shape = network.load(), network.card.preprocessing.shape
    extraction.probe(loaded, network.taps, shape)
    extraction.read_at(loaded, network.taps, network.extraction, shape)


def load_task(network: Network) -> Loaded:
    """Load a network, checked, (for a twin) calibrated, and laid out, because its weights will be shared by threads."""
    started = thread_time()
    loaded = extraction.laid_out(network.load())
    void = network.void(loaded) if network.seed is not None else ""
    module = extraction.laid_out(folded(loaded, network.taps, network.card.preprocessing.shape))
    return Loaded(module, thread_time() - started, void)


@contextmanager
def on_device(
    networks: Sequence[Network], loaded: Sequence[Loaded], images: int
) -> Iterator[tuple[list[nn.Module], str]]:
    """Yield networks where their job wants them, with hooks of their own, and the name of that GPU ("" on the CPU)."""
    if networks[0].extraction.device == "cpu":
        yield [each.shared() for each in loaded], ""
        return
    try:
        with devices.lent() as gpu, devices.repeatable(), devices.enough_memory(gpu, images):
            yield [Loaded(devices.copied(each.module, gpu)).shared() for each in loaded], devices.name_of(gpu)
    except DeviceError as error:
        labels = " and ".join(f"'{network.label}'" for network in networks)
        raise DeviceError(f"{_here()}, showing images to {labels}: {error}") from None


def _here() -> str:
    """Return the name of the worker that computes this, for people."""
    from distributed import get_worker

    try:
        return f"worker '{get_worker().address}'"
    except ValueError:
        return "this process"


def shard_task(shown: Sequence[Pass], rows: range, location: str, *loaded: Loaded) -> tuple[list[float], float]:
    """Show one stretch of a set to networks that see the same images, which are drawn once, and keep what every tap answers.

    The only task that computes on the job's device. Loading stays on the CPU, so that an untrained twin, whose BatchNorm is
    calibrated there, is the same network whatever shows it images.

    Returns
    -------
    tuple
        Processor seconds that loading each network took, and those of this task; with a GPU, which works while the processor
        waits, the time that passed.
    """
    loading_s, shards = [each.seconds for each in loaded], Shards(ActivationStore(location))
    clock = thread_time if shown[0].network.extraction.device == "cpu" else perf_counter
    started = clock()
    left = [[tap for tap in each.taps if not shards.has(each.key(tap, rows))] for each in shown]
    asked = [(each, taps, network) for each, taps, network in zip(shown, left, loaded, strict=True) if taps]
    if not asked:
        return loading_s, 0.0
    first, networks = shown[0], [each.network for each, _, _ in asked]
    count = first.network.shape(first.stimulus_set, first.taps[0])[0]
    # A batch is padded to its full size, so it should not be larger than the set.
    spec = first.network.extraction.model_copy(update={"batch_size": min(first.network.extraction.batch_size, count)})
    shape = first.network.card.preprocessing.shape
    # The networks take turns, batch by batch: no more than one batch waits.
    batches = itertools.tee(first.network.batches(first.stimulus_set, first.frame, rows), len(asked))
    with on_device(networks, [network for _, _, network in asked], spec.batch_size) as (modules, gpu):
        turns = [
            extraction.extract(module, taps, some, spec, shape, first.frame)
            for module, (_, taps, _), some in zip(modules, asked, batches, strict=True)
        ]
        answers = [extraction.collect(each) for each in zip(*zip(*turns, strict=True), strict=True)]
    for (each, taps, network), answer in zip(asked, answers, strict=True):
        for tap in taps:
            shards.write(each.key(tap, rows), answer[tap.name], Maker(provenance.processor(), gpu, network.void))
    return loading_s, clock() - started


def store_task(shown: Pass, tap: Tap, location: str, _after: Sequence[object]) -> float:
    """Join a tap's shards into its store, and free their room, once those that make them have ended; return processor s."""
    started, network, store = thread_time(), shown.network, ActivationStore(location)
    shards, key = Shards(store), network.key(shown.stimulus_set, tap)
    if store.has(key.name):
        return thread_time() - started
    attributes = {
        **network.provenance(shown.stimulus_set, tap),
        **provenance.extraction_environment(network.extraction.device),
    }
    shape = network.shape(shown.stimulus_set, tap)
    parameters = sets.parameters(shown.stimulus_set, network.stimuli)
    makers: set[Maker] = set()
    try:
        with store.writing(key, parameters, shape, network.extraction.dtype, attributes) as writer:
            for rows in shown.shards:
                part = _shard(shards, shown, tap, rows)
                makers.update(part.makers)
                writer.append(part.rows)
            writer.describe(_made_by(network, makers))
    except StoreError:
        # Another job may have joined and freed the same shards in between.
        if not store.has(key.name):
            raise
    keep_place = sets.extendable(shown.stimulus_set)
    for rows in shown.shards:
        shards.release(shown.key(tap, rows), key.name, rows, keep_place=keep_place)
    return thread_time() - started


def _made_by(network: Network, makers: set[Maker]) -> dict[str, Any]:
    """Return the attributes that say what computed: on GPUs their names and the batch size, which cuDNN's sums depend on."""
    made: dict[str, Any] = {"processors": sorted({maker.processor for maker in makers})}
    if void := max((maker.void for maker in makers), default=""):
        made["void_twin"] = void
    if network.extraction.device == "cpu":
        return made
    gpus = {maker.gpu or _UNKNOWN for maker in makers}
    return {**made, "gpus": sorted(gpus), "batch_size": network.extraction.batch_size}


def _shard(shards: Shards, shown: Pass, tap: Tap, rows: range) -> Shard:
    values = shards.read(shown.key(tap, rows))
    if values is None:
        raise StoreError(
            f"a shard of '{shown.network.label}', {tap.name} vanished while it was joined; run the job again"
        )
    return values
