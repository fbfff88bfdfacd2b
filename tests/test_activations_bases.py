"""Random bases: orthonormal, repeatable, unlike one another, and as a matrix drawn by itself would be, also where they are mixed."""

import numpy as np
import pytest
from scipy import stats
from zoos import rotation

from universality.activations.bases import WIDEST_DRAWN, mixed, turned
from universality.base.arrays import haar_orthogonal

WIDTHS = (1, 5, 64, WIDEST_DRAWN, WIDEST_DRAWN + 1, 300, 480)


@pytest.mark.parametrize("units", WIDTHS)
def test_directions_are_orthonormal_and_repeatable(units):
    found = rotation(units, 3)
    np.testing.assert_allclose(found.T @ found, np.eye(units), atol=1e-12)
    assert np.array_equal(found, rotation(units, 3))


@pytest.mark.parametrize("units", [64, 300])
def test_bases_of_other_numbers_and_seeds_are_others(units):
    found = rotation(units, 3)
    for other in (rotation(units, 4), rotation(units, 3, seed=1)):
        # The largest of units^2 products of unrelated directions.
        assert np.abs(found.T @ other).max() < 7 / np.sqrt(units)


def test_wide_bases_overlap_as_bases_drawn_by_themselves_do():
    units = 300
    first = rotation(units, 0)
    products = [first.T @ rotation(units, index) for index in range(1, 5)]
    own = [haar_orthogonal(units, np.random.default_rng([9, index])) for index in range(4)]
    of_own = [first.T @ matrix for matrix in own]
    assert stats.ks_2samp(np.concatenate(products, axis=None), np.concatenate(of_own, axis=None)).pvalue > 0.01


def test_best_direction_of_a_wide_basis_is_as_good_as_that_of_one_drawn_by_itself():
    """What verdicts ask of them: the largest cosine with given directions, over bases; they point in any way."""
    units, given = 300, np.eye(300)[:, :40]
    best = [np.abs(given.T @ rotation(units, index)).max(axis=1) for index in range(40)]
    of_own = [
        np.abs(given.T @ haar_orthogonal(units, np.random.default_rng([8, index]))).max(axis=1) for index in range(40)
    ]
    assert stats.ks_2samp(np.ravel(best), np.ravel(of_own)).pvalue > 0.01


@pytest.mark.parametrize("units", [20, 300])
def test_what_is_kept_gives_the_same_activations(units):
    x = np.random.default_rng(0).standard_normal((7, units))
    np.testing.assert_allclose(mixed(turned(x, 2).T, 5, 2).T, x @ rotation(units, 5, seed=2), atol=1e-12)
    single = mixed(turned(x.astype(np.float32), 2).T, 5, 2)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.T, x @ rotation(units, 5, seed=2), atol=1e-5)
