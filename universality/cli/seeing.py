"""The commands that show what units answer to: ``universality examples`` and ``universality visualise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from universality.base.errors import RunError
from universality.cli import completion
from universality.cli.options import JsonOption, RunArgument
from universality.cli.output import line, print_json, rows, stdout
from universality.cli.progress import reporting

if TYPE_CHECKING:
    import pandas as pd

    from universality.runs.run import Run

UnitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unit", help="A unit; may be given again.", metavar="MODEL:TAP:INDEX", autocompletion=completion.units
    ),
]
MovedOption = Annotated[
    str | None, typer.Option("--store", help="Where the activations lie now, if moved.", metavar="URL")
]
FamilyOption = Annotated[str | None, typer.Option("--family", help="Of this family only [default: all of the run].")]


def examples_command(
    run_path: RunArgument,
    unit: UnitOption = None,
    matched: Annotated[
        bool, typer.Option("--matched", help="Matched units of two networks side by side, each beside its null.")
    ] = False,
    family: FamilyOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: RUN/examples].", metavar="DIR")] = None,
    store: MovedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw what units answer to in whole photographs: a sheet for each unit (PNG, PDF), or one of matched units.

    Any unit of the run will do, whether or not the run has the stage examples.

    Example: universality examples data/runs/quickstart --unit package/efficientnet_lite0:blocks.4.1.bn2:525
    """
    if bool(unit) == matched:
        raise RunError("nothing to draw, or too much: give either --unit or --matched")
    with reporting() as reporter:
        from universality.figures.example_sheets import matched_sheets, sheet_of
        from universality.figures.style import save
        from universality.runs.names import parse_unit
        from universality.runs.run import open_run

        run = open_run(run_path, store)
        asked = [parse_unit(text) for text in unit or ()]
        folder = out or run_path / "examples"
        reporter.say("looking at whole pictures (once for each network, if the run has not done it)")
        files: list[Path] = []
        table: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if matched:
            if family is not None and family not in run.job.comparison.families:
                raise RunError(
                    f"run '{run.path}' has no family '{family}', expected one of {', '.join(run.job.comparison.families) or 'none: it compared layers alone'}"
                )
            for stem, figure, caption in matched_sheets(run, family):
                files += save(
                    figure,
                    folder / stem,
                    run.record.get("provenance"),
                    (".png", ".pdf"),
                    kind="matched_examples",
                    caption=caption,
                )
        for name in asked:
            found, figure, caption = sheet_of(run, *name, family=family)
            stem = "__".join((name[0].replace("/", ".", 1), name[1], str(name[2])))
            files += save(
                figure, folder / stem, run.record.get("provenance"), (".png", ".pdf"), kind="examples", caption=caption
            )
            columns = [
                "kind",
                "rank",
                "quantile",
                "value",
                "sigma",
                "picture",
                "source",
                "licence",
                "x_px",
                "y_px",
                "side_px",
            ]
            table += rows(found.drop_dims("channel").to_dataframe()[columns].assign(unit=":".join(map(str, name))))
    if not files:
        raise RunError(
            f"run '{run.path}' has no matched pair of detectors among the pairs it draws (figure_pairs); look at units with --unit"
        )
    if as_json:
        print_json({"files": files, "examples": table})
        return
    _print_examples(table)
    for file in files:
        line(str(file))


def _print_examples(found: list[dict[str, Any]]) -> None:
    for unit in dict.fromkeys(row["unit"] for row in found):
        table = Table(title=f"examples of {escape(unit)}", title_justify="left")
        for name in ("kind", "rank", "quantile", "sigma", "picture", "licence"):
            table.add_column(
                name, justify="right" if name in ("rank", "quantile", "sigma") else "left", overflow="fold"
            )
        for row in (row for row in found if row["unit"] == unit):
            table.add_row(
                row["kind"], str(row["rank"]), f"{row['quantile']:.0%}", f"{row['sigma']:.2f}", escape(row["picture"]), escape(row["licence"])
            )  # fmt: skip
        stdout().print(table)


def visualise_command(
    of: Annotated[str, typer.Argument(help="Run directory, or a model: source/name.", metavar="RUN|MODEL")],
    unit: UnitOption = None,
    together: Annotated[
        bool, typer.Option("--together", help="One image for all units; with - in front a unit is kept silent.")
    ] = False,
    detectors: Annotated[bool, typer.Option("--detectors", help="Every detector of the run.")] = False,
    matched: Annotated[
        bool,
        typer.Option(
            "--matched",
            help="Every pair with the verdict same_feature: what drives both, and what drives one and not the other.",
        ),
    ] = False,
    family: FamilyOption = None,
    most: Annotated[
        int | None, typer.Option("--most", help="At most so many detectors of a tap, or pairs: the strongest.", min=1)
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="fourier, or phase: under the amplitudes of photographs.")
    ] = "fourier",
    steps: Annotated[int, typer.Option("--steps", help="Of the optimiser.", min=1)] = 256,
    seed: Annotated[int, typer.Option("--seed", help="Of noise and transformations.", min=0)] = 0,
    faces: Annotated[int, typer.Option("--faces", help="Images of each unit, unlike one another.", min=1)] = 1,
    start: Annotated[Path | None, typer.Option("--start", help="A photograph to begin with.", metavar="FILE")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder [default: RUN/visualisations, data/visualisations/MODEL].", metavar="DIR"),
    ] = None,
    store: MovedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make images that units answer to (PNG), each beside what it reaches among natural images and what a random direction reaches.

    What is made is kept in the store, so that an interrupted command goes on where it stopped.

    Example: universality visualise data/runs/quickstart --unit pocket/vgg-focus-s0:features.13:7
    """
    with reporting() as reporter:
        from universality.figures.visualisations import write
        from universality.runs.run import open_run
        from universality.runs.visualisations import facts, visualise

        run = open_run(of, store) if Path(of).is_dir() else None
        asked: list[Any] = [list(unit or ())] if together and unit else list(unit or ())
        if (detectors or matched) and run is None:
            raise RunError(
                f"'{of}' is no run directory, expected one for --detectors and --matched; give one, or name units with --unit"
            )
        if run is not None and detectors:
            asked += _detectors(run, family, most)
        if run is not None and matched:
            asked += _matched(run, family, most)
        if not asked:
            what = "no such detector or pair" if detectors or matched else "no unit"
            raise RunError(f"{what} to visualise; give --unit, --detectors or --matched, of a family that the run has")
        found = visualise(
            run or of, asked, method=method, steps=steps, seed=seed, faces=faces, start=start, store=store, reporter=reporter,  # type: ignore[arg-type]
        )  # fmt: skip
        folder = out or (
            Path(of) / "visualisations" if run is not None else Path("data/visualisations") / of.replace("/", ".")
        )
        files = write(found, folder)
    said = facts(found)
    if as_json:
        print_json({"files": files, "reached": said})
        return
    table = Table(title=f"what {found.sizes['picture']} images reach, sigma", title_justify="left")
    for name in (
        "unit",
        "reached",
        "percentile",
        "natural most",
        "random direction reaches",
        "its natural most",
        "note",
    ):
        table.add_column(name, justify="left" if name in ("unit", "note") else "right", overflow="fold")
    for row in said:
        numbers = (
            row[name]
            for name in ("reached_sigma", "percentile", "natural_sigma", "random_reached_sigma", "random_natural_sigma")
        )
        table.add_row(escape(row["unit"]), *(f"{value:.2f}" for value in numbers), escape(row["note"]))
    stdout().print(table)
    for file in files:
        line(str(file))


def _detectors(run: Run, family: str | None, most: int | None) -> list[str]:
    units: pd.DataFrame = run.units
    found = units[units["detector"] & (units["seed"] == -1)]
    found = found if family is None else found[found["family"] == family]
    found = found.sort_values("score", ascending=False, kind="stable")
    if most is not None:
        found = found.groupby(["model", "tap", "family"], sort=False).head(most)
    names = (f"{row.model}:{row.tap}:{row.unit}" for row in found.sort_index().itertuples())
    return list(dict.fromkeys(names))


def _matched(run: Run, family: str | None, most: int | None) -> list[list[str]]:
    pairs: pd.DataFrame = run.correspondence
    found = pairs[(pairs["verdict"] == "same_feature") & (pairs["method"] == run.job.matched_by())]
    found = found if family is None else found[found["family"] == family]
    found = found.sort_values("r_natural", ascending=False, kind="stable").head(most or len(found))
    asked = []
    for row in found.to_dict("records"):
        a, b = (f"{row[f'model_{side}']}:{row[f'tap_{side}']}:{row[f'unit_{side}']}" for side in "ab")
        asked += [[a, b], [a, f"-{b}"], [f"-{a}", b]]
    return asked
