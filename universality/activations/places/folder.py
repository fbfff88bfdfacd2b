"""Stores in a local folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from universality.activations.places.base import HIDDEN, PARTIAL, Draft, check_name
from universality.base import locks
from universality.base.errors import StoreError
from universality.base.paths import is_file

LOCK = "lock"
_DRAFT = re.compile(r".+\.draft-[0-9a-f]{8}")
"""A small file that is being written, or that a killed process left behind."""


class Folder:
    """A local folder (also a mounted one): stores are written beside their place and renamed."""

    shares_keys = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def check(self) -> None:
        """Refuse a file in the place of the folder."""
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"store '{self.root}' is a file, expected a folder; give another with --store")

    def writable(self) -> bool:
        """Return whether the system lets this process write into the folder."""
        return not self.root.is_dir() or os.access(self.root, os.W_OK | os.X_OK)

    def join(self, name: str) -> str:
        """Return the whole path."""
        return str(self.root / name)

    def names(self, below: str = "") -> list[str]:
        """Return what lies directly below, sorted."""
        folder = self.root / below
        try:
            found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except FileNotFoundError:  # deleted in between
            return []
        return sorted(name for name in found if not _DRAFT.fullmatch(name))

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        return is_file(self.root / name)

    def sizes(self, name: str) -> dict[str, int]:
        """Return every file below `name` with its size."""
        return {key: file.stat().st_size for key, file in _files(self.root / name)}

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a small file beside its place and rename it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.draft-{uuid.uuid4().hex[:8]}")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError:
            # On a full disk what was cut short would take the room that the next try needs.
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def sha256(self, name: str) -> str:
        """Return a file's SHA-256."""
        return _sha256(self.root / name)

    def zarr(self, name: str) -> Any:
        """Return what Zarr reads from: given a path, some versions take a # in it for the end of an address."""
        from zarr.storage import LocalStore

        return LocalStore(self.root / name, read_only=True)

    @contextmanager
    def drafting(self, key: str) -> Iterator[Draft]:
        """Write into ``KEY.partial-...``, whose lock shows that it is in use."""
        partial = self.root / f"{key}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with ExitStack() as stack:
            self.root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.held(_lock_of(partial), remove=True))
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            partial.mkdir()
            yield _FolderDraft(partial, self.root / key)

    def leftovers(self) -> list[str]:
        """Return partial folders whose lock is free, and lock files without a folder."""
        found = [name for name in self.names() if PARTIAL.fullmatch(name.removesuffix(".lock"))]
        return [name for name in found if not locks.is_held(_lock_of(self.root / name.removesuffix(".lock")))]

    def drafts(self, below: str) -> dict[str, int]:
        """Return the files by their names below the root."""
        found = {}
        for path in (self.root / below).rglob("*.draft-????????"):
            with suppress(FileNotFoundError):  # written and renamed in between
                if _DRAFT.fullmatch(path.name):
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return found

    def set_aside(self, key: str, manifest: str) -> str:
        """Rename the folder."""
        aside = f"{key}.damaged-{uuid.uuid4().hex[:8]}"
        (self.root / key).rename(self.root / aside)
        return aside

    def remove(self, name: str) -> None:
        """Delete a file or folder; of a link only the link."""
        check_name(name)
        path = self.root / name
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Share the root's lock. If an error comes out and nothing was stored in a new root, remove it again."""
        made = [path for path in (self.root, *self.root.parents) if not path.exists()]
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locked(shared=True))
            except BlockingIOError:
                raise StoreError(f"store '{self.root}' is being cleaned; wait for it and run the job again") from None
            except OSError as cause:
                # A folder that only others may write can be read: its owner's cleaning is not held up by readers.
                if not self.root.is_dir() or os.access(self.root, os.W_OK):
                    raise StoreError(
                        f"store '{self.root}' cannot be written: {cause.strerror or cause}; free space or choose another "
                        "folder with --store"
                    ) from None
            try:
                yield
            except BaseException:
                stack.close()
                self._unmake(made)
                raise

    def _locked(self, *, shared: bool) -> AbstractContextManager[None]:
        lock = self.root / HIDDEN / LOCK
        for _ in range(3):  # another job that failed may remove the folder in between
            with suppress(FileNotFoundError):
                lock.parent.mkdir(parents=True, exist_ok=True)
                lock.touch()
                break
        return locks.held(lock, shared=shared)

    def _unmake(self, made: list[Path]) -> None:
        """Remove the folders that a job made and left empty, unless another one uses them by now."""
        if not made or self.names() != [HIDDEN]:
            return
        with suppress(OSError):
            with self._locked(shared=False):
                shutil.rmtree(self.root / HIDDEN)
            for folder in made:
                folder.rmdir()

    def in_use_now(self) -> bool:
        """Return whether somebody holds the root's lock."""
        return locks.is_held(self.root / HIDDEN / LOCK)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the root's lock."""
        with ExitStack() as stack:
            if self.root.is_dir():
                try:
                    stack.enter_context(self._locked(shared=False))
                except BlockingIOError:
                    raise StoreError(f"store '{self.root}' is in use by a running job; wait for it") from None
                except OSError as cause:
                    raise StoreError(
                        f"store '{self.root}' cannot be written: {cause.strerror or cause}; check its permissions"
                    ) from None
            yield


class _FolderDraft:
    """A folder that becomes a store by being renamed."""

    name = "data.zarr"

    def __init__(self, partial: Path, final: Path) -> None:
        self._partial = partial
        self._final = final

    @property
    def data(self) -> Path:
        """Where Zarr writes."""
        return self._partial / self.name

    def sizes(self) -> dict[str, int]:
        """Return the files written so far."""
        return {name: file.stat().st_size for name, file in _files(self._partial)}

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of one of them."""
        return _sha256(self._partial / name)

    def commit(self, manifest: str, text: str) -> None:
        """Put everything on the disk, then rename."""
        (self._partial / manifest).write_text(text, encoding="utf-8")
        for _, file in _files(self._partial):
            _flush(file)
        _flush(self._partial)
        try:
            self._partial.rename(self._final)
        except OSError:
            # Another process committed the same content first: equal keys mean equal values, so its store stands.
            if not (self._final / manifest).is_file():
                raise
        _flush(self._final.parent)


def _lock_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.lock")


def _flush(path: Path) -> None:
    """Ask the system to put a file or folder on the disk, so that the rename cannot come before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(path: Path) -> list[tuple[str, Path]]:
    return sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
