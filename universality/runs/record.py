"""How a run claims its directory, and what it writes there about where its numbers come from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from universality.activations.network import Network
from universality.activations.store import ActivationStore
from universality.base import locks
from universality.base.errors import RunError, RunInUseError
from universality.base.spec import sealed
from universality.runs import provenance, run
from universality.runs.job import Job
from universality.runs.networks import stimulus_sets
from universality.runs.provenance import RECORD, Facts
from universality.stimuli import sets

LOCK = ".lock"


@dataclass(frozen=True)
class Started:
    """When a run began: by the clock on the wall, and by one that never jumps (s), from which its duration is taken."""

    unix_s: float
    monotonic_s: float


@contextmanager
def claimed(out: Path, job: Job, store: ActivationStore, tables: Sequence[str]) -> Iterator[None]:
    """Hold a run directory and its store for a run; refuse one of another job, of a run that goes on, or of other files.

    If an error comes out before anything but the claim was written, a new directory is removed again.

    Raises
    ------
    RunError
        The directory cannot be claimed.
    StoreError
        The store is a file, cannot be reached, or is being cleaned.
    """
    record = run.read_record(out)
    if record is not None and record["job_digest"] != job.digest():
        raise RunError(
            f"run directory '{out}' belongs to another job ('{record['job'].get('name', '?')}', digest "
            f"{record['job_digest'][:12]}, this one {job.digest()[:12]}); give another folder with --out or delete it"
        )
    store.check()
    with ExitStack() as stack:
        with cannot_be_written(out):
            if record is None and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
                raise RunError(f"'{out}' holds files but is no run directory; give an empty or new folder with --out")
            made = _make(out)
            try:
                stack.enter_context(locks.held(out / LOCK))
            except BlockingIOError:
                raise RunInUseError(
                    f"run directory '{out}' is in use by another run; wait for it or give another with --out"
                ) from None
        try:
            with store.in_use(out):
                if record is None:
                    mark_started(out, job, tables)
                yield
        except BaseException:
            if record is None:
                _unmake(out, made)
            raise


def _make(folder: Path) -> list[Path]:
    """Make a folder; return what was made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(out: Path, made: Sequence[Path]) -> None:
    """Remove the claim of a run that wrote nothing else."""
    with suppress(OSError):
        if all(path.name in (RECORD, LOCK) for path in out.iterdir()):
            for name in (RECORD, LOCK):
                (out / name).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


def mark_started(out: Path, job: Job, tables: Sequence[str]) -> None:
    """Record that the directory's tables are not to be believed (yet), and which will be written."""
    with cannot_be_written(out):
        started = round(time.time(), 1)
        run.write_record(
            out,
            {"status": "started", "job_digest": job.digest(), "job": job.plain(), "code": provenance.code(),
             "started_unix": started, "writes": [f"{name}.parquet" for name in tables]},
        )  # fmt: skip


@contextmanager
def cannot_be_written(out: Path) -> Iterator[None]:
    """Turn an error of the system into one sentence about the run directory."""
    try:
        yield
    except OSError as cause:
        raise RunError(
            f"run directory '{out}' cannot be written: {cause.strerror or cause}; free space or give another folder with --out"
        ) from None


def facts_of(
    job: Job,
    inputs_digest: str,
    networks: Sequence[Network],
    store: ActivationStore,
    keys: Sequence[str],
    stages: Mapping[str, int],
) -> Facts:
    """Return where a run's numbers come from, as `provenance.provenance` gives it: nothing of it changes from run to run."""
    models: dict[str, Any] = {}
    for network in networks:
        model = models.setdefault(network.card.id, {"card_digest": network.card.digest(), "untrained": {}})
        if network.copy_r is not None:
            model.setdefault("noisy_copies", {})[f"{network.copy_r:g}"] = network.weights
        elif network.seed is None:
            model["weights"] = network.weights
            if network.card.weight_notes:
                model["weight_notes"] = network.card.weight_notes
        else:
            model["untrained"][str(network.seed)] = network.weights
    extracted, void = _extracted_with(store, keys)
    for model, why in void.items():
        models[model]["void_twin"] = why
    return {
        "job": job.plain(),
        "job_digest": job.digest(),
        "inputs_digest": inputs_digest,
        "code": provenance.code(),
        "packages": provenance.package_versions(),
        "python": provenance.machine()["python"],
        "models": models,
        "stimuli": {name: sets.stimulus_digest(name, job.stimuli) for name in stimulus_sets(job)},
        "seeds": {"job": job.seed, "untrained": list(job.nulls.untrained_seeds)},
        "extraction": extracted,
        "comparison": {"device": "cpu", "threads": 1},
        "stages": dict(stages),
        "command": "universality run JOB",
    }


def _extracted_with(store: ActivationStore, keys: Sequence[str]) -> tuple[list[Facts], dict[str, str]]:
    """Return every packages, device, threads and processors that the stores were made with: older ones may differ from today's.

    And by model, why its untrained twin is no null, where a store of one says so.
    """
    found, void = {}, {}
    for key in dict.fromkeys(keys):
        attributes = store.attributes(key)
        made = {name: attributes.get(name) for name in ("device", "packages", "threads")}
        made |= {name: attributes[name] for name in ("processors", "gpus", "batch_size") if name in attributes}
        found[provenance.as_text(made)] = made
        if attributes.get("void_twin"):
            void[str(attributes["model"])] = str(attributes["void_twin"])
    return [found[text] for text in sorted(found)], void


def _devices(facts: Facts | list[Facts]) -> list[str]:
    """Return the devices of a stage, each once."""
    return sorted({str(made["device"]) for made in (facts if isinstance(facts, list) else [facts])})


def complete_record(
    facts: Facts, store: ActivationStore, entries: Sequence[dict[str, Any]], extracted: int, started: Started
) -> dict[str, Any]:
    """Return the record of a run whose comparisons are done; tables, figures and report are added as they are written."""
    return {
        "status": "complete",
        "provenance": facts,
        **{name: facts[name] for name in ("job", "job_digest", "inputs_digest", "code", "packages", "stages")},
        "store": store.location,
        "stores": list(entries),
        "extracted_stores": extracted,
        "tables": {},
        "figures": {},
        "machine": provenance.machine(),
        "devices": {stage: _devices(facts[stage]) for stage in ("extraction", "comparison")},
        "command": provenance.command(),
        "started_unix": round(started.unix_s, 1),
    }


def finish(out: Path, record: dict[str, Any]) -> None:
    """Write the record, with a digest of its own, as the last file of a run."""
    run.write_record(out, sealed(record))
