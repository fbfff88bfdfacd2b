"""What is asked of a table: parameters of an address as a query, and its filters as SQL with bound values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from universality.base.errors import RunError

ROWS = 50
"""Rows of a page unless a request says otherwise."""
MOST_ROWS = 10_000
_MOST_FILTERS, MOST_TEXT = 20, 200
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})?\s*\.\.\s*({_NUMBER})?")
_BOUND = re.compile(rf"(>=|<=|!=|>|<|=)?\s*({_NUMBER})")

Kind = Literal["number", "bool", "text", "list"]


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, kind, unit, range and meaning as the table's file states them."""

    name: str
    kind: Kind
    unit: str
    range: str
    meaning: str


@dataclass(frozen=True)
class Query:
    """What is asked of a table.

    Attributes
    ----------
    where : column -> expression, see `parse_query`
    words : each has to be in a text column
    order : (column, whether descending), the first counts most; then the table's own order
    columns : the columns wanted; empty for all
    page, rows : which page, from 1, of how many rows
    """

    where: tuple[tuple[str, str], ...] = ()
    words: str = ""
    order: tuple[tuple[str, bool], ...] = ()
    columns: tuple[str, ...] = ()
    page: int = 1
    rows: int = ROWS

    def parameters(self) -> list[tuple[str, str]]:
        """Return the query as parameters of an address; those with their defaults are left out."""
        said = [(f"f.{name}", expression) for name, expression in self.where]
        order = ",".join(f"-{name}" if down else name for name, down in self.order)
        every = [("q", self.words, ""), ("sort", order, ""), ("columns", ",".join(self.columns), ""), ("page", str(self.page), "1"),
                 ("rows", str(self.rows), str(ROWS))]  # fmt: skip
        return said + [(name, value) for name, value, default in every if value != default]


def parse_query(parameters: Iterable[tuple[str, str]], most_rows: int = MOST_ROWS) -> Query:
    """Return the query that the parameters of an address say.

    Parameters
    ----------
    parameters : pairs of name and value
        ``f.COLUMN=EXPRESSION`` filters: numbers by ``0.6..0.8``, ``0.6..``, ``>0.5``, ``>=``, ``<``, ``<=``, ``=3`` (or ``3``), ``!=3``; truth values
        by ``true`` or ``false``; text by words that it contains, ``=EXACTLY`` or ``!=EXACTLY``; any by ``empty`` or ``not empty``. ``q=WORDS`` searches
        all text columns, ``where=COLUMN:OPERATOR:VALUE`` filters too (``eq``, ``ne``, ``lt``, ``le``, ``gt``, ``ge``, ``contains``, ``null``, ``notnull``),
        ``sort=-r_natural,unit_a`` orders (``-``: the largest first), ``columns=a,b`` chooses, ``page`` and ``rows`` cut. Other
        names and empty values are passed over.
    most_rows : rows of a page, at most

    Raises
    ------
    RunError
        A number is none or too large, or there are too many filters.
    """
    where, single = [], {"q": "", "sort": "", "columns": "", "page": "1", "rows": str(ROWS)}
    for name, value in parameters:
        if len(value) > 10 * MOST_TEXT:
            raise RunError(
                f"parameter '{name[:50]}' has {len(value)} characters, expected at most {10 * MOST_TEXT}; shorten it"
            )
        if name.startswith("f.") and value.strip():
            where.append((name[2:], value.strip()))
        elif name == "where" and value.strip():
            where.append(_compared(value))
        elif name == "columns":
            single[name] = f"{single[name]},{value}"
        elif name in single and value.strip():
            single[name] = value.strip()
    if len(where) > _MOST_FILTERS:
        raise RunError(f"{len(where)} filters are given, expected at most {_MOST_FILTERS}; leave some out")
    order = [(name.lstrip("-"), name.startswith("-")) for name in _listed(single["sort"])]
    return Query(
        tuple(where), single["q"][:MOST_TEXT], tuple(order), tuple(_listed(single["columns"])),
        _whole("page", single["page"], 10**9), _whole("rows", single["rows"], most_rows),
    )  # fmt: skip


_OPERATORS = {
    "eq": "=",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "contains": "",
    "null": "empty",
    "notnull": "not empty",
}


def _compared(text: str) -> tuple[str, str]:
    """Return column and expression of ``COLUMN:OPERATOR:VALUE``."""
    column, _, rest = text.partition(":")
    operator, _, value = rest.partition(":")
    if operator not in _OPERATORS:
        raise RunError(
            f"filter '{text[:MOST_TEXT]}' has no operator, expected COLUMN:OPERATOR:VALUE with one of {', '.join(_OPERATORS)}; correct it"
        )
    return column, _OPERATORS[operator] + ("" if operator.endswith("null") else value)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(name: str, text: str, most: int) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or not 1 <= int(text) <= most:
        raise RunError(f"parameter '{name}' is '{text[:50]}', expected a whole number from 1 to {most}; correct it")
    return int(text)


def replaced(query: Query, **changed: Any) -> Query:
    """Return a query with some of its parts changed; unless the page itself is, the first page of it."""
    return replace(query, **({"page": 1} | changed))


def quoted(name: str) -> str:
    """Return the name of a column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def condition(column: Column, expression: str) -> tuple[str, list[Any]]:
    """Return the SQL of one filter with its bound values."""
    name = quoted(column.name)
    if expression in ("empty", "not empty"):
        empty = f"({name} IS NULL OR {name} = '')" if column.kind == "text" else f"{name} IS NULL"
        return (empty if expression == "empty" else f"NOT ({empty})"), []
    made = _CONDITIONS[column.kind](name, expression[:MOST_TEXT])
    if made is None:
        raise RunError(
            f"filter of '{column.name}' is '{expression[:MOST_TEXT]}', expected {_EXPECTED[column.kind]}; correct it"
        )
    return made


def _of_number(name: str, text: str) -> tuple[str, list[Any]] | None:
    if (found := _RANGE.fullmatch(text)) and any(found.groups()):
        ends = [(f"{name} {sign} ?", float(end)) for sign, end in zip((">=", "<="), found.groups(), strict=True) if end]
        return " AND ".join(sql for sql, _ in ends), [end for _, end in ends]
    if found := _BOUND.fullmatch(text):
        return f"{name} {found[1] or '='} ?", [float(found[2])]
    return None


def _of_bool(name: str, text: str) -> tuple[str, list[Any]] | None:
    found = re.fullmatch(r"(!?=)?\s*(true|false)", text.lower())
    return (f"{name} {found[1] or '='} ?", [found[2] == "true"]) if found else None


def _of_text(name: str, text: str) -> tuple[str, list[Any]] | None:
    for sign in ("!=", "="):
        if text.startswith(sign):
            return f"{name} {sign} ?", [text.removeprefix(sign).strip()]
    words = text.lower().split()
    return " AND ".join(f"contains(lower({name}), ?)" for _ in words), list(words)


_CONDITIONS: dict[str, Callable[[str, str], tuple[str, list[Any]] | None]] = {
    "number": _of_number, "bool": _of_bool, "text": _of_text, "list": lambda name, text: None,
}  # fmt: skip
_EXPECTED = {
    "number": "a number, a range such as 0.6..0.8, a bound such as >0.5, empty or not empty", "bool": "true, false, empty or not empty",
    "text": "words", "list": "empty or not empty: a list of numbers is not filtered by value",
}  # fmt: skip
