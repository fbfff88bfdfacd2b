"""What a comparison found, kept under its name: a job computes only what is not kept yet.

A name is the digest of everything that decides the rows (code, packages, the layers' contents, nulls), and of no path:
jobs that share a store share their results.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from universality import kept

FOLDER = "results"


class Results:
    """The results below a folder of stores."""

    def __init__(self, store_root: str | Path) -> None:
        self.root = Path(store_root) / FOLDER

    def has(self, name: str) -> bool:
        """Return whether a result was committed (not whether it is undamaged: see `read`)."""
        return kept.place(self.root, name).is_file()

    def names(self) -> frozenset[str]:
        """Return the names of all committed results."""
        return frozenset(path.name for path in self.root.glob("*/*") if ".partial" not in path.name)

    def write(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Commit the tables of a result in one step."""
        kept.commit(kept.place(self.root, name), _to_bytes(tables))

    def read(self, name: str) -> dict[str, pd.DataFrame] | None:
        """Return the tables of a result; None if it is absent or damaged."""
        content = kept.read(kept.place(self.root, name))
        return None if content is None else _from_bytes(content)


def _to_bytes(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Return a line of JSON with the tables' names and sizes, then each as an Arrow stream."""
    streams = {name: _stream(table) for name, table in tables.items()}
    head = json.dumps({name: len(stream) for name, stream in streams.items()})
    return b"".join([head.encode(), b"\n", *streams.values()])


def _stream(table: pd.DataFrame) -> bytes:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return sink.getvalue()


def _from_bytes(content: bytes) -> dict[str, pd.DataFrame]:
    head, _, rest = content.partition(b"\n")
    tables, start = {}, 0
    for name, size in json.loads(head).items():
        with pa.ipc.open_stream(rest[start : start + size]) as reader:
            tables[name] = reader.read_all().to_pandas()
        start += size
    return tables
