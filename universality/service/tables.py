"""Tables of runs with filters, order and pages: what the screen shows and what the API returns, from one query.

DuckDB reads the Parquet files of the runs' folder and no other. Names of tables and columns are looked up, never put together
from a request; values are bound.
"""

from __future__ import annotations

import io
import json
import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from universality.base.errors import MissingError, RunError, did_you_mean
from universality.runs.run import Run

ROWS = 50
"""Rows of a page unless a request says otherwise."""
MOST_ROWS = 10_000
_MOST_FILTERS, _MOST_TEXT = 20, 200
_BATCH = 20_000
_MEMORY = "512MB"
_PLACE = "file_row_number"
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


@dataclass(frozen=True)
class Page:
    """One page of a table.

    Attributes
    ----------
    table, row : the table's name, and what one row is
    columns : of the rows, in order
    values : (row, column)
    total, matched : rows of the table, and rows that the query matches
    """

    table: str
    row: str
    columns: tuple[Column, ...]
    values: list[tuple[Any, ...]]
    total: int
    matched: int
    query: Query

    @property
    def pages(self) -> int:
        """How many pages there are; one at least."""
        return max(1, -(-self.matched // self.query.rows))

    def plain(self) -> dict[str, Any]:
        """Return the page as JSON-compatible values; what has no value is null."""
        names = [column.name for column in self.columns]
        return {
            "table": self.table, "row": self.row, "total": self.total, "matched": self.matched, "page": self.query.page, "pages": self.pages,
            "columns": [{"name": c.name, "kind": c.kind, "unit": c.unit, "range": c.range, "meaning": c.meaning} for c in self.columns],
            "rows": [dict(zip(names, map(finite, row), strict=True)) for row in self.values],
        }  # fmt: skip


def finite(value: Any) -> Any:
    """Return a value as JSON can hold it: a number that is none is null."""
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        if len(value) > 10 * _MOST_TEXT:
            raise RunError(
                f"parameter '{name[:50]}' has {len(value)} characters, expected at most {10 * _MOST_TEXT}; shorten it"
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
        tuple(where), single["q"][:_MOST_TEXT], tuple(order), tuple(_listed(single["columns"])),
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
            f"filter '{text[:_MOST_TEXT]}' has no operator, expected COLUMN:OPERATOR:VALUE with one of {', '.join(_OPERATORS)}; correct it"
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


@lru_cache(maxsize=256)
def _described(file: Path, _: int) -> tuple[str, int, tuple[Column, ...]]:
    """Return what a row of a table's file is, how many there are, and its columns; the second value is the file's time."""
    schema, metadata = pq.read_schema(file), pq.read_metadata(file)
    columns = []
    for one in schema:
        about = {key.decode(): value.decode() for key, value in (one.metadata or {}).items()}
        columns.append(
            Column(one.name, _kind(one.type), about.get("unit", ""), about.get("range", ""), about.get("meaning", ""))
        )
    return (schema.metadata or {}).get(b"row", b"").decode(), metadata.num_rows, tuple(columns)


def _kind(of: pa.DataType) -> Kind:
    if pa.types.is_boolean(of):
        return "bool"
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        return "number"
    return "list" if pa.types.is_list(of) or pa.types.is_large_list(of) else "text"


def file_of(run: Run, table: str) -> Path:
    """Return the file of a table; raise `MissingError` if the run has none of this name."""
    if table not in run.tables:
        raise MissingError(
            f"run '{run.path.name}' has no table '{table[:_MOST_TEXT]}'{did_you_mean(table[:_MOST_TEXT], run.tables)}"
        )
    return run.path / f"{table}.parquet"


def columns_of(run: Run, table: str) -> tuple[Column, ...]:
    """Return the columns of a table."""
    file = file_of(run, table)
    return _described(file, file.stat().st_mtime_ns)[2]


MOST_LEVELS = 40
"""A text column with at most so many values is filtered by choosing one."""


def levels(run: Run, table: str) -> dict[str, list[str]]:
    """Return the values of the text columns that have few."""
    file = file_of(run, table)
    return _levels(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _levels(file: Path, time: int) -> dict[str, list[str]]:
    found = {}
    cursor = reader(file.parent.parent).cursor()
    for column in (column for column in _described(file, time)[2] if column.kind == "text"):
        name = _quoted(column.name)
        rows = cursor.execute(
            f"SELECT DISTINCT {name} FROM read_parquet(?) LIMIT {MOST_LEVELS + 1}", [str(file.resolve())]
        ).fetchall()
        values = sorted(row[0] for row in rows if row[0])
        if 1 < len(rows) <= MOST_LEVELS and not any("," in value for value in values):
            found[column.name] = values
    return found


@dataclass
class Reader:
    """A DuckDB that reads Parquet in one folder, and nothing else."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        options: dict[str, Any] = {
            "threads": 1, "memory_limit": _MEMORY, "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        }  # fmt: skip
        self._base = duckdb.connect(":memory:", config=options)
        quoted = str(self.folder.resolve()).replace("'", "''")
        for statement in (
            f"allowed_directories = ['{quoted}']",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._base.execute(f"SET {statement}")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of one's own."""
        with self._lock:
            return self._base.cursor()


@lru_cache(maxsize=16)
def reader(folder: Path) -> Reader:
    """Return what reads the tables in a folder."""
    return Reader(folder)


@dataclass(frozen=True)
class _Statement:
    """A query in SQL: the condition and the order, with what is bound."""

    source: str
    file: str
    condition: str
    order: str
    bound: tuple[Any, ...]

    def counted(self) -> tuple[str, list[Any]]:
        return f"SELECT count(*) FROM {self.source} WHERE {self.condition}", [self.file, *self.bound]

    def of(self, columns: Iterable[Column], cut: str = "") -> tuple[str, list[Any]]:
        names = ", ".join(_quoted(column.name) for column in columns)
        return f"SELECT {names} FROM {self.source} WHERE {self.condition} ORDER BY {self.order}{cut}", [
            self.file,
            *self.bound,
        ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _statement(run: Run, table: str, query: Query) -> tuple[_Statement, tuple[Column, ...], int, str]:
    file = file_of(run, table)
    row, total, known = _described(file, file.stat().st_mtime_ns)
    columns = {column.name: column for column in known}
    parts, bound = [], []
    for name, expression in query.where:
        sql, values = _condition(_column(table, columns, name), expression)
        parts.append(sql)
        bound += values
    texts = [_quoted(c.name) for c in known if c.kind == "text"]
    for word in query.words.split():
        parts.append(f"contains(lower(concat_ws(' ', {', '.join(texts)})), ?)" if texts else "false")
        bound += [word.lower()] if texts else []
    order = [
        f"{_quoted(_column(table, columns, name).name)} {'DESC' if down else 'ASC'} NULLS LAST"
        for name, down in query.order
    ]
    said = _Statement(
        f"read_parquet(?, {_PLACE} = true)",
        str(file.resolve()),
        " AND ".join(parts) or "true",
        ", ".join([*order, _PLACE]),
        tuple(bound),
    )
    chosen = tuple(_column(table, columns, name) for name in query.columns) or known
    return said, chosen, total, row


def _column(table: str, columns: dict[str, Column], name: str) -> Column:
    if name not in columns:
        raise RunError(f"table '{table}' has no column '{name[:_MOST_TEXT]}'{did_you_mean(name[:_MOST_TEXT], columns)}")
    return columns[name]


def _condition(column: Column, expression: str) -> tuple[str, list[Any]]:
    """Return the SQL of one filter with its bound values."""
    name = _quoted(column.name)
    if expression in ("empty", "not empty"):
        empty = f"({name} IS NULL OR {name} = '')" if column.kind == "text" else f"{name} IS NULL"
        return (empty if expression == "empty" else f"NOT ({empty})"), []
    made = _CONDITIONS[column.kind](name, expression[:_MOST_TEXT])
    if made is None:
        raise RunError(
            f"filter of '{column.name}' is '{expression[:_MOST_TEXT]}', expected {_EXPECTED[column.kind]}; correct it"
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


def select(run: Run, table: str, query: Query) -> Page:
    """Return one page of a run's table.

    Raises
    ------
    RunError
        The run has no such table, the table no such column, or a filter cannot be read.
    """
    statement, columns, total, row = _statement(run, table, query)
    cursor = reader(run.path.parent).cursor()
    matched = int(cursor.execute(*statement.counted()).fetchone()[0]) if statement.condition != "true" else total  # type: ignore[index]
    cut = f" LIMIT {query.rows} OFFSET {query.rows * (query.page - 1)}"
    values = cursor.execute(*statement.of(columns, cut)).fetchall()
    return Page(table, row, columns, values, total, matched, query)


@dataclass(frozen=True)
class Download:
    """A file in the making."""

    media_type: str
    filename: str
    chunks: Iterator[bytes]


MEDIA = {
    "csv": "text/csv; charset=utf-8", "json": "application/json", "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}  # fmt: skip
"""Formats of downloads."""


def export(run: Run, table: str, query: Query, form: str) -> Download:
    """Return all rows of a table that a query matches, in its order, as a file; `form` is a name in `MEDIA`.

    Raises
    ------
    RunError
        As `select`; or the format is unknown.
    """
    if form not in MEDIA:
        raise RunError(
            f"unknown format '{form[:50]}', expected one of {', '.join(MEDIA)}{did_you_mean(form[:50], MEDIA)}"
        )
    statement, columns, _, row = _statement(run, table, query)
    text, bound = statement.of(columns)
    batches = reader(run.path.parent).cursor().sql(text, params=bound).to_arrow_reader(_BATCH)
    kept = pq.read_schema(file_of(run, table))
    schema = pa.schema(
        [kept.field(column.name) for column in columns], metadata={b"row": row.encode(), **(kept.metadata or {})}
    )
    write = {"csv": _as_csv, "json": _as_json, "parquet": _as_parquet, "arrow": _as_arrow}[form]
    return Download(MEDIA[form], f"{run.path.name}.{table}.{form}", write(batches, schema))


class _Sink(io.RawIOBase):
    """What a writer has written since it was last emptied."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._parts.append(bytes(content))
        return len(content)

    def emptied(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _as_parquet(batches: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[bytes]:
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            yield sink.emptied()
    yield sink.emptied()


def _as_arrow(batches: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[bytes]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            yield sink.emptied()
    yield sink.emptied()


def _as_csv(batches: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[bytes]:
    yield (",".join(f'"{name}"' for name in schema.names) + "\n").encode()
    options = pyarrow.csv.WriteOptions(include_header=False)
    for batch in batches:
        sink = io.BytesIO()
        pyarrow.csv.write_csv(_without_lists(batch), sink, options)
        yield sink.getvalue()


def _without_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with its lists as JSON text, as the command line writes them."""
    columns = [
        pa.array([None if v is None else json.dumps(finite(v)) for v in c.to_pylist()])
        if _kind(c.type) == "list"
        else c
        for c in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_json(batches: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[bytes]:
    yield b"["
    first = True
    for batch in batches:
        for row in batch.to_pylist():
            text = json.dumps({name: finite(value) for name, value in row.items()}, allow_nan=False)
            yield (text if first else f",\n{text}").encode()
            first = False
    yield b"]\n"
