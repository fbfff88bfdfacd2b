"""The runs of a service: every finished run of its folder, opened once, found by name and never by a path."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from universality.base.errors import MissingError, UniversalityError, did_you_mean
from universality.runs.provenance import RECORD
from universality.runs.run import Run, open_run, read_record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


class RunIndex:
    """The finished runs in one folder.

    Attributes
    ----------
    folder : the folder of the runs
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: dict[str, tuple[tuple[int, int], Run]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the finished runs, the newest first."""
        if not self.folder.is_dir():
            return []
        found = [(stamp[0], path.name) for path in self.folder.iterdir() if (stamp := self._stamp(path.name))]
        return [name for _, name in sorted(found, reverse=True) if self._finished(name)]

    def get(self, name: str) -> Run:
        """Return a run; raise `MissingError` where there is none of this name.

        Its files are compared with their checksums when it is first opened, and again when its record has changed.
        """
        stamp = self._stamp(name)
        if stamp is None:
            raise MissingError(f"there is no run '{name[:200]}'{did_you_mean(name[:200], self.names())}")
        with self._lock:
            if name in self._opened and self._opened[name][0] == stamp:
                return self._opened[name][1]
        opened = open_run(self.folder / name)
        with self._lock:
            self._opened[name] = (stamp, opened)
        return opened

    def _stamp(self, name: str) -> tuple[int, int] | None:
        """Return time and size of a run's record, None where there is none: of nothing outside the folder, so that links are passed over."""
        if not _NAME.fullmatch(name) or (self.folder / name).is_symlink():
            return None
        try:
            stat = (self.folder / name / RECORD).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _finished(self, name: str) -> bool:
        if name in self._opened and self._opened[name][0] == self._stamp(name):
            return True
        try:
            record = read_record(self.folder / name)
        except UniversalityError:
            return False
        return record is not None and record["status"] == "complete"
