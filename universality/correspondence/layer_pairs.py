"""What two layers share, family by family: detectors that meet, verdicts, similarity as context, and where these disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from universality.base import schema
from universality.correspondence import verdict
from universality.correspondence.resampling import wilson_interval
from universality.correspondence.verdict import VERDICTS

ALIKE = 0.7
"""A similarity above this calls two layers alike, whatever their untrained twins have."""
MARGIN = 0.05
"""Smallest difference from the similarity of the untrained twins that counts."""
LAYERS = ["model_a", "model_b", "tap_a", "tap_b"]
KEYS = [*LAYERS, "family", "method"]
CHOICE = ["model_a", "model_b", "family", "method"]
"""Within these the best pair of layers is chosen."""
HAAR_DRAWS = 2
"""Layer A in a random basis, and layer B in one."""
_WEIGHED = (
    *("n_detectors_a", "n_detectors_b", "met_a", "met_b", "met_a_low", "met_b_low", "chance_a", "chance_b"),
    *(f"{prefix}{rest}" for prefix in ("cka", "svcca") for rest in ("", "_untrained", "_measure")),
)
"""The columns by which similarity and matching are compared with each other."""
_COUNTS = ["n_met", "n_judged", *(f"n_{name}" for name in VERDICTS)]


def pair_rows(
    families: pd.DataFrame,
    correspondence: pd.DataFrame,
    nulls: pd.DataFrame,
    similarity: pd.DataFrame,
    methods: Sequence[str],
) -> pd.DataFrame:
    """Return the table ``pairs`` from the other tables of a run.

    The best pair of layers of two models is chosen by fold 0 (`score_match`) and to be reported by fold 1 (`score`). How many
    detectors meet enters both, so the nulls make the same choice among the same pairs of layers (`best_score_untrained`,
    `best_score_haar`).

    Parameters
    ----------
    families, correspondence, nulls, similarity : the tables of these names; `nulls` is ``correspondence_nulls``
    methods : how units were matched
    """
    table = _layers(families, similarity, methods)
    table = _with_counts(table, correspondence, KEYS)
    table = _with_scores(table)
    table["best"] = _chosen(table, CHOICE)
    draws = {"untrained": table["n_twins"], "haar": pd.Series(HAAR_DRAWS, index=table.index)}
    for name, count in draws.items():
        table = _with_null(table, nulls[nulls["null"].str.startswith(name)], name, count)
    table = _with_shares(_with_medians(table, correspondence))
    for prefix in ("cka", "svcca"):
        table = _with_similarity(table, similarity, prefix)
    table["disagreement"] = [disagreement(dict(zip(_WEIGHED, row, strict=True))) for row in _tuples(table, _WEIGHED)]
    return schema.as_table(schema.PAIRS, table[schema.PAIRS.names])


def _layers(families: pd.DataFrame, similarity: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return one row for each pair of layers that families were looked for in, family and method, with what each holds."""
    identity = [*LAYERS, "depth_a", "depth_b"]
    table = similarity[identity].drop_duplicates()
    table = table.merge(families[["family"]].drop_duplicates(), how="cross")
    table = table.merge(pd.DataFrame({"method": pd.Series(methods, dtype="string")}), how="cross")
    for side in "ab":
        names = {
            "model": f"model_{side}", "tap": f"tap_{side}", "family": "family", "n_units": f"n_units_{side}",
            "n_detectors": f"n_detectors_{side}", "share": f"share_{side}", "share_untrained": f"share_{side}_untrained",
            "coverage": f"coverage_{side}", "largest_gap_deg": f"largest_gap_{side}_deg",
        }  # fmt: skip
        held = families[list(names)].rename(columns=names)
        table = table.merge(held, on=[f"model_{side}", f"tap_{side}", "family"])
    twins = families.groupby("model", sort=False)["n_twins"].first()
    return table.assign(n_twins=table["model_a"].map(twins))


def _with_counts(table: pd.DataFrame, rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the table with the numbers of matched pairs by verdict, and the summed correlations of pairs of detectors."""
    met = rows["detector_a"] & rows["detector_b"]
    judged = of_family(rows)
    counted = rows[keys].assign(
        n_met=met.astype("int64"),
        n_judged=judged.astype("int64"),
        **{f"n_{name}": (rows["verdict"] == name).astype("int64") for name in VERDICTS},
        expected_same_feature=rows["power"].where(judged, 0.0).fillna(0.0),
        sum_match=rows["r_match"].where(met, 0.0),
        sum_natural=rows["r_natural"].where(met, 0.0),
    )
    sums = counted.groupby(keys, sort=False).sum().reset_index()
    table = table.merge(sums, on=keys, how="left")
    numbers = [*_COUNTS, "expected_same_feature", "sum_match", "sum_natural"]
    return table.assign(**{name: table[name].fillna(0) for name in numbers})


def of_family(rows: pd.DataFrame) -> pd.Series:
    """Return which matched pairs (rows of ``correspondence``) are of a detector with a detector or a near miss: the verdict can be given to them."""
    flags = (rows[name].to_numpy(np.bool_) for name in ("detector_a", "detector_b", "near_a", "near_b"))
    return pd.Series(verdict.of_family(*flags), index=rows.index)


def _with_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its scores: 0 where nothing meets."""
    detectors = table["n_detectors_a"] + table["n_detectors_b"]
    scores = {
        name: (2 * table[total] / detectors).where(detectors > 0, 0.0)
        for name, total in (("score_match", "sum_match"), ("score", "sum_natural"))
    }
    return table.assign(**scores)


def _chosen(table: pd.DataFrame, within: list[str]) -> pd.Series:
    """Return which row has the largest `score_match` within its group; of equal ones the first, and none if nothing meets."""
    first = table.groupby(within, sort=False)["score_match"].idxmax()
    return pd.Series(table.index.isin(first), index=table.index) & (table["n_met"] > 0)


def _with_null(table: pd.DataFrame, rows: pd.DataFrame, name: str, draws: pd.Series) -> pd.DataFrame:
    """Return the table with the mean counts and scores of one kind of null, and those of its own best pair of layers.

    A draw without a row had no detector that was matched: it counts as 0.
    """
    keys = [*KEYS, "null", "seed"]
    each = rows[keys].drop_duplicates().merge(table[[*KEYS, "n_units_a", "n_units_b"]], on=KEYS)
    rates = rows.groupby(keys, sort=False)[["family_rate_a", "family_rate_b"]].first().reset_index()
    each = each.merge(rates, on=keys)
    for side in "ab":
        # The null layer's own detectors, not those of the layer whose place it takes.
        each[f"n_detectors_{side}"] = each[f"family_rate_{side}"] * each[f"n_units_{side}"]
    each = _with_scores(_with_counts(each, rows, keys))
    sums = each.groupby(KEYS, sort=False)[[*_COUNTS, "score"]].sum()
    best = each[_chosen(each, [*CHOICE, "null", "seed"])].groupby(CHOICE, sort=False)["score"].sum()
    for source, on, names in ((sums, KEYS, [*_COUNTS, "score"]), (best.to_frame("best_score"), CHOICE, ["best_score"])):
        renamed = source[names].add_suffix(f"_{name}").reset_index()
        table = table.merge(renamed, on=on, how="left")
        for column in (f"{entry}_{name}" for entry in names):
            table[column] = table[column].fillna(0.0).to_numpy() / draws.to_numpy()
    return table


def _with_medians(table: pd.DataFrame, correspondence: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the middle of the pairs of detectors; NaN where there is none."""
    met = correspondence[correspondence["detector_a"] & correspondence["detector_b"]].groupby(KEYS, sort=False)
    natural = ["r_natural", "r_natural_untrained", "r_natural_haar", "ceiling_a", "ceiling_b"]
    aligned = ["r_aligned", "r_aligned_untrained", "r_aligned_haar"]
    middle = met[natural].median().add_prefix("median_").join(met[aligned].mean().add_prefix("mean_"))
    return table.merge(middle.reset_index(), on=KEYS, how="left")


def _with_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the share of each layer's detectors that meet one, its interval and its chance."""
    for side, other in ("ab", "ba"):
        met, detectors = table["n_met"], table[f"n_detectors_{side}"]
        ends = np.array([wilson_interval(int(m), int(n)) for m, n in zip(met, detectors, strict=True)]).reshape(-1, 2)
        table[f"met_{side}"] = (met / detectors).where(detectors > 0)
        table[f"met_{side}_low"], table[f"met_{side}_high"] = ends.T
        table[f"chance_{side}"] = table[f"share_{other}"]
    return table


def _with_similarity(table: pd.DataFrame, similarity: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Return the table with the first measure of the job whose name begins with `prefix`; NaN if there is none."""
    measure = next((name for name in similarity["measure"].unique() if name.startswith(f"{prefix}_")), "")
    rows = similarity.loc[similarity["measure"] == measure, [*LAYERS, "value", "value_untrained"]]
    rows = rows.rename(columns={"value": prefix, "value_untrained": f"{prefix}_untrained"})
    return table.merge(rows, on=LAYERS, how="left").assign(**{f"{prefix}_measure": str(measure)})


def _tuples(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield rows one by one; a series of each would take most of the time of a table of a large zoo."""
    return table[list(columns)].itertuples(index=False, name=None)


def disagreement(row: Mapping[str, Any]) -> str:
    """Return in words where similarity of layers and matching of detectors say the opposite; empty if nowhere.

    Layers are alike where a similarity is above `ALIKE` or by `MARGIN` above that of the untrained twins, and unlike where it
    is by `MARGIN` below that of the twins. Detectors meet where the interval of their share lies above chance, for layer A or
    for layer B.
    """
    if not (row["n_detectors_a"] and row["n_detectors_b"]):
        return ""
    above, below, alike = _similarities(row)
    sides = [side.upper() for side in "ab" if row[f"met_{side}_low"] > row[f"chance_{side}"]]
    meet = " and ".join(f"{side}'s" for side in sides)
    shares = f"{row['met_a']:.0%} of A's (chance {row['chance_a']:.0%}), {row['met_b']:.0%} of B's (chance {row['chance_b']:.0%})"
    said = []
    if alike and not meet:
        said.append(f"layers alike by {' and '.join(alike)}, but detectors meet no more often than chance: {shares}")
    if below and meet:
        said.append(
            f"{' and '.join(below)} below the twins, but {meet} detectors meet more often than chance: {shares}"
        )
    if above and below:
        said.append(f"{' and '.join(above)} above the twins, {' and '.join(below)} below")
    return "; ".join(said)


def _similarities(row: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Return the figures of the similarities that lie above those of the twins, below them, and that call layers alike."""
    above, below, alike = [], [], []
    for prefix in ("cka", "svcca"):
        value, untrained = row[prefix], row[f"{prefix}_untrained"]
        figures = f"{row[f'{prefix}_measure']} {value:.2f} (untrained twins {untrained:.2f})"
        # A measure that the job did not compute is NaN, and no comparison with it holds.
        above += [figures] if value > untrained + MARGIN else []
        below += [figures] if value < untrained - MARGIN else []
        alike += [figures] if value > ALIKE or value > untrained + MARGIN else []
    return above, below, alike
