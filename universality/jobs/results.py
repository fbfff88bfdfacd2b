"""What a comparison found, kept under its key: a job computes only what is not kept yet.

A key is the digest of everything that decides the rows (code, packages, the layers' contents, nulls), and of no path:
jobs that share a store share their results.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from universality.activations import pieces
from universality.activations.places import place_of

FOLDER = "results"


class Results:
    """The results beside the stores of a place."""

    def __init__(self, location: str) -> None:
        self._place = place_of(location)

    def has(self, key: str) -> bool:
        """Return whether a result was committed (not whether it is undamaged: see `read`)."""
        return self._place.has(pieces.name_of(FOLDER, key))

    def listed(self) -> frozenset[str]:
        """Return the keys of all committed results, as one look at the folders shows them."""
        return frozenset(name for part in self._place.names(FOLDER) for name in self._place.names(f"{FOLDER}/{part}"))

    def write(self, key: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Commit the tables of a result in one step."""
        pieces.write(self._place, pieces.name_of(FOLDER, key), _to_bytes(tables))

    def read(self, key: str) -> dict[str, pd.DataFrame] | None:
        """Return the tables of a result; None if it is absent or damaged."""
        tables = self.read_arrow(key)
        return None if tables is None else {name: table.to_pandas() for name, table in tables.items()}

    def read_arrow(self, key: str) -> dict[str, pa.Table] | None:
        """Return the tables of a result as they were kept; None if it is absent or damaged.

        Many small tables are joined as these: a frame of 50 columns takes more than its few rows.
        """
        content = pieces.read(self._place, pieces.name_of(FOLDER, key))
        return None if content is None else _from_bytes(content)

    def remove(self, key: str) -> None:
        """Delete a result."""
        self._place.remove(pieces.name_of(FOLDER, key))


def _to_bytes(tables: Mapping[str, pd.DataFrame]) -> bytes:
    """Return a line of JSON with the tables' names and sizes, then each as an Arrow stream."""
    streams = {name: _stream(table) for name, table in tables.items()}
    head = json.dumps({name: len(stream) for name, stream in streams.items()})
    return b"".join([head.encode(), b"\n", *streams.values()])


def _stream(table: pd.DataFrame) -> bytes:
    # Text of a table that was joined from many lies in as many pieces, each of which would be padded and described.
    arrow = pa.Table.from_pandas(table, preserve_index=False).combine_chunks()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    return sink.getvalue()


def _from_bytes(content: bytes) -> dict[str, pa.Table]:
    head, _, rest = content.partition(b"\n")
    tables, start = {}, 0
    for name, size in json.loads(head).items():
        with pa.ipc.open_stream(rest[start : start + size]) as reader:
            tables[name] = reader.read_all()
        start += size
    return tables
