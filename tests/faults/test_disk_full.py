"""The disk is full at every stage of a job: one sentence with the place and the remedy, and with room the job goes on."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import apart
import pytest
import tiny
from kill import kept

FOLDER = "universality.activations.places.folder"
STAGES = {
    "claim": ("universality.runs.record:mark_started", 1, "run"),
    "shard": ("universality.jobs.shards:Shards.write", 3, "store"),
    "store": ("universality.activations.store:StoreWriter._write", 2, "store"),
    "store's commit": (f"{FOLDER}:_FolderDraft.commit", 2, "store"),
    "result": ("universality.jobs.results:Results.write", 2, "store"),
    "table": ("universality.runs.run:write_table", 3, "run"),
    "figure": ("universality.jobs.writing:write_figure", 2, "run"),
    "report": ("universality.report:write", 1, "run"),
    "record": ("universality.jobs.writing:finish", 1, "run"),
}
"""Stage: before which call the disk is full, and what its sentence names."""
TWICE = ("store", "table", "record")
"""Stages at which both ways of being full are tried, where the system allows to mount a small disk; else files may not grow."""


@dataclass(frozen=True)
class Full:
    """A job on a full disk: how it ended, and how many shards or stores and results were there afterwards."""

    end: apart.End
    stores: int
    results: int


def fill_up(folder: Path) -> dict:
    """Run one job that finds the disk full at one stage after another, then with room; return how each run ended."""
    tiny.draw_blanks(2)  # the second of them finds the disk full
    job = tiny.write_job(folder / "job")
    place = folder / "place"
    place.mkdir()
    refused = apart.small_disk(place, 16)
    found: dict = {"refused": refused}
    run = ("run", job, "--out", place / "run", "--store", place / "store", "--threads", "1")
    for stage, (where, number, _) in STAGES.items():
        for how in ("limit",) if refused else ("small disk", "limit") if stage in TWICE else ("small disk",):
            action = apart.nothing_more_fits if how == "limit" else lambda: apart.fill(place)
            end = apart.command(*run, before=apart.at_call(where, number, action))
            (place / "filler").unlink(missing_ok=True)
            shards, stores, results = kept(place, job)
            found[stage, how] = Full(end, shards + stores, results)
    found["with room"] = apart.command(*run)
    found["tables"] = tiny.table_hashes(place / "run")
    found["drafts"] = [str(path) for path in place.rglob("*") if "draft-" in path.name or "partial-" in path.name]
    return found


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return apart.alone(fill_up, tmp_path_factory.mktemp("full"))


def ends_at(full, stage: str) -> list[Full]:
    return [full[stage, how] for how in ("small disk", "limit") if (stage, how) in full]


@pytest.mark.parametrize("stage", STAGES)
def test_one_sentence_names_the_place_and_the_remedy(full, stage, record_property):
    ends = ends_at(full, stage)
    record_property("cases", len(ends))
    assert len(ends) == (1 if full["refused"] or stage not in TWICE else 2)
    for state in ends:
        assert apart.is_sentence(state.end, "cannot be written", "free space", f"place/{STAGES[stage][2]}"), state.end


def test_what_is_finished_is_kept(full):
    states = [state for state in full.values() if isinstance(state, Full)]
    for before, after in itertools.pairwise(states):
        assert after.results >= before.results
        assert after.stores >= min(before.stores, 12)  # shards are deleted when their store is written
    assert states[0].stores == 0
    shard, result, table = (ends_at(full, stage)[0] for stage in ("shard", "result", "table"))
    assert shard.stores > 0
    assert 0 < result.results < table.results


def test_with_room_the_tables_are_those_of_an_undisturbed_run(full, done):
    assert full["with room"].status == 0, full["with room"]
    assert full["tables"] == tiny.table_hashes(done / "run")
    assert full["drafts"] == []
