"""A dictionary that was learnt: how activations are described by few of its directions, and rebuilt from them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np

from universality.activations.bases import Basis
from universality.base.arrays import Array, reciprocal
from universality.base.errors import MeasureError

Encoding = Literal["non_negative", "topk", "threshold"]
BLOCK = 4096
"""Rows described at a time."""
DESCENTS = 300
"""Steps of the non-negative least squares: codes are then within 1 % of the exact solution (tests)."""
_ARRAYS = ("atoms", "encoder", "bias", "offset", "numbers")


@dataclass(frozen=True)
class Dictionary:
    """A dictionary of one layer. Activations are about ``offset + codes @ atoms``.

    Attributes
    ----------
    encoding : how codes are found: by non-negative least squares (NMF), or from ``max((x - offset) @ encoder.T + bias, 0)`` the largest
        `active` of each row (``topk``) or those above `threshold`
    atoms : (direction, unit) a.u. for one of the code
    encoder : (direction, unit) linear read-out of a code; of NMF the least squares without its condition of no negative codes
    bias : (direction,)
    offset : (unit,) a.u.
    active, threshold : see `encoding`
    """

    encoding: Encoding
    atoms: Array
    encoder: Array
    bias: Array
    offset: Array
    active: int = 0
    threshold: float = 0.0

    @property
    def directions(self) -> int:
        """How many directions there are."""
        return len(self.atoms)

    @property
    def nbytes(self) -> int:
        """What it takes, bytes."""
        return sum(value.nbytes for value in (self.atoms, self.encoder, self.bias, self.offset))

    def codes(self, activations: Array) -> Array:
        """Return what describes activations (row, unit): (row, direction), not negative; of a row alone, not of its neighbours.

        Raises
        ------
        MeasureError
            They are those of another layer.
        """
        if activations.shape[1] != self.atoms.shape[1]:
            raise MeasureError(
                f"a dictionary of {self.atoms.shape[1]} units is given activations of {activations.shape[1]}, expected those of the tap that it was learnt from; "
                "give these, or learn one for the other tap"
            )
        found = np.empty((len(activations), self.directions))
        for start in range(0, len(activations), BLOCK):
            some = slice(start, start + BLOCK)
            found[some] = self._described(np.asarray(activations[some], dtype=np.float64))
        return found

    def _described(self, x: Array) -> Array:
        if self.encoding == "non_negative":
            return non_negative(x, self.atoms)
        driven = np.maximum((x - self.offset) @ self.encoder.T + self.bias, 0.0)
        if self.encoding == "threshold":
            return np.where(driven > self.threshold, driven, 0.0)
        return largest(driven, self.active)

    def rebuilt(self, codes: Array) -> Array:
        """Return the activations (row, unit) that codes (row, direction) stand for."""
        return np.asarray(codes @ self.atoms + self.offset)

    def basis(self, name: str) -> Basis:
        """Return it as a basis in which a layer is seen."""
        return Basis(name, self.codes, self.encoder, self.atoms)

    def to_bytes(self) -> bytes:
        """Return it as a file's content."""
        sink = io.BytesIO()
        numbers = np.array([("non_negative", "topk", "threshold").index(self.encoding), self.active, self.threshold])
        np.savez(sink, atoms=self.atoms, encoder=self.encoder, bias=self.bias, offset=self.offset, numbers=numbers)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Dictionary:
        """Return what `to_bytes` gave."""
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            atoms, encoder, bias, offset, numbers = (kept[name] for name in _ARRAYS)
        encodings: tuple[Encoding, ...] = ("non_negative", "topk", "threshold")
        return cls(encodings[int(numbers[0])], atoms, encoder, bias, offset, int(numbers[1]), float(numbers[2]))


def largest(values: Array, count: int) -> Array:
    """Return values (row, direction) with all but the largest `count` of each row 0; of equals the earlier."""
    if count >= values.shape[1]:
        return values
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    found = np.zeros_like(values)
    np.put_along_axis(found, order, np.take_along_axis(values, order, 1), 1)
    return found


def non_negative(x: Array, atoms: Array) -> Array:
    """Return the codes (row, direction), none negative, of least squared error to activations (row, unit): `DESCENTS` steps towards them.

    References
    ----------
    A. Beck, M. Teboulle 2009, SIAM Journal on Imaging Sciences 2 (FISTA), with the projection onto what is not negative; atoms are taken at unit length for
    it. Each row alone, with steps that the atoms decide, so that a code does not depend on its neighbours.
    """
    lengths = np.linalg.norm(atoms, axis=1)
    unit = atoms * reciprocal(lengths)[:, None]
    gram, wanted = unit @ unit.T, x @ unit.T
    step = 1.0 / max(float(np.linalg.eigvalsh(gram)[-1]), np.finfo(float).tiny)
    codes = np.maximum(wanted * step, 0.0)
    ahead, momentum = codes, 1.0
    for _ in range(DESCENTS):
        moved = np.maximum(ahead - step * (ahead @ gram - wanted), 0.0)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - codes)
        codes, momentum = moved, following
    return np.asarray(codes * reciprocal(lengths))
