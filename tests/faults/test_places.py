"""Paths of a job, and clocks: odd and long paths, links, copies, files of the future."""

import itertools
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import tiny
from undrawn import draw_nothing

import universality
from universality import cli, report
from universality.base.errors import UniversalityError
from universality.base.progress import Quiet
from universality.figures import export
from universality.jobs import scheduling
from universality.jobs.planning import plan
from universality.jobs.workers import Workers
from universality.runs import upkeep

ODD = "Größe 任務 \U0001f9ea & 'quotes' \"100 %\" #1 [a]{b}$c; *?"
LONG = "ø" * 120 + "x" * 15  # 255 bytes, the most that a name may have


def deep(folder: Path, nbytes: int) -> Path:
    """Return a path of so many bytes below a folder."""
    left = nbytes - len(os.fsencode(folder)) - 1
    names = ["d" * 200] * (left // 201)
    return folder.joinpath(*names, "e" * (left - 201 * len(names)))


@pytest.fixture
def filled(done, tmp_path):
    """A store in which all is done already."""
    return Path(shutil.copytree(done / "store", tmp_path / "filled"))


def ends_well(job, out, store, done):
    finished = universality.run(job, out, store=store, threads=1)
    assert tiny.table_hashes(finished.path) == tiny.table_hashes(done / "run")
    assert list(upkeep.problems(Path(out))) == []


@pytest.mark.skipif(sys.getfilesystemencoding() == "ascii", reason="file names are ASCII under this locale")
def test_odd_names_and_spaces(done, tmp_path):
    folder = tmp_path / ODD / LONG
    ends_well(tiny.write_job(folder), folder / "the run", folder / "the store", done)


@pytest.mark.parametrize("what", ["run", "store"])
def test_a_path_near_the_longest(done, tmp_path, filled, what):
    """The system allows 4,095 bytes; with room for its own names a job needs about 150 of them."""
    paths = {"run": tmp_path / "run", "store": filled}
    ends_well(done / "job.toml", *(paths | {what: deep(tmp_path, 3900)}).values(), done)


@pytest.mark.parametrize("nbytes", [4000, 4060, 4200])
@pytest.mark.parametrize("what", ["run", "store"])
def test_a_path_too_long_is_one_sentence(done, tmp_path, filled, what, nbytes):
    paths = {"run": tmp_path / "run", "store": filled}
    paths[what] = deep(tmp_path, nbytes)
    try:
        universality.run(done / "job.toml", paths["run"], store=paths["store"], threads=1)
    except (UniversalityError, OSError) as error:
        sentence = str(error)
    else:
        assert tiny.table_hashes(paths["run"]) == tiny.table_hashes(done / "run")
        return
    assert "too long" in sentence
    assert "\n" not in sentence


def test_links(done, tmp_path):
    shutil.copytree(done / "store", tmp_path / "far" / "store", ignore=shutil.ignore_patterns("results"))
    (tmp_path / "far" / "run").mkdir()
    for name in ("run", "store"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    ends_well(done / "job.toml", tmp_path / "run", tmp_path / "store", done)
    assert (tmp_path / "far" / "store" / "results").is_dir()
    assert (tmp_path / "far" / "run" / "run.json").is_file()


@pytest.mark.parametrize("what", ["run", "store"])
def test_a_link_to_nothing_is_one_sentence(done, tmp_path, what):
    (tmp_path / what).symlink_to(tmp_path / "nothing")
    with pytest.raises(UniversalityError, match=what) as caught:
        universality.run(done / "job.toml", tmp_path / "run", store=tmp_path / "store", threads=1)
    assert "\n" not in str(caught.value)


class TestCopy:
    """A run copied elsewhere with its store, the originals gone."""

    @pytest.fixture
    def copied(self, done, tmp_path):
        there = tmp_path / "there"
        shutil.copytree(done / "store", tmp_path / "first" / "store")
        universality.run(done / "job.toml", tmp_path / "first" / "run", store=tmp_path / "first" / "store", threads=1)
        there.mkdir()
        for name in ("run", "store"):
            shutil.move(tmp_path / "first" / name, there / name)
        shutil.rmtree(tmp_path / "first")
        return there

    @pytest.mark.draws
    def test_serves_as_the_original_did(self, done, copied, monkeypatch, capsys):
        run = universality.open_run(copied / "run", store=copied / "store")
        assert run.activations("pocket/vgg-focus-s0", "features.4").values.shape == (64, 32)
        page = report.write(run)
        assert page.read_bytes() == (done / "run" / "report.html").read_bytes()
        assert list(export(run, copied / "drawn", formats=["pdf"], kinds=["similarity"]))
        assert list(upkeep.problems(copied / "run", copied / "store")) == []
        self.command(monkeypatch, "runs", "verify", copied / "run", "--store", copied / "store")
        self.command(monkeypatch, "runs", "show", copied / "run")
        draw_nothing(monkeypatch)
        self.command(monkeypatch, "reproduce", copied / "run", "--out", copied / "again")
        assert "equal to the byte" in capsys.readouterr().out

    def test_without_its_store_says_where_it_was_looked_for(self, copied):
        run = universality.open_run(copied / "run")
        with pytest.raises(UniversalityError, match=r"there is nothing at .*first/store.*--store"):
            run.activations("pocket/vgg-focus-s0", "features.4")
        assert report.write(run).is_file()

    @staticmethod
    def command(monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["universality", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        assert leaving.value.code in (0, None)


class TestClock:
    def test_it_jumps_between_the_stages(self, done, tmp_path, monkeypatch):
        """No value, name or lock depends on the time.

        Backwards by seconds only: Tornado's loop, on which Dask runs, waits until the clock has caught up.
        """
        jumps, real, off = itertools.cycle([1e9, 1e9 - 1, 1.5e9, 1.5e9 - 1]), time.time, [0.0]
        monkeypatch.setattr(time, "time", lambda: real() + off[0])

        class Jumps(Quiet):
            def track(self, description, total):
                off[0] = next(jumps)
                return super().track(description, total)

        universality.run(done / "job.toml", tmp_path / "run", store=tmp_path / "store", threads=1, reporter=Jumps())
        assert off[0] != 0.0
        assert tiny.table_hashes(tmp_path / "run") == tiny.table_hashes(done / "run")
        assert 0 <= universality.open_run(tmp_path / "run").record["seconds"] < 1e5

    def test_workers_are_not_lost_when_it_jumps_ahead(self):
        """As after a computer slept: Dask takes workers that were silent for five minutes for lost."""
        with scheduling.comparison_client(Workers(threads=1)) as client:
            assert client.cluster.scheduler.worker_ttl is None
            assert "worker-ttl" not in client.cluster.scheduler.periodic_callbacks

    @pytest.mark.parametrize("seconds", [-3e8, 3e9])
    def test_files_of_another_time_are_as_good(self, done, tmp_path, seconds):
        shutil.copytree(done / "store", tmp_path / "store")
        shutil.copytree(done / "run", tmp_path / "run")
        for path in tmp_path.rglob("*"):
            os.utime(path, (time.time() + seconds,) * 2)
        planned = plan(done / "job.toml", tmp_path / "run", tmp_path / "store")
        assert planned.missing == []
        assert planned.tables_exist
        assert planned.kept() == planned.n_tasks
        assert list(upkeep.problems(tmp_path / "run", tmp_path / "store")) == []
