"""Claims held against tables: one row for each, and the rule that decides it.

- ``held``: the whole 95 % interval of the measured value is as predicted, and where the claim says so the whole interval of measured
  less null lies on the stated side of 0. Under the rule ``value`` the numbers alone decide.
- ``failed``: no value of the interval is as predicted, or measured less null lies wholly on the other side.
- ``undecided``: anything else: a table that the run does not have, too few rows or networks, an interval that holds both, a ceiling below what
  was predicted (the claim could not have held, whatever is true), a claim that was not registered or was changed since.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.base import schema
from universality.base.arrays import Array
from universality.base.errors import ClaimError, did_you_mean
from universality.base.schema import Table
from universality.ledger import expressions, intervals, rows
from universality.ledger.claims import Claim, Ledger
from universality.ledger.expressions import Aggregate, Expression, Prediction
from universality.ledger.intervals import Chosen
from universality.ledger.tables import LEDGER

POWER_Z = 1.959963984540054 + 0.8416212335729143
"""Standard errors of a distance that is told from 0 (two-sided, 5 %) in 80 % of cases."""


class Tables(Protocol):
    """What is read of a run: its tables."""

    def has(self, *names: str) -> bool:
        """Return whether it has all of these tables."""

    def table(self, name: str) -> pd.DataFrame:
        """Return one of them."""


class _Undecided(Exception):
    """Why a claim cannot be decided, in words."""


@dataclass(frozen=True)
class _Measured:
    """One expression's value with its resamples, (1 + draw,), and what it is made of."""

    values: Array
    parts: tuple[Chosen, ...]

    @property
    def value(self) -> float:
        return float(self.values[0])


def evaluate(
    ledger: Ledger, tables: Tables, schemas: Mapping[str, Table], began_unix_s: float | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return the table ``ledger``: every claim, held against the tables of a run.

    Parameters
    ----------
    schemas : every table that a run may have, by name: a claim about another one is an error, about one of these it waits
    began_unix_s : when the run began, s since 1970
    seed : of the resamples

    Raises
    ------
    ClaimError
        A claim names a table, column or function that there is not, or combines values of different kinds.
    """
    for name, claim in ledger.claims.items():
        _check(name, claim, schemas)
    found = [
        {**_facts(ledger, name, began_unix_s), **row}
        for name, claim in ledger.claims.items()
        for row in _rows(claim, name, tables, seed)
    ]
    return schema.as_table(LEDGER, pd.DataFrame([_standing(ledger, row) for row in found], columns=LEDGER.names))


def _check(name: str, claim: Claim, schemas: Mapping[str, Table]) -> None:
    """Raise `ClaimError` if a claim names tables or columns that there are not, whether or not the run has them."""
    each = claim.each_node
    for key, text in claim.texts.items():
        of = expressions.prediction(text).expression if key == "prediction" else expressions.expression(text)
        for part in of.aggregates.values():
            if part.table not in schemas:
                raise ClaimError(f"claim '{name}' asks of a table '{part.table}'{did_you_mean(part.table, schemas)}")
            known = schemas[part.table].names
            for column in [*part.columns, *(() if each is None else rows.columns_of([each]))]:
                if column not in known:
                    raise ClaimError(
                        f"claim '{name}' asks of a column '{column}' of the table '{part.table}'{did_you_mean(column, known)}"
                    )


def _facts(ledger: Ledger, name: str, began: float | None) -> dict[str, object]:
    claim, entry = ledger.claims[name], ledger.register.get(name)
    return {
        "claim": name, "statement": claim.claim, "prediction": " ".join(claim.prediction.split()), "intervention": claim.intervention,
        "over": claim.over, "rule": claim.rule, "registered": entry.time if entry else "", "known": claim.known, "digest": claim.digest(),
        "before_run": bool(entry is not None and began is not None and entry.unix_s < began),
    }  # fmt: skip


def _standing(ledger: Ledger, row: dict[str, object]) -> dict[str, object]:
    """Return a row with its verdict taken back where the claim is not the one that was registered."""
    name = str(row["claim"])
    if name in ledger.changed:
        return row | {"verdict": "undecided", "reason": f"changed after it was registered on {row['registered']}"}
    if name in ledger.unregistered:
        return row | {"verdict": "undecided", "reason": "not registered: universality ledger --register"}
    return row


_NOTHING = {
    **dict.fromkeys(("measured", "low", "high", "null", "excess_low", "excess_high", "ceiling", "detectable", "share_chosen_on"), math.nan),
    "n": 0, "n_networks": 0, "verdict": "undecided",
}  # fmt: skip


def _rows(claim: Claim, name: str, tables: Tables, seed: int) -> Iterator[dict[str, object]]:
    try:
        values = list(_values(claim, tables))
    except _Undecided as why:
        yield {**_NOTHING, "of": "", "reason": str(why)}
        return
    for value in values:
        try:
            yield {**_NOTHING, "of": "" if value is None else str(value), **_judged(claim, value, tables, seed)}
        except ClaimError as cause:
            raise ClaimError(f"claim '{name}': {cause}") from None


def _values(claim: Claim, tables: Tables) -> Iterable[object]:
    """Return the values of what the claim asks about each of, in the order of the first table of its prediction."""
    parts = expressions.prediction(claim.prediction).expression.aggregates.values()
    missing = sorted({part.table for part in parts if not tables.has(part.table)})
    if missing:
        raise _Undecided(f"the run has no table {', '.join(missing)}")
    if (node := claim.each_node) is None:
        return [None]
    part = next(iter(parts))
    table = tables.table(part.table)
    here = table[rows.condition(part.where, table)]
    found = list(dict.fromkeys(pd.Series(rows.of_rows(node, here), index=here.index)))
    if not found:
        raise _Undecided("no row of the run is one that the claim is about")
    return found


def _judged(claim: Claim, value: object, tables: Tables, seed: int) -> dict[str, object]:
    of = expressions.prediction(claim.prediction)
    null = expressions.expression(claim.null) if claim.null else None
    ceiling = expressions.expression(claim.ceiling) if claim.ceiling else None
    parts: dict[str, Chosen] = {}
    for made in (of.expression, null, ceiling):
        for text, part in ({} if made is None else made.aggregates).items():
            if tables.has(part.table):
                parts[text] = _chosen(part, claim, value, tables)
    measured_of = [parts[text] for text in of.expression.aggregates]
    n = min(part.n for part in measured_of)
    networks = intervals.networks_of(measured_of)
    row: dict[str, object] = {"n": n, "n_networks": len(networks), "share_chosen_on": _share(networks, claim.chosen_on)}
    if n < claim.least:
        said = (
            "no row of the run is one that the claim is about"
            if n == 0
            else f"{n} rows, the claim asks for {claim.least}"
        )
        return row | {"reason": said}
    if claim.over == "networks":
        count = len(intervals.networks_of(list(parts.values())))
        drawn = intervals.values_over_networks(list(parts.values()), intervals.networks_of(list(parts.values())), seed)
    else:
        count, drawn = n, intervals.values_over_rows(list(parts.values()), seed)
    of_part = dict(zip(parts, drawn, strict=True))
    count = min(count, len(networks)) if claim.over == "networks" else count
    values = of.expression.value(of_part)
    low, high = intervals.interval(values, count)
    if len(measured_of) == 1 and of.expression.text in of.expression.aggregates:
        low, high = intervals.of_counts(measured_of[0], low, high)
    nulls = _value(null, of_part)
    ceilings = _value(ceiling, of_part)
    excess_low, excess_high = (math.nan, math.nan) if nulls is None else intervals.interval(values - nulls, count)
    row |= {
        "measured": values[0], "low": low, "high": high, "null": math.nan if nulls is None else nulls[0],
        "excess_low": excess_low, "excess_high": excess_high, "ceiling": math.nan if ceilings is None else ceilings[0],
        "detectable": POWER_Z * (high - low) / (2 * 1.959963984540054),
    }  # fmt: skip
    excess = math.nan if nulls is None else float(values[0] - nulls[0])
    verdict, reason = _verdict(
        claim, of, float(values[0]), (low, high), excess, (excess_low, excess_high), len(networks)
    )
    if verdict == "failed" and ceilings is not None and of.beyond(float(ceilings[0])):
        verdict, reason = (
            "undecided",
            f"could not have held: the ceiling, {ceilings[0]:.3g}, is below what was predicted",
        )
    return row | {"verdict": verdict, "reason": reason}


def _value(of: Expression | None, parts: Mapping[str, Array]) -> Array | None:
    """Return a null's or ceiling's values; None where there is none, or the run lacks its table."""
    return None if of is None or not set(of.aggregates) <= set(parts) else of.value(parts)


def _chosen(part: Aggregate, claim: Claim, value: object, tables: Tables) -> Chosen:
    table = tables.table(part.table)
    node = claim.each_node
    which: NDArray[np.bool_] = np.ones(len(table), dtype=np.bool_)
    if node is not None:
        which = (pd.Series(rows.of_rows(node, table), index=table.index) == value).to_numpy(dtype=np.bool_)
    return intervals.chosen(part, table, which)


def _share(networks: list[str], chosen_on: tuple[str, ...]) -> float:
    return sum(name in chosen_on for name in networks) / len(networks) if networks else math.nan


def _verdict(
    claim: Claim,
    of: Prediction,
    value: float,
    ends: tuple[float, float],
    excess: float,
    excess_ends: tuple[float, float],
    networks: int,
) -> tuple[str, str]:
    """Return the verdict, and why it is not ``held``."""
    if math.isnan(value):
        return "undecided", "the rows give no number"
    if claim.rule == "value":
        ends, excess_ends = (value, value), (excess, excess)
    elif math.isnan(ends[0]):
        few = f"{networks} networks" if claim.over == "networks" else "too few rows"
        return (
            "undecided",
            f"no interval: {few}" if networks < intervals.LEAST_NETWORKS or claim.over == "rows" else "no interval",
        )
    if of.excludes(*ends):
        return "failed", "not as predicted" if claim.rule == "value" else "the whole interval is not as predicted"
    if claim.against:
        if math.isnan(excess):
            return "undecided", "the run has nothing to make the null from"
        if math.isnan(excess_ends[0]):
            return "undecided", "no interval of measured less null: it is made of too few rows"
        wrong = excess_ends[1] <= 0 if claim.against == "above" else excess_ends[0] >= 0
        right = excess_ends[0] > 0 if claim.against == "above" else excess_ends[1] < 0
        if wrong:
            return "failed", f"not {claim.against} the null"
        if not right:
            return "undecided", "the interval of measured less null holds 0"
    if of.met(ends[0]) and of.met(ends[1]):
        return "held", ""
    return "undecided", "the interval holds values as predicted and others"
