"""What a job would compute, and what exists already."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from universality import similarity
from universality.activations.layer import LayerRef
from universality.activations.network import Network, Variant
from universality.activations.store import ActivationStore, store_at
from universality.base import html
from universality.base.errors import TapError
from universality.base.paths import DEFAULT_RUNS, DEFAULT_STORE
from universality.base.schema import Table
from universality.base.spec import digest
from universality.jobs.passes import Pass
from universality.jobs.placement import settled
from universality.jobs.results import Results
from universality.jobs.stage import Stage, lacks
from universality.jobs.stages import STAGES, chosen
from universality.jobs.tasks import Inputs, Task
from universality.models.card import Tap
from universality.runs import drawn, provenance, run
from universality.runs.bases import in_bases
from universality.runs.job import Job, read_job
from universality.runs.networks import compared_sets, networks_of, stimulus_sets
from universality.stimuli.framing import Frame

NEURONS = ("act", "act1", "act2", "relu", "gelu", "activation")
"""What modules are called that apply the nonlinearity of a transformer's MLP: their units are neurons."""
DRAWING = ("figures", "report")
"""Folders of the code that draws: a change of it draws again, and computes nothing."""


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
    stages: tuple[Stage, ...]
    inputs: Inputs
    inputs_digest: str

    def tasks(self, stages: Iterable[Stage] | None = None) -> Iterator[Task]:
        """Yield the tasks of some stages (all of the plan when left out), in the order of the tables' rows."""
        for stage in self.stages if stages is None else stages:
            yield from stage.tasks(self.inputs)

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return sum(stage.count(self.inputs) for stage in self.stages)

    @property
    def figures(self) -> int:
        """How many figures are drawn."""
        kinds = [per for stage in self.stages for per in stage.figures.values()]
        return drawn.count(self.job.drawn(), self.job.comparison.families, kinds)

    @property
    def reported(self) -> int:
        """How much the report says: of each family at each layer of each trained network."""
        return len(self.job.comparison.families) * sum(len(n.taps) for n in self.networks if n.trained)

    @property
    def tables(self) -> list[Table]:
        """The tables that the stages make of the job."""
        return [table for stage in self.stages for table in stage.tables_of(self.job)]

    @property
    def table_names(self) -> list[str]:
        """Their names."""
        return [table.name for table in self.tables]

    @property
    def missing(self) -> list[PlannedStore]:
        """Stores that have to be extracted."""
        return [planned for planned in self.stores if not planned.exists]

    @property
    def passes(self) -> list[Pass]:
        """What each network has still to be shown, network by network."""
        grouped: dict[tuple[int, str, Frame | None], list[PlannedStore]] = {}
        for planned in self.missing:
            frame = planned.network.frame(planned.tap)
            grouped.setdefault((id(planned.network), planned.stimulus_set, frame), []).append(planned)
        return [
            Pass(some[0].network, name, frame, tuple(p.tap for p in some)) for (_, name, frame), some in grouped.items()
        ]

    def kept(self) -> int:
        """Return of how many tasks the results are kept."""
        listed = Results(self.store.location).listed()
        return sum(1 for task in self.tasks() if task.kept(listed)) if listed else 0

    def left(self) -> list[float]:
        """Return for each stage which share of its tasks is left to compute; of a task with parts, which share of these."""
        listed = Results(self.store.location).listed()
        if not listed:
            return [1.0] * len(self.stages)
        shares = [
            [sum(key not in listed for key in task.keys.values()) / len(task.keys) for task in stage.tasks(self.inputs)]
            for stage in self.stages
        ]
        return [sum(of) / len(of) if of else 1.0 for of in shares]

    @property
    def tables_exist(self) -> bool:
        """Whether the run directory holds undamaged tables, figures and report of exactly these inputs."""
        record = run.read_record(self.out)
        if record is None or record["status"] != "complete" or record["inputs_digest"] != self.inputs_digest:
            return False
        return next(run.problems(self.out, record), None) is None

    @property
    def drawn(self) -> bool:
        """Whether the code that drew the directory's figures and report is today's."""
        record = run.read_record(self.out) or {}
        return record.get("drawn_by") == provenance.source_digest(*DRAWING)

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
        """One sentence for every tap that is shown a part of its scenes only or is left out, and for twins that are no null."""
        trained = [n for n in self.networks if n.trained]
        found = [(n, t, n.scene(t).shown) for n in trained for t in n.taps if n.scene(t).shown < 1]
        judges = ", ".join(stage.name for stage in self.stages if not stage.of_layers)
        left_out = [
            f"'{tap.name}' of '{network.card.id}' has no receptive field to scale scenes to, so it is shown whole images and left out "
            f"of {judges}; models.scene_px states a side for it"
            for network in (trained if judges else ())
            for tap in network.taps
            if not network.judged(tap)
        ]
        stream = [
            f"'{tap.name}' of '{network.card.id}' holds tokens that are not read after a nonlinearity, so its units are no privileged basis and no features to look for; "
            "name the tap of the MLP's neurons (such as blocks.3.mlp.act), or set basis = 'sae'"
            for network in (trained if judges and self.job.basis == "units" else ())
            for tap in network.taps
            if tap.kind == "tokens" and tap.path.rpartition(".")[2] not in NEURONS
        ]
        void = [f"'{n.card.id}': {n.card.void_twin[:-1]}" for n in trained if n.card.void_twin]
        weights = [f"'{n.card.id}': {text}" for n in trained for text in n.card.weight_notes]
        return [*weights, *left_out, *stream, *void] + [
            f"the receptive field of '{tap.name}' of '{network.card.id}' ({tap.rf_px} px) reaches beyond the input "
            f"({network.card.preprocessing.canvas_px} px): {shown:.0%} of the side of each scene is shown"
            for network, tap, shown in found
        ]

    def _repr_html_(self) -> str:
        """Return what would be computed and what exists, for a notebook."""
        table, missing = self.table().round({"disk_mb": 1}), len(self.missing)
        tables = "exist" if self.tables_exist else "are to be made"
        return "".join(
            (
                html.heading(self.job.name),
                html.paragraph(self.job.question),
                html.table([str(name) for name in table], table.itertuples(index=False, name=None)),
                html.items(self.warnings),
                html.paragraph(
                    f"{missing} of {len(self.stores)} activation stores to extract, {self.n_tasks} tasks of {len(self.stages)} stages ({self.kept()} kept); "
                    f"tables, figures and report {tables} in {self.out}."
                ),
            )
        )


def plan(
    job_path: str | Path | Job,
    out: str | Path | None = None,
    store: str | Path | None = None,
    *,
    only: Iterable[str] | None = None,
    without: Iterable[str] | None = None,
) -> Plan:
    """Return what a job would compute and what exists already. Nothing is written.

    The device ``auto`` is settled on what this process has; `run` asks the workers.

    Parameters
    ----------
    job_path : path or Job
        The job's TOML file, or the job itself.
    out, store : path, optional
        Run directory (default ``data/runs/NAME``) and folder or URL of the activation stores (default ``data/store``).
    only, without : names of stages, optional
        Instead of what the job's ``[stages]`` says. With `only`, stages that the directory holds of this job stay in it.

    Examples
    --------
    >>> from universality.runs.job import Job
    >>> job = Job.model_validate({
    ...     "name": "two",
    ...     "models": [{"id": "pocket/alexnet-focus-s0", "taps": ["features.9"]}, {"id": "pocket/vgg-focus-s0", "taps": ["features.13"]}],
    ...     "extraction": {"reduction": "center"},
    ... })
    >>> planned = plan(job, store="memory://example")
    >>> len(planned.networks), len(planned.missing) == len(planned.stores)
    (4, True)
    """
    job = settled(job_path if isinstance(job_path, Job) else read_job(Path(job_path)))
    for measure in job.comparison.measures:
        similarity.comparator(measure)
    directory = Path(out) if out is not None else Path(DEFAULT_RUNS) / job.name
    stages = _stages(job, directory, only, without)
    networks = tuple(networks_of(job))
    for network in networks:
        for name, tap in itertools.product(stimulus_sets(job), network.taps):
            network.refuse(name, tap)
    _refuse_unjudged(networks, stages)
    stores = store_at(store, DEFAULT_STORE)
    planned = tuple(
        PlannedStore(network, name, tap, key, stores.has(key))
        for network in networks
        for name in stimulus_sets(job)
        for tap in network.taps
        for key in [network.key(name, tap).name]
    )
    made_of = [
        job.digest(), [p.key for p in planned], [n.card.digest() for n in networks], [(s.name, s.version) for s in stages],
        provenance.package_versions(),
    ]  # fmt: skip
    layers = in_bases(job, _layers(planned, stores, compared_sets(job)))
    inputs = Inputs(job, layers, {(n.card.id, n.variant): n for n in networks})
    return Plan(job, directory, stores, networks, planned, tuple(stages), inputs, digest(made_of))


def _refuse_unjudged(networks: Sequence[Network], stages: Sequence[Stage]) -> None:
    """Raise `TapError` where no tap of a model takes part in stages that need scenes."""
    judges = [stage.name for stage in stages if not stage.of_layers]
    for network in networks:
        if judges and not any(network.judged(tap) for tap in network.taps):
            raise TapError(
                f"no tap of '{network.card.id}' has a receptive field, expected one at least under the policy same_receptive_field for the "
                f"stages {', '.join(judges)}; set stimuli.policy = 'same_field_of_view', state models.scene_px, or run --only similarity"
            )


def _stages(job: Job, directory: Path, only: Iterable[str] | None, without: Iterable[str] | None) -> list[Stage]:
    """Return the stages to run: those asked for, else the job's; with `only` also those that the directory has of this job."""
    lacking = lacks(job)
    if only is None and without is None:
        return chosen(job.stages.only, job.stages.without, lacking)
    wanted = chosen(only, without or (), lacking)
    record = run.read_record(directory) if only is not None else None
    if record is None or record["status"] != "complete" or record["job_digest"] != job.digest():
        return wanted
    names = {stage.name for stage in wanted} | record.get("stages", {}).keys()
    return [stage for name, stage in STAGES.items() if name in names]


def _layers(
    planned: Sequence[PlannedStore], store: ActivationStore, compared: tuple[str, ...]
) -> dict[tuple[str, Variant], list[LayerRef]]:
    """Return every network's layers: where each tap's activations for the sets that are compared lie."""
    stores: dict[tuple[int, str], dict[str, str]] = {}
    found: dict[tuple[str, Variant], list[LayerRef]] = {}
    for p in planned:
        network, tap = p.network, p.tap
        if (id(network), tap.name) not in stores:
            stores[id(network), tap.name] = {}
            scene, of_tap = network.scene(tap), stores[id(network), tap.name]
            layer = LayerRef(network.card.id, network.seed, tap, store.location, of_tap, scene, network.copy_r)
            found.setdefault((network.card.id, network.variant), []).append(layer)
        if p.stimulus_set in compared:
            stores[id(network), tap.name][p.stimulus_set] = p.key
    return found
