"""Extraction on a cluster: a network is loaded once, shown its stimuli shard by shard, and its shards are joined.

Dask moves a loaded network to another worker where that is quicker than waiting, and loads it again where a worker died.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from distributed import Client, Future

from universality.activations.store import ActivationStore
from universality.base.errors import UniversalityError
from universality.base.progress import Reporter
from universality.jobs.passes import Pass, loading, showing
from universality.jobs.scheduling import Watch, watching
from universality.jobs.seconds import Spent
from universality.jobs.shards import Shards, check_task, load_task, shard_task, store_task
from universality.jobs.workers import GPU, Failure

# What comes first: a network before the next one, since as few as possible should be in memory; of its shards, of priority
# 1 down to 0, the longest, so that the workers end together; joining as soon as it can be. The next network is loaded when
# the longest have begun, so that nobody waits for it.
_NETWORK, _STORE = 4, 2
_LOAD = _NETWORK + 0.999


@dataclass(frozen=True)
class _Step:
    """A future of one network's extraction: what it is for people, how many images it shows, who notes what it took."""

    label: str
    images: int
    note: Callable[[Any], None] | None = None


def extract(
    passes: Sequence[Pass],
    store: ActivationStore,
    opened: Callable[[], Client],
    retries: int,
    reporter: Reporter,
    spent: Spent | None = None,
) -> list[Failure]:
    """Extract what the passes miss; return the failures, one for each network and cause, once all others have ended.

    What it took is added to `spent`.
    """
    spent = spent or Spent()
    advance = reporter.track("extraction (images)", sum(len(rows) for shown in passes for rows in shown.shards))
    networks = [list(some) for _, some in groupby(passes, key=lambda shown: id(shown.network))]
    on_gpus = any(shown.network.extraction.device == "cuda" for shown in passes)
    networks.sort(key=_pixels, reverse=True)
    with watching(opened(), GPU if on_gpus else None) as watch:
        failures = _together(networks, _Submitter(watch, store, retries, advance, spent), watch)
        lost = {failure.label for failure in failures if failure.lost}
        failures = [failure for failure in failures if failure.label not in lost]
        for network in networks:
            if network[0].network.label in lost:
                # See `Failure`: its shards that are there are kept, so this costs little.
                failures += _together([network], _Submitter(watch, store, retries, lambda _: None, spent), watch)
    place = {shown.network.label: number for number, shown in enumerate(passes)}
    return sorted(failures, key=lambda failure: (place[failure.label], failure.cause))


def _pixels(passes: Sequence[Pass]) -> int:
    """Return how much a network is shown, px: the most comes first, so that no worker begins it when the others have ended."""
    images = sum(len(rows) for shown in passes for rows in shown.shards)
    return images * passes[0].network.card.preprocessing.pixels


def _together(networks: Sequence[Sequence[Pass]], submitter: _Submitter, watch: Watch) -> list[Failure]:
    """Extract what the networks miss, a few ahead of the threads; return the failures."""
    found: dict[tuple[str, str], Failure] = {}
    steps: dict[Future[Any], _Step] = {}
    waiting = iter(networks)
    while True:
        # A few networks ahead of the threads: many more would only fill the scheduler.
        while len(watch.pending) < 8 * watch.threads() and (network := next(waiting, None)):
            new = dict(submitter.submit(network))
            steps |= new
            watch.pending |= new.keys()
        if not watch.pending:
            return list(found.values())
        for future in watch.ended():
            if future.status not in ("finished", "error"):
                watch.pending.add(future)  # its worker died: it is under way again
                continue
            step = steps.pop(future)
            submitter.advance(step.images)
            if step.note and future.status == "finished":
                with suppress(Exception):  # a worker may have died with its answer, which is worth no second try
                    step.note(future.result(timeout=1))
            if future.status == "error":
                failure = Failure.of(step.label, future.exception())
                found.setdefault((step.label, failure.cause), failure)


def check(passes: Sequence[Pass], opened: Callable[[], Client]) -> list[Failure]:
    """Load every trained network once and let it go: weights that are missing or wrong are a mistake to be told at once.

    The workers look, not this process: it is their weights folder that counts.
    """
    networks = {shown.network.label: shown.network for shown in passes if shown.network.trained}
    with watching(opened()) as watch:
        labels = {watch.submit("check", check_task, network): label for label, network in networks.items()}
        watch.pending |= labels.keys()
        failed = {}
        while watch.pending:
            for future in watch.ended():
                found = watch.outcome(future)
                if isinstance(found, UniversalityError):
                    failed[labels[future]] = Failure.of(labels[future], found)
        return [failed[label] for label in networks if label in failed]


class _Submitter:
    """Submits networks one after another, earlier ones first."""

    def __init__(
        self, watch: Watch, store: ActivationStore, retries: int, advance: Callable[[int], None], spent: Spent
    ) -> None:
        self._watch = watch
        self._store = store
        self._retries = retries
        self.advance = advance
        self._spent = spent
        self._loads: set[str] = set()
        self._networks = 0

    def _note_shard(self, shown: Pass, images: int, load: str, took: tuple[float, float]) -> None:
        """Add up what a shard took, and once what loading its network (by the future `load`) did."""
        load_s, show_s = took
        if load not in self._loads:
            self._loads.add(load)
            for kind, work in loading(shown.network):
                self._spent.add(kind, work, load_s)
        if show_s:
            for kind, work in showing(shown, images):
                self._spent.add(kind, work, show_s)

    def submit(self, passes: Sequence[Pass]) -> Iterator[tuple[Future[Any], _Step]]:
        """Submit what one network misses: loading, shards, joining."""
        label, kept = passes[0].network.label, Shards(self._store)
        self._networks += 1
        loaded: Future[Any] | None = None
        longest = max(len(rows) for shown in passes for rows in shown.shards)
        for number, shown in enumerate(passes):
            shards = []
            for rows in shown.shards:
                if all(kept.has(shown.key(tap, rows)) for tap in shown.taps):
                    self.advance(len(rows))
                    continue
                if loaded is None:
                    loaded = self._one("load", load_task, shown.network, soon=_LOAD)
                    yield loaded, _Step(label, 0)
                name = f"shard-{number}-{rows.start}"
                how: dict[str, Any] = {"soon": len(rows) / longest}
                if shown.network.extraction.device == "cuda":
                    how["resources"] = {GPU: 1}
                shards.append(self._one(name, shard_task, shown, rows, self._store.location, loaded, **how))
                yield shards[-1], _Step(label, len(rows), partial(self._note_shard, shown, len(rows), str(loaded.key)))
            for position, tap in enumerate(shown.taps):
                name, call = f"store-{number}-{position}", (store_task, shown, tap, self._store.location, shards)
                yield self._one(name, *call, soon=_STORE), _Step(label, 0, partial(self._spent.add, "stores", 1.0))

    def _one(self, name: str, *call: Any, soon: float, **placed: Any) -> Future[Any]:
        priority = soon - _NETWORK * self._networks
        return self._watch.submit(name, *call, retries=self._retries, priority=priority, **placed)
