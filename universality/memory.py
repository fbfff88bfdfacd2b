"""The memory of this process: what it holds, and what becomes of what it frees."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable

_ARENAS, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
"""Parameters of glibc's ``mallopt``, as its ``malloc.h`` numbers them."""
_KEPT, _MOST_OF_OLD = 1 << 30, 1 << 25
"""What is kept; and the largest threshold that glibc took until its version 2.33."""
_TRIAL = 80 << 20
"""Bytes of a block that no heap of a thread's own arena holds: they have 64 MB."""


@functools.cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory, in one place for all threads; return whether it did.

    Every batch of a network frees and asks for the same few hundred MB. By default glibc gives large blocks back to the
    system each time, and clearing fresh pages then costs as much as the convolutions. A thread's own arena gives back
    whatever is asked of it (its heaps are of 64 MB, so most feature maps have none), therefore no further arenas: two
    threads showed 155 images/s as glibc comes, 168 with the thresholds alone, 312 with one arena (EfficientNet-Lite0 to
    blocks.4.1, two cores). A thread that has an arena keeps it: call this before the threads start. It holds for the
    process and costs at most the memory needed at its peak.
    """
    if sys.platform != "linux":
        return False
    mallopt = _mallopt()
    if mallopt is None:
        return False
    # Without the first of these the others would do harm: glibc would map every block above 128 kB anew from then on.
    if not any(mallopt(_MMAP_THRESHOLD, size) for size in (_KEPT, _MOST_OF_OLD)):
        return False
    return all([mallopt(_ARENAS, 1), mallopt(_TRIM_THRESHOLD, _KEPT)])


def _mallopt() -> Callable[[int, int], int] | None:
    return getattr(ctypes.CDLL(None), "mallopt", None)  # absent in C libraries other than glibc


def gives_back() -> bool:
    """Tell whether large blocks of this thread come anew from the system, which one arena for all threads would spare.

    That is so where the threads had arenas before `keep_freed_memory` was called, and glibc was not told at the start of the
    process to have one only (``MALLOC_ARENA_MAX=1``). Only a trial tells: fresh pages are counted while a block is filled
    and freed a few times. A glibc that gives back blocks of this size in any case (2.33 and earlier) is not blamed.
    """
    if not keep_freed_memory() or not _keeps_blocks_of_any_size():
        return False
    import resource  # Windows has none

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    fresh = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        block = libc.malloc(_TRIAL)
        if block is None:
            return False  # who is that short of memory has other troubles
        ctypes.memset(block, 1, _TRIAL)
        libc.free(block)
        fresh.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
    # The first one is fresh in any case. A fresh block is 20,480 pages, or 40 huge ones.
    return min(fresh[1:]) >= _TRIAL >> 21


def _keeps_blocks_of_any_size() -> bool:
    mallopt = _mallopt()
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _KEPT))


def resident_bytes() -> int:
    """Return the memory that this process holds now, bytes; its peak where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of ours
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has held, bytes."""
    import resource  # Windows has none, and the command line imports this module

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
