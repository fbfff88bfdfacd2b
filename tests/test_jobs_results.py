import numpy as np
import pandas as pd
import pytest

from universality.base import schema
from universality.jobs import comparing
from universality.jobs.results import Results, _to_bytes
from universality.jobs.tasks import Task
from universality.runs.tables import TABLES

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


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_kept_table_comes_back(tmp_path, table, count):
    rows = made_up(table, count)
    Results(str(tmp_path)).write("ab" * 16, {table.name: rows})
    pd.testing.assert_frame_equal(Results(str(tmp_path)).read("ab" * 16)[table.name], rows)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_table_joined_of_many_is_kept_in_one_piece(table):
    # The text of a joined table lies in as many pieces as were joined: 60 of them once made a result three times as large.
    joined = pd.concat([made_up(table, 2, start) for start in range(0, 120, 2)], ignore_index=True)
    assert _to_bytes({table.name: joined}) == _to_bytes({table.name: made_up(table, 120)})


@pytest.mark.parametrize("block", [1, 2, 3, 256])
def test_gathered_tables_are_the_parts_one_after_another(tmp_path, monkeypatch, block):
    monkeypatch.setattr(comparing, "_IN_BLOCK", block)
    names = list(TABLES)
    stages = ("first", "second")
    tasks = [Task(stages[n % 2], {"": f"{n:032x}"}, str(n), made_up, ()) for n in range(4)]
    # Not every task has rows of every table, and some have a table without rows.
    sizes = [{name: (n + place) % 3 for place, name in enumerate(names) if (n + place) % 4} for n in range(4)]
    parts = [{name: made_up(TABLES[name], size, 10 * n) for name, size in of.items()} for n, of in enumerate(sizes)]
    for task, tables in zip(tasks, parts, strict=True):
        Results(str(tmp_path)).write(task.keys[""], tables)
    gathered, damaged = comparing.gather(tasks, str(tmp_path))
    assert not damaged
    for stage, of in zip(stages, (parts[::2], parts[1::2]), strict=True):
        for name in names:
            found = [part[name] for part in of if name in part]
            assert (name in gathered[stage]) == bool(found)
            if found:
                pd.testing.assert_frame_equal(gathered[stage][name], pd.concat(found, ignore_index=True))


def test_parts_are_computed_and_kept_by_themselves(tmp_path):
    asked = []

    def compute(number, parts):
        asked.append(tuple(parts))
        return {part: {"similarity": made_up(schema.SIMILARITY, number)} for part in parts}

    results, keys = Results(str(tmp_path)), {"a": "aa" * 16, "b": "bb" * 16}
    task = Task("similarity", keys, "x", compute, (2,))
    results.write(keys["a"], {"similarity": made_up(schema.SIMILARITY, 1)})
    assert not task.kept(results.listed())
    assert comparing.batch_task(str(tmp_path), [task, task])[0][1] is None
    assert asked == [("b",)]
    assert task.kept(results.listed())
    assert len(comparing.gather([task], str(tmp_path))[0]["similarity"]["similarity"]) == 1 + 2
