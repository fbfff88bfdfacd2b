"""Published statements about families of detectors, compared with a run: figures, and whether each holds.

A check that fails is a finding, not an error: it is listed like the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pandas as pd

from universality.base.errors import RunError
from universality.features.families import FAMILIES
from universality.features.statements import row

COLUMNS = ("family", "model", "statement", "published", "found", "n", "holds")
FALSE_POSITIVES = 0.001
"""Largest share of an untrained twin's units that may pass."""


class RunTables(Protocol):
    """What is read of a run: its tables."""

    @property
    def families(self) -> pd.DataFrame:
        """The table ``families``."""

    def has(self, *names: str) -> bool:
        """Return whether it has all of these tables."""

    @property
    def path(self) -> Path:
        """Where they lie."""

    def units_of(self, family: str) -> pd.DataFrame:
        """Return the units of one family with all their columns."""


def checks(run: RunTables) -> pd.DataFrame:
    """Return one row per statement and model: what was published, what came, and whether it holds (NaN-like None: no data).

    Columns
    -------
    family, model (card id, or "all"), statement, published, found (text with figures), n (units or taps behind it), holds
    (True, False, or None where there is too little data).

    Raises
    ------
    RunError
        The run has no family with published statements.
    """
    known = run.families["family"] if run.has("families", "units") else ()
    families = [name for name in dict.fromkeys(known) if name in FAMILIES]
    if not families:
        raise RunError(
            f"run '{run.path}' has no family with published statements, expected one of {', '.join(FAMILIES)}"
        )
    rows = []
    for family in families:
        depths = run.families[run.families["family"] == family].set_index(["model", "tap"])["depth"]
        placed = run.units_of(family).join(depths, on=["model", "tap"])
        rows += [{"family": family} | of_twins for of_twins in _untrained(placed)]
        for model, of_model in placed[placed["seed"] == -1].groupby("model", sort=False):
            for statement in FAMILIES[family].published:
                rows.append({"family": family, "model": model} | statement(of_model))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _untrained(units: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield for every model the largest share of an untrained tap, all its twins together, that passes."""
    for model, of_model in units[units["seed"] >= 0].groupby("model", sort=False):
        by_tap = of_model.groupby("tap")["detector"].agg(["mean", "sum", "size"]).reset_index()
        worst = by_tap.iloc[int(by_tap["mean"].argmax())].to_dict()
        found = (
            f"{by_tap['sum'].sum()} of {by_tap['size'].sum()} units, at worst {worst['sum']} of {worst['size']} at "
            f"{worst['tap']}"
        )
        holds = bool(by_tap["mean"].max() <= FALSE_POSITIVES)
        yield {"model": model} | row(
            "untrained twins hold none, at any tap", f"at most {FALSE_POSITIVES:.1%}", found, len(of_model), holds
        )
