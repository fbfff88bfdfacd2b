"""The index of universality: closed forms, tables counted by hand, and simulated zoos whose shared units are known."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as t_dist
from zoos import zoo

from universality.activations.bases import orthonormal
from universality.atlas import index
from universality.atlas.groups import SETTINGS, setting
from universality.atlas.index import Pairs, Tally, by_feature, by_group, by_pair, jackknife, mean_interval, tally
from universality.base import schema
from universality.correspondence.census import Census, count_links
from universality.correspondence.links import ANY_UNIT
from universality.models import catalogue

POCKET = [f"pocket/{a}-focus-s{s}" for a in ("alexnet", "vgg", "inceptionv1", "resnet") for s in (0, 1)]
CARDS = catalogue.cards()


def units(counts, rule="curve", bases=2, angles=None):
    """Rows of the census' units: `counts` by model."""
    rows = [
        {"seed": -1, "basis": basis, "model": model, "tap": "t", "unit": unit, "rule": rule,
         "angle_deg": 10.0 * unit if angles is None else angles[unit]}
        for model, count in counts.items() for basis in range(-1, bases) for unit in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def edge(a, b, unit_a, unit_b, basis_a=-1, basis_b=-1, linked=True, rule="curve", tap_b="t"):
    return {
        "seed": -1, "rule": rule, "basis_a": basis_a, "basis_b": basis_b, "model_a": a, "tap_a": "t", "unit_a": unit_a,
        "model_b": b, "tap_b": tap_b, "unit_b": unit_b, "r": 0.7, "excess": 0.2, "excess_low": 0.1, "linked": linked,
    }  # fmt: skip


A, B = POCKET[0], POCKET[1]
EDGES = [
    edge(A, B, 0, 0), edge(A, B, 0, 1), edge(A, B, 1, 1), edge(A, B, 2, 2, linked=False),
    edge(A, B, 3, 0, basis_b=0), edge(A, B, 3, 1, basis_b=0), edge(A, B, 0, 2, basis_a=1), edge(A, B, 0, 0, 0, 0),
]  # fmt: skip


@pytest.fixture
def counted():
    edges = pd.DataFrame(EDGES)
    rng = np.random.default_rng(0)
    rematched, kept = rng.random((2, len(edges), 40)) < 0.8
    return Census(units({A: 4, B: 6}), edges, rematched, kept)


def test_tally_says_of_every_unit_whether_it_is_shared_and_how_often_by_chance(counted):
    rows = tally(counted).rows.set_index(["model", "unit"])
    assert len(rows) == 10
    assert rows["shared"].groupby(level="model").sum().to_dict() == {A: 2, B: 2}
    # One of two bases each: unit 3 of A finds two partners in basis 0 of B, unit 2 of B one in basis 1 of A.
    assert rows.loc[rows["shared_haar"] > 0, "shared_haar"].to_dict() == {(A, 3): 0.5, (B, 2): 0.5}


def test_unit_is_shared_in_a_resample_if_any_of_its_links_is(counted):
    made = tally(counted)
    both = counted.rematched & counted.kept
    place = {key: row for row, key in enumerate(zip(made.rows["model"], made.rows["unit"], strict=True))}
    assert (made.again[place[A, 0]] == (both[0] | both[1])).all()
    assert (made.again[place[B, 1]] == (both[1] | both[2])).all()
    assert not made.again[place[A, 2]].any()  # its only pair is no link


def test_index_is_the_share_less_that_in_random_bases(counted):
    pairs = by_pair(tally(counted), CARDS)
    row = pairs.table[pairs.table["angle_deg"].isna()].iloc[0]
    assert (row["n_a"], row["n_b"], row["n_shared"]) == (4, 6, 4)
    assert row["share"] == pytest.approx(4 / 10)
    assert row["share_haar"] == pytest.approx(1 / 10)
    assert row["index"] == pytest.approx(3 / 10)
    assert row["index_low"] < row["index"] < row["index_high"]
    assert row["group"] == "seed"
    assert list(pairs.table.columns) == schema.INDEX_BY_PAIR.names


def test_bins_of_orientation_hold_the_units_that_prefer_them(counted):
    table = by_pair(tally(counted), CARDS).table.set_index("angle_deg")
    # Units prefer 0, 10, ... degrees: bins are centred on 0, 30 and 60 degrees.
    assert table.loc[[0.0, 30.0], ["n_a", "n_b", "n_shared"]].to_numpy().tolist() == [[2, 2, 4], [2, 3, 0]]
    assert table.loc[60.0, ["n_a", "n_b"]].tolist() == [0, 1]


def test_share_interval_is_jeffreys_and_reaches_the_ends():
    # qbeta(c(.025, .975), k + 1/2, n - k + 1/2) of k = 3 and 0 of 10.
    assert index.share_interval(0.3, 10) == pytest.approx((0.0927, 0.6058), abs=5e-5)
    assert index.share_interval(0.0, 10)[0] == 0.0
    assert index.share_interval(1.0, 10)[1] == 1.0
    assert index.share_interval(0.0, 10)[1] == pytest.approx(0.2172, abs=5e-5)


def test_index_interval_covers_the_difference_of_two_shares():
    rng = np.random.default_rng(0)
    n, share, null = 40, 0.5, 0.1
    drawn = rng.binomial(n, (share, null), (2000, 2)) / n
    ends = np.array([index.index_interval(a, b, n, 0.0) for a, b in drawn])
    assert 0.93 < ((ends[:, 0] <= share - null) & (share - null <= ends[:, 1])).mean() < 0.98


def test_photographs_widen_the_interval_in_quadrature():
    without, with_them = (np.array(index.index_interval(0.5, 0.1, 50, sd)) - 0.4 for sd in (0.0, 0.05))
    assert with_them**2 - without**2 == pytest.approx((1.959964 * 0.05) ** 2, rel=1e-5)


def test_jackknife_of_a_sum_of_two_models_effects_is_exact():
    """For pairs (i, j) of value a_i + a_j the mean is twice the models' mean: its error is known."""
    effects = np.array([0.1, 0.5, 0.2, 0.9, 0.4, 0.0])
    i, j = np.triu_indices(6, 1)
    names = np.array([f"m/{k}" for k in range(6)], dtype=object)
    expected = 2 * effects.std(ddof=1) / np.sqrt(6)
    assert jackknife(effects[i] + effects[j], names[i], names[j]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("pairs", "enough"),
    [
        ("ab", False), ("ab ac bc", False), ("ab ac ad", False), ("ab cd", False), ("ab cd ef", True),
        ("ab ac ad bc bd cd", True), ("ac ad ae bc bd be", False), ("ab bc cd de ea", True),
    ],
)  # fmt: skip
def test_interval_that_would_rest_on_two_networks_is_refused(pairs, enough):
    a, b = (np.array([pair[side] for pair in pairs.split()], dtype=object) for side in (0, 1))
    error = jackknife(np.arange(len(a), dtype=float), a, b)
    assert np.isfinite(error) == enough


@pytest.mark.parametrize("kind", ["complete", "disjoint"])
def test_interval_of_a_mean_over_pairs_covers_it(kind):
    """Networks and pairs vary; treating the pairs as independent would cover less in a complete graph."""
    rng = np.random.default_rng(1)
    n, covered, naive = 8, [], []
    i, j = np.triu_indices(n, 1) if kind == "complete" else (np.arange(0, n, 2), np.arange(1, n, 2))
    names = np.array([f"m/{k}" for k in range(n)], dtype=object)
    for _ in range(400):
        effects = 0.1 * rng.standard_normal(n)
        values = 0.3 + effects[i] + effects[j] + 0.05 * rng.standard_normal(len(i))
        low, high = mean_interval(values, np.zeros((len(i), 2)), names[i], names[j])
        covered.append(low <= 0.3 <= high)
        half = t_dist.ppf(0.975, len(i) - 1) * values.std(ddof=1) / np.sqrt(len(i))
        naive.append(abs(values.mean() - 0.3) <= half)
    assert 0.93 <= np.mean(covered) <= 0.995
    if kind == "complete":
        assert np.mean(naive) < 0.85


def test_shared_photographs_widen_the_interval_of_a_mean():
    names = np.array([f"m/{k}" for k in range(4)], dtype=object)
    i, j = np.triu_indices(4, 1)
    rng = np.random.default_rng(0)
    moved = np.broadcast_to(0.1 * rng.standard_normal(500), (6, 500))  # all pairs move together
    low, high = mean_interval(np.full(6, 0.3), moved, names[i], names[j])
    assert high - low == pytest.approx(2 * t_dist.ppf(0.975, 3) * moved[0].std(ddof=1), rel=1e-9)


def pairs_of(values, seed=-1, n=20):
    """Pairs of the pocket networks with given indices, by (a, b)."""
    rows = [
        {"feature": "curve", "family": "curve", "angle_deg": np.nan, "model_a": a, "model_b": b, "seed": seed,
         "group": setting(CARDS[a], CARDS[b]), "n_a": n, "n_b": n, "n_shared": 0, "share": value, "share_haar": 0.0,
         "index": value, "index_low": 0.0, "index_high": 1.0, "photograph_sd": 0.0}
        for (a, b), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_groups_are_means_over_their_pairs_with_their_twins_beside():
    every = {pair: 0.1 * k / 28 for k, pair in enumerate(itertools.combinations(POCKET, 2))}
    table = pd.concat([pairs_of(every), pairs_of(dict.fromkeys(every, 0.02), seed=0)], ignore_index=True)
    groups = by_group(Pairs(table, np.zeros((len(table), 10)))).set_index("group")
    assert groups["n_pairs"].to_dict() == {
        "seed": 4, "architecture, same seed": 12, "architecture and seed": 12, "untrained": 28,
    }  # fmt: skip
    assert groups.loc["seed", ["n_models", "n_disjoint", "n_units"]].tolist() == [8, 4, 160]
    for name in ("seed", "architecture, same seed", "architecture and seed"):
        members = table[(table["group"] == name) & (table["seed"] == -1)]
        assert groups.loc[name, "index"] == pytest.approx(members["index"].mean())
        assert groups.loc[name, "index_untrained"] == pytest.approx(0.02)
        assert groups.loc[name, "n_pairs_untrained"] == len(members)
        assert groups.loc[name, "index_low"] < groups.loc[name, "index"] < groups.loc[name, "index_high"]
    assert (groups["note"] == "").all()


def test_too_few_networks_get_no_interval_and_a_reason():
    table = pairs_of(dict.fromkeys(itertools.combinations(POCKET[:3], 2), 0.2))
    row = by_feature(Pairs(table, np.zeros((3, 10)))).iloc[0]
    assert np.isnan(row[["index_low", "index_high"]].astype(float)).all()
    assert row["note"] == index.FEW
    hub = pairs_of({(POCKET[0], other): 0.2 for other in POCKET[1:5]})
    assert by_feature(Pairs(hub, np.zeros((4, 10))))["note"].iloc[0] == index.FEW


def test_networks_that_agree_on_nothing_are_no_surer_than_their_units():
    table = pairs_of(dict.fromkeys(itertools.combinations(POCKET, 2), 0.0), n=2)
    row = by_feature(Pairs(table, np.zeros((28, 10)))).iloc[0]
    assert row["n_units"] == 16
    assert row["index_high"] == pytest.approx(index.index_interval(0.0, 0.0, 8, 0.0)[1])


def test_settings_name_what_differs():
    same, other = setting(CARDS[POCKET[0]], CARDS[POCKET[2]]), setting(CARDS[POCKET[0]], CARDS[POCKET[3]])
    assert (same, other) == ("architecture, same seed", "architecture and seed")
    lite = [CARDS[f"package/efficientnet_lite{k}"] for k in (0, 1)]
    assert setting(*lite) == "architecture and seed"
    assert setting(lite[0], CARDS[POCKET[0]]) == "training set"
    assert {same, other, "training set", "seed"} <= set(SETTINGS)


@pytest.mark.parametrize("shared", [0, 15])
def test_index_of_a_simulated_zoo_is_its_planted_share(shared):
    inside, means = [], []
    for seed in range(2):
        layers, _ = zoo(POCKET[:4], units=30, shared=shared, seed=10 * shared + seed)
        pairs = by_pair(
            tally(count_links(layers, itertools.combinations(POCKET[:4], 2), (), bases=1, resamples=50)), CARDS
        )
        # A random basis is above others in 1 % of cases, and that is taken off.
        inside += list((pairs.table["index_low"] <= shared / 30) & (shared / 30 <= pairs.table["index_high"] + 0.01))
        row = by_feature(pairs).iloc[0]
        means.append(row["index"])
        assert row["feature"] == ANY_UNIT
        assert row["index_low"] <= shared / 30 <= row["index_high"] + 0.01
    assert np.mean(inside) >= 11 / 12  # intervals of 95 %, 12 pairs
    assert means == pytest.approx([shared / 30] * 2, abs=0.03)


def test_rotated_copy_has_index_zero():
    """The same layer in another basis: similarity of the layers is perfect, no unit is shared."""
    layers, _ = zoo(POCKET[:1], units=25, shared=25)
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((25, 25)))[0]
    (other,), _ = zoo(POCKET[1:2], units=25, shared=25, noise=0.0)
    turned = replace(layers[0].in_basis(orthonormal("turned", q)), ref=other.ref)
    counted = count_links([layers[0], turned], [(POCKET[0], POCKET[1])], (), resamples=50)
    row = by_pair(tally(counted), CARDS).table.iloc[0]
    assert row["index_low"] <= 0 <= row["index_high"]
    assert row["share"] < 0.1


def test_tally_of_no_links_shares_nothing():
    layers, _ = zoo(POCKET[:2], units=6, shared=0)
    counted = count_links(layers, [(POCKET[0], POCKET[1])], (), resamples=20)
    edges = counted.edges.assign(linked=False)
    made = tally(Census(counted.units, edges, counted.rematched, counted.kept))
    assert isinstance(made, Tally)
    assert not made.rows["shared"].any()
    assert not made.again.any()
