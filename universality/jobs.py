"""From a job to tables, figures and a report: plan, extract what is missing, compare with Dask, write.

Paths travel to the workers, not arrays: a task is given the folder of the stores and the names of the keys.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from distributed import Client, Future, LocalCluster, as_completed, get_client
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from threadpoolctl import threadpool_limits

from universality import (
    comparators,
    correspondence,
    display,
    evidence,
    extraction,
    figures,
    origin,
    pairs,
    records,
    report,
    runs,
    schema,
    stimuli,
)  # fmt: skip
from universality.comparison import Layer, LayerRef, NullPlan, load_layer, similarity_rows
from universality.errors import JobError, RunError, StoreError
from universality.networks import Network, networks_of, stimulus_sets
from universality.partners import Contender, MatchingPlan
from universality.resources import DEFAULT_RUNS, DEFAULT_STORE
from universality.runs import Run
from universality.spec import Job, Tap, digest, read_job
from universality.stimuli import Frame
from universality.store import ActivationStore, store_at

WORKER_TIMEOUT_S = 30


class Reporter(Protocol):
    """Where progress goes; the command line draws bars, Python calls are quiet by default."""

    def say(self, text: str) -> None:
        """Report one line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Begin a bar of `total` steps and return the function that advances it."""


class Quiet:
    """A reporter that reports nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Return a function that does nothing."""
        return lambda steps: None


@dataclass(frozen=True)
class PlannedStore:
    """One store a job needs: whose, for which stimuli, at which tap, and whether it exists."""

    network: Network
    stimulus_set: str
    tap: Tap
    key: str
    exists: bool

    @property
    def nbytes(self) -> int:
        """Size before compression, bytes."""
        return self.network.nbytes(self.stimulus_set, self.tap)


@dataclass(frozen=True)
class Plan:
    """What a job would compute, and what exists."""

    job: Job
    out: Path
    store: ActivationStore
    networks: tuple[Network, ...]
    stores: tuple[PlannedStore, ...]
    tasks: tuple[Task, ...]
    inputs_digest: str

    @property
    def missing(self) -> list[PlannedStore]:
        """Stores that have to be extracted."""
        return [planned for planned in self.stores if not planned.exists]

    @property
    def tables_exist(self) -> bool:
        """Whether the run directory holds undamaged tables, figures and report of exactly these inputs."""
        record = runs.read_record(self.out)
        if record is None or record["status"] != "complete" or record["inputs_digest"] != self.inputs_digest:
            return False
        return next(runs.problems(self.out, record), None) is None

    def table(self) -> pd.DataFrame:
        """Return one row per network and stimulus set: taps, stimuli, how many stores exist, size of the missing, MB.

        `images` is how many are shown: taps with receptive fields of their own are each shown the whole set.
        """
        rows = [
            {
                "network": p.network.label, "stimuli": p.stimulus_set, "shown": p.network.shape(p.stimulus_set, p.tap)[0],
                "frame": p.network.frame(p.tap), "taps": 1, "exist": int(p.exists), "to_extract": int(not p.exists),
                "disk_mb": 0.0 if p.exists else p.nbytes / 1e6,
            }
            for p in self.stores
        ]  # fmt: skip
        grouped = pd.DataFrame(rows).groupby(["network", "stimuli"], sort=False, as_index=False)
        table = grouped.agg(
            images=("shown", "first"), frames=("frame", lambda frames: len(set(frames))), taps=("taps", "sum"),
            exist=("exist", "sum"), to_extract=("to_extract", "sum"), disk_mb=("disk_mb", "sum"),
        )  # fmt: skip
        return table.assign(images=table["images"] * table.pop("frames"))

    @property
    def warnings(self) -> list[str]:
        """One sentence for every tap that is shown a part of its scenes only."""
        found = [
            (n, t, n.scene(t).shown) for n in self.networks for t in n.taps if n.seed is None and n.scene(t).shown < 1
        ]
        return [
            f"the receptive field of '{tap.name}' of '{network.card.id}' ({tap.rf_px} px) reaches beyond the input "
            f"({network.card.preprocessing.size_px} px): {shown:.0%} of the side of each scene is shown"
            for network, tap, shown in found
        ]

    def _repr_html_(self) -> str:
        """Return what would be computed and what exists, for a notebook."""
        table, missing = self.table().round({"disk_mb": 1}), len(self.missing)
        tables = "exist" if self.tables_exist else "are to be made"
        return "".join(
            (
                display.heading(self.job.name),
                display.paragraph(self.job.question),
                display.table(list(table), table.itertuples(index=False)),
                display.items(self.warnings),
                display.paragraph(
                    f"{missing} of {len(self.stores)} activation stores to extract, {len(self.tasks)} comparisons; tables, figures "
                    f"and report {tables} in {self.out}."
                ),
            )
        )


@dataclass(frozen=True)
class Task:
    """One Dask task: a name made of its content, and a function of paths and plain values."""

    name: str
    function: Callable[..., dict[str, pd.DataFrame]]
    arguments: tuple[Any, ...]


def plan(job_path: str | Path | Job, out: str | Path | None = None, store: str | Path | None = None) -> Plan:
    """Return what a job would compute and what exists already. Nothing is written.

    Parameters
    ----------
    job_path : path or Job
        The job's TOML file, or the job itself.
    out, store : path, optional
        Run directory (default ``data/runs/NAME``) and folder or URL of the activation stores (default ``data/store``).
    """
    job = job_path if isinstance(job_path, Job) else read_job(Path(job_path))
    for measure in job.comparison.measures:
        comparators.require(measure)
    networks = tuple(networks_of(job))
    for network in networks:
        for name, tap in itertools.product(stimulus_sets(job), network.taps):
            network.refuse(name, tap)
    stores = store_at(store, DEFAULT_STORE)
    planned = tuple(
        PlannedStore(network, name, tap, key, stores.has(key))
        for network in networks
        for name in stimulus_sets(job)
        for tap in network.taps
        for key in [network.key(name, tap).name]
    )
    directory = Path(out) if out is not None else Path(DEFAULT_RUNS) / job.name
    inputs = digest([job.plain(), [p.key for p in planned], [n.card.digest() for n in networks], origin.code_digest()])
    return Plan(job, directory, stores, networks, planned, _tasks(job, networks, stores), inputs)


def run(
    job_path: str | Path | Job,
    out: str | Path | None = None,
    *,
    store: str | Path | None = None,
    client: Client | None = None,
    scheduler: str | None = None,
    repair: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Run a comparison job to its tables, figures and report, computing only what does not exist yet.

    Parameters
    ----------
    job_path : path or Job
        The job's TOML file, or the job itself.
    out : path, optional
        Run directory, by default ``data/runs/NAME``.
    store : path or URL, optional
        Folder of the activation stores, by default ``data/store``; jobs may share it. Or a URL that fsspec knows, such
        as ``s3://bucket/folder``; ``memory://`` is seen by this process only.
    client : distributed.Client, optional
        Computes the comparisons; it is not closed. Without it: `scheduler`, else the active client, else a local one.
    scheduler : str, optional
        Address of a Dask scheduler whose workers can read the stores' folder.
    repair : bool
        Set damaged stores aside and extract them anew, instead of refusing to go on.

    Returns
    -------
    Run
        The finished run, as `open_run` gives it.

    Raises
    ------
    UniversalityError
        In one sentence, for everything that a user can mend.
    """
    reporter = reporter or Quiet()
    started = time.time()
    planned = plan(job_path, out, store)
    for warning in planned.warnings:
        reporter.say(warning)
    with records.claimed(planned.out, planned.job, planned.store):
        removed = planned.store.remove_partial()
        if removed:
            reporter.say(f"removed {removed} store(s) that an interrupted run had left half-written")
        planned = _verified(planned, job_path, out, store, repair, reporter)
        extracted = _extract_missing(planned, reporter)
        if not extracted:
            reporter.say(f"all {len(planned.stores)} activation stores exist: extracted nothing")
        if not extracted and planned.tables_exist:
            reporter.say(f"tables, figures and report of exactly this job exist in {planned.out}: computed nothing")
            return runs.open_run(planned.out)
        with comparison_client(client, scheduler) as active:
            tables = _compare(planned.tasks, active, reporter)
        tables["pairs"] = pairs.pair_rows(
            tables["families"], tables["correspondence"], tables["correspondence_nulls"], tables["similarity"],
            planned.job.comparison.matching,
        )  # fmt: skip
        # From here on until the end, what lies in the directory belongs to no finished run.
        records.mark_started(planned.out, planned.job)
        with records.cannot_be_written(planned.out):
            return _write(planned, tables, extracted, started, reporter)


def _verified(
    planned: Plan,
    job_path: str | Path | Job,
    out: str | Path | None,
    store: str | Path | None,
    repair: bool,
    reporter: Reporter,
) -> Plan:
    """Compare the existing stores with their checksums; set damaged ones aside if asked to, else raise."""
    damaged = 0
    for entry in planned.stores:
        if not planned.store.exists(entry.key):
            continue
        try:
            planned.store.verify(entry.key)
        except StoreError as error:
            if not repair:
                raise
            aside = planned.store.set_aside(entry.key)
            reporter.say(f"set a damaged store of {entry.network.label}, {entry.tap.name} aside as '{aside}': {error}")
            damaged += 1
    return plan(job_path, out, store) if damaged else planned


def _extract_missing(planned: Plan, reporter: Reporter) -> int:
    """Extract what is missing, each network loaded once, all taps that are shown the same in one pass; return how many stores."""
    missing = planned.missing
    for network in planned.networks:
        wanted = [p for p in missing if p.network is network]
        if not wanted:
            continue
        loaded = network.load()
        for name in stimulus_sets(planned.job):
            by_frame: dict[Frame | None, list[Tap]] = {}
            for tap in (p.tap for p in wanted if p.stimulus_set == name):
                by_frame.setdefault(network.frame(tap), []).append(tap)
            for taps in by_frame.values():
                _extract_set(planned.store, network, loaded, name, taps, reporter)
    return len(missing)


def _extract_set(
    store: ActivationStore,
    network: Network,
    loaded: torch.nn.Module,
    name: str,
    taps: Sequence[Tap],
    reporter: Reporter,
) -> None:
    parameters = stimuli.parameters(name, network.stimuli)
    count = network.shape(name, taps[0])[0]
    size_px, frame = network.card.preprocessing.size_px, network.frame(taps[0])
    scene = "" if frame is None else f" in {frame.side_px} px"
    advance = reporter.track(f"{network.label}: {name}{scene}", count)
    # A batch is padded to its full size, so it should not be larger than the set.
    spec = network.extraction.model_copy(update={"batch_size": min(network.extraction.batch_size, count)})
    batches = extraction.extract(loaded, taps, network.batches(name, frame), spec, size_px, frame)
    with ExitStack() as stack:
        writers = {
            tap.name: stack.enter_context(
                store.writing(
                    network.key(name, tap),
                    parameters,
                    network.shape(name, tap),
                    network.extraction.dtype,
                    {**network.provenance(name, tap), **origin.extraction_environment()},
                )
            )
            for tap in taps
        }
        for reduced in batches:
            for tap_name, values in reduced.items():
                writers[tap_name].append(values)
            advance(len(next(iter(reduced.values()))))


def _tasks(job: Job, networks: Sequence[Network], store: ActivationStore) -> tuple[Task, ...]:
    """Return the comparisons of a job, in the order of their rows in the tables."""
    nulls = NullPlan(job.nulls.haar_rotations, job.nulls.shuffles, job.seed)
    matching = MatchingPlan(job.comparison.matching, job.comparison.bootstraps, job.comparison.permutations, nulls)
    refs = {(n.card.id, n.seed): [_reference(n, tap, store, job) for tap in n.taps] for n in networks}
    seeds = job.nulls.untrained_seeds
    models = [entry.id for entry in job.models]
    tasks: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    for model in models:
        for place, layer in enumerate(refs[model, None]):
            tasks.append((family_task, (layer, [refs[model, seed][place] for seed in seeds], nulls)))
    for a, b in job.compared():
        twins = [[refs[model, seed] for seed in seeds] for model in (a, b)]
        # Small comparisons of the same layers share a task: reading the layers would cost more than comparing them.
        tasks.append((similarity_task, (refs[a, None], refs[b, None], *twins, job.comparison.measures, nulls)))
        for place, layer_a in enumerate(refs[a, None]):
            twins_a = [refs[a, seed][place] for seed in seeds]
            tasks.append((correspondence_task, (layer_a, refs[b, None], twins_a, twins[1], matching)))
    return tuple(
        Task(f"{function.__name__}-{digest([origin.code_digest(), repr(arguments)])[:32]}", function, arguments)
        for function, arguments in tasks
    )


def _reference(network: Network, tap: Tap, store: ActivationStore, job: Job) -> LayerRef:
    stores = {name: network.key(name, tap).name for name in stimulus_sets(job)}
    families = job.comparison.families
    return LayerRef(network.card.id, network.seed, tap, store.location, stores, network.scene(tap), families)


def family_task(layer: LayerRef, twins: Sequence[LayerRef], nulls: NullPlan) -> dict[str, pd.DataFrame]:
    """Return the rows of ``families`` and ``units`` for one layer."""
    trained, untrained = load_layer(layer), [load_layer(twin) for twin in twins]
    units = pd.concat([correspondence.unit_rows(x) for x in (trained, *untrained)], ignore_index=True)
    return {"families": correspondence.family_rows(trained, untrained, nulls), "units": units}


def similarity_task(
    a: Sequence[LayerRef],
    b: Sequence[LayerRef],
    twins_a: Sequence[Sequence[LayerRef]],
    twins_b: Sequence[Sequence[LayerRef]],
    measures: Sequence[str],
    nulls: NullPlan,
) -> dict[str, pd.DataFrame]:
    """Return the rows of ``similarity`` for all pairs of taps of two networks."""

    def load(refs: Sequence[LayerRef]) -> list[Layer]:
        return [load_layer(ref) for ref in refs]

    untrained_a, untrained_b = ([load(refs) for refs in twins] for twins in (twins_a, twins_b))
    return {"similarity": similarity_rows(load(a), load(b), untrained_a, untrained_b, measures, nulls)}


def correspondence_task(
    a: LayerRef,
    b: Sequence[LayerRef],
    twins_a: Sequence[LayerRef],
    twins_b: Sequence[Sequence[LayerRef]],
    matching: MatchingPlan,
) -> dict[str, pd.DataFrame]:
    """Return the rows of ``correspondence`` and of its nulls for one layer of a network with all layers of another.

    `twins_a` holds the layer of each untrained twin, `twins_b` for each untrained seed the same layers of the twin.
    """

    def contender(ref: LayerRef, twins: Sequence[LayerRef]) -> Contender:
        return Contender(load_layer(ref), [load_layer(twin) for twin in twins], matching)

    first = contender(a, twins_a)
    parts: dict[str, list[pd.DataFrame]] = {"correspondence": [], "correspondence_nulls": []}
    for place, ref in enumerate(b):
        second = contender(ref, [twins[place] for twins in twins_b])
        parts["correspondence"].append(correspondence.correspondence_rows(first, second))
        parts["correspondence_nulls"].append(correspondence.null_rows(first, second))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _single_threaded(function: Callable[..., Any], *arguments: Any) -> Any:
    # One task per core: BLAS threads inside a task would take cores from the other tasks.
    threadpool_limits(limits=1)
    return function(*arguments)


@contextmanager
def comparison_client(client: Client | None, scheduler: str | None) -> Iterator[Client]:
    """Yield the given client, one for `scheduler`, the active one, or a local one; close only what was opened here."""
    if client is not None:
        yield client
        return
    if scheduler is not None:
        try:
            opened = Client(scheduler, timeout="10s")
        except (OSError, ValueError, TypeError, RuntimeError, ImportError) as cause:
            raise JobError(
                f"no Dask scheduler answers at '{scheduler}' ({type(cause).__name__}); start it, or leave out --scheduler"
            ) from None
        with opened:
            try:
                opened.wait_for_workers(1, timeout=WORKER_TIMEOUT_S)
            except TimeoutError:
                raise JobError(
                    f"the Dask scheduler at '{scheduler}' has no worker after {WORKER_TIMEOUT_S} s; start one with "
                    f"`dask worker {scheduler}`"
                ) from None
            yield opened
        return
    try:
        active = get_client()
    except ValueError:
        active = None
    if active is not None:
        yield active
        return
    with (
        threadpool_limits(limits=1),
        LocalCluster(
            n_workers=1,
            threads_per_worker=os.cpu_count() or 1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=50,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as opened,
    ):
        yield opened


def _compare(tasks: Sequence[Task], client: Client, reporter: Reporter) -> dict[str, pd.DataFrame]:
    """Compute all tasks and return the tables, rows in the order of the tasks whatever finished first."""
    advance = reporter.track("comparisons (Dask tasks)", len(tasks))
    futures = [
        client.submit(_single_threaded, task.function, *task.arguments, key=task.name, pure=True) for task in tasks
    ]
    try:
        for _ in as_completed(futures):
            advance(1)
        parts = client.gather(_finished(tasks, futures))
    except (CancelledError, CommClosedError, FutureCancelledError) as cause:
        raise RunError(
            f"the Dask scheduler was lost ({type(cause).__name__}); start it and run the job again: activations are kept"
        ) from None
    tables = {
        name: pd.concat(
            [part[name] for part in parts if name in part] or [schema.empty_table(table)], ignore_index=True
        )
        for name, table in schema.TABLES.items()
        if name != schema.PAIRS.name
    }
    # The false discovery rate is that of all taps of a pair of models together: no single task sees them.
    return tables | {name: evidence.with_q(tables[name]) for name in ("correspondence", "correspondence_nulls")}


def _finished(tasks: Sequence[Task], futures: Sequence[Future[Any]]) -> Sequence[Future[Any]]:
    """Return the futures; raise `RunError` for all that failed, naming the first, after every other one has ended."""
    failed = [(task, future) for task, future in zip(tasks, futures, strict=True) if future.status == "error"]
    if failed:
        task, future = failed[0]
        cause = future.exception()
        raise RunError(
            f"{len(failed)} of {len(tasks)} comparisons failed, the first ('{task.name}') with "
            f"{type(cause).__name__}: {cause}; mend the cause and run the job again"
        )
    return futures


def _write(planned: Plan, tables: dict[str, pd.DataFrame], extracted: int, started: float, reporter: Reporter) -> Run:
    """Write tables, figures and report, then the record that says the run is complete."""
    keys = [p.key for p in planned.stores]
    facts = records.facts_of(planned.job, planned.inputs_digest, planned.networks, planned.store, keys)
    record = records.complete_record(facts, planned.store, _entries(planned), extracted, started)
    for name, table in schema.TABLES.items():
        file = runs.write_table(planned.out, table, tables[name], facts)
        record["tables"][file.name] = runs.file_sha256(file)
    finished = Run(planned.out, record)
    folder = planned.out / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    drawn = figures.all_figures(
        finished.similarity, finished.correspondence, finished.families, finished.units, planned.job.drawn()
    )
    advance = reporter.track("figures and report", figures.count(planned.job.drawn(), planned.job.comparison.families))
    for stem, caption, figure in drawn:
        files = figures.save(figure, folder / stem, facts)
        hashes = {file.relative_to(planned.out).as_posix(): runs.file_sha256(file) for file in files}
        record["figures"][stem] = {"caption": caption, "files": hashes}
        advance(1)
    page = report.write(finished)
    record["seconds"] = round(time.time() - started, 1)
    records.finish(planned.out, record | {"report": runs.file_sha256(page)})
    return runs.open_run(planned.out)


def _entries(planned: Plan) -> list[dict[str, Any]]:
    return [
        {
            "model": p.network.card.id, "seed": p.network.seed, "stimuli": p.stimulus_set, "tap": p.tap.name,
            "key": p.key, "weights": p.network.weights, "card_digest": p.network.card.digest(),
        }
        for p in planned.stores
    ]  # fmt: skip
