"""Small files with a checksum inside: written in one step; a damaged one counts as absent.

The pieces of a job (shards of activations, results of comparisons) are many and small, so each carries its SHA-256 in
front of its content instead of a manifest beside it. One that was cut short or changed counts as absent: it is computed
again.
"""

from __future__ import annotations

import hashlib

from universality.activations.places import Place
from universality.base.errors import StoreError

_SHA_BYTES = 32


def name_of(folder: str, key: str) -> str:
    """Return the name of the piece `key`; a folder of many pieces is divided by their first two letters."""
    return f"{folder}/{key[:2]}/{key}"


def write(place: Place, name: str, content: bytes) -> None:
    """Write a piece with its checksum, in one step.

    Raises
    ------
    StoreError
        If the disk is full or the place cannot be written.
    """
    try:
        place.write(name, hashlib.sha256(content).digest() + content)
    except OSError as cause:
        raise StoreError(
            f"'{place.join(name)}' cannot be written: {cause.strerror or cause}; free space or choose another folder with "
            "--store"
        ) from None


def read(place: Place, name: str) -> bytes | None:
    """Return the content of a piece; None if it is absent, cut short or changed."""
    try:
        if not place.has(name):
            return None
        stored = place.read(name)
    except OSError:
        return None
    content = stored[_SHA_BYTES:]
    return content if hashlib.sha256(content).digest() == stored[:_SHA_BYTES] else None
