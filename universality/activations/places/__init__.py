"""Where stores lie: a local folder, or a prefix of an object store that fsspec reaches (``s3://``, ``memory://``).

Both give names below one root. They differ in how something becomes visible all at once: a folder is renamed, and on an
object store, which cannot rename, the object that says "complete" is written last.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from universality.activations.places.base import HIDDEN, PARTIAL, Draft, Place
from universality.activations.places.folder import Folder
from universality.activations.places.objects import Objects

__all__ = ["HIDDEN", "PARTIAL", "Draft", "Folder", "Objects", "Place", "place_of"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)(?:://|::)")


def place_of(location: str | Path) -> Place:
    """Return the place at a path or URL; ``file://`` is a path.

    Raises
    ------
    StoreError
        The URL's protocol is unknown, or the package it needs is not installed.
    """
    text = os.fspath(location)
    found = _URL.match(text)
    if found is None:
        return Folder(Path(text))
    if found[1] == "file":
        return Folder(Path(text.removeprefix("file://")))
    return Objects(text.rstrip("/"))
