"""The commands that show a finished run: ``universality report`` and ``universality figures``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from universality.base.errors import RunError
from universality.cli.options import JsonOption, RunArgument
from universality.cli.output import line, print_json


def report_command(
    run_path: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file [default: RUN/report.html].", metavar="FILE")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Where the activations lie now, if moved.", metavar="URL")
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option("--pages", help="Folder for a page of every detector and matched unit instead.", metavar="DIR"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a finished run again: one HTML page with findings, figures, tables and unit cards, and no network.

    With --pages, write a folder with a page for every detector and every matched unit, an index to search, and the report.

    Example: universality report data/runs/quickstart --out report.html
    """
    if pages is not None:
        _pages(run_path, pages, out, store, as_json)
        return
    from universality.activations.store import ActivationStore
    from universality.report import write
    from universality.runs.record import finish
    from universality.runs.run import file_sha256, open_run

    if out is not None and out.is_dir():
        raise RunError(f"'{out}' is a folder, expected the name of an HTML file; give one with --out")
    run = open_run(run_path, store)
    stores = ActivationStore(run.store)
    if absent := [key for key in run.trained_keys.values() if not stores.exists(key)]:
        typer.echo(f"the report has no pictures of units: {stores.absent(absent)}", err=True)
    page = write(run, out)
    if out is None:
        # The record holds the page's hash, by which `runs verify` knows it.
        kept = {key: value for key, value in run.record.items() if key != "digest"}
        finish(run.path, kept | {"report": file_sha256(page)})
    if as_json:
        print_json({"report": page})
    else:
        line(str(page))


def _pages(run_path: Path, folder: Path, out: Path | None, store: str | None, as_json: bool) -> None:
    from universality.cli.progress import reporting

    if out is not None:
        raise RunError("--out names one file and --pages a folder; give one of both")
    with reporting() as reporter:
        from universality.report import pages
        from universality.runs.run import open_run

        index = pages.write(open_run(run_path, store), folder, reporter)
    if as_json:
        print_json({"index": index})
    else:
        line(str(index))


def figures_command(
    run_path: RunArgument,
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
    as_json: JsonOption = False,
) -> None:
    """Write a run's figures for a paper: exact widths, editable text, and beside each a CSV of what is drawn.

    Example: universality figures data/runs/quickstart --width single --kind similarity --format pdf
    """
    from universality.figures import FIGURES, export
    from universality.figures.export import lacking
    from universality.runs.run import open_run

    run = open_run(run_path)
    lacks = lacking(run)
    if listed:
        kinds = [{"name": name, "per": known.per, "available": name not in lacks} for name, known in FIGURES.items()]
        if as_json:
            print_json(kinds)
            return
        for name, known in FIGURES.items():
            line(f"{name}: one per {known.per}" + (f"; needs {lacks[name]}" if name in lacks else ""))
        return
    names = [name.strip() for name in formats.split(",") if name.strip()]
    drawn = export(run, out or run_path / f"figures_{width}", formats=names, width=width, kinds=kind)
    if as_json:
        files = [file for files in drawn for file in files]
        print_json({"files": files, "left_out": list(lacks) if kind is None else []})
        return
    for files in drawn:
        for file in files:
            line(str(file))
    if kind is None:
        for why in dict.fromkeys(lacks.values()):
            line(f"left out: {', '.join(name for name, what in lacks.items() if what == why)}; they need {why}")
