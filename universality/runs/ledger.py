"""A finished run and the ledger: claims held against its tables, and where the outcome is kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from universality.base.schema import Table
from universality.ledger import claims, verdicts
from universality.ledger.tables import LEDGER
from universality.runs.record import cannot_be_written, finish
from universality.runs.run import Run, file_sha256, write_table
from universality.runs.tables import TABLES


def asked_of() -> dict[str, Table]:
    """Return every table that a claim may be about."""
    return {name: table for name, table in TABLES.items() if name != LEDGER.name}


def held(run: Run, ledger: claims.Ledger, seed: int = 0) -> pd.DataFrame:
    """Return the table ``ledger`` of a run: every claim, what was measured, its interval and null, and whether it held.

    Raises
    ------
    ClaimError
        A claim names a table, column or function that there is not.
    """
    began = run.record.get("started_unix")
    return verdicts.evaluate(ledger, run, asked_of(), None if began is None else float(began), seed)


def write(run: Run, rows: pd.DataFrame, out: Path | None = None) -> list[Path]:
    """Write a run's ledger as Parquet and CSV into a folder; into the run's own directory, whose record then has its checksum, when left out.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    folder = run.path if out is None else out
    with cannot_be_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = [write_table(folder, LEDGER, rows, run.record["provenance"]), folder / f"{LEDGER.name}.csv"]
        rows.to_csv(files[1], index=False, float_format="%.6g", lineterminator="\n")
        if out is None:
            kept = {key: value for key, value in run.record.items() if key != "digest"}
            finish(folder, kept | {"ledger": file_sha256(files[0])})
    return files
