"""The language of claims: a comparison of numbers made from tables, in Python's syntax and nothing more of it.

A prediction is a comparison, ``share(units, detector, seed >= 0) <= 0.001`` or ``0.2 <= ... <= 0.4``. Between the bounds stand
numbers, ``+ - * /`` and aggregates of one table each (`AGGREGATES`): the first argument names the table, the last says which rows count and
may be left out. Inside an aggregate, names are columns of that table; they may be compared, combined with ``and``, ``or``, ``not``, ``in``
and ``+ - * /``, and given to `rows.ROW_FUNCTIONS`. There are no attributes, indices, keywords, assignments or other calls: an expression
can only read tables.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from universality.base.arrays import Array
from universality.base.errors import ClaimError, did_you_mean
from universality.ledger import rows

AGGREGATES: dict[str, int] = {
    "count": 0,
    "share": 1,
    "networks": 1,
    "mean": 1,
    "median": 1,
    "least": 1,
    "largest": 1,
    "correlation": 2,
    "rank_correlation": 2,
}
"""By name, how many row expressions stand between the table and the rows that count: ``correlation(table, x, y, where)``."""
HELP = {
    "count": "number of rows",
    "share": "share of the rows for which a condition holds",
    "networks": "share of the networks in which it holds for one row or more",
    "mean": "mean of a value",
    "median": "median of a value",
    "least": "smallest value; it has no interval",
    "largest": "largest value; it has no interval",
    "correlation": "Pearson correlation of two values",
    "rank_correlation": "Spearman correlation of two values",
}


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of an expression: of which table, of what, over which rows.

    Attributes
    ----------
    text : as it was written
    values : row expressions
    where : row expression, or None for all rows
    """

    name: str
    table: str
    values: tuple[ast.expr, ...]
    where: ast.expr | None
    text: str

    @property
    def columns(self) -> list[str]:
        """Columns that it names, in order."""
        return rows.columns_of((*self.values, *(() if self.where is None else (self.where,))))


@dataclass(frozen=True)
class Bound:
    """One side of a prediction: the value has to be `sign` `number`."""

    sign: str
    number: float

    def met(self, value: float) -> bool:
        """Return whether a value is on the right side; NaN never is."""
        return bool(dict(rows.COMPARISONS.values())[self.sign](value, self.number))


@dataclass(frozen=True)
class Expression:
    """A number made from tables."""

    text: str
    node: ast.expr
    aggregates: dict[str, Aggregate]

    def value(self, of: Mapping[str, Array]) -> Array:
        """Return the expression's value from those of its aggregates, by their text; arrays are combined element by element."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(_scalar(self.node, self.aggregates, of), dtype=np.float64)


@dataclass(frozen=True)
class Prediction:
    """A number made from tables, and the bounds within which it is predicted to lie."""

    expression: Expression
    bounds: tuple[Bound, ...]

    def met(self, value: float) -> bool:
        """Return whether a value is as predicted."""
        return all(bound.met(value) for bound in self.bounds)

    def excludes(self, low: float, high: float) -> bool:
        """Return whether no value of an interval is as predicted."""
        for bound in self.bounds:
            # Of an interval, the end that is nearest to what the bound asks for.
            nearest = low if bound.sign in ("<", "<=") else high
            if bound.sign == "==":
                nearest = min(max(bound.number, low), high)
            if not bound.met(nearest):
                return True
        return False

    def beyond(self, ceiling: float) -> bool:
        """Return whether more is predicted than a ceiling allows."""
        return any(bound.sign in (">", ">=") and not bound.met(ceiling) for bound in self.bounds)


def prediction(text: str) -> Prediction:
    """Parse a comparison.

    Raises
    ------
    ClaimError
        It is no comparison of a number made from tables with numbers, or holds what the language has not.

    Examples
    --------
    >>> prediction("0.1 < share(units, detector) <= 0.5").bounds
    (Bound(sign='>', number=0.1), Bound(sign='<=', number=0.5))
    """
    node = rows.parsed(text)
    if not isinstance(node, ast.Compare):
        raise ClaimError(
            f"prediction '{rows.brief(text)}' compares nothing, expected a comparison such as share(units, detector) <= 0.01"
        )
    sides = [node.left, *node.comparators]
    made = [place for place, side in enumerate(sides) if any(isinstance(part, ast.Call) for part in ast.walk(side))]
    if len(made) != 1 or len(sides) > 3 or (len(sides) == 3 and made != [1]):
        raise ClaimError(
            f"prediction '{rows.brief(text)}' has {len(made)} sides that are made from tables, expected one, beside a number or between two; "
            "write a difference to compare two"
        )
    (place,) = made
    bounds = []
    for at, sign in enumerate(node.ops):
        written = rows.COMPARISONS.get(type(sign), ("", None))[0]
        if written not in _MIRRORED:
            raise ClaimError(
                f"prediction '{rows.brief(text)}' compares with '{_sign(sign)}', expected one of {', '.join(_MIRRORED)}"
            )
        other = sides[at + 1] if at == place else sides[at]
        bounds.append(Bound(written if at == place else _MIRRORED[written], _number(other, text)))
    return Prediction(_expression(sides[place], text), tuple(bounds))


def expression(text: str) -> Expression:
    """Parse a number made from tables; `ClaimError` as `prediction`."""
    return _expression(rows.parsed(text), text)


def _sign(sign: ast.cmpop) -> str:
    return {ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"}.get(type(sign)) or rows.COMPARISONS[
        type(sign)
    ][0]


def _number(node: ast.expr, text: str) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        value = _scalar(node, {}, {}) if _is_numeric(node) else math.nan
    if not math.isfinite(value):
        raise ClaimError(f"bound '{rows.brief(ast.unparse(node))}' of '{rows.brief(text)}' is no number; write one")
    return float(value)


def _is_numeric(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in rows.ARITHMETIC and _is_numeric(node.left) and _is_numeric(node.right)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_numeric(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _expression(node: ast.expr, text: str) -> Expression:
    found: dict[str, Aggregate] = {}
    _collect(node, text, found)
    if not found:
        raise ClaimError(
            f"expression '{rows.brief(text)}' is made from no table, expected an aggregate, one of {', '.join(AGGREGATES)}"
        )
    return Expression(ast.unparse(node), node, found)


def _collect(node: ast.expr, text: str, found: dict[str, Aggregate]) -> None:
    """Find the aggregates of a number made from tables, and refuse all that is neither that nor arithmetic."""
    if isinstance(node, ast.Call):
        of = _aggregate(node, text)
        found[of.text] = of
    elif isinstance(node, ast.BinOp) and type(node.op) in rows.ARITHMETIC:
        _collect(node.left, text, found)
        _collect(node.right, text, found)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _collect(node.operand, text, found)
    elif isinstance(node, ast.Name):
        raise ClaimError(
            f"'{node.id}' in '{rows.brief(text)}' stands alone, expected it inside an aggregate such as mean(TABLE, {node.id})"
        )
    elif not _is_numeric(node):
        raise rows.refused(node, text)


def _aggregate(node: ast.Call, text: str) -> Aggregate:
    name = rows.called(node, text)
    if name not in AGGREGATES:
        raise ClaimError(f"unknown aggregate '{name}' in '{rows.brief(text)}'{did_you_mean(name, AGGREGATES)}")
    values = AGGREGATES[name]
    arguments = list(node.args)
    if not values + 1 <= len(arguments) <= values + 2:
        raise ClaimError(
            f"'{rows.brief(ast.unparse(node))}' has {len(arguments)} arguments, expected a table, {values} of what is made of its rows, and "
            "which rows count (may be left out)"
        )
    if not isinstance(arguments[0], ast.Name):
        raise ClaimError(
            f"'{rows.brief(ast.unparse(node))}' begins with '{rows.brief(ast.unparse(arguments[0]))}', expected the name of a table"
        )
    for argument in arguments[1:]:
        rows.check(argument, text)
    where = arguments[values + 1] if len(arguments) > values + 1 else None
    return Aggregate(name, arguments[0].id, tuple(arguments[1 : values + 1]), where, ast.unparse(node))


def _scalar(node: ast.expr, aggregates: Mapping[str, Aggregate], of: Mapping[str, Array]) -> Any:
    if isinstance(node, ast.Call):
        return of[aggregates[ast.unparse(node)].text]
    if isinstance(node, ast.BinOp):
        return rows.ARITHMETIC[type(node.op)](
            np.asarray(_scalar(node.left, aggregates, of), dtype=np.float64), _scalar(node.right, aggregates, of)
        )
    if isinstance(node, ast.UnaryOp):
        return -_scalar(node.operand, aggregates, of)
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    raise rows.refused(node, ast.unparse(node))  # not reached by what was parsed
