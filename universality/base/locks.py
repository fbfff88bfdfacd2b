"""Locks on files that show whether a folder is in use; they end with the process that holds them.

A process number would not do: numbers are reused, and another host has its own. The system itself releases these
locks (``flock``), also after ``kill -9``.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def held(path: Path, *, shared: bool = False, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, made if need be; with `remove` delete it at the end.

    Raises
    ------
    BlockingIOError
        Another holder has it: any other one, or with `shared` one that does not share it.
    OSError
        The file cannot be made.
    """
    handle = _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, kind: int) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError as cause:
            # A file system without locks: go on without; then it is unknown whether the holder has ended (see is_held).
            if cause.errno not in _UNSUPPORTED:
                os.close(handle)
                raise
        # The last holder may have deleted the file between opening and locking: the lock would be on no file.
        try:
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether somebody holds the lock file; where the file system cannot tell, that counts as yes."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
