"""Measure what a card states about a tap: channels, map size, receptive field, stride, offset, relative depth.

The receptive field is where the gradient of one unit with respect to the input can be other than zero. It is
measured on a copy of the network in which every step is linear with positive weights (nonlinearities removed,
maxima replaced by means, normalisations set to identity): there no path can cancel another and none is switched
off, so the support of the gradient is the theoretical receptive field, for any graph and any padding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from universality.base.errors import TapError
from universality.models import hooks
from universality.models.card import Tap

_MARGINS_PX = (256, 512, 1024, 2048)
"""Added to the input, the next where a field does not fit. Multiples of 64: padding rules that depend on whether a map's
size is odd ("same" padding) then pad as they do at the card's size, at all strides up to 64."""

_RANDOM_SUMS = 6

_NORMALISATIONS = (nn.modules.batchnorm._BatchNorm,)


def describe_tap(
    network: nn.Module,
    path: str,
    size_px: int,
    *,
    call: int = 0,
    side: Literal["input", "output"] = "output",
    activation: Literal["pre", "post"] = "post",
    name: str | None = None,
) -> Tap:
    """Measure a tap of `network` at the input size `size_px` and return it as a card states it.

    Raises
    ------
    TapError
        If there is no such module, it is not called often enough, or it gives no feature maps.
    """
    probe = Tap.model_construct(
        name=name or path,
        path=path,
        call=call,
        calls=call + 1,
        side=side,
        activation=activation,
        channels=1,
        size=1,
        rf_px=1,
        stride_px=1,
        rf_start_px=0.0,
        relative_depth=1.0,
    )
    shape, calls, depth = _shape_and_depth(network, probe, size_px)
    rf_px, stride_px, start = _receptive_field(network, probe, size_px)
    return Tap.model_validate(
        {
            **probe.model_dump(),
            "calls": calls,
            "channels": shape[1],
            "size": shape[2],
            "rf_px": rf_px,
            "stride_px": stride_px,
            "rf_start_px": start,
            "relative_depth": depth,
        }
    )


def _shape_and_depth(network: nn.Module, tap: Tap, size_px: int) -> tuple[tuple[int, ...], int, float]:
    seen: list[tuple[tuple[int, ...], int]] = []
    counted, remove = hooks.weight_calls(network)
    try:
        image = torch.zeros(1, 3, size_px, size_px, device=hooks.device_of(network))
        with (
            torch.inference_mode(),
            hooks.watching(network, [tap], lambda _, maps: seen.append((tuple(maps.shape), counted()))) as calls,
        ):
            network(image)
        total = counted()
    finally:
        remove()
    if not seen:
        raise TapError(f"tap '{tap.name}' was called {calls.get(tap.path, 0)} times, so call {tap.call} never comes")
    shape, before = seen[0]
    if shape[2] != shape[3]:
        raise TapError(f"tap '{tap.name}' gives maps of {shape[2]} x {shape[3]}, expected square ones")
    return shape, calls[tap.path], round(before / total, 4)


def _receptive_field(network: nn.Module, tap: Tap, size_px: int) -> tuple[int, int, float]:
    """Return receptive field (px), stride (px), and the centre of position 0 (px)."""
    linear, before = positive_linear_copy(network), 0
    for margin in _MARGINS_PX:
        image = torch.ones(1, 3, size_px + margin, size_px + margin, dtype=torch.float64, requires_grad=True)
        maps = _maps_at(linear, tap, image)
        field = _field_in(maps, image)
        if field is not None:
            return field
        if maps.shape[2] == before:
            break  # pooled to a map of one size, whatever the input's
        before = maps.shape[2]
    raise TapError(f"tap '{tap.name}' sees the whole input at every size: it has no receptive field")


def _maps_at(linear: nn.Module, tap: Tap, image: Tensor) -> Tensor:
    """Return a tap's maps (1, channel, row, column), with their graph back to the image."""
    caught: list[Tensor] = []

    def catch(_: Tap, maps: Tensor) -> None:
        caught.append(maps)
        raise hooks.StopForward

    with linear_functions(), hooks.watching(linear, [tap], catch):
        hooks.forward(linear, image)
    return caught[0]


def _field_in(maps: Tensor, image: Tensor) -> tuple[int, int, float] | None:
    """Measure in one image; None where a field touches the border, so that it may be cut off."""
    size_px, middle = image.shape[2], maps.shape[2] // 2
    if middle + 1 >= maps.shape[2]:
        return None  # too few positions to measure a stride: pooled over the whole map, or a field of the input's size
    spans = [_support(maps, image, middle), _support(maps, image, middle + 1)]
    if min(low for low, _ in spans) == 0 or max(high for _, high in spans) == size_px - 1:
        return None
    (low, high), (next_low, _) = spans
    stride = next_low - low
    return high - low + 1, stride, (low + high) / 2 - middle * stride


def _support(maps: Tensor, image: Tensor, index: int) -> tuple[int, int]:
    """Return first and last input row in the field of row `index`; rows and columns have to agree."""
    (gradient,) = torch.autograd.grad(maps[0, :, index, index].sum(), image, retain_graph=True)
    seen = gradient[0].abs().sum(0) > 0
    rows = torch.nonzero(seen.any(1)).ravel()
    columns = torch.nonzero(seen.any(0)).ravel()
    if rows[0] != columns[0] or rows[-1] != columns[-1]:
        raise TapError("receptive field differs between rows and columns, which cards cannot state")
    return int(rows[0]), int(rows[-1])


def effective_side_px(network: nn.Module, tap: Tap, images: NDArray[np.float32], share: float = 0.9) -> int:
    """Return the side of the effective receptive field: the part of the theoretical one that moves the centre unit.

    The smallest square about the field's centre with `share` of the squared gradient of the centre units with respect to the
    input, summed over images and over six random sums of all units (Luo et al. 2016, Understanding the effective receptive field;
    there the border is 4.5 % of the peak). It depends on the weights and on the images, so no card states it.

    Parameters
    ----------
    images : (stimulus, channel, y, x) float32
        Normalised for the network, at its input size.
    share : float
        0 to 1, of the squared gradient within the image.

    Returns
    -------
    int
        px; odd or even as the theoretical field is, so that both have one centre.

    Raises
    ------
    TapError
        If no unit at the centre answers to the images.
    """
    caught: list[Tensor] = []

    def catch(_: Tap, maps: Tensor) -> None:
        caught.append(maps)
        raise hooks.StopForward

    shown = torch.from_numpy(images).to(hooks.device_of(network)).requires_grad_()
    with hooks.watching(network, [tap], catch):
        hooks.forward(network, shown)
    size_px = images.shape[-1]
    index = tap.center_index(size_px)
    units = caught[0][:, :, index, index]
    energy = np.zeros((size_px, size_px))
    generator = torch.Generator().manual_seed(0)
    for _ in range(_RANDOM_SUMS):
        weights = torch.randn(units.shape, generator=generator).to(units.device)
        (gradient,) = torch.autograd.grad((units * weights).sum(), shown, retain_graph=True)
        energy += (gradient.double() ** 2).sum((0, 1)).cpu().numpy()
    if energy.sum() == 0:
        raise TapError(f"tap '{tap.name}': no unit at the centre answers to these images; show others")
    away = np.abs(np.arange(size_px) - (tap.rf_start_px + tap.stride_px * index))
    ring = np.maximum(away[:, None], away[None, :])
    sides = np.arange(2 - tap.rf_px % 2, tap.rf_px + 2, 2)
    within = [energy[ring <= (side - 1) / 2].sum() for side in sides]
    return int(sides[np.searchsorted(within, share * energy.sum())])


class _MeanConvolution(nn.Module):
    """A convolution's geometry alone: the mean over its window and all channels, for every output channel."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        kind = type(convolution)
        # "Same" padding depends on the input, so that class has to compute it; the other holds it as a number.
        if kind is not nn.Conv2d and kind.__name__ != "Conv2dSame":
            raise TapError(f"the receptive field through a {kind.__name__} cannot be measured; write it into the card")
        self.channels = convolution.out_channels
        geometry: dict[str, Any] = {
            name: getattr(convolution, name) for name in ("kernel_size", "stride", "padding", "dilation")
        }
        self.window = kind(1, 1, bias=False, **geometry)
        nn.init.constant_(self.window.weight, 1.0 / self.window.weight.numel())

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.window(x.mean(1, keepdim=True))
        return mean.expand(-1, self.channels, -1, -1)


class _MeanPool(nn.Module):
    """A pooling's geometry alone: of the mean over all channels, since only which pixels are seen matters."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.pool(x.mean(1, keepdim=True))
        return mean.expand(-1, x.shape[1], -1, -1)


def positive_linear_copy(network: nn.Module) -> nn.Module:
    """Return a float64 copy, on the CPU and in eval mode, in which every module is linear with positive weights."""
    linear = copy.deepcopy(network).cpu().eval()
    for parent in list(linear.modules()):
        for name, child in list(parent.named_children()):
            replacement = _linear_stand_in(child)
            if replacement is not None:
                setattr(parent, name, replacement)
    for module in linear.modules():
        if isinstance(module, _NORMALISATIONS):
            _make_identity(module)
    return linear.double()


def _linear_stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.Conv2d):
        return _MeanConvolution(module)
    if isinstance(module, nn.MaxPool2d):
        return _MeanPool(nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode))
    if type(module) is nn.AvgPool2d or type(module) is nn.AdaptiveAvgPool2d:
        return _MeanPool(module)
    if (
        isinstance(module, (nn.Dropout, nn.GroupNorm, nn.LayerNorm))
        or type(module).__module__ == "torch.nn.modules.activation"
    ):
        return nn.Identity()
    return None


def _make_identity(module: nn.Module) -> None:
    for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
        tensor = getattr(module, name, None)
        if tensor is not None:
            nn.init.constant_(tensor, value)


@contextmanager
def linear_functions() -> Iterator[None]:
    """Replace the functional nonlinearities that some networks call instead of modules."""
    kept = functional.relu, functional.relu6, torch.relu

    def identity(x: Tensor, *_: object, **__: object) -> Tensor:
        return x

    functional.relu = functional.relu6 = torch.relu = identity  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.relu, functional.relu6, torch.relu = kept
