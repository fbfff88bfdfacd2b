"""Activations on disk: one Zarr group per content key, committed atomically, checked before it is believed.

A key is the digest of what decides the values: weights, preprocessing, stimuli, tap, reduction and dtype. A store
is written into ``KEY.partial-.../data.zarr``, whole chunks at a time; then every file's SHA-256 goes into
``manifest.json`` beside it and the folder is renamed to ``KEY``. So a folder called KEY is complete, and whatever was cut short keeps its other name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from universality.errors import StoreError
from universality.resources import is_file
from universality.schema import ACTIVATION, FORMAT_VERSION, POSITION, STIMULUS, UNIT
from universality.spec import digest

MANIFEST = "manifest.json"
DATA = "data.zarr"
_PARTIAL = re.compile(r"[0-9a-f]{32}\.partial-\d+-[0-9a-f]{8}")
CHUNK_STIMULI = 256
_WRITING: set[str] = set()
"""Folders that this process is writing now: another thread's job must not take them for left-overs."""
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
        """Folder of the store: the first 32 hex digits of the digest of its contents' causes."""
        # The model's name is for the reader of the attributes only: equal weights give equal activations.
        causes = [self.weights, self.preprocessing, self.stimuli, self.tap, self.reduction]
        return digest([FORMAT_VERSION, *causes])[:32]


class ActivationStore:
    """A folder of activation stores."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, key_name: str) -> Path:
        """Return the folder of the store called `key_name`."""
        return self.root / key_name

    def has(self, key_name: str) -> bool:
        """Return whether the store was committed (not whether it is undamaged: see `verify`)."""
        return is_file(self.path(key_name) / MANIFEST)

    def verify(self, key_name: str) -> None:
        """Compare every file of a store with its manifest.

        Raises
        ------
        StoreError
            If the manifest is missing or unreadable, its format is another, or a file is missing, new, cut short or
            changed.
        """
        path = self.path(key_name)
        manifest = _read_manifest(path)
        expected: dict[str, dict[str, Any]] = manifest["files"]
        came = dict(_files(path))
        for name in sorted(expected.keys() | came.keys()):
            if name not in came:
                raise StoreError(f"store '{path}' lacks the file '{name}' of its manifest; {_REMEDY}")
            if name not in expected:
                raise StoreError(f"store '{path}' has a file '{name}' that its manifest does not list; {_REMEDY}")
            size = came[name].stat().st_size
            if size != expected[name]["bytes"]:
                raise StoreError(
                    f"store '{path}' was cut short or changed: '{name}' has {size} bytes, expected "
                    f"{expected[name]['bytes']}; {_REMEDY}"
                )
            if _sha256(came[name]) != expected[name]["sha256"]:
                raise StoreError(f"store '{path}' is damaged: '{name}' differs from its checksum; {_REMEDY}")

    def open(self, key_name: str, *, verify: bool = True, lazy: bool = True) -> xr.Dataset:
        """Open a store as xarray: ``activation`` with labelled dimensions, provenance in the attributes.

        With `lazy` the activations are Dask arrays of the stored chunks, else they are read at once.

        Raises
        ------
        StoreError
            If there is no such store, or (with `verify`) it is not what was committed.
        """
        if not self.has(key_name):
            raise StoreError(f"store '{self.path(key_name)}' does not exist; run the job to extract it")
        if verify:
            self.verify(key_name)
        chunks: dict[str, int] | None = {} if lazy else None
        dataset: xr.Dataset = xr.open_zarr(self.path(key_name) / DATA, consolidated=False, chunks=chunks)
        if not lazy:
            dataset = dataset.load()
        # Labels are small and wanted at once; as Python strings they work with every NumPy function.
        labels = {
            name: c.load().astype(object) if c.dtype.kind == "T" else c.load() for name, c in dataset.coords.items()
        }
        return dataset.assign_coords(labels)

    def set_aside(self, key_name: str) -> Path:
        """Rename a damaged store so that it is no longer found, and return its new place."""
        path = self.path(key_name)
        aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
        return aside

    def partial(self) -> list[Path]:
        """Return folders that an interrupted write left behind."""
        return sorted(path for path in self.root.glob("*.partial-*") if _PARTIAL.fullmatch(path.name))

    def remove_partial(self) -> int:
        """Delete what interrupted writes of processes that no longer run left behind; return how many."""
        stale = [path for path in self.partial() if not _writer_runs(path)]
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
        return len(stale)

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
        partial = self.root / f"{key.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        final = self.path(key.name)
        _WRITING.add(partial.name)
        try:
            with _disk_errors(final):
                partial.mkdir(parents=True)
                writer = StoreWriter(partial, parameters, shape, dtype, {**attributes, "key": key.name})
            yield writer
            with _disk_errors(final):
                writer.finish()
                _commit(partial, final)
        finally:
            _WRITING.discard(partial.name)
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    # Only around the store's own writing: an error of whoever makes the rows is not about this disk.
    try:
        yield
    except OSError as cause:
        raise StoreError(
            f"store '{path}' cannot be written: {cause.strerror or cause}; free space or choose another folder with "
            "--store"
        ) from None


class StoreWriter:
    """Buffers rows and writes whole chunks, so that a chunk is never written twice or by halves."""

    def __init__(
        self, path: Path, parameters: xr.Dataset, shape: tuple[int, ...], dtype: str, attributes: dict[str, Any]
    ) -> None:
        dims = (STIMULUS, UNIT) if len(shape) == 2 else (STIMULUS, POSITION, UNIT)
        self._rows = 0
        self._buffer: list[np.ndarray] = []
        self._path = path
        self._shape = shape
        group = zarr.create_group(path / DATA, zarr_format=3, attributes={**attributes, "format": FORMAT_VERSION})
        self._array = group.create_array(
            ACTIVATION,
            shape=shape,
            chunks=(min(CHUNK_STIMULI, shape[0]), *shape[1:]),
            dtype=dtype,
            compressors=[ZstdCodec(level=1, checksum=True)],
            fill_value=float("nan"),
            dimension_names=dims,
            # The CF attribute by which xarray finds the labels of the stimuli.
            attributes={"units": "a.u.", "coordinates": " ".join(str(name) for name in parameters.coords)},
            config={"write_empty_chunks": True},
        )
        _write_coordinates(group, parameters)
        _write_array(group, UNIT, np.arange(shape[-1]), (UNIT,), {})

    def append(self, values: np.ndarray) -> None:
        """Append rows (stimulus, ...) in the order of the stimuli."""
        if values.shape[1:] != self._shape[1:]:
            # Zarr would broadcast or cut them without a word.
            raise StoreError(
                f"store '{self._path}' was given rows of {values.shape[1:]}, expected {self._shape[1:]}; "
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

    def _write(self, rows: np.ndarray) -> None:
        with _disk_errors(self._path):
            self._array[self._rows : self._rows + len(rows)] = rows
        self._rows += len(rows)

    def finish(self) -> None:
        """Write the last rows and the manifest with every file's checksum.

        Raises
        ------
        StoreError
            If fewer or more rows came than the store has.
        """
        rest = np.concatenate(self._buffer) if self._buffer else np.empty((0, *self._shape[1:]))
        if self._rows + len(rest) != self._shape[0]:
            raise StoreError(
                f"store '{self._path}' was given {self._rows + len(rest)} stimuli, expected {self._shape[0]}; "
                "this is a fault in the package, please report it"
            )
        if len(rest):
            self._write(rest)
        files = {name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for name, file in _files(self._path)}
        text = json.dumps({"format": FORMAT_VERSION, "files": files}, indent=1, sort_keys=True)
        (self._path / MANIFEST).write_text(text, encoding="utf-8")


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
        compressors=[ZstdCodec(level=1, checksum=True)],
    )
    array[:] = values.astype(object) if is_text else values


def _commit(partial: Path, final: Path) -> None:
    for _, file in _files(partial):
        _flush(file)
    _flush(partial)
    try:
        partial.rename(final)
    except OSError:
        # Another process committed the same content first: equal keys mean equal values, so its store stands.
        if not (final / MANIFEST).is_file():
            raise
    _flush(final.parent)


def _flush(path: Path) -> None:
    """Ask the system to put a file or folder on the disk, so that the rename cannot come before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _writer_runs(partial: Path) -> bool:
    pid = int(partial.name.split(".partial-")[1].split("-")[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid() or partial.name in _WRITING


def _files(path: Path) -> list[tuple[str, Path]]:
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted((file.relative_to(path).as_posix(), file) for file in found if file != path / MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["format"], manifest["files"]
        checked = all({"bytes", "sha256"} <= entry.keys() for entry in files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(f"store '{path}' has no readable {MANIFEST}: it is damaged; {_REMEDY}") from None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"store '{path}' has format {version}, this version of the package reads {FORMAT_VERSION}; "
            "extract it anew into another folder with --store"
        )
    if not checked:
        raise StoreError(f"store '{path}' has a manifest without checksums: it is damaged; {_REMEDY}")
    return manifest
