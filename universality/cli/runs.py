"""The commands about finished runs: ``universality runs ...`` and ``universality reproduce``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from universality.cli.options import RunArgument
from universality.cli.output import line, stdout
from universality.errors import RunError
from universality.resources import DEFAULT_RUNS, DEFAULT_STORE

runs_app = typer.Typer(help="The finished runs.", no_args_is_help=True, rich_markup_mode=None)

RunsOption = Annotated[
    Path, typer.Option("--runs", help="Folder that holds the runs, also in folders below it.", metavar="DIR")
]
StoreOption = Annotated[str, typer.Option("--store", help="Folder or URL of the activations.", metavar="URL")]


@runs_app.command("list")
def runs_list(folder: Annotated[Path, typer.Argument(metavar="DIR")] = Path(DEFAULT_RUNS)) -> None:
    """List every run in or below a folder.

    Example: universality runs list data/runs
    """
    from universality.upkeep import listed

    table = Table()
    for name in ("run", "name", "status", "started", "networks", "pairs", "size (MB)", "version", "this code"):
        table.add_column(
            name, justify="right" if name in ("networks", "pairs", "size (MB)") else "left", overflow="fold"
        )
    for run in listed(folder):
        table.add_row(
            escape(str(run.path)), run.name, run.status, run.when, str(run.networks), str(run.pairs),
            f"{run.nbytes / 1e6:.1f}", run.version, "yes" if run.this_code else "no",
        )  # fmt: skip
    stdout().print(table)


@runs_app.command("show")
def runs_show(
    path: Annotated[Path, typer.Argument(help="Run directory, or one of its files.", metavar="RUN|FILE")],
) -> None:
    """Show what a run was asked, what came out and where its numbers come from; of a single file, its provenance.

    Example: universality runs show data/runs/quickstart/similarity.parquet
    """
    from universality.origin import provenance

    console = stdout()
    if path.is_dir():
        _show_counts(path)
    line(console, json.dumps(provenance(path), indent=1, sort_keys=True))


def _show_counts(path: Path) -> None:
    from universality import schema
    from universality.runs import open_run
    from universality.upkeep import listed

    run, console = open_run(path), stdout()
    entry = next(entry for entry in listed(path) if entry.path == path)
    facts = {
        "name": run.job.name,
        "question": run.job.question,
        "status": f"{entry.status}, started {entry.when}, {run.record.get('seconds', '?')} s",
        "networks": ", ".join(model.id for model in run.job.models),
        "pairs": str(entry.pairs),
        "rows": ", ".join(f"{name} {len(getattr(run, name))}" for name in schema.TABLES),
        "figures": str(len(run.record.get("figures", {}))),
        "activations": f"{len(run.record['stores'])} stores in {run.store}",
        "command": " ".join(run.record["command"]),
        "machine": ", ".join(f"{name} {value}" for name, value in run.record["machine"].items()),
        "of this code": "yes" if entry.this_code else "no",
    }
    for name, value in facts.items():
        line(console, f"{name}: {value}")


@runs_app.command("verify")
def runs_verify(
    path: Annotated[Path | None, typer.Argument(help="Run directory.", metavar="RUN")] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs in or below --runs.")] = False,
    folder: RunsOption = Path(DEFAULT_RUNS),
    store: Annotated[
        str | None, typer.Option("--store", help="Where the activations lie now, if moved.", metavar="URL")
    ] = None,
) -> None:
    """Compare every checksum: record, tables, figures, report, and each file of every store that the run refers to.

    One line per damaged file; exit status 1 if there is any.

    Example: universality runs verify data/runs/quickstart
    """
    from universality.upkeep import listed, problems

    if every == (path is not None):
        raise RunError("nothing to verify, or too much: give either a run directory or --all")
    console = stdout()
    checked = [path] if path is not None else [run.path for run in listed(folder) if run.status != "running"]
    count = 0
    for run in checked:
        for problem in problems(run, store):
            line(console, problem)
            count += 1
    line(console, f"{len(checked)} run(s) verified: {count or 'nothing'} damaged")
    if count:
        raise typer.Exit(1)


@runs_app.command("clean")
def runs_clean(
    folder: RunsOption = Path(DEFAULT_RUNS),
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    kept: Annotated[
        bool, typer.Option("--kept", help="Also results of comparisons and shards: jobs compute them again.")
    ] = False,
) -> None:
    """Say what no run refers to: stores, left-overs of interrupted writers, damaged stores, unfinished runs. --yes removes it.

    A store that a running job uses is left alone.

    Example: universality runs clean --yes
    """
    from universality.store import store_at
    from universality.upkeep import removable, remove

    console, place = stdout(), store_at(store, DEFAULT_STORE)
    found = (remove if yes else removable)(folder, place, kept=kept)
    for item in found:
        line(console, f"{item.where}: {item.why}, {item.nbytes / 1e6:.2f} MB")
    total = sum(item.nbytes for item in found) / 1e6
    line(
        console, f"{'removed' if yes else 'would remove'} {len(found)} item(s), {total:.2f} MB" + _how(bool(found), yes)
    )


def _how(any_found: bool, yes: bool) -> str:
    return "; run it again with --yes to remove them" if any_found and not yes else ""


def reproduce_command(
    run_path: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder [default: data/reproduced/NAME].", metavar="DIR")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", help="Share of the larger of 1 and the value that counts as equal [default: 1e-6]."
        ),
    ] = None,
) -> None:
    """Run a finished run's job again elsewhere with a fresh store and compare: exit status 0 only if it is reproduced.

    Example: universality reproduce data/runs/quickstart --out again
    """
    from universality.reproduction import TOLERANCE, reproduce
    from universality.runs import open_run

    target = out or Path("data/reproduced") / open_run(run_path).job.name
    found = reproduce(run_path, target, tolerance=TOLERANCE if tolerance is None else tolerance)
    console = stdout()
    for name in found.identical:
        line(console, f"{name}: the same bytes")
    for name, (before, after) in found.rows.items():
        line(console, f"{name}: {before} rows recorded, {after} again")
    for column in found.columns:
        line(console, f"{column.table}.{column.column}: {column.rows} rows differ, by up to {column.largest:.3g}")
    for title, differ in (("input", found.inputs), ("circumstance", found.circumstances)):
        for name, (old, new) in differ.items():
            line(console, f"{title} {name}: {_brief(old)} recorded, {_brief(new)} again")
    line(console, found.verdict())
    if not found.equal:
        raise typer.Exit(1)


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
