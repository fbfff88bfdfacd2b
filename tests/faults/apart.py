"""Commands in processes of their own, with what a process of tests must not have: a full disk, no right to ignore permissions.

A fork server imports the package once and starts no threads. `alone` calls a function in a child of it; there `command` runs
the command line in a further child, so that what is done to one command ends with it.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from universality.cli.leaving import Status

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = (
    "universality.cli", "universality.jobs.computing", "universality.atlas.cells", "universality.models.pocket.networks",
    # What a job imports when it needs it.
    "universality.activations.store", "zarr", "dask.array", "distributed.nanny", "ot.lp", "skimage.transform", "matplotlib.backends.backend_pdf",
)  # fmt: skip
"""All that a job imports: a process that is forked has it."""
SERVER.set_forkserver_preload(list(PRELOADED))
FORK = multiprocessing.get_context("fork")
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _RECURSIVE = 1 << 18, 1 << 14
_IGNORES_PERMISSIONS = (1 << 1) | (1 << 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@dataclass(frozen=True)
class End:
    """How a command ended: exit status, and what it printed on either stream."""

    status: int
    said: str

    @property
    def sentence(self) -> str:
        """The last line, which is the error's where there is one."""
        return (self.said.splitlines() or [""])[-1]


def is_sentence(end: End, *named: str) -> bool:
    """Return whether a command ended as after a mistake or failed tasks, with one sentence that holds all these texts."""
    told = [line for line in end.said.splitlines() if line.startswith("error: ")]
    return (
        end.status in (Status.MISTAKE, Status.UNSOUND)
        and "Traceback" not in end.said
        and told == [end.sentence]
        and all(n in told[0] for n in named)
    )


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process that has one thread and ends with it."""
    with ProcessPoolExecutor(1, mp_context=SERVER) as pool:
        return pool.submit(function, *arguments).result()


def command(*arguments: str | Path, before: Callable[[], object] = lambda: None) -> End:
    """Run the command line in a forked child, after `before` there."""
    reading, writing = os.pipe()
    child = FORK.Process(target=_command, args=(writing, [str(a) for a in arguments], before))
    child.start()
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    child.join()
    return End(int(child.exitcode or 0), said)


def _command(writing: int, arguments: list[str], before: Callable[[], object]) -> None:
    for stream in (1, 2):
        os.dup2(writing, stream)
    sys.stdout, sys.stderr = (
        os.fdopen(os.dup(writing), "w", encoding="utf-8", errors="backslashreplace") for _ in "oe"
    )
    from universality import cli

    sys.argv = ["universality", *arguments]
    before()
    cli.main()


def at_call(where: str, number: int, action: Callable[[], object]) -> Callable[[], None]:
    """Return a function that has `action` done before the `number`-th call of ``module:name`` or ``module:Class.name``."""

    def plant() -> None:
        module, _, name = where.partition(":")
        *owners, last = name.split(".")
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        real, calls = getattr(owner, last), []

        def planted(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) == number:
                action()
            return real(*args, **kwargs)

        setattr(owner, last, planted)

    return plant


def nothing_more_fits() -> None:
    """Let no file of this process grow from now on, as on a full disk: "File too large" (Python ignores the signal)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def fill(folder: Path) -> Path:
    """Write a file until the file system is full; return it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def small_disk(folder: Path, megabytes: int) -> str:
    """Mount a file system of this size at `folder`, seen by this process and its children; return why not, or ``""``."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if user or libc.unshare(_NEW_MOUNTS):
        if libc.unshare(_NEW_MOUNTS | _NEW_USER):
            return f"no mount is allowed here: {os.strerror(ctypes.get_errno())}"
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            try:
                Path(f"/proc/self/{file}").write_text(text)
            except OSError as cause:
                return f"no mount is allowed here: {cause.strerror}"
    size = f"size={megabytes}m".encode()
    if libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None) or libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, size):  # fmt: skip
        return f"no mount is allowed here: {os.strerror(ctypes.get_errno())}"
    return ""


def obey_permissions() -> None:
    """Give up root's right to ignore permissions, in this process and its children."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the call, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, then high words
    if libc.capget(head, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for place in range(3):
        sets[place] &= ~_IGNORES_PERMISSIONS & 0xFFFFFFFF
    if libc.capset(head, sets):
        raise OSError(ctypes.get_errno(), "capset")
