"""Tuning statistics against closed forms of the von Mises curve, brute force, and a published family."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import i0e, i1e, ive

from universality.base.errors import MeasureError
from universality.features import tuning
from universality.features.tuning import (
    align_tuning,
    best_shift_correlation,
    circular_difference,
    coverage,
    largest_deviation,
    largest_gap,
    least_pairwise_correlation,
    mirror_symmetry,
    rayleigh,
    tuning_statistics,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tuning.json").read_text())["families"]
ANGLES = np.arange(720) * 0.5
COARSE = np.arange(36) * 10.0
PROPERTY = settings(derandomize=True, deadline=None, max_examples=80)


def von_mises(k, mu=0.0, angles=ANGLES):
    """Curve with peak 1 at `mu`."""
    return np.exp(k * (np.cos(np.deg2rad(angles - mu)) - 1))


def one(curve, angles=ANGLES):
    """Statistics of a single curve as plain numbers."""
    stats = tuning_statistics(np.asarray(curve)[None], angles)
    return {name: float(getattr(stats, name)[0]) for name in stats.__dataclass_fields__}


def wrapped(a, b):
    return abs((a - b + 180) % 360 - 180)


@st.composite
def distinct_curves(draw):
    """Curves whose values differ from one another, so that the peak is one angle; some values are negative."""
    n = draw(st.integers(8, 40))
    values = draw(st.lists(st.integers(-50, 1000), min_size=n, max_size=n, unique=True))
    assume(max(values) > 0)
    return np.array(values, dtype=np.float64)


# Statistics: closed forms


@pytest.mark.parametrize("k", [0.8, 1.0, 3.0, 10.0, 40.0])
@pytest.mark.parametrize("mu", [0.0, 37.5, 180.0, 322.0])
def test_von_mises_curve(k, mu):
    stats = one(4.2 * von_mises(k, mu))
    assert wrapped(stats["preferred_deg"], mu) == 0
    assert wrapped(stats["circular_mean_deg"], mu) < 1e-9
    assert stats["r1"] == pytest.approx(i1e(k) / i0e(k), abs=1e-12)
    assert stats["r2"] == pytest.approx(ive(2, k) / i0e(k), abs=1e-12)
    # Half of the peak is reached where k (cos(x) - 1) = -ln 2; the error of linear interpolation is below a step squared.
    assert stats["fwhm_deg"] == pytest.approx(2 * np.rad2deg(np.arccos(1 - np.log(2) / k)), abs=0.02)
    assert stats["echo"] == pytest.approx(np.exp(k * (np.cos(np.deg2rad(150)) - 1)), rel=1e-9)
    assert stats["peak"] == pytest.approx(4.2)


@pytest.mark.parametrize("w", [0.0, 0.2, 0.6])
def test_second_lobe_opposite_the_first(w):
    """Two lobes of one width, the second `w` times the first: odd harmonics subtract, even ones add."""
    k = 12.0
    stats = one(von_mises(k, 70) + w * von_mises(k, 250))
    assert stats["r1"] == pytest.approx((1 - w) / (1 + w) * i1e(k) / i0e(k), abs=1e-9)
    assert stats["r2"] == pytest.approx(ive(2, k) / i0e(k), abs=1e-9)
    assert stats["echo"] == pytest.approx(max(w, np.exp(k * (np.cos(np.deg2rad(150)) - 1))), abs=1e-6)
    assert stats["circular_mean_deg"] == pytest.approx(70, abs=1e-6)


def test_two_equal_lobes_have_an_axis_and_no_direction():
    k = 5.0
    stats = one(np.exp(k * (np.cos(2 * np.deg2rad(ANGLES - 30)) - 1)))
    assert stats["r1"] == pytest.approx(0, abs=1e-12)
    assert stats["r2"] == pytest.approx(i1e(k) / i0e(k), abs=1e-12)
    assert stats["echo"] == pytest.approx(1.0)
    assert stats["fwhm_deg"] == pytest.approx(np.rad2deg(np.arccos(1 - np.log(2) / k)), abs=0.02)


@pytest.mark.parametrize("level", [0.1, 1.0, 1 / 3, 1e6])
@pytest.mark.parametrize("angles", [COARSE, ANGLES, np.arange(7) * (360 / 7)], ids=["36", "720", "7"])
def test_constant_curve(level, angles):
    stats = one(np.full(angles.size, level), angles)
    assert stats["r1"] == pytest.approx(0, abs=1e-12)
    assert stats["r2"] == pytest.approx(0, abs=1e-12)
    assert stats["fwhm_deg"] == 360.0
    assert stats["echo"] == 1.0
    assert stats["peak"] == level


@pytest.mark.parametrize("place", [0, 5, 35])
def test_single_spike(place):
    stats = one(np.eye(36)[place], COARSE)
    assert stats["preferred_deg"] == 10.0 * place
    assert stats["r1"] == pytest.approx(1)
    assert stats["r2"] == pytest.approx(1)
    assert stats["fwhm_deg"] == pytest.approx(10.0)  # half a step to either side
    assert stats["echo"] == 0.0


def test_width_is_that_of_the_stretch_around_the_peak_only():
    """A second lobe above half the peak does not widen the first."""
    alone, accompanied = (one(von_mises(30, 90) + w * von_mises(30, 230)) for w in (0.0, 0.9))
    assert accompanied["fwhm_deg"] == pytest.approx(alone["fwhm_deg"], abs=1e-6)


def test_width_of_a_triangle_is_exact():
    triangle = np.maximum(0, 1 - np.abs(circular_difference(COARSE, 200)) / 80)
    assert one(triangle, COARSE)["fwhm_deg"] == pytest.approx(80)


@pytest.mark.parametrize(("away", "counted"), [(150, True), (210, True), (140, False), (220, False), (180, True)])
def test_echo_looks_within_30_degrees_of_the_opposite(away, counted):
    curve = np.zeros(36)
    curve[4], curve[(4 + away // 10) % 36] = 1.0, 0.7
    assert one(curve, COARSE)["echo"] == (0.7 if counted else 0.0)


@pytest.mark.parametrize("n", [12, 60, 84])
def test_echo_includes_the_border_where_the_angles_are_not_exact(n):
    """Twelfths of the turn lie on every such grid, also where rounding moves them."""
    angles = np.arange(n) * (360.0 / n)
    for peak in range(n):
        curve = np.zeros(n)
        curve[peak], curve[(peak + 5 * n // 12) % n] = 1.0, 0.4
        assert one(curve, angles)["echo"] == pytest.approx(0.4)


def test_negative_responses_count_as_0():
    curve = von_mises(2, 100) - 0.4
    assert one(curve) == one(np.maximum(curve, 0))
    assert one(curve)["r1"] > one(curve + 0.4)["r1"]


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_unit_that_never_responds_has_no_statistics(level):
    stats = tuning_statistics(np.stack([von_mises(3), np.full(720, level)]), ANGLES)
    for name in ("preferred_deg", "circular_mean_deg", "r1", "r2", "fwhm_deg", "echo"):
        values = getattr(stats, name)
        assert np.isfinite(values[0]), name
        assert np.isnan(values[1]), name
    assert stats.peak.tolist() == [1.0, 0.0]


def test_no_units_give_no_statistics():
    assert tuning_statistics(np.empty((0, 36)), COARSE).r1.shape == (0,)
    assert align_tuning(np.empty((0, 36)), np.empty((0, 36)), COARSE).shift_deg.shape == (0,)


# Statistics: invariances


@given(curve=distinct_curves(), turn=st.integers(0, 40))
@PROPERTY
def test_rotating_a_curve_rotates_its_preference_and_nothing_else(curve, turn):
    n = curve.size
    angles = np.arange(n) * (360.0 / n)
    before, after = one(curve, angles), one(np.roll(curve, turn), angles)
    assert wrapped(after["preferred_deg"], before["preferred_deg"] + turn * 360 / n) < 1e-9
    if before["r1"] > 1e-3:
        assert wrapped(after["circular_mean_deg"], before["circular_mean_deg"] + turn * 360 / n) < 1e-6
    for name in ("r1", "r2", "fwhm_deg", "echo", "peak"):
        assert after[name] == pytest.approx(before[name], abs=1e-9), name


@given(curve=distinct_curves(), scale=st.floats(1e-9, 1e9))
@PROPERTY
def test_scaling_a_curve_scales_its_peak_and_nothing_else(curve, scale):
    angles = np.arange(curve.size) * (360.0 / curve.size)
    before, after = one(curve, angles), one(scale * curve, angles)
    assert after["peak"] == pytest.approx(scale * before["peak"])
    for name in ("preferred_deg", "r1", "r2", "fwhm_deg", "echo"):
        assert after[name] == pytest.approx(before[name], abs=1e-9), name


@given(curve=distinct_curves())
@PROPERTY
def test_statistics_stay_in_range(curve):
    stats = one(curve, np.arange(curve.size) * (360.0 / curve.size))
    assert 0 <= stats["preferred_deg"] < 360
    assert 0 <= stats["circular_mean_deg"] <= 360
    assert 0 <= stats["r1"] <= 1 + 1e-12
    assert 0 <= stats["r2"] <= 1 + 1e-12
    assert 0 <= stats["echo"] <= 1
    assert 0 < stats["fwhm_deg"] <= 360


@given(curve=distinct_curves())
@PROPERTY
def test_resultants_are_the_coefficients_of_the_fourier_series(curve):
    positive = np.maximum(curve, 0)
    series = np.abs(np.fft.fft(positive)) / positive.sum()
    stats = one(curve, np.arange(curve.size) * (360.0 / curve.size))
    np.testing.assert_allclose([stats["r1"], stats["r2"]], series[1:3], atol=1e-12)


def test_units_do_not_influence_one_another():
    curves = np.random.default_rng(0).standard_normal((9, 36))
    together = tuning_statistics(curves, COARSE)
    for u, curve in enumerate(curves):
        for name, value in one(curve, COARSE).items():
            assert getattr(together, name)[u] == value


# Alignment


def rolled_correlations(a, b):
    return np.array([np.corrcoef(np.roll(a, s), b)[0, 1] for s in range(a.size)])


@pytest.mark.parametrize("steps", [0, 1, 7, 17, 18, 19, 35])
def test_shift_turns_a_into_b(steps):
    """Sign convention: `a` rotated by the shift towards larger angles resembles `b`."""
    a = von_mises(4, 60, COARSE) + 0.3 * von_mises(9, 150, COARSE)
    got = align_tuning(a[None], np.roll(a, steps)[None], COARSE)
    expected = 10.0 * steps if steps <= 18 else 10.0 * steps - 360
    assert got.shift_deg[0] == expected
    assert got.r_aligned[0] == pytest.approx(1.0, abs=1e-12)


def test_shift_of_preferences_is_b_minus_a():
    a, b = von_mises(6, 350, COARSE), von_mises(6, 40, COARSE)
    assert align_tuning(a[None], b[None], COARSE).shift_deg[0] == 50.0


@pytest.mark.parametrize("n", [8, 24, 35, 72])
def test_alignment_against_every_rotation(n):
    rng = np.random.default_rng(n)
    angles = np.arange(n) * (360.0 / n)
    a, b = rng.standard_normal((2, 12, n))
    got = align_tuning(a, b, angles)
    for u in range(12):
        r = rolled_correlations(a[u], b[u])
        assert got.r_tuning[u] == pytest.approx(np.corrcoef(a[u], b[u])[0, 1], abs=1e-12)
        assert got.r_aligned[u] == pytest.approx(r.max(), abs=1e-12)
        assert wrapped(got.shift_deg[u], r.argmax() * 360.0 / n) < 1e-9
        assert -180 < got.shift_deg[u] <= 180


def test_tie_goes_to_the_smallest_rotation():
    axis = np.exp(3 * np.cos(2 * np.deg2rad(COARSE)))  # a period of 180 degrees: two rotations fit equally well
    for steps, expected in ((0, 0.0), (4, 40.0), (13, -50.0)):
        assert align_tuning(axis[None], np.roll(axis, steps)[None], COARSE).shift_deg[0] == expected


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, -7.0])
def test_constant_curve_has_no_correlation(level):
    tuned, flat = von_mises(3, 0, COARSE), np.full(36, level)
    got = align_tuning([tuned, flat, tuned], [flat, tuned, tuned], COARSE)
    for values in (got.r_tuning, got.r_aligned, got.shift_deg):
        assert np.isnan(values[:2]).all()
        assert np.isfinite(values[2])


@given(
    a=st.lists(st.integers(-20, 20), min_size=12, max_size=12),
    b=st.lists(st.integers(-20, 20), min_size=12, max_size=12),
    scale=st.floats(1e-3, 1e3),
    level=st.floats(-10, 10),
)
@PROPERTY
def test_alignment_ignores_scale_and_level_and_swaps_sign(a, b, scale, level):
    assume(np.ptp(a) > 0)
    assume(np.ptp(b) > 0)
    angles = np.arange(12) * 30.0
    plain = align_tuning([a], [b], angles)
    moved = align_tuning([scale * np.array(a) + level], [b], angles)
    back = align_tuning([b], [a], angles)
    for other in (moved, back):
        assert other.r_aligned[0] == pytest.approx(plain.r_aligned[0], abs=1e-8)
        assert other.r_tuning[0] == pytest.approx(plain.r_tuning[0], abs=1e-8)
    assert plain.r_tuning[0] <= plain.r_aligned[0] <= 1
    r = np.sort(rolled_correlations(np.array(a), np.array(b)))
    if r[-1] - r[-2] > 1e-6:  # otherwise ties decide
        assert moved.shift_deg[0] == plain.shift_deg[0]
        assert wrapped(back.shift_deg[0], -plain.shift_deg[0]) < 1e-9


# Angles and families


@given(a=st.floats(-1e4, 1e4), b=st.floats(-1e4, 1e4))
@PROPERTY
def test_circular_difference_is_wrapped(a, b):
    got = float(circular_difference(a, b))
    assert -180 < got <= 180
    assert np.isclose(np.cos(np.deg2rad(got)), np.cos(np.deg2rad(a - b)), atol=1e-8)
    assert np.isclose(np.sin(np.deg2rad(got)), np.sin(np.deg2rad(a - b)), atol=1e-8)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(0, 0, 0), (180, 0, 180), (0, 180, 180), (359, 1, -2), (1, 359, 2), (540, 0, 180)]
)
def test_circular_difference_at_the_seam(a, b, expected):
    assert float(circular_difference(a, b)) == expected


@given(angles=st.lists(st.integers(0, 359), min_size=2, max_size=12), turn=st.integers(-720, 720))
@PROPERTY
def test_largest_gap_by_walking_round(angles, turn):
    taken = set(angles)
    assume(len(taken) > 1)
    longest = max(next(d for d in range(1, 361) if (a + d) % 360 in taken) for a in taken)
    assert largest_gap(angles) == longest
    assert largest_gap([a + turn for a in angles]) == longest


@pytest.mark.parametrize("angles", [[], [12.0]])
def test_largest_gap_of_fewer_than_two(angles):
    assert largest_gap(angles) == 360.0


@given(angles=st.lists(st.floats(0, 359.99), max_size=30), bins=st.sampled_from([4, 12, 36]))
@PROPERTY
def test_coverage_by_counting(angles, bins):
    edges = np.arange(bins + 1) * (360 / bins)
    held = sum(any(low <= a < high for a in angles) for low, high in itertools.pairwise(edges))
    assert coverage(angles, bins) == pytest.approx(held / bins)


def test_coverage_closed_forms():
    assert coverage(np.arange(12) * 30.0) == 1.0
    assert coverage([360.0, 0.0, -1e-17, 29.9]) == pytest.approx(1 / 12)


# Shape of a family


@pytest.mark.parametrize("n", [9, 24])
def test_best_shift_correlation_by_loops(n):
    curves = np.random.default_rng(n).standard_normal((7, n))
    pairs = [rolled_correlations(a, b).max() for a, b in itertools.combinations(curves, 2)]
    assert best_shift_correlation(curves, np.arange(n) * (360 / n)) == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("at_once", [1, 500, 1500])
def test_best_shift_correlation_does_not_depend_on_the_blocks(monkeypatch, at_once):
    curves = np.random.default_rng(0).standard_normal((11, 36))
    whole = best_shift_correlation(curves, COARSE)
    monkeypatch.setattr(tuning, "_PAIRS_AT_ONCE", at_once)
    assert best_shift_correlation(curves, COARSE) == pytest.approx(whole, abs=1e-12)


def test_rotated_copies_are_alike():
    family = [gain * von_mises(5, mu, COARSE) + level for mu, gain, level in ((0, 1, 0), (40, 7, 3), (250, 0.1, -1))]
    assert best_shift_correlation(family, COARSE) == pytest.approx(1.0, abs=1e-12)
    assert best_shift_correlation(family, COARSE) <= 1.0


@pytest.mark.parametrize(("first", "second"), [(1.0, 4.0), (2.0, 9.0)])
def test_best_shift_correlation_of_two_widths_of_von_mises_curves(first, second):
    """Fourier coefficients of exp(k cos) are Bessel functions I_m(k), all positive: the best shift aligns the peaks."""
    order = np.arange(1, 60)
    a, b = ive(order, first), ive(order, second)
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    came = best_shift_correlation([von_mises(first, 10), von_mises(second, 200)], ANGLES)
    assert came == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("curves", [np.empty((0, 36)), von_mises(3, 0, COARSE)[None]], ids=["none", "one"])
def test_fewer_than_two_units_are_no_family(curves):
    assert np.isnan(best_shift_correlation(curves, COARSE))


def test_family_with_a_constant_curve_has_no_likeness():
    assert np.isnan(best_shift_correlation([von_mises(3, 0, COARSE), von_mises(3, 50, COARSE), np.ones(36)], COARSE))


# Uniformity


@pytest.mark.parametrize(("n", "common"), [(6, 0.0), (12, 0.3), (40, 0.2), (200, 0.1)])
def test_rayleigh_against_another_expansion(n, common):
    """Wilkie 1983: exp(-z) (1 + (2 z - z^2) / 4 n - (24 z - 132 z^2 + 76 z^3 - 9 z^4) / 288 n^2), z = n R^2."""
    rng = np.random.default_rng(n)
    angles = np.rad2deg(rng.vonmises(1.0, common, n))
    z = n * np.abs(np.exp(1j * np.deg2rad(angles)).mean()) ** 2
    terms = (2 * z - z**2) / (4 * n) - (24 * z - 132 * z**2 + 76 * z**3 - 9 * z**4) / (288 * n**2)
    came = rayleigh(angles)
    assert came.statistic == pytest.approx(2 * z)
    assert came.p == pytest.approx(np.exp(-z) * (1 + terms), abs=0.004)


@pytest.mark.parametrize("n", [5, 12, 50])
def test_rayleigh_against_uniform_angles(n):
    """The share of uniform families with a p below a level is that level."""
    drawn = np.random.default_rng(n).uniform(0, 360, (8000, n))
    p = np.array([rayleigh(family).p for family in drawn])
    for level in (0.01, 0.05, 0.2, 0.5):
        error = 4 * np.sqrt(level * (1 - level) / len(p))
        assert (p < level).mean() == pytest.approx(level, abs=error + 0.02 / n)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_rayleigh_of_even_and_of_equal_angles(n):
    even, equal = rayleigh(np.arange(n) * (360 / n) + 12), rayleigh(np.full(n, 77.0))
    assert even.statistic == pytest.approx(0, abs=1e-12)
    assert even.p == pytest.approx(1.0)
    assert equal.statistic == pytest.approx(2 * n)
    assert equal.p == pytest.approx(np.exp(-(n - 0.5 + n / 4)))


@pytest.mark.parametrize("angles", [[], [30.0], [10.0, np.nan, 20.0]])
def test_rayleigh_without_a_family(angles):
    came = rayleigh(angles)
    assert np.isnan(came.statistic)
    assert np.isnan(came.p)


# Agreement of a unit's variants


@pytest.mark.parametrize("variants", [2, 3, 5])
def test_least_pairwise_correlation_by_loops(variants):
    curves = np.random.default_rng(variants).standard_normal((6, variants, 24))
    expected = [min([np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(unit, 2)]) for unit in curves]
    np.testing.assert_allclose(least_pairwise_correlation(curves), expected, atol=1e-12)


def test_pairwise_correlation_without_pairs_and_with_a_constant_curve():
    curves = np.random.default_rng(0).standard_normal((3, 2, 24))
    curves[1, 0] = 0.7
    assert np.isnan(least_pairwise_correlation(curves)).tolist() == [False, True, False]
    assert least_pairwise_correlation(curves[:, :1]).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("odd", [0, 1, 3])
def test_one_odd_variant_decides_the_least_correlation(odd):
    """Its mirror image in level: -1 with each of the others, whatever the mean says."""
    curves = np.tile(von_mises(4, 60, COARSE), (1, 4, 1))
    curves[0, odd] = 1 - curves[0, odd]
    assert least_pairwise_correlation(curves)[0] == pytest.approx(-1.0)


@given(order=st.permutations(range(4)), scale=st.floats(1e-3, 1e3), level=st.floats(-5, 5))
@PROPERTY
def test_least_correlation_ignores_order_scale_and_level(order, scale, level):
    curves = np.random.default_rng(1).standard_normal((5, 4, 24))
    plain = least_pairwise_correlation(curves)
    np.testing.assert_allclose(least_pairwise_correlation(scale * curves[:, order] + level), plain, atol=1e-9)


def test_correlation_of_equal_curves_is_not_above_1():
    """Not by the last bit: the schema states -1 to 1."""
    curves = np.random.default_rng(0).random((2000, 1, 36)).repeat(4, axis=1)
    for sign in (1, -1):
        opposed = curves * np.array([1, sign, 1, sign])[:, None]
        assert np.abs(least_pairwise_correlation(opposed)).max() <= 1.0


def direction_by_hand(curve, angles):
    """Circular mean of what is above 0, degrees, from sums of sines and cosines."""
    weight = [max(value, 0.0) for value in curve]
    turns = [np.deg2rad(angle) for angle in angles]
    sine, cosine = (sum(w * f(t) for w, t in zip(weight, turns, strict=True)) for f in (np.sin, np.cos))
    return np.rad2deg(np.arctan2(sine, cosine))


@pytest.mark.parametrize("variants", [1, 2, 4])
def test_largest_deviation_by_loops(variants):
    curves = np.random.default_rng(variants).standard_normal((9, variants, 36))
    expected = []
    for unit in curves:
        together = direction_by_hand(np.maximum(unit, 0).mean(axis=0), COARSE)
        expected.append(max(wrapped(direction_by_hand(curve, COARSE), together) for curve in unit))
    np.testing.assert_allclose(largest_deviation(curves, COARSE), expected, atol=1e-9)


@pytest.mark.parametrize("mu", [0.0, 5.0, 175.0, 180.0, 356.0])
def test_largest_deviation_wraps_at_the_full_turn(mu):
    """Two variants 20 degrees to either side of `mu`: their mean points to `mu`, wherever the seam lies."""
    curves = np.stack([von_mises(6, mu + side, COARSE) for side in (-20, 20)])[None]
    assert largest_deviation(curves, COARSE)[0] == pytest.approx(20.0, abs=1e-6)


def test_a_strong_variant_pulls_the_mean_direction():
    """The resultants are 3 and 1 long, 90 degrees apart: the mean lies atan(1 / 3) from the longer."""
    curves = np.stack([3 * von_mises(6, 100, COARSE), von_mises(6, 190, COARSE)])[None]
    assert largest_deviation(curves, COARSE)[0] == pytest.approx(90 - np.rad2deg(np.arctan(1 / 3)), abs=1e-6)


def test_a_single_variant_does_not_deviate():
    curves = np.random.default_rng(0).random((7, 1, 36))
    np.testing.assert_allclose(largest_deviation(curves, COARSE), 0.0, atol=1e-9)


@given(turn=st.integers(0, 35), scale=st.floats(1e-6, 1e6))
@PROPERTY
def test_largest_deviation_ignores_turns_and_scale_and_stays_in_range(turn, scale):
    curves = np.random.default_rng(2).standard_normal((6, 3, 36))
    plain = largest_deviation(curves, COARSE)
    assert ((plain >= 0) & (plain <= 180)).all()
    np.testing.assert_allclose(largest_deviation(scale * np.roll(curves, turn, axis=2), COARSE), plain, atol=1e-6)


@pytest.mark.parametrize(
    "curve",
    [np.zeros(36), np.full(36, 0.7), np.full(36, -1.0), np.exp(2 * np.cos(2 * np.deg2rad(COARSE)))],
    ids=["silent", "constant", "negative", "axis"],
)
def test_a_variant_without_direction_has_no_deviation(curve):
    tuned = von_mises(4, 60, COARSE)
    got = largest_deviation([[tuned, curve], [curve, tuned], [tuned, tuned]], COARSE)
    assert np.isnan(got).tolist() == [True, True, False]


def test_opposite_variants_of_equal_strength_have_no_mean_direction():
    curves = np.stack([von_mises(4, 60, COARSE), von_mises(4, 240, COARSE)])[None]
    assert np.isnan(largest_deviation(curves, COARSE)).all()


# Refusals


@pytest.mark.parametrize(
    ("curves", "angles", "message"),
    [
        (np.ones(36), COARSE, r"array of curves has shape \(36,\), expected \(units, angles\); one curve is"),
        (np.ones((2, 35)), COARSE, r"has shape \(2, 35\) and that of angles \(36,\)"),
        (np.ones((2, 36)), COARSE[None], r"array of angles has shape \(1, 36\)"),
        (np.ones((2, 3)), np.arange(3) * 120.0, "at least 4 angles"),
        (np.full((1, 36), np.nan), COARSE, "NaN or infinite"),
        (np.full((1, 36), np.inf), COARSE, "NaN or infinite"),
        (np.ones((1, 36)), COARSE / 2, "not evenly spaced by 10 degrees"),
        (np.ones((1, 36)), COARSE[::-1], "not evenly spaced"),
        (np.ones((1, 36)), np.linspace(0, 360, 36), "not evenly spaced"),
        (np.ones((1, 36)), np.where(COARSE == 50, np.nan, COARSE), "array of angles has NaN or infinite values"),
        ([["high", "low", "high", "low"]], np.arange(4) * 90.0, "numbers"),
        ([[1.0, 2.0], [1.0]], np.arange(2) * 180.0, "numbers"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(curves, angles, message):
    with pytest.raises(MeasureError, match=message) as caught:
        tuning_statistics(curves, angles)
    assert "\n" not in str(caught.value)


def test_alignment_refuses_unequal_curves():
    with pytest.raises(MeasureError, match=r"shapes \(2, 36\) and \(3, 36\), expected equal ones"):
        align_tuning(np.ones((2, 36)), np.ones((3, 36)), COARSE)


# The published family


@pytest.mark.parametrize("name", GOLDEN)
def test_published_figures_fit_together(name):
    """The facts of the units give the facts of their family."""
    units, family = GOLDEN[name]["units"].values(), GOLDEN[name]["family"]
    assert len(units) == family["n"]
    assert largest_gap([unit["preferred_deg"] for unit in units]) == family["largest_gap_deg"]
    assert np.mean([unit["echo"] for unit in units]) == pytest.approx(family["mean_echo"], abs=1e-4)


REFERENCE = os.environ.get("UNIVERSALITY_REFERENCE")
needs_reference = pytest.mark.skipif(
    REFERENCE is None, reason="UNIVERSALITY_REFERENCE names no folder that holds distill/tuning-*.json"
)


def published(name):
    """Unit numbers, curves (unit, angle) and angles from the data files of the article."""
    data = json.loads((Path(REFERENCE) / "distill" / f"tuning-{name}.json").read_text())
    return list(data["units"]), np.array(list(data["units"].values()), dtype=np.float64), np.array(data["angles_deg"])


@needs_reference
@pytest.mark.parametrize("name", GOLDEN)
def test_published_units(name):
    numbers, curves, angles = published(name)
    stats = tuning_statistics(curves, angles)
    assert sorted(numbers) == sorted(GOLDEN[name]["units"])
    for u, number in enumerate(numbers):
        expected = GOLDEN[name]["units"][number]
        for key in ("preferred_deg", "circular_mean_deg"):
            assert wrapped(getattr(stats, key)[u], expected[key]) <= 0.5, (number, key)
        assert stats.fwhm_deg[u] == pytest.approx(expected["fwhm_deg"], abs=0.5), number
        assert stats.r1[u] == pytest.approx(expected["R1"], abs=1e-3), number
        assert stats.echo[u] == pytest.approx(expected["echo"], abs=1e-3), number
        assert stats.peak[u] == pytest.approx(expected["peak"], abs=1e-3), number


@needs_reference
@pytest.mark.parametrize("name", GOLDEN)
def test_published_family(name):
    _, curves, angles = published(name)
    expected = GOLDEN[name]["family"]
    first, second = np.triu_indices(len(curves), 1)
    aligned = align_tuning(curves[first], curves[second], angles).r_aligned
    stats = tuning_statistics(curves, angles)
    assert best_shift_correlation(curves, angles) == pytest.approx(expected["mean_aligned_r"], abs=1e-3)
    assert aligned.min() == pytest.approx(expected["min_aligned_r"], abs=1e-3)
    assert stats.echo.mean() == pytest.approx(expected["mean_echo"], abs=1e-3)
    assert largest_gap(stats.preferred_deg) == pytest.approx(expected["largest_gap_deg"], abs=0.5)


# Mirror symmetry


@pytest.mark.parametrize("mu", [0.0, 7.3, 181.0])
def test_curves_about_one_axis_are_their_own_mirror_images(mu):
    """Also between the sampled angles, and where another curve has two lobes about the same axis."""
    unit = [von_mises(3, mu, COARSE), von_mises(3, mu - 40, COARSE) + von_mises(3, mu + 40, COARSE)]
    assert mirror_symmetry([unit], COARSE)[0] == pytest.approx(1.0, abs=1e-9)


def test_mirror_symmetry_is_the_correlation_with_the_reversed_curves():
    """About 0 degrees the mirror image of sample k is sample -k: both kinds of angle counts, one with a last harmonic."""
    for count in (24, 25):
        angles = np.arange(count) * 360 / count
        odd = np.sin(2 * np.deg2rad(angles)) * 0.7 + np.sin(3 * np.deg2rad(angles)) * 0.4
        curves = np.stack([von_mises(2, 0, angles), von_mises(2, 0, angles) + odd])
        mirrored = curves[:, -np.arange(count)]
        a, b = (x - x.mean(axis=1, keepdims=True) for x in (curves, mirrored))
        # The odd part is orthogonal to the first harmonic, so where it is not cut at 0 the axis stays at 0.
        expected = (a * b).sum() / (a * a).sum()
        assert mirror_symmetry([curves + 2], angles)[0] == pytest.approx(expected, abs=1e-9)


def test_lopsided_and_constant_curves_are_not_symmetric():
    lopsided = von_mises(8, 0, COARSE) + 0.6 * von_mises(8, 75, COARSE)
    values = mirror_symmetry([[lopsided], [np.ones(COARSE.size)], [np.zeros(COARSE.size)]], COARSE)
    assert values[0] < 0.7
    assert np.isnan(values[1:]).all()
