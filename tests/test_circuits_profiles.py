"""Profiles of weights by relative angle and by offset in the target's frame, on weights whose wiring is known."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from universality.base.errors import MeasureError
from universality.circuits import profiles
from universality.circuits.profiles import Units

ANGLES = np.arange(16) * 22.5
STRIDE = 4.0


def wired(targets, sources, of_difference, ahead=0.0, size=5):
    """Weights of a known wiring: `of_difference` (degrees) in the middle, and `ahead` one step along the target's preferred direction."""
    offsets = (np.arange(size) - size // 2) * STRIDE
    values = np.zeros((len(targets), len(sources), size, size))
    for i, own in enumerate(targets):
        step = np.rint([np.sin(np.deg2rad(own)), np.cos(np.deg2rad(own))]).astype(int)
        for j, other in enumerate(sources):
            values[i, j, size // 2, size // 2] = of_difference(other - own)
            values[i, j, size // 2 + step[0], size // 2 + step[1]] += ahead
    return xr.DataArray(
        values.astype(np.float32), dims=("unit_b", "unit_a", "dy", "dx"),
        coords={"unit_b": np.arange(len(targets)), "unit_a": np.arange(len(sources)), "dy": offsets, "dx": offsets},
    )  # fmt: skip


def cosine(degrees):
    return np.cos(np.deg2rad(degrees))


def units(angles):
    return Units(np.arange(len(angles)), np.asarray(angles, dtype=float))


def test_the_profile_is_the_wiring():
    angles = np.arange(8) * 45.0
    found = profiles.angle_profiles(wired(angles, angles, cosine), units(angles), units(angles))
    np.testing.assert_allclose(found, np.tile(cosine(angles), (8, 1)), atol=1e-6)


@settings(deadline=None)
@given(st.floats(0, 360), st.permutations(range(16)))
def test_turning_all_angles_and_reordering_sources_changes_nothing(turn, order):
    weights = wired(ANGLES, ANGLES, cosine)
    own, sources = units(ANGLES), units(ANGLES)
    before = profiles.angle_profiles(weights, own, sources, bins=16)
    turned = profiles.angle_profiles(weights, units((ANGLES + turn) % 360), units((ANGLES + turn) % 360), bins=16)
    np.testing.assert_allclose(turned, before, atol=1e-6)
    order = np.array(order)
    mixed = profiles.angle_profiles(weights, own, Units(sources.unit[order], sources.angle_deg[order]), bins=16)
    np.testing.assert_allclose(mixed, before, atol=1e-6)


def test_a_difference_that_no_source_has_is_not_a_number():
    found = profiles.angle_profiles(wired(ANGLES[:1], ANGLES[:3], cosine), units(ANGLES[:1]), units(ANGLES[:3]))
    # 22.5 degrees lie between two bins: of two equally near the even one.
    assert np.isfinite(found[0, [0, 1]]).all() and np.isnan(found[0, 2:]).all()


def test_offsets_are_in_the_targets_own_frame():
    angles = np.arange(8) * 45.0
    found = profiles.offset_profiles(
        wired(angles, angles, lambda d: 0.0, ahead=1.0), units(angles), units(angles), side_px=STRIDE * 1.2
    )
    assert found.shape == (8, 8, 3, 3)
    expected = np.zeros((3, 3))
    expected[1, 2] = 1.0  # ahead, whatever the target prefers
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-6)


def test_offsets_summed_are_the_profile_where_all_of_them_count():
    angles = np.arange(8) * 45.0
    weights = wired(angles, angles, cosine, ahead=0.5)
    places = profiles.offset_profiles(weights, units(angles), units(angles), side_px=100.0)
    np.testing.assert_allclose(
        places.sum((2, 3)), profiles.angle_profiles(weights, units(angles), units(angles)), atol=1e-6
    )


def test_weights_in_sigma_per_sigma():
    weights = wired(ANGLES[:2], ANGLES[:3], lambda d: 1.0)
    found = profiles.sigma_per_sigma(weights, [1.0, 2.0, 0.0], [4.0, 0.0])
    np.testing.assert_allclose(found.sum(("dy", "dx")).values, [[0.25, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert found.attrs["units"] == "sigma per sigma"


def test_weights_by_their_size():
    weights = wired(ANGLES[:2], ANGLES, cosine, ahead=0.5) * xr.DataArray([3.0, 0.0], dims="unit_b")
    found = profiles.rms(weights).values
    # Squares are summed over places, and their mean is over sources.
    assert np.sqrt((found[0] ** 2).sum(axis=(1, 2)).mean()) == pytest.approx(1.0, rel=1e-6)
    assert not found[1].any()


def test_the_size_of_weights_does_not_depend_on_the_window_around_them():
    narrow, wide = (wired(ANGLES[:2], ANGLES, cosine, ahead=0.5, size=size) for size in (3, 9))
    found = [profiles.rms(of) for of in (narrow, wide)]
    np.testing.assert_allclose(found[1].sel(dx=narrow["dx"], dy=narrow["dy"]).values, found[0].values, rtol=1e-6)
    np.testing.assert_allclose(
        *(profiles.angle_profiles(of, units(ANGLES[:2]), units(ANGLES)) for of in found), rtol=1e-6
    )


def test_the_share_within_squares_is_that_of_the_squared_weights():
    weights = wired(ANGLES[:1], ANGLES[:4], cosine, size=9)
    rng = np.random.default_rng(0)
    weights = weights.copy(data=rng.standard_normal(weights.shape).astype(np.float32))
    x, y = np.meshgrid(weights["dx"].values, weights["dy"].values)
    # By hand: squares of 8 px reach 12 px from the middle.
    for disc, inside in ((False, np.maximum(abs(x), abs(y)) <= 12), (True, np.hypot(x, y) <= 12)):
        power = np.square(weights.values.astype(float)).sum(axis=1)[0]
        found = profiles.share_within(weights, 8.0, 3, disc=disc)
        assert found[0] == pytest.approx(power[inside].sum() / power.sum(), abs=1e-9)
    assert np.isnan(profiles.share_within(weights * 0, 8.0)[0])


def test_families_of_other_periods_are_not_compared():
    axis = Units(np.arange(3), np.zeros(3), 180.0)
    with pytest.raises(
        MeasureError, match="targets repeat after 360 degrees and sources after 180, expected one period"
    ):
        profiles.angle_profiles(wired(ANGLES[:3], ANGLES[:3], cosine), units(ANGLES[:3]), axis)
