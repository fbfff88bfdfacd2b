"""Stores, results, weights and run directories deleted under a running job: one sentence or recovery, never a wrong table."""

import shutil
from pathlib import Path

import pytest
import tiny

import universality
from universality.activations.network import Network
from universality.activations.places.folder import Folder, _FolderDraft
from universality.base.errors import StoreError, UniversalityError
from universality.base.paths import resource
from universality.jobs import comparing, recent
from universality.jobs.results import Results
from universality.jobs.shards import Shards
from universality.models import weight_files
from universality.runs import run as runs

MODEL = "pocket/vgg-focus-s0"


@pytest.fixture
def before(monkeypatch):
    """Return a function that has something done before the n-th call of a function, once."""

    def plant(owner, name, number, action):
        real, calls = getattr(owner, name), []

        def planted(*args, **kwargs):
            calls.append(None)
            if len(calls) == number:
                action()
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, planted)
        return calls

    return plant


@pytest.fixture
def run(done, tmp_path):
    """Return a function that runs the job."""
    shutil.copytree(done / "store", tmp_path / "store")
    return lambda **how: universality.run(
        done / "job.toml", tmp_path / "run", store=tmp_path / "store", threads=1, **how
    )


def empty(store: Path, *kinds: str) -> None:
    """Take stores, shards or results out of a store."""
    for path in store.iterdir():
        kind = path.name if path.name in ("shards", "results") else "stores"
        if kind in kinds and path.name != ".universality":
            shutil.rmtree(path)


def ends_well(run, done, tmp_path):
    """The job ends with the right tables: at once, or when it is run again after one sentence."""
    try:
        run()
    except UniversalityError as error:
        assert "\n" not in str(error)
        assert "run the job" in str(error) or "give another" in str(error) or "--repair" in str(error)
        assert not (tmp_path / "run" / "run.json").exists() or runs.read_record(tmp_path / "run")["status"] == "started"
        run(repair="--repair" in str(error))
    assert tiny.table_hashes(tmp_path / "run") == tiny.table_hashes(done / "run")


class TestDuringExtraction:
    def test_the_whole_store(self, run, done, tmp_path, before):
        empty(tmp_path / "store", "stores", "shards", "results")
        before(Shards, "write", 3, lambda: shutil.rmtree(tmp_path / "store"))
        ends_well(run, done, tmp_path)

    def test_the_draft_of_a_store(self, run, done, tmp_path, before):
        """What vanished between writing and committing must not be left out of the manifest: it would be read as NaN."""
        empty(tmp_path / "store", "stores", "results")

        def lose_chunks():
            for chunks in (tmp_path / "store").glob("*.partial-*/data.zarr/activation/c"):
                shutil.rmtree(chunks)

        before(_FolderDraft, "sizes", 1, lose_chunks)
        with pytest.raises(StoreError, match="lost files of 'activation' while it was written"):
            run()
        ends_well(run, done, tmp_path)

    def test_the_weights_folder(self, run, done, tmp_path, monkeypatch, before):
        empty(tmp_path / "store", "stores", "shards", "results")
        folder = tmp_path / "weights"
        (folder / MODEL).parent.mkdir(parents=True)
        shutil.copy(resource("data/pocket_zoo") / "vgg-focus-s0.safetensors", folder / f"{MODEL}.safetensors")
        monkeypatch.setenv(weight_files.WEIGHTS_FOLDER_VARIABLE, str(folder))
        # Both networks are looked at first, then loaded.
        before(Network, "load", 3, lambda: shutil.rmtree(folder))
        ends_well(run, done, tmp_path)


class TestDuringComparison:
    def test_the_whole_store(self, run, done, tmp_path, before):
        empty(tmp_path / "store", "results")
        before(recent.read_layer, "_load", 2, lambda: shutil.rmtree(tmp_path / "store"))
        ends_well(run, done, tmp_path)

    @pytest.mark.parametrize("what", ["activation/c", "fold/c", "fold", "zarr.json"])
    def test_a_part_of_each_store(self, run, done, tmp_path, before, what):
        """Zarr reads a lost chunk of activations as NaN, of folds as 0: either would end in other tables."""
        empty(tmp_path / "store", "results")

        def lose():
            for path in (tmp_path / "store").glob(f"*/data.zarr/{what}"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        before(recent.read_layer, "_load", 1, lose)
        with pytest.raises(UniversalityError, match=r"lost its file '.*' while it was read.*--repair"):
            run()
        assert Results(str(tmp_path / "store")).listed() == frozenset()
        if what == "activation/c":
            with pytest.raises(StoreError, match="--repair"):
                run()
            run(repair=True)
            assert tiny.table_hashes(tmp_path / "run") == tiny.table_hashes(done / "run")

    def test_the_results(self, run, done, tmp_path, before):
        before(comparing, "gather", 1, lambda: empty(tmp_path / "store", "results"))
        ends_well(run, done, tmp_path)

    def test_the_results_again_and_again(self, run, tmp_path, monkeypatch):
        real = comparing.gather

        def gather(*args):
            empty(tmp_path / "store", "results")
            return real(*args)

        monkeypatch.setattr(comparing, "gather", gather)
        with pytest.raises(StoreError, match=r"4 results in store .* were gone or damaged again"):
            run()


def test_the_run_directory_while_tables_are_written(run, done, tmp_path, before):
    before(runs, "write_table", 2, lambda: shutil.rmtree(tmp_path / "run"))
    ends_well(run, done, tmp_path)


def test_a_folder_that_is_deleted_while_it_is_listed_is_empty(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "iterdir", gone)
    assert Folder(tmp_path).names("a") == []
