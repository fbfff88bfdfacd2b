"""The commands that analyse a finished run: ``universality detectors`` and ``universality atlas``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from universality.base.errors import RunError
from universality.cli import completion
from universality.cli.options import JsonOption, RunArgument
from universality.cli.output import line, print_json, rows, stdout

if TYPE_CHECKING:
    import pandas as pd

    from universality.features.definition import Definition
    from universality.runs.run import Run


def detectors_command(
    run_path: RunArgument,
    family: Annotated[
        str | None, typer.Option("--family", help="Family whose own rule is applied [default: the run's first].")
    ] = None,
    definition: Annotated[
        Path | None, typer.Option("--definition", help="TOML file with a definition of your own.", metavar="FILE")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option("--threshold", help="Criterion whose threshold is moved.", metavar="COLUMN")
    ] = None,
    joint: Annotated[
        bool,
        typer.Option(
            "--joint", help="Compare preferences with those on turned natural images instead (stage natural)."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply a definition of detectors to a run's units: rates beside the untrained twins', without extracting anew.

    With --joint, print of how many detectors the preference among drawings agrees with that on turned natural images.

    Example: universality detectors data/runs/quickstart --threshold invariance
    """
    from universality.features import definition as detectors_definition
    from universality.features import families
    from universality.features.spec import read_definition
    from universality.features.tables import columns_of
    from universality.runs.run import open_run

    if joint:
        _joint(run_path, as_json)
        return
    given = None
    if definition is not None:
        spec = read_definition(definition)
        given = detectors_definition.of_spec(spec, families.family_of(spec.base).rule, columns_of(spec.base))
    run = open_run(run_path)
    chosen = given or families.definition_of(family or _first_family(run))
    units = run.units_of(chosen.family)
    rates = detectors_definition.rates(chosen, units)
    moved = None if threshold is None else _moved(chosen, units, threshold)
    if as_json:
        criteria = [
            {name: getattr(c, name) for name in ("column", "op", "threshold", "reason")} for c in chosen.criteria
        ]
        by_threshold = None if moved is None else rows(moved)
        print_json({"definition": chosen.name, "family": chosen.family, "criteria": criteria, "rates": rows(rates), "threshold_curve": by_threshold})  # fmt: skip
        return
    _print_rates(chosen, rates)
    if moved is not None:
        stdout().print(moved.to_string(index=False, float_format=lambda x: f"{x:.4g}"), highlight=False)


def _print_rates(chosen: Definition, rates: pd.DataFrame) -> None:
    from universality.base.names import short

    for criterion in chosen.criteria:
        line(f"{criterion.column} {criterion.op} {criterion.threshold:g}: {criterion.reason}")
    table = Table(title=f"{chosen.name} ({chosen.family})", title_justify="left")
    for name in ("model", "tap", "units", "detectors", "share", "untrained units", "untrained detectors", "share"):
        table.add_column(name, justify="left" if name in ("model", "tap") else "right", overflow="fold")
    for row in rates.to_dict("records"):
        counts = str(row["n_units"]), str(row["n_detectors"]), f"{row['share']:.1%}"
        untrained = str(row["n_units_untrained"]), str(row["n_detectors_untrained"]), f"{row['share_untrained']:.2%}"
        table.add_row(short(str(row["model"])), str(row["tap"]), *counts, *untrained)
    stdout().print(table)


def _first_family(run: Run) -> str:
    if not run.job.comparison.families:
        raise RunError(
            f"run '{run.path}' compared layers alone (comparison.families = []), so it has no units to judge"
        )
    return run.job.comparison.families[0]


def _moved(chosen: Definition, units: pd.DataFrame, threshold: str) -> pd.DataFrame:
    """Return the rates while one threshold moves over the quantiles of its column."""
    import numpy as np

    from universality.features import definition as detectors_definition

    known = threshold in {criterion.column for criterion in chosen.criteria}
    values = units[threshold].to_numpy(np.float64) if known else np.zeros(1)
    values = values[np.isfinite(values)]
    grid = np.unique(np.quantile(values, np.linspace(0.02, 0.98, 13))) if values.size else np.zeros(1)
    return detectors_definition.threshold_curve(chosen, units, threshold, grid.tolist())


def _joint(run_path: Path, as_json: bool) -> None:
    from universality.base.names import short
    from universality.features.natural_tuning import AGREES_DEG, LEAST_FAMILY
    from universality.runs import run as runs

    found = runs.open_run(run_path).table("joint")
    file = run_path / "joint.parquet"
    keys = ["model", "seed", "tap", "family"]
    counted = found[found["detector"]].groupby(keys, sort=False, as_index=False)
    rates = counted.agg(n_detectors=("agrees", "size"), n_agree=("agrees", "sum"), chance=("chance", "first"))
    if as_json:
        print_json({"file": file, "rates": rows(rates)})
        return
    if found.empty:
        line(
            f"nothing to compare: no tap holds {LEAST_FAMILY} detectors of a family whose angle has a period of 360 degrees"
        )
        line(str(file))
        return
    table = Table(title=f"within {AGREES_DEG:g} degrees on turned natural images", title_justify="left")
    for name in ("model", "seed", "tap", "family", "detectors", "agree", "share", "chance"):
        table.add_column(name, justify="left" if name in ("model", "tap", "family") else "right", overflow="fold")
    for row in rates.to_dict("records"):
        n, agree = int(row["n_detectors"]), int(row["n_agree"])
        seed = "trained" if row["seed"] == -1 else str(row["seed"])
        place = short(str(row["model"])), seed, str(row["tap"]), str(row["family"])
        table.add_row(*place, str(n), str(agree), f"{agree / n:.0%}", f"{row['chance']:.0%}")
    stdout().print(table)
    line(str(file))


def atlas_command(
    run_path: RunArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: RUN/atlas].", metavar="DIR")] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            help="Find this unit in every other model.",
            metavar="MODEL:TAP:INDEX",
            autocompletion=completion.units,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the atlas of a run (stage atlas) as CSV and figures: features, cliques of units that are one feature, index.

    With --unit, print where that unit's best partners are in the other models, with their evidence, instead.

    Example: universality atlas data/runs/quickstart --unit pocket/vgg-focus-s0:features.13:7
    """
    if unit is not None:
        _trace(run_path, unit, as_json)
        return
    from universality.jobs.atlas import findings, write_atlas
    from universality.runs.run import open_run

    files, tables = write_atlas(open_run(run_path), out or run_path / "atlas")
    if as_json:
        print_json({"files": files, "findings": findings(tables)})
        return
    for text in [*findings(tables), *map(str, files)]:
        line(text)


def _trace(run_path: Path, unit: str, as_json: bool) -> None:
    from universality.jobs.trace import trace
    from universality.runs.names import parse_unit
    from universality.runs.run import open_run

    found = trace(open_run(run_path), *parse_unit(unit))
    if as_json:
        print_json({"unit": unit, "partners": rows(found)})
        return
    table = Table(title=f"best partners of {unit}", title_justify="left")
    for name in found.columns:
        table.add_column(name, justify="left" if name in ("model", "tap", "family") else "right", overflow="fold")
    for row in found.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else escape(str(value)) for value in row))
    stdout().print(table)
