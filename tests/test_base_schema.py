"""Tables hold exactly the columns that the schema describes, and every column says what it is."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest

from universality.activations.spec import Reduction
from universality.base import schema
from universality.base.errors import RunError
from universality.base.schema import Column, Table, as_table, empty_table
from universality.runs.tables import TABLES

COLUMNS = [(name, column) for name, table in TABLES.items() for column in table.columns]
NAMES = [f"{name}.{column.name}" for name, column in COLUMNS]
SMALL = Table(
    "small",
    "one row",
    (
        Column("label", "string", "1", "text", "a label"),
        Column("count", "int", "units", ">= 0", "a count"),
        Column("share", "float", "1", "0 to 1", "a share"),
        Column("live", "bool", "1", "true | false", "a flag"),
        Column("curve", "floats", "sigma", "any", "a curve"),
    ),
)


def small_rows():
    return pd.DataFrame(
        {
            "curve": [np.zeros(3), np.ones(3)],
            "live": [True, False],
            "share": [1, 0],
            "count": [2.0, 3.0],
            "label": ["a", "b"],
        }
    )


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=NAMES)
def test_every_column_has_a_kind_a_unit_a_range_and_a_meaning(table, column):
    assert column.name.isidentifier()
    assert column.kind in get_args(schema.ColumnKind)
    for text in (column.unit, column.range, column.meaning):
        assert text.strip() == text != ""
    assert len(column.meaning) > 3


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=NAMES)
def test_units_fit_the_names(table, column):
    if column.name.endswith("_deg"):
        assert column.unit == "degrees"
    if column.name.endswith("_px"):
        assert column.unit == "px"
    if column.name.endswith("_sigma") and column.name != "relative_sigma" and column.kind != "bool":
        assert column.unit == "sigma"


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_column_names_are_unique_and_the_row_is_described(table):
    assert len(set(table.names)) == len(table.columns)
    assert table.row
    assert TABLES[table.name] is table


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_empty_table_fits_its_schema(table):
    empty = empty_table(table)
    assert list(empty.columns) == table.names
    assert len(empty) == 0
    pd.testing.assert_frame_equal(as_table(table, empty), empty)


def test_as_table_orders_columns_and_sets_their_kinds():
    table = as_table(SMALL, small_rows())
    assert list(table.columns) == ["label", "count", "share", "live", "curve"]
    assert [str(kind) for kind in table.dtypes] == ["string", "int64", "float64", "bool", "object"]
    assert table["count"].tolist() == [2, 3]
    assert table["live"].tolist() == [True, False]
    assert table["curve"][1].tolist() == [1.0, 1.0, 1.0]


def test_as_table_leaves_the_rows_it_was_given():
    rows = small_rows()
    as_table(SMALL, rows)
    pd.testing.assert_frame_equal(rows, small_rows())


def test_as_table_keeps_nan_in_float_columns():
    table = as_table(SMALL, small_rows().assign(share=[np.nan, 0.5]))
    assert np.isnan(table["share"][0])


@pytest.mark.parametrize("missing", SMALL.names)
def test_as_table_refuses_a_missing_column(missing):
    with pytest.raises(RunError, match=rf"table 'small' does not fit.*missing columns \['{missing}'\]") as caught:
        as_table(SMALL, small_rows().drop(columns=missing))
    assert "\n" not in str(caught.value)


def test_as_table_refuses_an_unknown_column():
    with pytest.raises(RunError, match=r"missing columns \[\], unknown columns \['extra'\]; rerun") as caught:
        as_table(SMALL, small_rows().assign(extra=1))
    assert "\n" not in str(caught.value)


def test_as_table_names_a_renamed_column_on_both_sides():
    with pytest.raises(RunError, match=r"missing columns \['share'\], unknown columns \['shares'\]"):
        as_table(SMALL, small_rows().rename(columns={"share": "shares"}))


def test_as_table_refuses_a_table_without_columns():
    with pytest.raises(RunError, match="missing columns"):
        as_table(SMALL, pd.DataFrame())


def test_reductions_of_schema_and_specification_agree():
    assert get_args(Reduction) == schema.REDUCTIONS
