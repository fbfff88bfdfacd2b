"""Which rows of its map see a row of the image, for every tap of a network, in one pass for all of them.

A value that is not a number reaches exactly the units that see its pixel, whatever the weights: convolutions, maxima,
nonlinearities and sums all hand it on. So the network itself, shown noise with one such row, says who sees it.

What is the same at all positions of a map says nothing about where a unit looks, and counts as a constant: gates (squeeze and
excitation, global context), kernels mixed from the whole image, statistics of normalisations. Attention does not: its weights
differ between positions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from universality.models import hooks
from universality.models.card import Tap
from universality.models.survey import noise

Seen = NDArray[np.bool_]
"""(image, position): whether a position along the side sees the image's row."""
Side = Literal["rows", "columns"]
_PIXELS_AT_ONCE = 1 << 18
_COMBINING = frozenset({"add", "sub", "rsub", "mul", "div", "addcmul", "addcdiv", "lerp", "maximum", "minimum"})
_SPREADING = frozenset(
    {"expand", "repeat", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa"}
)
_BATCH_NORMS = frozenset({"native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm"})
_TRAINING = 5
"""Place of the argument of batch normalisations that says whether the batch's own statistics count."""
_DIMENSIONS = 4


class TooLateError(Exception):
    """The time that a measurement may take is over."""


class _Constants(TorchDispatchMode):
    """What one map has at all positions alike is handed on as a number; statistics of normalisations are left out."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name.removesuffix("_") in _COMBINING:
            tensors = [a for a in args if isinstance(a, Tensor)]
            args = [_constant(a) if any(_global(a, b) for b in tensors) else a for a in args]
        elif name in _SPREADING:
            out = func(*args, **kwargs)
            return func(_constant(args[0]), *args[1:], **kwargs) if _global(args[0], out) else out
        elif name == "convolution":
            args = [args[0], _constant(args[1]), *args[2:]]
        elif (
            name == "native_group_norm"
            or (name == "native_layer_norm" and len(args[1]) > 1)
            or (name in _BATCH_NORMS and args[_TRAINING])
        ):
            unused = args[0].new_zeros(())
            return args[0].clone(), unused, unused
        return func(*args, **kwargs)


def _global(value: Any, other: Tensor) -> bool:
    """Return whether `value` has one number for all positions of the map `other`."""
    if not isinstance(value, Tensor) or value is other or value.ndim < _DIMENSIONS or other.ndim != value.ndim:
        return False
    ends = [(-2, -1)] + ([(1, 2)] if value.ndim == _DIMENSIONS else [])
    return any(all(value.shape[i] == 1 for i in end) and any(other.shape[i] > 1 for i in end) for end in ends)


def _constant(value: Tensor) -> Tensor:
    return torch.nan_to_num(value, nan=1.0) if value.is_floating_point() else value


@contextmanager
def measuring() -> Iterator[None]:
    """Have Torch compute so that what is not a number is handed on by every operation that sees it, and by no other.

    NNPACK convolves by transforms of whole tiles, and fused attention may pass over it.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        exact = sdpa_kernel(SDPBackend.MATH), torch.backends.nnpack.flags(enabled=False)
        with torch.no_grad(), exact[0], exact[1], _Constants():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def seen(
    network: nn.Module, taps: Sequence[Tap], shape: tuple[int, int, int], rows: Sequence[range], side: Side = "rows",
    until: float = float("inf"),
) -> dict[str, Seen]:  # fmt: skip
    """Return for each tap, by name, which positions see the rows (or columns) of each image; an empty range is a control.

    Raises
    ------
    TooLateError
        `until`, on `time.monotonic`, is over.
    """
    found: dict[str, list[Seen]] = {tap.name: [] for tap in taps}
    at_once = max(_PIXELS_AT_ONCE // (shape[1] * shape[2]), 1)
    here: dict[str, Seen] = {}
    now: Sequence[range] = ()

    def catch(tap: Tap, maps: Tensor) -> None:
        if len(maps) != len(now):
            raise ValueError(f"{len(maps)} maps of {len(now)} images: at this size a module gives windows")
        reached = maps.isnan().any(1)
        here[tap.name] = reached.any(2 if side == "rows" else 1).cpu().numpy()
        if len(here) == len(taps):
            raise hooks.StopForward

    with hooks.watching(network, taps, catch) as calls:
        for start in range(0, len(rows), at_once):
            if time.monotonic() > until:
                raise TooLateError
            now = rows[start : start + at_once]
            images = noise(shape, hooks.device_of(network), len(now))
            for image, lines in zip(images, now, strict=True):
                (image if side == "rows" else image.transpose(1, 2))[:, lines.start : lines.stop] = torch.nan
            calls.clear()
            here.clear()
            hooks.forward(network, images)
            for name, came in here.items():
                found[name].append(came)
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}
