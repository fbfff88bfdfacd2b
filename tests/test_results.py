import numpy as np
import pandas as pd
import pytest

from universality import schema
from universality.jobs import comparing
from universality.jobs.comparisons import Task
from universality.jobs.results import Results, _to_bytes

VALUES = {
    "string": lambda n: f"text {n}",
    "int": lambda n: n,
    "float": lambda n: n / 1000 if n % 3 else np.nan,
    "bool": lambda n: n % 2 == 0,
    "floats": lambda n: np.arange(n % 5, dtype=np.float32),
}


def made_up(table, count, start=0):
    """Rows of a table, of every kind of value."""
    if not count:
        return schema.empty_table(table)
    columns = {c.name: [VALUES[c.kind](start + n) for n in range(count)] for c in table.columns}
    return schema.as_table(table, pd.DataFrame(columns))


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda table: table.name)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_kept_table_comes_back(tmp_path, table, count):
    rows = made_up(table, count)
    Results(str(tmp_path)).write("ab" * 16, {table.name: rows})
    pd.testing.assert_frame_equal(Results(str(tmp_path)).read("ab" * 16)[table.name], rows)


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=lambda table: table.name)
def test_a_table_joined_of_many_is_kept_in_one_piece(table):
    # The text of a joined table lies in as many pieces as were joined: 60 of them once made a result three times as large.
    joined = pd.concat([made_up(table, 2, start) for start in range(0, 120, 2)], ignore_index=True)
    assert _to_bytes({table.name: joined}) == _to_bytes({table.name: made_up(table, 120)})


@pytest.mark.parametrize("block", [1, 2, 3, 256])
def test_gathered_tables_are_the_parts_one_after_another(tmp_path, monkeypatch, block):
    monkeypatch.setattr(comparing, "_IN_BLOCK", block)
    names = [name for name in schema.TABLES if name != schema.PAIRS.name]
    tasks = [Task(f"{n:032x}", str(n), made_up, ()) for n in range(4)]
    # Not every task has rows of every table, and some have a table without rows.
    sizes = [{name: (n + place) % 3 for place, name in enumerate(names) if (n + place) % 4} for n in range(4)]
    parts = [
        {name: made_up(schema.TABLES[name], size, 10 * n) for name, size in of.items()} for n, of in enumerate(sizes)
    ]
    for task, tables in zip(tasks, parts, strict=True):
        Results(str(tmp_path)).write(task.key, tables)
    tables, damaged = comparing.gather(tasks, str(tmp_path))
    assert not damaged
    for name in names:
        expected = pd.concat([part[name] for part in parts if name in part], ignore_index=True)
        # q is that of all rows together, and no part has it.
        left = [column for column in expected if column != "q"]
        pd.testing.assert_frame_equal(tables[name][left], expected[left])
