"""Ceilings and soft masses of pairs of units against closed forms and brute force."""

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.linear_model import RidgeCV

from universality.base.arrays import haar_orthogonal
from universality.similarity import mixture, transport
from universality.similarity.predictivity import PENALTIES


def layer(rows=600, units=8, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, units))


def half(rows):
    return np.arange(rows) % 2 == 0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_ceiling_is_the_multiple_correlation(share):
    """A unit of which the layer explains a share of the variance: the ceiling is its square root."""
    x = layer(8000)
    weights = layer(8, 1, 1)
    signal = (x @ weights / np.linalg.norm(weights))[:, 0]
    unit = np.sqrt(share) * signal + np.sqrt(1 - share) * layer(8000, 1, 2)[:, 0]
    found = mixture.correlations(mixture.prepare(x, half(8000)), unit[:, None])
    assert found[0] == pytest.approx(np.sqrt(share), abs=0.015)
    assert found[0] > np.abs(np.corrcoef(np.column_stack([unit, x]).T)[0, 1:]).max() + 0.05


def test_ceiling_of_a_unit_that_the_layer_does_not_know_is_about_0():
    found = mixture.correlations(mixture.prepare(layer(2000, 40), half(2000)), layer(2000, 30, 3))
    assert np.abs(np.nan_to_num(found)).mean() < 0.05


def test_ceiling_agrees_with_ridge_of_scikit_learn():
    x, y = layer(120, 30), layer(120, 30) @ layer(30, 4, 1) + 3 * layer(120, 4, 2)
    fitted = half(120)
    found = mixture.correlations(mixture.prepare(x, fitted), y)
    s = np.linalg.svd(x[fitted] - x[fitted].mean(axis=0), compute_uv=False)
    for unit, r in enumerate(found):
        ridge = RidgeCV(alphas=PENALTIES * np.square(s).mean()).fit(x[fitted], y[fitted, unit])
        assert r == pytest.approx(np.corrcoef(ridge.predict(x[~fitted]), y[~fitted, unit])[0, 1], abs=1e-9)


def test_ceiling_does_not_depend_on_the_basis_or_on_the_other_units_asked_for():
    x, y = layer(100, 12), layer(100, 12) @ layer(12, 5, 1) + layer(100, 5, 2)
    mixed = mixture.prepare(x, half(100))
    found = mixture.correlations(mixed, y)
    turned = mixture.prepare(x @ haar_orthogonal(12, np.random.default_rng(5)), half(100))
    np.testing.assert_allclose(mixture.correlations(turned, y), found, atol=1e-9)
    np.testing.assert_allclose(mixture.correlations(mixed, y[:, [3]]), found[[3]], atol=1e-12)


def test_ceiling_looks_at_nothing_that_was_held_out():
    x, y = layer(100, 12), layer(100, 12) @ layer(12, 1, 1) + layer(100, 1, 2)
    fitted = half(100)
    order = np.arange(100)
    order[~fitted] = np.random.default_rng(0).permutation(order[~fitted])
    shuffled = mixture.correlations(mixture.prepare(x, fitted), y[order])
    assert abs(shuffled[0]) < 0.35 < mixture.correlations(mixture.prepare(x, fitted), y)[0]


def test_unit_that_stands_still_where_it_is_scored_has_no_ceiling():
    x, y = layer(60, 5), layer(60, 2, 1)
    y[~half(60), 1] = 0.5
    found = mixture.correlations(mixture.prepare(x, half(60)), y)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


@pytest.mark.parametrize(("p", "q"), [(4, 4), (3, 5), (6, 4)])
def test_soft_masses_solve_the_transport_problem(p, q):
    r = np.random.default_rng(p * q).uniform(-1, 1, (p, q))
    found = transport.shared_mass(r)
    rows = [np.repeat(np.eye(p)[i], q) for i in range(p)]
    columns = [np.tile(np.eye(q)[j], p) for j in range(q)]
    best = linprog(-r.ravel(), A_eq=np.array(rows + columns), b_eq=np.r_[np.full(p, 1 / p), np.full(q, 1 / q)])
    np.testing.assert_allclose(found, best.x.reshape(p, q) * max(p, q), atol=1e-9)
    assert found.mean() == pytest.approx(1 / min(p, q))
    np.testing.assert_allclose(transport.shared_mass(r.T), found.T, atol=1e-12)
    assert found.max() <= 1.0
