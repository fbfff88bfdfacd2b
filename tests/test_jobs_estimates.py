"""What a plan says it will need, beside what it needed."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import Client

import universality
from universality import similarity
from universality.base.errors import StoreError
from universality.correspondence import verdict
from universality.correspondence.census import RESAMPLES
from universality.jobs import comparing, estimates, passes, seconds
from universality.jobs.seconds import Recorded
from universality.jobs.stages import STAGES
from universality.jobs.table_sizes import COPIES, row_bytes, rows, table_sizes
from universality.jobs.tasks import Task
from universality.models import catalogue
from universality.runs.job import read_job
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
    written = estimates.FIGURE_BYTES * done.figures + estimates.REPORT_BYTES
    assert estimates.disk(done).most == written + int(estimates.PARQUET * table_sizes(done).nbytes)


def test_finished_job_is_opened_on_a_full_disk(small, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert universality.run(small.job, small.out, store=small.store).path == small.out


def test_tables_have_the_rows_that_were_planned(small, fresh):
    run, expected, most = universality.open_run(small.out), rows(fresh), rows(fresh, at_most=True)
    for name, count in expected.items():
        written = len(run.table(name))
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
    for name in ("similarity", "pairs", "families", "units", "units_curve", "correspondence", "correspondence_nulls"):
        taken = pq.read_table(small.out / f"{name}.parquet")
        assert row_bytes(TABLES[name], orientations) == pytest.approx(taken.nbytes / taken.num_rows, rel=0.3)


def test_plan_says_what_the_joined_tables_need(fresh):
    sizes = table_sizes(fresh)
    assert sizes.nbytes < sizes.most
    (sentence,) = [text for text in estimates.sentences(fresh, 1) if text.startswith("tables: ")]
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


def planted(monkeypatch, took, runs=1):
    monkeypatch.setattr(estimates, "recorded", lambda: Recorded(runs, {kind: [one] for kind, one in took.items()}))


class TestTime:
    @pytest.fixture
    def nothing_but(self, fresh, monkeypatch):
        """Return the time of the fresh plan on a machine where only some kinds of work take time."""

        def time(**took):
            monkeypatch.setattr(estimates, "DEFAULTS", dict.fromkeys(seconds.DEFAULTS, 0.0))
            planted(monkeypatch, {kind.replace("_", " "): (1.0, s) for kind, s in took.items()})
            return estimates.time(fresh)

        return time

    def test_images_count_by_network_set_and_depth(self, fresh, monkeypatch):
        monkeypatch.setattr(estimates, "DEFAULTS", dict.fromkeys(seconds.DEFAULTS, 0.0))
        images, image_s = {"natural": 60, "curves": 64, "curve_controls": 48}, {}
        image_s["package/efficientnet_lite0"] = {"natural": 1.0, "curves": 0.5, "curve_controls": 0.25}
        image_s["package/efficientnet_lite1"] = {"natural": 8.0, "curves": 4.0, "curve_controls": 2.0}
        planted(
            monkeypatch, {f"images on cpu, {m}, {s}": (2.0, 2 * x) for m, of in image_s.items() for s, x in of.items()}
        )
        depth = {model: catalogue.card(model).tap("blocks.2.1.bn2").relative_depth for model in image_s}
        of_one = {m: depth[m] * sum(images[s] * x for s, x in of.items()) for m, of in image_s.items()}
        assert estimates.time(fresh).extraction == pytest.approx(2 * sum(of_one.values()))  # trained and untrained

    def test_images_of_a_network_that_was_never_shown_count_by_their_pixels(self, fresh, monkeypatch):
        monkeypatch.setattr(estimates, "DEFAULTS", dict.fromkeys(seconds.DEFAULTS, 0.0))
        planted(monkeypatch, {"images on cpu": (1.0, 3.0)})
        cards = [catalogue.card(entry.id) for entry in fresh.job.models]
        megapixels = sum(c.tap("blocks.2.1.bn2").relative_depth * c.preprocessing.size_px**2 / 1e6 for c in cards)
        assert estimates.time(fresh).extraction == pytest.approx(3 * 2 * (60 + 64 + 48) * megapixels)

    def test_trained_networks_are_loaded_twice_and_twins_calibrated_by_image(self, nothing_but):
        pixels = sum(catalogue.card(f"package/efficientnet_lite{k}").preprocessing.size_px ** 2 for k in (0, 1))
        found = nothing_but(load=10.0, calibrate=0.5, stores=0.125)
        assert found.extraction == pytest.approx(2 * 2 * 10 + 0.5 * 32 * pixels / 1e6 + 18 * 0.125)

    def test_stages_count_their_work(self, fresh, nothing_but):
        took = {stage.name: 2.0 for stage in fresh.stages}
        expected = {stage.name: 2 * stage.work(fresh.inputs) for stage in fresh.stages if stage.name != "pairs"}
        assert nothing_but(**took).stages == pytest.approx(expected | {"pairs": 0.0})

    def test_what_one_process_does_alone(self, nothing_but):
        # 3 layers with a family; 3 + 1 + 2 tasks, 7 tables, 2 pairs of layers
        found = nothing_but(report=100.0, tables=10.0, written_tables=1.0, tables_of_pairs=1000.0)
        assert found.alone == 3 * 100 + 6 * 10 + 7 * 1 + 2 * 1000

    def test_figures_count_one_by_one(self, fresh, nothing_but):
        # one family, one pair: of each of five kinds
        assert nothing_but(figures=4.0).figures == 4 * 5

    def test_nothing_is_counted_twice_that_exists(self, small, tmp_path):
        known = universality.plan(small.job, tmp_path / "run", small.store)
        found = estimates.time(known)
        assert found.extraction == 0
        assert set(found.stages.values()) == {0.0}
        assert found.alone > 0
        done = estimates.time(universality.plan(small.job, small.out, small.store))
        assert done.total == done.start > 0

    def test_a_task_counts_by_its_parts_that_are_left(self, small, tmp_path):
        values = read_job(small.job)
        known = values.comparison.measures
        new = [name for name in similarity.COMPARATORS if name not in known][:2]
        comparison = values.comparison.model_copy(update={"measures": (*known, *new)})
        more = values.model_copy(update={"comparison": comparison})
        left = universality.plan(more, tmp_path / "run", small.store).left()
        assert left == pytest.approx([0, 2 / (len(known) + 2), 0, 1])  # pairs are made of tables alone

    def test_wall_time_shares_the_work_and_not_the_rest(self):
        found = estimates.Time(
            5.0, 60.0, {"families": 12.0, "similarity": 4.0}, figures=4.0, alone=7.0, beside=8.0, source=""
        )
        assert found.total == 5 + 60 + 12 + 4 + 4 + 7 + 8
        assert found.wall(threads=1, processes=None, showing=1) == found.total
        assert found.wall(threads=4, processes=None, showing=4) == 5 + 15 + 3 + 1 + 1 + 7 + 2
        assert found.wall(threads=4, processes=2, showing=2) == 10 + 30 + 3 + 1 + 1 + 7 + 2

    def test_sentence_says_where_the_seconds_come_from(self, fresh, monkeypatch):
        def said():
            (sentence,) = [text for text in estimates.sentences(fresh, 2) if text.startswith("time: ")]
            return sentence

        assert "no run on this machine has been recorded yet" in said()
        kinds = [kind for kind in seconds.DEFAULTS if kind not in ("similarity", "images on cpu", "calibrate", "load")]
        kinds += [
            kind
            for shown in fresh.passes
            for kind, _ in (passes.showing(shown, 1)[0], passes.loading(shown.network)[0])
        ]
        planted(monkeypatch, dict.fromkeys(kinds, (1.0, 1e-9)), runs=3)
        assert said().endswith("from 3 earlier runs on this machine; not recorded yet, so by default: similarity")
        planted(monkeypatch, dict.fromkeys([*kinds, "similarity"], (1.0, 1e-9)))
        assert said().endswith("from 1 earlier run on this machine")

    def test_of_a_gpu_that_never_showed_an_image_nothing_is_known(self, fresh):
        networks = tuple(
            replace(n, extraction=n.extraction.model_copy(update={"device": "cuda"})) for n in fresh.networks
        )
        of = {id(old): new for old, new in zip(fresh.networks, networks, strict=True)}
        on_gpu = replace(fresh, stores=tuple(replace(p, network=of[id(p.network)]) for p in fresh.stores))
        found = estimates.time(on_gpu)
        assert np.isnan(found.extraction)
        assert any(text.startswith("time: unknown") for text in estimates.sentences(on_gpu, 1))

    def test_every_kind_of_work_has_a_default(self, fresh):
        found = estimates.time(fresh)
        assert np.isfinite(found.wall(1, None, 1))
        assert {stage.name for stage in STAGES.values()} <= seconds.DEFAULTS.keys() | {
            "pairs",
            "roles",
        }  # made of tables alone
        assert {f"tables of {name}" for name in STAGES} <= seconds.DEFAULTS.keys()
        assert all(rate >= 0 for rate in seconds.DEFAULTS.values())


def test_work_of_stages_is_what_they_say(fresh):
    # Two layers against one; 60 natural images, 64 curves, 48 controls.
    (a, b), (c,) = ([tap.channels for tap in n.taps] for n in fresh.networks if n.seed is None)
    seen = 2 + 2 + 2  # trained and untrained, rotated, shuffled
    of_families = seen + 2 + 1  # rotated with equal variances, untrained as sparse
    work = {stage.name: stage.work(fresh.inputs) for stage in STAGES.values()}
    assert work["families"] == pytest.approx(3 + (60 + 64 + 48) * (a + b + c) * of_families / 2e6)
    assert work["similarity"] == pytest.approx(5 * (2 + 60 * (a + c + b + c) * seen / 2.5e5))
    assert work["correspondence"] == pytest.approx(1 * 2 * (2 + 60 * (a * c + b * c) / 1e9))
    assert work["pairs"] == 2
    assert work["ceilings"] == 0
    assert work["natural"] == pytest.approx(
        sum(n.card.preprocessing.size_px**2 * len(n.taps) for n in fresh.networks) / 1e6
    )
    assert work["atlas"] == pytest.approx(2 * (3 + 2 + 60 * (a * c + b * c) * RESAMPLES / 1e9))


class TestRecord:
    def spent(self, *took):
        found = seconds.Spent()
        for kind, work, s in took:
            found.add(kind, work, s)
        return found

    def test_runs_are_weighted_by_their_work(self):
        assert seconds.recorded() == Recorded()
        seconds.record(self.spent(("families", 1.0, 10.0), ("load", 2.0, 1.0)))
        seconds.record(self.spent(("families", 8.0, 7.0), ("families", 1.0, 3.0)))
        known = seconds.recorded()
        assert known.runs == 2
        assert known.rate("families") == 20 / 10
        assert known.rate("load") == 0.5
        assert known.rate("atlas") is None

    def test_old_runs_are_forgotten(self):
        for number in range(seconds.RUNS + 3):
            seconds.record(self.spent(("families", 1.0, float(number))))
        assert [s for _, s in seconds.recorded().took["families"]] == [3.0, 4.0, 5.0, 6.0, 7.0]
        assert seconds.recorded().runs == seconds.RUNS + 3

    def test_other_processors_have_records_of_their_own(self, monkeypatch):
        for name, s in (("one", 1.0), ("other", 2.0)):
            monkeypatch.setattr(seconds, "_processor", lambda name=name: name)
            seconds.record(self.spent(("load", 1.0, s)))
            assert seconds.recorded() == Recorded(1, {"load": [(1.0, s)]})
        monkeypatch.setattr(seconds, "_processor", lambda: "one")
        assert seconds.recorded().rate("load") == 1.0

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 0}', b'{"format": 1, "processors": []}', b"[" * 100_000,
         b'{"format": 1, "processors": {"here": 3}}', b'{"format": 1, "processors": {"here": {"runs": "x", "took": []}}}'],
        ids=range(10),
    )  # fmt: skip
    def test_a_damaged_record_is_none_and_is_replaced(self, content, seconds_file, monkeypatch):
        monkeypatch.setattr(seconds, "_processor", lambda: "here")
        seconds_file.write_bytes(content)
        assert seconds.recorded() == Recorded()
        seconds.record(self.spent(("load", 1.0, 4.0)))
        assert seconds.recorded() == Recorded(1, {"load": [(1.0, 4.0)]})

    def test_numbers_that_are_none_are_left_out(self, seconds_file, monkeypatch):
        monkeypatch.setattr(seconds, "_processor", lambda: "here")
        took = {"a": [[1, 2], [0, 1], [1], "x", [1, "2"], [None, 1], [1, float("nan")], [1, -1]], "b": 3, "c": [[True]]}
        whole = {"format": seconds.FORMAT, "processors": {"here": {"runs": 2, "took": took}}}
        seconds_file.write_text(json.dumps(whole))
        assert seconds.recorded() == Recorded(2, {"a": [(1.0, 2.0)], "c": []})
        assert seconds.recorded().rate("c") is None

    def test_where_nothing_can_be_written_nothing_is(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        for place in (tmp_path / "file" / "below.json", tmp_path):
            monkeypatch.setenv(seconds.VARIABLE, str(place))
            seconds.record(self.spent(("load", 1.0, 4.0)))
            assert seconds.recorded() == Recorded()
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert not list(tmp_path.parent.glob(f"{tmp_path.name}.*"))

    def test_it_lies_in_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.delenv(seconds.VARIABLE)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        seconds.record(self.spent(("load", 1.0, 4.0)))
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json*")] == ["universality/seconds.json"]


class Clocks:
    """Clocks of which a task moves one."""

    def __init__(self):
        self.wall = self.processor = 0.0

    def perf_counter(self):
        return self.wall

    def thread_time(self):
        return self.processor


def test_a_task_says_what_it_took_and_which_share_of_its_parts(tmp_path, monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(comparing, "time", clocks)

    def work(wanted):
        clocks.wall += 30.0
        clocks.processor += 2.0 * len(wanted)
        return {part: {"rows": pd.DataFrame({"x": [1.0]})} for part in wanted}

    few = Task("similarity", {"a": "0" * 32}, "few", work, ())
    more = Task("similarity", {"a": "0" * 32, "b": "1" * 32, "c": "2" * 32, "d": "3" * 32}, "more", work, ())
    first, second, third = comparing.batch_task(str(tmp_path), [few, more, more])
    assert first == (30.0, None, 2.0, 1.0)
    assert second == (30.0, None, 6.0, 0.75)
    assert third == (0.0, None, 0.0, 0.0)


def test_a_run_says_what_it_took(small, fresh):
    timings = small.run.record["timings"]
    for name in ("families", "similarity", "correspondence"):
        assert timings[name]["work"] == pytest.approx(STAGES[name].work(fresh.inputs), abs=1e-6)
    depth = catalogue.card("package/efficientnet_lite1").tap("blocks.2.1.bn2").relative_depth
    shown = timings["images on cpu, package/efficientnet_lite1, curves"]
    assert shown["work"] == pytest.approx(2 * 64 * depth, abs=1e-3)  # trained and untrained
    assert timings["stores"]["work"] == len(fresh.stores)
    assert timings["load"]["work"] == timings["load package/efficientnet_lite0"]["work"] * 2 == 2
    assert timings["calibrate package/efficientnet_lite0"]["work"] == 32
    assert all(of["seconds"] >= 0 for of in timings.values())
    assert "timings" not in small.run.record["provenance"]


def test_only_work_of_this_machine_is_recorded_for_it(small, tmp_path, seconds_file):
    store = tmp_path / "store"
    shutil.copytree(small.store, store)
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        universality.run(small.job, tmp_path / "elsewhere", store=store, client=client)
    assert not seconds_file.exists()
    universality.run(small.job, tmp_path / "here", store=store)
    known = seconds.recorded()
    assert known.runs == 1
    assert "report" in known.took
    assert "families" not in known.took  # its results were kept


def test_plan_says_from_which_correlation_on_it_can_confirm(fresh):
    (said,) = [line for line in estimates.sentences(fresh, 1) if line.startswith("power: ")]
    least = float(re.search(r"true correlation is (\d\.\d\d)", said)[1])
    assert least == pytest.approx(verdict.confirmable_with(int(re.search(r"with (\d+) natural", said)[1])), abs=0.005)


def test_more_images_confirm_less_alike_pairs():
    """Stated points of the benchmark, and what it cannot say."""
    for images, measured in ((238, 0.76), (476, 0.65), (720, 0.59)):
        assert verdict.confirmable_with(images) == pytest.approx(measured, abs=0.03)
    assert verdict.confirmable_with(0) == verdict.confirmable_with(3) == 1.0
