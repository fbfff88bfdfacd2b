"""Bases in which a layer is seen: its units, or random orthonormal mixtures of them.

Whatever works on units works on a basis: `Layer.in_basis` gives a layer whose units are the basis's directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from universality.base import arrays
from universality.base.recent import Recent

Array = NDArray[np.float64]
Values = TypeVar("Values", NDArray[np.float32], NDArray[np.float64])


@dataclass(frozen=True)
class Basis:
    """One basis: its name, and how activations (row, unit) are seen in it: (row, direction).

    `read` (direction, unit) is the linear part of that, and `written` (direction, unit) what one of a direction adds to the units; None
    for the units themselves.
    """

    name: str
    seen: Callable[[Array], Array]
    read: Array | None = None
    written: Array | None = None


MOST_BYTES = 192 << 20
"""What the random bases kept take together, at most."""
WIDEST_DRAWN = 256
"""Units of the widest layer whose random bases are drawn each by itself: QR grows with the third power of the width."""
BLOCK = 64
"""Directions that are mixed with one another at a time, in a basis of a wider layer."""
_DRAWN: Recent[tuple[NDArray[Any], ...]] = Recent(MOST_BYTES, lambda parts: sum(part.nbytes for part in parts))
_FURTHER = 100_000
"""Between the numbers of random bases that make up one of more directions than there are units."""
UNITS = Basis("units", lambda activations: activations)


def orthonormal(name: str, directions: Array) -> Basis:
    """Return the basis whose directions are the columns of an orthogonal (unit, direction) matrix."""
    return Basis(name, lambda activations: activations @ directions, directions.T, directions.T)


def haar(index: int, seed: int, directions: int | None = None) -> Basis:
    """Return the Haar-random orthonormal basis number `index`; layers of one width get the same. `directions` as in `mixed`."""
    return Basis(f"haar {index}", lambda activations: mixed(turned(activations, seed).T, index, seed, directions).T)


def haars(count: int, seed: int, directions: int | None = None) -> Iterator[Basis]:
    """Yield the first `count` Haar-random bases."""
    return (haar(index, seed, directions) for index in range(count))


def directions_of(units: int, directions: int, *key: int) -> Array:
    """Return random orthonormal directions, the columns of (unit, direction), drawn with a seed (`key`); beyond as many as there are units, those of further bases."""
    rng = np.random.default_rng(key)
    drawn = [arrays.haar_orthogonal(units, rng) for _ in range(-(-directions // units))]
    return np.ascontiguousarray(np.concatenate(drawn, axis=1)[:, :directions])


def turned(activations: Values, seed: int) -> Values:
    """Return what all random bases of a layer begin with: wide layers (`WIDEST_DRAWN`) in one Haar-random basis, others as they are.

    Parameters
    ----------
    activations : (row, unit)

    Returns
    -------
    (row, direction), of their dtype
    """
    units = activations.shape[1]
    if units <= WIDEST_DRAWN:
        return activations

    (matrix,) = _DRAWN.get((units, seed), lambda: (_orthogonal(units, seed, units),))
    return np.asarray(activations @ matrix.astype(activations.dtype, copy=False))


def mixed(begun: Values, index: int, seed: int, directions: int | None = None) -> Values:
    """Return activations in random basis number `index`, from what `turned` gives: (direction, row), of their dtype.

    The basis of a narrow layer is an orthogonal matrix of its own (`haar_orthogonal`). That of a wide one is the Haar-random matrix H of
    `turned` times an orthogonal matrix M drawn independently of it: H M is Haar-distributed for any such M, because the Haar measure does
    not change when it is multiplied. M mixes blocks of about `BLOCK` directions by Haar-random matrices, gives every new block directions of all of these, and
    mixes again, so that two bases of a layer have no directions in common. This takes a tenth of the time of as many matrices H.

    Parameters
    ----------
    begun : (direction, row)
    directions : of a layer that is seen in a dictionary, as many as that has: the first of the basis, or with those of bases far from all others
        (`_FURTHER`) more; as many as there are units when left out
    """
    units = len(begun)
    if directions is not None and directions != units:
        parts = [mixed(begun, index + _FURTHER * part, seed) for part in range(-(-directions // units))]
        return np.asarray(np.concatenate(parts)[:directions])
    if units <= WIDEST_DRAWN:
        (matrix,) = _DRAWN.get((units, index, seed), lambda: (_orthogonal(units, seed, units, index),))
        return np.asarray(matrix.T.astype(begun.dtype, copy=False) @ begun)

    *blocks, order = _DRAWN.get((units, index, seed), lambda: _mixing(units, index, seed))
    half = len(blocks) // 2
    return _in_blocks(_in_blocks(begun, blocks[:half])[order], blocks[half:])


def _mixing(units: int, index: int, seed: int) -> tuple[NDArray[Any], ...]:
    """Return the blocks of the two steps of M, and the order in which the second one takes the directions."""
    rng = np.random.default_rng([seed, units, index, BLOCK])
    sizes = [part.size for part in np.array_split(np.arange(units), -(-units // BLOCK))]
    blocks = [arrays.haar_orthogonal(size, rng) for size in (*sizes, *sizes)]
    return (*blocks, rng.permutation(units))


def _in_blocks(values: Values, blocks: Sequence[Array]) -> Values:
    made, start = np.empty(values.shape, values.dtype), 0
    for block in blocks:
        some = slice(start, start + len(block))
        np.matmul(block.T.astype(values.dtype, copy=False), values[some], out=made[some])
        start = some.stop
    return made


def _orthogonal(units: int, *key: int) -> Array:
    made = arrays.haar_orthogonal(units, np.random.default_rng(key))
    made.flags.writeable = False
    return made
