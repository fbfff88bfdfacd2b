"""Intervals of s_w, on wirings whose sources are drawn from a population that is known."""

import numpy as np
import pytest

from universality.base.intervals import correlation_interval
from universality.circuits.profiles import BINS
from universality.circuits.wirings import ByMatch, Parts, alike, wiring_of

PLACES = 9


def profiles(shared, rng):
    """The mean weight by bin and place, of two networks that share so much of it."""
    common = rng.standard_normal((BINS, PLACES))
    return [np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.standard_normal((BINS, PLACES)) for _ in range(2)]


def detectors(profile, count, noise, rng):
    """Sources of any angle, each with its own departure from the profile."""
    bins = rng.integers(BINS, size=count)
    return Parts([(profile[bins] + noise * rng.standard_normal((count, PLACES)), bins)])


def test_by_angle_the_interval_holds_what_s_w_is_on_average():
    """Percentiles of the resamples lie too low: drawing few sources anew adds noise that s_w has once already."""
    rng = np.random.default_rng(1)
    misses = {"about s_w": [], "percentiles": []}
    for count, noise, shared in ((14, 0.7, 0.8), (40, 0.7, 0.9), (40, 1.5, 0.5), (24, 1.0, 0.7)) * 8:
        of = profiles(shared, rng)
        drawn = [[detectors(one, count, noise, rng) for one in of] for _ in range(130)]
        every = np.array([alike(a.wiring(), b.wiring())[0] for a, b in drawn])
        true = np.nanmean(every)
        for (a, b), s_w in zip(drawn[:12], every, strict=False):
            resampled = alike(a.resampled(rng), b.resampled(rng))
            about = [end[0] for end in correlation_interval(np.array([s_w]), resampled[:, None], count)]
            for how, (low, high) in (("about s_w", about), ("percentiles", np.nanquantile(resampled, [0.025, 0.975]))):
                misses[how].append((true > high, true < low))
    below, above = np.mean(misses["about s_w"], axis=0)
    assert 0.93 <= 1 - below - above <= 0.97 and below < 0.045 and above < 0.045
    below, above = np.mean(misses["percentiles"], axis=0)
    assert below > 0.1 and above < 0.01


@pytest.mark.parametrize(("count", "rho"), [(12, 0.5), (40, 0.3)])
def test_by_match_the_interval_holds_what_s_w_is_on_average(count, rho):
    rng = np.random.default_rng(count)
    index = ByMatch(np.arange(count), np.arange(count), 1.0)

    def drawn():
        x, z = rng.standard_normal((2, count, PLACES))
        return [wiring_of(of[None])[0] for of in (x, rho * x + np.sqrt(1 - rho**2) * z)]

    true = np.mean([(x * y).sum() for x, y in (drawn() for _ in range(500))])
    held = []
    for _ in range(200):
        x, y = drawn()
        low, high = correlation_interval(np.array([(x * y).sum()]), index.resampled(x, y, rng)[:, None], count)
        held.append(low[0] <= true <= high[0])
    assert 0.9 <= np.mean(held) <= 0.995
