"""Bases in which a layer is seen: its units, or random orthonormal mixtures of them.

Whatever works on units works on a basis: `Layer.in_basis` gives a layer whose units are the basis's directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from universality.base import arrays
from universality.base.recent import Recent

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """One basis: its name, and how activations (row, unit) are seen in it: (row, direction)."""

    name: str
    seen: Callable[[Array], Array]


MOST_BYTES = 192 << 20
"""What the random bases kept take together, at most."""
_ROTATIONS: Recent[Array] = Recent(MOST_BYTES, lambda matrix: matrix.nbytes)
UNITS = Basis("units", lambda activations: activations)


def orthonormal(name: str, directions: Array) -> Basis:
    """Return the basis whose directions are the columns of an orthogonal (unit, direction) matrix."""
    return Basis(name, lambda activations: activations @ directions)


def haar(index: int, seed: int) -> Basis:
    """Return the Haar-random orthonormal basis number `index`; layers of one width get the same."""
    return Basis(f"haar {index}", lambda activations: activations @ rotation(activations.shape[1], index, seed))


def haars(count: int, seed: int) -> Iterator[Basis]:
    """Yield the first `count` Haar-random bases."""
    return (haar(index, seed) for index in range(count))


def rotation(units: int, index: int, seed: int) -> Array:
    """Return the Haar-random (units, units) orthogonal matrix number `index`, not to be written to: it is shared.

    Those asked for last are kept, up to `MOST_BYTES`: every layer of one width is seen in the same bases.
    """

    def drawn() -> Array:
        made = arrays.haar_orthogonal(units, np.random.default_rng([seed, units, index]))
        made.flags.writeable = False
        return made

    return _ROTATIONS.get((units, index, seed), drawn)
