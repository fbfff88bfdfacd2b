"""Frobenius products of all pairs of linear kernels without their diagonals: what debiased CKA and RSA have in common.

With K = Z Z' for each layer, everything follows from F = sum over s != t of (K_st - k)(L_st - l), where k and l are the
means off the diagonal, and from sums over the diagonals. Taking the diagonal and the mean off *before* the products
leaves float32 little to cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from universality.base.inputs import to_host
from universality.similarity.all_pairs.blocks import cross_blocks
from universality.similarity.all_pairs.plan import Plan, Space, ordered_map
from universality.similarity.all_pairs.views import View

Array = NDArray[np.float64]
_CHUNK = 2**14
"""Terms of a product that are summed in the tile's own precision before float64 takes over."""


@dataclass(frozen=True)
class Kernels:
    """Sums over all pairs of layers.

    Attributes
    ----------
    n : int
    centred : (L, L), sum over s != t of (K_st - k)(L_st - l)
    off_sums : (L,), sum over s != t of K_st
    diagonals : (L, L), sum over s of K_ss L_ss
    """

    n: int
    centred: Array
    off_sums: Array
    diagonals: Array

    @property
    def off_products(self) -> Array:
        """Sum over s != t of K_st L_st."""
        return self.centred + np.outer(self.off_sums, self.off_sums) / (self.n * (self.n - 1))


def kernels(views: Sequence[View], plan: Plan, space: Space) -> Kernels:
    """Return the sums of all pairs, tiles of stimuli at a time, in `space`."""
    off_sums, diagonals = _sums(views, plan)
    means = off_sums / (plan.n * (plan.n - 1))
    # A layer with an undefined row has undefined sums; the others are multiplied without it.
    defined = np.flatnonzero(np.isfinite(off_sums))
    chosen = [views[int(i)] for i in defined]
    products = np.full(diagonals.shape, np.nan)
    if not chosen:
        return Kernels(plan.n, products, off_sums, diagonals)
    if space == "gram":
        products[np.ix_(defined, defined)] = _gram_products(chosen, plan, means[defined])
    else:
        products[np.ix_(defined, defined)] = _feature_products(chosen, plan)
        products -= diagonals + np.outer(off_sums, means)
    return Kernels(plan.n, products, off_sums, diagonals)


def _sums(views: Sequence[View], plan: Plan) -> tuple[Array, Array]:
    def work(span: tuple[int, int]) -> tuple[Array, Array, list[Array]]:
        lengths, totals = [], []
        for view in views:
            z = view.tile(*span)
            xp = array_api_compat.array_namespace(z)
            wide = xp.astype(z, xp.float64, copy=False)
            lengths.append(to_host(xp.sum(wide * wide, axis=1)))
            totals.append(to_host(xp.sum(wide, axis=0)))
        d = np.stack(lengths)
        return d @ d.T, d.sum(axis=1), totals

    diagonals, traces = np.zeros((len(views), len(views))), np.zeros(len(views))
    totals = [np.zeros(view.width) for view in views]
    for product, trace, parts in ordered_map(work, plan.spans(plan.rows), plan.workers):
        diagonals += product
        traces += trace
        for total, part in zip(totals, parts, strict=True):
            total += part
    return np.array([total @ total for total in totals]) - traces, diagonals


def _gram_products(views: Sequence[View], plan: Plan, means: Array) -> Array:
    """Stack a tile of every layer's Gram matrix, (L, rows * columns), and multiply the stack with itself.

    Tiles below the diagonal are the transposes of those above it: these count twice.
    """
    spans = plan.spans(plan.edge)
    tiles = [(rows, columns) for i, rows in enumerate(spans) for columns in spans[i:]]

    def work(tile: tuple[tuple[int, int], tuple[int, int]]) -> Array:
        rows, columns = tile
        stack = _gram_tile(views, rows, columns, means)
        product = _own_product(stack)
        product *= 1.0 if rows == columns else 2.0
        return product

    products = np.zeros((len(views), len(views)))
    for product in ordered_map(work, tiles, plan.workers):
        products += product
    return products


def _gram_tile(views: Sequence[View], rows: tuple[int, int], columns: tuple[int, int], means: Array) -> Any:
    stack: Any = None
    for i, view in enumerate(views):
        a = view.tile(*rows)
        b = a if rows == columns else view.tile(*columns)
        if stack is None:
            xp = array_api_compat.array_namespace(a)
            shape = (len(views), a.shape[0], b.shape[0])
            stack = xp.empty(shape, dtype=a.dtype, device=array_api_compat.device(a))
        _product_into(stack, i, a, b, xp)
    stack -= xp.asarray(means, dtype=stack.dtype, device=array_api_compat.device(stack))[:, None, None]
    if rows == columns:
        same = xp.arange(stack.shape[1], device=array_api_compat.device(stack))
        stack[:, same, same] = 0.0
    return xp.reshape(stack, (len(views), -1))


def _product_into(stack: Any, i: int, a: Any, b: Any, xp: Any) -> None:
    # The standard has no out=; without it every tile is written twice, which is a tenth of the time on a CPU.
    if array_api_compat.is_numpy_namespace(xp):
        np.matmul(a, b.T, out=stack[i])
    else:
        stack[i, :, :] = a @ b.T


def _own_product(stack: Any) -> Array:
    """Return ``stack @ stack.T`` in float64, from products over `_CHUNK` columns in the stack's precision."""
    xp = array_api_compat.array_namespace(stack)
    columns = stack.shape[1]
    whole = columns - columns % _CHUNK
    rest = stack[:, whole:]
    # One chunk after another: of thousands of layers a single (L, L) product is large.
    products = xp.astype(rest @ rest.T, xp.float64, copy=False)
    for start in range(0, whole, _CHUNK):
        part = stack[:, start : start + _CHUNK]
        products += part @ part.T
    return np.asarray(to_host(products))


def _feature_products(views: Sequence[View], plan: Plan) -> Array:
    """Return <Z Z', W W'>_F = |Z' W|^2 of all pairs."""

    def squared(_i: int, _j: int, block: Any) -> float:
        xp = array_api_compat.array_namespace(block)
        return float(xp.sum(block * block))

    products = np.zeros((len(views), len(views)))
    for i, j, value in cross_blocks(views, plan, squared):
        products[i, j] = products[j, i] = value
    return products
