"""The same job gives the same tables, to the byte, on threads, processes and any scheduler; and nothing is computed twice."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
from distributed import Client, LocalCluster

import universality
from universality.activations import extraction
from universality.activations.network import Network
from universality.activations.store import ActivationStore
from universality.base.errors import JobError, RunError
from universality.jobs import extracting, passes
from universality.jobs.planning import plan
from universality.jobs.shards import Maker, Shards
from universality.models import catalogue, zoo
from universality.report import cautions
from universality.runs import provenance


class Lines:
    def __init__(self):
        self.said, self.tracked, self.done = [], {}, {}

    def say(self, text):
        self.said.append(text)

    def track(self, description, total):
        self.tracked[description] = total

        def advance(steps):
            self.done[description] = self.done.get(description, 0) + steps

        return advance


@pytest.fixture
def shown(monkeypatch):
    """Numbers of images that networks are shown (calibration of twins aside)."""
    counts, real = [], extraction.extract

    def counting(network, taps, batches, *others):
        for reduced in real(network, taps, batches, *others):
            counts.append(len(next(iter(reduced.values()))))
            yield reduced

    monkeypatch.setattr(extraction, "extract", counting)
    return counts


class TestSchedulers:
    def same(self, done, tmp_path, **how):
        finished = universality.run(done / "job.toml", tmp_path / "run", store=tmp_path / "store", **how)
        assert tiny.table_hashes(finished.path) == tiny.table_hashes(done / "run")

    @pytest.mark.slow
    def test_two_processes(self, done, forked, tmp_path):
        self.same(done, tmp_path, workers=2, threads=1)

    @pytest.mark.slow
    def test_scheduler_by_address_and_client_stays_open(self, done, forked, tmp_path):
        with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
            self.same(done, tmp_path / "a", scheduler=cluster.scheduler_address)
            with Client(cluster) as client:
                self.same(done, tmp_path / "b", client=client)
                assert client.status == "running"

    def test_two_threads_and_other_shards_give_the_same_stores(self, done, tmp_path, monkeypatch):
        """Shards of 48: one that is full and a rest of 16, which two threads show at the same time."""
        monkeypatch.setattr(passes, "SHARD_STIMULI", 48)
        self.same(done, tmp_path, threads=2)
        for entry in universality.open_run(tmp_path / "run").record["stores"]:
            old, new = (folder / "store" / entry["key"] / "manifest.json" for folder in (done, tmp_path))
            assert old.read_bytes() == new.read_bytes()


def test_twins_built_at_the_same_time_are_those_built_one_by_one():
    """Torch's generator belongs to the process: a second thread must not draw from the first one's seed."""
    cards = [
        catalogue.card(name) for name in ("pocket/vgg-focus-s0", "pocket/alexnet-focus-s0", "pocket/resnet-focus-s0")
    ]

    def identity(card):
        return zoo.state_dict_sha256(zoo.untrained(card, 0, []).state_dict())

    alone = [identity(card) for card in cards] * 8
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(identity, cards * 8))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone


class TestNothingTwice:
    @pytest.fixture
    def copied(self, done, tmp_path):
        shutil.copytree(done / "store", tmp_path / "store")
        return tmp_path / "store"

    def test_added_model_computes_its_own_pairs_only(self, done, copied, tmp_path):
        lines = Lines()
        job = tiny.write_job(tmp_path, tiny.JOB.replace("[stimuli.natural]", tiny.THIRD + "\n[stimuli.natural]"))
        finished = universality.run(job, tmp_path / "run", store=copied, reporter=lines)
        # One layer's families, and two pairs of one similarity and one correspondence each.
        assert lines.tracked["families (tasks)"] == 1
        assert lines.tracked["similarity (tasks)"] == lines.tracked["correspondence (tasks)"] == 2
        fresh = universality.run(job, tmp_path / "fresh", store=tmp_path / "fresh_store")
        assert tiny.table_hashes(finished.path) == tiny.table_hashes(fresh.path)

    def test_added_crops_show_only_the_new_ones(self, done, tmp_path, monkeypatch, shown):
        monkeypatch.setattr(passes, "SHARD_STIMULI", 32)
        job, drawn, real = done / "job.toml", [], Network.batches

        def counting(*arguments):
            for images in real(*arguments):
                drawn.append(len(images))
                yield images

        with monkeypatch.context() as counted:
            counted.setattr(Network, "batches", counting)
            universality.run(job, tmp_path / "run", store=tmp_path / "store")
        before = sum(shown)
        assert sum(drawn) == before / 2  # a model and its twin see the same images
        shown.clear()
        longer = tiny.write_job(tmp_path, tiny.JOB.replace("crops = 64", "crops = 96"))
        finished = universality.run(longer, tmp_path / "longer", store=tmp_path / "store")
        assert sum(shown) == 4 * 32  # two models and their twins, one new shard each
        assert before == 4 * (64 + 32 + 48)
        fresh = universality.run(longer, tmp_path / "fresh", store=tmp_path / "fresh_store")
        assert tiny.table_hashes(finished.path) == tiny.table_hashes(fresh.path)

    def test_crash_between_shards_loses_only_those_under_way(self, done, tmp_path, monkeypatch, shown):
        monkeypatch.setattr(passes, "SHARD_STIMULI", 32)
        real = Shards.write

        written = []

        def breaks_at_third(self, key, rows, maker):
            if len(written) >= 3:
                raise ValueError("planted")
            real(self, key, rows, maker)
            written.append(len(rows))

        monkeypatch.setattr(Shards, "write", breaks_at_third)
        with pytest.raises(RunError, match="ValueError: planted"):
            universality.run(done / "job.toml", tmp_path / "run", store=tmp_path / "store", threads=1)
        monkeypatch.setattr(Shards, "write", real)
        shown.clear()
        finished = universality.run(done / "job.toml", tmp_path / "run", store=tmp_path / "store", threads=1)
        assert sum(shown) == 4 * (64 + 32 + 48) - sum(written)
        assert tiny.table_hashes(finished.path) == tiny.table_hashes(done / "run")

    def test_a_store_that_two_kinds_of_processor_made_says_so(self, done, tmp_path, monkeypatch):
        """The first run ends when all shards are there and no store is; one is lost, and on this machine the job goes on."""

        def breaks(*_):
            raise ValueError("planted")

        here, places = provenance.processor(), (done / "job.toml", tmp_path / "run", tmp_path / "store")
        monkeypatch.setattr(passes, "SHARD_STIMULI", 32)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(provenance, "processor", lambda: "another kind")
            elsewhere.setattr(extracting, "store_task", breaks)
            with pytest.raises(RunError, match="planted"):
                universality.run(places[0], places[1], store=places[2], threads=1)
        shown = next(shown for shown in plan(*places).passes if shown.stimulus_set == "natural")
        lost = shown.key(shown.taps[0], shown.shards[0])
        (tmp_path / "store" / "shards" / lost[:2] / lost).unlink()
        finished = universality.run(places[0], places[1], store=places[2], threads=1)
        mixed = shown.network.key("natural", shown.taps[0]).name
        for key in (entry["key"] for entry in finished.record["stores"]):
            made = ActivationStore(finished.store).attributes(key)["processors"]
            assert made == (["another kind", here] if key == mixed else ["another kind"])
        assert cautions.processors(finished.record) == ["another kind", here]
        for name in tiny.TABLES:
            assert getattr(finished, name).equals(getattr(universality.open_run(done / "run"), name))

    def test_damaged_shard_is_shown_again(self, done, tmp_path):
        store = plan(done / "job.toml", tmp_path / "run", tmp_path / "store").store
        kept = Shards(store)
        kept.write("ab" * 16, np.arange(6.0).reshape(3, 2), Maker("a processor", ""))
        assert kept.has("ab" * 16)
        path = tmp_path / "store" / "shards" / "ab" / ("ab" * 16)
        path.write_bytes(path.read_bytes()[:-1])
        assert not kept.has("ab" * 16)


def test_memory_store_is_refused_where_others_compute(done, tmp_path):
    with pytest.raises(JobError, match="is seen by this process only"):
        universality.run(done / "job.toml", tmp_path / "run", store=f"memory://{os.getpid()}", workers=2)
