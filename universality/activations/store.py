"""Activations on disk: one Zarr group per content key, committed atomically, with a checksum of every file.

A key is the digest of what decides the values: weights, preprocessing, stimuli, tap, reduction and dtype. A store
is written as a draft, whole chunks at a time; then every file's SHA-256 goes into ``manifest.json`` beside it, which
carries a digest of itself, and the draft is committed: a local folder ``KEY.partial-...`` is renamed to ``KEY``, on an
object store the manifest is written last (see `places`). So a KEY with a manifest is complete, and whatever was cut short is not seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from universality.activations.places import HIDDEN, PARTIAL, Draft, Folder, place_of
from universality.base.errors import StoreError
from universality.base.schema import ACTIVATION, FORMAT_VERSION, POSITION, STIMULUS, UNIT
from universality.base.spec import digest, is_sealed, sealed

if TYPE_CHECKING:
    import zarr
    from zarr.codecs import ZstdCodec

MANIFEST = "manifest.json"
DATA = "data.zarr"
CHUNK_STIMULI = 256
_REMEDY = "run the job again with --repair to set it aside and extract it anew"


@dataclass(frozen=True)
class StoreKey:
    """What decides the values of one store; `name` is its folder."""

    model: str
    weights: str
    preprocessing: str
    stimuli: str
    tap: dict[str, Any]
    reduction: dict[str, Any]

    @property
    def name(self) -> str:
        """Folder of the store: the first 32 hex digits of the digest of what decides its contents."""
        # The model's name is for the reader of the attributes only: equal weights give equal activations.
        causes = [self.weights, self.preprocessing, self.stimuli, self.tap, self.reduction]
        return digest([FORMAT_VERSION, *causes])[:32]


class ActivationStore:
    """A folder of activation stores, or a prefix of an object store.

    Parameters
    ----------
    location : path or URL
        A folder, or a URL that fsspec knows, such as ``s3://bucket/folder`` or ``memory://name``.

    Raises
    ------
    StoreError
        The URL's protocol is unknown, or its package is not installed.
    """

    def __init__(self, location: str | Path) -> None:
        self.place = place_of(location)
        self.location = self.place.location

    @property
    def root(self) -> Path:
        """The folder of a local store."""
        if not isinstance(self.place, Folder):
            raise StoreError(f"store '{self.location}' is no local folder; ask for its location")
        return self.place.root

    def path(self, key_name: str) -> Path:
        """Return the folder of the store called `key_name`, where stores are local."""
        return self.root / key_name

    def check(self) -> None:
        """Raise `StoreError` if the location cannot be a store: it is a file, or no object store answers there."""
        self.place.check()

    def has(self, key_name: str) -> bool:
        """Return whether the store was committed (not whether it is undamaged: see `verify`)."""
        return self.place.has(f"{key_name}/{MANIFEST}")

    def exists(self, key_name: str) -> bool:
        """Return whether there is anything under the key's name, complete or not."""
        if isinstance(self.place, Folder):
            return self.path(key_name).exists()
        return self.has(key_name) or bool(self.place.sizes(key_name))

    def absent(self, keys: Sequence[str]) -> str:
        """Return the sentence on stores that are not here: nothing says that they are damaged, they may lie elsewhere."""
        if not self.place.names():
            what = f"there is nothing at '{self.location}', where {len(keys)} store(s) of activations should be"
        elif len(keys) == 1:
            what = f"store '{self.place.join(keys[0])}' does not exist"
        else:
            what = f"{len(keys)} stores of activations do not exist in '{self.location}', the first is '{keys[0]}'"
        it, lies = ("it", "it lies") if len(keys) == 1 else ("them", "they lie")
        return f"{what}; run the job to extract {it}, or say where {lies} now (--store, or open_run(run, store=...))"

    def verify(self, key_name: str) -> None:
        """Compare every file of a store with its manifest.

        Raises
        ------
        StoreError
            If the manifest is missing or unreadable, its format is another, or a file is missing, new, cut short or
            changed.
        """
        for problem in self.problems(key_name):
            raise StoreError(problem)

    def problems(self, key_name: str) -> Iterator[str]:
        """Yield a sentence for every file of a store that is not what was committed."""
        path = self.place.join(key_name)
        if not self.exists(key_name):
            yield self.absent([key_name])
            return
        try:
            expected = self.files(key_name)
        except StoreError as error:
            yield str(error)
            return
        came = {name: size for name, size in self.place.sizes(key_name).items() if name != MANIFEST}
        if self.place.shares_keys:
            data = _data_folder(expected)
            came = {name: size for name, size in came.items() if name in expected or name.startswith(f"{data}/")}
        yield from self._renamed(key_name, expected, came)
        for name in sorted(expected.keys() | came.keys()):
            if name not in came:
                yield f"store '{path}' lacks the file '{name}' of its manifest; {_REMEDY}"
            elif name not in expected:
                yield f"store '{path}' has a file '{name}' that its manifest does not list; {_REMEDY}"
            elif came[name] != expected[name]["bytes"]:
                yield (
                    f"store '{path}' was cut short or changed: '{name}' has {came[name]} bytes, expected "
                    f"{expected[name]['bytes']}; {_REMEDY}"
                )
            elif self.place.sha256(f"{key_name}/{name}") != expected[name]["sha256"]:
                yield f"store '{path}' is damaged: '{name}' differs from its checksum; {_REMEDY}"

    def _renamed(self, key_name: str, expected: dict[str, dict[str, Any]], came: dict[str, int]) -> Iterator[str]:
        """Yield a sentence for every file that lies under another name than listed, and take both names out."""
        lacking = {(expected[name]["bytes"], expected[name]["sha256"]): name for name in expected.keys() - came.keys()}
        for name in sorted(came.keys() - expected.keys()) if lacking else ():
            listed = lacking.pop((came[name], self.place.sha256(f"{key_name}/{name}")), None)
            if listed is not None:
                del expected[listed], came[name]
                yield f"store '{self.place.join(key_name)}' has its file '{listed}' under the name '{name}'; {_REMEDY}"

    def open(self, key_name: str, *, verify: bool = True, lazy: bool = True) -> xr.Dataset:
        """Open a store as xarray: ``activation`` with labelled dimensions, provenance in the attributes.

        With `lazy` the activations are Dask arrays of the stored chunks, else they are read at once.

        Raises
        ------
        StoreError
            If there is no such store, or (with `verify`) it is not what was committed.
        """
        if not self.has(key_name):
            raise StoreError(self.absent([key_name]))
        if verify:
            self.verify(key_name)
        files = self.files(key_name)
        try:
            dataset = self._read(f"{key_name}/{_data_folder(files)}", lazy)
        except (OSError, LookupError, ValueError, RuntimeError):
            self._refuse_lost(key_name, files)
            raise
        # Zarr reads a chunk that is not there as NaN, and a label as 0: what was deleted while it was read must not count.
        self._refuse_lost(key_name, files)
        return dataset

    def _refuse_lost(self, key_name: str, files: dict[str, dict[str, Any]]) -> None:
        came = self.place.sizes(key_name)
        for name, expected in files.items():
            if came.get(name) != expected["bytes"]:
                raise StoreError(
                    f"store '{self.place.join(key_name)}' lost its file '{name}' while it was read; run the job again, with "
                    "--repair if the rest of the store is still there"
                )

    def _read(self, data: str, lazy: bool) -> xr.Dataset:
        dataset: xr.Dataset = xr.open_zarr(self.place.zarr(data), consolidated=False, chunks={} if lazy else None)
        if not lazy:
            dataset = dataset.load()
        # Labels are small and wanted at once; as Python strings they work with every NumPy function.
        labels = {name: c.load(scheduler="synchronous") for name, c in dataset.coords.items()}
        return dataset.assign_coords(
            {name: c.astype(object) if c.dtype.kind == "T" else c for name, c in labels.items()}
        )

    def keep(self, key_name: str, dataset: xr.Dataset) -> None:
        """Write a dataset that is in hand as a store, whole: `open` gives it back, and finds out whether it was damaged.

        Raises
        ------
        StoreError
            The disk is full, or the store cannot be written.
        """
        with _disk_errors(self.place.join(key_name)), self.place.drafting(key_name) as draft:
            encoding = {str(name): {"compressors": [_compressor()]} for name in dataset.data_vars}
            dataset.assign_attrs(format=FORMAT_VERSION, key=key_name).to_zarr(
                draft.data, zarr_format=3, consolidated=False, encoding=encoding
            )
            _commit(draft, _files_of(draft))

    def attributes(self, key_name: str) -> dict[str, Any]:
        """Return a store's own attributes: where its values come from."""
        data = _data_folder(self.files(key_name))
        group: dict[str, Any] = json.loads(self.place.read(f"{key_name}/{data}/zarr.json"))
        return dict(group["attributes"])

    def files(self, key_name: str) -> dict[str, dict[str, Any]]:
        """Return ``bytes`` and ``sha256`` of every file of a store by name, as its manifest states them.

        Raises
        ------
        StoreError
            The manifest is missing, unreadable or of another format.
        """
        path = self.place.join(key_name)
        try:
            text = self.place.read(f"{key_name}/{MANIFEST}").decode()
        except FileNotFoundError:
            raise StoreError(f"store '{path}' has no {MANIFEST}: it is damaged; {_REMEDY}") from None
        except OSError as cause:
            raise StoreError(
                f"store '{path}': its {MANIFEST} cannot be read ({cause.strerror or cause}); check its permissions and the disk"
            ) from None
        except ValueError as cause:
            raise StoreError(
                f"store '{path}' has a {MANIFEST} that is no text ({cause}): it is damaged; {_REMEDY}"
            ) from None
        try:
            manifest = json.loads(text)
            version, files = manifest["format"], manifest["files"]
            checked = all({"bytes", "sha256"} <= entry.keys() for entry in files.values())
            # Stores written before there was a digest have none; a changed manifest is not used.
            believed = manifest.keys() == {"format", "files"} or is_sealed(manifest)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            found = f"{type(cause).__name__}: {cause}"[:160]
            raise StoreError(
                f"store '{path}' has a {MANIFEST} that is none ({found}): it is damaged; {_REMEDY}"
            ) from None
        if not believed:
            raise StoreError(
                f"store '{path}' has a {MANIFEST} that differs from its own digest: it is damaged; {_REMEDY}"
            )
        if version != FORMAT_VERSION:
            raise StoreError(
                f"store '{path}' was written by format {version}, this version of the package reads {FORMAT_VERSION}; "
                "extract it anew into another folder with --store, or use the version that wrote it"
            )
        if not checked:
            raise StoreError(f"store '{path}' has a manifest without checksums: it is damaged; {_REMEDY}")
        return dict(files)

    def set_aside(self, key_name: str) -> str:
        """Rename a damaged store so that it is no longer found, and return its new name."""
        return self.place.set_aside(key_name, MANIFEST)

    def partial(self) -> list[Path]:
        """Return folders that writers of a local store use now, or left behind."""
        return [self.root / name for name in self.place.names() if PARTIAL.fullmatch(name)]

    def remove_partial(self) -> int:
        """Delete what interrupted writes left behind and no process writes now; return how many stores that were."""
        stale = self.place.leftovers()
        for name in stale:
            self.place.remove(name)
        return sum(1 for name in stale if PARTIAL.fullmatch(name))

    def in_use(self, run: Path) -> AbstractContextManager[None]:
        """Hold the store for a run: `alone` is refused meanwhile, and `runs` names the run from now on.

        Raises
        ------
        StoreError
            The store is being cleaned, or cannot be reached.
        """
        return self._in_use(str(Path(os.path.abspath(run))))  # noqa: PTH100 - resolve() would follow links

    @contextmanager
    def _in_use(self, run: str) -> Iterator[None]:
        with self.place.in_use():
            with suppress(OSError):  # a store that cannot be written cannot be cleaned either
                self.place.write(f"{HIDDEN}/runs/{_entry_of(run)}", json.dumps({"run": run}).encode())
            yield

    def runs(self) -> dict[str, str]:
        """Return the runs that used this store: folder by the name of its entry in the register.

        Raises
        ------
        StoreError
            An entry is damaged: it is unknown which run needs its stores.
        """
        found = {}
        for name in self.place.names(f"{HIDDEN}/runs"):
            entry = f"{HIDDEN}/runs/{name}"
            try:
                run = str(json.loads(self.place.read(entry))["run"])
            except (OSError, ValueError, KeyError, TypeError):
                run = ""
            if name != _entry_of(run):
                raise StoreError(
                    f"entry '{self.place.join(entry)}' of the store's register of runs is damaged; delete it if no run "
                    "outside the folder of runs uses this store"
                )
            found[entry] = run
        return found

    @contextmanager
    def writing(
        self, key: StoreKey, parameters: xr.Dataset, shape: tuple[int, ...], dtype: str, attributes: dict[str, Any]
    ) -> Iterator[StoreWriter]:
        """Write one store: append batches in order; committed on leaving, removed if an error comes out.

        Parameters
        ----------
        parameters : xr.Dataset
            Coordinates on ``stimulus``.
        shape : tuple
            (stimulus, unit) or (stimulus, position, unit).
        """
        where = self.place.join(key.name)
        with ExitStack() as stack:
            with _disk_errors(where):
                draft = stack.enter_context(self.place.drafting(key.name))
                writer = StoreWriter(draft, where, parameters, shape, dtype, {**attributes, "key": key.name})
            yield writer
            with _disk_errors(where):
                writer.finish()


@contextmanager
def _disk_errors(where: str) -> Iterator[None]:
    # Only around the store's own writing: an error in making the rows is not one of this disk.
    try:
        yield
    except OSError as cause:
        raise StoreError(
            f"store '{where}' cannot be written: {cause.strerror or cause}; free space or choose another folder with "
            "--store"
        ) from None


class StoreWriter:
    """Buffers rows and writes whole chunks, so that a chunk is never written twice or in parts."""

    def __init__(
        self,
        draft: Draft,
        where: str,
        parameters: xr.Dataset,
        shape: tuple[int, ...],
        dtype: str,
        attributes: dict[str, Any],
    ) -> None:
        dims = (STIMULUS, UNIT) if len(shape) == 2 else (STIMULUS, POSITION, UNIT)
        self._rows = 0
        self._buffer: list[np.ndarray] = []
        self._draft = draft
        self._where = where
        self._shape = shape
        import zarr  # most of half a second, and plans only ask which stores exist

        group = zarr.create_group(draft.data, zarr_format=3, attributes={**attributes, "format": FORMAT_VERSION})
        self._group = group
        self._array = group.create_array(
            ACTIVATION,
            shape=shape,
            chunks=(min(CHUNK_STIMULI, shape[0]), *shape[1:]),
            dtype=dtype,
            compressors=[_compressor()],
            fill_value=float("nan"),
            dimension_names=dims,
            # The CF attribute by which xarray finds the labels of the stimuli.
            attributes={"units": "a.u.", "coordinates": " ".join(str(name) for name in parameters.coords)},
            config={"write_empty_chunks": True},
        )
        _write_coordinates(group, parameters)
        _write_array(group, UNIT, np.arange(shape[-1]), (UNIT,), {})
        self._chunks = {ACTIVATION: self._array.nchunks, UNIT: 1, **{str(name): 1 for name in parameters.coords}}

    def append(self, values: np.ndarray) -> None:
        """Append rows (stimulus, ...) in the order of the stimuli."""
        if values.shape[1:] != self._shape[1:]:
            # Zarr would broadcast or cut them silently.
            raise StoreError(
                f"store '{self._where}' was given rows of {values.shape[1:]}, expected {self._shape[1:]}; "
                "this is a fault in the package, please report it"
            )
        self._buffer.append(values)
        held = sum(len(part) for part in self._buffer)
        chunk = self._array.chunks[0]
        while held >= chunk:
            joined = np.concatenate(self._buffer)
            self._write(joined[:chunk])
            self._buffer = [joined[chunk:]]
            held -= chunk

    def describe(self, attributes: dict[str, Any]) -> None:
        """Add attributes that are known only when the rows are."""
        with _disk_errors(self._where):
            self._group.update_attributes(attributes)

    def _write(self, rows: np.ndarray) -> None:
        with _disk_errors(self._where):
            self._array[self._rows : self._rows + len(rows)] = rows
        self._rows += len(rows)

    def finish(self) -> None:
        """Write the last rows and commit with a manifest of every file's checksum.

        Raises
        ------
        StoreError
            If fewer or more rows came than the store has.
        """
        rest = np.concatenate(self._buffer) if self._buffer else np.empty((0, *self._shape[1:]))
        if self._rows + len(rest) != self._shape[0]:
            raise StoreError(
                f"store '{self._where}' was given {self._rows + len(rest)} stimuli, expected {self._shape[0]}; "
                "this is a fault in the package, please report it"
            )
        if len(rest):
            self._write(rest)
        files = _files_of(self._draft)
        self._refuse_gaps(files)
        _commit(self._draft, files)

    def _refuse_gaps(self, files: Mapping[str, Any]) -> None:
        """Refuse to commit what was deleted meanwhile: a file that no manifest names would always be read as NaN."""
        for name, chunks in self._chunks.items():
            folder = f"{self._draft.name}/{name}/"
            there = sum(1 for file in files if file.startswith(f"{folder}c/"))
            if there != chunks or f"{folder}zarr.json" not in files:
                raise StoreError(
                    f"store '{self._where}' lost files of '{name}' while it was written; find what else deletes there, and "
                    "run the job again"
                )


def _files_of(draft: Draft) -> dict[str, dict[str, Any]]:
    return {name: {"bytes": size, "sha256": draft.sha256(name)} for name, size in draft.sizes().items()}


def _commit(draft: Draft, files: Mapping[str, Any]) -> None:
    """Make a draft a store, with a manifest of every file's checksum."""
    draft.commit(MANIFEST, json.dumps(sealed({"format": FORMAT_VERSION, "files": files}), indent=1, sort_keys=True))


def _compressor() -> ZstdCodec:
    from zarr.codecs import ZstdCodec

    return ZstdCodec(level=1, checksum=True)


def _write_coordinates(group: zarr.Group, parameters: xr.Dataset) -> None:
    for name, coordinate in parameters.coords.items():
        _write_array(group, str(name), coordinate.values, (STIMULUS,), dict(coordinate.attrs))


def _write_array(
    group: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, ...], attrs: dict[str, Any]
) -> None:
    is_text = values.dtype.kind in "UO"
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype="string" if is_text else values.dtype,
        dimension_names=dims,
        attributes=attrs,
        config={"write_empty_chunks": True},
        compressors=[_compressor()],
    )
    array[:] = values.astype(object) if is_text else values


def _entry_of(run: str) -> str:
    return f"{digest(run)[:16]}.json"


def _data_folder(files: dict[str, Any]) -> str:
    """Return the folder of the data that a manifest describes."""
    return min(files, default=DATA).split("/")[0]


def store_at(location: str | Path | None, default: str) -> ActivationStore:
    """Return the store at a path (made absolute: workers may run in another folder) or URL."""
    text = os.fspath(location or default)
    return ActivationStore(text if "://" in text else Path(text).absolute())
