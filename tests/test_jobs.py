"""The whole path on the real networks, small: run, rerun, plan, reopen, break."""

import fcntl
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import universality
from universality.activations import extraction
from universality.base import schema
from universality.base.errors import JobError, RunError, StoreError
from universality.jobs import extracting, planning, scheduling, stages
from universality.jobs.seconds import Spent
from universality.models import catalogue
from universality.runs import tables as run_tables
from universality.runs.job import read_job
from universality.runs.networks import networks_of
from universality.runs.record import LOCK


class Lines:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.said = []
        self.tracked = []

    def say(self, text):
        self.said.append(text)

    def track(self, description, total):
        self.tracked.append((description, total))
        return lambda steps: None


TABLES = ("similarity", "correspondence", "correspondence_nulls", "pairs", "families", "units", "units_curve")


def table_bytes(out: Path) -> dict[str, bytes]:
    return {name: (out / f"{name}.parquet").read_bytes() for name in TABLES}


@pytest.fixture
def copied_store(small, tmp_path):
    shutil.copytree(small.store, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def bare_store(copied_store):
    """The stores alone: every comparison has to be made."""
    shutil.rmtree(copied_store / "results")
    return copied_store


def data_file(store: Path) -> Path:
    return next(path for path in sorted(store.rglob("c/*/*")) if path.is_file())


class TestTables:
    def test_similarity_has_a_row_per_pair_of_taps_and_measure(self, small):
        table = small.run.similarity
        assert list(table.columns) == schema.SIMILARITY.names
        assert len(table) == 2 * 1 * 5
        assert set(table["tap_a"]) == {"blocks.1.1.bn2", "blocks.2.1.bn2"}

    def test_every_similarity_has_its_nulls(self, small):
        table = small.run.similarity
        nulls = table[["value_untrained", "value_haar", "value_shuffled"]]
        assert nulls.notna().all(axis=None)

    def test_rotation_leaves_cka_and_lowers_unit_matching(self, small):
        by_measure = small.run.similarity.set_index("measure")
        for measure in ("cka_linear_debiased", "cka_linear_biased"):
            rows = by_measure.loc[[measure]]
            np.testing.assert_allclose(rows["value_haar"], rows["value"], rtol=1e-9)
        rows = by_measure.loc[["unit_match_hungarian"]]
        assert (rows["value_haar"] < rows["value"]).all()

    def test_similarity_equals_the_public_measure_on_the_stored_activations(self, small):
        """The value and its nulls: a user with the same arrays, seed and numbers of resamples has the job's row."""
        # Stored are the values before ReLU6 clips them; layers are compared as their networks hand them on.
        a, b = (small.run.activations(f"package/efficientnet_lite{k}", "blocks.2.1.bn2").clip(max=6) for k in (0, 1))
        nulls = small.run.job.nulls
        counts = {"shuffles": nulls.shuffles, "haar_rotations": nulls.haar_rotations, "seed": small.run.job.seed}
        rows = small.run.similarity.query("tap_a == 'blocks.2.1.bn2'").set_index("measure")
        for measure, row in rows.iterrows():
            found = universality.score(measure, a, b.T, nulls=True, **counts)
            assert found.value == pytest.approx(row["value"], abs=1e-12)
            assert found.shuffled.mean == pytest.approx(row["value_shuffled"], abs=1e-12)
            if universality.COMPARATORS[measure].has_haar_null:
                assert found.haar.mean == pytest.approx(row["value_haar"], abs=1e-12)

    def test_families_has_a_row_per_model_and_tap(self, small):
        table = small.run.families
        assert list(table.columns) == schema.FAMILIES.names
        assert len(table) == 3
        assert (table["n_twins"] == 1).all()

    def test_units_hold_trained_and_untrained(self, small):
        counts = small.run.units.groupby("seed").size()
        assert counts.to_dict() == {-1: 144 + 240 + 240, 0: 144 + 240 + 240}

    def test_correspondence_rows_hold_a_detector(self, small):
        table = small.run.correspondence
        assert list(table.columns) == schema.CORRESPONDENCE.names
        assert (table["detector_a"] | table["detector_b"]).all()

    def test_pairs_count_the_rows_of_the_other_tables(self, small):
        table = small.run.pairs
        assert list(table.columns) == schema.PAIRS.names
        assert len(table) == 2 * 1 * 2  # pairs of taps, one family, two methods
        verdicts = small.run.correspondence["verdict"]
        counts = {
            name: table[f"n_{name}"].sum() for name in ("same_feature", "correlated_only", "family_only", "unmatched")
        }
        assert counts == {name: (verdicts == name).sum() for name in counts}
        turned = small.run.correspondence_nulls["null"] != "untrained"
        unmatched = (small.run.correspondence_nulls.loc[turned, "verdict"] == "unmatched").sum()
        assert table["n_unmatched_haar"].sum() == unmatched / 2
        assert set(table["cka_measure"]) == {"cka_linear_debiased"}

    def test_parquet_metadata_explains_every_column(self, small):
        for table in (run_tables.TABLES[name] for name in small.run.tables):
            stored = pq.read_schema(small.out / f"{table.name}.parquet")
            for column in table.columns:
                assert stored.field(column.name).metadata[b"meaning"].decode() == column.meaning

    def test_figures_and_report_are_there(self, small):
        assert {path.suffix for path in (small.out / "figures").iterdir()} == {".png", ".pdf"}
        assert ">Findings</h2>" in (small.out / "report.html").read_text(encoding="utf-8")


class TestReruns:
    def test_second_run_computes_nothing_and_says_so(self, small):
        before = table_bytes(small.out)
        lines = Lines()
        universality.run(small.job, small.out, store=small.store, reporter=lines)
        assert lines.tracked == []
        assert any("extracted nothing" in text for text in lines.said)
        assert any("computed nothing" in text for text in lines.said)
        assert table_bytes(small.out) == before

    def test_other_scheduler_and_fresh_directory_give_identical_tables(self, small, bare_store, tmp_path):
        with (
            LocalCluster(
                n_workers=1, threads_per_worker=3, processes=False, dashboard_address="127.0.0.1:0", memory_limit=0
            ) as cluster,
            Client(cluster) as client,
        ):
            again = universality.run(small.job, tmp_path / "again", store=bare_store, client=client)
            assert client.status == "running"  # a client that was given is not closed
        assert table_bytes(again.path) == table_bytes(small.out)

    def test_broken_extraction_is_named_and_goes_on(self, pocket_job, tmp_path, monkeypatch):
        real = extraction.extract

        def breaks_in_the_second_batch(*args):
            for count, reduced in enumerate(real(*args)):
                if count == 1:
                    raise ValueError("planted")
                yield reduced

        with monkeypatch.context() as broken:
            broken.setattr(extraction, "extract", breaks_in_the_second_batch)
            with pytest.raises(
                RunError, match=r"4 of \d+ tasks failed: 'pocket/vgg-focus-s0' with ValueError: planted"
            ):
                universality.run(pocket_job, tmp_path / "run", store=tmp_path / "store")
        assert not (tmp_path / "store").exists()
        finished = universality.run(pocket_job, tmp_path / "run", store=tmp_path / "store")
        undisturbed = universality.run(pocket_job, tmp_path / "again", store=tmp_path / "another_store")
        assert table_bytes(finished.path) == table_bytes(undisturbed.path)

    def test_adding_a_tap_extracts_only_that_tap(self, small, copied_store, tmp_path):
        job = tmp_path / "job.toml"
        text = small.job.read_text(encoding="utf-8")
        job.write_text(text.replace('taps = ["blocks.2.1.bn2"]', 'taps = ["blocks.1.1.bn2", "blocks.2.1.bn2"]'))
        planned = planning.plan(job, tmp_path / "run", copied_store)
        assert {p.tap.name for p in planned.missing} == {"blocks.1.1.bn2"}
        assert len(planned.missing) == 3 * 2  # natural, curves and their controls, trained and twin


class TestPlan:
    def test_finished_job_needs_nothing(self, small):
        planned = planning.plan(small.job, small.out, small.store)
        assert planned.missing == []
        assert planned.tables_exist

    def test_estimate_is_the_uncompressed_size(self, small, tmp_path):
        planned = planning.plan(small.job, tmp_path / "run", tmp_path / "store")
        units = 2 * (144 + 240 + 240)
        assert sum(p.nbytes for p in planned.missing) == units * (60 + 8 * 2 * 4 + 48) * 4
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "store").exists()

    def test_store_stays_below_the_estimate(self, small):
        stored = sum(path.stat().st_size for path in small.store.rglob("c/0/0"))
        planned = planning.plan(small.job, small.out, small.store)
        assert stored < sum(p.nbytes for p in planned.stores)


def test_order_of_extraction():
    """Of two networks: joining at once, the longest stretch first, the next network loaded before the last of them."""
    submitted = []
    watch = SimpleNamespace(
        submit=lambda name, *call, priority, **how: submitted.append((priority, name)) or SimpleNamespace(key=name)
    )
    store = SimpleNamespace(location="", place=SimpleNamespace(has=lambda name: False))
    submitter = extracting._Submitter(watch, store, 0, lambda images: None, Spent())
    for label in "ab":
        network = SimpleNamespace(label=label, extraction=SimpleNamespace(device="cpu"))
        shards = (range(256), range(256, 300), range(300, 555))
        shown = SimpleNamespace(
            network=network, taps=("tap",), shards=shards, drawn=label, key=lambda tap, rows: "0" * 32
        )
        list(submitter.submit([[shown]]))
    order = [name for _, name in sorted(submitted, key=lambda one: -one[0])]
    rest = ["shard-0-300", "shard-0-256"]
    assert order == ["load", "store-0-0", "shard-0-0", "load", *rest, "store-0-0", "shard-0-0", *rest]


class TestReopening:
    def test_open_run_gives_the_same_tables(self, small):
        again = universality.open_run(small.out)
        for name in TABLES:
            pd.testing.assert_frame_equal(again.table(name), small.run.table(name))

    def test_activations_are_lazy_and_labelled(self, small):
        curves = small.run.activations("package/efficientnet_lite0", "blocks.2.1.bn2", "curves", seed=0)
        assert isinstance(curves, xr.DataArray)
        assert curves.chunks is not None
        assert curves.dims == ("stimulus", "unit")
        assert set(curves.coords) == {"orientation_deg", "curvature", "variant", "jitter_x", "jitter_y", "unit"}
        assert curves.attrs["network"] == "untrained"
        assert curves.attrs["policy"] == "same_field_of_view"

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (("package/efficientnet_lite2", "blocks.2.1.bn2"), "did you mean 'package/efficientnet_lite"),
            (("package/efficientnet_lite0", "blocks.2.1.bn1"), "did you mean 'blocks.2.1.bn2'"),
            (("package/efficientnet_lite0", "blocks.2.1.bn2", "curve"), "did you mean 'curves'"),
            (("package/efficientnet_lite0", "blocks.2.1.bn2", "curves", 7), "no seed '7'"),
        ],
    )
    def test_unknown_activations_are_named(self, small, arguments, named):
        with pytest.raises(RunError, match=named):
            small.run.activations(*arguments)

    def test_record_says_where_numbers_come_from(self, small):
        record = small.run.record
        weights = {s["model"]: s["weights"] for s in record["stores"] if s["seed"] is None}
        assert len(weights) == 2
        assert weights == {model: catalogue.card(model).weights.state_dict_sha256 for model in weights}
        assert {"job_digest", "inputs_digest", "packages", "machine", "command", "code"} <= record.keys()

    def test_changed_table_is_refused(self, small, tmp_path):
        shutil.copytree(small.out, tmp_path / "run")
        path = tmp_path / "run" / "families.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"families.parquet' differs from its checksum"):
            universality.open_run(tmp_path / "run")

    def test_unfinished_and_foreign_directories_are_refused(self, tmp_path):
        with pytest.raises(RunError, match="is not a run directory"):
            universality.open_run(tmp_path)
        (tmp_path / "run.json").write_text('{"status": "started", "job_digest": "x", "job": {}}')
        with pytest.raises(RunError, match="was not finished"):
            universality.open_run(tmp_path)
        (tmp_path / "run.json").write_text('{"status": ')
        with pytest.raises(RunError, match="is damaged"):
            universality.open_run(tmp_path)


class TestDamage:
    def flip(self, store: Path) -> None:
        path = data_file(store)
        content = bytearray(path.read_bytes())
        content[-1] ^= 16
        path.write_bytes(content)

    def test_flipped_bit_is_refused_then_repaired(self, small, copied_store, tmp_path):
        self.flip(copied_store)
        with pytest.raises(StoreError, match=r"is damaged: .* differs from its checksum; .*--repair"):
            universality.run(small.job, tmp_path / "run", store=copied_store)
        lines = Lines()
        finished = universality.run(small.job, tmp_path / "run", store=copied_store, repair=True, reporter=lines)
        assert any("set a damaged store" in text for text in lines.said)
        assert table_bytes(finished.path) == table_bytes(small.out)

    def test_store_cut_short_is_refused(self, small, copied_store, tmp_path):
        path = data_file(copied_store)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(StoreError, match="was cut short or changed"):
            universality.run(small.job, tmp_path / "run", store=copied_store)

    def test_half_written_store_is_removed_and_extracted_anew(self, small, copied_store, tmp_path):
        name = next(path.name for path in copied_store.iterdir() if path.name != ".universality")
        dead = 2**22 - 1  # above every process number in use here
        (copied_store / name).rename(copied_store / f"{name}.partial-{dead}-00000000")
        lines = Lines()
        universality.run(small.job, tmp_path / "run", store=copied_store, reporter=lines)
        assert any("half-written" in text for text in lines.said)
        assert not list(copied_store.glob("*.partial-*"))

    def test_failed_comparison_is_reported_and_nothing_is_written(self, small, bare_store, tmp_path, monkeypatch):
        def fails(*_):
            raise ValueError("planted")

        monkeypatch.setattr(stages, "similarity_rows", fails)
        with pytest.raises(RunError, match=r"1 of \d+ tasks failed: 'similarity of .* with ValueError: planted"):
            universality.run(small.job, tmp_path / "run", store=bare_store)
        assert not list((tmp_path / "run").glob("*.parquet"))


class TestMending:
    """A finished run that was damaged is made again by the same command, as its message says."""

    @pytest.fixture
    def copied(self, small, tmp_path):
        shutil.copytree(small.out, tmp_path / "run")
        return tmp_path / "run"

    @pytest.mark.parametrize("damage", ["changed table", "no table", "no report", "no tables in the record"])
    def test_damaged_run_is_made_again(self, small, copied, copied_store, damage):
        if damage == "changed table":
            with (copied / "units.parquet").open("ab") as file:
                file.write(b"x")
        elif damage == "no table":
            (copied / "families.parquet").unlink()
        elif damage == "no report":
            (copied / "report.html").unlink()
        else:
            record = json.loads((copied / "run.json").read_text()) | {"tables": {}}
            (copied / "run.json").write_text(json.dumps(record))
        universality.run(small.job, copied, store=copied_store)
        assert table_bytes(copied) == table_bytes(small.out)
        assert (copied / "report.html").is_file()

    @pytest.mark.draws
    def test_figures_are_drawn_again_to_the_byte(self, small, copied, copied_store):
        shutil.rmtree(copied / "figures")
        universality.run(small.job, copied, store=copied_store)
        drawn, before = ({p.name: p.read_bytes() for p in (out / "figures").iterdir()} for out in (copied, small.out))
        assert drawn.keys() == before.keys()
        assert [name for name in before if drawn[name] != before[name]] == []

    def test_run_that_dies_while_it_writes_is_not_believed(self, small, copied, copied_store, monkeypatch):
        (copied / "report.html").unlink()
        monkeypatch.setattr("universality.jobs.writing.report", SimpleNamespace(write=lambda *_, **__: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            universality.run(small.job, copied, store=copied_store)
        with pytest.raises(RunError, match="was not finished"):
            universality.open_run(copied)

    @pytest.mark.parametrize(
        "record",
        [
            "[]",
            '{"status": "complete", "job_digest": 5, "job": {}}',
            '{"status": "compleue", "job_digest": "x", "job": {}}',
            '{"status": "complete", "job_digest": "x", "job": {}}',
            '{"status": "complete", "job_digest": "x", "job": {}, "tables": 5, "inputs_digest": "", "store": "", "stores": []}',
            "[" * 100_000,
        ],
    )
    def test_nonsense_in_the_record_is_one_sentence(self, tmp_path, record):
        (tmp_path / "run.json").write_text(record)
        with pytest.raises(RunError, match=r"is damaged: its? .*; delete the folder and run the job again"):
            universality.open_run(tmp_path)


class TestClaims:
    def test_directory_of_a_run_that_goes_on_is_refused(self, small):
        with (small.out / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(RunError, match="is in use by another run"):
                universality.run(small.job, small.out, store=small.store)

    def test_store_that_is_a_file_is_refused_before_anything_is_written(self, small, tmp_path):
        (tmp_path / "store").write_text("")
        with pytest.raises(StoreError, match="is a file, expected a folder"):
            universality.run(small.job, tmp_path / "run", store=tmp_path / "store")
        assert not (tmp_path / "run").exists()

    def test_scheduler_without_workers_is_named(self, small, bare_store, tmp_path, monkeypatch):
        monkeypatch.setattr(scheduling, "WORKER_TIMEOUT_S", 0.2)
        with (
            LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp") as cluster,
            pytest.raises(JobError, match="has no worker after"),
        ):
            universality.run(small.job, tmp_path / "run", store=bare_store, scheduler=cluster.scheduler_address)

    def test_directory_of_another_job_is_refused(self, small, tmp_path):
        other = tmp_path / "other.toml"
        other.write_text(small.job.read_text(encoding="utf-8").replace("seed = 3", "seed = 4"))
        with pytest.raises(RunError, match=r"belongs to another job \('small'"):
            universality.run(other, small.out, store=small.store)

    def test_directory_with_other_files_is_refused(self, small, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(RunError, match="holds files but is no run directory"):
            universality.run(small.job, tmp_path, store=small.store)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_silent_scheduler_is_named(self, small, bare_store, tmp_path, monkeypatch):
        def refuses(*_, **__):
            raise OSError("timed out")

        monkeypatch.setattr(scheduling, "Client", refuses)
        with pytest.raises(JobError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
            universality.run(small.job, tmp_path / "run", store=bare_store, scheduler="tcp://127.0.0.1:9")

    def test_an_address_that_dask_does_not_know_is_no_silent_scheduler(self, small, bare_store, tmp_path):
        with pytest.raises(
            JobError, match=r"cannot use the scheduler's address 'nonsense://x' \(ValueError: .*nonsense"
        ):
            universality.run(small.job, tmp_path / "run", store=bare_store, scheduler="nonsense://x")
        # What this process computes next would wait for that scheduler.
        assert dask.config.get("scheduler", None) is None


class TestKeys:
    """The content key changes with everything that decides the values, so that no outdated result is read."""

    def keys(self, tmp_path, text):
        path = tmp_path / "job.toml"
        path.write_text(text, encoding="utf-8")
        return {
            (n.label, name, tap.name): n.key(name, tap).name
            for n in networks_of(read_job(path))
            for name in ("natural", "curves")
            for tap in n.taps
        }

    @pytest.mark.parametrize(
        ("old", "new", "changed"),
        [
            ("crops = 60", "crops = 61", "natural"),
            ("orientations = 8", "orientations = 9", "curves"),
            ('reduction = "center"', 'reduction = "mean"', "all"),
            ('reduction = "center"', 'reduction = "center"\ncenter_radius = 0', "all"),
            ('reduction = "center"', 'reduction = "center"\ndtype = "float64"', "all"),
            ("calibration_crops = 32", "calibration_crops = 48", "untrained"),
            ('reduction = "center"', 'reduction = "center"\nbatch_size = 7', "none"),
            ("seed = 3", "seed = 4", "none"),
        ],
    )
    def test_key_follows_its_causes(self, small, tmp_path, old, new, changed):
        text = small.job.read_text(encoding="utf-8")
        before, after = self.keys(tmp_path, text), self.keys(tmp_path, text.replace(old, new, 1))
        differ = {key for key in before if before[key] != after[key]}
        expected = {
            key
            for key in before
            if changed == "all" or changed == key[1] or (changed == "untrained" and "untrained" in key[0])
        }
        assert differ == expected
        assert len(set(after.values())) == len(after)


def test_a_client_that_never_reached_a_scheduler_is_no_active_one(monkeypatch):
    """Dask keeps it as the active client after it has raised; one that has lost its scheduler is said to, later."""
    from types import SimpleNamespace

    from universality.jobs.workers import Workers, active

    for status, there in (("connecting", False), ("running", True), ("closed", True)):
        monkeypatch.setattr("distributed.get_client", lambda status=status: SimpleNamespace(status=status))
        assert (active(Workers()) is not None) == there
