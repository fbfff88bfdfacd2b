"""Random orthonormal bases, and how many nulls of each kind a job asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from universality.base import arrays


def rotations(units: int, count: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield `count` Haar-random (units, units) orthogonal matrices."""
    for index in range(count):
        yield rotation(units, index, seed)


@lru_cache(maxsize=8)
def rotation(units: int, index: int, seed: int) -> NDArray[np.float64]:
    """Return the Haar-random (units, units) orthogonal matrix number `index`, not to be written to: it is shared."""
    made = arrays.haar_orthogonal(units, np.random.default_rng([seed, units, index]))
    made.flags.writeable = False
    return made


@dataclass(frozen=True)
class NullPlan:
    """How many nulls of each kind, and their seed."""

    haar_rotations: int
    shuffles: int
    seed: int
