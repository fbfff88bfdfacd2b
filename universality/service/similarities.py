"""Layers and units of two networks beside one another, and the similarity of all layers of a run, as plain values."""

from __future__ import annotations

from typing import Any

import pandas as pd

from universality.base.errors import RunError, did_you_mean
from universality.base.plain import plain
from universality.runs.run import Run
from universality.similarity.matrix import STATES

MOST_MATCHES = 200
_LABELS = {
    "value": "trained",
    "value_untrained": "untrained twins",
    "value_haar": "B in a random basis (Haar)",
    "value_shuffled": "stimuli shuffled",
}
STATE_LABELS = {state: _LABELS[state] for state in STATES}
"""Column of the table ``similarity`` -> what it is called."""
_OF_MATCHES = (
    "family", "tap_a", "unit_a", "tap_b", "unit_b", "verdict", "r_natural", "r_natural_low", "r_natural_high", "r_natural_haar",
    "r_natural_untrained", "q", "power", "detector_a", "detector_b",
)  # fmt: skip
_OF_PAIRS = (
    "family", "tap_a", "tap_b", "n_detectors_a", "n_detectors_b", "n_met", "n_met_untrained", "n_met_haar", "n_same_feature",
    "n_same_feature_untrained", "n_same_feature_haar", "score", "best", "disagreement",
)  # fmt: skip
Plain = dict[str, Any]


def measures(run: Run) -> list[str]:
    """Return the measures of a run; the first is a debiased linear CKA if there is one, else any CKA."""
    known = list(dict.fromkeys(run.similarity["measure"])) if run.has("similarity") else []
    return sorted(known, key=lambda name: ("cka" not in name, "debiased" not in name))


def chosen(run: Run, measure: str, state: str) -> tuple[str, str]:
    """Return measure and column, the first of each where it is empty; raise `RunError` if the run has no such measure or column."""
    known = measures(run)
    if not known:
        raise RunError(f"run '{run.path.name}' has no table 'similarity'; run its job again with --only similarity")
    found = []
    for given, options, what in ((measure, known, "measure"), (state, list(STATES), "column")):
        if given and given not in options:
            raise RunError(
                f"run '{run.path.name}' has no {what} '{given[:200]}' of similarity{did_you_mean(given[:200], options)}"
            )
        found.append(given or options[0])
    return found[0], found[1]


def all_layers(run: Run, measure: str, state: str) -> Plain:
    """Return one measure between all layers that a run compared: its layers in order, and (row, column, value) of every pair.

    `direction` says whether larger means more alike; `basis_free` is not repeated here: the nulls are other columns.
    """
    rows = run.similarity[run.similarity["measure"] == measure]
    order = {entry.id: place for place, entry in enumerate(run.job.models)}
    ends = [
        rows[[f"model_{side}", f"tap_{side}", f"depth_{side}"]].set_axis(["model", "tap", "depth"], axis=1)
        for side in "ab"
    ]
    layers = pd.concat(ends).drop_duplicates(["model", "tap"])
    layers = layers.assign(place=[order.get(model, len(order)) for model in layers["model"]]).sort_values(
        ["place", "depth"], kind="stable"
    )
    places = {(m, t): place for place, (m, t) in enumerate(zip(layers["model"], layers["tap"], strict=True))}
    cells = [
        (
            places[row.model_a, row.tap_a],
            places[row.model_b, row.tap_b],
            plain(value),
            str(row.reason),
        )
        for row, value in zip(rows.itertuples(), rows[state].to_numpy(float).tolist(), strict=True)
    ]
    return {
        "measure": measure, "state": state, "direction": str(rows["direction"].iloc[0]),
        "layers": [{"model": m, "tap": t, "depth": d} for m, t, d in zip(layers["model"], layers["tap"], layers["depth"].tolist(), strict=True)],
        "cells": cells,
    }  # fmt: skip


def compared(run: Run, a: str, b: str) -> Plain:
    """Return what a run says of two networks, in the order in which it compared them."""
    return {
        "a": a, "b": b, "run": run.path.name, "method": run.job.matched_by(), "families": list(run.job.comparison.families),
        "similarity": _similarity(run, a, b), "matches": _matches(run, a, b), "pairs": _pairs(run, a, b),
        "disagreements": _disagreements(run, a, b), "orders": nearest_taps(run, a, b),
    }  # fmt: skip


def _of(table: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    return table[(table["model_a"] == a) & (table["model_b"] == b)]


def _similarity(run: Run, a: str, b: str) -> Plain:
    """Return by measure the matrix (tap of a, tap of b) of every state."""
    if not run.has("similarity"):
        return {}
    found: Plain = {}
    rows = _of(run.similarity, a, b)
    for measure in (name for name in measures(run) if name in set(rows["measure"])):
        grids = {state: run.matrix(measure, a, b, state) for state in STATES}
        one = grids["value"]
        found[measure] = {
            "direction": one.attrs["direction"], "taps_a": one["tap_a"].values.tolist(), "taps_b": one["tap_b"].values.tolist(),
            **{state: plain(grid.values) for state, grid in grids.items()},
        }  # fmt: skip
    return found


def _plain(rows: pd.DataFrame, names: tuple[str, ...]) -> list[Plain]:
    found: list[Plain] = plain(rows[list(names)].to_dict("records"))
    return found


def _matches(run: Run, a: str, b: str) -> list[Plain]:
    """Return the matched units by the job's first method: those that are the same feature first, then by held-out r."""
    if not run.has("correspondence"):
        return []
    rows = _of(run.correspondence, a, b)
    rows = rows[rows["method"] == run.job.matched_by()]
    rows = rows.assign(_same=rows["verdict"] == "same_feature").sort_values(
        ["_same", "r_natural"], ascending=False, kind="stable"
    )
    return _plain(rows.head(MOST_MATCHES), _OF_MATCHES)


def _pairs(run: Run, a: str, b: str) -> list[Plain]:
    if not run.has("pairs"):
        return []
    rows = _of(run.table("pairs"), a, b)
    return _plain(rows[rows["method"] == run.job.matched_by()], _OF_PAIRS)


def _disagreements(run: Run, a: str, b: str) -> list[Plain]:
    """Return where a similarity of layers and the matching of detectors say the opposite."""
    return [row for row in _pairs(run, a, b) if row["disagreement"]]


def nearest_taps(run: Run, a: str, b: str) -> list[Plain]:
    """Return for every tap of `a` which tap of `b` each measure calls the most alike, and whether all name the same."""
    found: list[Plain] = []
    for measure, grid in _similarity(run, a, b).items():
        sign = 1 if grid["direction"] == "similarity" else -1
        for place, line in enumerate(grid["value"]):
            known = [(sign * value, tap) for value, tap in zip(line, grid["taps_b"], strict=True) if value is not None]
            if place >= len(found):
                found.append({"tap": grid["taps_a"][place], "nearest": {}})
            found[place]["nearest"][measure] = max(known)[1] if known else ""
    return [row | {"agree": len({tap for tap in row["nearest"].values() if tap}) <= 1} for row in found]
