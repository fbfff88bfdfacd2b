"""Processor seconds that work took on this machine: a run adds them up by kind, later plans read them.

They decide no number. What cannot be read or written is left out without an error: an estimate then comes from fewer runs,
or from `DEFAULTS`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import thread_time
from typing import Any

VARIABLE = "UNIVERSALITY_SECONDS"
"""Names another file than that of the user's cache folder."""
FORMAT = 2
"""Raised when what is counted as work changes: older records are then of no use."""
RUNS = 5
"""How many runs of each kind of work are remembered. The oldest is forgotten first, so that new versions of packages tell."""

Took = tuple[float, float]
"""Work and seconds."""

MEASURED = "AMD EPYC, two virtual cores, November 2026"
DEFAULTS = {
    "start": 5.0, "load": 0.13, "calibrate": 0.43, "images on cpu": 0.39, "stores": 0.014,
    "dictionaries": 5.0, "families": 0.11, "similarity": 0.0034, "correspondence": 0.22, "ceilings": 0.78, "natural": 160.0, "examples": 1.75, "circuits": 3.0, "motifs": 8.0, "recovery": 0.5, "ablations": 1.3, "patches": 0.3, "transplants": 0.6, "atlas": 0.48,
    "tables of families": 0.0008, "tables of similarity": 1e-5, "tables of correspondence": 0.0003, "tables of ceilings": 0.0003, "tables of pairs": 0.005,
    "tables of natural": 0.0, "tables of examples": 0.0, "tables of circuits": 0.1, "tables of motifs": 0.1, "tables of recovery": 0.0, "tables of dictionaries": 0.0, "tables of ablations": 0.0, "tables of patches": 0.0, "tables of transplants": 0.0, "tables of roles": 0.5, "tables of atlas": 0.01,
    "tables": 0.004, "written tables": 0.02, "figures": 1.0, "report": 0.15, "beside": 0.09,
}  # fmt: skip
"""Seconds for one piece of work of each kind where this machine has recorded none: what the jobs quickstart and cluster took
on `MEASURED`. Beside other programs they may be too short by half."""


class Spent:
    """Work done and processor seconds taken, by kind, over one run."""

    def __init__(self) -> None:
        self._took: dict[str, Took] = {}

    def add(self, kind: str, work: float, seconds: float) -> None:
        """Add some work and its seconds."""
        before = self._took.get(kind, (0.0, 0.0))
        self._took[kind] = (before[0] + work, before[1] + seconds)

    @contextmanager
    def clocked(self, kind: str, work: float) -> Iterator[None]:
        """Add what this thread does inside."""
        started = thread_time()
        yield
        self.add(kind, work, thread_time() - started)

    def took(self) -> dict[str, Took]:
        """Return work and seconds of each kind."""
        return {kind: took for kind, took in sorted(self._took.items()) if _is_took(took)}

    @property
    def seconds(self) -> float:
        """All seconds. What is recorded of one network, by the id of its card, is recorded of all networks as well."""
        return sum(seconds for kind, (_, seconds) in self._took.items() if "/" not in kind)

    def plain(self) -> dict[str, dict[str, float]]:
        """Return the same for a run's record."""
        return {
            kind: {"work": round(work, 6), "seconds": round(seconds, 3)}
            for kind, (work, seconds) in self.took().items()
        }


@dataclass(frozen=True)
class Recorded:
    """What runs on this kind of processor took: how many there were, and the last of each kind of work."""

    runs: int = 0
    took: Mapping[str, Sequence[Took]] = field(default_factory=dict)

    def rate(self, kind: str) -> float | None:
        """Return seconds for one piece of work of a kind; None if none was recorded.

        Runs are weighted by their work: what is small is mostly overhead.
        """
        took = self.took.get(kind)
        return sum(seconds for _, seconds in took) / sum(work for work, _ in took) if took else None


def path() -> Path:
    """Return where this machine's seconds are kept: ``$UNIVERSALITY_SECONDS``, else in the user's cache folder."""
    if own := os.environ.get(VARIABLE):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "universality" / "seconds.json"


def recorded() -> Recorded:
    """Return what earlier runs on this kind of processor took; nothing where there is no record that can be read."""
    found = _read().get(_processor(), {})
    runs = found.get("runs") if isinstance(found, dict) else None
    kinds = found.get("took") if isinstance(found, dict) else None
    if not isinstance(runs, int) or not isinstance(kinds, dict):
        return Recorded()
    took = {
        str(kind): [(float(one[0]), float(one[1])) for one in of if _is_took(one)]
        for kind, of in kinds.items()
        if isinstance(of, list)
    }
    return Recorded(runs, took)


def record(spent: Spent) -> None:
    """Add what a run took to this machine's record, in one step; of two runs that end at once, one may be lost."""
    took, before = spent.took(), recorded()
    if not took:
        return
    kinds = dict(before.took) | {kind: [*before.took.get(kind, ()), one][-RUNS:] for kind, one in took.items()}
    processors = _read() | {_processor(): {"runs": before.runs + 1, "took": kinds}}
    with suppress(OSError, RuntimeError):  # of a folder that may only be read, or a user without one
        file = path()
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        try:
            draft.write_text(json.dumps({"format": FORMAT, "processors": processors}), encoding="utf-8")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)


def _read() -> dict[str, Any]:
    try:
        known = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    if not isinstance(known, dict) or known.get("format") != FORMAT or not isinstance(known.get("processors"), dict):
        return {}
    return dict(known["processors"])


def _is_took(value: Any) -> bool:
    """Return whether this is work and seconds from which a rate can be made."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    return all(isinstance(v, (int, float)) and math.isfinite(v) for v in value) and value[0] > 0 and value[1] >= 0


@cache
def _processor() -> str:
    """Return the kind of this processor. Unlike `provenance.processor` it names the model, and a plan needs no Torch for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model or platform.processor() or platform.system()}"
