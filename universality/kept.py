"""Single files that are whole or absent: committed in one step, and read only if their checksum holds.

The pieces of a job (shards of activations, results of comparisons) are many and small, so each carries its SHA-256 in
front of its content instead of a manifest beside it. A file that was cut short or changed counts as absent: it is
computed again.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from pathlib import Path

from universality.errors import StoreError
from universality.resources import is_file

_SUFFIX = ".partial"
_SHA_BYTES = 32


def place(folder: Path, name: str) -> Path:
    """Return the path of the piece `name`; a folder of many pieces is divided by their first two letters."""
    return folder / name[:2] / name


def commit(path: Path, content: bytes) -> None:
    """Write `content` with its checksum beside `path`, flush it to the disk and rename it to `path`.

    Raises
    ------
    StoreError
        If the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}{_SUFFIX}-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("xb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as cause:
        raise StoreError(
            f"'{path}' cannot be written: {cause.strerror or cause}; free space or choose another folder with --store"
        ) from None


def read(path: Path) -> bytes | None:
    """Return the content of a committed file; None if it is absent, cut short or changed."""
    if not is_file(path):
        return None
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    content = stored[_SHA_BYTES:]
    return content if hashlib.sha256(content).digest() == stored[:_SHA_BYTES] else None


def remove_partial(folder: Path) -> int:
    """Delete what processes of this machine that no longer run left half-written; return how many files."""
    stale = [path for path in folder.glob(f"*/*{_SUFFIX}-{_host()}-*") if not _runs(int(path.name.split("-")[-2]))]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _host() -> str:
    # Process numbers mean something on their own machine only; a name may hold anything, its digest does not.
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
