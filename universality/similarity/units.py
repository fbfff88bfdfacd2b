"""Which unit of one layer is which unit of another: a table with one row per match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from universality.base.arrays import Array, Undefined, live_units, standardised
from universality.base.errors import MeasureError, did_you_mean
from universality.base.inputs import pair
from universality.similarity import lasso, transport
from universality.similarity.chance import expected_best
from universality.similarity.matching import Pairs, correlations, hungarian, mutual_nearest, mutual_top, ranks, semi

if TYPE_CHECKING:
    import pandas as pd

Matched = tuple[Pairs, Array]
"""Pairs (m, 2) of units and the method's weight (m,) for each, NaN where it has none."""


@dataclass(frozen=True)
class Method:
    """How units are matched: what it does, whether an inverted unit counts as alike, and the function."""

    meaning: str
    absolute: bool
    match: Callable[[Array, Array, int], Matched]


def _by(pairs: Callable[[Array], Pairs], absolute: bool = False) -> Callable[[Array, Array, int], Matched]:
    def match(a: Array, b: Array, k: int) -> Matched:
        r = correlations(a, b)
        found = pairs(np.abs(r) if absolute else r)
        return found, np.full(len(found), np.nan)

    return match


def _mutual_top_k(a: Array, b: Array, k: int) -> Matched:
    found = mutual_top(correlations(a, b), k)
    return found, np.full(len(found), np.nan)


def _lasso(a: Array, b: Array, k: int) -> Matched:
    w = lasso.coefficients(b, a, expected_best(*b.shape, absolute=True))
    return _nonzero(w if isinstance(w, Undefined) else w.T)


def _soft(a: Array, b: Array, k: int) -> Matched:
    return _nonzero(transport.correlation_plan(a, b))


def _nonzero(weights: Array | Undefined) -> Matched:
    if isinstance(weights, Undefined):
        raise MeasureError(f"the units cannot be matched: {weights.reason}; choose another method")
    found = np.argwhere(weights != 0).astype(np.int64)
    return found, weights[found[:, 0], found[:, 1]]


METHODS = {
    "hungarian": Method("one to one, largest sum of r", False, _by(hungarian)),
    "hungarian_absolute": Method("one to one, largest sum of |r|", True, _by(hungarian, absolute=True)),
    "semi": Method("every unit of A with its best r in B; partners may be shared", False, _by(semi)),
    "semi_absolute": Method("every unit of A with its best |r| in B", True, _by(semi, absolute=True)),
    "mutual_nearest": Method("units that are each other's best r", False, _by(mutual_nearest)),
    "mutual_top_k": Method("pairs among each other's k best r (Rosetta)", False, _mutual_top_k),
    "lasso": Method("a unit of A as a sparse sum of B's units; weight is the coefficient", True, _lasso),
    "soft_matching": Method("optimal transport; weight is the mass moved, all together 1", False, _soft),
}


def match_units(x: Any, y: Any, method: str = "hungarian", *, k: int = 5) -> pd.DataFrame:
    """Match the units of two layers.

    Parameters
    ----------
    x, y : array_like, (n stimuli, p units) and (n stimuli, q units)
        Activations for the same stimuli in the same order, a.u., as `score` takes them. Units that do not vary are masked: they
        never match.
    method : str
        Key of `METHODS`.
    k : int
        For ``mutual_top_k``: how many of the best count, at least 1.

    Returns
    -------
    DataFrame
        One row per match: ``unit_a``, ``unit_b`` (columns of `x` and `y`), ``r`` (Pearson, -1 to 1), ``weight`` (mass of
        ``soft_matching``, coefficient of ``lasso`` for units of length 1, else NaN), ``rank_ab`` (rank of unit_b among
        the live units of B for unit_a, 1 = best; by |r| for the absolute methods and lasso), ``rank_ba``, ``mutual``
        (both ranks are 1), and ``chance_ab``: the expected best r (or |r|) of unit_a with as many *independent* units
        as B has. A one-to-one match can fall below it; a best match that does not exceed it is no evidence.
        ``attrs`` holds n, live p and q, the numbers of masked units dead_a and dead_b, and a ``reason`` where nothing
        could be matched (then there are no rows).

    Raises
    ------
    MeasureError
        Unknown method, k below 1, a lasso that does not converge, or arrays that `score` refuses.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> match_units(x, x[:, [2, 0, 1]])[["unit_a", "unit_b", "mutual"]].to_numpy().tolist()
    [[0, 1, True], [1, 2, True], [2, 0, True]]
    """
    chosen = _method(method)
    if not isinstance(k, int | np.integer) or k < 1:
        raise MeasureError(f"k is {k!r}, expected a whole number of at least 1; pass how many of the best count")
    x, y = pair(x, y)
    live_a, live_b = np.flatnonzero(live_units(x)), np.flatnonzero(live_units(y))
    facts = {
        "method": method, "n": len(x), "p": live_a.size, "q": live_b.size,
        "dead_a": x.shape[1] - live_a.size, "dead_b": y.shape[1] - live_b.size, "reason": "",
    }  # fmt: skip
    if len(x) < 3 or not live_a.size or not live_b.size:
        facts["reason"] = f"{len(x)} stimuli, 3 needed" if len(x) < 3 else "a layer has no unit that varies"
        return _table(np.empty((0, 2), dtype=np.int64), np.empty(0), np.empty((1, 1)), chosen, facts)
    a, b = standardised(x[:, live_a]), standardised(y[:, live_b])
    pairs, weights = chosen.match(a, b, k)
    table = _table(pairs, weights, correlations(a, b), chosen, facts)
    return table.assign(unit_a=live_a[table["unit_a"]], unit_b=live_b[table["unit_b"]])


def _method(name: str) -> Method:
    if not isinstance(name, str) or name not in METHODS:
        raise MeasureError(f"unknown method of matching units '{name}'{did_you_mean(str(name), METHODS)}")
    return METHODS[name]


def _table(pairs: Pairs, weights: Array, r: Array, method: Method, facts: dict[str, int | str]) -> pd.DataFrame:
    import pandas as pd

    i, j = pairs.T
    order: NDArray[np.float64] = np.abs(r) if method.absolute else r
    rank_ab, rank_ba = ranks(order, i, j), ranks(order.T, j, i)
    table = pd.DataFrame(
        {
            "unit_a": i, "unit_b": j, "r": r[i, j], "weight": weights,
            "rank_ab": rank_ab, "rank_ba": rank_ba, "mutual": (rank_ab == 1) & (rank_ba == 1),
            "chance_ab": expected_best(int(facts["n"]), int(facts["q"]), absolute=method.absolute),
        }
    )  # fmt: skip
    table.attrs.update(facts)
    return table
