"""A network made linear while it runs: nonlinearities hand on what they are given, maxima become means, gates are constants.

- Nonlinearities that bend a map (ReLU, ReLU6, GELU, SiLU, ELU and the like, as modules or functions) become the identity.
- Maximum pooling becomes average pooling over the same windows.
- Gates and weights of sums (sigmoid, hard sigmoid, softmax, tanh) keep the values that they have, and pass no gradient: squeeze and excitation
  multiplies by a constant.
- BatchNorm in evaluation mode, convolutions, linear layers, sums and concatenations are linear already. What normalises a sample by its own statistics
  (LayerNorm, GroupNorm) divides by a constant: its deviation is taken out of the gradient.
- Attention, and any other product of two things that both depend on the source (gated units, a square), has no linear stand-in: `ProductError`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_IDENTITY = frozenset(
    {
        "relu", "relu6", "gelu", "silu", "mish", "hardswish", "elu", "celu", "selu", "leaky_relu", "rrelu", "prelu", "softplus", "hardtanh",
        "threshold", "clamp", "clamp_min", "clip",
    }
)  # fmt: skip
_CONSTANT = frozenset({
    "sigmoid", "hardsigmoid", "softmax", "log_softmax", "tanh", "logsigmoid", "erf", "norm", "vector_norm", "linalg_vector_norm", "std", "var", "var_mean", "std_mean",
})  # fmt: skip
_ATTENTION = frozenset({
    "scaled_dot_product_attention", "multi_head_attention_forward", "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "flex_attention",
})  # fmt: skip
_PRODUCTS = frozenset({
    "matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "einsum", "tensordot", "baddbmm", "addbmm", "bilinear", "mul", "multiply", "__mul__", "__rmul__", "__imul__",
    "addcmul", "glu", "conv1d", "conv2d", "linear",
})  # fmt: skip
_MAXIMA = frozenset({"max_pool2d", "max_pool2d_with_indices", "boolean_dispatch"})


class ProductError(Exception):
    """A step multiplies two things that both depend on the source."""


class Linearised(TorchFunctionMode):
    """Within it, whatever a network calls is linear in what it is given; no module is changed.

    What depends on the source is what passes a gradient: parameters must not (`models.zoo.frozen`).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of Torch, or what stands for it."""
        kwargs = kwargs or {}
        given = getattr(func, "__name__", "")
        name = given if given.startswith("__") else given.rstrip("_")
        if name in _ATTENTION or name in _PRODUCTS:
            dependent = _dependent((args, kwargs))
            if dependent > (0 if name in _ATTENTION or name == "glu" else 1):
                raise ProductError(name)
        if name in _IDENTITY:
            given = args[0] if args else kwargs["input"]
            # A copy where the network expects the place of its tensor to be written on.
            return given.clone() if isinstance(given, Tensor) and given.requires_grad else given
        if name in _CONSTANT:
            with torch.no_grad():
                return func(*args, **kwargs)
        if name in _MAXIMA and _takes_windows(args, kwargs):
            return _mean_of_windows(*args, **kwargs)
        if name == "adaptive_max_pool2d":
            return functional.adaptive_avg_pool2d(*_first(args, kwargs, 2))
        if name in _NORMALISING:
            return _NORMALISING[name](*args, **kwargs)
        return func(*args, **kwargs)


def _dependent(given: Any) -> int:
    """Return how many of the tensors given, also within lists, pass a gradient."""
    if isinstance(given, Tensor):
        return int(given.requires_grad)
    if isinstance(given, dict):
        given = given.values()
    elif not isinstance(given, (tuple, list)):
        return 0
    return sum(_dependent(one) for one in given)


def _takes_windows(args: Any, kwargs: Any) -> bool:
    given = args[0] if args else kwargs.get("input")
    return isinstance(given, Tensor) and given.dim() in (3, 4)


def _first(args: Any, kwargs: Any, count: int) -> tuple[Any, ...]:
    names = ("input", "output_size")
    return tuple(args[k] if k < len(args) else kwargs[names[k]] for k in range(count))


def _mean_of_windows(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False, *_: Any, **__: Any
) -> Tensor:  # fmt: skip
    """Return average pooling over the windows of a maximum pooling; what lies beyond the border does not count."""
    if dilation not in (1, (1, 1), [1, 1]):
        raise ValueError("dilated windows have no average pooling")
    return functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad=False)


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    dims = tuple(range(input.dim() - len(tuple(normalized_shape)), input.dim()))
    found = _divided(input, dims, eps)
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    grouped = input.reshape(len(input), num_groups, -1)
    found = _divided(grouped, (2,), eps).reshape(input.shape)
    shape = (1, -1, *(1,) * (input.dim() - 2))
    found = found if weight is None else found * weight.reshape(shape)
    return found if bias is None else found + bias.reshape(shape)


def _divided(values: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    """Return values less their mean, divided by their deviation, which passes no gradient."""
    deviation = (values.detach().var(dims, unbiased=False, keepdim=True) + eps).sqrt()
    return (values - values.mean(dims, keepdim=True)) / deviation


_NORMALISING = {"layer_norm": _layer_norm, "group_norm": _group_norm}
