"""What the stages make of the small job, in figures: a change of their numbers without a new version of the stage is seen.

    python tests/pins.py    # writes tests/golden/stages.json, after a stage's version was raised

A regression pin, not an oracle: it says that numbers changed, not which are right. Quantiles are compared to one part in a thousand, so
that another processor's rounding does not count.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import universality
from universality.jobs.stages import STAGES
from universality.runs.run import Run

FILE = Path(__file__).parent / "golden" / "stages.json"
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_WORDS = 12


def pin(run: Run, *, edits: bool = False) -> dict[str, Any]:
    """Return by stage its version and what its tables hold: of the stages about interventions, or of all others."""
    return {
        stage.name: {
            "version": stage.version, "tables": {table.name: of_table(run.table(table.name)) for table in stage.tables_of(run.job)},
        }
        for stage in STAGES.values()
        if stage.name in run.record["stages"] and ("edits" in stage.asks) == edits
    }  # fmt: skip


def of_table(table: pd.DataFrame) -> dict[str, Any]:
    """Return the number of rows, and of every column quantiles, or counts of its words."""
    return {"rows": len(table), "columns": {str(name): of_column(table[name]) for name in table}}


def of_column(column: pd.Series) -> dict[str, Any]:
    """Return the quantiles of numbers (of lists: of all their numbers) with the number of NaNs, or the counts of words."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(np.float64)
    elif len(column) and isinstance(column.iloc[0], np.ndarray):
        values = np.concatenate([np.asarray(row, dtype=np.float64) for row in column])
    else:
        counts = column.astype(str).value_counts().sort_index()
        return {"words": {str(k): int(v) for k, v in counts.items()} if len(counts) <= MOST_WORDS else len(counts)}
    finite = values[np.isfinite(values)]
    quantiles = [float(f"{q:.9g}") for q in np.quantile(finite, QUANTILES)] if finite.size else []
    return {"quantiles": quantiles, "not_finite": int(values.size - finite.size)}


def write() -> None:
    """Run the small jobs with all stages that they have and write what came."""
    from conftest import SMALL_JOB
    from edited_job import EDITED_JOB

    found = {}
    for edits, text in ((False, SMALL_JOB), (True, EDITED_JOB)):
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder) / "job.toml"
            job.write_text(text, encoding="utf-8")
            only = [name for name, stage in STAGES.items() if not {"copies", "edits", "dictionaries"} & {*stage.asks}]
            run = universality.run(
                job, Path(folder) / "run", store=Path(folder) / "store", only=None if edits else only
            )
            found |= pin(run, edits=edits)
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    write()
