"""The commands about model cards: ``universality zoo ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from universality.base.paths import UNKNOWN
from universality.cli.options import JsonOption, ModelArgument
from universality.cli.output import line, print_json, stdout

if TYPE_CHECKING:
    from universality.models.card import ModelCard

zoo_app = typer.Typer(help="The model cards.", no_args_is_help=True, rich_markup_mode=None)


@zoo_app.command("list")
def zoo_list(as_json: JsonOption = False) -> None:
    """List the model cards.

    Example: universality zoo list --json
    """
    from universality.models.catalogue import cards

    if as_json:
        print_json([card.plain() for card in cards().values()])
        return
    table = Table()
    for name in ("id", "input (px)", "taps", "training set", "licence", "state-dict hash"):
        table.add_column(name)
    for card in cards().values():
        pinned = (card.weights.state_dict_sha256 or "")[:12] or "not pinned"
        table.add_row(
            card.id,
            "x".join(map(str, dict.fromkeys(card.preprocessing.shape[1:]))),
            str(len(card.taps)),
            card.training_set,
            card.licence,
            pinned,
        )
    stdout().print(table)


@zoo_app.command("show")
def zoo_show(model_id: ModelArgument, as_json: JsonOption = False) -> None:
    """Show one model card with its taps.

    Example: universality zoo show torchvision/alexnet
    """
    from universality.models.catalogue import card

    shown = card(model_id)
    if as_json:
        print_json(shown.plain())
    else:
        _print_card(shown)


def _print_card(shown: ModelCard) -> None:
    from universality.models.card import WHOLE_IMAGE

    for name in ("id", "source", "library", "architecture", "training_set", "licence", "citation", "note", "void_twin"):
        if name != "void_twin" or shown.void_twin:
            line(f"{name}: {getattr(shown, name)}")
    for title, part in (
        ("preprocessing", shown.preprocessing), ("weights", shown.weights), ("training", shown.training)
    ):  # fmt: skip
        if part is None:
            continue
        facts = ", ".join(f"{k} = {v}" for k, v in part.plain().items() if v not in (None, "", []))
        line(f"{title}: {facts}")
    table = Table()
    columns = (
        "name", "activation", "channels", "shown", "rf_px", "stride_px", "rf_start_px", "relative_depth", "call", "calls",
    )  # fmt: skip
    for name in columns:
        title = {"shown": "map", "rf_px": "receptive field (px)"}.get(name, name)
        table.add_column(title, justify="left" if name in ("name", "activation") else "right")
    for tap in shown.taps:
        values = {name: getattr(tap, name) for name in columns} | {"rf_px": tap.rf_px or WHOLE_IMAGE}
        table.add_row(*("" if value is None else str(value) for value in values.values()))
    stdout().print(table)


@zoo_app.command("new")
def zoo_new(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="source/name: timm/resnet34, own/my-net")],
    library: Annotated[str, typer.Option("--library", help="timm, torchvision or pocket [default: from ID].")] = "",
    architecture: Annotated[str, typer.Option("--architecture", help="Its name there [default: from ID].")] = "",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Your checkpoint: .safetensors, .pth, .ckpt ...", metavar="FILE")
    ] = None,
    part: Annotated[
        str, typer.Option("--weights-part", help="Which set of tensors in it, e.g. model_ema.", metavar="NAME")
    ] = "",
    by_order: Annotated[bool, typer.Option("--by-order", help="Its tensors go by order, not by name.")] = False,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Leave out its tensors that begin so.", metavar="PREFIX")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option("--random", help="Random weights of this seed: an untrained model.", min=0, metavar="SEED"),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", help="Of the architecture, e.g. num_classes=10.", metavar="KEY=VALUE"),
    ] = None,
    tap: Annotated[
        list[str] | None,
        typer.Option(
            "--tap",
            help="Module to record; PATH[0] or PATH[out] of one that gives several tensors [default: six, evenly in depth].",
            metavar="PATH",
        ),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="Side of the input, px, or its height and width: 128x64.")] = "",
    mean: Annotated[str, typer.Option("--mean", help="Of the preprocessing, per channel, e.g. 0.5,0.5,0.5.")] = "",
    std: Annotated[str, typer.Option("--std", help="Of the preprocessing, per channel, e.g. 0.25,0.25,0.25.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = UNKNOWN,
    training_set: Annotated[str, typer.Option("--training-set", help="What they were trained on.")] = UNKNOWN,
    citation: Annotated[str, typer.Option("--citation", help="Paper of the network.")] = UNKNOWN,
    as_json: JsonOption = False,
) -> None:
    """Write a model card for any timm or torchvision network, or for a checkpoint of your own; its taps are measured.

    Example: universality zoo new timm/resnet34

    Example: universality zoo new own/net --library torchvision --architecture resnet18 --weights net.pth --argument num_classes=10
    """
    from universality.cli.progress import reporting

    with reporting("loading the libraries") as reporter:
        from universality.activations.calibration import calibration_images
        from universality.models import drafting

        height, width = drafting.sides("--size", size)
        asked = drafting.Asked(
        model_id, library, architecture, drafting.arguments(argument or []), tuple(tap or ()), size_px=height, width_px=width,
        mean=drafting.channels("--mean", mean), std=drafting.channels("--std", std), weights=weights, part=part,
        by_order=by_order, drop=tuple(drop or ()), random=random, licence=licence,
        training_set=training_set, citation=citation,
        )  # fmt: skip
        card = drafting.draft(asked, calibration_images, reporter.say)
        path = drafting.write(card, weights)
    if as_json:
        print_json({"file": path, "card": card.plain()})
        return
    _print_card(card)
    line(str(path))


@zoo_app.command("fields")
def zoo_fields(
    model_id: ModelArgument,
    share: Annotated[float, typer.Option("--share", help="Share of the squared gradient.", min=0.01, max=0.99)] = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained network's effective receptive fields, which a job may state as scene_px.

    Example: universality zoo fields pocket/vgg-focus-s0
    """
    from universality.activations.effective_field import effective_sides_px
    from universality.models.catalogue import card

    shown = card(model_id)
    sides = effective_sides_px(shown, share)
    if as_json:
        found = [{"tap": tap, "rf_px": shown.tap(tap).rf_px, "effective_px": side} for tap, side in sides.items()]
        print_json({"model": shown.id, "share": share, "taps": found})
        return
    table = Table()
    for name in ("tap", "receptive field (px)", f"effective, {share:.0%} (px)"):
        table.add_column(name, justify="left" if name == "tap" else "right")
    for name, side in sides.items():
        table.add_row(name, str(shown.tap(name).rf_px), str(side))
    stdout().print(table)


@zoo_app.command("points")
def zoo_points(model_id: ModelArgument, as_json: JsonOption = False) -> None:
    """List every place of a network where maps can be read and edited, by name, with its shape.

    Example: universality zoo points pocket/vgg-focus-s0
    """
    from universality.models import points, zoo
    from universality.models.catalogue import card

    shown = card(model_id)
    found = points.listed(zoo.pretrained(shown), shown.preprocessing.shape)
    if as_json:
        print_json([
            {"point": p.point.name, "module": p.module, "kind": p.kind, "units": p.units, "shape": list(p.shape), "relative_depth": p.relative_depth}
            for p in found
        ])  # fmt: skip
        return
    taps = {tap.path for tap in shown.taps}
    table = Table()
    for name in ("point", "module", "kind", "units", "shape", "relative depth", "tap of the card"):
        table.add_column(name, justify="right" if name in ("units", "relative depth") else "left")
    for p in found:
        kind = p.kind if p.units else "no units"
        shape = " x ".join(map(str, p.shape))
        tap = "yes" if p.point.path in taps and p.point.name == p.point.path else ""
        table.add_row(p.point.name, p.module, kind, str(p.units or ""), shape, f"{p.relative_depth:.2f}", tap)
    stdout().print(table)


@zoo_app.command("train")
def zoo_train(
    model_id: ModelArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: data/pocket_training/NAME].")] = None,
    threads: Annotated[int, typer.Option("--threads", help="Torch threads; the weights depend on it.", min=1)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a network of the pocket zoo again, or one with another seed.

    Example: universality zoo train pocket/vgg-focus-s0
    """
    from universality.models.pocket.training import train_named

    folder = out or Path("data/pocket_training") / model_id.removeprefix("pocket/")
    path = train_named(model_id, folder, Path("data/pocket_training/images"), threads=threads)
    if as_json:
        print_json({"file": path})
    else:
        line(str(path))
