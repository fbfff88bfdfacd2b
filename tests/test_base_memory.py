import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import dask
import numpy as np
import pytest

from universality.base import memory
from universality.jobs import scheduling
from universality.jobs.workers import Workers

TWO_THREADS = """
import ctypes, resource, sys, threading
import numpy as np
from universality.base import memory

kept = sys.argv[1] == "kept" and memory.keep_freed_memory()
faults = []


def batches():
    for _ in range(3):
        np.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        np.ones(10_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)


threads = [threading.Thread(target=batches) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(kept, sum(faults))
"""


def faults_of_two_threads(how):
    """Return whether memory was kept, and the pages that the system had to supply for 2 x 20 arrays of 80 MB."""
    answer = subprocess.run([sys.executable, "-c", TWO_THREADS, how], capture_output=True, text=True, check=True)
    kept, faults = answer.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted for each thread on Linux only")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_threads_use_again_what_they_freed():
    kept, faults = faults_of_two_threads("kept")
    assert kept
    # Without it, every array's 19,531 pages are allocated again, or its 39 huge ones.
    assert faults * 10 < faults_of_two_threads("given back")[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
def test_local_worker_processes_start_with_one_arena(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with scheduling.comparison_client(Workers(processes=1, threads=2)) as client:
        assert client.submit(os.environ.get, "MALLOC_ARENA_MAX", pure=False).result() == "1"
    # Other programs that this process starts are told nothing.
    assert "MALLOC_ARENA_MAX" not in os.environ
    assert "MALLOC_ARENA_MAX" not in dask.config.get("distributed.nanny.pre-spawn-environ")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
@pytest.mark.parametrize(
    ("refused", "kept", "asked"),
    [
        ((), True, [(-3, 1 << 30), (-8, 1), (-1, 1 << 30)]),
        ((1 << 30,), True, [(-3, 1 << 30), (-3, 1 << 25), (-8, 1), (-1, 1 << 30)]),
        ((1 << 30, 1 << 25), False, [(-3, 1 << 30), (-3, 1 << 25)]),
    ],
)
def test_a_c_library_that_refuses_large_thresholds_is_not_left_worse(monkeypatch, refused, kept, asked):
    calls = []

    def mallopt(parameter, value):
        calls.append((parameter, value))
        return int(not (parameter == -3 and value in refused))

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert memory.keep_freed_memory.__wrapped__() is kept
    assert calls == asked


def test_memory_held_is_at_least_an_array_and_at_most_the_peak():
    # No difference is asked for: an array may lie where an earlier one was freed.
    held = np.ones(25_000_000)
    assert held.nbytes < memory.resident_bytes() <= 1.05 * memory.peak_bytes()
