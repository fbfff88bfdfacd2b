"""The commands about stimulus sets: ``universality stimuli ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from universality.cli.output import line, stdout
from universality.errors import StimulusError

stimuli_app = typer.Typer(help="The stimulus sets.", no_args_is_help=True, rich_markup_mode=None)


@stimuli_app.command("list")
def stimuli_list() -> None:
    """List the stimulus sets with their default size and parameters; folder has images once a manifest is named."""
    from universality.spec import StimuliSpec
    from universality.stimuli import STIMULI

    table = Table()
    for name in ("set", "images by default", "parameters"):
        table.add_column(name)
    for name, kind in STIMULI.items():
        known = kind.parameters(getattr(StimuliSpec(), name))
        table.add_row(name, str(known.sizes["stimulus"]), ", ".join(str(c) for c in known.coords))
    stdout().print(table)


@stimuli_app.command("show")
def stimuli_show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    out: Annotated[Path | None, typer.Option("--out", help="PNG file [default: NAME.png].", metavar="FILE")] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the images, px.", min=8, max=1024)] = 64,
    images: Annotated[int, typer.Option("--images", help="At most so many, evenly from the set.", min=1)] = 96,
    manifest: Annotated[str, typer.Option("--manifest", help="The manifest of the set folder.", metavar="FILE")] = "",
) -> None:
    """Draw a contact sheet of a stimulus set, each image under its parameters.

    Example: universality stimuli show curves --out curves.png
    """
    from universality.figures import contact_sheet, figure_of
    from universality.spec import FolderStimuli, StimuliSpec
    from universality.stimuli import STIMULI, sheet

    drawn, labels = sheet(name, size, images, StimuliSpec(folder=FolderStimuli(manifest=manifest)))
    path = out or Path(f"{name}.png")
    if path.suffix != ".png":
        raise StimulusError(f"'{path}' is no PNG file, expected a name that ends in .png; give another with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{name}, labelled by {', '.join(STIMULI[name].labels)}"
    figure_of(contact_sheet(drawn, labels, title=title)).savefig(path, dpi=300, metadata={"Software": None})
    line(stdout(), str(path))


@stimuli_app.command("manifest")
def stimuli_manifest(folder: Annotated[Path, typer.Argument(metavar="FOLDER")]) -> None:
    """Write FOLDER/manifest.toml, which makes the images in and below the folder a stimulus set.

    It states each file's SHA-256 and, as its label, the subfolder it lies in. Folds (0 or 1) can be added by hand.

    Example: universality stimuli manifest photographs
    """
    from universality.stimuli import write_manifest

    path, count = write_manifest(folder)
    line(stdout(), f"{path}: {count} images")
