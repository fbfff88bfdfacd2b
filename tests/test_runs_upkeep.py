"""Runs are listed, verified and cleaned: nothing that a run refers to is ever removed, and nothing outside the root."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from universality import cli
from universality.activations.store import ActivationStore
from universality.base import locks
from universality.base.errors import RunError, StoreError
from universality.cli.results import report_command
from universality.runs.provenance import RECORD, code_digest
from universality.runs.record import LOCK
from universality.runs.run import open_run
from universality.runs.upkeep import listed, problems, removable, remove


@pytest.fixture
def place(small, tmp_path):
    """A copy of the small run and its store, where the register names only the copy."""
    shutil.copytree(small.out, tmp_path / "runs" / "small")
    shutil.copytree(small.store, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / ".universality")
    return tmp_path


def everything(folder: Path) -> set[str]:
    return {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if ".universality" not in p.parts and p.is_file()
    }


def unfinished(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / RECORD).write_text('{"status": "started", "job_digest": "x", "job": {"name": "u", "models": []}}')
    (folder / "units.parquet").write_text("partial")
    return folder


def rubbish(place: Path) -> set[str]:
    """Put one of each kind that no run refers to below the store."""
    store, key = place / "store", "0" * 32
    for name in (key, f"{key}.partial-1-00000000", f"{key}.damaged-00000000"):
        (store / name / "data.zarr").mkdir(parents=True)
        (store / name / "data.zarr" / "x").write_text("x")
    (store / "notes.txt").write_text("mine")
    (store / "my-folder").mkdir()
    return {key, f"{key}.partial-1-00000000", f"{key}.damaged-00000000"}


class TestMoved:
    """What lies elsewhere is absent, which is not damaged, and the sentence says how to name its place."""

    def test_a_moved_store_is_one_sentence_and_found_again(self, place):
        shutil.move(place / "runs" / "small", place / "elsewhere")
        store = place / "store"
        moved = store.rename(place / "moved")
        assert list(problems(place / "elsewhere", moved)) == []
        (said,) = problems(place / "elsewhere", store)
        assert f"nothing at '{store}'" in said and "--store" in said and "damaged" not in said
        run = open_run(place / "elsewhere", store)
        first = run.families.iloc[0]
        with pytest.raises(StoreError, match=r"nothing at .*open_run\(run, store=\.\.\.\)") as refused:
            run.activations(first["model"], first["tap"])
        assert "damaged" not in str(refused.value)
        assert open_run(place / "elsewhere", moved).activations(first["model"], first["tap"]).size

    def test_some_that_are_gone_are_absent_and_the_rest_is_compared(self, place, small):
        gone, cut = [entry["key"] for entry in small.run.record["stores"]][:2]
        shutil.rmtree(place / "store" / gone)
        (place / "store" / cut / "manifest.json").unlink()
        absent, damaged = problems(place / "runs" / "small", place / "store")
        assert gone in absent and "does not exist" in absent and "damaged" not in absent
        assert cut in damaged and "has no manifest.json: it is damaged" in damaged

    def test_the_report_says_why_it_has_no_pictures(self, place, capsys):
        report_command(place / "runs" / "small", place / "page.html", str(place / "nowhere"))
        assert "no pictures of units: there is nothing at" in capsys.readouterr().err


class TestList:
    def test_says_what_the_record_says(self, place, small):
        record = {"status": "started", "job_digest": "x", "job": small.run.record["job"]}
        (unfinished(place / "runs" / "deeper" / "u") / RECORD).write_text(json.dumps(record))
        (place / "runs" / "broken").mkdir()
        (place / "runs" / "broken" / RECORD).write_text("{")
        (place / "runs" / "loop").symlink_to(place / "runs")
        found = {entry.path.name: entry for entry in listed(place / "runs")}
        assert {name: entry.status for name, entry in found.items()} == {
            "small": "complete", "u": "unfinished", "broken": "damaged",
        }  # fmt: skip
        small = found["small"]
        assert (small.name, small.networks, small.pairs, small.this_code) == ("small", 2, 1, True)
        assert small.nbytes == sum(p.stat().st_size for p in small.path.rglob("*") if p.is_file())
        assert small.when.endswith("UTC")

    def test_other_code_and_a_running_run_are_marked(self, place, monkeypatch):
        monkeypatch.setattr("universality.runs.upkeep.provenance.code_digest", lambda: "other")
        with locks.held(place / "runs" / "small" / LOCK):
            (entry,) = listed(place / "runs")
        assert (entry.status, entry.this_code) == ("running", False)


class TestVerify:
    def test_sound_run_of_a_moved_store(self, place):
        assert list(problems(place / "runs" / "small", place / "store")) == []

    def test_every_damaged_file_has_its_sentence(self, place):
        run = place / "runs" / "small"
        chunks = sorted((place / "store").glob("*/data.zarr/activation/c/0/0"))[:2]
        victims = [run / "units.parquet", run / "report.html", sorted((run / "figures").iterdir())[0], *chunks]
        for file in victims:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 4
            file.write_bytes(content)
        (run / "families.parquet").unlink()
        found = list(problems(run, place / "store"))
        assert len(found) == 6
        for file in victims[:3]:
            assert sum(str(file) in said for said in found) == 1
        for chunk in chunks:
            assert sum(chunk.parents[4].name in said and "activation/c/0/0" in said for said in found) == 1
        assert sum("families.parquet" in said for said in found) == 1

    def test_changed_record_is_found(self, place):
        file = place / "runs" / "small" / RECORD
        file.write_text(json.dumps(json.loads(file.read_text()) | {"extracted_stores": 99}))
        assert any("differs from its own digest" in said for said in problems(file.parent, place / "store"))

    def test_status_of_the_command(self, place, monkeypatch, capsys):
        def status(*arguments):
            monkeypatch.setattr(sys, "argv", ["universality", "runs", "verify", *map(str, arguments)])
            with pytest.raises(SystemExit) as leaving:
                cli.main()
            return leaving.value.code, capsys.readouterr().out

        code, out = status("--all", "--runs", place / "runs", "--store", place / "store")
        assert (code, out) == (0, "1 run(s) verified: nothing damaged\n")
        (place / "runs" / "small" / "report.html").write_text("x")
        code, out = status(place / "runs" / "small", "--store", place / "store")
        assert code == 3
        assert out.count("\n") == 2


class TestClean:
    def test_names_and_removes_only_what_no_run_refers_to(self, place):
        before = everything(place)
        expected = rubbish(place)
        started = unfinished(place / "runs" / "u")
        store = ActivationStore(place / "store")
        told = removable(place / "runs", store)
        assert {item.name for item in told} == expected | {"u"}
        assert all(item.nbytes > 0 for item in told)
        assert (place / "store" / ("0" * 32)).exists(), "saying it removes nothing"
        assert remove(place / "runs", store) == told
        assert not started.exists()
        assert everything(place) == before | {"store/notes.txt"}
        assert (place / "store" / "my-folder").is_dir()
        assert removable(place / "runs", store) == []

    def test_kept_pieces_go_only_when_asked_for(self, place):
        store = ActivationStore(place / "store")
        assert (place / "store" / "results").is_dir()
        assert not {item.name for item in removable(place / "runs", store)} & {"results", "shards"}
        told = removable(place / "runs", store, kept=True)
        assert "results" in {item.name for item in told} <= {"results", "shards"}
        assert all(item.nbytes > 0 for item in told)
        assert remove(place / "runs", store, kept=True) == told
        assert not (place / "store" / "results").exists()
        assert list(problems(place / "runs" / "small", place / "store")) == []

    @pytest.mark.parametrize("kept", [False, True])
    def test_small_files_cut_short_are_removed(self, place, kept):
        before, store = everything(place), ActivationStore(place / "store")
        written = [path for path in (place / "store" / "results").rglob("*") if path.is_file()]
        drafts = [
            written[0].with_name(f"{written[0].name}.draft-0123abcd"),
            place / "store" / ".universality" / "x.draft-00000000",
        ]
        for draft in drafts:
            draft.parent.mkdir(exist_ok=True)
            draft.write_bytes(b"cut sh")
        told = removable(place / "runs", store, kept=kept)
        cut = {item.where: item.nbytes for item in told if item.why == "left behind by an interrupted writer"}
        # All kept results together go with what was cut short among them.
        assert cut == {str(draft): 6 for draft in (drafts[1:] if kept else drafts)}
        assert remove(place / "runs", store, kept=kept) == told
        assert not any(draft.exists() for draft in drafts)
        assert kept or everything(place) == before

    def test_what_a_job_writes_just_now_is_not_called_cut_short(self, place):
        store = ActivationStore(place / "store")
        (written,) = [path for path in (place / "store" / "results").rglob("*") if path.is_file()][:1]
        written.with_name(f"{written.name}.draft-0123abcd").write_bytes(b"being wri")
        with store.in_use(place / "runs" / "new"):
            assert removable(place / "runs", store) == []
        assert len(removable(place / "runs", store)) == 1

    def test_run_elsewhere_keeps_its_stores_by_the_register(self, place):
        store = ActivationStore(place / "store")
        shutil.move(place / "runs" / "small", place / "elsewhere")
        with store.in_use(place / "elsewhere"):
            pass
        assert removable(place / "runs", store) == []
        shutil.rmtree(place / "elsewhere")
        assert len(remove(place / "runs", store)) == 18
        assert store.runs() == {}

    def test_store_of_a_running_job_is_left_alone(self, place):
        rubbish(place)
        before, store = everything(place), ActivationStore(place / "store")
        with store.in_use(place / "runs" / "new"), pytest.raises(StoreError, match="is in use by a running job"):
            remove(place / "runs", store)
        assert everything(place) == before

    def test_running_run_and_live_writer_are_left_alone(self, place):
        started = unfinished(place / "runs" / "u")
        live = place / "store" / f"{'1' * 32}.partial-1-00000000"
        live.mkdir()
        with locks.held(started / LOCK), locks.held(live.with_name(f"{live.name}.lock")):
            assert removable(place / "runs", ActivationStore(place / "store")) == []

    @pytest.mark.parametrize(
        ("status", "said"),
        [("running", "runs/u') may be among them: --yes is refused"), ("unfinished", "with --yes to remove")],
    )
    def test_what_a_running_job_may_need_is_not_offered_for_removal(self, place, capsys, monkeypatch, status, said):
        rubbish(place)
        started = unfinished(place / "runs" / "u")
        monkeypatch.setattr(
            sys,
            "argv",
            ["universality", "runs", "clean", "--runs", str(place / "runs"), "--store", str(place / "store")],
        )
        with locks.held(started / (LOCK if status == "running" else "other")), pytest.raises(SystemExit):
            cli.main()
        assert said in capsys.readouterr().out

    def test_links_are_removed_and_not_followed(self, place):
        (place / "outside").mkdir()
        (place / "outside" / "precious").write_text("x")
        (place / "store" / ("2" * 32)).symlink_to(place / "outside")
        started = unfinished(place / "runs" / "u")
        (started / "figures").symlink_to(place / "outside")
        (started / "notes.txt").write_text("mine")
        remove(place / "runs", ActivationStore(place / "store"))
        assert (place / "outside" / "precious").exists()
        assert not (place / "store" / ("2" * 32)).is_symlink()
        assert (started / "notes.txt").read_text() == "mine"
        assert not (started / RECORD).exists()

    def test_damaged_record_stops_it(self, place):
        (place / "runs" / "small" / RECORD).write_text("{")
        with pytest.raises(RunError, match="is damaged"):
            remove(place / "runs", ActivationStore(place / "store"))
        assert len(list((place / "store").glob("?" * 32))) == 18


def test_code_digest_is_recorded(small):
    assert small.run.record["code"]["source_digest"] == code_digest()
