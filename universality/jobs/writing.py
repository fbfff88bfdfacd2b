"""Tables, figures, report and the record of a run, written in the order in which a reader may believe them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd

from universality import figures, origin, records, report, runs, schema
from universality.errors import RunError
from universality.jobs.planning import Plan
from universality.jobs.progress import Reporter
from universality.records import Started
from universality.runs import Run


def write(planned: Plan, tables: dict[str, pd.DataFrame], extracted: int, started: Started, reporter: Reporter) -> Run:
    """Write tables (each of which is taken out of `tables`), figures and report, then the record that says the run is complete."""
    keys = [p.key for p in planned.stores]
    facts = records.facts_of(planned.job, planned.inputs_digest, planned.networks, planned.store, keys)
    _remove_stale_joint(planned.out, facts, reporter)
    record = records.complete_record(facts, planned.store, _entries(planned), extracted, started)
    for name, table in schema.TABLES.items():
        # What is written is read from the file: a large table is not held twice.
        file = runs.write_table(planned.out, table, tables.pop(name), facts)
        record["tables"][file.name] = runs.file_sha256(file)
    finished = Run(planned.out, record)
    folder = planned.out / "figures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    drawn = figures.all_figures(
        finished.similarity, finished.correspondence, finished.families, finished.units,
        planned.job.drawn(), planned.job.matched_by(),
    )  # fmt: skip
    advance = reporter.track("figures and report", figures.count(planned.job.drawn(), planned.job.comparison.families))
    for stem, caption, figure in drawn:
        files = figures.save(figure, folder / stem, facts, kind=stem.split("__")[0], caption=caption)
        hashes = {file.relative_to(planned.out).as_posix(): runs.file_sha256(file) for file in files}
        record["figures"][stem] = {"caption": caption, "files": hashes}
        advance(1)
    page = report.write(finished)
    record["seconds"] = round(time.monotonic() - started.monotonic_s, 1)
    records.finish(planned.out, record | {"report": runs.file_sha256(page)})
    return runs.open_run(planned.out)


def _remove_stale_joint(out: Path, facts: origin.Facts, reporter: Reporter) -> None:
    """Remove a table ``joint`` that another command wrote beside tables which are not those written now."""
    file = out / f"{schema.JOINT.name}.parquet"
    if not file.is_file():
        return
    try:
        if origin.as_text(origin.provenance(file)) == origin.as_text(facts):
            return
    except RunError:
        pass  # It cannot be read, so nobody knows what it belongs to.
    file.unlink()
    reporter.say(
        f"removed '{file}', which belonged to the tables before; universality detectors {out} --joint writes it"
    )


def _entries(planned: Plan) -> list[dict[str, Any]]:
    return [
        {
            "model": p.network.card.id, "seed": p.network.seed, "stimuli": p.stimulus_set, "tap": p.tap.name,
            "key": p.key, "weights": p.network.weights, "card_digest": p.network.card.digest(),
        }
        for p in planned.stores
    ]  # fmt: skip
