"""Tables of matched units: columns, ranks, masks, chance, and one sentence for a mistake."""

import itertools

import numpy as np
import pytest

import universality
from universality import match_units
from universality.base.errors import MeasureError
from universality.similarity import METHODS, expected_best

COLUMNS = ["unit_a", "unit_b", "r", "weight", "rank_ab", "rank_ba", "mutual", "chance_ab"]
N, P, Q = 60, 7, 9


@pytest.fixture(scope="module")
def layers():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N, 4))
    x, y = (latent @ rng.standard_normal((4, units)) + 0.7 * rng.standard_normal((N, units)) for units in (P, Q))
    return x, y


@pytest.fixture(scope="module")
def r(layers):
    return np.corrcoef(*layers, rowvar=False)[:P, P:]


def rank(values, chosen):
    return 1 + sum(v > chosen + 1e-12 for v in values)


@pytest.mark.parametrize("method", METHODS)
def test_rows_state_the_match(layers, r, method):
    table = match_units(*layers, method=method)
    assert list(table.columns) == COLUMNS
    assert len(table)
    alike = np.abs(r) if METHODS[method].absolute else r
    for row in table.itertuples():
        assert row.r == pytest.approx(r[row.unit_a, row.unit_b], abs=1e-12)
        chosen = alike[row.unit_a, row.unit_b]
        assert row.rank_ab == rank(alike[row.unit_a], chosen)
        assert row.rank_ba == rank(alike[:, row.unit_b], chosen)
        assert row.mutual == (row.rank_ab == row.rank_ba == 1)
        assert row.chance_ab == expected_best(N, Q, absolute=METHODS[method].absolute)
    assert np.isnan(table["weight"]).all() == (method not in ("lasso", "soft_matching"))
    assert table.attrs == {"method": method, "n": N, "p": P, "q": Q, "dead_a": 0, "dead_b": 0, "reason": ""}


def test_which_pairs_each_method_makes(layers, r):
    found = {method: set(zip(*match_units(*layers, method=method)[["unit_a", "unit_b"]].to_numpy().T, strict=True)) for method in METHODS}  # fmt: skip
    best = max(itertools.permutations(range(Q), P), key=lambda order: sum(r[range(P), order]))
    assert found["hungarian"] == set(enumerate(best))
    best = max(itertools.permutations(range(Q), P), key=lambda order: sum(np.abs(r)[range(P), order]))
    assert found["hungarian_absolute"] == set(enumerate(best))
    assert found["semi"] == set(enumerate(r.argmax(axis=1)))
    assert found["semi_absolute"] == set(enumerate(np.abs(r).argmax(axis=1)))
    mutual = {(i, j) for i in range(P) for j in range(Q) if r[i].argmax() == j and r[:, j].argmax() == i}
    assert found["mutual_nearest"] == mutual <= found["mutual_top_k"]
    one = match_units(*layers, method="mutual_top_k", k=1)
    assert set(zip(one["unit_a"], one["unit_b"], strict=True)) == mutual
    assert one["mutual"].all()


def test_soft_matching_moves_all_mass(layers):
    table = match_units(*layers, method="soft_matching")
    np.testing.assert_allclose(table.groupby("unit_a")["weight"].sum(), np.full(P, 1 / P), atol=1e-12)
    np.testing.assert_allclose(table.groupby("unit_b")["weight"].sum(), np.full(Q, 1 / Q), atol=1e-12)
    carried = (table["weight"] * table["r"]).sum()
    assert carried == pytest.approx(universality.score("soft_matching_correlation", *layers).value, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_dead_units_are_masked_counted_and_keep_their_neighbours_numbers(layers, method):
    x, y = layers
    plain = match_units(x, y, method=method)
    gaps_a, gaps_b = np.insert(x, [0, 3], 0.1, axis=1), np.insert(y, [2], -1.0, axis=1)
    gapped = match_units(gaps_a, gaps_b, method=method)
    numbers_a, numbers_b = np.delete(np.arange(P + 2), [0, 4]), np.delete(np.arange(Q + 1), [2])
    assert gapped["unit_a"].tolist() == numbers_a[plain["unit_a"]].tolist()
    assert gapped["unit_b"].tolist() == numbers_b[plain["unit_b"]].tolist()
    np.testing.assert_allclose(gapped["r"], plain["r"], atol=1e-12)
    assert (gapped.attrs["p"], gapped.attrs["q"], gapped.attrs["dead_a"], gapped.attrs["dead_b"]) == (P, Q, 2, 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (np.ones((10, 3)), np.eye(10), "a layer has no unit that varies"),
        (np.eye(10), np.ones((10, 3)), "a layer has no unit that varies"),
        (np.eye(2), np.eye(2), "2 stimuli, 3 needed"),
    ],
)
def test_nothing_to_match_gives_no_rows_and_a_reason(method, x, y, reason):
    table = match_units(x, y, method=method)
    assert list(table.columns) == COLUMNS
    assert not len(table)
    assert table.attrs["reason"] == reason


def test_a_unit_of_noise_reaches_the_stated_chance_and_no_more():
    rng = np.random.default_rng(1)
    for method in ("semi", "semi_absolute"):
        tables = [match_units(*rng.standard_normal((2, 50, 30)), method=method) for _ in range(20)]
        best = np.mean([table["r"].abs().mean() for table in tables])
        assert best == pytest.approx(tables[0]["chance_ab"].iloc[0], abs=0.01)


def test_an_inverted_unit_matches_by_absolute_value_only():
    x = np.random.default_rng(0).standard_normal((50, 2))
    assert match_units(x, -x, method="semi_absolute")["r"].tolist() == pytest.approx([-1, -1])
    assert (match_units(x, -x, method="semi")["r"] > -0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "hungarain"}, "unknown method of matching units 'hungarain'; did you mean 'hungarian'?"),
        ({"method": 3}, "unknown method of matching units '3'"),
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"k": 2.5}, r"k is 2.5, expected a whole number"),
        ({"y": np.full((N, 2), np.nan)}, "y has NaN or infinite values"),
        ({"y": np.ones((N + 1, 2))}, "x has 60 stimuli and y has 61"),
        ({"x": np.ones(N)}, r"x has shape \(60,\)"),
    ],
)
def test_mistakes_are_one_sentence(layers, change, message):
    arguments = {"x": layers[0], "y": layers[1], "method": "mutual_top_k"} | change
    with pytest.raises(MeasureError, match=message) as caught:
        match_units(**arguments)
    assert "\n" not in str(caught.value)
