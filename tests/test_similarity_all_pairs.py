"""All pairs in one go: the values of the pairwise measures, whatever the tiles, and never more rows than a tile."""

import json
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from universality import COMPARATORS, compare_all, score
from universality.base.errors import MeasureError
from universality.similarity.all_pairs import PAIR_MEASURES
from universality.similarity.all_pairs.blocks import cross_blocks
from universality.similarity.all_pairs.kernels import kernels
from universality.similarity.all_pairs.plan import Plan, choose_space, make_plan, operations, parse_bytes
from universality.similarity.all_pairs.views import ArraySource, View

MEASURES = tuple(PAIR_MEASURES)
ANGLE = "procrustes_orthogonal_angular"
FLAT = tuple(name for name in MEASURES if name != ANGLE)  # the angle's slope is infinite at 0
GOLDEN = json.loads((Path(__file__).parent / "golden" / "measures.json").read_text())
F32 = 1e-6


def related(n, widths, seed=0, dtype=np.float64):
    """Layers that share some latent directions, with units of very different variance and mean."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 4))
    return {
        f"layer{i}": (
            (latent @ rng.standard_normal((4, p)) + rng.standard_normal((n, p))) * rng.uniform(0.1, 3.0, p)
            + rng.uniform(-2.0, 2.0, p)
        ).astype(dtype)
        for i, p in enumerate(widths)
    }


def procrustes(x, y):
    """Brute force: the trace of Y' X R over the best rotation R, for layers of norm 1."""
    x, y = (a - a.mean(axis=0) for a in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    u, _, vt = np.linalg.svd(x.T @ y, full_matrices=False)
    return float(np.sum((x @ u @ vt) * y))


def rsa(x, y):
    upper = np.triu_indices(len(x), 1)
    return float(np.corrcoef((1 - np.corrcoef(x))[upper], (1 - np.corrcoef(y))[upper])[0, 1])


ORACLES = {
    "procrustes_orthogonal": procrustes,
    ANGLE: lambda x, y: float(np.arccos(min(procrustes(x, y), 1.0))),
    "rsa_correlation_pearson": rsa,
} | {name: (lambda x, y, name=name: score(name, x, y).value) for name in COMPARATORS if name in PAIR_MEASURES}


@pytest.fixture(scope="module")
def layers():
    return related(60, (7, 12, 1, 12, 5))


@pytest.mark.parametrize("measure", MEASURES)
def test_every_pair_equals_the_pairwise_measure(measure, layers):
    several = {name: x for name, x in layers.items() if measure != "rsa_correlation_pearson" or x.shape[1] > 2}
    found = compare_all(several, [measure], dtype="float64")
    rough = compare_all(several, [measure])
    for i, x in enumerate(several.values()):
        for j, y in enumerate(several.values()):
            expected = ORACLES[measure](x, y)
            # Near 0 the oracle's angle is the square root of its rounding.
            tolerance = 1e-7 if measure == ANGLE and i == j else 1e-10
            assert found.values[measure][i, j] == pytest.approx(expected, abs=tolerance)
            assert rough.values[measure][i, j] == pytest.approx(expected, abs=F32)


def test_published_values():
    legacy = np.random.RandomState(0)
    x, y = legacy.uniform(size=(30, 25)), legacy.uniform(size=(30, 25))
    expected = {name: value for name, value in GOLDEN["values"].items() if name in PAIR_MEASURES}
    found = compare_all({"x": x, "y": y}, list(expected), dtype="float64")
    for name, value in expected.items():
        assert found.values[name][0, 1] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(4, 40),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    memory=st.integers(20_000, 400_000),
    workers=st.integers(1, 2),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_values_do_not_depend_on_the_budget(n, widths, memory, workers, dtype):
    layers = related(n, widths, seed=n)
    whole = compare_all(layers, FLAT, dtype=dtype)
    tiled = compare_all(layers, FLAT, dtype=dtype, memory_limit=memory, workers=workers)
    for name in FLAT:
        # Chance decides by rounding whether an estimator of few stimuli is positive: there both may be NaN or large.
        tame = n > 2 * max(widths) + 4
        tolerance = {"float64": 1e-12, "float32": F32}[dtype]
        if tame and not name.startswith("unit_match_mutual"):
            np.testing.assert_allclose(tiled.values[name], whole.values[name], rtol=0, atol=tolerance, err_msg=name)
        assert tiled.values[name].shape == whole.values[name].shape


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(3, 40),
    rows=st.integers(1, 45),
    edge=st.integers(1, 45),
    columns=st.integers(9, 40),
    workers=st.integers(1, 2),
)
def test_gram_and_feature_space_agree_for_every_tile(n, rows, edge, columns, workers):
    layers = related(n, (3, 9, 5))
    views = [View(ArraySource(x), lambda tile: tile, x.shape[1]) for x in layers.values()]
    plan = Plan(n, (3, 9, 5), 1, rows, edge, columns, False, workers)
    grams = [x @ x.T for x in layers.values()]
    off = ~np.eye(n, dtype=bool)
    brute = np.array([[np.sum((a[off] - a[off].mean()) * (b[off] - b[off].mean())) for b in grams] for a in grams])
    scale = np.sqrt(np.outer(*[[np.sum(g * g) for g in grams]] * 2))
    for space in ("gram", "feature"):
        found = kernels(views, plan, space)
        np.testing.assert_allclose(found.centred / scale, brute / scale, rtol=0, atol=1e-12, err_msg=space)
        np.testing.assert_allclose(found.diagonals, [[np.diag(a) @ np.diag(b) for b in grams] for a in grams])
    for i, j, block in cross_blocks(views, plan, lambda _i, _j, block: block):
        a, b = list(layers.values())[i], list(layers.values())[j]
        np.testing.assert_allclose(block, a.T @ b, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("memory", ["1 GiB", 100_000])
def test_torch_gives_what_numpy_gives(dtype, memory, layers):
    tensors = {name: torch.from_numpy(x) for name, x in layers.items()}
    ours = compare_all(layers, FLAT, dtype=dtype, memory_limit=memory)
    theirs = compare_all(tensors, FLAT, dtype=dtype, memory_limit=memory)
    for name in FLAT:
        tolerance = 1e-12 if dtype == "float64" else F32
        np.testing.assert_allclose(theirs.values[name], ours.values[name], rtol=0, atol=tolerance, err_msg=name)
        assert (theirs.reasons[name] == ours.reasons[name]).all()


def test_float32_input_with_large_means_is_centred_exactly():
    rng = np.random.default_rng(0)
    x, y = ((1e5 + rng.standard_normal((200, 8))).astype(np.float32) for _ in range(2))
    assert x.dtype == np.float32
    exact = compare_all({"x": x, "y": y}, FLAT, dtype="float64")
    rough = compare_all({"x": x, "y": y}, FLAT)
    for name in FLAT:
        np.testing.assert_allclose(rough.values[name], exact.values[name], rtol=0, atol=3e-6, err_msg=name)


@dataclass
class Counting:
    """A source that notes what is asked for."""

    array: np.ndarray
    asked: list[int] = field(default_factory=list)

    @property
    def n(self):
        return self.array.shape[0]

    @property
    def p(self):
        return self.array.shape[1]

    def tile(self, start, stop):
        self.asked.append(stop - start)
        return self.array[start:stop]


@pytest.mark.parametrize("measure", MEASURES)
def test_never_more_than_a_tile_is_read(measure):
    layers = related(400, (6, 9))
    sources = {name: Counting(x) for name, x in layers.items()}
    memory, workers = 40_000, 1
    found = compare_all(sources, [measure], memory_limit=memory, workers=workers, dtype="float64")
    plan = make_plan(400, [6, 9], 8, memory, workers)
    assert not plan.resident
    assert plan.rows < 100
    for source in sources.values():
        assert 1 <= max(source.asked) <= plan.rows
        assert sum(source.asked) >= 2 * 400  # once for the means, then for the products
    np.testing.assert_allclose(
        found.values[measure], compare_all(layers, [measure], dtype="float64").values[measure], atol=1e-7
    )


def test_lazy_store_is_read_by_tiles(small):
    """Layers from stores: what xarray has not loaded stays unloaded, and the values are those of the arrays."""
    from universality.activations.store import ActivationStore

    store = ActivationStore(small.store)
    opened = [store.open(path.name)["activation"] for path in sorted(small.store.iterdir()) if store.has(path.name)]
    natural = {f"tap{i}": x for i, x in enumerate(opened) if x.sizes["stimulus"] == 60}
    assert len(natural) >= 2
    found = compare_all(natural, dtype="float64", memory_limit="1 MiB")
    assert all(x.variable._in_memory is False for x in natural.values())
    loaded = {name: x.values for name, x in natural.items()}
    measure = "cka_linear_debiased"
    np.testing.assert_allclose(found.values[measure], compare_all(loaded, dtype="float64").values[measure], atol=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_memory_stays_within_the_limit_and_flat(measure, tmp_path):
    limit = 3 * 2**20
    peaks = []
    for n in (1000, 8000):
        path = tmp_path / f"{n}.npy"
        np.save(path, np.concatenate(list(related(n, (24, 24, 24)).values()), axis=1))
        mapped = np.load(path, mmap_mode="r")
        tracemalloc.start()
        compare_all(
            {f"tap{i}": mapped[:, 24 * i : 24 * (i + 1)] for i in range(3)}, [measure], memory_limit=limit, workers=1
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) <= limit
    assert abs(peaks[1] - peaks[0]) < limit // 2


def test_plan_chooses_the_cheaper_space():
    assert choose_space(make_plan(2000, [256] * 64, 4, 2**30, 2)) == "gram"
    assert choose_space(make_plan(100_000, [256] * 64, 4, 2**30, 2)) == "feature"
    assert operations(10, [3, 2]) == {"gram": 10 * 10 * 5 + 10 * 10 * 2, "feature": 10 * 25}
    # A layer whose product with itself does not fit goes through its Grams.
    assert choose_space(make_plan(100_000, [2000, 3], 4, 8 * 2**20, 1)) == "gram"


def test_degenerate_layers_are_nan_with_a_reason():
    layers = related(30, (4, 3))
    layers["dead"] = np.ones((30, 5))
    layers["layer1"][:, 1] = 7.0
    narrow = "rsa_correlation_pearson"  # two units vary in layer1
    found = compare_all(layers, MEASURES, dtype="float64")
    assert found.units.tolist() == [4, 2, 0]
    assert found.dead.tolist() == [0, 1, 5]
    for name in MEASURES:
        assert np.isnan(found.values[name][2]).all()
        assert set(found.reasons[name][2]) == {"no unit of 'dead' varies over the stimuli"}
        if name == narrow:
            assert np.isnan(found.values[name][0, 1])
            continue
        assert np.isfinite(found.values[name][:2, :2]).all()
        assert found.values[name][0, 1] == pytest.approx(ORACLES[name](layers["layer0"], layers["layer1"][:, [0, 2]]))
        assert set(found.reasons[name][:2, :2].ravel()) == {""}


def test_all_layers_dead():
    found = compare_all({"a": np.ones((5, 2)), "b": np.zeros((5, 1))}, MEASURES)
    assert all(np.isnan(values).all() for values in found.values.values())
    assert (found.table()["reason"] != "").all()


def test_three_stimuli():
    layers = related(3, (4, 2))
    found = compare_all(layers, MEASURES, dtype="float64")
    assert set(found.reasons["cka_linear_debiased"].ravel()) == {"3 stimuli, 4 needed"}
    assert np.isnan(found.values["svcca_variance99"]).all()
    assert found.values["cka_linear_biased"][0, 1] == pytest.approx(score("cka_linear_biased", *layers.values()).value)


def test_one_stimulus_is_refused_with_a_reason():
    found = compare_all({"a": np.ones((1, 2)), "b": np.ones((1, 3))}, MEASURES)
    assert all(np.isnan(values).all() for values in found.values.values())


def test_rsa_of_one_unit_has_a_reason():
    found = compare_all(related(20, (1, 3, 4)), ["rsa_correlation_pearson"])
    matrix = found.values["rsa_correlation_pearson"]
    assert np.isnan(matrix[0]).all()
    assert np.isfinite(matrix[1:, 1:]).all()
    assert found.reasons["rsa_correlation_pearson"][0, 1].startswith("fewer than 3 units vary")


@pytest.mark.parametrize("measure", MEASURES)
def test_more_units_than_stimuli(measure):
    layers = related(20, (50, 30))
    value = compare_all(layers, [measure], dtype="float64").values[measure][0, 1]
    assert value == pytest.approx(ORACLES[measure](*layers.values()), abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("measure", FLAT)
@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_scale_does_not_matter(measure, scale):
    layers = related(30, (4, 3))
    scaled = {"layer0": layers["layer0"] * scale, "layer1": layers["layer1"]}
    np.testing.assert_allclose(
        compare_all(scaled, [measure]).values[measure], compare_all(layers, [measure]).values[measure], atol=F32
    )


def test_order_of_layers_is_the_users():
    layers = related(25, (3, 4, 5))
    backwards = dict(reversed(layers.items()))
    a, b = (compare_all(some, MEASURES, dtype="float64") for some in (layers, backwards))
    assert b.names == tuple(reversed(a.names))
    for name in FLAT:
        np.testing.assert_allclose(b.values[name][::-1, ::-1], a.values[name], atol=1e-12)


def test_equal_calls_give_equal_bits():
    layers = related(300, (20, 31, 8))
    first, second = (compare_all(layers, MEASURES, workers=2, memory_limit=500_000) for _ in range(2))
    for name in MEASURES:
        np.testing.assert_array_equal(first.values[name], second.values[name])


def test_table_has_one_row_per_pair_and_measure():
    layers = related(25, (3, 4, 5))
    found = compare_all(layers, ["cka_linear_biased", ANGLE])
    table = found.table()
    assert len(table) == 2 * 3
    assert table["direction"].unique().tolist() == ["similarity", "distance"]
    row = table.iloc[1]
    assert (row["layer_a"], row["layer_b"], row["n"], row["p"], row["q"]) == ("layer0", "layer2", 25, 3, 5)
    assert row["value"] == found.matrix("cka_linear_biased").loc["layer0", "layer2"]


def bad_value(value):
    x = np.ones((6, 2))
    x[4, 1] = value
    return {"good": np.zeros((6, 2)), "bad": x}


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (bad_value(np.nan), {}, "layer 'bad' has NaN or infinite values among stimuli 0 to 5"),
        (bad_value(np.inf), {}, "layer 'bad' has NaN or infinite values"),
        ({}, {}, "there is no layer to compare"),
        ({"a": np.ones(3)}, {}, r"layer 'a' has shape \(3,\)"),
        ({"a": np.ones((3, 0))}, {}, "both at least 1"),
        ({"a": np.array([["x"]])}, {}, "not an array of numbers"),
        ({"a": np.ones((3, 2)), "b": np.ones((4, 2))}, {}, "'a' has 3 stimuli and layer 'b' has 4"),
        ({"a": xr.DataArray(np.ones((3, 2, 2)), dims=("stimulus", "position", "unit"))}, {}, "has the dimensions"),
        (
            {
                s: xr.DataArray(np.eye(3), dims=("stimulus", "unit"), coords={"stimulus": list(s)})
                for s in ("abc", "acb")
            },
            {},
            "the same labels in another order",
        ),
        (related(9, (2, 2)), {"measures": ["cka_linaer_debiased"]}, "did you mean 'cka_linear_debiased'"),
        (related(9, (2, 2)), {"measures": ["cka"]}, "expected one: cka_linear_debiased or cka_linear_biased"),
        (related(9, (2, 2)), {"measures": ["ridge_mean"]}, "'ridge_mean' is not computed for all pairs at once"),
        (related(9, (2, 2)), {"measures": "cka_linear_debiased"}, "measures are a list of names"),
        (related(9, (2, 2)), {"dtype": "float16"}, "expected 'float32' or 'float64'"),
        (related(9, (2, 2)), {"memory_limit": "much"}, "memory_limit 'much' is no size"),
        (related(9, (2, 2)), {"memory_limit": 10}, "memory_limit of 10 bytes is too small"),
        (related(900, (90, 90)), {"memory_limit": 50_000, "measures": ["svcca_variance99"]}, "too small for products"),
    ],
)
def test_refusals_are_one_sentence(layers, options, message):
    with pytest.raises(MeasureError, match=message) as caught:
        compare_all(layers, **options)
    assert "\n" not in str(caught.value)


def test_sizes_are_read():
    assert [parse_bytes(text) for text in (7, "7", "1 kb", "2MiB", "0.5 GiB")] == [7, 7, 1000, 2**21, 2**29]
