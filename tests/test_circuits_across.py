"""Circuits across networks: a permuted copy has the same, the same answers through other weights have another, chance is at 0."""

import numpy as np
import pytest
from test_circuits_profiles import cosine, units, wired

from universality.circuits import across
from universality.circuits.across import alike, family_alike, matched, mixed, permuted, wiring
from universality.circuits.profiles import Units

ANGLES = np.arange(8) * 45.0


def of(of_difference, ahead=0.5, noise=0.0, seed=0, order=None):
    """The wiring of eight targets to eight sources, in an order of the network's own."""
    weights = wired(ANGLES, ANGLES, of_difference, ahead)
    weights = weights + noise * np.random.default_rng(seed).standard_normal(weights.shape)
    order = np.arange(8) if order is None else order
    own = weights.isel(unit_b=order, unit_a=order).assign_coords(unit_b=np.arange(8), unit_a=np.arange(8))
    labels = units(ANGLES[order])
    return own, labels, wiring(own, labels, {"sources": labels})


def test_a_permuted_copy_has_the_same_circuit():
    order = np.random.default_rng(1).permutation(8)
    a, b = of(cosine)[2], of(cosine, order=order)[2]
    found = alike(a.offset, b.offset)
    pairs = [(int(order[k]), k) for k in range(8)]
    own, _ = matched(found, pairs)
    np.testing.assert_allclose(own, 1.0, atol=1e-6)
    assert family_alike(a, b) == pytest.approx(1.0, abs=1e-6)
    assert family_alike(a, b, "angle") == pytest.approx(1.0, abs=1e-6)


def test_the_same_angles_through_other_weights_are_another_circuit():
    """Excitation from the same angle in one network, inhibition from the opposite alone in the other: both prefer their own angle."""
    excited = of(lambda d: float(abs((d + 180) % 360 - 180) < 20), ahead=0.0)[2]
    inhibited = of(lambda d: -float(abs(d % 360 - 180) < 20), ahead=0.0)[2]
    assert family_alike(excited, inhibited) < 0.5
    assert np.nanmax(alike(excited.offset, inhibited.offset)) < 0.5


def test_exchanged_angles_and_random_directions_are_chance():
    weights, labels, a = of(cosine, noise=0.1)
    rng = np.random.default_rng(0)
    by_labels = [family_alike(a, wiring(weights, labels, permuted({"sources": labels}, rng))) for _ in range(40)]
    directions, angles = mixed(weights, 40, rng)
    by_mixture = alike(a.offset, wiring(directions, angles, {"sources": labels}).offset)
    b = of(cosine, noise=0.1, seed=1)[2]
    assert family_alike(a, b) > np.quantile(by_labels, 0.95)
    own, _ = matched(alike(a.offset, b.offset), [(k, k) for k in range(8)])
    assert abs(np.nanmean(by_mixture)) < 0.3 < np.median(own)


def test_unmatched_targets_of_an_equivariant_family_are_as_alike():
    a, b = of(cosine)[2], of(cosine)[2]
    own, others = matched(alike(a.offset, b.offset), [(k, k) for k in range(8)])
    np.testing.assert_allclose(own, 1.0, atol=1e-6)
    assert others.min() > 0.9


def test_too_little_in_common_is_not_a_number():
    some = np.full((2, 30), np.nan)
    some[:, :5] = 1.0
    assert np.isnan(alike(some, some)).all()
    assert np.isnan(alike(np.ones((1, 30)), np.arange(30.0)[None])).all()
    own, others = matched(np.full((1, 1), 0.5), [(0, 0)])
    assert own[0] == 0.5 and np.isnan(others[0])
    assert across.LEAST_ENTRIES == 12


def test_sources_of_a_family_that_is_not_there_leave_nothing():
    weights, labels, _ = of(cosine)
    none = Units(np.array([], dtype=np.int64), np.array([]))
    found = wiring(weights, labels, {"sources": labels, "none": none})
    assert np.isnan(found.angle[:, 1]).all() and np.isfinite(found.angle[:, 0]).all()
