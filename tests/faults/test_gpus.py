"""Jobs that show images on GPUs, with a CPU in a GPU's place: placement of tasks, refusals, and records."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import tiny
import torch
from distributed import Client, LocalCluster, get_worker
from undrawn import draw_nothing

import universality
from universality.activations import devices, extraction
from universality.activations.store import ActivationStore
from universality.base.errors import DeviceError, RunError
from universality.jobs import extracting, placement, scheduling
from universality.jobs.planning import plan
from universality.jobs.workers import Workers
from universality.runs import provenance
from universality.runs.job import read_job
from universality.runs.run import open_run

CUDA = tiny.JOB.replace('reduction = "center"', 'reduction = "center"\ndevice = "cuda"')
AUTO = CUDA.replace('"cuda"', '"auto"')
IN_THIS_PROCESS = {"processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "memory_limit": 0}


def plant(patch):
    patch.setattr(devices, "count", lambda: 1)
    patch.setattr(devices, "gpu", lambda index: torch.device("cpu"))
    patch.setattr(devices, "name_of", lambda device: "planted GPU")


@pytest.fixture
def planted(monkeypatch):
    """One GPU that is the CPU."""
    plant(monkeypatch)


def counted(patch):
    """Return the counts of images shown at the same time, in order of time."""
    lock, now, most, real = threading.Lock(), [0], [0], extraction.extract

    def counting(*arguments):
        shown = real(*arguments)
        while True:
            with lock:
                now[0] += 1
                most.append(now[0])
            try:
                batch = next(shown, None)
            finally:
                with lock:
                    now[0] -= 1
            if batch is None:
                return
            yield batch

    patch.setattr(extraction, "extract", counting)
    return most


@pytest.fixture(scope="module")
def on_cpu(done, tmp_path_factory):
    return Path(shutil.copytree(done, tmp_path_factory.mktemp("cpu") / "copy"))


@pytest.fixture(scope="module")
def shown_on_gpu(on_cpu, tmp_path_factory):
    """The same job on a planted GPU with four threads, with the store of the job on the CPU; and its counts of images at the same time."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        draw_nothing(patch)
        most = counted(patch)
        universality.run(tiny.write_job(folder, CUDA), folder / "run", store=on_cpu / "store", threads=4)
    return folder, most


@pytest.fixture(scope="module")
def on_gpu(shown_on_gpu):
    return shown_on_gpu[0]


def keys(path):
    return {entry["key"] for entry in open_run(path).record["stores"]}


class TestRun:
    def test_nothing_of_the_cpu_is_used_again(self, on_cpu, on_gpu):
        a, b = keys(on_cpu / "run"), keys(on_gpu / "run")
        assert len(a) == len(b) and not a & b
        assert open_run(on_gpu / "run").record["extracted_stores"] == len(b)

    def test_a_gpu_that_is_a_cpu_finds_the_same(self, on_cpu, on_gpu):
        for name in tiny.TABLES:
            assert getattr(open_run(on_cpu / "run"), name).equals(getattr(open_run(on_gpu / "run"), name))

    def test_stores_and_record_say_what_computed(self, on_cpu, on_gpu):
        store = ActivationStore(on_cpu / "store")
        for key in keys(on_gpu / "run"):
            made = store.attributes(key)
            assert (made["device"], made["gpus"], made["batch_size"]) == ("cuda", ["planted GPU"], 16)
        for key in keys(on_cpu / "run"):
            made = store.attributes(key)
            assert made["device"] == "cpu" and not {"gpus", "batch_size"} & made.keys()
            assert made["processors"] == [provenance.processor()]
        record = json.loads((on_gpu / "run" / "run.json").read_text(encoding="utf-8"))
        assert record["devices"] == {"extraction": ["cuda"], "comparison": ["cpu"]}
        assert universality.provenance(on_gpu / "run" / "units.parquet")["extraction"][0]["gpus"] == ["planted GPU"]

    def test_shards_of_a_run_that_was_cut_off_name_their_gpu(self, planted, tmp_path, monkeypatch):
        job, real = tiny.write_job(tmp_path, CUDA), extracting.store_task

        def breaks(*_):
            raise ValueError("planted")

        monkeypatch.setattr(extracting, "store_task", breaks)
        with pytest.raises(RunError, match="planted"):
            universality.run(job, tmp_path / "run", store=tmp_path / "store")
        monkeypatch.setattr(extracting, "store_task", real)
        universality.run(job, tmp_path / "run", store=tmp_path / "store")
        store = ActivationStore(tmp_path / "store")
        assert {tuple(store.attributes(key)["gpus"]) for key in keys(tmp_path / "run")} == {("planted GPU",)}

    def test_one_task_at_a_time_on_a_gpu(self, shown_on_gpu):
        _, at_once = shown_on_gpu
        assert max(at_once) == 1 < len(at_once)


class TestGivenCluster:
    def test_images_are_shown_on_workers_that_declare_a_gpu(self, planted, tmp_path, monkeypatch):
        monkeypatch.setattr(devices, "name_of", lambda device: get_worker().address)
        with (
            LocalCluster(n_workers=1, threads_per_worker=2, **IN_THIS_PROCESS, resources={"GPU": 1}) as cluster,
            Client(cluster) as client,
        ):
            (with_gpu,) = placement.gpu_workers(client)
            (other,) = cluster.new_worker_spec().values()
            cluster.worker_spec["plain"] = {**other, "options": {**other["options"], "resources": None}}
            cluster.scale(2)
            client.wait_for_workers(2, timeout=60)
            finished = universality.run(
                tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store", client=client
            )
        store = ActivationStore(tmp_path / "store")
        assert {tuple(store.attributes(key)["gpus"]) for key in keys(finished.path)} == {(with_gpu,)}

    @pytest.fixture
    def bare(self):
        """Two workers that declare nothing."""
        with LocalCluster(n_workers=2, threads_per_worker=1, **IN_THIS_PROCESS) as cluster, Client(cluster) as client:
            yield client

    @pytest.fixture
    def claiming(self):
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, **IN_THIS_PROCESS, resources={"GPU": 1}) as cluster,
            Client(cluster) as client,
        ):
            yield client

    @pytest.fixture
    def nothing_submitted(self, monkeypatch):
        def submit(*_, **__):
            raise AssertionError("a task was submitted")

        monkeypatch.setattr(Client, "submit", submit)

    def test_no_worker_declares_one(self, bare, nothing_submitted, tmp_path):
        with pytest.raises(DeviceError) as caught:
            universality.run(tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store", client=bare)
        assert str(caught.value) == (
            "extraction.device = 'cuda' needs a worker that declares the resource GPU, came 2 worker(s) without; start some with "
            f"`dask worker {bare.scheduler.address} --resources GPU=1` or dask-cuda, or set extraction.device = 'cpu'"
        )
        assert not (tmp_path / "run").exists()

    def test_a_worker_declares_what_it_has_not(self, claiming, nothing_submitted, tmp_path, monkeypatch):
        monkeypatch.setattr(devices, "count", lambda: 0)
        (address,) = placement.gpu_workers(claiming)
        with pytest.raises(
            DeviceError, match=f"^worker '{address}' declares the resource GPU, expected .* came none; check"
        ):
            universality.run(
                tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store", client=claiming
            )

    def test_a_gpu_that_goes_after_the_check(self, claiming, planted, tmp_path, monkeypatch):
        """The task itself checks again, because workers come and go."""
        monkeypatch.setattr(placement, "require_gpus", lambda client: None)
        monkeypatch.setattr(devices, "count", lambda: 0)
        (address,) = placement.gpu_workers(claiming)
        with pytest.raises(RunError, match=f"worker '{address}', showing .* device 'cuda' is asked for, .* came none"):
            universality.run(
                tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store", client=claiming
            )

    def test_the_last_worker_with_a_gpu_goes(self, bare, planted, tmp_path, monkeypatch):
        """Dask would wait without end for the resource; other workers are there all the time."""
        monkeypatch.setattr(placement, "require_gpus", lambda client: None)
        monkeypatch.setattr(scheduling, "WORKER_TIMEOUT_S", 1.0)
        with pytest.raises(RunError, match="has had no worker with the resource GPU for 1 s; start workers"):
            universality.run(tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store", client=bare)

    def test_comparisons_need_none(self, bare, on_cpu, on_gpu, tmp_path):
        shutil.copytree(on_cpu / "store", tmp_path / "store")  # where the job on the planted GPU stored too
        other = tiny.write_job(tmp_path / "other", CUDA.replace("bootstraps = 100", "bootstraps = 101"))
        finished = universality.run(other, tmp_path / "again", store=tmp_path / "store", client=bare)
        assert finished.record["extracted_stores"] == 0


class TestWithoutAGpu:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
    def test_local_workers_are_not_even_opened(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scheduling, "comparison_client", None)
        with pytest.raises(DeviceError) as caught:
            universality.run(tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store")
        assert str(caught.value) == (
            "extraction.device = 'cuda' needs a GPU that Torch can use, came none on this machine; give --scheduler with workers "
            "that have one, or set extraction.device = 'cpu'"
        )
        assert not (tmp_path / "run").exists() and not (tmp_path / "store" / "shards").exists()

    def test_want_of_memory_names_network_worker_and_remedy(self, planted, tmp_path, monkeypatch):
        real = extraction.extract

        def full(network, taps, batches, spec, *others):
            if spec.device == "cuda":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
            return real(network, taps, batches, spec, *others)

        monkeypatch.setattr(extraction, "extract", full)
        with pytest.raises((RunError, DeviceError)) as caught:
            universality.run(tiny.write_job(tmp_path, CUDA), tmp_path / "run", store=tmp_path / "store")
        text = str(caught.value)
        assert "'pocket/" in text and "with worker 'inproc://" in text and "\n" not in text
        assert (
            "a batch of 16 images does not fit into the free memory of planted GPU; lower extraction.batch_size" in text
        )


class TestAuto:
    def device(self, tmp_path, workers):
        return placement.for_workers(tiny.write_job(tmp_path, AUTO), workers).extraction.device

    @pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "cuda")])
    def test_local_workers_have_what_this_process_has(self, tmp_path, monkeypatch, gpus, device):
        monkeypatch.setattr(devices, "count", lambda: gpus)
        assert self.device(tmp_path, Workers()) == device
        assert (
            plan(tiny.write_job(tmp_path, AUTO), tmp_path / "run", tmp_path / "store").job.extraction.device == device
        )

    @pytest.mark.parametrize(("resources", "device"), [(None, "cpu"), ({"GPU": 1}, "cuda")])
    def test_a_given_cluster_is_asked(self, tmp_path, monkeypatch, resources, device):
        monkeypatch.setattr(devices, "count", lambda: 0 if resources else 1)  # GPUs of this process do not count
        with (
            LocalCluster(n_workers=1, **IN_THIS_PROCESS, resources=resources) as cluster,
            Client(cluster) as client,
        ):
            assert self.device(tmp_path, Workers(client=client)) == device
            assert self.device(tmp_path, Workers()) == device  # the active one
            assert self.device(tmp_path, Workers(threads=1)) != device  # local ones

    def test_the_record_is_of_the_settled_job(self, on_cpu, tmp_path, monkeypatch):
        monkeypatch.setattr(devices, "count", lambda: 0)
        finished = universality.run(tiny.write_job(tmp_path, AUTO), tmp_path / "run", store=on_cpu / "store")
        assert finished.record["extracted_stores"] == 0
        assert finished.record["job_digest"] == read_job(on_cpu / "job.toml").digest()
        monkeypatch.setattr(devices, "count", lambda: 1)
        with pytest.raises(RunError, match="belongs to another job"):
            universality.run(tmp_path / "job.toml", tmp_path / "run", store=on_cpu / "store")


@pytest.mark.slow
def test_processes_get_one_gpu_each_and_the_others_none(forked, monkeypatch):
    monkeypatch.setattr(devices, "visible", lambda: ["GPU-7"])
    with scheduling.comparison_client(Workers(processes=2, threads=1, gpus=1)) as client:
        seen = client.run(tiny.visible_gpus)
        with_gpu = placement.gpu_workers(client)
        assert [seen[address] for address in with_gpu] == ["GPU-7"]
        assert sorted(seen.values()) == ["", "GPU-7"]
