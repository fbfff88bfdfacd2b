"""Published statements about families of detectors, compared with a run: figures, and whether each holds.

A check that fails is a finding, not an error: it is listed like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from universality.base.errors import RunError

COLUMNS = ("family", "model", "statement", "published", "found", "n", "holds")
FALSE_POSITIVES = 0.001
"""Largest share of an untrained twin's units that may pass."""
_LEAST = 3
"""Fewest units or taps for which a trend is tested."""


class RunTables(Protocol):
    """What is read of a run: its tables."""

    @property
    def families(self) -> pd.DataFrame:
        """The table ``families``."""

    @property
    def has(self) -> pd.DataFrame:
        """The table ``has``."""

    @property
    def path(self) -> Path:
        """Where they lie."""

    @property
    def units(self) -> pd.DataFrame:
        """The table ``units``."""


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
    families = [name for name in dict.fromkeys(known) if name in _STATEMENTS]
    if not families:
        raise RunError(
            f"run '{run.path}' has no family with published statements, expected one of {', '.join(_STATEMENTS)}"
        )
    rows = []
    for family in families:
        units = run.units[run.units["family"] == family]
        depths = run.families[run.families["family"] == family].set_index(["model", "tap"])["depth"]
        placed = units.join(depths, on=["model", "tap"])
        rows += [{"family": family} | row for row in _untrained(placed)]
        for model, of_model in placed[placed["seed"] == -1].groupby("model", sort=False):
            for statement in _STATEMENTS[family]:
                rows.append({"family": family, "model": model} | statement(of_model))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(statement: str, published: str, found: str, n: int, holds: bool | None) -> dict[str, object]:
    return {"statement": statement, "published": published, "found": found, "n": n, "holds": holds}


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
        yield {"model": model} | _row(
            "untrained twins hold none, at any tap", f"at most {FALSE_POSITIVES:.1%}", found, len(of_model), holds
        )


def _echo_falls(units: pd.DataFrame) -> dict[str, object]:
    shaped = units[units["level"] != ""]
    by_tap = shaped.groupby("depth")["echo"].agg(["mean", "size"])
    by_tap = by_tap[by_tap["size"] >= _LEAST]
    figures = ", ".join(f"{depth:.0%}: {echo:.2f}" for depth, echo in by_tap["mean"].items())
    holds = None
    if len(by_tap) >= _LEAST and by_tap["mean"].nunique() > 1:  # constant values have no rank correlation
        from scipy.stats import spearmanr

        holds = bool(spearmanr(by_tap.index, by_tap["mean"]).statistic < 0)
    return _row(
        "echo falls with depth (units that are curves but perhaps for their echo)",
        "2d2 0.44, 3a 0.26, 3b 0.01", figures or "too few units", len(by_tap), holds,
    )  # fmt: skip


def _width_grows(units: pd.DataFrame) -> dict[str, object]:
    found = units[units["detector"] & units["preferred_curvature"].notna()]
    statement = "FWHM grows with the preferred curvature (rank correlation over detectors)"
    if len(found) < 8 or min(found["preferred_curvature"].nunique(), found["fwhm_deg"].nunique()) < 2:
        return _row(statement, "grows", "too few units", len(found), None)
    from scipy.stats import spearmanr

    rho = spearmanr(found["preferred_curvature"], found["fwhm_deg"])
    # A trend that is not significant neither holds nor fails.
    holds = bool(rho.statistic > 0) if rho.pvalue < 0.05 else None
    return _row(statement, "grows", f"rho {rho.statistic:.2f} (p {rho.pvalue:.2g})", len(found), holds)


def _in_range(
    column: str, low: float, high: float, name: str, unit: str = ""
) -> Callable[[pd.DataFrame], dict[str, object]]:
    """Return the check that the mean of a column over the best tap's detectors lies in a published range."""

    def statement(units: pd.DataFrame) -> dict[str, object]:
        found = units[units["detector"]]
        published = f"{low:g} to {high:g}{unit}"
        if len(found) < _LEAST:
            return _row(name, published, "too few units", len(found), None)
        best = found["tap"].value_counts().idxmax()
        values = found.loc[found["tap"] == best, column]
        text = f"mean {values.mean():.2f}{unit}, quartiles {values.quantile(0.25):.2f} to {values.quantile(0.75):.2f}, {best}"
        return _row(name, published, text, len(values), bool(low <= values.mean() <= high))

    return statement


def _depth_of_most(units: pd.DataFrame) -> dict[str, object]:
    shares = units.groupby("depth")["detector"].mean()
    statement = "the tap with the largest share lies between 25 and 40 % of depth"
    if shares.max() == 0 or len(shares) < _LEAST:
        lacking = "no detectors" if shares.max() == 0 else "too few taps"
        return _row(statement, "25 to 40 %", lacking, len(shares), None)
    depth = float(shares.index[int(np.argmax(shares.to_numpy()))])
    figures = ", ".join(f"{at:.0%}: {share:.1%}" for at, share in shares.items())
    return _row(statement, "25 to 40 %", f"{depth:.0%} ({figures})", len(shares), bool(0.25 <= depth <= 0.40))


def _silent_at_ratio_1(units: pd.DataFrame) -> dict[str, object]:
    found = units[units["detector"]]
    statement = "tuning near zero at ratio 1 (median response / peak)"
    if len(found) < _LEAST:
        return _row(statement, "about 0", "too few units", len(found), None)
    share = 1.0 / found["over_same_frequency"]
    return _row(
        statement, "about 0 (here: at most 0.1)", f"{share.median():.2f}, {np.mean(share <= 0.1):.0%} of units at most 0.1",
        len(found), bool(share.median() <= 0.1),
    )  # fmt: skip


_STATEMENTS: dict[str, tuple[Callable[[pd.DataFrame], dict[str, object]], ...]] = {
    "curve": (
        _echo_falls,
        _width_grows,
        _in_range("r1", 0.85, 0.96, "R1 as in InceptionV1's curve families"),
        _in_range("fwhm_deg", 29.0, 69.0, "FWHM as in InceptionV1's 3b", " deg"),
    ),
    "high_low_frequency": (
        _depth_of_most,
        _silent_at_ratio_1,
        _in_range("r1", 0.74, 0.78, "R1 as published"),
        _in_range("fwhm_deg", 107.0, 133.0, "FWHM as published", " deg"),
        _in_range("echo", 0.0, 0.005, "response to the opposite as published"),
    ),
    # Contrast classes: only what holds for every family, that untrained twins have none.
    "oriented_edge": (),
    "colour_contrast": (),
}
