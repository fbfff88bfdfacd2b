"""Intervals, permutation p and false discovery rate against brute force, closed forms and known truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from universality.base import intervals
from universality.base.arrays import standardised
from universality.correspondence import resampling


def related(rows, pairs, r, seed=0):
    """Columns whose true correlation is `r`."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, pairs))
    return x, r * x + np.sqrt(1 - r * r) * rng.standard_normal((rows, pairs))


def test_bootstrap_correlations_are_those_of_the_repeated_rows():
    x, y = related(60, 3, 0.5)
    photographs = np.repeat(np.arange(12), 5)
    weights, count = resampling.bootstrap_weights(photographs, 1, 20, 0)
    assert count == 12
    found = resampling.bootstrap_correlations(x, y, photographs, weights)
    assert (weights.sum(axis=1) == 12).all()
    for row, counts in enumerate(weights.astype(int)):
        rows = np.concatenate([np.flatnonzero(photographs == k) for k, c in enumerate(counts) for _ in range(c)])
        expected = [np.corrcoef(x[rows, i], y[rows, i])[0, 1] for i in range(3)]
        np.testing.assert_allclose(found[row], expected, atol=1e-12)


def test_unit_that_never_varies_in_a_resample_has_no_correlation_there():
    x = np.zeros((4, 1))
    x[0] = 1.0
    found = resampling.bootstrap_correlations(x, x, np.arange(4), np.array([[0.0, 2, 1, 1], [1, 1, 1, 1]]))
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(1.0)
    low, high = intervals.correlation_interval(np.ones(1), np.array([[np.nan], [1.0], [1.0]]), 4)
    assert (low[0], high[0]) == pytest.approx((1.0, 1.0))
    assert np.isnan(intervals.correlation_interval(np.ones(1), np.full((5, 1), np.nan), 4)).all()


@pytest.mark.parametrize("images", [30, 120])
def test_interval_covers_the_truth_as_often_as_it_says(images):
    truth, pairs = 0.5, 2000
    x, y = related(images, pairs, truth, seed=1)
    weights, count = resampling.bootstrap_weights(np.arange(images), 1, 400, 2)
    assert count == images
    r = np.array([np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(pairs)])
    resampled = resampling.bootstrap_correlations(x, y, np.arange(images), weights)
    low, high = intervals.correlation_interval(r, resampled, images)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


def test_permutation_p_counts_the_best_partner_of_permuted_images():
    x, y = standardised(related(40, 2, 0.6)[0]), standardised(related(40, 5, 0.6, 3)[1])
    observed = np.array([0.3, 0.5])
    found = resampling.permutation_p(x, y, observed, np.arange(40), 1, 50, 4)
    rng = np.random.default_rng([4, 40, 7])
    larger = np.ones(2)
    for _ in range(50):
        order = rng.permutation(40)
        rng.permutation(0)  # photographs with several crops: there are none
        for unit in range(2):
            best = max(np.corrcoef(x[order, unit], y[:, other])[0, 1] for other in range(5))
            larger[unit] += best >= observed[unit]
    np.testing.assert_allclose(found, larger / 51)


def test_permutation_p_is_uniform_where_nothing_corresponds():
    """The best partner itself is observed on the same images: p is uniform (Kolmogorov-Smirnov)."""
    found = []
    for seed in range(120):
        rng = np.random.default_rng([seed, 1])
        x, y = standardised(rng.standard_normal((50, 1))), standardised(rng.standard_normal((50, 6)))
        observed = (x.T @ y).max(axis=1)
        found.append(resampling.permutation_p(x, y, observed, np.arange(50), 1, 99, seed)[0])
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_places_of_one_image_move_together():
    """Images of four alike places: permuting rows would call chance significant, permuting images does not."""
    small = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 2])
        x, y = (np.repeat(rng.standard_normal((15, 1)), 4, axis=0) for _ in range(2))
        x, y = standardised(x), standardised(y)
        observed = (x.T @ y)[0]
        image = np.repeat(np.arange(15), 4)
        small.append(
            [
                resampling.permutation_p(x, y, observed, image, 4, 39, seed)[0],
                resampling.permutation_p(x, y, observed, np.arange(60), 1, 39, seed)[0],
            ]
        )
    images, rows = (np.array(small) <= 0.05).mean(axis=0)
    assert images <= 0.12
    assert rows >= 0.18


def table(**columns):
    count = len(next(iter(columns.values())))
    base = {"model_a": "a", "model_b": "b", "family": "curve", "method": "hungarian"}
    return pd.DataFrame([base] * count).assign(**columns)


def test_q_is_the_benjamini_hochberg_rate_of_its_group():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.001, 1, 40)
    rows = table(p=p, model_b=np.where(np.arange(40) % 3 == 0, "c", "b"), family=np.where(np.arange(40) % 2, "x", "y"))
    found = resampling.with_q(rows)["q"].to_numpy()
    for _, group in rows.groupby(["model_b", "family"]):
        values = group["p"].to_numpy()
        m = len(values)
        for row, value in group["p"].items():
            larger = values[values >= value]
            expected = min(min(m * v / (values <= v).sum() for v in larger), 1.0)
            assert found[row] == pytest.approx(expected)


def test_q_of_no_rows_is_no_rows():
    assert resampling.with_q(table(p=[0.5]).iloc[:0])["q"].tolist() == []


def clustered(seed, photographs=8, crops=20, shapes=0):
    """Independent units whose variance is half the photograph's."""
    rng = np.random.default_rng([seed, 3])
    group = np.concatenate([np.repeat(np.arange(photographs), crops), photographs + np.arange(shapes)])
    units = []
    for _ in range(2):
        common = rng.standard_normal(photographs + shapes)[group]
        units.append(standardised((common + rng.standard_normal(len(group)))[:, None]))
    return *units, group


def test_crops_of_one_photograph_do_not_make_chance_significant():
    found = []
    for seed in range(150):
        x, y, group = clustered(seed)
        found.append(resampling.permutation_p(x, y, (x.T @ y)[0], group, 1, 99, seed)[0])
    assert np.mean(np.array(found) <= 0.05) <= 0.10
    alone = []
    for seed in range(150):
        x, y, group = clustered(seed)
        alone.append(resampling.permutation_p(x, y, (x.T @ y)[0], np.arange(len(group)), 1, 99, seed)[0])
    assert np.mean(np.array(alone) <= 0.05) >= 0.13  # what crops that move alone would claim


@pytest.mark.parametrize("shapes", [0, 150])
def test_interval_of_few_photographs_covers_chance(shapes):
    inside = []
    for seed in range(400):
        x, y, group = clustered(seed, shapes=shapes)
        weights, count = resampling.bootstrap_weights(group, 1, 200, seed)
        assert count == 8
        resampled = resampling.bootstrap_correlations(x, y, group, weights)
        low, high = intervals.correlation_interval((x.T @ y)[0], resampled, count)
        inside.append(low[0] <= 0 <= high[0])
    assert np.mean(inside) >= 0.93


def test_constant_unit_leaves_no_rounding_noise_behind():
    x = np.full((40, 1), 0.3)
    x[0] = 1.7
    x = standardised(x)
    y = standardised(np.random.default_rng(0).standard_normal((40, 1)))
    weights, _ = resampling.bootstrap_weights(np.arange(40), 1, 300, 0)
    found = resampling.bootstrap_correlations(x, y, np.arange(40), weights)
    assert np.isnan(found[weights[:, 0] == 0]).all()
    assert np.isfinite(found[weights[:, 0] > 0]).all()
