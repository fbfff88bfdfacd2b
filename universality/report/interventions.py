"""What a report says of interventions: what removing families costs, which of them restore answers, how far matched units stand in for one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from universality.base.names import HAAR_NAME, number
from universality.features.families import FAMILIES

_NULLS = {
    "unmatched": "the best other units", "haar": f"the best directions of a {HAAR_NAME}", "direction": "random directions", "untrained": "the best untrained units",
    "shuffled": "the same units at other images",
}  # fmt: skip
_EXCHANGED = ["model_a", "model_b", "tap_a", "tap_b", "unit_a", "unit_b", "into"]
_AT_ZERO = {"resample": "maps of other images", "mean": "means"}


class Said(NamedTuple):
    """A sentence, and whether the number lies above each of its nulls: none for a sentence without nulls."""

    text: str
    above: list[bool]


def _noun(family: str) -> str:
    return FAMILIES[family].noun if family in FAMILIES else family


def ablations_said(table: pd.DataFrame) -> Iterator[Said]:
    """Yield what networks lose without each family, in both ways of removing that are near what units answer.

    Parameters
    ----------
    table : ``ablations``
    """
    families = table[(table["what"] == "family") & table["kl_random"].notna()]
    alone = table[(table["what"] == "family") & table["kl_random"].isna()]
    for name, rows in alone.groupby("family", sort=False):
        layers = len(rows[["model", "tap"]].drop_duplicates())
        yield Said(
            f"{_noun(str(name)).capitalize()} are all units of {layers} layer(s): what removing them costs "
            f"({number(rows[rows['base'] == 'mean']['kl'].mean(), 3)} nats, means in their place) has no null there.",
            [],
        )
    for (family, base), rows in families[families["base"] != "zero"].groupby(["family", "base"], sort=False):
        above = (rows["kl"] > rows["kl_random_95"]) & (rows["kl"] > rows["kl_norm"])
        mixed = rows[rows["n_random_own"] > 0]
        partly = (
            f" In {len(mixed)} of them the family is more than half of the layer, and the random sets are of the whole layer: {number(100 * (mixed['n_random_own'] / mixed['n_units']).mean(), 0)} % of "
            "their units are its own, so that they understate what it costs beyond them."
            if len(mixed)
            else ""
        )
        named = rows[rows["class_hit"] != ""]["class_hit"].value_counts()
        hit = f"; most lose {named.index[0]}" if len(named) and named.iloc[0] > 1 else ""
        yield Said(
            f"Without their {_noun(str(family))} ({_AT_ZERO[str(base)]} in their place) the answers of networks move by a divergence of {number(rows['kl'].mean(), 3)} nats on average over {len(rows)} layers, and their accuracy "
            f"by {number(100 * rows['d_accuracy'].mean(), 1)} points; as many random units of equal activity {number(rows['kl_random'].mean(), 3)} nats, and with an edit of equal norm {number(rows['kl_norm'].mean(), 3)}. "
            f"In {int(above.sum())} of {len(rows)} layers the family costs more than 95 % of random sets and than those of equal norm{hit}.{partly}",
            [bool(above.all()), bool(above.any())],
        )


def patches_said(table: pd.DataFrame) -> Iterator[Said]:
    """Yield which share of an answer each family restores.

    Parameters
    ----------
    table : ``patches``
    """
    rows = table[(table["what"] == "family") & table["restored"].notna() & table["restored_random"].notna()]
    for (family, parameter), of in rows.groupby(["family", "parameter"], sort=False):
        above = of["restored_low"] > of[["restored_random_95", "restored_other"]].max(axis=1)
        yield Said(
            f"{_noun(str(family)).capitalize()} set to what they answer to the clean image restore {number(100 * of['restored'].mean(), 0)} % of the answer where {parameter} was changed (mean over {len(of)} layers); as many random "
            f"units of equal activity {number(100 * of['restored_random'].mean(), 0)} %, the same units from another clean image {number(100 * of['restored_other'].mean(), 0)} %; above both in {int(above.sum())} of {len(of)} layers.",
            [bool(above.all()), bool(above.any())],
        )


def transplants_said(table: pd.DataFrame, networks: str) -> Iterator[Said]:
    """Yield how far a family's units stand in for those of another network, by the divergence of the answers.

    Parameters
    ----------
    table : ``transplants``
    """
    families = table[(table["what"] == "family") & (table["measure"] == "kl") & table["recovery"].notna()]
    for (family, base), rows in families.groupby(["family", "base"], sort=False):
        nulls = {name: float(rows[f"recovery_{name}"].mean()) for name in _NULLS}
        beside = ", ".join(f"{said} {number(nulls[name])}" for name, said in _NULLS.items() if np.isfinite(nulls[name]))
        ceilings = [
            f"{said} {number(float(rows[name].mean()))}"
            for name, said in (
                ("recovery_seed", "the same architecture from another seed"),
                ("recovery_copy", "noisy copies"),
            )
            if rows[name].notna().any()
        ]
        counts = rows["verdict"].value_counts()
        verdicts = ", ".join(f"{int(counts[name])} {name}" for name in counts.index)
        value = float(rows["recovery"].mean())
        yield Said(
            f"{_noun(str(family)).capitalize()} of one network replaced by the units of another that they match recover {number(value)} of the answers on average over {len(rows)} layers of {networks} (recovery 0: "
            f"{_AT_ZERO[str(base)]}); {beside}{'; ceilings: ' + ', '.join(ceilings) if ceilings else ''}. Verdicts: {verdicts}.",
            [value > null for null in nulls.values() if np.isfinite(null)],
        )
    units = table[(table["what"] == "unit") & (table["measure"] == "kl") & (table["base"] == "mean")]
    units = units.drop_duplicates(_EXCHANGED)  # a unit of two families counts once
    known = units[units["recovery"].notna()]
    if len(units):
        same = int((known["verdict"] == "same_role").sum())
        yield Said(
            f"Of {len(units)} replacements of single matched units of {networks}, {len(known)} cost enough to be measured and {same} earn same_role ({number(100 * same / max(len(known), 1), 0)} %): the whole interval lies above every "
            f"null; one shows an R of {number(float(known['detectable'].median()))} with a power of 80 % (recovery 0: means).",
            [],
        )


def roles_said(table: pd.DataFrame) -> Iterator[Said]:
    """Yield whether likeness of weights says more of a role than likeness of responses.

    Parameters
    ----------
    table : ``circuit_and_role``
    """
    rows = table[
        (table["measure"] == "kl") & (table["base"] == "mean") & (table["family"] == "") & table["slope"].notna()
    ]
    for row in rows[rows["back"] > 0].to_dict("records"):
        how = "sources matched one to one" if row["sources"] == "match" else "sources by family and relative angle"
        yield Said(
            f"At equal r, one standard deviation of s_w ({how}, {row['back']} back) goes with {number(row['slope'])} of recovery (95 % interval {number(row['slope_low'])} to {number(row['slope_high'])}; networks as random effects, "
            f"{row['n_pairs']} pairs of units of {row['n_models']} networks; q {number(row['q'], 3)}); partial correlation {number(row['partial_r'])}, of which {number(row['partial_r_detectable'])} would be seen.",
            [bool(row["slope_low"] > 0 and row["q"] <= 0.05)],
        )
    for row in rows[rows["back"] == 0].to_dict("records"):
        yield Said(
            f"One standard deviation of r, the likeness of responses, goes with {number(row['slope'])} of recovery ({number(row['slope_low'])} to {number(row['slope_high'])}).", [bool(row["slope_low"] > 0)]
        )  # fmt: skip
