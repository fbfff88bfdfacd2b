"""``universality compare``: the layers of two networks, without a job file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from universality.cli.completion import model_ids
from universality.cli.options import JsonOption, StoreOption
from universality.cli.output import line, print_json, stdout
from universality.cli.progress import reporting

if TYPE_CHECKING:
    import xarray as xr

    from universality.runs.run import Run

MOST_COLUMNS = 12
"""A wider matrix is in the CSV only: no terminal has room for it."""


def compare_command(
    a: Annotated[str, typer.Argument(help="A model: source/name.", metavar="A", autocompletion=model_ids)],
    b: Annotated[
        str,
        typer.Argument(
            help="Another, or the same for its layers among themselves.", metavar="B", autocompletion=model_ids
        ),
    ],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layers",
            help="Pattern of tap names, e.g. layer*.conv2; may be given again [default: all].",
            metavar="PATTERN",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="May be given again [default: cka_linear_debiased].", metavar="NAME"),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images", help="Folder of images of your own, or its manifest; may be given again.", metavar="DIR"
        ),
    ] = None,
    reduction: Annotated[str, typer.Option("--reduction", help="mean, max, center or positions of each map.")] = "mean",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder [default: data/compared/A__B].", metavar="DIR")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare all layers of two networks: a heatmap beside its nulls (PNG, PDF, CSV) and the matrix.

    Example: universality compare pocket/vgg-focus-s0 pocket/resnet-focus-s0
    """
    with reporting() as reporter:
        from universality.figures import export
        from universality.jobs.execute import run
        from universality.models.catalogue import card
        from universality.runs.layers_job import layers_job

        folder = out or Path("data/compared") / "__".join(name.replace("/", ".") for name in (a, b))
        measures = measure or ["cka_linear_debiased"]
        job = layers_job(
            [card(a), card(b)], measures, layers=layers or ["all"], folders=_manifests(images or [], folder), reduction=reduction,
        )  # fmt: skip
        finished = run(job, folder / "run", store=store, reporter=reporter)
        drawn = export(finished, folder, formats=["png", "pdf"], kinds=["similarity"], as_drawn=True)
        files = [file for some in drawn for file in some]
        matrices = {name: finished.matrix(name, a, b) for name in measures}
    for name, matrix in matrices.items():
        files.append(folder / f"matrix__{name}.csv")
        matrix.to_pandas().to_csv(files[-1], lineterminator="\n")
    if as_json:
        print_json(
            {"run": finished.path, "files": files, "matrices": {name: _plain(m) for name, m in matrices.items()}}
        )
        return
    for name, matrix in matrices.items():
        _print(finished, name, matrix)
    for file in files:
        line(str(file))
    line(str(finished.path / "report.html"))


def _manifests(images: list[Path], folder: Path) -> list[str]:
    """Return the manifests of folders of images; where a folder has none it is written beside the results and said."""
    from universality.stimuli import manifest

    found = []
    for path in images:
        listed = manifest.path_of(str(path))
        if path.is_dir() and not listed.exists():
            # Named by what it lists, so that the same folder is listed anew when the command is given again.
            listed = folder / f"{path.resolve().name}.toml"
            folder.mkdir(parents=True, exist_ok=True)
            listed.unlink(missing_ok=True)
            written = manifest.write(path, listed)
            line(f"{written.images} images of '{path}' are listed in '{listed}'")
        found.append(str(listed))
    return found


def _plain(matrix: xr.DataArray) -> dict[str, Any]:
    return {
        "taps_a": list(matrix["tap_a"].values),
        "taps_b": list(matrix["tap_b"].values),
        "values": matrix.values.tolist(),
    }


def _print(finished: Run, measure: str, matrix: xr.DataArray) -> None:
    """Print a matrix, and the means of its nulls below."""
    from universality.base.names import HAAR_NAME, number
    from universality.similarity import COMPARATORS

    a, b = matrix.attrs["model_a"], matrix.attrs["model_b"]
    if matrix.sizes["tap_b"] <= MOST_COLUMNS:
        table = Table(title=f"{measure}: {a} (rows), {b} (columns)", title_justify="left")
        for title in ("", *matrix["tap_b"].values):
            table.add_column(str(title), justify="right" if title else "left")
        for tap, values in zip(matrix["tap_a"].values, matrix.values, strict=True):
            table.add_row(str(tap), *(number(value) for value in values))
        stdout().print(table)
    nulls = {"untrained twins": "value_untrained", "shuffled stimuli": "value_shuffled"}
    if not COMPARATORS[measure].basis_free:
        nulls[HAAR_NAME] = "value_haar"
    said = ", ".join(f"{name} {number(float(finished.matrix(measure, a, b, of).mean()))}" for name, of in nulls.items())
    line(f"{measure}, mean over all pairs of layers: {number(float(matrix.mean()))} ({said})")
