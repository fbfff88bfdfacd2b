"""The command line: thin, one sentence for a user's mistake, no traceback."""

from __future__ import annotations

import typer

from universality.base import memory
from universality.cli import about, analyses, compare, jobs, ledger, results, runs, seeing
from universality.cli.cluster import cluster_app
from universality.cli.leaving import leave
from universality.cli.serve import serve_app
from universality.cli.stimuli import stimuli_app
from universality.cli.zoo import zoo_app

__all__ = ["app", "main"]

app = typer.Typer(
    help="Measure whether vision networks learn the same features, each number beside its null.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(jobs.run_command)
app.command("plan")(jobs.plan_command)
app.command("compare")(compare.compare_command)
app.command("stages")(jobs.stages_command)
app.command("detectors")(analyses.detectors_command)
app.command("atlas")(analyses.atlas_command)
app.command("examples")(seeing.examples_command)
app.command("visualise")(seeing.visualise_command)
app.command("ledger")(ledger.ledger_command)
app.command("report")(results.report_command)
app.command("figures")(results.figures_command)
app.command("reproduce")(runs.reproduce_command)
app.command("measures")(about.measures_command)
app.command("doctor")(about.doctor_command)
app.command("schema")(about.schema_command)
app.command("versions")(about.versions_command)
app.add_typer(zoo_app, name="zoo")
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(runs.runs_app, name="runs")
app.add_typer(cluster_app, name="cluster")
app.add_typer(serve_app, name="serve")


def main() -> None:
    """Run the command line; whatever ends it becomes an exit status (`leaving.Status`) and at most one sentence."""
    memory.keep_freed_memory()  # before a library that a command imports starts a thread
    try:
        app()
    except BaseException as cause:
        leave(cause)
