"""Use of GPUs, tested without one: which task gets which, settings for repeatable sums, copies, and errors in one sentence."""

import gc
import os
import threading
import weakref

import pytest
import torch
from torch import nn

from universality.activations import devices
from universality.activations.extraction import collect, extract
from universality.activations.spec import ExtractionSpec
from universality.base.errors import DeviceError, JobError
from universality.jobs.shards import Loaded
from universality.models.card import Tap

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that Torch can use")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(devices, "count", lambda: 2)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()


class TestKeys:
    def test_cpu_says_nothing_of_the_device(self):
        """Keys of stores that were made before there was a choice stay what they were."""
        assert ExtractionSpec(reduction="center").key() == {"reduction": "center", "dtype": "float32", "radius": 1}

    def test_cuda_has_keys_of_its_own(self):
        cpu, cuda = (ExtractionSpec(reduction="mean", device=name).key() for name in ("cpu", "cuda"))
        assert cuda == {**cpu, "device": "cuda"}

    def test_auto_has_none(self):
        with pytest.raises(JobError, match=r"extraction\.device = 'auto' has no stores of its own; settle it"):
            ExtractionSpec(reduction="mean", device="auto").key()


class TestLending:
    def test_the_least_busy_one(self, two_gpus):
        with devices.lent() as first, devices.lent() as second:
            assert {first.index, second.index} == {0, 1}
            with devices.lent() as third:
                assert third.index == 0
        with devices.lent() as again:
            assert again.index == 0

    def test_none_is_a_sentence(self, monkeypatch):
        monkeypatch.setattr(devices, "count", lambda: 0)
        with (
            pytest.raises(
                DeviceError, match=r"expected a GPU that Torch can use, came none; .* extraction.device = 'cpu'"
            ),
            devices.lent(),
        ):
            raise AssertionError("there is none to lend")

    @pytest.mark.parametrize(
        ("listed", "names"), [(None, ["0", "1"]), ("5, 3", ["5", "3"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"])]
    )
    def test_names_for_other_processes(self, two_gpus, monkeypatch, listed, names):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if listed is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        assert devices.visible() == names


def settings() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip


class TestRepeatable:
    def test_no_tf32_no_search_and_back_again(self):
        before = settings()
        with devices.repeatable():
            assert settings() == (False, False, False, True, True)
        assert settings() == before != (False, False, False, True, True)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]

    def test_the_last_to_leave_restores(self):
        before, inside, leave = settings(), threading.Event(), threading.Event()

        def other():
            with devices.repeatable():
                inside.set()
                leave.wait(60)

        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
        with devices.repeatable():
            pass
        assert settings() == (False, False, False, True, True)
        leave.set()
        thread.join()
        assert settings() == before

    def test_an_operation_that_does_not_repeat_itself_is_named(self):
        with (
            pytest.raises(DeviceError, match=r"^cumsum_cuda_kernel is not repeatable .* extraction.device = 'cpu'$"),
            devices.repeatable(),
        ):
            raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")

    def test_other_errors_pass(self):
        with pytest.raises(RuntimeError, match="planted"), devices.repeatable():
            raise RuntimeError("planted")


class TestMemory:
    @pytest.mark.parametrize(
        "error",
        [torch.cuda.OutOfMemoryError("CUDA out of memory. Tried ..."), RuntimeError("CUDA error: out of memory\n...")],
    )
    def test_want_of_memory_is_a_sentence(self, monkeypatch, error):
        monkeypatch.setattr(devices, "name_of", lambda device: "planted GPU")
        with pytest.raises(DeviceError) as caught, devices.enough_memory(torch.device("cuda", 0), 512):
            raise error
        assert str(caught.value) == (
            "a batch of 512 images does not fit into the free memory of planted GPU; lower extraction.batch_size (came: 512), "
            "or end what else uses this GPU"
        )

    def test_other_errors_pass(self):
        with pytest.raises(RuntimeError, match="planted"), devices.enough_memory(torch.device("cuda", 0), 1):
            raise RuntimeError("planted")


class TestCopies:
    def test_the_network_stays_and_is_copied_once(self):
        original, elsewhere = network(), torch.device("meta")
        copy = devices.copied(original, elsewhere)
        assert {p.device.type for p in (*copy.parameters(), *copy.buffers())} == {"meta"}
        assert {p.device.type for p in (*original.parameters(), *original.buffers())} == {"cpu"}
        assert devices.copied(original, elsewhere) is copy
        assert devices.copied(network(), elsewhere) is not copy

    def test_hooks_of_the_copy_are_each_tasks_own_on_the_same_weights(self):
        copy = devices.copied(network(), torch.device("meta"))
        a, b = Loaded(copy).shared(), Loaded(copy).shared()
        assert a is not b and next(a.parameters()) is next(b.parameters()) is next(copy.parameters())

    def test_it_goes_with_the_network(self):
        original = network()
        gone = weakref.ref(devices.copied(original, torch.device("meta")))
        del original
        gc.collect()
        assert gone() is None


@needs_cuda
class TestOnAGpu:
    """What only a GPU can show; skipped elsewhere."""

    tap = Tap(
        name="out", path="2", activation="post", channels=4, size=30, rf_px=3, stride_px=1, rf_start_px=1.0,
        relative_depth=1.0,
    )  # fmt: skip
    spec = ExtractionSpec(reduction="mean", batch_size=8, device="cuda")

    def values(self, module):
        images = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(1)).numpy()
        return collect(extract(module, [self.tap], [images[i : i + 8] for i in (0, 8, 16)], self.spec, 32))["out"]

    def on_gpu(self):
        with devices.lent() as gpu, devices.repeatable(), devices.enough_memory(gpu, 8):
            return self.values(Loaded(devices.copied(network(), gpu)).shared())

    def test_it_gives_the_cpus_values_up_to_rounding(self):
        expected = self.values(network())
        assert abs(self.on_gpu() - expected).max() < 1e-5 * abs(expected).max()

    def test_it_repeats_itself_to_the_byte(self):
        assert self.on_gpu().tobytes() == self.on_gpu().tobytes()

    def test_it_has_a_name(self):
        assert devices.name_of(devices.gpu(0))

    def test_too_much_is_a_sentence(self):
        gpu = devices.gpu(0)
        with pytest.raises(DeviceError, match=r"lower extraction\.batch_size"), devices.enough_memory(gpu, 1):
            torch.empty(1 << 50, device=gpu)
