"""The gate for arrays of the user's own: every entry point, every container, every order of dimensions, every refusal.

One table of entry points is fed the same values in every container: the results are equal, or there is one sentence.
"""

import inspect
import tracemalloc
import warnings
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import universality
from universality import LinearCKAAccumulator, align_tuning, compare_all, match_units, score, tuning_statistics
from universality.base import inputs
from universality.base.errors import MeasureError, UniversalityError

ANGLES = np.arange(8) * 45.0
N, P = 24, 8
LAYER, CURVE = ("stimulus", "unit"), ("unit", "angle")


def streamed(x, y):
    sums = LinearCKAAccumulator()
    sums.add(x, y)
    return sums.value()


def all_pairs(x, y):
    return compare_all({"x": x, "y": y}, ["cka_linear_debiased", "unit_match_hungarian"], dtype="float64").table()[
        "value"
    ]


def tuned(curves, angles=ANGLES):
    return tuning_statistics(curves, angles).table().to_numpy()


# What a user calls with two arrays, (24, 8): how their axes are called, and the numbers that come out.
ENTRIES = {
    "score": (LAYER, lambda x, y: score("cka_linear_debiased", x, y).value),
    "score of units, with nulls": (LAYER, lambda x, y: score("unit_match_hungarian", x, y, nulls=True, shuffles=1, haar_rotations=1).table().iloc[0, 2:5]),
    "compare_all": (LAYER, all_pairs),
    "match_units": (LAYER, lambda x, y: match_units(x, y).to_numpy()),
    "LinearCKAAccumulator": (LAYER, streamed),
    "tuning_statistics": (CURVE, lambda x, y: np.hstack([tuned(x), tuned(y)])),
    "align_tuning": (CURVE, lambda x, y: align_tuning(x, y, ANGLES).table().to_numpy()),
}  # fmt: skip
# Public names that take no arrays of measurements.
OF_NETWORKS = {
    "activations",
    "compare",
    "visualise",
    "expanded_weights",
    "editing",
    "edited_weights",
    "cache",
}  # they take networks and images
OTHERS = {
    "COMPARATORS",
    "Client",
    "Edit",
    "Run",
    "UniversalityError",
    "findings",
    "measures",
    "open_run",
    "plan",
    "provenance",
    "run",
}


def values(seed=0):
    """Whole numbers from 0 to 15: every container holds them exactly, float8 included. No unit is constant."""
    return np.random.default_rng(seed).integers(0, 16, (N, P)).astype(np.float64)


X, Y = values(0), values(1)


@pytest.fixture(scope="module")
def expected():
    return {name: np.asarray(call(X, Y), dtype=np.float64) for name, (_, call) in ENTRIES.items()}


@dataclass
class Own:
    """A source of tiles of the user's own, which hands out tensors of half precision."""

    array: np.ndarray

    @property
    def n(self):
        return len(self.array)

    @property
    def p(self):
        return self.array.shape[1]

    def tile(self, start, stop):
        return torch.tensor(self.array[start:stop], dtype=torch.bfloat16)


class Foreign:
    """An array of some other library."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(dtype or self.array.dtype)


def labelled(x, dims, **coords):
    return xr.DataArray(x, dims=dims, coords={name: (dim, at) for name, (dim, at) in coords.items()})


def tensor(dtype):
    return lambda x, dims: torch.tensor(x).to(dtype)


def numpy(dtype):
    return lambda x, dims: x.astype(dtype)


# From float64 values and the names of their axes to the same values in something else.
CONTAINERS = {
    "columns first": lambda x, dims: np.asfortranarray(x),
    "strided": lambda x, dims: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda x, dims: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    **{f"numpy {kind}": numpy(kind) for kind in (">f8", "f4", "f2", "g", "i1", "u2", "i8", "u8")},
    "read only": lambda x, dims: np.frombuffer(x.tobytes()).reshape(x.shape),
    "matrix": lambda x, dims: np.asmatrix(x),
    "mask that masks nothing": lambda x, dims: np.ma.masked_array(x, mask=np.zeros(x.shape, bool)),
    "list": lambda x, dims: x.tolist(),
    "tuple of rows": lambda x, dims: tuple(x),
    "list of tensors that require gradients": lambda x, dims: [torch.tensor(row, requires_grad=True) for row in x],
    "list of half precision": lambda x, dims: list(torch.tensor(x).bfloat16()),
    "list of labelled rows": lambda x, dims: [xr.DataArray(row, dims=dims[1:]) for row in x],
    "foreign": lambda x, dims: Foreign(x),
    "source": lambda x, dims: Own(x),
    **{
        f"torch {kind}": tensor(getattr(torch, kind))
        for kind in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "uint8", "uint16")
    },
    "tensor that requires gradients": lambda x, dims: torch.tensor(x, requires_grad=True) * 1,
    "parameter": lambda x, dims: torch.nn.Parameter(torch.tensor(x)),
    "tensor turned twice": lambda x, dims: torch.tensor(x.T.copy()).T,
    "negated view": lambda x, dims: torch.complex(torch.zeros(x.shape).double(), -torch.tensor(x)).conj().imag,
    "frame": lambda x, dims: pd.DataFrame(x),
    "frame of unlike columns": lambda x, dims: pd.DataFrame(x).astype({0: "Int64", 1: "int8", 2: "Float32", 3: "Sparse[float]"}),
    "named frame": lambda x, dims: labelled(x, dims).to_pandas(),
    "named frame turned": lambda x, dims: labelled(x, dims).T.to_pandas(),
    "xarray": labelled,
    "xarray turned": lambda x, dims: labelled(x.T.copy(), dims[::-1]),
    "xarray with labels, turned": lambda x, dims: labelled(x, dims, **{dims[0]: (dims[0], np.arange(N)), "photograph": (dims[0], list("abcdefgh") * 3)}).T,
    "xarray of half precision": lambda x, dims: labelled(x, dims).T.astype(np.float16),
    "xarray of Dask, turned": lambda x, dims: labelled(x, dims).T.chunk({dims[0]: 5}),
    "xarray variable": lambda x, dims: xr.Variable(dims, x),
    "dask": lambda x, dims: da.from_array(x, chunks=(7, 3)),
    "dask of float16": lambda x, dims: da.from_array(x.astype(np.float16), chunks=(7, 3)),
}  # fmt: skip


def equal(got, wanted, what=""):
    """The order of the axes in memory decides how sums are rounded, nothing else may differ."""
    np.testing.assert_allclose(np.asarray(got, dtype=np.float64), wanted, rtol=0, atol=1e-12, err_msg=what)


@pytest.fixture(autouse=True, scope="module")
def _in_this_thread():
    """A pool of threads for every little Dask array would take most of the time."""
    with dask.config.set(scheduler="synchronous"):
        yield


def test_every_public_function_of_arrays_is_an_entry():
    """A new one is found here, and then fed everything below."""
    assert {name.split()[0] for name in ENTRIES} | OTHERS | OF_NETWORKS == set(universality.__all__)
    for name in OTHERS - {"COMPARATORS", "UniversalityError"}:
        made = getattr(universality, name)
        assert not {"x", "y", "a", "b", "curves", "layers", "array"} & set(inspect.signature(made).parameters), name


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of NumPy, for its matrices
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_values_in_any_container_give_the_same_result(container, expected):
    for entry, (dims, call) in ENTRIES.items():
        made = CONTAINERS[container](X, dims), CONTAINERS[container](Y, dims)
        equal(call(*made), expected[entry], f"{entry} of {container}")


@given(entry=st.sampled_from(sorted(ENTRIES)), kinds=st.tuples(*[st.sampled_from(sorted(CONTAINERS))] * 2))
@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_containers_may_be_mixed(expected, entry, kinds):
    dims, call = ENTRIES[entry]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        made = [CONTAINERS[kind](of, dims) for kind, of in zip(kinds, (X, Y), strict=True)]
        equal(call(*made), expected[entry], f"{entry} of {kinds}")


def test_truth_values_count_as_0_and_1():
    for dims, call in ENTRIES.values():
        wanted = np.asarray(call(1.0 * (X > 7), 1.0 * (Y > 7)), dtype=np.float64)
        for make in (np.asarray, torch.tensor, np.ndarray.tolist, lambda x, dims=dims: labelled(x, dims).T):
            equal(call(make(X > 7), make(Y > 7)), wanted)


@pytest.mark.parametrize(
    "dtype",
    [np.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
    + ([torch.float8_e8m0fnu] if hasattr(torch, "float8_e8m0fnu") else []),
)
def test_narrow_numbers_are_widened_exactly(dtype):
    """Every number that 8 bits hold, and many of 16; read one by one as Torch and NumPy print them."""
    bits = (
        np.arange(256, dtype=np.uint8)
        if dtype is not np.float16 and dtype.itemsize == 1
        else np.arange(0, 65536, 97, dtype=np.uint16)
    )

    def narrowed(bits):
        return bits.view(np.float16) if dtype is np.float16 else torch.tensor(bits).view(dtype)

    wanted = np.array([float(one) for one in narrowed(bits)])
    finite = np.isfinite(wanted)
    got = inputs.given("x", narrowed(bits[finite])[:, None]).whole()
    np.testing.assert_array_equal(got[:, 0], wanted[finite])
    assert finite.sum() > 200


def test_gradients_are_left_behind():
    x = torch.tensor(X, requires_grad=True)
    assert isinstance(score("cka_linear_debiased", x, Y).value, float)
    assert x.grad is None


def test_a_dataset_of_layers_of_unlike_widths_is_compared():
    both = xr.Dataset({"one": (("stimulus", "unit_one"), X), "two": (("unit_two", "stimulus"), Y[:, :3].T)})
    found = compare_all(both, dtype="float64").matrix("cka_linear_debiased")
    assert list(found) == ["one", "two"]
    assert found.loc["one", "two"] == pytest.approx(score("cka_linear_debiased", X, Y[:, :3]).value, abs=1e-12)
    assert score("cka_linear_debiased", both["one"], both["two"]).q == 3


def test_labels_that_are_equal_are_taken_and_those_of_one_side_too():
    labels = {"stimulus": ("stimulus", np.arange(N)), "size": ("stimulus", np.full(N, np.nan))}
    x, y = (labelled(of, LAYER, **labels) for of in (X, Y))
    wanted = score("cka_linear_debiased", X, Y).value
    for pair in ((x, y), (x, Y), (X, y), (x, y.drop_vars("size")), (x, y.to_pandas()), (x, y.astype(np.float32))):
        assert score("cka_linear_debiased", *pair).value == pytest.approx(wanted, abs=1e-12)


def test_labels_of_units_may_differ():
    """Rows that are units are paired by the user: unit 5 of one network with unit 9 of another."""
    a, b = (labelled(of, CURVE, unit=("unit", np.arange(N) + start)) for of, start in ((X, 0), (Y, 100)))
    equal(align_tuning(a, b, ANGLES).r_tuning, align_tuning(X, Y, ANGLES).r_tuning)


def test_angles_may_be_labelled_and_rounded():
    sevenths = np.arange(7) * 360 / 7
    curves = labelled(X[:, :7], CURVE, angle=("angle", sevenths.round(6))).T
    equal(tuned(curves, sevenths), tuned(X[:, :7], sevenths))
    equal(tuned(X, xr.DataArray(ANGLES, dims="angle")), tuned(X))
    equal(tuned(X, torch.tensor(ANGLES, dtype=torch.float16)), tuned(X))
    equal(tuned(X, pd.Series(ANGLES)), tuned(X))


# Refusals


def masked(x, dims):
    made = np.ma.masked_array(x.copy())
    made[3, 2] = made[5] = np.ma.masked
    return made


def with_one(value, kind=np.float64):
    def make(x, dims):
        made = x.astype(kind)
        made[3, 2] = value
        return made

    return make


def tensor_with_one(value):
    return lambda x, dims: torch.tensor(with_one(value)(x, dims), requires_grad=True).bfloat16()


def lazily_masked(x, dims):
    return da.ma.masked_greater(da.from_array(x, chunks=(7, 3)), 14)


def renamed(*names):
    return lambda x, dims: labelled(x, names)


# What is refused, and a part of the sentence.
BAD = {
    "masked": (masked, r"has masked values, .*\(2, counted from 0: 3, 5\), as x\[~np.ma.getmaskarray"),
    "masked integers": (lambda x, dims: np.ma.masked_equal(x.astype(int), 7), "has masked values"),
    "masked in Dask": (lazily_masked, "has masked values"),
    "masked in Dask in xarray": (lambda x, dims: labelled(lazily_masked(x, dims), dims), "has (masked|NaN or infinite) values"),
    "masked rows in a list": (lambda x, dims: list(masked(x, dims)), "has masked values"),
    "masked tensor": (lambda x, dims: torch.masked.masked_tensor(torch.tensor(x), torch.tensor(x < 9)), "is a masked tensor"),
    "complex": (lambda x, dims: x + 0j, r"is complex \(complex128\), expected real numbers; pass x.real"),
    "complex tensor": (lambda x, dims: torch.tensor(x) + 0j, "is complex .*; pass x.real or x.abs"),
    "complex in xarray": (lambda x, dims: labelled(x + 0j, dims), "is complex"),
    "complex in a list": (lambda x, dims: (x + 0j).tolist(), "is complex"),
    "complex in pandas": (lambda x, dims: pd.DataFrame(x + 0j), r"columns that are not real numbers \('0', "),
    "objects": (lambda x, dims: x.astype(object), r"Python objects \(dtype object\); convert it first, x.astype\(float\)"),
    "text": (lambda x, dims: x.astype(str), "is not an array of numbers"),
    "text among columns": (lambda x, dims: pd.DataFrame(x).assign(file="a.png"), r"not real numbers \('file'\), expected units alone; drop"),
    "durations": (lambda x, dims: x.astype("m8[s]"), "is not an array of numbers"),
    "records": (lambda x, dims: x.astype([("r", "f8")]), "is not an array of numbers"),
    "whole numbers beyond 64 bits": (lambda x, dims: [[2**70, 1]] * len(x), "Python objects"),
    "NaN": (with_one(np.nan), "NaN or infinite values.*, expected finite"),
    "infinite": (with_one(-np.inf), "NaN or infinite values"),
    "infinite float16": (with_one(np.inf, np.float16), "NaN or infinite values"),
    "NaN in a tensor": (tensor_with_one(np.nan), "NaN or infinite values"),
    "NA of pandas": (lambda x, dims: pd.DataFrame(x).astype("Float64").mask(x > 14), "NaN or infinite values"),
    "None in a list": (lambda x, dims: [[None, 1.0]] * len(x), "Python objects"),
    "rows of unlike lengths": (lambda x, dims: [[1.0, 2.0], [1.0]], "its rows have from 1 to 2 values"),
    "rows of no length": (lambda x, dims: [object(), 3], "Python objects"),
    "sparse": (lambda x, dims: scipy.sparse.csr_array(x), r"is sparse, expected every value; pass x.todense\(\)"),
    "sparse tensor": (lambda x, dims: torch.tensor(x).to_sparse(), r"is sparse, expected every value; pass x.to_dense\(\)"),
    "nested tensor": (lambda x, dims: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]), "is a nested tensor"),
    "meta tensor": (lambda x, dims: torch.tensor(x).to("meta"), "device 'meta': it has a shape and no values"),
    "four bits": (lambda x, dims: torch.empty(x.shape, dtype=torch.int4), "dtype torch.int4, which Torch cannot widen"),
    "unknown length": (lambda x, dims: (lazy := da.from_array(x))[lazy[:, 0] > 3], "unknown length, .*compute_chunk_sizes"),
    "one axis": (lambda x, dims: x[0], r"has shape \(8,\), expected \(.*\).*; one (unit|curve) is"),
    "maps": (lambda x, dims: np.zeros((N, P, 3, 3)), r"has shape \(24, 8, 3, 3\), expected \(.*\)"),
    "tokens": (lambda x, dims: torch.zeros((N, P, 3)), r"has shape \(24, 8, 3\), expected \(.*\).*; take one"),
    "number": (lambda x, dims: 3.0, "a single number is no"),
    "nothing": (lambda x, dims: None, "of the type NoneType, expected"),
    "name": (lambda x, dims: "layer4", "of the type str, expected"),
    "generator": (lambda x, dims: (row for row in x), "of the type generator, expected"),
    "no columns": (lambda x, dims: x[:, :0], r"has shape \(24, 0\), expected \(.*\).*; there is nothing in it"),
    "several arrays": (lambda x, dims: xr.Dataset({"conv1": labelled(x, dims)}), r"is a Dataset \('conv1'\), expected one array"),
    "other dimensions": (renamed("image", "neuron"), r"has the dimensions \('image', 'neuron'\), expected '\w+' and '\w+' in any order; rename them"),
    "one dimension of two": (lambda x, dims: labelled(x, (dims[0], "neuron")), "expected '.*' and '.*' in any order; rename them"),
    "a dimension too many": (lambda x, dims: labelled(x[:, None], (dims[0], "position", dims[1])), r"take one of 'position' \(x.isel\), or their mean"),
    "two dimensions of units": (lambda x, dims: labelled(x, ("unit", "unit_b")), "expected '.*' and '.*'"),
    "dimensions missing and too many": (lambda x, dims: labelled(x[:, None], ("image", "position", dims[1])), "give every axis its name"),
    "rows named as columns": (lambda x, dims: pd.DataFrame(x).rename_axis(index=dims[1]), "has rows named '.*' and columns named None, .*; transpose"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("bad", BAD)
def test_what_would_lose_something_is_one_sentence(bad):
    make, message = BAD[bad]
    for entry, (dims, call) in ENTRIES.items():
        for first in (True, False):
            made = make(X, dims)
            with pytest.raises(UniversalityError, match=message) as caught:
                call(*((made, Y) if first else (X, made)))
            assert isinstance(caught.value, MeasureError)
            assert "\n" not in str(caught.value)
            called = ("x ", "layer 'x' ") if first else ("y ", "layer 'y' ")
            assert dims == CURVE or str(caught.value).startswith(called), entry


@pytest.mark.parametrize("entry", [name for name, (dims, _) in ENTRIES.items() if dims == LAYER])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:-1], "x.* has 24 stimuli and .*y.* has 23, expected the same stimuli in the same order; select"),
        (X.T, Y, "x.* has 8 stimuli and .*y.* has 24"),
        (
            labelled(X, LAYER, stimulus=("stimulus", np.arange(N))),
            labelled(Y, LAYER, stimulus=("stimulus", np.arange(N)[::-1])),
            r"have the same labels in another order on their stimuli \('stimulus'\), .*; align them first",
        ),
        (
            labelled(X, LAYER, photograph=("stimulus", list("ab") * 12)),
            labelled(Y, LAYER, photograph=("stimulus", list("abc") * 8)).T,
            r"have different labels on their stimuli \('photograph'\), .*; align them first",
        ),
        (pd.DataFrame(X).drop(index=3), pd.DataFrame(Y).drop(index=5), r"have different labels .* \('index'\)"),
        (
            labelled(X, LAYER, stimulus=("stimulus", np.arange(N))),
            pd.DataFrame(Y, index=pd.Index(np.arange(N) + 1, name="stimulus")),
            "have different labels",
        ),
    ],
)  # fmt: skip
def test_stimuli_that_are_not_the_same_are_refused(entry, x, y, message):
    with pytest.raises(MeasureError, match=message) as caught:
        ENTRIES[entry][1](x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("curves", "angles", "message"),
    [
        (labelled(X, CURVE, angle=("angle", ANGLES + 5)), ANGLES, r"as its coordinate 'angle' \(5 to 320\) than the argument"),
        (labelled(X, CURVE, angle=("angle", list("abcdefgh"))), ANGLES, "the coordinate 'angle' of .* not an array of numbers"),
        (X, np.ma.masked_equal(ANGLES, 90), "array of angles has masked values, expected a value for every place; leave"),
        (X, ANGLES + 0j, "array of angles is complex"),
        (X, xr.DataArray(ANGLES, dims="orientation"), r"dimensions \('orientation',\), expected 'angle'; rename"),
    ],
)  # fmt: skip
def test_angles_pass_the_same_gate(curves, angles, message):
    for call in (lambda: tuning_statistics(curves, angles), lambda: align_tuning(curves, X, angles)):
        with pytest.raises(MeasureError, match=message):
            call()


@pytest.mark.parametrize("entry", [name for name, (dims, _) in ENTRIES.items() if dims == LAYER])
def test_one_stimulus_has_no_number(entry):
    """NaN with a reason, or a table without rows; never a number."""
    got = np.asarray(ENTRIES[entry][1](X[:1], Y[:1]), dtype=np.float64)
    assert np.isnan(got).all()


# Where values are read


def test_an_array_in_double_precision_is_not_copied():
    """Of 32 MB nothing is copied, and nothing is made beside it that is a hundredth as large."""
    x = np.random.default_rng(0).standard_normal((4000, 1000))
    tracemalloc.start()
    for same in (
        x,
        x.T,
        x[::2],
        torch.from_numpy(x),
        labelled(x, LAYER).T,
        pd.DataFrame(x, copy=False),
        np.ma.masked_array(x),
    ):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        whole = inputs.given("x", same).whole()
        peak = tracemalloc.get_traced_memory()[1]
        assert np.shares_memory(whole, x)
        assert peak - before < x.nbytes / 100
    tracemalloc.stop()


def test_what_is_on_disk_is_read_by_rows(tmp_path):
    """A memory map and a lazy array pass the gate without a value read, and tiles read their own rows."""
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert np.shares_memory(inputs.given("x", mapped).tile(3, 5), mapped)
    read = []

    def chunk(block_info=None):
        start, stop = block_info[None]["array-location"][0]
        read.append((start, stop))
        return X[start:stop]

    lazy = da.map_blocks(chunk, chunks=((6,) * 4, (P,)), dtype=float, meta=np.empty((0, 0)))
    made = inputs.given("x", labelled(lazy, LAYER))
    assert read == []
    np.testing.assert_array_equal(made.tile(7, 9), X[7:9])
    assert set(read) == {(6, 12)}


def test_layers_on_several_devices_are_refused_where_they_would_be_multiplied(monkeypatch):
    """No second device is here: NumPy's and Torch's arrays are said to lie apart."""
    from universality.similarity import all_pairs

    monkeypatch.setattr(
        all_pairs.array_api_compat, "device", lambda row: "cpu" if isinstance(row, np.ndarray) else "cuda:0"
    )
    message = r"layers 'a' and 'c' are of different kinds or on different devices \(cpu, cuda:0\), expected one; move"
    with pytest.raises(MeasureError, match=message):
        compare_all({"a": X, "b": X, "c": torch.tensor(Y)})
    with pytest.raises(MeasureError, match="layers 'a' and 'b' are of different kinds"):
        compare_all({"a": torch.tensor(X), "b": X})


def test_names_of_layers_that_are_one_text_are_refused():
    with pytest.raises(MeasureError, match=r"two names of layers are equal as text among .*; rename one"):
        compare_all({1: X, "1": Y})
