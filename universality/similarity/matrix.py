"""One measure between all layers of two networks as a labelled matrix, from the table ``similarity``."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from universality.base.errors import RunError, did_you_mean
from universality.similarity.registry import COMPARATORS

STATES = ("value", "value_untrained", "value_haar", "value_shuffled")
"""Columns of ``similarity``: a value, and its nulls."""


def layer_matrix(similarity: pd.DataFrame, measure: str, a: str, b: str, of: str = "value") -> xr.DataArray:
    """Return one column of the table ``similarity`` for a measure and two networks: see `Run.matrix`."""
    for value, known, what in (
        (of, STATES, "column"),
        (measure, list(dict.fromkeys(similarity["measure"])), "measure"),
        *((model, sorted({*similarity["model_a"], *similarity["model_b"]}), "model") for model in (a, b)),
    ):
        if value not in known:
            near = did_you_mean(value, known)
            raise RunError(f"the run's similarities have no {what} '{value}', expected one of {', '.join(known)}{near}")
    rows = similarity[similarity["measure"] == measure]
    here, back = (rows[(rows["model_a"] == x) & (rows["model_b"] == y)] for x, y in ((a, b), (b, a)))
    if here.empty and back.empty:
        raise RunError(f"the run did not compare '{a}' with '{b}'; add them to its job's pairs")
    if here.empty and not COMPARATORS[measure].symmetric:
        raise RunError(f"'{measure}' is not symmetric and was computed from '{b}' to '{a}'; ask in that order")
    chosen, turned = (back, True) if here.empty else (here, False)
    forward = {side: _depths(chosen, side) for side in "ab"}
    grid = chosen.pivot(index="tap_a", columns="tap_b", values=of).loc[forward["a"].index, forward["b"].index]
    matrix = xr.DataArray(
        grid.to_numpy(),
        dims=("tap_a", "tap_b"),
        coords={
            "tap_a": forward["a"].index.to_numpy(str), "tap_b": forward["b"].index.to_numpy(str),
            "depth_a": ("tap_a", forward["a"].to_numpy()), "depth_b": ("tap_b", forward["b"].to_numpy()),
        },
        name=of,
    )  # fmt: skip
    if turned:
        names = {"tap_a": "tap_b", "tap_b": "tap_a", "depth_a": "depth_b", "depth_b": "depth_a"}
        matrix = matrix.rename(names).transpose("tap_a", "tap_b")
    return matrix.assign_attrs(measure=measure, direction=str(chosen["direction"].iloc[0]), model_a=a, model_b=b)


def _depths(rows: pd.DataFrame, side: str) -> pd.Series:
    """Return the relative depth of each tap of one side, in forward order."""
    taps = rows.drop_duplicates(f"tap_{side}").set_index(f"tap_{side}")
    return taps[f"depth_{side}"].sort_values(kind="stable")
