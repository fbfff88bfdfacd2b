"""What a plan says it will need, beside what it needed."""

import re
import shutil
from types import SimpleNamespace

import fsspec
import pyarrow.parquet as pq
import pytest

import universality
from universality.base.errors import StoreError
from universality.jobs import comparisons, estimates, recent, rehearsal
from universality.jobs.table_sizes import COPIES, row_bytes, rows, table_sizes
from universality.runs.tables import TABLES


@pytest.fixture
def fresh(small, tmp_path):
    return universality.plan(small.job, tmp_path / "run", tmp_path / "store")


def test_disk_is_within_a_factor_of_what_was_written(small, fresh):
    written = sum(
        path.stat().st_size for folder in (small.store, small.out) for path in folder.rglob("*")
        if path.is_file()
    )  # fmt: skip
    needed = estimates.disk(fresh)
    assert needed.expected / 1.5 < written < needed.expected * 1.5
    assert written < needed.most


def test_finished_job_needs_no_stores(small):
    done = universality.plan(small.job, small.out, small.store)
    written = estimates.FIGURE_BYTES * estimates._drawn(done) + estimates.REPORT_BYTES
    assert estimates.disk(done).most == written + int(estimates.PARQUET * table_sizes(done).nbytes)


def test_finished_job_is_opened_on_a_full_disk(small, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert universality.run(small.job, small.out, store=small.store).path == small.out


def test_tables_have_the_rows_that_were_planned(small, fresh):
    run, expected, most = universality.open_run(small.out), rows(fresh), rows(fresh, at_most=True)
    for name, count in expected.items():
        written = len(getattr(run, name))
        if name.startswith("correspondence"):
            assert written <= most[name]
        else:
            assert written == count


def test_at_most_every_draw_of_the_nulls_has_a_row_for_every_unit(fresh):
    job = fresh.job.model_copy(
        update={"nulls": fresh.job.nulls.model_copy(update={"untrained_seeds": (0, 1, 2, 3, 4)})}
    )
    more = universality.plan(job, fresh.out, fresh.store.location)
    one, five = rows(fresh, at_most=True), rows(more, at_most=True)
    assert one["correspondence_nulls"] == 3 * one["correspondence"]
    assert five["correspondence_nulls"] == 7 * five["correspondence"] == 7 * one["correspondence"]


def test_rows_take_about_what_the_plan_says(small, fresh):
    orientations = fresh.job.stimuli.curves.orientations
    for name in ("similarity", "pairs", "families", "units", "correspondence", "correspondence_nulls"):
        taken = pq.read_table(small.out / f"{name}.parquet")
        assert row_bytes(TABLES[name], orientations) == pytest.approx(taken.nbytes / taken.num_rows, rel=0.3)


def test_plan_says_what_the_joined_tables_need(fresh):
    sizes = table_sizes(fresh)
    assert sizes.nbytes < sizes.most
    (sentence,) = [text for text in estimates.sentences(fresh, 1, False) if text.startswith("tables: ")]
    assert f"about {sizes.rows} rows" in sentence
    expected, most = re.search(r"needs about (\d+) MB \(at most (\d+)\)", sentence).groups()
    assert float(expected) * 1e6 > COPIES * sizes.nbytes
    assert (float(most) - float(expected)) * 1e6 == pytest.approx(COPIES * (sizes.most - sizes.nbytes), abs=2e6)


def test_short_disk_is_refused_before_anything_is_extracted(small, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**5))
    with pytest.raises(StoreError, match=r"needs about \d+ MB, the disk has 0 MB free; free space or choose another"):
        universality.run(small.job, tmp_path / "run", store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_memory_grows_with_what_is_compared(fresh):
    natural = 60 * 8
    largest = natural * (144 + 240 + 240)
    nulls = fresh.job.nulls
    copies = 1 + len(nulls.untrained_seeds) + nulls.haar_rotations + nulls.shuffles
    assert estimates.comparison_bytes(fresh) == copies * largest


def test_time_is_that_of_every_image(fresh):
    trained = [network for network in fresh.networks if network.seed is None]
    image_s = {"natural": 1.0, "curves": 0.5, "curve_controls": 0.25}
    made_up = [estimates.Timed(network, load_s=10.0, twin_s=30.0, image_s=image_s, nbytes=0) for network in trained]
    shown = 60 * 1.0 + 64 * 0.5 + 48 * 0.25
    stores = estimates.STORE_S * len(fresh.stores)
    assert estimates.extraction_s(fresh, made_up) == pytest.approx(stores + 2 * (2 * 10 + shown) + 2 * (30 + shown))


def test_comparisons_can_be_rehearsed_and_nothing_stays(fresh):
    assert 0 < rehearsal.comparisons_s(fresh) < 600
    assert not fresh.store.place.names()
    assert not [name for name in fsspec.filesystem("memory").store if "rehearsal" in name]


def test_sizes_are_rehearsed_by_their_middle():
    assert rehearsal._strata([5, 1, 2, 4, 3, 6, 9, 8, 7], lambda size: size) == [(2, 3), (5, 3), (8, 3)]
    assert rehearsal._strata([7, 3], lambda size: size) == [(3, 1), (7, 1)]
    assert rehearsal._strata([], lambda size: size) == []


def test_comparisons_count_every_layer_and_pair_once(fresh, monkeypatch):
    # Work that is equal for all sizes adds up to the number of layers and of pairs of layers.
    monkeypatch.setattr(rehearsal._Rehearsed, "family", lambda self, tap: 1.0)
    monkeypatch.setattr(rehearsal._Rehearsed, "pair", lambda self, x, y: 100.0)
    monkeypatch.setattr(rehearsal._Rehearsed, "load", lambda self: 0.0)
    assert rehearsal.comparisons_s(fresh) == 3 * 1.0 + 2 * 1 * 100.0


def test_layers_are_read_as_often_as_the_tasks_load_them(fresh, monkeypatch):
    every = [ref for task in fresh.tasks for ref in comparisons._refs(task.arguments)]
    monkeypatch.setattr(recent, "MOST_BYTES", 0)
    assert rehearsal._loads(fresh) == len(every)
    monkeypatch.undo()
    # One pair of networks, whose layers fit: once for the families, and once for the pair.
    assert rehearsal._loads(fresh) == 2 * len({repr(ref) for ref in every})


def test_wall_time_shares_the_work_and_not_the_rest():
    needs = estimates.Needs(memory=0, start_s=5.0, extraction_s=60.0, comparisons_s=20.0, writing_s=7.0)
    assert needs.wall_s(threads=1, processes=None, showing=1) == 5 + 80 + 7
    assert needs.wall_s(threads=4, processes=None, showing=4) == 5 + 20 + 7
    assert needs.wall_s(threads=4, processes=2, showing=4) == 10 + 20 + 7
