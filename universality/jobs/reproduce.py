"""Run a finished run's job again elsewhere, from nothing, and say whether the same numbers come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from universality.base import progress
from universality.base.errors import RunError
from universality.jobs import execute
from universality.runs import run
from universality.runs.provenance import Facts
from universality.runs.run import Run

TOLERANCE = 1e-6
"""Largest difference that counts as equal, as a share of the larger of 1 and the recorded value: another processor or
number of threads may round differently, and what follows from a result may not."""


@dataclass(frozen=True)
class ColumnDifference:
    """One column that differs: by how much at most (as a share of the larger of 1 and the value), in how many rows.

    `largest` is infinite where values cannot be subtracted: text, truth values, a NaN on one side.
    """

    table: str
    column: str
    rows: int
    largest: float


@dataclass(frozen=True)
class Reproduction:
    """What came out of running a job again.

    Attributes
    ----------
    n_tables : tables that the recorded run has
    identical : tables with the same bytes
    rows : tables with another number of rows, as (recorded, again)
    columns : columns that differ
    inputs : what of the inputs differs: weights, cards, stimuli, by name, as (recorded, again)
    circumstances : packages, Python, code, extraction that differ, as (recorded, again)
    """

    recorded: Path
    again: Path
    tolerance: float
    n_tables: int = 0
    identical: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    columns: list[ColumnDifference] = field(default_factory=list)
    inputs: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    circumstances: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether inputs are the same and no number differs by more than the tolerance."""
        return not self.inputs and not self.rows and all(c.largest <= self.tolerance for c in self.columns)

    def verdict(self) -> str:
        """Return the result in one sentence."""
        beyond = [c for c in self.columns if c.largest > self.tolerance]
        if self.inputs:
            return f"not reproduced: {len(self.inputs)} of the inputs differ ({', '.join(self.inputs)})"
        if self.rows:
            return f"not reproduced: {', '.join(self.rows)} have another number of rows"
        if beyond:
            worst = max(beyond, key=lambda c: c.largest)
            return (
                f"not reproduced: {len(beyond)} columns differ by more than {self.tolerance:g}, most of all "
                f"{worst.table}.{worst.column} ({worst.rows} rows, by up to {worst.largest:.3g})"
            )
        if not self.columns:
            same = "to the byte" if len(self.identical) == self.n_tables else "in every value"
            return f"reproduced: all {self.n_tables} tables are equal {same}"
        largest = max(c.largest for c in self.columns)
        return f"reproduced: no value differs by more than {largest:.3g} (tolerance {self.tolerance:g})"


def reproduce(
    path: str | Path,
    out: str | Path,
    *,
    tolerance: float = TOLERANCE,
    reporter: progress.Reporter | None = None,
    scheduler: str | None = None,
) -> Reproduction:
    """Run the job that a run's record holds again, with a fresh store, and compare.

    Parameters
    ----------
    path : path
        Directory of a finished run.
    out : path
        New folder; it gets ``run`` and ``store``.
    tolerance : float
        Largest difference that counts as equal, as a share of the larger of 1 and the recorded value.

    Raises
    ------
    RunError
        The run cannot be opened, a table has another form than this version's, or `out` holds something.
    """
    recorded, out = run.open_run(path), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"'{out}' exists and is not empty: a reproduction starts from nothing; give another with --out")
    for name in recorded.tables:
        Run(recorded.path, recorded.record).table(name)  # one of another form is refused before anything is computed
    again = execute.run(
        recorded.job, out / "run", store=out / "store", reporter=reporter, scheduler=scheduler,
        only=recorded.record.get("stages"),
    )  # fmt: skip
    return compared(recorded, again, tolerance)


def compared(recorded: Run, again: Run, tolerance: float = TOLERANCE) -> Reproduction:
    """Return in what two runs of one job differ."""
    found = Reproduction(recorded.path, again.path, tolerance, len(recorded.tables))
    for name in recorded.tables:
        file = f"{name}.parquet"
        if recorded.record["tables"][file] == again.record["tables"][file]:
            found.identical.append(name)
            continue
        before, after = recorded.table(name), again.table(name)
        if len(before) != len(after):
            found.rows[name] = (len(before), len(after))
        else:
            found.columns.extend(_columns(name, before, after))
    old, new = recorded.record.get("provenance", {}), again.record["provenance"]
    for name in ("models", "stimuli"):
        found.inputs.update(_differences(name, old.get(name), new[name]))
    for name in ("packages", "python", "code", "extraction"):
        found.circumstances.update(_differences(name, old.get(name), new[name]))
    return found


def _differences(name: str, old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Return the leaves in which two nested facts differ, by dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts: Facts = {}
        for key in sorted(old.keys() | new.keys()):
            parts |= _differences(f"{name}.{key}", old.get(key), new.get(key))
        return parts
    return {} if old == new else {name: (old, new)}


def _columns(table: str, before: pd.DataFrame, after: pd.DataFrame) -> list[ColumnDifference]:
    found = []
    for column in before.columns:
        gaps = np.array([_gap(a, b) for a, b in zip(before[column], after[column], strict=True)], dtype=np.float64)
        if gaps.any():
            found.append(ColumnDifference(table, column, int((gaps > 0).sum()), float(gaps.max())))
    return found


def _gap(a: Any, b: Any) -> float:
    """Return the largest difference of two cells, as a share of the larger of 1 and the first; infinite across kinds."""
    if isinstance(a, bool | np.bool_ | str) or isinstance(b, bool | np.bool_ | str):
        return 0.0 if a == b else np.inf
    try:
        x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    except (TypeError, ValueError):
        return 0.0 if a == b else np.inf
    if x.shape != y.shape:
        return np.inf
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(x - y) / np.maximum(1.0, np.abs(x)))
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))
