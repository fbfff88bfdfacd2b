"""Extraction on a cluster: a network is loaded once, shown its stimuli shard by shard, and its shards are joined.

A network, its untrained twin and its noisy copy see the same images, so one task draws a stretch of them and shows it to all.

Dask moves a loaded network to another worker where that is quicker than waiting, and loads it again where a worker died.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
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
_TOGETHER = 3
"""How many networks of a model one task shows its images: all of them are in memory meanwhile."""

_Group = Sequence[Sequence[Pass]]
"""What each of some networks of a model is shown."""


@dataclass(frozen=True)
class _Step:
    """A future of one network's extraction: what it is for people, how many images it shows, who notes what it took.

    `shared` says that others wait for it, too: networks that are shown images together.
    """

    label: str
    images: int
    note: Callable[[Any], None] | None = None
    shared: bool = False


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
    groups, on_gpus = _groups(networks), any(shown.network.extraction.device == "cuda" for shown in passes)
    with watching(opened(), GPU if on_gpus else None) as watch:
        again = _Submitter(watch, store, retries, lambda _: None, spent)
        submitter = _Submitter(watch, store, retries, advance, spent)
        failures, failed = _together(groups, submitter, watch), submitter.failed_together
        # Networks that were shown images together failed together: whose failure it is shows when each is tried without the
        # other. Shards that are there are kept, so this costs little.
        suspects = [
            network
            for group in groups
            if len(group) > 1 and not failed.isdisjoint(map(_label, group))
            for network in group
        ]
        failures = _but_of(suspects, failures) + _together([[network] for network in suspects], again, watch)
        killed = {failure.label for failure in failures if failure.lost}
        lost = [network for network in networks if _label(network) in killed]
        failures = _but_of(lost, failures)
        for network in lost:
            failures += _together([[network]], again, watch)  # see `Failure`
    place = {shown.network.label: number for number, shown in enumerate(passes)}
    return sorted(failures, key=lambda failure: (place[failure.label], failure.cause))


def _groups(networks: _Group) -> list[_Group]:
    """Return the networks of each model in groups of at most `_TOGETHER`.

    Those that are shown most come first, so that no worker begins them when the others have ended.
    """
    models = [list(some) for _, some in groupby(networks, key=lambda network: network[0].network.card.id)]
    groups = [model[at : at + _TOGETHER] for model in models for at in range(0, len(model), _TOGETHER)]
    return sorted(groups, key=lambda group: sum(map(_pixels, group)), reverse=True)


def _pixels(passes: Sequence[Pass]) -> int:
    """Return how much a network is shown, px."""
    images = sum(len(rows) for shown in passes for rows in shown.shards)
    return images * passes[0].network.card.preprocessing.pixels


def _label(passes: Sequence[Pass]) -> str:
    return passes[0].network.label


def _but_of(networks: _Group, failures: list[Failure]) -> list[Failure]:
    """Return the failures that are none of these networks'."""
    labels = set(map(_label, networks))
    return [failure for failure in failures if failure.label not in labels]


def _together(groups: Sequence[_Group], submitter: _Submitter, watch: Watch) -> list[Failure]:
    """Extract what the networks miss, a few ahead of the threads; return the failures."""
    found: dict[tuple[str, str], Failure] = {}
    steps: dict[Future[Any], _Step] = {}
    waiting = iter(groups)
    while True:
        # A few networks ahead of the threads: many more would only fill the scheduler.
        while len(watch.pending) < 8 * watch.threads() and (group := next(waiting, None)):
            new = dict(submitter.submit(group))
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
                if step.shared:
                    submitter.failed_together.add(step.label)
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
        self.failed_together: set[str] = set()
        """Networks of which a step failed that others waited for."""

    def _note_shard(
        self, shown: Sequence[Pass], images: int, loads: Sequence[str], took: tuple[Sequence[float], float]
    ) -> None:
        """Add up what a shard took, and once for each of its networks what loading it (by a future of `loads`) did."""
        loading_s, show_s = took
        for each, load, load_s in zip(shown, loads, loading_s, strict=True):
            if load not in self._loads:
                self._loads.add(load)
                for kind, work in loading(each.network):
                    self._spent.add(kind, work, load_s)
            if show_s:
                for kind, work in showing(each, images):
                    self._spent.add(kind, work, show_s / len(shown))

    def submit(self, group: _Group) -> Iterator[tuple[Future[Any], _Step]]:
        """Submit what some networks of a model miss: loading, shards, joining."""
        kept = Shards(self._store)
        # An annotation is not evaluated: old versions of Dask have no Future[...].
        loads: dict[str, Future[Any]] = {}
        self._networks += 1
        longest = max(len(rows) for shown in chain.from_iterable(group) for rows in shown.shards)
        for number, shown in enumerate(_drawn_once(group)):
            shards = []
            for rows in shown[0].shards:
                left = [each for each in shown if not all(kept.has(each.key(tap, rows)) for tap in each.taps)]
                self.advance(len(rows) * (len(shown) - len(left)))
                if not left:
                    continue
                labels = [each.network.label for each in left]
                for label, each in zip(labels, left, strict=True):
                    if label not in loads:
                        loads[label] = self._one("load", load_task, each.network, soon=_LOAD)
                        yield loads[label], _Step(label, 0, shared=True)
                how: dict[str, Any] = {"soon": len(rows) / longest}
                if left[0].network.extraction.device == "cuda":
                    how["resources"] = {GPU: 1}
                loaded = [loads[label] for label in labels]
                call = (shard_task, left, rows, self._store.location, *loaded)
                shards.append(self._one(f"shard-{number}-{rows.start}", *call, **how))
                note = partial(self._note_shard, left, len(rows), [str(load.key) for load in loaded])
                yield shards[-1], _Step(labels[0], len(rows) * len(left), note, shared=True)
            for each in shown:
                note = partial(self._spent.add, "stores", 1.0)
                for position, tap in enumerate(each.taps):
                    call = (store_task, each, tap, self._store.location, shards)
                    yield (
                        self._one(f"store-{number}-{position}", *call, soon=_STORE),
                        _Step(each.network.label, 0, note),
                    )

    def _one(self, name: str, *call: Any, soon: float, **placed: Any) -> Future[Any]:
        priority = soon - _NETWORK * self._networks
        return self._watch.submit(name, *call, retries=self._retries, priority=priority, **placed)


def _drawn_once(group: _Group) -> list[list[Pass]]:
    """Return what the networks of a group are shown, together where it is the same images in the same shards."""
    found: dict[Any, list[Pass]] = {}
    for shown in chain.from_iterable(group):
        found.setdefault(shown.drawn, []).append(shown)
    return list(found.values())
