"""The memory of this process: how much it holds, and whether it keeps what it frees."""

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
