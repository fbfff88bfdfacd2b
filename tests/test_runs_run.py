"""What public objects return is written by the writers of pandas and xarray, and is what it was when it is read again."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from xarray.backends import list_engines

import universality
from universality import align_tuning, compare_all, match_units, score, tuning_statistics
from universality.jobs.stages import STAGES
from universality.runs.tables import TABLES
from universality.stimuli.sets import render
from universality.stimuli.spec import StimuliSpec

ANGLES = np.arange(8) * 45.0


def layers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 5))
    return x, x[:, :3] + rng.standard_normal((30, 3))


def made():
    """Every table that the public functions of arrays return."""
    x, y = layers()
    pairs = compare_all({"a": x, "b": y, "dead": np.ones((30, 2))}, ["cka_linear_debiased", "svcca_variance99"])
    curves = np.abs(np.random.default_rng(1).standard_normal((6, 8)))
    return {
        "score": score("unit_match_hungarian", x, y, nulls=True).table(),
        "score without nulls": score("cka_linear_debiased", x, np.ones((30, 2))).table(),
        "compare_all": pairs.table(),
        "compare_all, matrix": pairs.matrix("cka_linear_debiased"),
        "match_units": match_units(x, y),
        "match_units, nothing": match_units(x, np.ones((30, 2))),
        "tuning_statistics": tuning_statistics(curves, ANGLES).table(),
        "align_tuning": align_tuning(curves, np.roll(curves, 1, axis=1), ANGLES).table(),
        "measures": universality.measures(),
    }


def written_and_read(table, folder):
    """The table from Parquet and from CSV; CSV knows neither kinds nor whether an empty cell was a text."""
    index = not isinstance(table.index, pd.RangeIndex)
    table.to_parquet(folder / "t.parquet")
    table.to_csv(folder / "t.csv", index=index)
    yield pd.read_parquet(folder / "t.parquet")
    # Texts of old versions of pandas are objects, as lists are.
    lists = [name for name in table if len(table) and isinstance(table[name].iloc[0], np.ndarray)]
    text = [name for name, kind in table.dtypes.items() if kind == "O" or pd.api.types.is_string_dtype(kind)]
    text = [name for name in text if name not in lists]
    read = pd.read_csv(folder / "t.csv", index_col=0 if index else None, dtype=dict.fromkeys(text, str))
    read = read.fillna(dict.fromkeys(text, ""))
    read = read.assign(**{name: [np.array(json.loads(cell)) for cell in read[name]] for name in lists})
    yield read.astype(table.dtypes.to_dict())


def same(read, table):
    """To the last digit but some units: old versions of pandas drop what follows the sixteenth decimal of a CSV."""
    pd.testing.assert_frame_equal(read, table, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("name", made())
def test_tables_of_functions(name, tmp_path):
    table = made()[name]
    for read in written_and_read(table, tmp_path):
        same(read, table)
    assert pd.read_parquet(tmp_path / "t.parquet").attrs == table.attrs


def test_tables_of_a_run(whole, tmp_path):
    families = (None, *whole.job.comparison.families)
    others = [stage for stage in STAGES.values() if {"copies", "edits", "dictionaries"} & {*stage.asks}]
    left_out = {table.name for stage in others for table in stage.tables} | {
        "ledger"
    }  # a run's claims are asked for later
    assert set(whole.tables) == {name for name, table in TABLES.items() if table.family in families} - left_out
    for name in whole.tables:
        table = whole.table(name)
        for read in written_and_read(table, tmp_path):
            same(read, table)
    curve = whole.units["tuning_sigma"].iloc[0]
    assert isinstance(curve, np.ndarray)
    assert str(curve) == json.dumps(curve.tolist())


# xarray's engines: `store` takes stores that are open, and has no files of its own. One that is installed later is tested then.
FILES = {"scipy": ("NETCDF3_64BIT",), "netcdf4": ("NETCDF4",), "h5netcdf": ("NETCDF4",), "zarr": (2, 3), "store": ()}


@pytest.mark.parametrize("engine", list_engines())
@pytest.mark.parametrize("what", ["activations", "untrained twin", "other set", "stimuli"])
def test_labelled_arrays(engine, what, small, tmp_path):
    run = small.run
    model, tap = run.similarity[["model_b", "tap_b"]].iloc[0]
    array = {
        "activations": lambda: run.activations(model, tap),
        "untrained twin": lambda: run.activations(model, tap, seed=0),
        "other set": lambda: run.activations(model, tap, "curves"),
        "stimuli": lambda: render("gratings", StimuliSpec(), 8, slice(4)).rename("image"),
    }[what]()
    for kind in FILES[engine]:
        place = tmp_path / f"{engine}-{kind}"
        if engine == "zarr":
            array.to_zarr(place, zarr_format=kind, consolidated=False)
            read = xr.open_zarr(place, consolidated=False)[array.name]
        else:
            array.to_netcdf(place, engine=engine, format=kind)
            read = xr.open_dataarray(place, engine=engine)
        # netCDF 3 has whole numbers of 32 bits at most, and texts come back as another kind of text.
        xr.testing.assert_equal(read.load().astype(array.dtype), array.load())
        assert {name: value for name, value in read.attrs.items() if name in array.attrs} == array.attrs
        read.close()


def test_attributes_of_activations_are_numbers_and_texts(small):
    run = small.run
    model, tap = run.similarity[["model_a", "tap_a"]].iloc[0]
    attributes = run.activations(model, tap).attrs
    assert {type(value) for value in attributes.values()} <= {str, int, float}
    assert json.loads(attributes["tap"])["name"] == tap
    assert attributes["model"] == model
