"""Each measure beyond the main job's five against brute force, a closed form, or another package's solver."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh, orthogonal_procrustes
from scipy.optimize import linprog, minimize
from scipy.stats import spearmanr
from sklearn.linear_model import LassoCV, Ridge

from universality.base.arrays import Undefined, centred, nuclear_norm, standardised
from universality.similarity import expected_best, match_units, score
from universality.similarity.lasso import coefficients
from universality.similarity.matching import mutual_top, semi
from universality.similarity.neighbours import neighbours
from universality.similarity.predictivity import PENALTIES, folds
from universality.similarity.predictivity import prepare as prepare_ridge
from universality.similarity.procrustes import prepare_up_to_rotation

PROPERTY = settings(derandomize=True, deadline=None, max_examples=20)


def layers(n, p, q, seed=0, shared=3):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, shared))
    x, y = (latent @ rng.standard_normal((shared, units)) + rng.standard_normal((n, units)) for units in (p, q))
    return x + 1, y - 2


def value(name, x, y):
    return score(name, x, y).value


def of_norm_1(x):
    x = x - x.mean(axis=0)
    return x / np.linalg.norm(x)


# Sums of singular values


def of_spectrum(p, q, values, seed=0):
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((units, len(values))))[0] for units in (p, q))
    return (u * values) @ v.T


@pytest.mark.parametrize(("p", "q"), [(40, 40), (40, 25), (25, 40), (1, 7)])
@pytest.mark.parametrize("smallest", [1.0, 1e-4, 1e-7, 1e-12, 0.0])
@pytest.mark.parametrize("tolerance", [0.0, 1e-12, 1e-9, 5e-7])
def test_nuclear_norm_keeps_its_tolerance(p, q, smallest, tolerance):
    """Planted singular values; where some are too small for the eigenvalues, these must not decide."""
    values = np.maximum(np.geomspace(1.0, max(smallest, 1e-14), min(p, q)), smallest)
    values[min(p, q) // 2 + 1 :] = smallest
    for factor in (1.0, 1e-6):
        found = nuclear_norm(factor * of_spectrum(p, q, values), factor * tolerance)
        assert abs(found - factor * values.sum()) <= factor * (tolerance + 1e-13 * values.sum())


def test_nuclear_norm_asks_for_the_decomposition_only_where_it_has_to(monkeypatch):
    asked = []
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *args, **options: asked.append(1) or svd(*args, **options))
    nuclear_norm(of_spectrum(20, 20, np.geomspace(1.0, 1e-4, 20)), 1e-9)
    assert asked == []
    nuclear_norm(of_spectrum(20, 20, np.geomspace(1.0, 1e-12, 20)), 1e-9)
    assert asked == [1]


# CKA


def gaussian(x):
    d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
    sigma = np.median([d[i, j] for i, j in itertools.combinations(range(len(x)), 2)])
    return np.exp(-(d**2) / (2 * sigma**2))


def hsic_by_song(k, m):
    """Song et al. 2012, equation 5, as printed."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def hsic_by_centring(k, m):
    centring = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ centring @ m @ centring)


def hsic_offdiagonal(k, m):
    centring = np.eye(len(k)) - 1 / len(k)
    k, m = centring @ k @ centring, centring @ m @ centring
    return sum(k[i, j] * m[i, j] for i in range(len(k)) for j in range(len(k)) if i != j)


def aligned(hsic, k, m):
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("shape", [(12, 20, 30), (40, 5, 7), (30, 5, 40), (31, 1, 2)])
def test_cka_from_explicit_kernels(shape):
    x, y = layers(*shape)
    linear, rbf = (x @ x.T, y @ y.T), (gaussian(x), gaussian(y))
    for name, hsic, kernels in (
        ("cka_rbf_median_biased", hsic_by_centring, rbf),
        ("cka_rbf_median_debiased", hsic_by_song, rbf),
        ("cka_linear_offdiagonal", hsic_offdiagonal, linear),
    ):
        assert value(name, x, y) == pytest.approx(aligned(hsic, *kernels), abs=1e-11)


def test_rbf_width_is_the_median_distance_of_different_stimuli():
    """Three stimuli on a line, 0, 1 and 3: the median distance is 2."""
    x = np.array([[0.0], [1.0], [3.0]])
    k = np.exp(-np.array([[0, 1, 9], [1, 0, 4], [9, 4, 0]]) / (2 * 2**2))
    assert value("cka_rbf_median_biased", x, x**2) == pytest.approx(
        aligned(hsic_by_centring, k, gaussian(x**2)), abs=1e-12
    )


def test_rbf_without_a_width_has_a_reason():
    x, y = layers(20, 3, 3)
    x[:16] = 0.5
    got = score("cka_rbf_median_debiased", x, y)
    assert np.isnan(got.value)
    assert "half of the stimuli or more answer alike" in got.reason


# Canonical correlations


def canonical_by_eigenvalues(x, y):
    """Squared correlations and A's directions from the generalised eigenproblem of the covariances."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    sxx, syy, sxy = x.T @ x, y.T @ y, x.T @ y
    squared, directions = eigh(sxy @ np.linalg.solve(syy, sxy.T), sxx)
    keep = np.argsort(squared)[::-1][: min(x.shape[1], y.shape[1])]
    return np.sqrt(squared[keep]), x @ directions[:, keep], x


@pytest.mark.parametrize("shape", [(60, 5, 7), (80, 12, 4), (50, 1, 6)])
def test_cca_and_pwcca_from_eigenvalues(shape):
    x, y = layers(*shape)
    rho, variates, units = canonical_by_eigenvalues(x, y)
    assert value("cca_mean_rho", x, y) == pytest.approx(rho.mean(), abs=1e-9)
    assert value("cca_mean_rho_squared", x, y) == pytest.approx((rho**2).mean(), abs=1e-9)
    weights = np.array([sum(abs(h @ unit) for unit in units.T) for h in variates.T])
    assert value("pwcca_weights_a", x, y) == pytest.approx(rho @ weights / weights.sum(), abs=1e-9)


def test_pwcca_without_unique_weights_has_a_reason():
    """n = 30, 20 and 20 units: eleven correlations are exactly 1 for any data."""
    rng = np.random.default_rng(0)
    got = score("pwcca_symmetric", rng.standard_normal((30, 20)), rng.standard_normal((30, 20)))
    assert np.isnan(got.value)
    assert "11 of 20 canonical correlations are exactly 1" in got.reason


def test_copies_of_units_do_not_change_cca():
    """A rank below the number of units: correlations are of what the layer spans."""
    x, y = layers(60, 5, 7)
    doubled = np.hstack([x, x[:, :3] @ np.array([[1.0, 2], [0, 1], [3, 0]])])
    for name in ("cca_mean_rho", "cca_mean_rho_squared"):
        assert value(name, doubled, y) == pytest.approx(value(name, x, y), abs=1e-9)


def test_svcca_of_ten_components_needs_ten():
    x, y = layers(60, 9, 12)
    got = score("svcca_components10", x, y)
    assert np.isnan(got.value)
    assert got.reason == "first layer: the layer has 9 principal components, 10 are compared"


# Shape


@pytest.mark.parametrize("shape", [(30, 6, 6), (10, 15, 15), (20, 4, 7)])
def test_procrustes_from_scipy(shape):
    x, y = (of_norm_1(a) for a in layers(*shape))
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in (x, y))
    rotation, _ = orthogonal_procrustes(y, x)
    assert value("procrustes_orthogonal", x, y) == pytest.approx(np.sum(x * (y @ rotation)), abs=1e-12)
    chord = np.linalg.norm(x - y @ rotation)
    assert value("procrustes_orthogonal_angular", x, y) == pytest.approx(2 * np.arcsin(chord / 2), abs=1e-7)


def test_wide_layers_are_rotated_into_few_columns():
    x = layers(8, 40, 3)[0]
    small = prepare_up_to_rotation(x)
    assert small.shape == (8, 8)
    np.testing.assert_allclose(small @ small.T, of_norm_1(x) @ of_norm_1(x).T, atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [4, 2])
def test_permutation_procrustes_from_all_permutations(seed, p):
    """Each layer gets as many units that are 0 as the other has units: every partial matching is among the permutations."""
    x, y = (of_norm_1(a) for a in layers(15, p, 3, seed, shared=1))
    wide = p + 3
    padded = np.zeros((wide, wide))
    padded[:p, :3] = x.T @ y
    best = max(sum(padded[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(wide)))
    assert value("procrustes_permutation", x, y) == pytest.approx(best, abs=1e-12)
    assert value("procrustes_permutation_angular", x, y) == pytest.approx(np.arccos(best), abs=1e-9)


def test_a_unit_may_stay_alone():
    """An inverted unit is no partner: 0, not -1, and the angle is a right one."""
    x = np.random.default_rng(0).standard_normal((20, 1))
    assert value("procrustes_permutation", x, -x) == 0
    assert value("procrustes_permutation_angular", x, -x) == pytest.approx(np.pi / 2)


# Optimal transport


def cheapest_by_linear_programme(cost):
    p, q = cost.shape
    rows = np.kron(np.eye(p), np.ones(q))
    columns = np.kron(np.ones(p), np.eye(q))
    masses = np.concatenate([np.full(p, 1 / p), np.full(q, 1 / q)])
    return linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=masses, method="highs").fun


@pytest.mark.parametrize("shape", [(20, 5, 5), (20, 4, 7), (15, 9, 2), (12, 1, 6)])
def test_soft_matching_from_a_linear_programme(shape):
    x, y = layers(*shape)
    a, b = ((z - z.mean(axis=0)) / np.linalg.norm(z - z.mean(axis=0), axis=0) for z in (x, y))
    r = np.array([[u @ v for v in b.T] for u in a.T])
    assert value("soft_matching_correlation", x, y) == pytest.approx(-cheapest_by_linear_programme(-r), abs=1e-9)
    a, b = (of_norm_1(z) * np.sqrt(z.shape[1]) for z in (x, y))
    cost = np.array([[np.sum((u - v) ** 2) for v in b.T] for u in a.T])
    assert value("soft_matching_distance", x, y) ** 2 == pytest.approx(cheapest_by_linear_programme(cost), abs=1e-9)


def test_soft_matching_of_equal_widths_is_a_permutation():
    """The published theorem: it is the one-to-one matching there, and the same holds for repeated units."""
    x, y = layers(40, 7, 7)
    assert value("soft_matching_correlation", x, y) == pytest.approx(value("unit_match_hungarian", x, y), abs=1e-12)
    twice = np.repeat(x, 2, axis=1)
    assert value("soft_matching_correlation", twice, y) == pytest.approx(
        value("soft_matching_correlation", x, y), abs=1e-12
    )
    assert value("soft_matching_distance", twice, x) == pytest.approx(0, abs=1e-7)


# Dissimilarities and neighbours


def test_rsa_from_loops():
    x, y = layers(14, 6, 9)
    pairs = list(itertools.combinations(range(14), 2))
    for kind, dissimilarity in (
        ("sqeuclidean", lambda a, b: np.sum((a - b) ** 2)),
        ("correlation", lambda a, b: 1 - np.corrcoef(a, b)[0, 1]),
    ):
        u, v = (np.array([dissimilarity(z[i], z[j]) for i, j in pairs]) for z in (x, y))
        assert value(f"rsa_{kind}_pearson", x, y) == pytest.approx(np.corrcoef(u, v)[0, 1], abs=1e-12)
        assert value(f"rsa_{kind}_spearman", x, y) == pytest.approx(spearmanr(u, v).statistic, abs=1e-12)
        cosine = u @ v / np.sqrt(u @ u * (v @ v))
        assert value(f"rsa_{kind}_cosine", x, y) == pytest.approx(cosine, abs=1e-12)


def test_rsa_cosine_of_euclidean_distances_is_not_cka():
    """Cosine of *centred* kernels is CKA; distances are not centred, so the values differ and are high for noise."""
    x, y = np.random.default_rng(0).standard_normal((2, 60, 30))
    assert value("rsa_sqeuclidean_cosine", x, y) > 0.9
    assert abs(value("cka_linear_debiased", x, y)) < 0.1


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.arange(12.0).reshape(6, 2) ** 2, "2 live units, 3 needed"),
        (np.vstack([np.eye(5), np.full((2, 5), 0.3)]), "2 stimuli excite all units alike"),
    ],
)
def test_patterns_without_correlation_have_a_reason(x, reason):
    got = score("rsa_correlation_pearson", x, np.random.default_rng(0).standard_normal((len(x), 4)))
    assert np.isnan(got.value)
    assert reason in got.reason


def test_equally_far_stimuli_have_a_reason():
    got = score("rsa_sqeuclidean_spearman", np.eye(6), np.random.default_rng(0).standard_normal((6, 4)))
    assert np.isnan(got.value)
    assert "equally far" in got.reason


def test_neighbours_from_loops():
    x, y = layers(30, 4, 6)

    def nearest(z, i):
        return set(sorted((j for j in range(30) if j != i), key=lambda j: np.linalg.norm(z[i] - z[j]))[:10])

    expected = np.mean([len(nearest(x, i) & nearest(y, i)) / 10 for i in range(30)])
    assert value("mutual_knn10_euclidean", x, y) == pytest.approx(expected, abs=1e-12)


def test_tied_neighbours_have_a_reason():
    line = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    assert isinstance(neighbours(line, 1), Undefined)
    assert "3 stimuli have more than one 1-th" in neighbours(line, 1).reason
    uneven = np.abs(np.subtract.outer(*[np.array([0.0, 1.0, 2.1, 3.3])] * 2))
    assert neighbours(uneven, 1).nonzero()[1].tolist() == [1, 0, 1, 2]


# Predictivity


def r2_by_scikit_learn(x, y):
    """Outer folds by rank of the distance from the mean; the penalty by refitting without each training stimulus."""
    x = x - x.mean(axis=0)
    x = x / np.abs(x).max()
    fold = np.argsort(np.argsort(np.linalg.norm(x, axis=1))) % 5
    error = deviation = 0.0
    for k in range(5):
        train, test = fold != k, fold == k
        s = np.linalg.svd(x[train] - x[train].mean(axis=0), compute_uv=False)
        rows = np.flatnonzero(train)

        def left_out(penalty, rows=rows):
            total = 0.0
            for i in rows:
                rest = rows[rows != i]
                total += np.sum((y[i] - Ridge(alpha=penalty).fit(x[rest], y[rest]).predict(x[[i]])) ** 2)
            return total

        penalty = min(PENALTIES[::3] * np.mean(s**2), key=left_out)
        error += np.sum((y[test] - Ridge(alpha=penalty).fit(x[train], y[train]).predict(x[test])) ** 2)
        deviation += np.sum((y[test] - y[train].mean(axis=0)) ** 2)
    return 1 - error / deviation


@pytest.mark.parametrize("shape", [(30, 4, 3), (20, 30, 2)])
def test_ridge_from_scikit_learn(shape, monkeypatch):
    monkeypatch.setattr("universality.similarity.predictivity.PENALTIES", PENALTIES[::3])
    x, y = layers(*shape)
    assert value("ridge_a_to_b", x, y) == pytest.approx(r2_by_scikit_learn(x, y), abs=1e-9)


def test_ridge_predicts_what_is_linear_and_no_noise():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 10))
    assert value("ridge_a_to_b", x, x @ rng.standard_normal((10, 3))) > 0.9999
    noise = [value("ridge_a_to_b", *rng.standard_normal((2, 60, 30))) for _ in range(20)]
    assert -0.1 < np.mean(noise) < 0.0


def test_a_predictor_that_stands_still_in_training_predicts_nothing():
    """A unit that answers one stimulus only: without it nothing is left but the rounding of a mean."""
    x, y = np.full((23, 1), 0.1), layers(23, 2, 2)[0]
    x[7] = 0.7
    got = score("ridge_a_to_b", x, y)
    assert np.isnan(got.value)
    assert "no unit of the predictor varies without one of the five folds" in got.reason
    beside = np.hstack([x, y[:, :1]])
    assert value("ridge_a_to_b", beside, y) == pytest.approx(value("ridge_a_to_b", y[:, :1], y), abs=0.3)


def test_folds_are_even_and_follow_the_stimuli():
    x = centred(layers(52, 4, 4)[0])
    fold = folds(x)
    assert sorted(np.bincount(fold)) == [10, 10, 10, 11, 11]
    order = np.random.default_rng(0).permutation(52)
    assert (folds(x[order]) == fold[order]).all()
    assert all(a.training.sum() + len(a.held_out) == 52 for a in prepare_ridge(x).folds)


@pytest.mark.parametrize("penalty", [0.02, 0.2, 0.6])
def test_lasso_meets_its_conditions(penalty):
    """Subgradient: X'(y - Xw) equals penalty times the sign where w is not 0, and is not larger elsewhere."""
    x, y = (standardised(a) for a in layers(50, 12, 4))
    w = coefficients(x, y, penalty)
    gradient = x.T @ (y - x @ w)
    active = w != 0
    np.testing.assert_allclose(gradient[active], penalty * np.sign(w[active]), atol=1e-4)
    assert np.abs(gradient[~active]).max() <= penalty + 1e-4
    assert active.any()


def test_lasso_prediction_by_hand():
    """One predictor: the coefficient is the soft-thresholded correlation."""
    x, y = layers(40, 1, 1, shared=1)
    u, v = centred(y)[:, 0], centred(x)[:, 0]
    fold = np.argsort(np.argsort(np.abs(u))) % 5
    error = deviation = 0.0
    for k in range(5):
        train, test = fold != k, fold == k
        a, b = u[train] - u[train].mean(), v[train] - v[train].mean()
        r = a @ b / np.sqrt(a @ a * (b @ b))
        w = np.sign(r) * max(abs(r) - expected_best(32, 1, absolute=True), 0)
        predicted = v[train].mean() + (u[test] - u[train].mean()) * w * np.sqrt(b @ b / (a @ a))
        error += np.sum((v[test] - predicted) ** 2)
        deviation += np.sum((v[test] - v[train].mean()) ** 2)
    assert value("unit_match_lasso_a_from_b", x, y) == pytest.approx(1 - error / deviation, abs=1e-9)


def test_lasso_names_copies_only_where_there_are_some(monkeypatch):
    """Convergence is made to fail; what is said of the units is what they are."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    def gives_up(self, *_):
        warnings.warn("no convergence", ConvergenceWarning, stacklevel=2)

    monkeypatch.setattr(Lasso, "fit", gives_up)
    x = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 4)))[0]
    assert "copies" not in str(coefficients(x, x, 0.1))
    assert "copies" in str(coefficients(np.column_stack([x, -x[:, 0]]), x, 0.1))


def test_lasso_finds_the_units_that_were_summed():
    """A unit of A is a sum of two units of B: these two are found, and of independent units nearly none."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((400, 30))
    x = np.column_stack([y[:, 3] + y[:, 17], rng.standard_normal(400)])
    matches = match_units(x, y, method="lasso")
    found = matches[matches["unit_a"] == 0].nlargest(2, "weight")
    assert set(found["unit_b"]) == {3, 17}
    assert found["weight"].between(0.5, 0.71).all()
    assert (matches["unit_a"] == 1).sum() <= 2
    tuned = LassoCV(cv=5).fit(standardised(y), standardised(x)[:, 0])
    assert {3, 17} <= set(np.flatnonzero(tuned.coef_))


# Matching


@pytest.mark.parametrize("seed", range(4))
def test_absolute_and_semi_matching_from_loops(seed):
    x, y = layers(20, 4, 5, seed)
    y[:, 2] *= -1
    r = np.array([[np.corrcoef(a, b)[0, 1] for b in y.T] for a in x.T])
    best = max(np.mean([abs(r[i, j]) for i, j in enumerate(order)]) for order in itertools.permutations(range(5), 4))
    assert value("unit_match_hungarian_absolute", x, y) == pytest.approx(best, abs=1e-12)
    assert value("unit_match_semi_a_to_b", x, y) == pytest.approx(np.mean([max(row) for row in r]), abs=1e-12)
    absolute = np.mean([max(abs(v) for v in row) for row in r])
    assert value("unit_match_semi_absolute_a_to_b", x, y) == pytest.approx(absolute, abs=1e-12)
    assert semi(r)[:, 1].tolist() == [int(np.argmax(row)) for row in r]


@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_mutual_top_k_from_loops(k):
    r = np.random.default_rng(k).uniform(-1, 1, (9, 12))
    expected = [
        [i, j]
        for i in range(9)
        for j in range(12)
        if sum(r[i, m] > r[i, j] for m in range(12)) < k and sum(r[m, j] > r[i, j] for m in range(9)) < k
    ]
    assert mutual_top(r, k).tolist() == expected


def test_mutual_top5_score_from_loops():
    x, y = layers(25, 9, 12)
    r = np.array([[np.corrcoef(a, b)[0, 1] for b in y.T] for a in x.T])
    pairs = mutual_top(r, 5).tolist()
    best = [max([r[i, j] for i, j in pairs if i == unit], default=0) for unit in range(9)]
    best += [max([r[i, j] for i, j in pairs if j == unit], default=0) for unit in range(12)]
    assert value("unit_match_mutual_top5", x, y) == pytest.approx(np.mean(best), abs=1e-12)


# The best of many by chance


@pytest.mark.parametrize("n", [3, 4, 5, 30, 400])
@pytest.mark.parametrize("q", [1, 2, 10, 200])
@pytest.mark.parametrize("absolute", [False, True])
def test_expected_best_from_simulation(n, q, absolute):
    rng = np.random.default_rng([n, q])
    draws = 1500
    one = standardised(rng.standard_normal((n, draws)))
    r = np.stack([np.einsum("ni,ni->i", one, standardised(rng.standard_normal((n, draws)))) for _ in range(q)])
    best = (np.abs(r) if absolute else r).max(axis=0)
    expected = expected_best(n, q, absolute=absolute)
    assert expected == pytest.approx(best.mean(), abs=4.5 * best.std() / np.sqrt(draws) + 1e-9)


def test_expected_best_in_closed_form():
    """q = 1: 0, and E|r| = B(1, (n-2)/2) / B(1/2, (n-2)/2); n = 4: r is uniform, so (q-1)/(q+1) and q/(q+1)."""
    from scipy.special import beta

    for n in (3, 4, 10, 1000, 100_000):
        assert expected_best(n, 1) == pytest.approx(0.0, abs=1e-10)
        exact = beta(1, (n - 2) / 2) / beta(0.5, (n - 2) / 2)
        assert expected_best(n, 1, absolute=True) == pytest.approx(exact, abs=1e-10)
    for q in (1, 2, 7, 500, 100_000):
        assert expected_best(4, q) == pytest.approx((q - 1) / (q + 1), abs=1e-10)
        assert expected_best(4, q, absolute=True) == pytest.approx(q / (q + 1), abs=1e-10)
    assert np.isnan(expected_best(2, 5))
    assert np.isnan(expected_best(5, 0))


@given(n=st.integers(3, 5000), q=st.integers(1, 5000))
@PROPERTY
def test_expected_best_grows_with_choice_and_falls_with_stimuli(n, q):
    assert expected_best(n, q) < expected_best(n, q + 1) + 1e-12
    assert expected_best(n + 1, q) <= expected_best(n, q) + 1e-12
    assert expected_best(n, q) <= expected_best(n, q, absolute=True) + 1e-12


def test_matching_of_a_lone_target_is_what_a_general_solver_finds():
    """Lasso against a smooth reformulation (w = u - v, u, v >= 0) solved by L-BFGS."""
    x, y = (standardised(a) for a in layers(40, 5, 1))

    def loss(uv):
        w = uv[:5] - uv[5:]
        rest = y[:, 0] - x @ w
        gradient = -x.T @ rest
        return rest @ rest / 2 + 0.1 * uv.sum(), np.concatenate([gradient + 0.1, -gradient + 0.1])

    found = minimize(loss, np.zeros(10), jac=True, bounds=[(0, None)] * 10, options={"ftol": 1e-15, "gtol": 1e-10}).x
    np.testing.assert_allclose(coefficients(x, y, 0.1)[:, 0], found[:5] - found[5:], atol=1e-5)
