"""Streaming CKA equals CKA of all stimuli at once, for every way to cut them into batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from universality import LinearCKAAccumulator, score
from universality.base.errors import MeasureError

NAMES = {estimator: f"cka_linear_{estimator}" for estimator in ("biased", "debiased", "offdiagonal")}


def layers(n, p, q, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 2))
    return (latent @ rng.standard_normal((2, units)) + rng.standard_normal((n, units)) for units in (p, q))


def streamed(x, y, cuts):
    sums = LinearCKAAccumulator()
    for a, b in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
        sums.add(a, b)
    return sums


@given(
    seed=st.integers(0, 1000),
    n=st.integers(5, 60),
    widths=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    level=st.floats(-100, 100),
    log_scale=st.floats(-6, 6),
)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_any_batching_gives_the_value_of_all_stimuli(seed, n, widths, cuts, level, log_scale):
    x, y = layers(n, *widths, seed)
    x, y = 10**log_scale * (x + level), y - level
    sums = streamed(x, y, sorted(min(cut, n) for cut in cuts))
    assert sums.n == n
    for estimator, name in NAMES.items():
        # Levels of a hundred standard deviations cost four digits of the fourth moments.
        assert sums.value(estimator) == pytest.approx(score(name, x, y).value, abs=1e-8, nan_ok=True)


@pytest.mark.parametrize("estimator", NAMES)
@pytest.mark.parametrize("size", [1, 7, 250, 1000])
def test_batch_size_changes_rounding_only(estimator, size):
    x, y = layers(1000, 20, 30)
    sums = streamed(x, y, range(size, 1000, size))
    assert sums.value(estimator) == pytest.approx(score(NAMES[estimator], x, y).value, rel=1e-12)


def test_the_mean_over_batches_would_have_been_another_number():
    x, y = np.random.default_rng(0).standard_normal((2, 200, 30))
    batches = [score("cka_linear_biased", a, b).value for a, b in zip(np.split(x, 20), np.split(y, 20), strict=True)]
    assert abs(np.mean(batches) - streamed(x, y, [50]).value("biased")) > 0.1


def test_a_drift_between_batches_does_not_matter():
    """The origin is taken from the first batch; later ones lie elsewhere."""
    x, y = layers(300, 5, 6)
    x, y = x + np.linspace(0, 50, 300)[:, None], y - np.linspace(0, 20, 300)[:, None]
    for estimator, name in NAMES.items():
        assert streamed(x, y, [3, 100]).value(estimator) == pytest.approx(score(name, x, y).value, abs=1e-10)


def test_values_can_be_read_on_the_way():
    x, y = layers(100, 4, 5)
    sums = LinearCKAAccumulator()
    for stop in (40, 70, 100):
        sums.add(x[sums.n : stop], y[sums.n : stop])
        assert sums.value() == pytest.approx(score("cka_linear_debiased", x[:stop], y[:stop]).value, rel=1e-11)


def test_single_precision_batches_are_summed_in_double():
    x, y = (a.astype(np.float32) for a in layers(500, 6, 7))
    assert streamed(x, y, [100]).value() == pytest.approx(score("cka_linear_debiased", x, y).value, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-140, 1e140])
def test_extreme_scales(scale):
    x, y = layers(50, 4, 5)
    assert streamed(scale * x, y, [20]).value() == pytest.approx(score("cka_linear_debiased", x, y).value, rel=1e-10)


@pytest.mark.parametrize("estimator", NAMES)
def test_nothing_to_say_has_a_reason(estimator):
    sums = LinearCKAAccumulator()
    assert sums.outcome(estimator).reason == f"0 stimuli, {4 if estimator == 'debiased' else 3} needed"
    x, y = layers(20, 3, 3)
    sums = streamed(np.full((20, 2), 0.1), y, [7])
    assert sums.outcome(estimator).reason == "no unit varies over the stimuli"
    assert np.isnan(sums.value(estimator))
    assert np.isfinite(streamed(np.insert(x, 1, 0.1, axis=1), y, [7]).value(estimator))


def test_dead_units_add_nothing():
    x, y = layers(40, 3, 4)
    padded = np.insert(x, [0, 2], [[0.0, 0.1]], axis=1)
    assert streamed(padded, y, [13]).value() == pytest.approx(score("cka_linear_debiased", x, y).value, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((5, 3)), np.ones((6, 4)), "x has 5 stimuli and y has 6"),
        (np.ones((5, 2)), np.ones((5, 4)), "x has 2 units, the batches before had 3"),
        (np.ones((5, 3)), np.ones((5, 5)), "y has 5 units, the batches before had 4"),
        (np.ones(5), np.ones((5, 4)), r"x has shape \(5,\)"),
        (np.ones((5, 3)), np.full((5, 4), np.nan), "y has NaN or infinite values"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_changes_nothing(x, y, message):
    sums = LinearCKAAccumulator()
    a, b = layers(10, 3, 4)
    sums.add(a, b)
    before = sums.value()
    with pytest.raises(MeasureError, match=message):
        sums.add(x, y)
    assert (sums.n, sums.value()) == (10, before)


def test_unknown_estimator_is_refused():
    with pytest.raises(MeasureError, match="unknown estimator 'unbiased'; choose one of: debiased, biased"):
        LinearCKAAccumulator().value("unbiased")
