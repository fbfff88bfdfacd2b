"""The index of universality: which share of a feature's units another network shares, over that in random bases.

Definition
----------
For a feature f and networks A and B, let n be the units of A and of B (at the taps of the run) that carry f, and s those of
them that have at least one partner in the other network: for a family of detectors a unit with which it has the verdict
same_feature, for the feature ``any_unit`` one that is the same by `verdict.same_unit`. Let h be the same count with the other
network's layers in a random basis, mean over bases. Then

    share = s / n,  share_haar = h / n,  index = share - share_haar.

1: every unit of f is found in the other network and no random mixture would do; 0: no more than in random bases. The same
number for two untrained twins says how much of it needs no learning.

Intervals
---------
Of a pair: units are a sample (Jeffreys interval of each share; a link has a unit on either side, so (n_a + n_b) / 2 count),
and photographs are (standard deviation of the share over resamples of them, in which units are matched and judged anew).
The two shares are combined by Newcombe's rule (1998, Stat. Med. 17, method 10), the photographs' error is added in
quadrature. Of a mean over pairs: pairs that share a network are not independent, so networks are left out one at a time
(jackknife; never too narrow on average, Efron and Stein 1981), and as all pairs see the same photographs, the error of the
mean over resampled photographs is added; the interval is never narrower than that of as many units as there are (networks
that all share nothing agree perfectly, on little). Where two networks are together part of every pair (three networks, two
disjoint pairs, two networks against all others), there is no interval: it would rest on two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv

from universality.atlas.groups import SETTINGS, setting
from universality.base import schema
from universality.base.intervals import t_quantile
from universality.correspondence.census import Census
from universality.correspondence.links import ANY_UNIT
from universality.features.families import FAMILIES
from universality.models.card import ModelCard

Array = NDArray[np.float64]

Z95 = 1.959963984540054
FEW = "no interval: two networks are together part of every pair"
BIN_DEG = 30.0
EVERY_PAIR = "every pair"
UNTRAINED = "untrained"
KEY = ["seed", "rule", "model", "tap", "unit"]


@dataclass(frozen=True)
class Tally:
    """Whether each unit is shared with each other network.

    Attributes
    ----------
    rows : DataFrame
        seed, rule, model, tap, unit, angle_deg, partner (a network), shared (bool), shared_haar (share of random bases of
        the partner in which the unit is shared).
    again : (row, resample)
        Whether the unit is shared still with the photographs resampled.
    """

    rows: pd.DataFrame
    again: NDArray[np.bool_]


def tally(census: Census) -> Tally:
    """Return for every unit and every network it was compared with whether it is shared, and how often by chance."""
    units = census.units[census.units["basis"] == -1].drop(columns="basis")
    compared = census.edges[["seed", "model_a", "model_b"]].drop_duplicates()
    both = [
        compared.rename(columns={"model_a": x, "model_b": y}) for x, y in (("model", "partner"), ("partner", "model"))
    ]
    rows = units.merge(pd.concat(both).drop_duplicates(), on=["seed", "model"]).reset_index(drop=True)
    place = pd.MultiIndex.from_frame(rows[[*KEY, "partner"]])
    again = np.zeros((len(rows), census.kept.shape[1]), dtype=np.bool_)
    shared, by_chance = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows))
    n_bases = int(census.units["basis"].max()) + 1
    for here, there in ("ab", "ba"):
        for basis in range(-1, n_bases):
            of = _seen_from(census.edges, here, there, basis)
            names = of[["seed", "rule", f"model_{here}", f"tap_{here}", f"unit_{here}", f"model_{there}"]]
            found = place.get_indexer(pd.MultiIndex.from_frame(names))
            # A near miss may be a partner; counted are detectors.
            counted, edge = found >= 0, of.index.to_numpy()
            found, edge = found[counted], edge[counted]
            if basis >= 0:
                by_chance[np.unique(found)] += 1 / n_bases
                continue
            shared[found] = True
            np.logical_or.at(again, found, census.rematched[edge] & census.kept[edge])
    return Tally(rows.assign(shared=shared, shared_haar=by_chance), again)


def _seen_from(edges: pd.DataFrame, here: str, there: str, basis: int) -> pd.DataFrame:
    """Return the links of units of side `here` with the other side's units, or with a random basis of it."""
    chosen = edges["linked"].astype(bool) & (edges[f"basis_{here}"] == -1) & (edges[f"basis_{there}"] == basis)
    return edges[chosen]


def share_interval(share: float, n: float) -> tuple[float, float]:
    """Return the 95 % Jeffreys interval of a share of `n` units, which reaches 0 and 1 where the share does.

    Brown, Cai and DasGupta 2001, Stat. Sci. 16. `n` need not be whole.
    """
    k = share * n
    low, high = betaincinv(k + 0.5, n - k + 0.5, (0.025, 0.975))
    return (0.0 if share <= 0 else float(low)), (1.0 if share >= 1 else float(high))


def index_interval(share: float, null: float, n: float, photograph_sd: float) -> tuple[float, float]:
    """Return the 95 % interval of ``share - null`` for `n` units, -1 to 1.

    Parameters
    ----------
    share, null : float
        0 to 1.
    photograph_sd : float
        Standard deviation of the share over resampled photographs.
    """
    (low, high), (null_low, null_high) = share_interval(share, n), share_interval(null, n)
    images = (Z95 * photograph_sd) ** 2
    below = np.sqrt((share - low) ** 2 + (null_high - null) ** 2 + images)
    above = np.sqrt((high - share) ** 2 + (null - null_low) ** 2 + images)
    return max(share - null - float(below), -1.0), min(share - null + float(above), 1.0)


def features(rows: pd.DataFrame, bin_deg: float = BIN_DEG) -> Iterator[tuple[str, str, float, NDArray[np.bool_]]]:
    """Yield (feature, rule, angle, which rows of the tally carry it): every rule, then bins of a family's orientation."""
    for rule in dict.fromkeys(rows["rule"]):
        of_rule = (rows["rule"] == rule).to_numpy()
        yield rule, rule, np.nan, of_rule
        if rule != ANY_UNIT:
            angles = rows["angle_deg"].to_numpy()[of_rule]
            period = FAMILIES[rule].period_deg if rule in FAMILIES else 360.0
            for angle in np.arange(0.0, period, bin_deg):
                inside = of_rule.copy()
                inside[of_rule] = np.mod(angles - angle + bin_deg / 2, period) < bin_deg
                yield f"{rule} {angle:g}°", rule, float(angle), inside


@dataclass(frozen=True)
class Pairs:
    """The index of every feature in every pair of networks, and the share in every resample of photographs.

    Attributes
    ----------
    table : DataFrame
        Columns of ``schema.INDEX_BY_PAIR``.
    resampled : (row, resample)
    """

    table: pd.DataFrame
    resampled: Array


def by_pair(counted: Tally, cards: Mapping[str, ModelCard], bin_deg: float = BIN_DEG) -> Pairs:
    """Return the index of every feature and pair of networks, untrained twins (seed >= 0) with one another too.

    A pair of which neither network has a unit that carries the feature has no row.
    """
    rows = counted.rows
    order = {name: place for place, name in enumerate(dict.fromkeys(rows["model"]))}
    forth = rows["model"].map(order).to_numpy() < rows["partner"].map(order).to_numpy()
    first, second = (np.where(forth, rows[x], rows[y]) for x, y in (("model", "partner"), ("partner", "model")))
    answers, resampled = [], []
    for feature, rule, angle, carried in features(rows, bin_deg):
        found = pd.DataFrame({"seed": rows["seed"], "a": first, "b": second, "place": np.arange(len(rows))})[carried]
        for (seed, a, b), of_pair in found.groupby(["seed", "a", "b"], sort=False):
            place = of_pair["place"].to_numpy()
            shares = counted.again[place].mean(axis=0)
            row = _pair_row(rows.iloc[place], shares, forth[place])
            answers.append(
                {"feature": feature, "family": rule, "angle_deg": angle, "model_a": a, "model_b": b, "seed": seed,
                 "group": setting(cards[str(a)], cards[str(b)]), **row}
            )  # fmt: skip
            resampled.append(shares)
    table = schema.as_table(schema.INDEX_BY_PAIR, pd.DataFrame(answers, columns=schema.INDEX_BY_PAIR.names))
    return Pairs(table, np.array(resampled).reshape(len(table), counted.again.shape[1]))


def _pair_row(units: pd.DataFrame, shares: Array, forth: NDArray[np.bool_]) -> dict[str, float]:
    n_a, n_b = int(forth.sum()), int((~forth).sum())
    share, null = float(units["shared"].mean()), float(units["shared_haar"].mean())
    sd = float(shares.std(ddof=1))
    low, high = index_interval(share, null, (n_a + n_b) / 2, sd)
    return {
        "n_a": n_a, "n_b": n_b, "n_shared": int(units["shared"].sum()), "share": share, "share_haar": null,
        "index": share - null, "index_low": low, "index_high": high, "photograph_sd": sd,
    }  # fmt: skip


def jackknife(values: Array, model_a: NDArray[np.object_], model_b: NDArray[np.object_]) -> float:
    """Return the standard error of a mean over pairs of networks, from leaving out one network at a time.

    NaN where two networks are together part of every pair: it would rest on two.

    Parameters
    ----------
    values : (pair,)
    model_a, model_b : (pair,) names
    """
    models = np.unique(np.concatenate([model_a, model_b]).astype(str))
    without = [(model_a != model) & (model_b != model) for model in models]
    if any(not (x & y).any() for x, y in itertools.combinations_with_replacement(without, 2)):
        return float("nan")
    left = np.array([values[rest].mean() for rest in without])
    n = len(models)
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def mean_interval(values: Array, resampled: Array, model_a: NDArray[np.object_], model_b: NDArray[np.object_]) -> tuple[float, float]:  # fmt: skip
    """Return the 95 % interval of a mean over pairs of networks: over networks and over photographs.

    Parameters
    ----------
    values : (pair,)
    resampled : (pair, resample) in resampled photographs, the same for all pairs
    model_a, model_b : (pair,) names

    Returns
    -------
    (low, high) within -1 to 1; NaN where `jackknife` gives no error.
    """
    models = len(np.unique(np.concatenate([model_a, model_b]).astype(str)))
    error = np.hypot(jackknife(values, model_a, model_b), resampled.mean(axis=0).std(ddof=1))
    half = t_quantile(models) * error
    return float(np.maximum(values.mean() - half, -1.0)), float(np.minimum(values.mean() + half, 1.0))


def by_group(pairs: Pairs) -> pd.DataFrame:
    """Return the mean index of every feature over the pairs of every group, with that of the same pairs' twins.

    Groups are `groups.SETTINGS`, what differs between the networks; ``untrained`` are all twins with one another.
    """
    table = pairs.table
    chosen = {name: ((table["group"] == name) & (table["seed"] == -1)).to_numpy() for name in SETTINGS}
    return _means(pairs, chosen | {UNTRAINED: (table["seed"] >= 0).to_numpy()})


def by_feature(pairs: Pairs) -> pd.DataFrame:
    """Return the mean index of every feature over all pairs of trained networks, with that of their twins."""
    return _means(pairs, {EVERY_PAIR: (pairs.table["seed"] == -1).to_numpy()})


def _means(pairs: Pairs, groups: Mapping[str, NDArray[np.bool_]]) -> pd.DataFrame:
    rows = []
    for feature, of_feature in pairs.table.groupby("feature", sort=False):
        known = {name: of_feature[name].iloc[0] for name in ("family", "angle_deg")}
        for group, chosen in groups.items():
            here = of_feature[chosen[of_feature.index]]
            if not here.empty:
                rows.append({"feature": feature, **known, "group": group, **_mean_row(pairs, of_feature, here)})
    return schema.as_table(schema.INDEX_BY_GROUP, pd.DataFrame(rows, columns=schema.INDEX_BY_GROUP.names))


def _mean_row(pairs: Pairs, of_feature: pd.DataFrame, here: pd.DataFrame) -> dict[str, object]:
    low, high = _interval(pairs, here)
    ids = here[["model_a", "model_b"]]
    import networkx as nx  # only where there are pairs to count

    edges = nx.Graph(list(ids.itertuples(index=False, name=None)))
    row: dict[str, object] = {
        "n_pairs": len(here), "n_models": edges.number_of_nodes(), "n_disjoint": len(nx.max_weight_matching(edges, True)),
        "n_units": _units(here), "share": here["share"].mean(),
        "share_haar": here["share_haar"].mean(), "index": here["index"].mean(), "index_low": low, "index_high": high,
        "note": "" if np.isfinite(low) else FEW,
    }  # fmt: skip
    return row | _twin_columns(pairs, of_feature, ids)


def _twin_columns(pairs: Pairs, of_feature: pd.DataFrame, ids: pd.DataFrame) -> dict[str, object]:
    wanted = pd.MultiIndex.from_frame(ids)
    twins = of_feature[
        (of_feature["seed"] >= 0) & pd.MultiIndex.from_frame(of_feature[["model_a", "model_b"]]).isin(wanted)
    ]
    low, high = _interval(pairs, twins) if len(twins) else (np.nan, np.nan)
    return {
        "n_pairs_untrained": len(twins), "share_untrained": twins["share"].mean(),
        "index_untrained": twins["index"].mean(), "index_untrained_low": low, "index_untrained_high": high,
    }  # fmt: skip


def _interval(pairs: Pairs, here: pd.DataFrame) -> tuple[float, float]:
    a, b = (here[name].to_numpy(object) for name in ("model_a", "model_b"))
    low, high = mean_interval(here["index"].to_numpy(np.float64), pairs.resampled[here.index], a, b)
    of_units = index_interval(float(here["share"].mean()), float(here["share_haar"].mean()), _units(here) / 2, 0.0)
    # A NaN stays one: networks decide whether there is an interval.
    return float(np.minimum(low, of_units[0])), float(np.maximum(high, of_units[1]))


def _units(here: pd.DataFrame) -> int:
    """Return how many different units of all networks carry the feature."""
    sides = [here[["seed", f"model_{x}", f"n_{x}"]].set_axis(["seed", "model", "n"], axis=1) for x in "ab"]
    return int(pd.concat(sides).drop_duplicates(["seed", "model"])["n"].sum())
