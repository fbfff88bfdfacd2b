"""The command line: thin, one sentence for a user's mistake, no traceback."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from universality.cli_figures import figures_command
from universality.cli_runs import reproduce_command, runs_app
from universality.console import stdout as _stdout
from universality.errors import JobError, RunError, StimulusError, UniversalityError
from universality.resources import UNKNOWN

if TYPE_CHECKING:
    from universality.runs import Run

app = typer.Typer(
    help="Measure whether vision networks learn the same features, each number beside its null.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
zoo_app = typer.Typer(help="The model cards.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(zoo_app, name="zoo")

stimuli_app = typer.Typer(help="The stimulus sets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(runs_app, name="runs")
app.command("reproduce")(reproduce_command)
app.command("figures")(figures_command)

cluster_app = typer.Typer(help="Scripts for clusters.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cluster_app, name="cluster")

JobArgument = Annotated[Path, typer.Argument(help="The job's TOML file.", metavar="JOB")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Run directory [default: data/runs/NAME].", metavar="DIR")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the activations [default: data/store].", metavar="URL")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _print_json(value: Any) -> None:
    """Print JSON on one line per call, undecorated, NaN as null."""
    print(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that JSON cannot write are null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Bars:
    """A reporter that prints lines and draws progress bars on a terminal, and plain lines elsewhere."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a bar; without a terminal, announce the work in a line."""
        if not self._console.is_terminal:
            self.say(f"{description}: {total}")
        task = self._progress.add_task(escape(description), total=total)
        return lambda steps: self._progress.advance(task, steps)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@app.command("run")
def run_command(
    job: JobArgument,
    out: OutOption = None,
    store: StoreOption = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler.", metavar="ADDRESS")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Local worker processes [default: threads of this one].", min=1)
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads of each worker [default: the cores].", min=1)
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory of each local process, such as 4GB.", metavar="SIZE")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", help="How often a failed task is tried again.", min=0)] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Set damaged stores aside and extract them anew.")] = False,
) -> None:
    """Run a comparison job: tables, figures and a report.

    Example: universality run analyses/quickstart/job.toml --out my-run
    """
    from universality.jobs import run

    console = Console(stderr=True)
    with _progress(console) as progress:
        finished = run(
            job, out, store=store, scheduler=scheduler, workers=workers, threads=threads, memory=memory, retries=retries,
            repair=repair, reporter=Bars(console, progress),
        )  # fmt: skip
    _print_run(finished)


def _print_run(finished: Run) -> None:
    from universality.figures import short
    from universality.report import findings
    from universality.schema import TABLES

    console = _stdout()
    families = finished.families
    table = Table(title="detectors and their nulls", title_justify="left")
    columns = (
        ("family", "family", "{}"),
        ("model", "model", "{}"),
        ("tap", "tap", "{}"),
        ("depth", "depth", "{:.0%}"),
        ("units", "n_units", "{}"),
        ("detectors", "n_detectors", "{}"),
        ("share", "share", "{:.1%}"),
        ("untrained", "share_untrained", "{:.1%}"),
        ("Haar", "share_haar", "{:.1%}"),
        ("> 2 sigma", "share_strong", "{:.1%}"),
        ("Haar", "share_strong_haar", "{:.1%}"),
        ("gap (deg)", "largest_gap_deg", "{:.0f}"),
        ("naive", "share_naive", "{:.1%}"),
        ("untrained", "share_naive_untrained", "{:.1%}"),
    )
    for title, name, _ in columns:
        table.add_column(title, justify="left" if name in ("family", "model", "tap") else "right", overflow="fold")
    for _, row in families.sort_values("family", kind="stable").iterrows():
        shown = row.to_dict() | {"model": short(row["model"]), "family": row["family"].removesuffix("_frequency")}
        table.add_row(*(form.format(shown[name]) for _, name, form in columns))
    console.print(table)
    for sentence in findings(finished):
        if not sentence.detail:
            console.print(f"- {escape(sentence.text)}", highlight=False, soft_wrap=not console.is_terminal)
    for name in TABLES:
        console.print(escape(str(finished.path / f"{name}.parquet")), highlight=False, soft_wrap=True)
    console.print(escape(str(finished.path / "figures")), highlight=False, soft_wrap=True)
    console.print(escape(str(finished.path / "report.html")), highlight=False, soft_wrap=True)


@app.command("plan")
def plan_command(
    job: JobArgument,
    out: OutOption = None,
    store: StoreOption = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads that will compute [default: the cores].", min=1)
    ] = None,
    measure_time: Annotated[
        bool, typer.Option("--time", help="Time a batch of every network and a comparison of each kind.")
    ] = False,
) -> None:
    """Say what a job would compute, what exists, and how much disk, memory and (--time) time it needs. Writes nothing.

    Example: universality plan analyses/quickstart/job.toml --time
    """
    from universality.jobs import estimates, plan
    from universality.stimuli import POLICIES

    planned = plan(job, out, store)
    console = _stdout()
    table = Table(title=f"job '{planned.job.name}' in {planned.out}", title_justify="left")
    for name in ("network", "stimuli", "images", "taps", "exist", "to extract", "disk (MB, at most)"):
        table.add_column(name, justify="left" if name in ("network", "stimuli") else "right")
    for row in planned.table().itertuples(index=False):
        table.add_row(*(f"{v:.1f}" if isinstance(v, float) else escape(str(v)) for v in row))
    console.print(table)
    missing = planned.missing
    needed, kept = estimates.disk(planned), planned.kept()
    lines = (
        f"common stimuli: {planned.job.stimuli.policy}: {POLICIES[planned.job.stimuli.policy]}",
        f"activations: {len(planned.stores) - len(missing)} of {len(planned.stores)} stores exist, {len(missing)} to extract, "
        f"in {planned.store.location}",
        f"comparisons: {len(planned.tasks)} tasks, {kept} results are kept, "
        + ("tables exist: nothing to compute" if planned.tables_exist and not missing else "the others to compute"),
        f"disk: {needed.expected / 1e6:.0f} MB expected, {needed.most / 1e6:.0f} MB at most"
        + ("" if needed.free is None else f", {needed.free / 1e6:.0f} MB free"),
        *estimates.sentences(planned, threads or os.cpu_count() or 1, measure_time),
    )
    for line in (*lines, *planned.warnings):
        console.print(escape(line), highlight=False, soft_wrap=True)
    estimates.refuse_disk(needed, planned.store.location)


@zoo_app.command("list")
def zoo_list(as_json: JsonOption = False) -> None:
    """List the model cards.

    Example: universality zoo list --json
    """
    from universality.zoo import cards

    if as_json:
        _print_json([card.plain() for card in cards().values()])
        return
    table = Table()
    for name in ("id", "input (px)", "taps", "training set", "licence", "state-dict hash"):
        table.add_column(name)
    for card in cards().values():
        pinned = (card.weights.state_dict_sha256 or "")[:12] or "not pinned"
        table.add_row(
            card.id, str(card.preprocessing.size_px), str(len(card.taps)), card.training_set, card.licence, pinned
        )
    _stdout().print(table)


@zoo_app.command("show")
def zoo_show(model_id: Annotated[str, typer.Argument(metavar="ID")], as_json: JsonOption = False) -> None:
    """Show one model card with its taps.

    Example: universality zoo show torchvision/alexnet
    """
    from universality.zoo import card

    shown = card(model_id)
    if as_json:
        _print_json(shown.plain())
        return
    console = _stdout()
    for name in ("id", "source", "library", "architecture", "training_set", "licence", "citation", "note"):
        console.print(f"{name}: {escape(getattr(shown, name))}", highlight=False, soft_wrap=True)
    for title, part in (
        ("preprocessing", shown.preprocessing), ("weights", shown.weights), ("training", shown.training)
    ):  # fmt: skip
        if part is None:
            continue
        facts = ", ".join(f"{k} = {v}" for k, v in part.plain().items() if v not in (None, "", []))
        console.print(f"{title}: {escape(facts)}", highlight=False, soft_wrap=True)
    table = Table()
    columns = (
        "name",
        "activation",
        "channels",
        "size",
        "rf_px",
        "stride_px",
        "rf_start_px",
        "relative_depth",
        "call",
        "calls",
    )
    for name in columns:
        table.add_column(name, justify="left" if name in ("name", "activation") else "right")
    for tap in shown.taps:
        table.add_row(*(str(getattr(tap, name)) for name in columns))
    console.print(table)


@zoo_app.command("new")
def zoo_new(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="source/name: timm/resnet34, own/my-net")],
    library: Annotated[str, typer.Option("--library", help="timm, torchvision or pocket [default: from ID].")] = "",
    architecture: Annotated[str, typer.Option("--architecture", help="Its name there [default: from ID].")] = "",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Your checkpoint: .safetensors or .pth.", metavar="FILE")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option("--argument", help="Of the architecture, e.g. num_classes=10.", metavar="KEY=VALUE"),
    ] = None,
    tap: Annotated[
        list[str] | None,
        typer.Option("--tap", help="Module to record [default: six, evenly in depth].", metavar="PATH"),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the input, px.", min=8, max=4096)] = None,
    mean: Annotated[str, typer.Option("--mean", help="Of the preprocessing, e.g. 0.5,0.5,0.5.")] = "",
    std: Annotated[str, typer.Option("--std", help="Of the preprocessing, e.g. 0.25,0.25,0.25.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = UNKNOWN,
    training_set: Annotated[str, typer.Option("--training-set", help="What they were trained on.")] = UNKNOWN,
    citation: Annotated[str, typer.Option("--citation", help="Paper of the network.")] = UNKNOWN,
) -> None:
    """Write a model card for any timm or torchvision network, or for a checkpoint of your own; its taps are measured.

    Example: universality zoo new timm/resnet34

    Example: universality zoo new own/net --library torchvision --architecture resnet18 --weights net.pth --argument num_classes=10
    """
    from universality import drafting

    asked = drafting.Asked(
        model_id, library, architecture, drafting.arguments(argument or []), tuple(tap or ()), size_px=size,
        mean=drafting.channels("--mean", mean), std=drafting.channels("--std", std), weights=weights, licence=licence,
        training_set=training_set, citation=citation,
    )  # fmt: skip
    card = drafting.draft(asked)
    path = drafting.write(card, weights)
    zoo_show(model_id)
    _stdout().print(escape(str(path)), highlight=False, soft_wrap=True)


@zoo_app.command("fields")
def zoo_fields(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    share: Annotated[float, typer.Option("--share", help="Share of the squared gradient.", min=0.01, max=0.99)] = 0.9,
) -> None:
    """Measure a trained network's effective receptive fields, which a job may state as scene_px.

    Example: universality zoo fields pocket/vgg-focus-s0
    """
    from universality.networks import effective_sides_px
    from universality.zoo import card

    shown = card(model_id)
    table = Table()
    for name in ("tap", "receptive field (px)", f"effective, {share:.0%} (px)"):
        table.add_column(name, justify="left" if name == "tap" else "right")
    for name, side in effective_sides_px(shown, share).items():
        table.add_row(name, str(shown.tap(name).rf_px), str(side))
    _stdout().print(table)


@zoo_app.command("train")
def zoo_train(
    model_id: Annotated[str, typer.Argument(metavar="ID")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: data/pocket_training/NAME].")] = None,
    threads: Annotated[int, typer.Option("--threads", help="Torch threads; the weights depend on it.", min=1)] = 1,
) -> None:
    """Train a network of the pocket zoo again, or one with another seed.

    Example: universality zoo train pocket/vgg-focus-s0
    """
    from universality.pocket.training import train_named

    folder = out or Path("data/pocket_training") / model_id.removeprefix("pocket/")
    path = train_named(model_id, folder, Path("data/pocket_training/images"), threads=threads)
    _stdout().print(escape(str(path)), highlight=False, soft_wrap=True)


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
    _stdout().print(table)


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
    _stdout().print(escape(str(path)), highlight=False, soft_wrap=True)


@stimuli_app.command("manifest")
def stimuli_manifest(folder: Annotated[Path, typer.Argument(metavar="FOLDER")]) -> None:
    """Write FOLDER/manifest.toml, which makes the images in and below the folder a stimulus set.

    It states each file's SHA-256 and, as its label, the subfolder it lies in. Folds (0 or 1) can be added by hand.

    Example: universality stimuli manifest photographs
    """
    from universality.stimuli import write_manifest

    path, count = write_manifest(folder)
    _stdout().print(escape(f"{path}: {count} images"), highlight=False, soft_wrap=True)


@app.command("detectors")
def detectors_command(
    run_path: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    family: Annotated[str, typer.Option("--family", help="Family whose own rule is applied.")] = "curve",
    definition: Annotated[
        Path | None, typer.Option("--definition", help="TOML file with a definition of your own.", metavar="FILE")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option("--threshold", help="Criterion whose threshold is moved.", metavar="COLUMN")
    ] = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="Compare preferences with those on turned natural images instead.")
    ] = False,
) -> None:
    """Apply a definition of detectors to a run's units: rates beside the untrained twins', without extracting anew.

    With --joint, show the networks turned natural images, write RUN/joint.parquet and print how many detectors agree.

    Example: universality detectors data/runs/quickstart --family curve --threshold invariance
    """
    import numpy as np

    from universality import detectors, schema
    from universality.figures import short
    from universality.runs import open_run
    from universality.spec import read_definition

    if joint:
        _print_joint(run_path)
        return
    if definition is None:
        chosen = detectors.definition_of(family)
    else:
        spec = read_definition(definition)
        chosen = detectors.of_spec(spec, detectors.family_of(spec.base).rule, schema.UNITS.names)
    units = open_run(run_path).units
    console = _stdout()
    for criterion in chosen.criteria:
        console.print(
            escape(f"{criterion.column} {criterion.op} {criterion.threshold:g}: {criterion.reason}"),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    table = Table(title=f"{chosen.name} ({chosen.family})", title_justify="left")
    for name in ("model", "tap", "units", "detectors", "share", "untrained units", "untrained detectors", "share"):
        table.add_column(name, justify="left" if name in ("model", "tap") else "right", overflow="fold")
    for row in detectors.rates(chosen, units).to_dict("records"):
        counts = str(row["n_units"]), str(row["n_detectors"]), f"{row['share']:.1%}"
        untrained = str(row["n_units_untrained"]), str(row["n_detectors_untrained"]), f"{row['share_untrained']:.2%}"
        table.add_row(short(str(row["model"])), str(row["tap"]), *counts, *untrained)
    console.print(table)
    if threshold is not None:
        known = threshold in {criterion.column for criterion in chosen.criteria}
        values = units.loc[units["family"] == chosen.family, threshold].to_numpy(np.float64) if known else np.zeros(1)
        values = values[np.isfinite(values)]
        grid = np.unique(np.quantile(values, np.linspace(0.02, 0.98, 13))) if values.size else np.zeros(1)
        moved = detectors.threshold_curve(chosen, units, threshold, grid.tolist())
        console.print(moved.to_string(index=False, float_format=lambda x: f"{x:.4g}"), highlight=False)


def _print_joint(run_path: Path) -> None:
    from universality import runs, schema
    from universality.figures import short
    from universality.natural_tuning import natural_tuning

    run = runs.open_run(run_path)
    found = natural_tuning(run)
    file = runs.write_table(run_path, schema.JOINT, found, run.record["provenance"])
    table = Table(title="within 20 degrees on turned natural images", title_justify="left")
    for name in ("model", "seed", "tap", "family", "detectors", "agree", "share", "chance"):
        table.add_column(name, justify="left" if name in ("model", "tap", "family") else "right", overflow="fold")
    keys = ["model", "seed", "tap", "family"]
    for (model, seed, tap, family), rows in found[found["detector"]].groupby(keys, sort=False):
        agree = rows["agrees"]
        figures = str(len(rows)), str(int(agree.sum())), f"{agree.mean():.0%}", f"{rows['chance'].iloc[0]:.0%}"
        table.add_row(short(str(model)), "trained" if seed == -1 else str(seed), str(tap), str(family), *figures)
    _stdout().print(table)
    _stdout().print(escape(str(file)), highlight=False, soft_wrap=True)


@app.command("atlas")
def atlas_command(
    run_path: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: RUN/atlas].", metavar="DIR")] = None,
    unit: Annotated[
        str | None, typer.Option("--unit", help="Find this unit in every other model.", metavar="MODEL:TAP:INDEX")
    ] = None,
) -> None:
    """Write the atlas of a run: its features, cliques of units that are one feature in several models, index of universality.

    With --unit, print where that unit's best partners are in the other models, with their evidence, instead.

    Example: universality atlas data/runs/quickstart --unit pocket/vgg-focus-s0:features.13:7
    """
    if unit is not None:
        _print_trace(run_path, unit)
        return
    from universality.atlas_files import findings, write_atlas
    from universality.runs import open_run

    files, tables = write_atlas(open_run(run_path), out or run_path / "atlas")
    console = _stdout()
    for line in [*findings(tables), *map(str, files)]:
        console.print(escape(line), highlight=False, soft_wrap=True)


def _print_trace(run_path: Path, unit: str) -> None:
    from universality.runs import open_run
    from universality.tracing import parse_unit, trace

    found = trace(open_run(run_path), *parse_unit(unit))
    table = Table(title=f"best partners of {unit}", title_justify="left")
    for name in found.columns:
        table.add_column(name, justify="left" if name in ("model", "tap", "family") else "right", overflow="fold")
    for row in found.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else escape(str(value)) for value in row))
    _stdout().print(table)


@app.command("report")
def report_command(
    run_path: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file [default: RUN/report.html].", metavar="FILE")
    ] = None,
) -> None:
    """Write the report of a finished run again: one HTML page with findings, figures, tables and unit cards, and no network.

    Example: universality report data/runs/quickstart --out report.html
    """
    from universality.records import finish
    from universality.report import write
    from universality.runs import file_sha256, open_run

    if out is not None and out.is_dir():
        raise RunError(f"'{out}' is a folder, expected the name of an HTML file; give one with --out")
    run = open_run(run_path)
    page = write(run, out)
    if out is None:
        # The record holds the page's hash, by which `runs verify` knows it.
        kept = {key: value for key, value in run.record.items() if key != "digest"}
        finish(run.path, kept | {"report": file_sha256(page)})
    _stdout().print(escape(str(page)), highlight=False, soft_wrap=True)


@app.command("measures")
def measures_command(
    name: Annotated[str | None, typer.Argument(help="One measure, in full.", metavar="NAME")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the measures between two layers, or print all that is declared of one.

    Example: universality measures cka_linear_debiased
    """
    from universality.comparators import comparator, describe

    if as_json:
        frame = describe.measures()
        chosen = frame[frame["name"] == comparator(name).name] if name is not None else frame
        _print_json(json.loads(chosen.to_json(orient="records")))
        return
    console = _stdout()
    if name is not None:
        for key, value in describe.record(comparator(name)).items():
            console.print(f"{key}: {escape(describe.shown(value))}", highlight=False, soft_wrap=True)
        return
    columns = ("name", "direction", "low", "high", "invariances", "symmetric", "metric", "min_n")
    table = Table()
    for title in columns:
        table.add_column(title, justify="right" if title in ("low", "high", "min_n") else "left", overflow="fold")
    for row in describe.measures()[list(columns)].itertuples(index=False):
        table.add_row(*(escape(describe.shown(value)) for value in row))
    console.print(table)


@app.command("doctor")
def doctor_command(
    store: StoreOption = None,
    online: Annotated[bool, typer.Option("--online", help="Ask whether missing weights can be fetched.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every stored file with its checksum.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what works on this machine: packages, device, weights, stores. Exit status 1 where something keeps jobs from running.

    Example: universality doctor --verify
    """
    from dataclasses import asdict

    from universality.doctor import examine
    from universality.resources import DEFAULT_STORE

    findings = examine(store or DEFAULT_STORE, online=online, verify=verify)
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _stdout().print(
                escape(f"{finding.state:5} {finding.subject}: {finding.detail}"), highlight=False, soft_wrap=True
            )
    if any(finding.state == "fault" for finding in findings):
        raise typer.Exit(1)


@cluster_app.command("slurm")
def cluster_slurm(
    job: JobArgument,
    workers: Annotated[int, typer.Option("--workers", help="Dask workers.", min=1)] = 4,
    cores: Annotated[int, typer.Option("--cores", help="Cores of each worker.", min=1)] = 4,
    memory: Annotated[str, typer.Option("--memory", help="Memory of each worker.", metavar="SIZE")] = "16GB",
    longest: Annotated[str, typer.Option("--time", help="Longest run, [days-]hours:minutes:seconds.")] = "12:00:00",
    partition: Annotated[str, typer.Option("--partition", help="SLURM partition.")] = "",
    account: Annotated[str, typer.Option("--account", help="SLURM account.")] = "",
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of each worker.", min=0)] = 0,
    store: Annotated[str, typer.Option("--store", help="Folder that all nodes see, or URL.")] = "data/store",
    out: Annotated[str, typer.Option("--out", help="Run directory.")] = "data/runs/cluster",
) -> None:
    """Print a script for sbatch that runs a job on workers of a SLURM cluster.

    Example: universality cluster slurm job.toml --workers 8 --cores 4 --memory 16GB > job.sbatch
    """
    from universality.recipes import Slurm, sbatch

    asked = Slurm(workers, cores, memory, longest, partition, account, gpus)
    typer.echo(sbatch(str(job), store, out, asked), nl=False)


@app.command("schema")
def schema_command(name: Annotated[str, typer.Argument(metavar="job")] = "job") -> None:
    """Print the JSON schema of job files, for editors that check TOML; every key with its meaning, type and range.

    Example: universality schema job > job.schema.json
    """
    from universality.jobs.documentation import job_schema

    if name != "job":
        raise JobError(f"there is no schema '{name}', expected 'job'")
    typer.echo(json.dumps(job_schema(), indent=1))


@app.command("versions")
def versions_command(as_json: JsonOption = False) -> None:
    """Print the versions that decide numbers."""
    from universality.origin import package_version, package_versions

    console = _stdout()
    facts = {"universality": package_version(), "python": platform.python_version(), **package_versions()}
    if as_json:
        _print_json(facts)
        return
    for name, version in facts.items():
        console.print(f"{name} {version}", highlight=False)


def _leave_quietly() -> None:
    # The reader of a pipe went away; Python would complain again when it flushes standard output.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _refuse(sentence: str) -> None:
    # Paths need not be text: what no terminal can show is printed by its bytes.
    printable = sentence.encode("utf-8", "backslashreplace").decode("utf-8")
    Console(stderr=True).print(f"error: {escape(printable)}", style="red", highlight=False, soft_wrap=True)
    sys.exit(1)


def main() -> None:
    """Run the command line; a user's mistake becomes one sentence on standard error and exit status 1."""
    try:
        app()
    except UniversalityError as error:
        _refuse(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _leave_quietly()
        where = f": '{error.filename}'" if error.filename else ""
        _refuse(f"{error.strerror or error}{where}; check the path")
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted: nothing half-written is kept; run the job again to go on")
        sys.exit(130)


if __name__ == "__main__":
    main()
