"""The commands about stimulus sets: ``universality stimuli ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from universality.base.errors import StimulusError
from universality.cli.completion import stimulus_sets
from universality.cli.options import JsonOption
from universality.cli.output import line, print_json, stdout

if TYPE_CHECKING:
    from universality.stimuli.framing import Frame

stimuli_app = typer.Typer(help="The stimulus sets.", no_args_is_help=True, rich_markup_mode=None)


@stimuli_app.command("list")
def stimuli_list(as_json: JsonOption = False) -> None:
    """List the stimulus sets with their default size and parameters; folder has images once a manifest is named.

    Example: universality stimuli list --json
    """
    from universality.stimuli.sets import STIMULI
    from universality.stimuli.spec import StimuliSpec

    known = {name: kind.parameters(getattr(StimuliSpec(), name)) for name, kind in STIMULI.items()}
    found = [(name, int(p.sizes["stimulus"]), [str(c) for c in p.coords]) for name, p in known.items()]
    if as_json:
        print_json([{"name": name, "images": images, "parameters": labels} for name, images, labels in found])
        return
    table = Table()
    for title in ("set", "images by default", "parameters"):
        table.add_column(title)
    for name, images, labels in found:
        table.add_row(name, str(images), ", ".join(labels))
    stdout().print(table)


@stimuli_app.command("show")
def stimuli_show(
    name: Annotated[str, typer.Argument(help="A stimulus set.", metavar="NAME", autocompletion=stimulus_sets)],
    out: Annotated[Path | None, typer.Option("--out", help="PNG file [default: NAME.png].", metavar="FILE")] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the images, px.", min=8, max=1024)] = 64,
    images: Annotated[int, typer.Option("--images", help="At most so many, evenly from the set.", min=1)] = 96,
    manifest: Annotated[str, typer.Option("--manifest", help="The manifest of the set folder.", metavar="FILE")] = "",
    tap: Annotated[
        str,
        typer.Option(
            "--tap", help="As a tap sees it under the policy same_receptive_field, without --size.", metavar="MODEL:TAP"
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Draw a contact sheet of a stimulus set, each image under its parameters.

    Example: universality stimuli show curves --out curves.png --tap pocket/vgg-focus-s0:features.13
    """
    from universality.figures import contact_sheet, figure_of
    from universality.stimuli.sets import STIMULI, sheet
    from universality.stimuli.spec import FolderStimuli, StimuliSpec

    frame = _frame_of(tap) if tap else None
    size = frame.size_px if frame else size
    drawn, labels = sheet(name, size, images, StimuliSpec(folder=FolderStimuli(manifest=manifest)), frame)
    path = out or Path(f"{name}.png")
    if path.suffix != ".png":
        raise StimulusError(f"'{path}' is no PNG file, expected a name that ends in .png; give another with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{name}, labelled by {', '.join(STIMULI[name].labels)}"
    if frame is not None:
        title += f"; {tap}: the scene is {frame.side_px} px in the middle of {size} px"
    figure_of(contact_sheet(drawn, labels, title=title)).savefig(path, dpi=300, metadata={"Software": None})
    if as_json:
        print_json({"file": path, "images": len(drawn)})
    else:
        line(str(path))


def _frame_of(text: str) -> Frame:
    """Return where scenes lie in the images of ``MODEL:TAP``."""
    from universality.models import catalogue
    from universality.stimuli.framing import Frame

    model, _, tap = text.partition(":")  # the name of a tap may hold a colon, that of a model may not
    if not (model and tap):
        raise StimulusError(f"'{text}' names no tap, expected MODEL:TAP such as pocket/vgg-focus-s0:features.13")
    card = catalogue.card(model)
    return Frame.of(card.tap(tap), card.preprocessing.canvas_px)


@stimuli_app.command("manifest")
def stimuli_manifest(
    folder: Annotated[Path, typer.Argument(help="Folder with images.", metavar="FOLDER")], as_json: JsonOption = False
) -> None:
    """Write FOLDER/manifest.toml, which makes the images in and below the folder a stimulus set.

    It states each file's SHA-256 and, as its label, the subfolder it lies in. Folds (0 or 1) can be added by hand.

    Example: universality stimuli manifest photographs
    """
    from universality.stimuli.folder import write_manifest

    path, count = write_manifest(folder)
    if as_json:
        print_json({"file": path, "images": count})
    else:
        line(f"{path}: {count} images")
