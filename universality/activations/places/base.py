"""What a place of stores can do, and what a store that is being written can do."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from universality.base.errors import StoreError

HIDDEN = ".universality"
"""Below the root: the lock or the claims of jobs, and the register of runs."""
PARTIAL = re.compile(r"([0-9a-f]{32})\.partial-[0-9]+-[0-9a-f]{8}")


class Draft(Protocol):
    """A store that is being written: `data` is where Zarr writes, `name` what the manifest calls that folder."""

    name: str

    @property
    def data(self) -> Any:
        """What Zarr opens for writing."""

    def sizes(self) -> dict[str, int]:
        """Return the files written so far and their sizes, bytes; names as in the manifest."""

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of one of them, hex."""

    def commit(self, manifest: str, text: str) -> None:
        """Make all of it visible at once, with the file `manifest` of this text."""


class Place(Protocol):
    """A root below which stores lie; names are relative to it, with ``/`` between parts."""

    location: str
    shares_keys: bool
    """Whether the folder of a key may also hold data of other writers, which no manifest lists."""

    def check(self) -> None:
        """Raise `StoreError` if there can be no store here."""

    def writable(self) -> bool:
        """Return whether something can be written here, as far as that can be told beforehand."""

    def join(self, name: str) -> str:
        """Return the whole path or URL of a name, for messages."""

    def names(self, below: str = "") -> list[str]:
        """Return the names directly below the root or a folder, sorted; none if it does not exist."""

    def has(self, name: str) -> bool:
        """Return whether `name` is a file."""

    def sizes(self, name: str) -> dict[str, int]:
        """Return every file below `name`, relative to it, with its size in bytes."""

    def read(self, name: str) -> bytes:
        """Return a file's content; raise `OSError` if it cannot be read."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step."""

    def sha256(self, name: str) -> str:
        """Return a file's SHA-256, hex."""

    def zarr(self, name: str) -> Any:
        """Return what Zarr opens for reading."""

    def drafting(self, key: str) -> AbstractContextManager[Draft]:
        """Return a context that gives a `Draft` and leaves nothing of it behind unless it was committed."""

    def leftovers(self) -> list[str]:
        """Return what interrupted writes left behind and no process writes now."""

    def drafts(self, below: str) -> dict[str, int]:
        """Return the small files below a folder that are being written, or that a killed process left behind, with sizes."""

    def set_aside(self, key: str, manifest: str) -> str:
        """Make a store invisible without deleting its data; return the new name."""

    def remove(self, name: str) -> None:
        """Delete a file or a folder below the root."""

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context during which `alone` is refused."""

    def in_use_now(self) -> bool:
        """Return whether a job uses the root; true where that is unknown."""

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no job uses the root; raise `StoreError` if one does."""


def check_name(name: str) -> None:
    """Raise `StoreError` for a name that could lead out of the root."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise StoreError(f"'{name}' is no name below the store's root; nothing was removed")
