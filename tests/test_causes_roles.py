"""Whether circuits predict roles: the mixed model against closed forms, and planted tables."""

import itertools

import numpy as np
import pandas as pd
import pytest

from universality.causes import mixed
from universality.causes.roles import role_rows
from universality.causes.tables import CIRCUIT_AND_ROLE


def test_balanced_groups_give_the_estimates_of_the_analysis_of_variance():
    # Of a balanced one-way layout REML is the analysis of variance, in closed form.
    rng = np.random.default_rng(0)
    groups, each = 9, 6
    y = rng.standard_normal((groups, each)) + 2 * rng.standard_normal((groups, 1)) + 3
    within = y.var(axis=1, ddof=1).mean()
    between = each * y.mean(axis=1).var(ddof=1)
    found = mixed.fit(y.ravel(), np.ones((y.size, 1)), [np.repeat(np.eye(groups), each, axis=0)])
    np.testing.assert_allclose(found.residual, within, rtol=1e-3)
    np.testing.assert_allclose(found.variances[0], (between - within) / each, rtol=1e-3)
    np.testing.assert_allclose(found.slopes[0], y.mean())
    np.testing.assert_allclose(found.errors[0], np.sqrt(between / y.size), rtol=1e-3)


def test_without_groups_that_vary_it_is_least_squares():
    rng = np.random.default_rng(1)
    x = np.stack([np.ones(60), rng.standard_normal(60)], axis=1)
    y = x @ [1.0, 2.0] + rng.standard_normal(60) * 0.1
    y -= np.kron(np.eye(6), np.full((10, 10), 0.1)) @ (y - x @ np.linalg.lstsq(x, y, rcond=None)[0])
    found = mixed.fit(y, x, [np.repeat(np.eye(6), 10, axis=0)])
    np.testing.assert_allclose(found.slopes, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-3)
    assert found.variances[0] < 0.1 * found.residual


def tables(slope, r_slope=0.0, confounded=0.0):
    """Matched units of five networks: recovery grows with s_w by `slope`; s_w follows r by `confounded`."""
    rng = np.random.default_rng(2)
    own = dict(zip("vwxyz", rng.standard_normal(5), strict=True))
    units, circuits = [], []
    for a, b in itertools.combinations("vwxyz", 2):
        for unit in range(12):
            key = {
                "model_a": a,
                "model_b": b,
                "tap_a": "t",
                "tap_b": "t",
                "family": "f",
                "unit_a": unit,
                "unit_b": unit,
            }
            r = rng.standard_normal()
            s_w = confounded * r + rng.standard_normal()
            recovery = 0.1 * (slope * s_w + r_slope * r + own[a] + own[b] + 0.5 * rng.standard_normal())
            circuits.append({**key, "sources": "match", "back": 1, "s_w": s_w})
            units += [
                {**key, "into": into, "what": "unit", "base": "mean", "measure": "kl", "recovery": recovery, "r": r}
                for into in "ab"
            ]
    return pd.DataFrame(units), pd.DataFrame(circuits)


def row(found, sources, family="f"):
    return found[(found["sources"] == sources) & (found["family"] == family)].iloc[0]


def test_a_circuit_that_decides_the_role_is_seen_and_one_that_follows_responses_is_not():
    cause = row(role_rows(*tables(1.0), seed=0), "match")
    assert cause["slope_low"] > 0.3 and cause["q"] < 0.05 and cause["partial_r"] > cause["partial_r_permuted_95"]
    assert cause["n_pairs"] == 120 and cause["n_models"] == 5
    found = role_rows(*tables(0.0, r_slope=1.0, confounded=1.0), seed=0)
    follows = row(found, "match")
    assert abs(follows["slope"]) < 0.15 and abs(follows["partial_r"]) < follows["partial_r_detectable"]
    assert row(found, "response")["slope_low"] > 0.3
    assert list(found) == CIRCUIT_AND_ROLE.names


def test_few_pairs_have_no_slope_but_a_reason():
    units, circuits = tables(1.0)
    few = units[(units["model_a"] == "v") & (units["model_b"] == "w")]
    found = role_rows(few, circuits, seed=0)
    assert found["slope"].isna().all() and found["reason"].str.contains("2 networks").all()
    assert role_rows(units.head(0), circuits, seed=0).empty


def test_units_that_cost_nothing_to_remove_do_not_decide():
    units, circuits = tables(1.0)
    circuits, units = circuits[circuits["unit_a"] < 3], units[units["unit_a"] < 3].copy()
    units.loc[units.index[:2], "recovery"] = -50.0
    clipped = units.assign(recovery=units["recovery"].clip(lower=-1.0))
    found, expected = (row(role_rows(of, circuits, seed=0), "match")["slope"] for of in (units, clipped))
    assert found == pytest.approx(expected)
