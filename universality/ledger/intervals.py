"""Aggregates of tables, of all networks and of resampled ones, and the intervals that these give.

Networks are resampled, not rows: units of one network, and pairs that share one, are not independent. A row counts as often as the product of
its networks' draws. Of few networks the percentiles of a bootstrap are too narrow: they are moved outwards as Student's t asks for
(the expanded percentile interval; Hesterberg 2015, What Teachers Should Know About the Bootstrap, The American Statistician 69, section
5.3), and of fewer than `LEAST_NETWORKS` there is no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata, t

from universality.base.arrays import Array
from universality.correspondence.resampling import wilson_interval
from universality.ledger import rows as of_rows
from universality.ledger.expressions import Aggregate

DRAWS = 2000
LEAST_NETWORKS = 4
LEAST_ROWS = 8
"""Fewest that are resampled where rows are taken to be independent."""
LEAST_DEFINED = 0.5
"""Share of the draws in which an expression has to have a value: where all pairs have one network in common, a third of the draws lack it."""
NETWORK_COLUMNS = (("model",), ("model_a", "model_b"))
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Chosen:
    """What one aggregate is made of.

    Attributes
    ----------
    values : (argument, row), rows with a value that is not known left out
    members : (row, network of it), names; no columns for a table that names no network
    """

    name: str
    values: Array
    members: NDArray[np.str_]

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.values.shape[1])


def chosen(of: Aggregate, table: pd.DataFrame, which: NDArray[np.bool_]) -> Chosen:
    """Return the rows of a table that an aggregate is made of.

    Parameters
    ----------
    which : (row,)
        Rows that may count, beside the aggregate's own condition.

    Raises
    ------
    ClaimError
        Columns hold values that cannot be combined as asked.
    """
    table = table[which & of_rows.condition(of.where, table)]
    if of.name in ("share", "networks"):
        values = [of_rows.condition(node, table).astype(np.float64) for node in of.values]
    else:
        values = [
            pd.Series(of_rows.number(node, table), index=table.index, dtype=np.float64).to_numpy() for node in of.values
        ]
    numbers = np.array(values, dtype=np.float64).reshape(len(values), len(table))
    names = next((names for names in NETWORK_COLUMNS if set(names) <= set(table.columns)), ())
    members = table[list(names)].to_numpy(dtype=np.str_).reshape(len(table), len(names))
    known = np.isfinite(numbers).all(axis=0)
    numbers, members = numbers[:, known], members[known]
    return _by_network(numbers, members) if of.name == "networks" else Chosen(of.name, numbers, members)


def _by_network(values: Array, members: NDArray[np.str_]) -> Chosen:
    """Return one row for each network (or pair), whether the condition holds for one of its rows."""
    if not members.shape[1]:
        return Chosen("share", values, members)
    frame = pd.DataFrame(members).assign(value=values[0])
    held = frame.groupby(list(range(members.shape[1])), sort=True)["value"].max()
    index = held.index.to_frame().to_numpy(dtype=np.str_).reshape(len(held), members.shape[1])
    return Chosen("share", held.to_numpy()[None, :], index)


def networks_of(parts: Sequence[Chosen]) -> list[str]:
    """Return the networks in the rows of some aggregates, sorted."""
    return sorted({str(name) for part in parts for name in part.members.ravel()})


def values_over_networks(
    parts: Sequence[Chosen], networks: Sequence[str], seed: int, draws: int = DRAWS
) -> list[Array]:
    """Return each aggregate's value, (1 + draw,): of all networks, then of resampled ones; all aggregates have the same draws."""
    count = len(networks)
    rng = np.random.default_rng(seed)
    drawn = (
        rng.multinomial(count, np.full(count, 1 / count), draws) if count >= LEAST_NETWORKS else np.empty((0, count))
    )
    times = np.concatenate([np.ones((1, count)), drawn]).astype(np.float64)
    place = {name: index for index, name in enumerate(networks)}
    found = []
    for part in parts:
        at = np.array([[place[str(name)] for name in row] for row in part.members], dtype=np.int64)
        at = at.reshape(part.n, part.members.shape[1])
        weights = (times[start:stop][:, at].prod(axis=2) for start, stop in _stretches(len(times), part.n))
        found.append(np.concatenate([_weighted(part, w) for w in weights]))
    return found


def values_over_rows(parts: Sequence[Chosen], seed: int, draws: int = DRAWS) -> list[Array]:
    """Return each aggregate's value, (1 + draw,): of all rows, then of resampled ones, as if rows were independent."""
    found = []
    for number, part in enumerate(parts):
        rng = np.random.default_rng([seed, number])
        values = [_weighted(part, np.ones((1, part.n)))]
        if part.n >= LEAST_ROWS:
            for start, stop in _stretches(draws, part.n):
                drawn = rng.multinomial(part.n, np.full(part.n, 1 / part.n), stop - start)
                values.append(_weighted(part, drawn.astype(np.float64)))
        found.append(np.concatenate(values))
    length = max((len(values) for values in found), default=1)
    # An aggregate of too few rows has no draws: nothing that it is part of has an interval.
    return [values if len(values) == length else np.r_[values[0], np.full(length - 1, np.nan)] for values in found]


def _stretches(total: int, each: int) -> Iterator[tuple[int, int]]:
    step = max(_AT_ONCE // max(each, 1), 1)
    for start in range(0, total, step):
        yield start, min(start + step, total)


def _weighted(part: Chosen, weights: Array) -> Array:
    """Return an aggregate's value for each row of weights (draw, row): NaN where no row counts."""
    total = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if part.name == "count":
            return np.asarray(total)
        if part.name in ("share", "mean"):
            return np.asarray(weights @ part.values[0] / total)
        if part.name == "median":
            return _median(part.values[0], weights)
        if part.name in ("least", "largest"):
            # The extreme of a resample says nothing of how far that of other networks would lie.
            value = (np.min if part.name == "least" else np.max)(part.values[0]) if part.n else np.nan
            return np.where((weights == 1).all(axis=1), value, np.nan)
        x, y = part.values
        if part.name == "rank_correlation":
            x, y = rankdata(x), rankdata(y)
        return _correlation(x - x.mean() if part.n else x, y - y.mean() if part.n else y, weights, total)


def _correlation(x: Array, y: Array, weights: Array, total: Array) -> Array:
    mean_x, mean_y = weights @ x / total, weights @ y / total
    xx, yy, xy = (weights @ z / total for z in (x * x, y * y, x * y))
    spread = (xx - mean_x**2) * (yy - mean_y**2)
    # Of values that are all alike there is none: what rounding leaves of their spread is no number.
    spread = np.where(spread > 1e-20 * np.maximum(xx * yy, np.finfo(np.float64).tiny), spread, np.nan)
    return np.asarray((xy - mean_x * mean_y) / np.sqrt(spread))


def _median(values: Array, weights: Array) -> Array:
    """Return weighted medians: the mean of the two middle values where the weights add up to an even number."""
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ordered, counted = values[order], weights[:, order].cumsum(axis=1)
    total = counted[:, -1]
    low = (counted >= np.ceil(total / 2)[:, None]).argmax(axis=1)
    high = (counted >= (np.floor(total / 2) + 1)[:, None]).argmax(axis=1)
    return np.where(total > 0, (ordered[low] + ordered[high]) / 2, np.nan)


def interval(values: Array, count: int) -> tuple[float, float]:
    """Return the 95 % interval of an expression from its values (1 + draw,) over resamples of `count`; NaN where there is none."""
    drawn = values[1:]
    known = drawn[np.isfinite(drawn)]
    if count < 2 or not drawn.size or known.size < LEAST_DEFINED * drawn.size:
        return np.nan, np.nan
    level = ndtr(-np.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1))
    low, high = np.quantile(known, (level, 1 - level))
    return float(low), float(high)


def of_counts(part: Chosen, low: float, high: float) -> tuple[float, float]:
    """Return the interval of a share, no narrower than Wilson's of its rows: none of 200 is not known to be none."""
    if part.name != "share" or np.isnan(low) or not part.n:
        return low, high
    least, most = wilson_interval(int(part.values[0].sum()), part.n)
    return min(low, least), max(high, most)
