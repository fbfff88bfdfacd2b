"""The commands about finished runs: ``universality runs ...`` and ``universality reproduce``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from universality.base.errors import RunError
from universality.base.paths import DEFAULT_RUNS, DEFAULT_STORE
from universality.base.plain import plain
from universality.cli.completion import run_folders
from universality.cli.leaving import Status
from universality.cli.options import JsonOption, RunArgument
from universality.cli.output import line, print_json, stdout

if TYPE_CHECKING:
    from universality.jobs.reproduce import Reproduction

runs_app = typer.Typer(help="The finished runs.", no_args_is_help=True, rich_markup_mode=None)

RunsOption = Annotated[
    Path, typer.Option("--runs", help="Folder that holds the runs, also in folders below it.", metavar="DIR")
]
StoreOption = Annotated[str, typer.Option("--store", help="Folder or URL of the activations.", metavar="URL")]


@runs_app.command("list")
def runs_list(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs.", metavar="DIR")] = Path(DEFAULT_RUNS),
    as_json: JsonOption = False,
) -> None:
    """List every run in or below a folder.

    Example: universality runs list data/runs
    """
    from universality.runs.upkeep import listed

    found = listed(folder)
    if as_json:
        print_json(found)
        return
    table = Table()
    for name in ("run", "name", "status", "started", "networks", "pairs", "size (MB)", "version", "this code"):
        table.add_column(
            name, justify="right" if name in ("networks", "pairs", "size (MB)") else "left", overflow="fold"
        )
    for run in found:
        table.add_row(
            escape(str(run.path)), run.name, run.status, run.when, str(run.networks), str(run.pairs),
            f"{run.nbytes / 1e6:.1f}", run.version, "yes" if run.this_code else "no",
        )  # fmt: skip
    stdout().print(table)


@runs_app.command("show")
def runs_show(
    path: Annotated[
        Path, typer.Argument(help="Run directory, or one of its files.", metavar="RUN|FILE", autocompletion=run_folders)
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what a run was asked, what came out and where its numbers come from; of a single file, its whole provenance.

    Example: universality runs show data/runs/quickstart/similarity.parquet
    """
    from universality.runs.provenance import provenance

    facts = _facts(path) if path.is_dir() else {}
    if as_json:
        print_json({"path": path, **facts, "provenance": provenance(path)})
        return
    if not facts:
        line(json.dumps(provenance(path), indent=1, sort_keys=True))
        return
    for name, value in (facts | _origins(provenance(path))).items():
        line(f"{name.replace('_', ' ')}: {_shown(value)}")
    line(f"the whole provenance: universality runs show {path} --json")


_DIGITS = 12
"""Of a digest, where people read it."""


def _origins(facts: dict[str, Any]) -> dict[str, Any]:
    """Return in short where the numbers of a run come from."""
    code = facts["code"]
    return {
        "code": f"{code['version']}, source {code['source_digest'][:_DIGITS]}",
        "digests": {name: facts[f"{name}_digest"][:_DIGITS] for name in ("job", "inputs")},
        "weights": {name: model["weights"][:_DIGITS] for name, model in facts["models"].items()},
        "seeds": facts["seeds"],
        "packages": facts["packages"],
    }


def _facts(path: Path) -> dict[str, Any]:
    from universality.runs.run import open_run, row_counts
    from universality.runs.upkeep import listed

    run = open_run(path)
    entry = next(entry for entry in listed(path) if entry.path == path)
    return {
        "name": run.job.name,
        "question": run.job.question,
        "status": entry.status,
        "started": entry.when,
        "seconds": run.record.get("seconds"),
        "networks": [model.id for model in run.job.models],
        "pairs": entry.pairs,
        "rows": row_counts(run),
        "figures": len(run.record.get("figures", {})),
        "stores": len(run.record["stores"]),
        "store": run.store,
        "command": " ".join(run.record["command"]),
        "machine": run.record["machine"],
        "this_code": entry.this_code,
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


@runs_app.command("verify")
def runs_verify(
    path: Annotated[
        Path | None, typer.Argument(help="Run directory.", metavar="RUN", autocompletion=run_folders)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs in or below --runs.")] = False,
    folder: RunsOption = Path(DEFAULT_RUNS),
    store: Annotated[
        str | None, typer.Option("--store", help="Where the activations lie now, if moved.", metavar="URL")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every checksum: record, tables, figures, report, and each file of every store that the run refers to.

    One line per damaged file, and one for stores that are not there; exit status 3 if there is any.

    Example: universality runs verify data/runs/quickstart
    """
    from universality.runs.upkeep import listed, problems

    if every == (path is not None):
        raise RunError("nothing to verify, or too much: give either a run directory or --all")
    checked = [path] if path is not None else [run.path for run in listed(folder) if run.status != "running"]
    found = []
    for run in checked:
        for problem in problems(run, store):
            found.append(problem)
            if not as_json:
                line(problem)
    if as_json:
        print_json({"runs": checked, "problems": found})
    else:
        line(f"{len(checked)} run(s) verified: {f'{len(found)} damaged or absent' if found else 'nothing damaged'}")
    if found:
        raise typer.Exit(Status.UNSOUND)


@runs_app.command("clean")
def runs_clean(
    folder: RunsOption = Path(DEFAULT_RUNS),
    store: StoreOption = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    kept: Annotated[
        bool, typer.Option("--kept", help="Also results of comparisons and shards: jobs compute them again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what no run refers to: stores, left-overs of interrupted writers, damaged stores, unfinished runs. --yes removes it.

    While a job runs, its stores are in the list, too, since no finished run refers to them; --yes is refused until it has ended.

    Example: universality runs clean --yes
    """
    from universality.activations.store import store_at
    from universality.runs.upkeep import removable, remove

    place = store_at(store, DEFAULT_STORE)
    found = (remove if yes else removable)(folder, place, kept=kept)
    if as_json:
        print_json({"removed": yes, "items": [{"where": i.where, "why": i.why, "nbytes": i.nbytes} for i in found]})
        return
    for item in found:
        line(f"{item.where}: {item.why}, {item.nbytes / 1e6:.2f} MB")
    total = sum(item.nbytes for item in found) / 1e6
    line(
        f"{'removed' if yes else 'would remove'} {len(found)} item(s), {total:.2f} MB"
        + ("" if yes or not found else _how(folder))
    )


def _how(folder: Path) -> str:
    """Return what removes what was listed, or which runs that are not finished may still need it."""
    from universality.base import locks
    from universality.runs.record import LOCK
    from universality.runs.upkeep import run_folders

    running = ", ".join(f"'{path}'" for path in run_folders(folder) if locks.is_held(path / LOCK))
    if running:
        return f"; stores of what is running now ({running}) may be among them: --yes is refused until it has ended"
    return "; run it again with --yes to remove them"


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
    as_json: JsonOption = False,
) -> None:
    """Run a finished run's job again elsewhere with a fresh store and compare: exit status 3 if it is not reproduced.

    Example: universality reproduce data/runs/quickstart --out again
    """
    from universality.jobs.reproduce import TOLERANCE, reproduce
    from universality.runs.run import open_run

    target = out or Path("data/reproduced") / open_run(run_path).job.name
    found = reproduce(run_path, target, tolerance=TOLERANCE if tolerance is None else tolerance)
    if as_json:
        print_json({"equal": found.equal, "verdict": found.verdict()} | plain(found))
    else:
        for text in _compared(found):
            line(text)
    if not found.equal:
        raise typer.Exit(Status.UNSOUND)


def _compared(found: Reproduction) -> Iterator[str]:
    for name in found.identical:
        yield f"{name}: the same bytes"
    for name, (before, after) in found.rows.items():
        yield f"{name}: {before} rows recorded, {after} again"
    for column in found.columns:
        yield f"{column.table}.{column.column}: {column.rows} rows differ, by up to {column.largest:.3g}"
    for title, differ in (("input", found.inputs), ("circumstance", found.circumstances)):
        for name, (old, new) in differ.items():
            yield f"{title} {name}: {_brief(old)} recorded, {_brief(new)} again"
    yield found.verdict()


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
