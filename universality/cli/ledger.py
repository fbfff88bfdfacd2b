"""The command about predictions: ``universality ledger``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from universality.base.errors import ClaimError
from universality.cli.completion import run_folders
from universality.cli.options import JsonOption
from universality.cli.output import line, print_json, rows, stdout

if TYPE_CHECKING:
    import pandas as pd

    from universality.runs.run import Run

CLAIMS = Path("analyses/ledger/claims")


def ledger_command(
    held_against: Annotated[
        Path | None,
        typer.Argument(
            help="Run directory, or the TOML file of a job that was run.", metavar="RUN", autocompletion=run_folders
        ),
    ] = None,
    claims: Annotated[Path, typer.Option("--claims", help="Folder of claims.", metavar="DIR")] = CLAIMS,
    register: Annotated[
        bool, typer.Option("--register", help="Record digest and time of claims that are new.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder [default: the run's, and its report then shows it].", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold claims that were written down before a run against its tables: held, failed or undecided, each beside its null.

    With --register, record digest and time of every new claim, before the run that is to decide it.

    Example: universality ledger data/runs/quickstart --claims analyses/ledger/claims
    """
    from datetime import UTC, datetime

    from universality.ledger import claims as reading

    ledger = reading.read(claims)
    new: list[str] = []
    if register:
        new = reading.register(ledger, datetime.now(UTC))
        ledger = reading.read(claims)
    elif held_against is None:
        raise ClaimError("nothing to do: give a run to hold claims against, or --register")
    if held_against is None:
        if as_json:
            print_json({"registered": new, "claims": len(ledger.claims)})
        else:
            line(f"registered {len(new)} of {len(ledger.claims)} claims: {', '.join(new) or 'none is new'}")
        return
    _hold(ledger, _opened(held_against), new, out, as_json)


def _opened(path: Path) -> Run:
    from universality.runs.run import open_run

    if path.suffix != ".toml":
        return open_run(path)
    from universality.base.paths import DEFAULT_RUNS
    from universality.runs.job import read_job

    return open_run(Path(DEFAULT_RUNS) / read_job(path).name)


def _hold(ledger: Any, run: Run, new: list[str], out: Path | None, as_json: bool) -> None:
    from universality.runs import ledger as keeping

    found = keeping.held(run, ledger)
    files = keeping.write(run, found, out)
    if as_json:
        print_json({"registered": new, "files": files, "problems": ledger.problems, "claims": rows(found)})
        return
    _print(found)
    counts = found["verdict"].value_counts()
    for problem in ledger.problems:
        line(problem)
    line(", ".join(f"{name} {counts.get(name, 0)}" for name in ("held", "failed", "undecided")))
    for file in files:
        line(str(file))


def _print(found: pd.DataFrame) -> None:
    table = Table()
    for name in ("claim", "of", "verdict", "measured", "95 % interval", "null", "rows", "networks", "why"):
        numeric = name in ("measured", "95 % interval", "null", "rows", "networks")
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in found.to_dict("records"):
        shown = {
            name: "" if row[name] != row[name] else f"{row[name]:.3g}" for name in ("measured", "low", "high", "null")
        }
        span = f"{shown['low']} to {shown['high']}" if shown["low"] else ""
        cells = (
            row["claim"],
            row["of"],
            row["verdict"],
            shown["measured"],
            span,
            shown["null"],
            str(row["n"]),
            str(row["n_networks"]),
        )
        table.add_row(*(escape(str(cell)) for cell in (*cells, row["reason"])))
    stdout().print(table)
