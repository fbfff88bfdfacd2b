"""Tables of runs with filters, order and pages: what the screen shows and what the API returns, from one query.

DuckDB reads the Parquet files of the runs' folder and no other. Names of tables and columns are looked up, never put together
from a request; values are bound.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from universality.base.errors import MissingError, RunError, did_you_mean
from universality.base.plain import plain as as_plain
from universality.runs.run import Run
from universality.service.queries import (
    MOST_ROWS,
    MOST_TEXT,
    ROWS,
    Column,
    Kind,
    Query,
    condition,
    parse_query,
    quoted,
    replaced,
)

__all__ = ["MEDIA", "MOST_ROWS", "ROWS", "Column", "Download", "Page", "Query", "Reader", "columns_of", "export", "file_of", "levels", "parse_query", "reader", "replaced", "select"]  # fmt: skip

_BATCH = 20_000
_MEMORY = "512MB"
_PLACE = "file_row_number"


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
            "rows": [dict(zip(names, map(as_plain, row), strict=True)) for row in self.values],
        }  # fmt: skip


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
            f"run '{run.path.name}' has no table '{table[:MOST_TEXT]}'{did_you_mean(table[:MOST_TEXT], run.tables)}"
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
        name = quoted(column.name)
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
        names = ", ".join(quoted(column.name) for column in columns)
        return f"SELECT {names} FROM {self.source} WHERE {self.condition} ORDER BY {self.order}{cut}", [
            self.file,
            *self.bound,
        ]


def _statement(run: Run, table: str, query: Query) -> tuple[_Statement, tuple[Column, ...], int, str]:
    file = file_of(run, table)
    row, total, known = _described(file, file.stat().st_mtime_ns)
    columns = {column.name: column for column in known}
    parts, bound = [], []
    for name, expression in query.where:
        sql, values = condition(_column(table, columns, name), expression)
        parts.append(sql)
        bound += values
    texts = [quoted(c.name) for c in known if c.kind == "text"]
    for word in query.words.split():
        parts.append(f"contains(lower(concat_ws(' ', {', '.join(texts)})), ?)" if texts else "false")
        bound += [word.lower()] if texts else []
    order = [
        f"{quoted(_column(table, columns, name).name)} {'DESC' if down else 'ASC'} NULLS LAST"
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
        raise RunError(f"table '{table}' has no column '{name[:MOST_TEXT]}'{did_you_mean(name[:MOST_TEXT], columns)}")
    return columns[name]


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
        pa.array([None if v is None else json.dumps(as_plain(v)) for v in c.to_pylist()])
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
            text = json.dumps(as_plain(row), allow_nan=False)
            yield (text if first else f",\n{text}").encode()
            first = False
    yield b"]\n"
