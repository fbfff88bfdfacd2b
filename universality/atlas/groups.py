"""Groups of model pairs: what differs between two networks, and similarity summed up by it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from universality.models.card import ModelCard

GROUPS = ("seed", "architecture", "task", "diet", "several of these", "training set")
"""What differs between the networks of a pair; `training set` where the project did not train one of them."""
SETTINGS = (
    "seed", "architecture, same seed", "architecture and seed", "task", "diet", "several of these", "training set",
)  # fmt: skip
"""`GROUPS`, with networks of another architecture that were trained from the same seed (the same images in the same order)
apart from those that were not."""
COLUMNS = ("value", "value_untrained", "value_haar", "value_shuffled")


def relation(a: ModelCard, b: ModelCard) -> str:
    """Return which entry of `GROUPS` describes how two networks differ.

    A pair that differs in anything else may also differ in seed: networks trained otherwise share no start that counts. Two
    trainings of one architecture by other people count as two seeds.
    """
    if a.training is None or b.training is None:
        if a.training_set != b.training_set:
            return "training set"
        return "seed" if a.architecture == b.architecture else "architecture"
    differs = {
        "architecture": a.architecture != b.architecture,
        "task": a.training.task != b.training.task,
        "diet": a.training.diet != b.training.diet,
    }
    found = [name for name, unequal in differs.items() if unequal]
    if not found:
        return "seed"
    return found[0] if len(found) == 1 else "several of these"


def setting(a: ModelCard, b: ModelCard) -> str:
    """Return which entry of `SETTINGS` describes how two networks differ."""
    found = relation(a, b)
    if found != "architecture":
        return found
    same = a.training is not None and b.training is not None and a.training.seed == b.training.seed
    return "architecture, same seed" if same else "architecture and seed"


def nearest_taps(similarity: pd.DataFrame) -> pd.DataFrame:
    """Return for every pair of models and every tap of A the tap of B of nearest relative depth (of equals the shallower).

    The choice looks at depth alone, so that it favours no value, and every tap of A enters once.

    Returns
    -------
    DataFrame
        model_a, model_b, tap_a, tap_b, depth_a, depth_b; one row per pair of models and tap of A, in the table's order.
    """
    taps = similarity[["model_a", "model_b", "tap_a", "tap_b", "depth_a", "depth_b"]].drop_duplicates()
    distance = (taps["depth_a"] - taps["depth_b"]).abs()
    near = taps.assign(distance=distance).sort_values(["distance", "depth_b"], kind="stable")
    near = near.drop_duplicates(["model_a", "model_b", "tap_a"]).drop(columns="distance")
    return near.sort_index().reset_index(drop=True)


def at_taps(table: pd.DataFrame, taps: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of pairs (similarity, correspondence) whose taps are among `taps`, in the table's order."""
    keys = ["model_a", "model_b", "tap_a", "tap_b"]
    wanted = set(taps[keys].itertuples(index=False, name=None))
    # An empty list would choose no columns instead of no rows: a job without pairs has an empty table.
    chosen = np.array([key in wanted for key in table[keys].itertuples(index=False, name=None)], dtype=np.bool_)
    return table[chosen]


def by_pair(similarity: pd.DataFrame, cards: Mapping[str, ModelCard]) -> pd.DataFrame:
    """Return one row per pair of models and measure: its group, and value and nulls over taps of like depth.

    For every tap of A the tap of B of nearest relative depth is taken, and the mean over the taps of A. The choice looks
    at depth alone, so that it favours no value. A network with itself is no pair.
    """
    similarity = similarity[similarity["model_a"] != similarity["model_b"]]
    near = at_taps(similarity, nearest_taps(similarity))
    pairs = near.groupby(["model_a", "model_b", "measure"], sort=False)[list(COLUMNS)].mean().reset_index()
    relations = [relation(cards[a], cards[b]) for a, b in zip(pairs["model_a"], pairs["model_b"], strict=True)]
    return pairs.assign(group=pd.Categorical(relations, GROUPS, ordered=True))


def by_group(pairs: pd.DataFrame, *, bootstraps: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return one row per group and measure: mean over pairs of models with its 95 % interval, and the nulls' means.

    Networks, not pairs, are resampled (pairs that share a network are not independent): a pair counts as often as the
    product of its networks' draws. A group of fewer than three pairs gets no interval.
    """
    rows = []
    for (group, measure), found in pairs.groupby(["group", "measure"], observed=True, sort=True):
        low, high = _interval(found, bootstraps, seed)
        rows.append(
            {"group": group, "measure": measure, "pairs": len(found), "low": low, "high": high}
            | dict(found[list(COLUMNS)].mean())
        )
    return pd.DataFrame(rows, columns=["group", "measure", "pairs", *COLUMNS, "low", "high"])


def _interval(found: pd.DataFrame, bootstraps: int, seed: int) -> tuple[float, float]:
    if len(found) < 3:
        return np.nan, np.nan
    networks = pd.unique(pd.concat([found["model_a"], found["model_b"]]))
    place = {name: index for index, name in enumerate(networks)}
    a, b = (found[name].map(place).to_numpy() for name in ("model_a", "model_b"))
    draws = np.random.default_rng(seed).multinomial(
        len(networks), np.full(len(networks), 1 / len(networks)), bootstraps
    )
    weights = (draws[:, a] * draws[:, b]).astype(np.float64)
    total = weights.sum(axis=1)
    # A resample in which no pair has both its networks has no value.
    means = (weights[total > 0] @ found["value"].to_numpy()) / total[total > 0]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
