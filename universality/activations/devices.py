"""GPUs: which there are, which are in use, settings for repeatable results, and networks copied onto them.

Everything that only a GPU can answer goes through `count`, `gpu` and `name_of`, so that tests can put another device in
its place.
"""

from __future__ import annotations

import copy
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from universality.base.errors import DeviceError

_LOCK = threading.Lock()


def count() -> int:
    """Return how many GPUs Torch can use in this process."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu(index: int) -> torch.device:
    """Return the GPU of a number below `count`."""
    return torch.device("cuda", index)


def name_of(device: torch.device) -> str:
    """Return the product name of a GPU."""
    return torch.cuda.get_device_name(device)


def visible() -> list[str]:
    """Return the GPUs of this process as ``CUDA_VISIBLE_DEVICES`` names them, so that each can be given to another process."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count())] if listed is None else [name.strip() for name in listed.split(",")]
    return names[: count()]


_BUSY: Counter[int] = Counter()


@contextmanager
def lent() -> Iterator[torch.device]:
    """Yield the GPU of this process that the fewest tasks use.

    Raises
    ------
    DeviceError
        Torch can use none in this process.
    """
    with _LOCK:
        if not (gpus := count()):
            raise DeviceError(
                "device 'cuda' is asked for, expected a GPU that Torch can use, came none; check the driver and "
                "CUDA_VISIBLE_DEVICES, or set extraction.device = 'cpu'"
            )
        index = min(range(gpus), key=lambda i: _BUSY[i])
        _BUSY[index] += 1
    try:
        yield gpu(index)
    finally:
        with _LOCK:
            _BUSY[index] -= 1


@dataclass(frozen=True)
class _Settings:
    """Switches of Torch, which belong to the process."""

    matmul_tf32: bool
    convolution_tf32: bool
    searching: bool
    repeatable_convolution: bool
    repeatable: bool
    warn_only: bool
    filling: bool

    @classmethod
    def current(cls) -> _Settings:
        cudnn = torch.backends.cudnn
        return cls(
            torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        )  # fmt: skip

    def apply(self) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32
        torch.backends.cudnn.allow_tf32 = self.convolution_tf32
        torch.backends.cudnn.benchmark = self.searching
        torch.backends.cudnn.deterministic = self.repeatable_convolution
        torch.use_deterministic_algorithms(self.repeatable, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.filling  # type: ignore[attr-defined]


# No TF32 (10 bits of mantissa), no choice of algorithms by timing, and an error where Torch knows no repeatable one.
# Filling fresh memory would only cost time.
_EXACT = _Settings(False, False, False, True, True, False, False)
_inside = 0
_before = _EXACT


@contextmanager
def repeatable() -> Iterator[None]:
    """Have GPUs compute in full float32 and the same way every time; the user's settings are restored when the last task ends.

    Raises
    ------
    DeviceError
        A network uses an operation for which Torch has no repeatable form on a GPU.
    """
    global _inside, _before
    # cuBLAS reads it when a process first multiplies matrices on a GPU; Torch refuses to multiply repeatably without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with _LOCK:
        if _inside == 0:
            _before = _Settings.current()
            _EXACT.apply()
        _inside += 1
    try:
        yield
    except RuntimeError as cause:
        if "does not have a deterministic implementation" not in str(cause):
            raise
        operation = str(cause).partition(" ")[0]
        raise DeviceError(
            f"{operation} is not repeatable on a GPU, expected operations that are; set extraction.device = 'cpu'"
        ) from None
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _before.apply()


@contextmanager
def enough_memory(device: torch.device, images: int) -> Iterator[None]:
    """Turn a GPU's lack of memory for a batch of `images` into `DeviceError`."""
    try:
        yield
    except RuntimeError as cause:
        # Torch's allocator has an error of its own for this, the libraries below it only say so.
        if not isinstance(cause, torch.cuda.OutOfMemoryError) and "out of memory" not in str(cause):
            raise
        torch.cuda.empty_cache()
        raise DeviceError(
            f"a batch of {images} images does not fit into the free memory of {name_of(device)}; lower "
            f"extraction.batch_size (came: {images}), or end what else uses this GPU"
        ) from None


_COPIES: WeakKeyDictionary[nn.Module, dict[torch.device, nn.Module]] = WeakKeyDictionary()
_COPYING = threading.Lock()


def copied(module: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy of a network on a device: made once in a process, and freed with the network itself.

    The network stays where it is, so that nothing of it that is sent elsewhere comes from a GPU.
    """
    with _COPYING:
        copies = _COPIES.setdefault(module, {})
        if device not in copies:
            copies[device] = copy.deepcopy(module).to(device)
        return copies[device]
