"""Join each BatchNorm to the convolution before it, so that a forward pass takes one step where it took two.

In eval mode BatchNorm is one factor and one summand per channel, which a convolution can carry in its own weights.

A depthwise convolution that pads its input by itself, more at the end than at the beginning (timm's ``Conv2dSame`` with stride 2), copies all of
its input first, which takes as long as the convolution. With a row and a column of zeros before its kernel the same
values come from padding that is the same on both sides, which needs no copy. A dense convolution would multiply by these zeros for longer than it copies.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from universality.models import hooks
from universality.models.card import Size, Tap, input_shape

_IMAGES = 2
_ROUNDING = 1e-3
"""Of a tap's largest value: rounding of float32 in another order comes to less than a tenth of it, and what folds wrongly differs by far more."""


def folded(network: nn.Module, taps: Sequence[Tap], size: Size) -> nn.Module:
    """Return a network that gives the same values at `taps`, up to rounding, with BatchNorms joined to their convolutions.

    Parameters
    ----------
    network : nn.Module
        In eval mode; it is not changed. What the result leaves alone it shares with it.
    taps : sequence of Tap
        What will be read. A convolution whose own output is read, or a BatchNorm whose input is, stays.
    size : int or tuple
        Of an image, as `universality.models.card.input_shape`.

    Returns
    -------
    nn.Module
        `network` itself where there is nothing to join, or where the values at a tap would change: the output of a convolution may
        have other readers than its BatchNorm, which only the values tell. Children of a BatchNorm, such as timm's nonlinearity,
        keep their paths.
    """
    images = torch.randn(_IMAGES, *input_shape(size), generator=torch.Generator().manual_seed(0))
    before, pairs, given_px = _watched(network, taps, images)
    if not pairs:
        return network
    joined = _joined(network, pairs, given_px)
    after = _watched(joined, taps, images)[0]
    same = all((after[name] - values).abs().max() <= _ROUNDING * values.abs().max() for name, values in before.items())
    return joined if same else network


def _watched(
    network: nn.Module, taps: Sequence[Tap], images: Tensor
) -> tuple[dict[str, Tensor], list[tuple[str, str]], dict[str, tuple[int, int]]]:
    """Return the values at taps, by name, the paths of convolutions with their BatchNorms, and the height and width of what each convolution is given, by one forward pass."""
    read = {tap.path for tap in taps if tap.side == "output"}
    read_before = {tap.path for tap in taps if tap.side == "input"}
    caught: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    # The outputs are kept: a freed tensor's place could be that of another one.
    made: list[tuple[str, Tensor]] = []
    pairs: list[tuple[str, str]] = []
    given_px: dict[str, tuple[int, int]] = {}

    def catch(tap: Tap, maps: Tensor) -> None:
        caught[tap.name] = maps.clone()
        if len(caught) == len(taps):
            raise hooks.StopForward

    def convolved(path: str, given: tuple[Any, ...], output: Any) -> None:
        calls[path] += 1
        if isinstance(output, Tensor):
            made.append((path, output))
            given_px[path] = (given[0].shape[-2], given[0].shape[-1])

    def normalised(path: str, given: tuple[Any, ...]) -> None:
        calls[path] += 1
        pairs.extend((conv, path) for conv, output in made if given and output is given[0])

    handles = []
    for path, module in network.named_modules():
        if _convolves(module) and path not in read:
            handles.append(module.register_forward_hook(lambda _, args, out, path=path: convolved(path, args, out)))
        elif _normalises(module) and path not in read_before:
            handles.append(module.register_forward_pre_hook(lambda _, args, path=path: normalised(path, args)))
    try:
        with torch.inference_mode(), hooks.watching(network, taps, catch):
            hooks.forward(network, images.to(hooks.device_of(network)))
    finally:
        for handle in handles:
            handle.remove()
    of_conv, of_norm = Counter(conv for conv, _ in pairs), Counter(norm for _, norm in pairs)
    return caught, [(c, n) for c, n in pairs if calls[c] == calls[n] == of_conv[c] == of_norm[n] == 1], given_px


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and isinstance(module._parameters.get("weight"), nn.Parameter)


def _normalises(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None


def _joined(network: nn.Module, pairs: Sequence[tuple[str, str]], given_px: dict[str, tuple[int, int]]) -> nn.Module:
    modules = dict(network.named_modules())
    changed = {id(tensor) for conv, _ in pairs for tensor in modules[conv].parameters(recurse=False)}
    kept = {id(t): t for t in (*network.parameters(), *network.buffers()) if id(t) not in changed}
    joined = copy.deepcopy(network, kept)
    modules = dict(joined.named_modules())
    for conv_path, norm_path in pairs:
        conv, norm = modules[conv_path], modules[norm_path]
        dtype = next(conv.parameters()).dtype
        # In float64, on a copy of what is shared with the network.
        both = fuse_conv_bn_eval(conv.double(), copy.deepcopy(norm).double()).to(dtype)
        both = _padding_evenly(both, given_px[conv_path])
        children = nn.Sequential(OrderedDict(norm.named_children())).eval()
        for path, module in ((conv_path, both), (norm_path, children)):
            parent, _, name = path.rpartition(".")
            modules[parent]._modules[name] = module
    return joined


def _padding_evenly(conv: nn.Module, given_px: tuple[int, int]) -> nn.Module:
    """Return a depthwise convolution that pads alike on both sides and gives what timm's ``Conv2dSame`` does for inputs of this height and width; any other as it is."""
    if not (
        isinstance(conv, nn.Conv2d)
        and (type(conv).__module__.partition(".")[0], type(conv).__name__) == ("timm", "Conv2dSame")
    ):
        return conv
    if conv.groups != conv.in_channels or set(conv.dilation) != {1}:
        return conv
    missing = [
        max((math.ceil(given / stride) - 1) * stride + kernel - given, 0)
        for given, stride, kernel in zip(given_px, conv.stride, conv.kernel_size, strict=True)
    ]
    odd, pads = [lack % 2 for lack in missing], [-(-lack // 2) for lack in missing]
    kernel = [side + one for side, one in zip(conv.kernel_size, odd, strict=True)]
    even = nn.Conv2d(
        conv.in_channels, conv.out_channels, (kernel[0], kernel[1]), (conv.stride[0], conv.stride[1]), (pads[0], pads[1]), groups=conv.groups,
        bias=conv.bias is not None, dtype=conv.weight.dtype,
    )  # fmt: skip
    even.weight = nn.Parameter(nn.functional.pad(conv.weight.detach(), (odd[1], 0, odd[0], 0)))
    even.bias = conv.bias
    return even.eval()
