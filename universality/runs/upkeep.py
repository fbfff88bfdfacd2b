"""The runs below a folder: which there are, whether they are undamaged, and what no run refers to any more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from universality.activations.places import HIDDEN
from universality.activations.store import MANIFEST, ActivationStore
from universality.base import locks
from universality.base.errors import RunError, StoreError
from universality.runs import provenance, sidecars
from universality.runs.record import LOCK
from universality.runs.run import Run, file_problems, read_record, record_problems
from universality.runs.tables import TABLES

_KEY = re.compile(r"[0-9a-f]{32}")
_ASIDE = re.compile(r"[0-9a-f]{32}\.damaged-[0-9a-f]{8}")
_OF_A_RUN = (provenance.RECORD, LOCK, "report.html", "ledger.csv")


@dataclass(frozen=True)
class Listed:
    """One run of a list; what its record does not say is empty."""

    path: Path
    name: str
    status: str
    when: str
    networks: int
    pairs: int
    nbytes: int
    version: str
    this_code: bool


def run_folders(folder: Path) -> list[Path]:
    """Return every run's directory in or below a folder, sorted. Links are not followed, so that loops end."""
    found = []
    for here, inner, files in os.walk(folder):
        if provenance.RECORD in files:
            found.append(Path(here))
            inner.clear()
        inner.sort()
    return sorted(found)


def listed(folder: Path) -> list[Listed]:
    """Return one entry per run in or below a folder: ``complete``, ``running``, ``unfinished`` or ``damaged``.

    Raises
    ------
    RunError
        There is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"'{folder}' is no folder, expected one that holds runs; check the path")
    return [_entry(path) for path in run_folders(folder)]


def _entry(path: Path) -> Listed:
    nbytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    try:
        record = read_record(path) or {}
        run = Run(path, record)
        pairs = len(run.job.compared())
    except (RunError, ValueError):
        return Listed(path, "", "damaged", "", 0, 0, nbytes, "", False)
    code = record.get("code", {})
    started = record.get("started_unix")
    when = "" if started is None else datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Listed(
        path, run.job.name, _status(path, record), when, len(run.job.models), pairs, nbytes,
        str(code.get("version", "")), code.get("source_digest") == provenance.code_digest(),
    )  # fmt: skip


def _status(path: Path, record: dict[str, Any]) -> str:
    if locks.is_held(path / LOCK):
        return "running"
    return "complete" if record["status"] == "complete" else "unfinished"


def problems(path: Path, store: str | Path | None = None) -> Iterator[str]:
    """Yield a sentence for every file of a run that is not what was written: record, tables, figures, report, atlas, stores.

    Of a damaged record nothing else is said: what it states of the other files cannot be believed.

    Parameters
    ----------
    store : path or URL, optional
        Where the run's activations lie now, if they were moved.

    Raises
    ------
    RunError
        It is no run's directory.
    """
    try:
        record = read_record(path)
    except RunError as error:
        yield str(error)
        return
    if record is None:
        raise RunError(
            f"'{path}' is not a run directory: it has no {provenance.RECORD}; give the folder that a run wrote"
        )
    if record["status"] != "complete":
        yield f"run '{path}' was not finished; run the job again, it goes on where it stopped"
    elif damaged := list(record_problems(path, record)):
        yield from damaged
    else:
        yield from file_problems(path, record)
        yield from sidecars.problems(path, record)
        if (path / "atlas" / "atlas.parquet").is_file() and not (path / "atlas" / provenance.SIDECAR).is_file():
            yield f"the atlas of run '{path}' has no checksums; write it again with: universality atlas {path}"
        stores = ActivationStore(Run(path, record, store).store)
        keys = list(dict.fromkeys(entry["key"] for entry in record["stores"]))
        if absent := [key for key in keys if not stores.exists(key)]:
            yield stores.absent(absent)
        for key in keys:
            if key not in absent:
                yield from stores.problems(key)


PIECES = {
    "results": "kept results of comparisons",
    "shards": "kept shards of stimuli",
    "examples": "kept answers to whole pictures, and thumbnails of them",
    "dictionaries": "kept dictionaries of layers",
    "visualisations": "kept feature visualisations",
}
"""Folders of a store in which jobs keep pieces of work, and what lies there."""
_INTERRUPTED = "left behind by an interrupted writer"


@dataclass(frozen=True)
class Removable:
    """Something that no run refers to.

    `name` is relative to the store's root, or with `run` the directory of an unfinished run.
    """

    name: str
    where: str
    why: str
    nbytes: int
    run: Path | None = None


def removable(folder: Path, store: ActivationStore, *, kept: bool = False) -> list[Removable]:
    """Return what `remove` would delete: stores that no finished run refers to, left-overs, unfinished runs.

    Small files that were cut short are named only where no job uses the store.

    With `kept` also the results of comparisons and the shards of stimuli that jobs keep in the store: no run refers to them,
    and a job that needs them computes them again. They grow with every change of the package's code. A run counts if it lies
    in or below `folder`, or if the store's own register names it.

    Raises
    ------
    RunError
        A run's record is damaged: it is unknown what it refers to.
    """
    store.check()
    # While a job runs it is unknown which small files it is writing.
    return _found(folder, store, kept, drafts=not store.place.in_use_now())


def _found(folder: Path, store: ActivationStore, kept: bool, drafts: bool) -> list[Removable]:
    referred, unfinished = _references(folder, store)
    cut_short = _drafts(store, (HIDDEN,) if kept else (HIDDEN, *PIECES)) if drafts else ()
    return [*_of_store(store, referred), *cut_short, *(_pieces(store) if kept else ()), *unfinished]


def _drafts(store: ActivationStore, folders: Iterable[str]) -> Iterator[Removable]:
    found = {name: size for below in folders for name, size in store.place.drafts(below).items()}
    for name, size in sorted(found.items()):
        yield Removable(name, store.place.join(name), _INTERRUPTED, size)


def _pieces(store: ActivationStore) -> Iterator[Removable]:
    for name, why in PIECES.items():
        sizes = store.place.sizes(name) if name in store.place.names() else {}
        if sizes:
            yield Removable(name, store.place.join(name), f"{len(sizes)} {why}", sum(sizes.values()))


def _references(folder: Path, store: ActivationStore) -> tuple[set[str], list[Removable]]:
    """Return the keys that finished or running runs refer to, and the unfinished runs below `folder`."""
    below = run_folders(folder)
    keys: set[str] = set()
    unfinished = []
    for path in dict.fromkeys([*below, *(Path(run) for run in store.runs().values())]):
        record = read_record(path)
        if record is None:
            continue
        if record["status"] == "complete":
            keys |= {str(entry["key"]) for entry in record["stores"]}
        elif path in below and not locks.is_held(path / LOCK):
            size = sum(file.stat().st_size for file in _files_of_run(path) if file.is_file())
            unfinished.append(Removable(path.name, str(path), "run that was not finished", size, path))
    return keys, unfinished


def _files_of_run(path: Path) -> list[Path]:
    """Return what a run writes into its directory: nothing else is ever removed."""
    record = read_record(path) or {}
    said = [str(name) for name in (*record.get("writes", ()), *record.get("tables", ()))]
    known = [f"{name}.parquet" for name in TABLES]
    # A record is a file like others: what it names is taken for a file of this folder, or not at all.
    names = dict.fromkeys([*known, *(name for name in said if Path(name).name == name), *_OF_A_RUN])
    drawn = sorted((path / "figures").glob("*")) if not (path / "figures").is_symlink() else []
    partial = [file for name in names for file in path.glob(f"{name}.partial-*")]
    return [*drawn, *partial, *(path / name for name in names)]


def _of_store(store: ActivationStore, kept: set[str]) -> Iterator[Removable]:
    place = store.place
    left = set(place.leftovers())
    for name in place.names():
        if name in left:
            why = _INTERRUPTED
        elif _KEY.fullmatch(name) and name not in kept:
            why = "store that no run refers to"
        elif _ASIDE.fullmatch(name):
            why = "damaged store that was set aside"
        else:
            if _KEY.fullmatch(name) and place.shares_keys:
                yield from _unnamed(store, name)
            continue
        yield Removable(name, place.join(name), why, sum(place.sizes(name).values()))


def _unnamed(store: ActivationStore, key: str) -> Iterator[Removable]:
    """Yield what lies below a key of an object store and its manifest does not name."""
    sizes = store.place.sizes(key)
    try:
        named = {MANIFEST, *(name.split("/")[0] for name in store.files(key))}
    except StoreError:
        return  # damaged: `verify` says so
    for part in sorted({name.split("/")[0] for name in sizes} - named):
        size = sum(n for name, n in sizes.items() if name.split("/")[0] == part)
        yield Removable(f"{key}/{part}", store.place.join(f"{key}/{part}"), "written by another writer of it", size)


def remove(folder: Path, store: ActivationStore, *, kept: bool = False) -> list[Removable]:
    """Delete what `removable` returns and return it; entries of the register whose run is gone go too.

    Raises
    ------
    StoreError
        A running job uses the store.
    RunError
        A run's record is damaged.
    """
    store.check()
    with store.place.alone():
        found = _found(folder, store, kept, drafts=True)
        for item in found:
            if item.run is None:
                store.place.remove(item.name)
            else:
                _remove_run(item.run)
        for entry, run in store.runs().items():
            if not (Path(run) / provenance.RECORD).exists():
                store.place.remove(entry)
    return found


def _remove_run(path: Path) -> None:
    """Delete what an unfinished run wrote, the record last; the folder stays if it holds anything else."""
    try:
        with locks.held(path / LOCK):
            for file in _files_of_run(path):
                file.unlink(missing_ok=True)
            for left in (path / "figures", path):
                if left.is_dir() and not left.is_symlink() and not any(left.iterdir()):
                    left.rmdir()
    except BlockingIOError:
        return  # it began to run in between
