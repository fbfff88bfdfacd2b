"""Every measure of the registry against everything its record declares, and on awkward input.

What a record declares has to hold; what it does not declare has to fail, so that no record declares too little.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import universality
from universality.base.arrays import haar_orthogonal
from universality.base.errors import MeasureError
from universality.similarity import COMPARATORS, INVARIANCES, describe, prepare, score, score_prepared

NAMES = list(COMPARATORS)
METRICS = [name for name in NAMES if COMPARATORS[name].metric]
# An arc cosine or a square root of 1 - (1 - 1e-16) leaves 1e-8 of nothing.
SLACK = {name: 1e-7 if COMPARATORS[name].direction == "distance" else 1e-9 for name in NAMES}
PROPERTY = settings(derandomize=True, deadline=None, max_examples=12)
N, P, Q = 60, 6, 8
# Ten principal components need ten units.
WIDE = {"svcca_components10": (12, 14)}


def layers(n=N, p=P, q=Q, seed=0, shared=3):
    """Two layers that share a few latent causes; units differ in spread, level and sign."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, shared))
    x, y = (
        (latent @ rng.standard_normal((shared, units)) + rng.standard_normal((n, units))) * rng.uniform(0.5, 2, units)
        for units in (p, q)
    )
    return x + rng.uniform(-1, 1, p), y + rng.uniform(-1, 1, q)


def layers_for(name, seed=0, n=N):
    return layers(n, *WIDE.get(name, (P, Q)), seed=seed)


def value(name, x, y):
    return score(name, x, y).value


def transformed(x, kind, rng):
    """The layer after a transformation of one kind, well away from the identity."""
    p = x.shape[1]
    if kind == "permutation":
        return x[:, np.roll(rng.permutation(p), 1)]
    if kind == "isotropic_scale":
        return x * 10 ** rng.uniform(0.5, 3)
    if kind == "unit_scale":
        return x * 10 ** np.linspace(-1, 1, p)
    if kind == "orthogonal":
        return x @ haar_orthogonal(p, rng)
    if kind == "invertible_linear":
        # singular values 0.1 to 10
        return x @ haar_orthogonal(p, rng) @ np.diag(10 ** np.linspace(-1, 1, p)) @ haar_orthogonal(p, rng)
    return x + 3 * rng.standard_normal(p)


def test_records_are_complete():
    assert len({entry.name for entry in COMPARATORS.values()}) == len(NAMES)
    for name, entry in COMPARATORS.items():
        assert name == entry.name
        assert entry.invariances <= set(INVARIANCES)
        assert entry.low < entry.high
        assert entry.min_n >= 3
        assert all((entry.variant, entry.reference, entry.cost, entry.n_against_p))
        assert entry.direction in ("similarity", "distance")
        assert not (entry.metric and (entry.direction != "distance" or not entry.symmetric))


def test_an_invertible_mixture_includes_the_milder_ones():
    for entry in COMPARATORS.values():
        if "invertible_linear" in entry.invariances:
            assert entry.invariances >= set(INVARIANCES) - {"translation"}
        if "orthogonal" in entry.invariances or "unit_scale" in entry.invariances:
            assert "permutation" in entry.invariances


@pytest.mark.parametrize("kind", INVARIANCES)
@pytest.mark.parametrize("name", NAMES)
def test_declared_invariances_hold_and_others_fail(name, kind):
    changes = []
    for seed in range(3):
        x, y = layers_for(name, seed)
        rng = np.random.default_rng(seed)
        plain = value(name, x, y)
        changes.append(abs(value(name, transformed(x, kind, rng), transformed(y, kind, rng)) - plain))
    if kind in COMPARATORS[name].invariances:
        assert max(changes) < 1e-8
    else:
        assert max(changes) > 1e-3


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_places_of_the_layers(name, seed):
    x, y = layers_for(name, seed)
    forward, backward = value(name, x, y), value(name, y, x)
    if COMPARATORS[name].symmetric:
        assert backward == pytest.approx(forward, abs=1e-9)
    else:
        assert abs(backward - forward) > 1e-6


def test_directed_measures_are_each_other_with_the_layers_exchanged():
    x, y = layers()
    assert value("ridge_a_to_b", x, y) == value("ridge_b_to_a", y, x)
    both = value("ridge_a_to_b", x, y), value("ridge_b_to_a", x, y)
    assert value("ridge_mean", x, y) == pytest.approx(np.mean(both), abs=1e-12)
    both = value("pwcca_weights_a", x, y), value("pwcca_weights_a", y, x)
    assert value("pwcca_symmetric", x, y) == pytest.approx(np.mean(both), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_self_score_and_range(name, seed):
    x, y = layers_for(name, seed)
    entry = COMPARATORS[name]
    got = value(name, x, y)
    assert entry.low - 1e-12 <= got <= entry.high + 1e-12
    itself = value(name, x, x)
    if entry.self_score is None:
        # Held-out prediction of a layer from itself is shrunk, but better than from any other.
        assert got < itself <= entry.high
        return
    assert itself == pytest.approx(entry.self_score, abs=SLACK[name])
    assert abs(got - entry.self_score) > 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opposite", [False, True])
def test_range_at_its_ends(name, opposite):
    """Independent layers, and layers that are each other's negative: also there the score stays in its range."""
    entry = COMPARATORS[name]
    p = WIDE.get(name, (P, Q))[0]
    for seed in range(5):
        x, y = np.random.default_rng(seed).standard_normal((2, N, p))
        got = value(name, x, -x if opposite else y)
        assert entry.low - 1e-12 <= got <= entry.high + 1e-12


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 10_000), widths=st.tuples(*[st.integers(1, 7)] * 3), n=st.integers(3, 20))
@settings(PROPERTY, max_examples=60)
def test_triangle_inequality(name, seed, widths, n):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal((n, p)) * rng.uniform(0.1, 3, p) for p in widths)
    b = b + rng.uniform(0, 3) * a[:, [0]]  # the third layer is nearly on the straight line at times
    assert value(name, a, c) <= value(name, a, b) + value(name, b, c) + SLACK[name]


def test_similarities_are_not_declared_metrics_for_a_reason():
    """1 - score of the permutation and rotation scores breaks the triangle inequality, their angles do not."""
    # Three directions in a plane, 60 degrees apart in steps: 1 - cos 60 = 1/2 twice, 1 - |cos 120| would be 1/2.
    x = np.linalg.qr(np.column_stack([np.ones(9), np.random.default_rng(0).standard_normal((9, 2))]))[0][:, 1:]
    a, b, c = (x @ np.array([[np.cos(t)], [np.sin(t)]]) for t in np.radians([0, 30, 60]))
    for name in ("procrustes_orthogonal", "procrustes_permutation"):
        far, near = 1 - value(name, a, c), 1 - value(name, a, b)
        assert far == pytest.approx(0.5)
        assert far > 2 * near + 0.1
        angle = f"{name}_angular"
        assert value(angle, a, c) == pytest.approx(value(angle, a, b) + value(angle, b, c), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_zero_only_up_to_the_invariances(name):
    x, y = layers()
    assert value(name, x, y) > 0.01
    moved = x
    for kind in COMPARATORS[name].invariances:
        moved = transformed(moved, kind, np.random.default_rng(1))
    assert value(name, x, moved) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_order_of_the_stimuli_does_not_matter_but_their_pairing_does(name, seed):
    x, y = layers_for(name, seed)
    order = np.random.default_rng(seed).permutation(len(x))
    assert value(name, x[order], y[order]) == pytest.approx(value(name, x, y), abs=1e-9)
    assert abs(value(name, x, x[order]) - value(name, x, x)) > 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_arithmetic_is_done_in_double_precision(name, dtype):
    x, y = ((64 * a).astype(dtype) for a in layers_for(name))
    assert value(name, x, y) == value(name, x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_input_is_near_the_double_one(name):
    x, y = layers_for(name)
    assert value(name, x.astype(np.float32), y.astype(np.float32)) == pytest.approx(value(name, x, y), abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-150, 1e-40, 1e40, 1e150])
def test_extreme_scales_neither_under_nor_overflow(name, scale):
    x, y = layers_for(name)
    assert value(name, scale * x, y) == pytest.approx(value(name, x, y), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_summaries_are_left_as_they_are(name):
    x, y = layers_for(name)
    before = x.copy(), y.copy()
    a, b = prepare(name, x), prepare(name, y)
    first = score_prepared(name, a, b)
    score_prepared(name, b, a)
    score_prepared(name, a, a)
    assert score_prepared(name, a, b) == first
    assert (x == before[0]).all()
    assert (y == before[1]).all()


# Awkward input


@pytest.mark.parametrize("name", NAMES)
def test_dead_units_are_masked_and_counted(name):
    x, y = layers_for(name)
    padded = np.insert(x, [0, 3, 3], [[0.0, 0.1, -7.0]], axis=1)
    got, plain = score(name, padded, y), score(name, x, y)
    assert (got.n, got.p, got.q, got.reason) == (N, x.shape[1], y.shape[1], "")
    assert (got.dead_p, got.dead_q) == (3, 0)
    assert got.value == pytest.approx(plain.value, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_constant_layer_has_no_score_and_a_reason(name, level):
    x, _ = layers_for(name)
    dead = np.full((N, 3), level)
    for pair, place in (((x, dead), "second"), ((dead, x), "first"), ((dead, dead), "first")):
        got = score(name, *pair)
        assert np.isnan(got.value)
        assert got.reason == f"{place} layer: no unit that varies over the stimuli"
        assert np.isnan(got.chance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["x", "y"])
def test_values_that_are_not_finite_are_refused(name, bad, place):
    pair = dict(zip("xy", layers_for(name), strict=True))
    pair[place][3, 2] = bad
    with pytest.raises(MeasureError, match=f"{place} has NaN or infinite values, expected finite activations; drop"):
        score(name, **pair)


def is_number_or_reason(got, entry):
    """Never both, never neither, never an exception; a number lies in the range."""
    assert np.isfinite(got.value) != bool(got.reason)
    assert not got.reason or "\n" not in got.reason
    assert got.reason or entry.low - 1e-12 <= got.value <= entry.high + 1e-12


UNDEFINED_AT_3 = {  # need more stimuli, or 2 or 3 units span all that three stimuli can differ in
    "cka_linear_debiased", "cka_rbf_median_debiased", "cca_mean_rho", "cca_mean_rho_squared", "svcca_variance99",
    "svcca_components10", "pwcca_weights_a", "pwcca_symmetric", "mutual_knn10_euclidean", "ridge_a_to_b",
    "ridge_b_to_a", "ridge_mean", "unit_match_lasso_a_from_b",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_stimuli(name, n):
    got = score(name, *layers(n, 4, 5))
    is_number_or_reason(got, COMPARATORS[name])
    assert bool(got.reason) == (n < 3 or name in UNDEFINED_AT_3)


@pytest.mark.parametrize("name", NAMES)
def test_smallest_number_of_stimuli_is_smallest(name):
    """One stimulus fewer is refused by number; with `min_n` a number is possible, or n against p is the reason."""
    entry = COMPARATORS[name]
    p = max(3, WIDE.get(name, (1, 1))[0])
    assert f"{entry.min_n - 1} stimuli, {entry.min_n} needed" in score(name, *layers(entry.min_n - 1, p, p)).reason
    found = [score(name, *layers(entry.min_n, p, p, seed=seed)) for seed in range(5)]
    assert all("stimuli, " not in got.reason for got in found)
    assert any(np.isfinite(got.value) for got in found) or "cca" in name


@pytest.mark.parametrize("name", NAMES)
def test_more_units_than_stimuli(name):
    """Canonical correlations would all be 1: no number. The others give one."""
    rng = np.random.default_rng(0)
    for p, q in ((60, 60), (60, 12), (12, 60)):
        got = score(name, rng.standard_normal((20, p)), rng.standard_normal((20, q)))
        is_number_or_reason(got, COMPARATORS[name])
        refused = name in ("cca_mean_rho", "cca_mean_rho_squared", "svcca_variance99") or name.startswith("pwcca")
        assert bool(got.reason) == refused
        assert not refused or "the stimuli are too few for this many units" in got.reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", [1, 4])
def test_one_unit(name, other):
    x, y = layers(40, 1, other)
    got = score(name, x, y)
    is_number_or_reason(got, COMPARATORS[name])
    assert bool(got.reason) == (name == "svcca_components10" or name.startswith("rsa_correlation"))


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 14), widths=st.tuples(st.integers(1, 6), st.integers(1, 6)))
@settings(PROPERTY, max_examples=60)
def test_small_whole_numbers_give_a_number_or_a_reason(name, seed, n, widths):
    """Ties, copies of stimuli and of units, dead units, flat stimuli: whatever small counts bring about."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, 3, (n, p)) for p in widths)
    is_number_or_reason(score(name, x, y), COMPARATORS[name])
    is_number_or_reason(score(name, x, x), COMPARATORS[name])


@pytest.mark.parametrize("name", NAMES)
def test_stated_chance_level_is_the_mean_over_independent_layers(name):
    entry = COMPARATORS[name]
    rng = np.random.default_rng(0)
    found = [score(name, *rng.standard_normal((2, 16, 12))) for _ in range(60)]
    if entry.chance is None:
        assert all(np.isnan(got.chance) for got in found)
        return
    values = np.array([got.value for got in found])
    assert found[0].chance == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(60))
    assert values.std() / np.sqrt(60) < 0.02


# The registry as a table


def test_table_states_every_record():
    table = universality.measures()
    assert list(table.columns) == list(describe.COLUMNS)
    assert table["name"].tolist() == NAMES
    for row in table.itertuples():
        entry = COMPARATORS[row.name]
        assert set(row.invariances.split(", ")) == entry.invariances
        assert (row.direction, row.low, row.high) == (entry.direction, entry.low, entry.high)
        assert (row.metric, row.symmetric, row.min_n) == (entry.metric, entry.symmetric, entry.min_n)
        assert pd.isna(row.self_score) == (entry.self_score is None)


def test_measures_are_found_from_the_top():
    assert universality.score is score
    assert universality.COMPARATORS is COMPARATORS
