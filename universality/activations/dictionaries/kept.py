"""Bases of the layers of a job: from what each is made, and the dictionaries among them, learnt once and kept in the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from universality.activations import bases, pieces
from universality.activations.bases import Basis
from universality.activations.dictionaries.dictionary import Dictionary
from universality.activations.dictionaries.spec import LEARNT, DictionarySpec
from universality.activations.places import HIDDEN, place_of
from universality.activations.store import ActivationStore
from universality.base import arrays, locks, schema
from universality.base.errors import TapError
from universality.base.recent import Recent
from universality.base.spec import digest

VERSION = 1
"""Of the learning: raised when equal activations give other dictionaries."""
FOLDER = "dictionaries"
BLOCK_BYTES = 32 << 20
"""What is read of a store at a time."""
_OWN_HAAR = (7919, 1)
"""Begins the seed of a job's random basis, which is none of those that a unit's partner has to exceed."""
_WAIT_S = 0.2
_READ: Recent[Dictionary] = Recent(64 << 20, lambda of: of.nbytes)


@dataclass(frozen=True)
class Source:
    """A layer whose activations a dictionary is learnt from: a name for people, its units, its store of natural images."""

    label: str
    units: int
    store: str


@dataclass(frozen=True)
class BasisRef:
    """The basis that a layer is seen in: everything that a worker needs to make it, and no array.

    Attributes
    ----------
    name : ``haar``, ``nmf``, ``sae``, ``universal_sae``, or ``units`` for some of them drawn at random
    sources : the layers that a dictionary is learnt from, and `place` the one among them that is seen in it
    seed : of a random basis, and of the units drawn
    device : where a dictionary is learnt
    """

    name: str
    spec: DictionarySpec
    directions: int
    sources: tuple[Source, ...]
    place: int
    seed: int = 0
    device: str = "cpu"

    @property
    def own(self) -> Source:
        """The layer itself."""
        return self.sources[self.place]

    @property
    def learnt(self) -> bool:
        """Whether it is a dictionary."""
        return self.name in LEARNT

    @cached_property
    def identity(self) -> str:
        """Digest of what decides the basis; no path does."""
        if not self.learnt:
            return digest([self.name, self.directions, self.own.units, self.seed])
        return digest([self.key(self.spec.seeds[0]), self.place])

    def key(self, seed: int, *, frozen: bool = False) -> str:
        """Return the key under which the dictionaries of one seed are kept, those of all sources together."""
        plain = {name: value for name, value in self.spec.plain().items() if name not in ("seeds", "directions")}
        library = "scikit-learn" if self.name == "nmf" else "torch"
        made_of = [
            VERSION,
            self.name,
            plain,
            self.directions,
            [of.store for of in self.sources],
            seed,
            frozen,
            self.device,
        ]
        return digest([*made_of, library, version(library)])[:32]

    def basis(self, store_root: str) -> Basis:
        """Return the basis; a dictionary that is not kept in the store is learnt and kept."""
        if self.name == "units":
            drawn = np.random.default_rng([self.seed, self.own.units]).permutation(self.own.units)[: self.directions]
            return bases.orthonormal("units", np.eye(self.own.units)[:, np.sort(drawn)])
        if self.name == "haar":
            return bases.orthonormal(
                "haar", bases.directions_of(self.own.units, self.directions, *_OWN_HAAR, self.seed)
            )
        return self.dictionary(store_root, self.spec.seeds[0]).basis(self.name)

    def dictionary(self, store_root: str, seed: int, *, frozen: bool = False) -> Dictionary:
        """Return the dictionary of one seed, of the layer itself; `frozen` is the null whose directions are random.

        Raises
        ------
        TapError
            The activations cannot be described: too few, constant, negative ones for NMF, or not numbers.
        """
        name = digest([self.key(seed, frozen=frozen), self.place, store_root])
        return _READ.get(name, lambda: self._kept(store_root, seed, frozen))

    def _kept(self, store_root: str, seed: int, frozen: bool) -> Dictionary:
        place, key = place_of(store_root), self.key(seed, frozen=frozen)
        names = [pieces.name_of(FOLDER, f"{key}-{number}") for number in range(len(self.sources))]
        kept = pieces.read(place, names[self.place])
        if kept is None:
            with _alone(store_root, key):
                kept = pieces.read(place, names[self.place])
                if kept is None:
                    rows = [
                        sample(store_root, of, self.spec, shuffled=self._shuffled(k))
                        for k, of in enumerate(self.sources)
                    ]
                    made = [of.to_bytes() for of in learn(self, rows, seed, frozen=frozen)]
                    for written, content in zip(names, made, strict=True):
                        pieces.write(place, written, content)
                    kept = made[self.place]
        return Dictionary.from_bytes(kept)

    def _shuffled(self, number: int) -> int:
        """Return in which order the images of a source are taken: 0 for their own."""
        return number if self.name == "universal_sae" and self.spec.shuffled_images else 0


def learn(of: BasisRef, rows: list[NDArray[np.float32]], seed: int, *, frozen: bool = False) -> list[Dictionary]:
    """Return one dictionary for each source, learnt from its activations (row, unit).

    Raises
    ------
    TapError
        As `BasisRef.dictionary`.
    """
    for source, values in zip(of.sources, rows, strict=True):
        refuse(of, source, values)
    if of.name == "nmf":
        from universality.activations.dictionaries import non_negative

        made = non_negative.frozen if frozen else non_negative.nmf
        return [made(rows[0], of.directions, seed)]
    from universality.activations.dictionaries.sparse import sae  # with Torch

    return sae(
        rows, of.directions, of.spec.active, seed, steps=of.spec.steps, batch=of.spec.batch, sparsity=of.spec.sparsity, frozen=frozen,
        device=of.device,
    )  # fmt: skip


def refuse(of: BasisRef, source: Source, rows: NDArray[np.float32]) -> None:
    """Raise `TapError`, in one sentence, where a layer's activations (row, unit) have no dictionary."""
    if not np.isfinite(rows).all():
        raise TapError(
            f"{source.label}: activations hold NaN or infinite numbers, expected numbers to learn a dictionary from; check the network's weights"
        )
    if len(rows) < of.directions:
        raise TapError(
            f"{source.label}: {len(rows)} positions of natural images are fewer than the {of.directions} directions to learn from them; raise "
            "stimuli.natural.crops or extraction.positions, or lower dictionary.directions"
        )
    if not arrays.live_units(rows).any():
        raise TapError(
            f"{source.label}: all units are constant over the natural images, expected some that vary to learn a dictionary from; choose another tap"
        )
    if of.name == "nmf" and rows.min() < 0:
        raise TapError(
            f"{source.label}: activations go down to {rows.min():.3g}, expected none below 0 for basis = 'nmf'; name the tap after its nonlinearity, "
            "such as NAME:post, or set basis = 'sae'"
        )


def sample(
    store_root: str, source: Source, spec: DictionarySpec, *, fold: int = 0, shuffled: int = 0
) -> NDArray[np.float32]:
    """Return activations (row, unit) of natural images at all their positions, of the fold in which matches are decided, or the one in which they are scored.

    The same positions of the same images for every layer that was shown them; `spec.samples` at most, drawn at random. Read block by block.

    Parameters
    ----------
    shuffled : number of the order in which the images are taken instead of their own; 0 for their own
    """
    stored = ActivationStore(store_root).open(source.store, verify=False)
    values = stored[schema.ACTIVATION]
    images = np.flatnonzero(stored["fold"].values == fold)
    places = values.shape[1] if values.ndim == 3 else 1
    count = len(images) * places
    chosen = np.arange(count)
    if count > spec.samples:
        chosen = np.sort(np.random.default_rng(spec.samples).permutation(count)[: spec.samples])
    if shuffled:
        images = np.random.default_rng([shuffled, len(images)]).permutation(images)
    row_of = np.full((values.shape[0], places), -1)
    row_of[images[chosen // places], chosen % places] = np.arange(len(chosen))
    found = np.empty((len(chosen), values.shape[-1]), dtype=np.float32)
    for block in _blocks(values.shape[0], places * values.shape[-1] * values.dtype.itemsize):
        rows = row_of[block].ravel()
        if (rows >= 0).any():
            read = values[block].values.reshape(-1, values.shape[-1])
            found[rows[rows >= 0]] = read[rows >= 0]
    return found


def _blocks(images: int, each: int) -> Iterator[slice]:
    step = max(BLOCK_BYTES // max(each, 1), 1)
    return (slice(start, min(start + step, images)) for start in range(0, images, step))


@contextmanager
def _alone(store_root: str, key: str) -> Iterator[None]:
    """Wait for other processes and threads that learn the same dictionary, where the store is a folder."""
    folder = Path(store_root) / HIDDEN
    if not folder.is_dir():
        yield
        return
    while True:
        with ExitStack() as stack:
            try:
                stack.enter_context(locks.held(folder / f"dictionary-{key}.lock", remove=True))
            except BlockingIOError:
                time.sleep(_WAIT_S)
                continue
            yield
            return
