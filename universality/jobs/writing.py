"""Tables, figures, report and the record of a run, written in the order in which a reader may believe them."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, Future

from universality import figures, report
from universality.base.progress import Reporter
from universality.figures import Drawing
from universality.jobs.planning import DRAWING, Plan
from universality.jobs.scheduling import watching
from universality.jobs.seconds import Spent
from universality.jobs.stages import STAGES
from universality.jobs.tasks import Tables
from universality.models import catalogue
from universality.runs import provenance, run
from universality.runs.record import Started, complete_record, facts_of, finish
from universality.runs.run import Run

FORMATS = (".png", ".pdf")
"""Of the figures that a run draws: for its report and for a paper."""


def write(
    planned: Plan,
    tables: Tables,
    extracted: int,
    started: Started,
    opened: Callable[[], Client],
    spent: Spent,
    reporter: Reporter,
) -> Run:
    """Write tables (each of which is taken out of `tables`), figures and report, then the record that says the run is complete."""
    keys = [p.key for p in planned.stores]
    facts = facts_of(
        planned.job,
        planned.inputs_digest,
        planned.networks,
        planned.store,
        keys,
        {stage.name: stage.version for stage in planned.stages},
    )
    record = complete_record(facts, planned.store, _entries(planned), extracted, started)
    # Who opens the run elsewhere has no card of a module in hand.
    record["in_hand"] = {n.card.id: n.card.plain() for n in planned.networks if n.card.id in catalogue.IN_HAND}
    _remove_others(planned, reporter)
    with spent.clocked("written tables", len(planned.table_names)):
        for table in planned.tables:
            # What is written is read from the file: a large table is not held twice.
            file = run.write_table(planned.out, table, tables.pop(table.name), facts)
            record["tables"][file.name] = run.file_sha256(file)
    record["seconds"] = round(time.monotonic() - started.monotonic_s, 1)
    return draw(planned, record, opened, spent, reporter)


def draw(planned: Plan, record: dict[str, Any], opened: Callable[[], Client], spent: Spent, reporter: Reporter) -> Run:
    """Draw figures and report of the tables that the record names, and write the record as that of a complete run."""
    begun = time.monotonic()
    finished, facts = Run(planned.out, record), record["provenance"]
    folder = planned.out / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    kinds = [kind for stage in planned.stages for kind in stage.figures]
    pairs, families = planned.job.drawn(), planned.job.comparison.families
    advance = reporter.track("figures and report", planned.figures)
    every = figures.drawings(figures.Tables(finished), pairs, planned.job.matched_by(), families, kinds)
    captions = {}
    for drawing, contents in _drawn(every, facts, opened, spent):
        captions[drawing.stem] = {
            "caption": drawing.caption,
            "files": write_figure(planned.out, drawing.stem, contents),
        }
        advance(1)
    record["figures"] = {stem: captions[stem] for stem in sorted(captions)}
    with spent.clocked("report", planned.reported):
        page = report.write(finished, each=lambda work, values: _each(work, values, opened, spent))
    record["timings"] = record.get("timings", {}) | spent.plain()
    record["drawn_by"] = provenance.source_digest(*DRAWING)
    record["seconds"] = round(record["seconds"] + time.monotonic() - begun, 1)
    finish(planned.out, record | {"report": run.file_sha256(page)})
    return run.open_run(planned.out)


def _drawn(
    drawings: Iterable[Drawing], facts: provenance.Facts, opened: Callable[[], Client], spent: Spent
) -> Iterator[tuple[Drawing, dict[str, bytes]]]:
    """Yield every figure with its files' contents, as they are drawn by the workers."""
    for drawing, (contents, seconds) in _shared_out("draw", partial(draw_task, facts=facts), drawings, opened):
        spent.add("figures", 1.0, seconds)
        yield drawing, contents


def _each(work: Callable[[Any], Any], values: Iterable[Any], opened: Callable[[], Client], spent: Spent) -> list[Any]:
    """Return what `work` makes of each value, in their order: the report's pieces."""
    numbered = list(enumerate(values))
    made = {}
    for (number, _), (result, seconds) in _shared_out("report", partial(_piece, work), numbered, opened):
        spent.add("report", 0.0, seconds)
        made[number] = result
    return [made[number] for number, _ in numbered]


def _piece(work: Callable[[Any], Any], numbered: tuple[int, Any]) -> tuple[Any, float]:
    started = time.thread_time()
    return work(numbered[1]), time.thread_time() - started


def _shared_out(
    name: str, work: Callable[[Any], Any], values: Iterable[Any], opened: Callable[[], Client]
) -> Iterator[tuple[Any, Any]]:
    """Yield every value with what `work` makes of it, as the workers are done with it."""
    waiting = iter(values)
    under_way: dict[Future[Any], Any] = {}
    with watching(opened()) as watch:
        while True:
            for value in itertools.islice(waiting, max(2 * watch.threads() - len(under_way), 0)):
                future = watch.submit(name, work, value, retries=1)
                watch.pending.add(future)
                under_way[future] = value
            if not under_way:
                return
            for future in watch.ended():
                outcome = watch.outcome(future)
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is not None:
                    yield under_way.pop(future), outcome


def draw_task(drawing: Drawing, facts: provenance.Facts) -> tuple[dict[str, bytes], float]:
    """Return the contents of a figure's files by suffix (PNG for the report, PDF for a paper), and its processor seconds."""
    started, figure = time.thread_time(), drawing.figure()
    contents = {
        suffix: figures.encoded(figure, suffix, facts, kind=drawing.kind, caption=drawing.caption) for suffix in FORMATS
    }
    return contents, time.thread_time() - started


def write_figure(out: Path, stem: str, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write a figure's files; return the checksum of each by its name in the run's directory."""
    sums = {}
    for suffix, content in contents.items():
        name = f"figures/{stem}{suffix}"
        (out / name).write_bytes(content)
        sums[name] = hashlib.sha256(content).hexdigest()
    return sums


def _remove_others(planned: Plan, reporter: Reporter) -> None:
    """Remove the tables of stages that the run has no more: they belong to other inputs, or were left out."""
    wanted = planned.table_names
    for stage in STAGES.values():
        for table in stage.tables_of(planned.job):
            file = planned.out / f"{table.name}.parquet"
            if table.name not in wanted and file.is_file():
                file.unlink()
                reporter.say(f"removed '{file}': the stage '{stage.name}' is left out")
    for file in (planned.out / "ledger.parquet", planned.out / "ledger.csv"):
        if file.is_file():
            file.unlink()
            reporter.say(
                f"removed '{file}': claims were held against other tables; universality ledger RUN does it again"
            )


def _entries(planned: Plan) -> list[dict[str, Any]]:
    return [
        {
            "model": p.network.card.id, "seed": p.network.seed, "stimuli": p.stimulus_set, "tap": p.tap.name,
            "key": p.key, "weights": p.network.weights, "card_digest": p.network.card.digest(),
            **({} if p.network.copy_r is None else {"copy_r": p.network.copy_r}),
        }
        for p in planned.stores
    ]  # fmt: skip
