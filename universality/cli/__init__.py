"""The command line: thin, one sentence for a user's mistake, no traceback."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from universality.cli import about, analyses, jobs, results, runs
from universality.cli.cluster import cluster_app
from universality.cli.leaving import leave_quietly, refuse
from universality.cli.stimuli import stimuli_app
from universality.cli.zoo import zoo_app
from universality.errors import UniversalityError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Measure whether vision networks learn the same features, each number beside its null.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(jobs.run_command)
app.command("plan")(jobs.plan_command)
app.command("detectors")(analyses.detectors_command)
app.command("atlas")(analyses.atlas_command)
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


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence on standard error and exit status 1."""
    try:
        app()
    except UniversalityError as error:
        refuse(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            leave_quietly()
        where = f": '{error.filename}'" if error.filename else ""
        refuse(f"{error.strerror or error}{where}; check the path")
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted: nothing half-written is kept; run the job again to go on")
        sys.exit(130)
