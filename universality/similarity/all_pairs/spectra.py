"""Measures made of singular values, for all pairs from one product: SVCCA and orthogonal Procrustes.

Every layer is turned into its principal components with length one, U. The product U_i' U_j serves both: its leading
block holds the canonical correlations, and with the components' own lengths put back it is the product of the layers.
Components of length one also keep the small ones exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from universality.base.arrays import nuclear_norm
from universality.base.inputs import to_host
from universality.similarity import cca
from universality.similarity.all_pairs.blocks import cross_blocks
from universality.similarity.all_pairs.plan import Plan, ordered_map, too_small
from universality.similarity.all_pairs.views import Precision, View, held

Array = NDArray[np.float64]
_TOLERANCE: dict[Precision, float] = {"float32": 5e-7, "float64": 0.0}
"""What the singular values may add to the error of the Procrustes score."""


@dataclass(frozen=True)
class Principal:
    """A layer's principal axes (p, r), its components' lengths (r,), its norm, and how many components carry 99 %."""

    axes: Array
    lengths: Array
    norm: float
    kept: int


def principal(view: View, plan: Plan) -> Principal:
    """Decompose the covariance of a centred float64 view, summed over its tiles."""
    covariance = np.zeros((view.width, view.width))
    for start, stop in plan.spans(plan.rows):
        x = view.tile(start, stop)
        covariance += to_host(x.T @ x)
    variance, axes = np.linalg.eigh(covariance)
    count = min(view.width, plan.n)
    variance, axes = np.maximum(variance[::-1], 0.0)[:count], axes[:, ::-1][:, :count]
    kept = cca.carrying(variance, cca.SHARE)
    # Below this floor a variance is rounding. The component stays, with a length below one: nothing is lost.
    floor = view.width * np.finfo(np.float64).eps * variance[0]
    lengths = np.sqrt(np.maximum(variance, floor))
    return Principal(axes, lengths, float(np.sqrt(variance.sum())), kept)


def components(view: View, basis: Principal, dtype: Precision) -> View:
    """Return the principal components of a centred float64 view, each with length one."""
    scaled = basis.axes / basis.lengths

    def transform(tile: Any) -> Any:
        x = view.transform(tile)
        xp = array_api_compat.array_namespace(x)
        turned = x @ xp.asarray(scaled, device=array_api_compat.device(x))
        return xp.astype(turned, getattr(xp, dtype), copy=False)

    return View(view.source, transform, basis.lengths.size)


def spectral_measures(views: Sequence[View], plan: Plan, dtype: Precision, wanted: frozenset[str]) -> dict[str, Array]:
    """Return (L, L) matrices of ``svcca_variance99`` and ``procrustes_orthogonal``, as far as wanted.

    Parameters
    ----------
    views : centred views in float64
    dtype : precision of the products
    """
    if 8 * sum(view.width * min(view.width, plan.n) for view in views) > plan.memory // 4:
        raise too_small(plan)
    bases = list(ordered_map(lambda view: principal(view, plan), views, plan.workers))
    ready = held([components(view, basis, dtype) for view, basis in zip(views, bases, strict=True)], plan)
    score = _scorer(bases, plan.n, dtype, wanted)
    # A layer agrees with itself without a product, unless its subspace fills the sample space.
    own = np.where([_trivial(basis, basis, plan.n) for basis in bases], np.nan, 1.0)
    found = {name: np.diag(own if name == "svcca_variance99" else np.ones(len(views))) for name in sorted(wanted)}
    for i, j, values in cross_blocks(ready, plan, score, own=False):
        for name, value in values.items():
            found[name][i, j] = found[name][j, i] = value
    return found


def _trivial(a: Principal, b: Principal, n: int) -> bool:
    """Return whether a subspace fills the sample space: it agrees with every other one whatever the data."""
    return max(a.kept, b.kept) >= n - 1


def _scorer(
    bases: Sequence[Principal], n: int, dtype: Precision, wanted: frozenset[str]
) -> Callable[[int, int, Any], dict[str, float]]:
    tolerance = _TOLERANCE[dtype]

    def score(i: int, j: int, block: Any) -> dict[str, float]:
        product = to_host(block)
        a, b = bases[i], bases[j]
        values = {}
        if "svcca_variance99" in wanted:
            within = product[: a.kept, : b.kept]
            values["svcca_variance99"] = np.nan if _trivial(a, b, n) else cca.mean_correlation(within)
        if "procrustes_orthogonal" in wanted:
            weighed = (a.lengths / a.norm)[:, None] * product
            weighed *= b.lengths / b.norm
            values["procrustes_orthogonal"] = min(nuclear_norm(weighed, tolerance), 1.0)
        return values

    return score
