"""Measures against brute force, published traps, and the invariances that each one declares."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA

from universality.activations.spec import NullSpec
from universality.base import schema
from universality.base.arrays import haar_orthogonal, live_units, standardised
from universality.base.errors import MeasureError
from universality.runs.job import ComparisonSpec
from universality.similarity import COMPARATORS, MATCHINGS, correlations, score
from universality.similarity.cca import canonical_correlations, prepare_variance
from universality.similarity.cka import prepare_linear

# The measures of the main job; test_similarity_common.py asks the same and more of the whole registry.
MEASURES = ComparisonSpec().measures
BASIS_FREE = sorted(name for name in MEASURES if COMPARATORS[name].basis_free)
UNIT_MATCHING = sorted(set(MEASURES) - set(BASIS_FREE))
CKA = ["cka_linear_biased", "cka_linear_debiased"]
# n <= 2p keeps Gram matrices and n > 2p does not: both cases, mixed, and at the limit.
SHAPES = [(12, 20, 30), (60, 5, 7), (30, 5, 40), (30, 40, 5), (30, 15, 14)]
PROPERTY = settings(derandomize=True, deadline=None, max_examples=40)


def layers(n, p, q, seed=0, shared=3):
    """Two layers that share a few latent causes."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, shared))
    x = latent @ rng.standard_normal((shared, p)) + rng.standard_normal((n, p)) + 5
    return x, latent @ rng.standard_normal((shared, q)) + rng.standard_normal((n, q)) - 2


def value(name, x, y):
    return score(name, x, y).value


# Oracles


def cka_biased_by_gram(x, y):
    centring = np.eye(len(x)) - 1 / len(x)
    k, m = (centring @ a @ a.T @ centring for a in (x, y))
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


def hsic_by_song(x, y):
    """Song et al. 2012, equation 5, as printed."""
    n = len(x)
    k, m = (a @ a.T for a in (x, y))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def hsic_by_u_statistic(x, y):
    """Mean over all ordered quadruples of different stimuli: unbiased by construction."""
    k, m = (a @ a.T for a in (x, y))
    quadruples = itertools.permutations(range(len(x)), 4)
    return np.mean([k[i, j] * (m[i, j] + m[r, s] - 2 * m[i, r]) for i, j, r, s in quadruples])


def debiased_by(hsic, x, y):
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def svcca_by_whitening(x, y, share=0.99):
    """Covariances, their eigenvectors, and inverse square roots: no SVD of the data."""
    scores = []
    for a in (x, y):
        a = a - a.mean(axis=0)
        variance, vectors = np.linalg.eigh(a.T @ a)
        variance, vectors = variance[::-1], vectors[:, ::-1]
        k = next(k for k in range(1, variance.size + 1) if variance[:k].sum() / variance.sum() >= share)
        scores.append(a @ vectors[:, :k])
    u, v = scores
    whitened = [np.linalg.inv(np.real(sqrtm(a.T @ a))) for a in (u, v)]
    product = whitened[0] @ u.T @ v @ whitened[1]
    squared = np.linalg.eigvalsh(product.T @ product)[::-1][: min(u.shape[1], v.shape[1])]
    return np.sqrt(np.clip(squared, 0, None)).mean()


def unit_correlations(x, y):
    return np.array([[np.corrcoef(a, b)[0, 1] for b in y.T] for a in x.T])


def mutual_by_loops(r):
    return [
        (i, j)
        for i in range(r.shape[0])
        for j in range(r.shape[1])
        if all(r[i, j] >= r[i, k] for k in range(r.shape[1])) and all(r[i, j] >= r[k, j] for k in range(r.shape[0]))
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_biased_cka_from_explicit_gram_matrices(shape):
    x, y = layers(*shape)
    assert value("cka_linear_biased", x, y) == pytest.approx(cka_biased_by_gram(x, y), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_debiased_cka_from_the_printed_equation(shape):
    x, y = layers(*shape)
    assert value("cka_linear_debiased", x, y) == pytest.approx(debiased_by(hsic_by_song, x, y), abs=1e-11)


@pytest.mark.parametrize("shape", [(7, 2, 9), (7, 12, 9), (8, 3, 3)])
def test_debiased_cka_from_the_u_statistic(shape):
    x, y = layers(*shape, seed=1)
    expected = debiased_by(hsic_by_u_statistic, x, y)
    assert value("cka_linear_debiased", x, y) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("shape", [(60, 5, 7), (80, 20, 12), (50, 1, 6)])
def test_svcca_from_whitening(shape):
    x, y = layers(*shape)
    assert value("svcca_variance99", x, y) == pytest.approx(svcca_by_whitening(x, y), abs=1e-9)


def test_svcca_keeps_the_fewest_components_that_reach_the_share():
    """Columns of known variance: 90, 9, 0.95 and 0.05 %."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(np.column_stack([np.ones(40), rng.standard_normal((40, 4))]))[0][:, 1:]
    x = q * np.sqrt([90, 9, 0.95, 0.05])
    kept = {share: prepare_variance(x, share).q.shape[1] for share in (0.5, 0.9001, 0.98, 0.9901, 0.9999)}
    assert kept == {0.5: 1, 0.9001: 2, 0.98: 2, 0.9901: 3, 0.9999: 4}


@pytest.mark.parametrize(("n", "p"), [(200, 40), (30, 40), (60, 60)])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_basis_of_99_percent_is_the_subspace_of_a_singular_value_decomposition(n, p, scale):
    """Units of very different variance: the components kept are orthonormal and span what the decomposition's do."""
    x = layers(n, p, 1)[0] * np.geomspace(1e-3, 1.0, p)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    k = int((np.cumsum(s**2) / np.sum(s**2) < 0.99).sum()) + 1
    q = prepare_variance(x * scale, 0.99).q
    assert q.shape == (n, k)
    np.testing.assert_allclose(q.T @ q, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(q @ q.T, u[:, :k] @ u[:, :k].T, atol=1e-10)


def test_canonical_correlations_agree_with_scikit_learn():
    x, y = layers(200, 4, 3)
    theirs = CCA(n_components=3, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(side.T for side in theirs), strict=True)]
    ours = canonical_correlations(prepare_variance(x, 1.0), prepare_variance(y, 1.0))
    np.testing.assert_allclose(ours, np.sort(expected)[::-1], atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", [5, 3])
def test_hungarian_from_all_permutations(seed, p):
    x, y = layers(20, p, 5, seed)
    r = unit_correlations(x, y)
    best = max(np.mean([r[i, j] for i, j in enumerate(chosen)]) for chosen in itertools.permutations(range(5), p))
    assert value("unit_match_hungarian", x, y) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_mutual_nearest_from_loops(seed):
    x, y = layers(15, 9, 6, seed)
    r = unit_correlations(x, y)
    pairs = mutual_by_loops(r)
    assert pairs
    assert [tuple(pair) for pair in MATCHINGS["mutual_nearest"](r)] == pairs
    expected = sum(r[i, j] for i, j in pairs) / 6
    assert value("unit_match_mutual_nearest", x, y) == pytest.approx(expected, abs=1e-12)


def test_matchings_are_one_to_one():
    r = np.random.default_rng(0).uniform(-1, 1, (30, 20))
    for match in MATCHINGS.values():
        rows, columns = match(r).T
        assert len(set(rows)) == len(rows) == len(set(columns))
    assert len(MATCHINGS["hungarian"](r)) == 20


def test_correlations_agree_with_numpy():
    x, y = layers(25, 6, 4)
    np.testing.assert_allclose(correlations(standardised(x), standardised(y)), unit_correlations(x, y), atol=1e-12)


@pytest.mark.parametrize("name", CKA)
def test_gram_and_feature_paths_agree(name):
    """Dead weight in zero columns moves a layer from one path to the other without changing it."""
    x, y = layers(30, 5, 6)
    tiny = 1e-9 * np.random.default_rng(0).standard_normal((30, 60))  # live, so that it is not dropped
    assert value(name, np.hstack([x, tiny]), y) == pytest.approx(value(name, x, y), abs=1e-9)
    assert value(name, np.hstack([x, tiny]), np.hstack([y, tiny])) == pytest.approx(value(name, x, y), abs=1e-9)


@pytest.mark.parametrize(("n", "kept"), [(10, True), (11, False)])
def test_gram_matrix_is_kept_where_it_is_not_larger_than_the_layer_twice(n, kept):
    """Both paths of the tests above are taken: n <= 2p keeps it, n > 2p does not."""
    assert (prepare_linear(layers(n, 5, 5)[0]).gram is not None) == kept


# Invariances


def rotation(p, seed):
    return haar_orthogonal(p, np.random.default_rng(seed))


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 1000), log_scale=st.floats(-6, 6), level=st.floats(-50, 50))
@PROPERTY
def test_scale_translation_and_order_of_units_do_not_matter(name, seed, log_scale, level):
    x, y = layers(40, 6, 8, seed)
    rng = np.random.default_rng(seed)
    moved = 10**log_scale * x[:, rng.permutation(6)] + level * rng.standard_normal(6) * 10**log_scale
    assert value(name, moved, y) == pytest.approx(value(name, x, y), abs=1e-8)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e-150, 1e-40, 1e40, 1e150])
@pytest.mark.parametrize("shape", [(40, 6, 8), (12, 20, 8)], ids=["features", "gram"])
def test_extreme_scales_neither_under_nor_overflow(name, scale, shape):
    x, y = layers(*shape)
    x, y = x - 5, y + 2  # without the levels' rounding
    assert value(name, scale * x, y) == pytest.approx(value(name, x, y), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", BASIS_FREE)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_basis_does_not_matter_where_declared(name, seed):
    x, y = layers(40, 6, 8, seed)
    expected = value(name, x, y)
    assert value(name, x @ rotation(6, seed), y) == pytest.approx(expected, abs=1e-9)
    assert value(name, x @ rotation(6, seed), y @ rotation(8, seed + 1)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", UNIT_MATCHING)
@pytest.mark.parametrize("seed", range(5))
def test_basis_matters_for_unit_matching(name, seed):
    x = np.random.default_rng(seed).standard_normal((200, 12))
    assert value(name, x, x @ rotation(12, seed)) < 0.8


@pytest.mark.parametrize("name", UNIT_MATCHING)
def test_scale_of_each_unit_does_not_matter_for_unit_matching(name):
    x, y = layers(40, 6, 8)
    scaled = x * np.array([1e-3, 0.1, 1, 10, 100, 1e4])
    assert value(name, scaled, y) == pytest.approx(value(name, x, y), abs=1e-12)


def test_an_inverted_unit_is_not_the_same_unit():
    """Correlations are signed: a unit whose response falls where another's rises is no match."""
    x = np.random.default_rng(0).standard_normal((50, 1))
    assert value("unit_match_hungarian", x, -x) == pytest.approx(-1)


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_symmetric(name, seed):
    x, y = layers(40, 6, 8, seed)
    assert value(name, y, x) == pytest.approx(value(name, x, y), abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_a_layer_is_like_itself_and_scores_stay_in_range(name, seed):
    x, y = layers(40, 6, 8, seed)
    entry = COMPARATORS[name]
    assert value(name, x, x) == pytest.approx(1.0, abs=1e-12)
    assert entry.low - 1e-12 <= value(name, x, y) <= entry.high + 1e-12
    assert value(name, x, y) < 0.999


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 1000))
@PROPERTY
def test_order_of_the_stimuli_does_not_matter_but_their_pairing_does(name, seed):
    x, y = layers(60, 6, 6, seed)
    order = np.random.default_rng(seed).permutation(60)
    assert value(name, x[order], y[order]) == pytest.approx(value(name, x, y), abs=1e-10)
    assert value(name, x, x[order]) < 0.9


@pytest.mark.parametrize("name", MEASURES)
def test_dead_units_are_dropped_and_counted(name):
    x, y = layers(40, 6, 8)
    padded = np.insert(x, [0, 3, 3], [[0.0, 0.1, -7.0]], axis=1)
    got, plain = score(name, padded, y), score(name, x, y)
    assert (got.n, got.p, got.q, got.reason) == (40, 6, 8, "")
    assert got.value == pytest.approx(plain.value, abs=1e-12)


def test_live_units():
    assert live_units(np.array([[1.0, 0.1, 0.0], [1.0, 0.1, 1e-300]])).tolist() == [False, False, True]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_arithmetic_is_done_in_double_precision(name, dtype):
    x, y = ((8 * a).astype(dtype) for a in layers(40, 6, 8))
    assert value(name, x, y) == value(name, x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("name", MEASURES)
def test_inputs_are_left_as_they_are(name):
    x, y = layers(20, 6, 8)
    before = x.copy(), y.copy()
    score(name, x, y)
    assert (x == before[0]).all()
    assert (y == before[1]).all()


# Degenerate input


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dead", [np.zeros((20, 3)), np.full((20, 3), 0.1)])
def test_constant_layer_has_no_score_and_a_reason(name, dead):
    x, _ = layers(20, 4, 4)
    for pair in ((x, dead), (dead, x), (dead, dead)):
        got = score(name, *pair)
        assert np.isnan(got.value)
        assert "no unit that varies" in got.reason
        assert 0 in (got.p, got.q)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_stimuli_give_nan_with_a_reason(name, n):
    got = score(name, *layers(n, 4, 5))
    defined = n == 3 and name not in ("cka_linear_debiased", "svcca_variance99")
    assert np.isfinite(got.value) == defined
    assert bool(got.reason) != defined


def test_debiased_cka_is_defined_from_four_stimuli():
    x, y = layers(4, 30, 30)
    expected = debiased_by(hsic_by_song, x, y)
    assert value("cka_linear_debiased", x, y) == pytest.approx(expected, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("shape", [(20, 60, 60), (20, 60, 2), (20, 2, 60)])
def test_svcca_refuses_a_layer_that_fills_the_sample_space(shape):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape[:2]), rng.standard_normal((shape[0], shape[2]))
    got = score("svcca_variance99", x, y)
    assert np.isnan(got.value)
    assert "too few for this many units" in got.reason


@pytest.mark.parametrize("n", [4, 6, 7, 30])
@pytest.mark.parametrize("scale", [1.0, 0.3, 7.0])
def test_debiased_cka_without_positive_self_similarity_has_a_reason(n, scale):
    """One stimulus apart from all others: the unbiased self-HSIC is exactly 0 there, and rounding must not hide it."""
    x = np.zeros((n, 1))
    x[0] = scale
    assert hsic_by_song(x, x) == 0
    got = score("cka_linear_debiased", x, layers(n, 3, 3)[0])
    assert np.isnan(got.value)
    assert got.reason


# Refusals


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((10, 3), np.nan), "x has NaN or infinite values"),
        (np.where(np.eye(10, 3) > 0, np.inf, 0.5), "x has NaN or infinite values"),
        (np.ones(10), r"x has shape \(10,\), expected \(stimuli, units\)"),
        (np.ones((10, 3, 2)), r"x has shape \(10, 3, 2\)"),
        (np.ones((10, 0)), r"x has shape \(10, 0\)"),
        (np.ones((0, 3)), r"x has shape \(0, 3\)"),
        (np.ones((9, 3)), "x has 9 stimuli and y has 10, expected the same stimuli"),
        ([["a", "b"]], "x is not an array of numbers"),
        ([[1.0], [1.0, 2.0]], "x is not an array of numbers"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(name, x, message):
    with pytest.raises(MeasureError, match=message) as caught:
        score(name, x, np.random.default_rng(0).standard_normal((10, 3)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cka_linaer_debiased", "unknown measure 'cka_linaer_debiased'; did you mean 'cka_linear_debiased'"),
        ("lasso", "unknown measure 'lasso'; did you mean 'unit_match_lasso_a_from_b'"),
        ("cka_linear", "expected one: cka_linear_debiased, cka_linear_biased or cka_linear_offdiagonal; choose"),
        ("cka", "'cka' names several measures, expected one: cka_linear_debiased, .*cka_rbf_median_biased; choose"),
        ("CKA-RBF", "one: cka_rbf_median_debiased or cka_rbf_median_biased;"),
        ("cca", "one: cca_mean_rho or cca_mean_rho_squared;"),
        ("svcca", "one: svcca_variance99 or svcca_components10;"),
        ("pwcca", "one: pwcca_weights_a or pwcca_symmetric;"),
        ("procrustes", "one: procrustes_orthogonal, procrustes_orthogonal_angular, procrustes_permutation or"),
        ("rsa", "one: rsa_sqeuclidean_pearson, .* or rsa_correlation_cosine;"),
        ("ridge", "one: ridge_a_to_b, ridge_b_to_a or ridge_mean;"),
        ("", "unknown measure ''"),
    ],
)
def test_unknown_measure_names_its_variants_or_the_nearest(name, message):
    with pytest.raises(MeasureError, match=message) as caught:
        score(name, *layers(10, 3, 3))
    assert "\n" not in str(caught.value)


def test_every_first_word_of_several_measures_names_them_all():
    """Whoever knows the family only is told every variant there is of it."""
    families = {}
    for name in COMPARATORS:
        families.setdefault(name.split("_")[0], []).append(name)
    for family, names in families.items():
        with pytest.raises(MeasureError) as caught:
            score(family, *layers(10, 3, 3))
        assert all(name in str(caught.value) for name in names)


# Published traps


def test_biased_cka_of_noise_is_high_and_debiased_is_not():
    """64 stimuli and 512 units of pure noise: about p / (p + n) = 0.89 biased, 0 debiased."""
    scores = np.array([[value(name, *noise(seed)) for name in CKA] for seed in range(10)])
    assert scores[:, 0].mean() == pytest.approx(0.89, abs=0.005)
    assert scores[:, 1].mean() == pytest.approx(0.0, abs=0.01)
    assert np.abs(scores[:, 1]).max() < 0.04


def noise(seed, n=64, p=512):
    return np.random.default_rng(seed).standard_normal((2, n, p))


@pytest.mark.parametrize(("n", "expected"), [(100, 0.30), (1000, 0.10)])
def test_chance_level_of_the_best_of_512_units(n, expected):
    x, y = (standardised(a) for a in noise(0, n))
    assert correlations(x, y).max(axis=1).mean() == pytest.approx(expected, abs=0.01)


# Haar-random rotations


@pytest.mark.parametrize("p", [1, 2, 7, 64])
def test_haar_is_orthogonal(p):
    q = rotation(p, p)
    np.testing.assert_allclose(q @ q.T, np.eye(p), atol=1e-12)


def test_haar_moments():
    """Every entry has mean 0 and variance 1 / p; E tr^2 = 1 and E tr^4 = 3 (Diaconis and Shahshahani 1994)."""
    p, draws = 5, 4000
    rng = np.random.default_rng(0)
    q = np.stack([haar_orthogonal(p, rng) for _ in range(draws)])
    trace = np.trace(q, axis1=1, axis2=2)
    error = 1 / np.sqrt(draws)
    # 25 entries: five standard errors leave one failure in ten thousand.
    assert np.abs(q.mean(axis=0)).max() < 5 * error / np.sqrt(p)
    assert np.abs(q.var(axis=0) - 1 / p).max() < 5 * error * np.sqrt(2) / p
    assert trace.mean() == pytest.approx(0, abs=5 * error)
    assert np.mean(trace**2) == pytest.approx(1, abs=5 * error * np.sqrt(2))
    assert np.mean(trace**4) == pytest.approx(3, abs=5 * error * np.sqrt(96))
    assert np.mean(np.linalg.det(q) > 0) == pytest.approx(0.5, abs=5 * error / 2)


def test_haar_follows_its_generator():
    assert (rotation(6, 3) == rotation(6, 3)).all()
    assert not (rotation(6, 3) == rotation(6, 4)).any()


# Beside its nulls

MANY = {"nulls": True, "shuffles": 40, "haar_rotations": 30, "seed": 2}


def test_nulls_are_the_means_of_so_many_resamples():
    x, y = layers(60, 6, 8)
    got = score("unit_match_hungarian", x, y, **MANY)
    assert (len(got.shuffled.values), len(got.haar.values)) == (40, 30)
    for null in (got.shuffled, got.haar):
        assert null.mean == np.mean(null.values)
        assert len(set(null.values)) == len(null.values)
        assert null.reason == ""
    assert got.value == value("unit_match_hungarian", x, y)


def test_nulls_lie_where_unrelated_layers_and_unrelated_bases_lie():
    """The same units in another order of stimuli, or turned, drawn here by other means."""
    x, y = layers(60, 6, 8)
    rng = np.random.default_rng(11)
    shuffled = [value("unit_match_hungarian", x, y[rng.permutation(60)]) for _ in range(200)]
    turned = [value("unit_match_hungarian", x, y @ ortho_group.rvs(8, random_state=rng)) for _ in range(200)]
    got = score("unit_match_hungarian", x, y, **MANY)
    for null, drawn in ((got.shuffled, shuffled), (got.haar, turned)):
        assert null.mean == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(len(null.values)))
        assert np.std(null.values) == pytest.approx(np.std(drawn), rel=0.5)


def test_equal_seeds_give_equal_nulls_and_other_seeds_others():
    x, y = layers(60, 6, 8)
    first, again, other = (score("unit_match_hungarian", x, y, nulls=True, seed=seed) for seed in (0, 0, 1))
    default = score("unit_match_hungarian", x, y, nulls=True)
    assert first.shuffled == again.shuffled == default.shuffled
    assert first.haar == again.haar == default.haar
    assert first.shuffled.values != other.shuffled.values
    assert first.haar.values != other.haar.values
    assert len(default.shuffled.values) == len(default.haar.values) == NullSpec().shuffles


@pytest.mark.parametrize("name", COMPARATORS)
def test_which_nulls_a_measure_has(name):
    """A rotation of B by hand changes the score, or there is no null of random bases and a reason instead of the score."""
    x, y = layers(60, 12, 14)
    got = score(name, x, y, nulls=True, shuffles=2, haar_rotations=2)
    assert np.isfinite(got.shuffled.mean)
    moves = abs(value(name, x, y @ rotation(14, 5)) - got.value) > 1e-6
    assert bool(got.haar.values) == moves
    assert np.isnan(got.haar.mean) == (not moves)
    assert ("does not depend on y's basis" in got.haar.reason) == (not moves)
    row = got.table().iloc[0]
    assert bool(row["reason_chance"]) == np.isnan(row["chance"]) == (COMPARATORS[name].chance is None)
    said = score.__doc__.partition("- `chance`")[2].partition("\n\n")[0]
    assert (f"``{name}``" in said) == (COMPARATORS[name].chance is not None)


def test_table_is_a_row_in_the_words_of_a_job():
    x, y = layers(60, 6, 8)
    got = score("unit_match_semi_a_to_b", x, np.insert(y, 2, 1.0, axis=1), nulls=True)
    (row,) = got.table().to_dict("records")
    assert set(schema.SIMILARITY.names) & set(row) == {
        "measure", "direction", "value", "value_haar", "value_shuffled", "n", "p", "q", "reason",
    }  # fmt: skip
    assert row["measure"] == "unit_match_semi_a_to_b"
    assert (row["value"], row["value_haar"], row["value_shuffled"]) == (got.value, got.haar.mean, got.shuffled.mean)
    assert (row["n"], row["p"], row["q"], row["dead_q"]) == (60, 6, 8, 1)
    assert row["chance"] == got.chance
    assert not any(row[name] for name in row if name.startswith("reason"))


def test_nulls_that_were_not_asked_for_say_so():
    (row,) = score("unit_match_hungarian", *layers(60, 6, 8)).table().to_dict("records")
    assert np.isnan([row["value_haar"], row["value_shuffled"]]).all()
    assert row["reason_haar"] == row["reason_shuffled"] == "not asked for: pass nulls=True"


def test_nulls_of_a_layer_without_a_score_have_its_reason():
    x, _ = layers(60, 6, 8)
    got = score("unit_match_hungarian", x, np.ones((60, 3)), nulls=True)
    assert np.isnan([got.value, got.shuffled.mean, got.haar.mean]).all()
    assert got.reason == got.shuffled.reason == "second layer: no unit that varies over the stimuli"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffles": 5}, "shuffles is 5 and nulls is False, expected nulls=True with it"),
        ({"seed": 0}, "seed is 0 and nulls is False"),
        ({"nulls": True, "shuffles": 0}, "shuffles is 0, expected a whole number of at least 1"),
        ({"nulls": True, "haar_rotations": 2.0}, "haar_rotations is 2.0, expected a whole number of at least 1"),
        ({"nulls": True, "seed": -1}, "seed is -1, expected a whole number of at least 0"),
        ({"nulls": True, "seed": True}, "seed is True, expected a whole number"),
    ],
)
def test_numbers_of_nulls_that_cannot_be_are_refused(options, message):
    with pytest.raises(MeasureError, match=message) as caught:
        score("unit_match_hungarian", *layers(60, 6, 8), **options)
    assert "\n" not in str(caught.value)
