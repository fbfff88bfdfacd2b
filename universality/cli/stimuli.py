"""The commands about stimulus sets: ``universality stimuli ...``."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
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
    from universality.stimuli.kinds import STIMULI
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
    from universality.stimuli.folder import FolderStimuli
    from universality.stimuli.sets import labels_of, parameters, sheet
    from universality.stimuli.spec import StimuliSpec

    frame = _frame_of(tap) if tap else None
    size = frame.size_px if frame else size
    spec = StimuliSpec(folder=FolderStimuli(manifest=manifest))
    drawn, labels = sheet(name, size, images, spec, frame)
    path = out or Path(f"{name}.png")
    if path.suffix != ".png":
        raise StimulusError(f"'{path}' is no PNG file, expected a name that ends in .png; give another with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{name}, labelled by {', '.join(labels_of(name, parameters(name, spec)))}"
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


class Grouping(StrEnum):
    """What says which images belong together."""

    FOLDER = "folder"


@stimuli_app.command("manifest")
def stimuli_manifest(
    folder: Annotated[Path, typer.Argument(help="Folder with images.", metavar="FOLDER")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The manifest's file [default: FOLDER/manifest.toml].", metavar="FILE")
    ] = None,
    group: Annotated[
        Grouping | None,
        typer.Option("--group", help="Images of one folder (the innermost) are one group, which stays in one fold."),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out, and name, files that cannot be used.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the manifest that makes the images in and below a folder a stimulus set.

    It states each file's SHA-256 and, as its label, the sub-folder it lies in. Folds (0 or 1) and groups can be added by hand.
    Links are followed; what programs leave beside people's files is passed over, counted and named.

    Example: universality stimuli manifest photographs --group folder
    """
    from universality.stimuli import manifest

    written = manifest.write(folder, out, group_by_folder=group is not None, skip_broken=skip_broken)
    if as_json:
        print_json({"file": written.path, **{key: value for key, value in asdict(written).items() if key != "path"}})
        return
    for title, files in (("left out", written.left_out), ("metadata", written.odd)):
        if files:
            line(f"{title}: {manifest.named(files.values())}")
    line(f"{written.path}: {written.summary()}")
