"""The commands about jobs: ``universality run`` and ``universality plan``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from universality.cli.options import (
    JobArgument,
    JsonOption,
    OnlyOption,
    OutOption,
    StoreOption,
    ThreadsOption,
    WithoutOption,
    WorkersOption,
)
from universality.cli.output import line, on_terminal, print_json, rows, stdout
from universality.cli.progress import reporting

if TYPE_CHECKING:
    import pandas as pd

    from universality.activations.network import Network
    from universality.jobs.estimates import Disk, Time
    from universality.jobs.planning import Plan
    from universality.runs.run import Run


def run_command(
    job: JobArgument,
    out: OutOption = None,
    store: StoreOption = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler.", metavar="ADDRESS")
    ] = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory of each local process, such as 4GB.", metavar="SIZE")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", help="How often a failed task is tried again.", min=0)] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Set damaged stores aside and extract them anew.")] = False,
    only: OnlyOption = None,
    without: WithoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a comparison job: tables, figures and a report.

    Example: universality run analyses/quickstart/job.toml --out my-run
    """
    with reporting() as reporter:
        from universality.jobs.execute import run  # seconds, in which a terminal already shows that something goes on

        finished = run(
            job, out, store=store, scheduler=scheduler, workers=workers, threads=threads, memory=memory, retries=retries,
            repair=repair, only=only, without=without, reporter=reporter,
        )  # fmt: skip
    if as_json:
        print_json(_facts(finished))
    else:
        _print_run(finished)


def _facts(finished: Run) -> dict[str, Any]:
    from universality.report import findings

    return {
        "run": finished.path,
        "name": finished.job.name,
        "tables": {name: finished.path / f"{name}.parquet" for name in finished.tables},
        "figures": sorted((finished.path / "figures").iterdir()),
        "report": finished.path / "report.html",
        "findings": [{"text": found.text, "detail": found.detail} for found in findings(finished)],
        "families": rows(finished.families) if finished.has("families") else [],
    }


def _print_run(finished: Run) -> None:
    from universality.report import findings

    console = stdout()
    if finished.has("families"):
        _print_families(finished.families)
    for sentence in findings(finished):
        if not sentence.detail:
            console.print(f"- {escape(sentence.text)}", highlight=False, soft_wrap=not on_terminal(console))
    for name in finished.tables:
        line(str(finished.path / f"{name}.parquet"))
    line(str(finished.path / "figures"))
    line(str(finished.path / "report.html"))


def _print_families(families: pd.DataFrame) -> None:
    from universality.base.names import short

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
    stdout().print(table)


def plan_command(
    job: JobArgument,
    out: OutOption = None,
    store: StoreOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    every: Annotated[bool, typer.Option("--all", help="A row for every network and stimulus set.")] = False,
    only: OnlyOption = None,
    without: WithoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a job would compute, what exists, and how much disk, memory and time it needs. Writes nothing.

    Example: universality plan analyses/quickstart/job.toml --all
    """
    from universality.jobs import estimates
    from universality.jobs.planning import plan
    from universality.jobs.workers import Workers

    planned = plan(job, out, store, only=only, without=without)
    needed = estimates.disk(planned)
    each = Workers(processes=workers, threads=threads).threads_each()
    time = estimates.time(planned)
    sentences = estimates.sentences(planned, each, workers, time)
    if as_json:
        print_json(_planned(planned, needed, sentences, time))
    else:
        if every:
            _print_networks(planned)
        _print_plan(planned, needed, sentences)
    estimates.refuse_disk(needed, planned.store.location)


def _planned(planned: Plan, needed: Disk, sentences: list[str], time: Time) -> dict[str, Any]:
    return {
        "name": planned.job.name,
        "out": planned.out,
        "store": planned.store.location,
        "device": planned.job.extraction.device,
        "policy": planned.job.stimuli.policy,
        "networks": rows(planned.table()),
        "stores": {"all": len(planned.stores), "missing": len(planned.missing)},
        "stages": [{"name": s.name, "tasks": s.count(planned.inputs)} for s in planned.stages],
        "tasks": {"all": planned.n_tasks, "kept": planned.kept()},
        "tables_exist": planned.tables_exist,
        "disk_bytes": needed,
        "estimates": sentences,
        "seconds": time,
        "warnings": planned.warnings,
    }


def _print_networks(planned: Plan) -> None:
    table = Table(title=f"job '{planned.job.name}' in {planned.out}", title_justify="left")
    for name in ("network", "stimuli", "images", "taps", "exist", "to extract", "disk (MB, at most)"):
        table.add_column(name, justify="left" if name in ("network", "stimuli") else "right")
    for row in planned.table().itertuples(index=False):
        table.add_row(*(f"{v:.1f}" if isinstance(v, float) else escape(str(v)) for v in row))
    stdout().print(table)


def _kind(network: Network) -> str:
    if network.copy_r is not None:
        return "copied with noise"
    return "trained" if network.seed is None else "untrained"


def _print_plan(planned: Plan, needed: Disk, sentences: list[str]) -> None:
    from universality.stimuli.sets import POLICIES

    missing, kinds = planned.missing, Counter(_kind(network) for network in planned.networks)
    shown = planned.table()
    lines = (
        f"job '{planned.job.name}' in {planned.out}",
        f"networks: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}, with "
        f"{sum(len(n.taps) for n in planned.networks)} taps, shown {shown['stimuli'].nunique()} stimulus sets: {shown['images'].sum()} images "
        "(--all: each by itself)",
        f"device: images are shown on {planned.job.extraction.device}",
        f"common stimuli: {planned.job.stimuli.policy}: {POLICIES[planned.job.stimuli.policy]}",
        f"activations: {len(planned.stores) - len(missing)} of {len(planned.stores)} stores exist, {len(missing)} to extract, "
        f"in {planned.store.location}",
        f"stages: {', '.join(f'{s.name} ({s.count(planned.inputs)} tasks)' for s in planned.stages)}; {planned.kept()} of "
        f"{planned.n_tasks} results are kept, "
        + ("tables exist: nothing to compute" if planned.tables_exist and not missing else "the others to compute"),
        f"disk: {needed.expected / 1e6:.0f} MB expected, {needed.most / 1e6:.0f} MB at most"
        + ("" if needed.free is None else f", {needed.free / 1e6:.0f} MB free"),
    )
    for text in (*lines, *sentences, *planned.warnings):
        line(text)


def stages_command(as_json: JsonOption = False) -> None:
    """List the stages of a job: what each makes, which tables, and which stages it needs.

    Example: universality stages
    """
    from universality.jobs.stages import STAGES

    if as_json:
        known = [
            {
                "name": s.name,
                "makes": s.makes,
                "version": s.version,
                "tables": [t.name for t in s.tables],
                "needs": s.needs,
            }
            for s in STAGES.values()
        ]
        print_json(known)
        return
    for stage in STAGES.values():
        needs = f"; needs {', '.join(stage.needs)}" if stage.needs else ""
        line(f"{stage.name}: {stage.makes} ({', '.join(table.name for table in stage.tables)}){needs}")
