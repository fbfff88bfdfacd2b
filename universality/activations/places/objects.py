"""Stores below a prefix of an object store."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs

from universality.activations.places.base import HIDDEN, Draft, check_name
from universality.base.errors import StoreError

if TYPE_CHECKING:
    from zarr.storage import FsspecStore


class Objects:
    """A prefix of an object store. Options (address, credentials) come from fsspec's configuration or the environment.

    A store is ``KEY/data-XXXXXXXX.zarr`` and ``KEY/manifest.json``; the manifest is written last, in one step, and names
    the data it describes. Two writers of one key write two sets of data; one of them is named, the other is cleaned away.
    """

    shares_keys = True

    def __init__(self, url: str) -> None:
        self.location = url
        protocol = url.split(":", 1)[0]
        try:
            self._fs, self._root = url_to_fs(url)
        except ImportError as cause:
            raise StoreError(
                f"store '{url}' needs a package that is not installed ({str(cause).splitlines()[0]}); install it, for "
                "s3:// with pip install 'universality[s3]'"
            ) from None
        except ValueError:
            raise StoreError(
                f"store '{url}': unknown protocol '{protocol}', expected a folder or a URL that fsspec knows, such as "
                "s3://bucket/folder; correct --store"
            ) from None

    def check(self) -> None:
        """Check that the object store can be reached."""
        try:
            self.has(f"{HIDDEN}/none")
        except OSError as cause:
            raise StoreError(
                f"store '{self.location}' cannot be reached ({cause}); check the address and the credentials"
            ) from None

    def writable(self) -> bool:
        """Return True: only an attempt to write would tell."""
        return True

    def join(self, name: str) -> str:
        """Return the whole URL."""
        return f"{self.location}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        """Give the file system; whatever its library raises but `OSError` becomes one sentence."""
        try:
            yield self._fs
        except (OSError, StoreError):
            raise
        except Exception as cause:
            said = str(cause).splitlines()[0][:200] if str(cause) else ""
            raise StoreError(
                f"store '{self.location}' cannot be reached ({type(cause).__name__}: {said}); check the address and the "
                "credentials"
            ) from None

    def _find(self, name: str) -> dict[str, int]:
        with self._reached() as fs:
            # What other processes wrote must be seen: listings are not to come from a cache.
            fs.invalidate_cache()
            found = fs.find(self._path(name), detail=True)
        start = self._path(name).rstrip("/") + "/"
        return {path[len(start) :]: int(found[path]["size"]) for path in sorted(found) if path.startswith(start)}

    def names(self, below: str = "") -> list[str]:
        """Return what lies directly below, sorted."""
        return sorted({name.split("/")[0] for name in self._find(below)})

    def has(self, name: str) -> bool:
        """Return whether there is such an object."""
        with self._reached() as fs:
            fs.invalidate_cache()
            return bool(fs.isfile(self._path(name)))

    def sizes(self, name: str) -> dict[str, int]:
        """Return every object below `name` with its size."""
        return self._find(name)

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        with self._reached() as fs:
            return bytes(fs.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write an object: they appear whole or not at all."""
        with self._reached() as fs:
            fs.pipe_file(self._path(name), content)

    def sha256(self, name: str) -> str:
        """Return an object's SHA-256; it is read whole."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def zarr(self, name: str, *, read_only: bool = True) -> FsspecStore:
        """Return the prefix as Zarr's kind of store."""
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self.join(name), read_only=read_only)

    @contextmanager
    def drafting(self, key: str) -> Iterator[Draft]:
        """Write data under a name of its own below the key."""
        draft = _ObjectsDraft(self, key)
        try:
            yield draft
        finally:
            if not draft.committed:
                with suppress(OSError, StoreError):
                    self.remove(f"{key}/{draft.name}")

    def leftovers(self) -> list[str]:
        """Return nothing: without locks it is unknown here which writers still run; see `alone`."""
        return []

    def drafts(self, below: str) -> dict[str, int]:
        """Return nothing: an object is written in one step."""
        return {}

    def set_aside(self, key: str, manifest: str) -> str:
        """Rename the manifest: data without one are invisible."""
        aside = f"{key}/damaged-{uuid.uuid4().hex[:8]}.json"
        self.write(aside, self.read(f"{key}/{manifest}"))
        self.remove(f"{key}/{manifest}")
        return aside

    def remove(self, name: str) -> None:
        """Delete an object, or all below a prefix."""
        check_name(name)
        path = self._path(name)
        with self._reached() as fs, suppress(FileNotFoundError):
            fs.rm(path, recursive=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Write a claim: which process uses the store, on which host, since when."""
        name = f"{HIDDEN}/claims/{uuid.uuid4().hex}.json"
        try:
            self.write(name, json.dumps(_myself()).encode())
        except OSError as cause:
            raise StoreError(
                f"store '{self.location}' cannot be written: {cause.strerror or cause}; check the bucket and its permissions"
            ) from None
        try:
            yield
        finally:
            with suppress(OSError, StoreError):
                self.remove(name)

    def in_use_now(self) -> bool:
        """Return whether a claim stands whose process may still run."""
        return any(_may_run(self.read(f"{HIDDEN}/claims/{name}")) for name in self.names(f"{HIDDEN}/claims"))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse while any claim stands whose process may still run; drop those of processes of this host that ended."""
        for name in self.names(f"{HIDDEN}/claims"):
            claim = f"{HIDDEN}/claims/{name}"
            if _may_run(self.read(claim)):
                raise StoreError(
                    f"store '{self.location}' is in use by a running job (claim '{self.join(claim)}'); wait for it, or "
                    "delete the claim if that job is dead"
                )
            self.remove(claim)
        yield


class _ObjectsDraft:
    """Data that become a store when the manifest names them."""

    def __init__(self, place: Objects, key: str) -> None:
        self.name = f"data-{uuid.uuid4().hex[:8]}.zarr"
        self.committed = False
        self._place = place
        self._key = key

    @property
    def data(self) -> FsspecStore:
        """Where Zarr writes."""
        return self._place.zarr(f"{self._key}/{self.name}", read_only=False)

    def sizes(self) -> dict[str, int]:
        """Return the objects written so far."""
        return {f"{self.name}/{n}": size for n, size in self._place.sizes(f"{self._key}/{self.name}").items()}

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of one of them."""
        return self._place.sha256(f"{self._key}/{name}")

    def commit(self, manifest: str, text: str) -> None:
        """Write the manifest, unless another writer's stands: equal keys mean equal values."""
        marker = f"{self._key}/{manifest}"
        if not self._place.has(marker):
            self._place.write(marker, text.encode())
            self.committed = True


def _myself() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """Return what tells a process from a later one of its number, whatever the clock does; "" where nothing tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        # Field 22, in ticks since the boot; the second field is a name in brackets that may hold spaces.
        return f"{boot} {Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[19]}"
    except (OSError, ValueError, IndexError):
        return ""


def _may_run(claim: bytes) -> bool:
    """Return whether the process of a claim may still run; it is known only for processes of this host."""
    try:
        who = json.loads(claim)
        host, pid, started = str(who["host"]), int(who["pid"]), str(who["started"])
        if host != socket.gethostname():
            return True
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return True
    now = _started(pid)
    # Another boot may also be another host of the same name: only a number given again in this one is denied.
    return not (now and started and now != started and now.split()[0] == started.split()[0])
