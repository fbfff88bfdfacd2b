"""Whether the likeness of two units' weights says more of their role than the likeness of their responses does.

Over matched pairs, recovery R (`universality.causes.transplants`, mean of both directions, from -1 on) is regressed on the circuit match s_w (`universality.circuits.pairs`) and the correlation r of the units' maps, all in
standard deviations. Pairs of units are not independent, since networks are few: every network has a random part (in R, and in the slope of s_w) and every pair of networks one more; the interval takes Student's t of
as many degrees of freedom as there are networks, less one. Whether r alone says something stands in rows of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from universality.base.arrays import Array
from universality.base.discovery import false_discovery
from universality.base.intervals import t_quantile
from universality.base.schema import empty_table
from universality.causes import mixed
from universality.causes.tables import CIRCUIT_AND_ROLE

LEAST_PAIRS = 12
LEAST_MODELS = 3
LOWEST_R = -1.0
"""Recovery of units that cost next to nothing when removed has no lower bound: lower values count as this."""
PERMUTATIONS = 199
_PAIR = ["model_a", "model_b", "tap_a", "tap_b", "family", "unit_a", "unit_b"]
_NETWORKS = ["model_a", "model_b"]


def role_rows(transplants: pd.DataFrame, circuits: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the table ``circuit_and_role``.

    Parameters
    ----------
    transplants, circuits : the tables of these names
    """
    units = transplants[
        (transplants["what"] == "unit") & (transplants["family"] != "") & transplants["recovery"].notna()
    ]
    keys = [*_PAIR, "base", "measure"]
    both = units.groupby(keys, as_index=False, sort=False)[["recovery", "r"]].mean()
    both["recovery"] = both["recovery"].clip(lower=LOWEST_R)
    known = circuits[circuits["s_w"].notna()][[*_PAIR, "sources", "back", "s_w"]]
    rows = []
    for (base, measure), of in both.groupby(["base", "measure"], sort=False):
        for family, some in _families(of):
            rows.append(
                {"sources": "response", "back": 0, "family": family, "base": base, "measure": measure}
                | _regressed(some, "r", None, seed)
            )
            for (sources, back), circuit in known.groupby(["sources", "back"], sort=False):
                joined = some.merge(circuit, on=_PAIR)
                if joined.empty:
                    continue
                told = {"sources": sources, "back": int(str(back)), "family": family, "base": base, "measure": measure}
                rows.append(told | _regressed(joined, "s_w", "r", seed))
    table = pd.DataFrame(rows, columns=[name for name in CIRCUIT_AND_ROLE.names if name != "q"])
    if table.empty:
        return empty_table(CIRCUIT_AND_ROLE)
    return table.assign(q=false_discovery(table, []))[CIRCUIT_AND_ROLE.names]


def _families(of: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from ((str(name), rows) for name, rows in of.groupby("family", sort=False))
    # A unit of two families counts once.
    yield "", of.drop_duplicates([name for name in _PAIR if name != "family"])


def _regressed(rows: pd.DataFrame, of: str, given: str | None, seed: int) -> dict[str, object]:
    """Return the slope of recovery on one column, given another, with networks as random effects."""
    models = sorted({*rows["model_a"], *rows["model_b"]})
    found: dict[str, object] = {"n_pairs": len(rows), "n_models": len(models), "reason": ""}
    nothing = dict.fromkeys(
        ("slope", "slope_low", "slope_high", "partial_r", "partial_r_permuted_95", "partial_r_detectable", "p"), float("nan")
    )  # fmt: skip
    columns = [rows[name].to_numpy(float) for name in ("recovery", of, given or of)]
    if len(rows) < LEAST_PAIRS or len(models) < LEAST_MODELS:
        return (
            found
            | nothing
            | {
                "reason": f"{len(rows)} pairs of {len(models)} networks, expected {LEAST_PAIRS} of {LEAST_MODELS} at least"
            }
        )
    if any(np.ptp(values) == 0 or not np.isfinite(values).all() for values in columns):
        return found | nothing | {"reason": "a column does not vary"}
    y, x, control = ((values - values.mean()) / values.std() for values in columns)
    members = np.stack([((rows["model_a"] == m) | (rows["model_b"] == m)).to_numpy(float) for m in models], axis=1)
    codes = rows.groupby(_NETWORKS, sort=False).ngroup().to_numpy()
    of_pair = np.eye(codes.max() + 1)[codes]
    design = np.stack([np.ones(len(y)), x, *([control] if given else [])], axis=1)
    model = mixed.fit(y, design, [members, members * x[:, None], of_pair])
    slope, error, degrees = float(model.slopes[1]), float(model.errors[1]), len(models) - 1
    far = t_quantile(len(models))
    partial, chance = _partial(y, x, control if given else None, codes, seed)
    return found | {
        "slope": slope, "slope_low": slope - far * error, "slope_high": slope + far * error, "p": float(2 * stats.t.sf(abs(slope) / error, degrees)),
        "partial_r": partial, "partial_r_permuted_95": float(np.quantile(np.abs(chance), 0.95)),
        "partial_r_detectable": float(np.quantile(np.abs(chance), 0.95) + 0.8416 * chance.std()),
    }  # fmt: skip


def _partial(y: Array, x: Array, control: Array | None, codes: np.ndarray, seed: int) -> tuple[float, Array]:
    """Return the partial correlation of y and x within groups, given a control, and the same with x exchanged within them, (permutation,)."""
    inside = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]

    def within(values: Array) -> Array:
        means = np.array([values[some].mean() for some in inside])
        return np.asarray(values - means[codes])

    base = [] if control is None else [within(control)]

    def rest(values: Array) -> Array:
        left = within(values)
        for one in base:
            left = left - one * float(left @ one) / float(one @ one)
        return left

    of_y = rest(y)

    def r(values: Array) -> float:
        left = rest(values)
        length = float(np.sqrt((left @ left) * (of_y @ of_y)))
        return float(left @ of_y) / length if length > 0 else 0.0

    rng, drawn = np.random.default_rng(seed), []
    for _ in itertools.repeat(None, PERMUTATIONS):
        exchanged = x.copy()
        for some in inside:
            exchanged[some] = x[rng.permutation(some)]
        drawn.append(r(exchanged))
    return r(x), np.array(drawn)
