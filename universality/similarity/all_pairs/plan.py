"""What a memory budget allows: tile sizes, and whether Grams or features cost fewer operations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from universality.base.errors import MeasureError

Space = Literal["gram", "feature"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_READING_BYTES = 24
"""Bytes per value while a tile is read: as stored, widened and made ready, each at most 8."""
_CAPS = {True: (1024, 192, 1024), False: (8192, 2048, 8192)}
"""Largest rows, Gram edge and columns: on a CPU a tile stays near the cache, elsewhere few large products are best."""

PAIR_OPERATIONS = 100_000
"""What taking one pair of layers out of a block costs, in operations of a product: about 4 us beside 25 Gflop/s."""


def parse_bytes(limit: int | str) -> int:
    """Return a memory limit in bytes.

    Examples
    --------
    >>> parse_bytes("512 MiB")
    536870912
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(limit))
    if match is None or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise MeasureError(f"memory_limit {limit!r} is no size; pass bytes or text such as '512 MiB'")
    return int(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True)
class Plan:
    """Tile sizes for a budget; they depend on the shapes, the budget and the number of threads alone.

    Attributes
    ----------
    rows : int
        Stimuli in a tile that is read from a source.
    edge : int
        Stimuli along either side of a tile of the Gram matrices; 0 where no tile fits.
    columns : int
        Units, summed over a group of layers, along either side of a block in feature space; 0 where none fits.
    resident : bool
        Whether all layers, made ready, are kept in memory; otherwise they are read again for every tile.
    workers : int
        Threads; each has its own tile.
    """

    n: int
    widths: tuple[int, ...]
    memory: int
    rows: int
    edge: int
    columns: int
    resident: bool
    workers: int

    def spans(self, size: int) -> list[tuple[int, int]]:
        """Return (start, stop) of the tiles of `size` stimuli."""
        return [(start, min(start + size, self.n)) for start in range(0, self.n, size)]


def make_plan(n: int, widths: Sequence[int], itemsize: int, memory: int, workers: int, on_cpu: bool = True) -> Plan:
    """Divide a budget: a quarter for resident layers, a quarter for blocks, a quarter for reading, the rest is slack.

    Raises
    ------
    MeasureError
        Not even one row of the widest layer fits.
    """
    cap_rows, cap_edge, cap_columns = _CAPS[on_cpu]
    widest = max(widths)
    share = memory // 4 // workers
    fitting = int(np.sqrt(share / (8 + 2 * itemsize)))
    columns = max(widest, min(cap_columns, fitting)) if fitting >= widest else 0
    # Reading holds one tile of a layer and, in feature space, two stacks of a group's columns.
    rows = min(cap_rows, share // (_READING_BYTES * widest + 2 * itemsize * columns))
    if rows == 0:
        needed = 4 * workers * (_READING_BYTES * widest)
        raise MeasureError(
            f"memory_limit of {memory} bytes is too small for a layer of {widest} units: at least {needed} bytes are "
            "needed; raise it"
        )
    edge = min(cap_edge, rows, int(np.sqrt(share / (itemsize * len(widths)))))
    resident = n * sum(widths) * itemsize <= memory // 4
    return Plan(n, tuple(widths), memory, min(rows, n), min(edge, n), columns, resident, workers)


def operations(n: int, widths: Sequence[int]) -> dict[Space, int]:
    """Return the floating-point operations of all pairs' Frobenius products of Grams, with symmetry, in either space.

    Gram: the half of every (n, n) matrix, then the half of the (L, L) products. Feature: the half of the square of all
    units.
    """
    total, layers = sum(widths), len(widths)
    return {"gram": n * n * total + n * n * layers * layers // 2, "feature": n * total * total}


def choose_space(plan: Plan) -> Space:
    """Return the cheaper space that fits the budget.

    In feature space every pair of layers is taken out of its block on its own; for thousands of small layers that is most of
    the time.
    """
    cost = operations(plan.n, plan.widths)
    cost["feature"] += PAIR_OPERATIONS * len(plan.widths) ** 2 // 2
    if plan.edge == 0 and plan.columns == 0:
        raise too_small(plan)
    if plan.columns == 0 or (plan.edge > 0 and cost["gram"] <= cost["feature"]):
        return "gram"
    return "feature"


def too_small(plan: Plan) -> MeasureError:
    """Return the error for a budget in which no block of the two widest layers fits."""
    needed = 4 * plan.workers * 24 * max(plan.widths) ** 2
    return MeasureError(
        f"memory_limit of {plan.memory} bytes is too small for products of layers with {max(plan.widths)} units: about "
        f"{needed} bytes are needed; raise it"
    )


def blas_threads() -> int:
    """Return how many threads the linear algebra was given (``OMP_NUM_THREADS`` or the cores)."""
    return max((int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work` of every item in order, from `workers` threads whose linear algebra uses one thread each.

    Threads that take the next tile when they are free lose less beside other processes than threads inside one product,
    which wait for one another. Where there are fewer items than threads, the threads go into the products. The order of
    the results does not depend on the number of threads.
    """
    waiting = list(items)
    if workers == 1 or len(waiting) < workers:
        with threadpool_limits(workers, user_api="blas"):
            yield from map(work, waiting)
    else:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            yield from pool.map(work, waiting)
