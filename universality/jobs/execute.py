"""From a job to tables, figures and a report: plan, extract what is missing, compare with Dask, write.

Paths travel to the workers, not arrays: a task is given the folder of the stores and the names of the keys.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import itertools
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from distributed import Client, Future, LocalCluster, as_completed, get_client
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from threadpoolctl import threadpool_limits

from universality import comparators, correspondence, evidence, extraction, figures, report, runs, schema, stimuli
from universality.comparison import Layer, LayerRef, NullPlan, load_layer, similarity_rows
from universality.errors import JobError, RunError, StoreError
from universality.networks import Network, networks_of, stimulus_sets
from universality.runs import Run
from universality.spec import Job, Tap, digest, read_job
from universality.stimuli import Frame
from universality.store import ActivationStore

DEFAULT_RUNS = "data/runs"
DEFAULT_STORE = "data/store"
LOCK = ".lock"
WORKER_TIMEOUT_S = 30
PACKAGES = (
    "dask", "distributed", "numpy", "pandas", "scikit-image", "scikit-learn", "scipy", "timm", "torch", "torchvision",
    "xarray", "zarr",
)  # fmt: skip


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
        try:
            runs.check_tables(self.out, record)
        except RunError:
            return False
        return (self.out / "report.html").is_file() and any((self.out / "figures").glob("*.png"))

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
            f"the receptive field of '{tap.name}' of '{network.card.id}' ({tap.rf_px} px) exceeds the input "
            f"({network.card.preprocessing.size_px} px): {shown:.0%} of the side of each scene is shown"
            for network, tap, shown in found
        ]


@dataclass(frozen=True)
class Task:
    """One Dask task: a name made of its content, and a function of paths and plain values."""

    name: str
    function: Callable[..., dict[str, pd.DataFrame]]
    arguments: tuple[Any, ...]


def plan(job_path: str | Path, out: str | Path | None = None, store: str | Path | None = None) -> Plan:
    """Return what a job would compute and what exists already. Nothing is written.

    Parameters
    ----------
    job_path : path
        The job's TOML file.
    out, store : path, optional
        Run directory (default ``data/runs/NAME``) and folder of the activation stores (default ``data/store``).
    """
    job = read_job(Path(job_path))
    for measure in job.comparison.measures:
        comparators.require(measure)
    networks = tuple(networks_of(job))
    for network in networks:
        for name, tap in itertools.product(stimulus_sets(job), network.taps):
            network.refuse(name, tap)
    # Workers may run in another folder: absolute paths name the same place for all of them.
    stores = ActivationStore(Path(store or DEFAULT_STORE).absolute())
    planned = tuple(
        PlannedStore(network, name, tap, key, stores.has(key))
        for network in networks
        for name in stimulus_sets(job)
        for tap in network.taps
        for key in [network.key(name, tap).name]
    )
    directory = Path(out) if out is not None else Path(DEFAULT_RUNS) / job.name
    inputs = digest([job.plain(), [p.key for p in planned], [n.card.digest() for n in networks], code_digest()])
    return Plan(job, directory, stores, networks, planned, _tasks(job, networks, stores), inputs)


@functools.cache
def code_digest() -> str:
    """Return the digest of the package's own source files: results of other code are not up to date."""
    root = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


def run(
    job_path: str | Path,
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
    job_path : path
        The job's TOML file.
    out : path, optional
        Run directory, by default ``data/runs/NAME``.
    store : path, optional
        Folder of the activation stores, by default ``data/store``; jobs may share it.
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
    with _claimed(planned):
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
        # From here on until the end, what lies in the directory belongs to no finished run.
        _mark_started(planned)
        with _cannot_be_written(planned.out):
            return _write(planned, tables, extracted, started, reporter)


@contextmanager
def _claimed(planned: Plan) -> Iterator[None]:
    """Hold the run directory for this run; refuse one of another job, of another run that goes on, or of other files."""
    out = planned.out
    record = runs.read_record(out)
    job_digest = planned.job.digest()
    if record is not None and record["job_digest"] != job_digest:
        raise RunError(
            f"run directory '{out}' belongs to another job ('{record['job'].get('name', '?')}', digest "
            f"{record['job_digest'][:12]}, this one {job_digest[:12]}); give another folder with --out or delete it"
        )
    if planned.store.root.exists() and not planned.store.root.is_dir():
        raise StoreError(f"store '{planned.store.root}' is a file, expected a folder; give another with --store")
    with ExitStack() as stack:
        with _cannot_be_written(out):
            if record is None and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
                raise RunError(f"'{out}' holds files but is no run directory; give an empty or new folder with --out")
            out.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((out / LOCK).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"run directory '{out}' is in use by another run; wait for it or give another with --out"
            ) from None
        if record is None:
            _mark_started(planned)
        yield


def _mark_started(planned: Plan) -> None:
    """Record that the directory's tables are not to be believed (yet)."""
    with _cannot_be_written(planned.out):
        job = planned.job
        runs.write_record(planned.out, {"status": "started", "job_digest": job.digest(), "job": job.plain()})


@contextmanager
def _cannot_be_written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise RunError(
            f"run directory '{out}' cannot be written: {cause.strerror or cause}; give another with --out"
        ) from None


def _verified(
    planned: Plan,
    job_path: str | Path,
    out: str | Path | None,
    store: str | Path | None,
    repair: bool,
    reporter: Reporter,
) -> Plan:
    """Compare the existing stores with their checksums; set damaged ones aside if asked to, else raise."""
    damaged = 0
    for entry in planned.stores:
        if not planned.store.path(entry.key).exists():
            continue
        try:
            planned.store.verify(entry.key)
        except StoreError as error:
            if not repair:
                raise
            aside = planned.store.set_aside(entry.key)
            reporter.say(
                f"set a damaged store of {entry.network.label}, {entry.tap.name} aside as '{aside.name}': {error}"
            )
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
                    {**network.provenance(name, tap), "packages": package_versions()},
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
    matching = correspondence.MatchingPlan(
        job.comparison.matching, job.comparison.bootstraps, job.comparison.permutations, nulls
    )
    refs = {(n.card.id, n.seed): [_reference(n, tap, store, stimulus_sets(job)) for tap in n.taps] for n in networks}
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
        for layer_a in refs[a, None]:
            tasks.append((correspondence_task, (layer_a, refs[b, None], twins[1], matching)))
    return tuple(
        Task(f"{function.__name__}-{digest([code_digest(), repr(arguments)])[:32]}", function, arguments)
        for function, arguments in tasks
    )


def _reference(network: Network, tap: Tap, store: ActivationStore, sets: Sequence[str]) -> LayerRef:
    stores = {name: network.key(name, tap).name for name in sets}
    return LayerRef(network.card.id, network.seed, tap, str(store.root), stores, network.scene(tap))


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
    a: LayerRef, b: Sequence[LayerRef], twins_b: Sequence[Sequence[LayerRef]], matching: correspondence.MatchingPlan
) -> dict[str, pd.DataFrame]:
    """Return the rows of ``correspondence`` for one layer of a network with all layers of another.

    `twins_b` holds, for each untrained seed, the same layers of the twin.
    """
    layer_a = load_layer(a)
    parts = [
        correspondence.correspondence_rows(layer_a, load_layer(ref), [load_layer(t[place]) for t in twins_b], matching)
        for place, ref in enumerate(b)
    ]
    return {"correspondence": pd.concat(parts, ignore_index=True)}


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
    }
    # The false discovery rate is that of all taps of a pair of models together: no single task sees them.
    return tables | {"correspondence": evidence.with_q(tables["correspondence"])}


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
    files = [runs.write_table(planned.out, table, tables[name]) for name, table in schema.TABLES.items()]
    record = _record(planned, files, extracted, started)
    finished = Run(planned.out, record)
    folder = planned.out / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    captions = {}
    drawn = figures.all_figures(
        finished.similarity, finished.correspondence, finished.families, finished.units, planned.job.drawn()
    )
    advance = reporter.track("figures and report", figures.count(planned.job.drawn(), planned.job.comparison.families))
    for stem, caption, figure in drawn:
        figures.save(figure, folder / stem)
        captions[stem] = caption
        advance(1)
    record["seconds"] = round(time.time() - started, 1)
    (planned.out / "report.html").write_text(report.render(finished, captions), encoding="utf-8")
    runs.write_record(planned.out, record)
    return runs.open_run(planned.out)


def _record(planned: Plan, files: Sequence[Path], extracted: int, started: float) -> dict[str, Any]:
    return {
        "status": "complete",
        "job": planned.job.plain(),
        "job_digest": planned.job.digest(),
        "inputs_digest": planned.inputs_digest,
        "store": str(planned.store.root),
        "stores": [
            {
                "model": p.network.card.id, "seed": p.network.seed, "stimuli": p.stimulus_set, "tap": p.tap.name,
                "key": p.key, "weights": p.network.weights, "card_digest": p.network.card.digest(),
            }
            for p in planned.stores
        ],
        "extracted_stores": extracted,
        "tables": {file.name: runs.file_sha256(file) for file in files},
        "code": {"version": package_version(), "source_digest": code_digest()},
        "packages": package_versions(),
        "machine": {
            "python": platform.python_version(), "system": platform.platform(), "device": "cpu",
            "torch_threads": torch.get_num_threads(), "cores": os.cpu_count(),
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started_unix": round(started, 1),
    }  # fmt: skip


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("universality")
    except PackageNotFoundError:
        return "not installed"


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide numbers."""
    return {name: version(name) for name in PACKAGES}
