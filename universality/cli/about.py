"""The commands about the package and the machine: ``measures``, ``doctor``, ``schema`` and ``versions``."""

from __future__ import annotations

import json
import platform
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from universality.base.errors import JobError
from universality.cli.completion import measures
from universality.cli.leaving import Status
from universality.cli.options import JsonOption, StoreOption
from universality.cli.output import line, print_json, rows, stdout


def measures_command(
    name: Annotated[
        str | None, typer.Argument(help="One measure, in full.", metavar="NAME", autocompletion=measures)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the measures between two layers, or print all that is declared of one.

    Example: universality measures cka_linear_debiased
    """
    from universality.similarity import comparator, describe

    if as_json:
        frame = describe.measures()
        chosen = frame[frame["name"] == comparator(name).name] if name is not None else frame
        print_json(rows(chosen))
        return
    if name is not None:
        for key, value in describe.record(comparator(name)).items():
            line(f"{key}: {describe.shown(value)}")
        return
    columns = ("name", "direction", "low", "high", "invariances", "symmetric", "metric", "min_n")
    table = Table()
    for title in columns:
        table.add_column(title, justify="right" if title in ("low", "high", "min_n") else "left", overflow="fold")
    for row in describe.measures()[list(columns)].itertuples(index=False):
        table.add_row(*(escape(describe.shown(value)) for value in row))
    stdout().print(table)


def doctor_command(
    store: StoreOption = None,
    online: Annotated[bool, typer.Option("--online", help="Ask whether missing weights can be fetched.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every stored file with its checksum.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what works on this machine: packages, device, weights, stores. Exit status 3 where something keeps jobs from running.

    Example: universality doctor --verify
    """
    from dataclasses import asdict

    from universality.base.paths import DEFAULT_STORE
    from universality.cli.doctor import examine

    findings = examine(store or DEFAULT_STORE, online=online, verify=verify)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            line(f"{finding.state:5} {finding.subject}: {finding.detail}")
    if any(finding.state == "fault" for finding in findings):
        raise typer.Exit(Status.UNSOUND)


def schema_command(
    name: Annotated[str, typer.Argument(help="What the schema is of.", metavar="job")] = "job",
) -> None:
    """Print the JSON schema of job files, for editors that check TOML; every key with its meaning, type and range.

    Example: universality schema job > job.schema.json
    """
    if name != "job":
        raise JobError(f"there is no schema '{name}', expected 'job'")
    from universality.runs.job import job_schema

    typer.echo(json.dumps(job_schema(), indent=1))


def versions_command(as_json: JsonOption = False) -> None:
    """Print the versions and the kind of processor that decide numbers.

    Example: universality versions --json
    """
    from universality.runs.provenance import package_version, package_versions, processor

    facts = {"universality": package_version(), "python": platform.python_version(), **package_versions()}
    facts["processor"] = processor()
    if as_json:
        print_json(facts)
        return
    for name, version in facts.items():
        line(f"{name} {version}")
