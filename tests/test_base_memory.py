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


GIVES_BACK = """
import resource, sys, threading
import numpy as np
from universality.base import memory

early = sys.argv[1] == "early" and memory.keep_freed_memory()


def fresh():
    # Pages of an array of 80 MB that take the place of one just freed: small ones, or huge ones.
    np.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before >= 38


def first():
    print(memory.gives_back(), fresh())
    later = threading.Thread(target=lambda: print(memory.gives_back()))
    later.start()
    later.join()


thread = threading.Thread(target=first)
thread.start()
thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted for each thread on Linux only")
@pytest.mark.parametrize(
    ("when", "environment", "found"),
    [
        ("early", {}, "False"),
        # The first thread has an arena of its own by then; the later one has none, but tells of it.
        ("late", {}, "True"),
        ("late", {"MALLOC_ARENA_MAX": "1"}, "False"),
    ],
)
def test_a_process_whose_threads_give_memory_back_is_found_by_each_of_them(when, environment, found):
    if not memory._keeps_blocks_of_any_size():
        pytest.skip("this C library gives large blocks back in any case")
    answer = subprocess.run(
        [sys.executable, "-c", GIVES_BACK, when],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment,
    )
    assert answer.stdout.split() == [found] * 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
def test_local_worker_processes_use_again_what_they_freed(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with scheduling.comparison_client(Workers(processes=1, threads=2)) as client:
        # Each in a thread that has had tasks.
        assert client.gather([client.submit(memory.gives_back, pure=False) for _ in range(4)]) == [False] * 4
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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
def test_a_c_library_that_gives_large_blocks_back_anyway_is_not_blamed_on_arenas(monkeypatch):
    refuses = SimpleNamespace(mallopt=lambda parameter, value: int((parameter, value) != (-3, 1 << 30)))
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: refuses)
    assert not memory.gives_back()


def test_memory_held_is_at_least_an_array_and_at_most_the_peak():
    # No difference is asked for: an array may lie where an earlier one was freed.
    held = np.ones(25_000_000)
    assert held.nbytes < memory.resident_bytes() <= 1.05 * memory.peak_bytes()
