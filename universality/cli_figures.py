"""The command ``universality figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from universality.console import line, stdout


def figures_command(
    run_path: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    formats: Annotated[
        str, typer.Option("--format", help="Of pdf, svg, png, with commas.", metavar="LIST")
    ] = "pdf,svg,png",
    width: Annotated[str, typer.Option("--width", help="single (89 mm) or double (183 mm).")] = "double",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Draw only this kind; may be given again [default: all].", metavar="NAME"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder [default: RUN/figures_WIDTH].", metavar="DIR")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the kinds, and draw nothing.")] = False,
) -> None:
    """Write a run's figures for a paper: exact widths, editable text, and beside each a CSV of what is drawn.

    Example: universality figures data/runs/quickstart --width single --kind similarity --format pdf
    """
    from universality.figures import FIGURES, export
    from universality.figures.export import available
    from universality.runs import open_run

    run, console = open_run(run_path), stdout()
    possible = available(run)
    if listed:
        for name, known in FIGURES.items():
            lacking = "" if name in possible else "; needs the tables of: universality atlas RUN"
            line(console, f"{name}: one per {known.per}{lacking}")
        return
    names = [name.strip() for name in formats.split(",") if name.strip()]
    for files in export(run, out or run_path / f"figures_{width}", formats=names, width=width, kinds=kind):
        for file in files:
            line(console, str(file))
    left_out = [name for name in FIGURES if name not in possible]
    if kind is None and left_out:
        line(console, f"left out: {', '.join(left_out)}; they need the tables of: universality atlas {run_path}")
