"""Tables of correspondence on planted layers whose true partners, shifts and shares are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest, t
from shown import by_set
from shown import drawn as arcs_of
from silent_controls import CONTROLS, with_controls

from universality.activations.bases import haar, haars
from universality.activations.layer import Layer, LayerRef
from universality.activations.nulls import NullPlan
from universality.base import schema
from universality.correspondence import random_bases, resampling
from universality.correspondence import tables as correspondence
from universality.correspondence.random_bases import LEAST_BASES, PARTS_BASES
from universality.correspondence.resampling import wilson_interval
from universality.correspondence.search import Contender, MatchingPlan, Quest, search
from universality.correspondence.tables import family_rows, unit_rows
from universality.features.tables import OWN, UNITS
from universality.models.card import Tap
from universality.stimuli import curves
from universality.stimuli.curves import CurveStimuli

PARAMETERS = curves.parameters(CurveStimuli(orientations=36, curvatures=(0.0, 4.0, 8.0)))
THETA, CURVATURE, VARIANT = (PARAMETERS[name].values for name in ("orientation_deg", "curvature", "variant"))
PHOTOGRAPHS, CROPS_EACH = 16, 20
NULLS = NullPlan(haar_rotations=2, shuffles=2, seed=0)
PLAN = MatchingPlan(("curve",), ("hungarian", "mutual_nearest"), 200, 99, NULLS)
HUNGARIAN = MatchingPlan(("curve",), ("hungarian",), 200, 99, NULLS)
PREFERRED = np.arange(12) * 30.0
PLAIN = 4
"""Units of a planted layer that are no detectors; they follow the detectors."""


# Planted layers


def lobe(mu, k=4.0):
    return np.exp(k * (np.cos(np.deg2rad(THETA - mu)) - 1))


def curve_unit(mu, amplitude=6.0, best=8.0, k=4.0):
    """Activations (stimulus,) of an ideal curve detector; sigma is 1."""
    gain = np.where(best == CURVATURE, 1.0, 0.7)
    return np.where(CURVATURE > 0, amplitude * gain * lobe(mu, k), 0.5)


def edge_unit(mu, amplitude=6.0):
    """Passes the naive rule only."""
    filled = np.where(VARIANT == "filled_dark", lobe(mu), 1.1 * lobe(mu + 180))
    answer = np.where(np.char.startswith(VARIANT, "thin"), 0.05 * lobe(mu), filled)
    return amplitude * answer * np.where(CURVATURE > 0, 1.0, 0.9)


def plain_units(count, seed):
    """No detectors: positive noise without tuning."""
    return 2 + 0.3 * np.random.default_rng([1, seed]).standard_normal((THETA.size, count))


def drawn(preferred=PREFERRED, plain=PLAIN, seed=0):
    return with_controls(np.column_stack([*(curve_unit(mu) for mu in preferred), plain_units(plain, seed)]))


def seen(units, seed=0, photographs=PHOTOGRAPHS):
    """Activations for crops (crop, unit): crops of one photograph resemble one another; every unit has sigma 1."""
    rng = np.random.default_rng([2, seed])
    common = np.repeat(rng.standard_normal((photographs, units)), CROPS_EACH, axis=0)
    x = 0.5 * common + rng.standard_normal((photographs * CROPS_EACH, units))
    return (x - x.mean(axis=0)) / x.std(axis=0)


def of_arcs(drawings):
    return by_set("curve", drawings, (PARAMETERS, CONTROLS))


def layer(natural, drawings, model="a/net", seed=None, photographs=PHOTOGRAPHS):
    """A layer whose photographs alternate between the folds."""
    photograph = np.repeat(np.arange(photographs), CROPS_EACH)
    units = natural.shape[1]
    tap = Tap(
        name="tap", path="tap", activation="pre", channels=units, size=7, rf_px=95, stride_px=8, rf_start_px=0.0,
        relative_depth=0.25 if model == "a/net" else 0.5,
    )  # fmt: skip
    return Layer(
        LayerRef(model, seed, tap, "nowhere", {}),
        natural,
        photograph % 2,
        photograph,
        of_arcs(drawings if len(drawings) > THETA.size else with_controls(drawings)),
    )


def planted(model="a/net", seed=0, **kwargs):
    drawings = drawn(seed=seed, **kwargs)
    return layer(seen(drawings.shape[1], seed), drawings, model)


def twins(count=2, units=12 + PLAIN):
    """Untrained layers: other activations for the photographs, tuned for edges only."""
    return [
        layer(
            seen(units, 100 + seed),
            np.column_stack([*(edge_unit(50.0 * u) for u in range(3)), plain_units(units - 3, 100 + seed)]),
            "b/net",
            seed,
        )
        for seed in range(count)
    ]


def relabelled(made, order, model="b/net"):
    """The same layer with its channels in another order."""
    return replace(
        made,
        ref=replace(made.ref, model=model),
        natural=made.natural[:, order],
        shown=of_arcs(arcs_of(made, "curve")[:, order]),
    )


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def fold(made, which):
    return made.natural[made.fold == which]


def correspondence_rows(a, b, untrained, plan):
    """The table for two layers, both with the same untrained layers as their nulls."""
    return correspondence.correspondence_rows(Contender(a, untrained, plan), Contender(b, untrained, plan))


# A layer against copies of itself


ORDER = np.random.default_rng(8).permutation(12 + PLAIN)


@pytest.fixture(scope="module")
def permuted():
    a = planted()
    return correspondence_rows(a, relabelled(a, ORDER), twins(), PLAN)


@pytest.mark.parametrize("method", PLAN.methods)
def test_every_detector_finds_its_partner_in_a_permuted_copy(permuted, method):
    rows = permuted[permuted["method"] == method]
    assert sorted(rows["unit_a"]) == list(range(12))
    assert (ORDER[rows["unit_b"]] == rows["unit_a"]).all()
    assert rows[["detector_a", "detector_b", "mutual"]].all(axis=None)
    assert (rows[["rank_ab", "rank_ba"]] == 1).all(axis=None)


def test_figures_of_a_permuted_copy(permuted):
    for column in ("r_match", "r_natural", "r_natural_low", "r_natural_high", "r_tuning", "r_aligned"):
        np.testing.assert_allclose(permuted[column], 1.0, atol=1e-9, err_msg=column)
    for column in ("shift_deg", "delta_theta_deg", "delta_log_curvature", "delta_fwhm_deg"):
        np.testing.assert_allclose(permuted[column], 0.0, atol=1e-9, err_msg=column)
    np.testing.assert_allclose(permuted["preferred_a_deg"], PREFERRED[permuted["unit_a"]], atol=1e-6)
    assert set(permuted["family_rate_b"]) == {12 / 16}
    assert set(permuted["n_match"]) == set(permuted["n_score"]) == {PHOTOGRAPHS // 2 * CROPS_EACH}


def test_nulls_of_a_permuted_copy_are_lower(permuted):
    for null in ("untrained", "haar"):
        assert (permuted[f"r_natural_{null}"] < 0.9).all()
    assert permuted["r_natural_untrained"].abs().mean() < 0.2
    np.testing.assert_allclose(permuted["excess"], permuted["r_natural"] - permuted["r_natural_haar"])
    assert (permuted["excess"] > 0.1).all()


def test_correlations_stay_in_the_range_that_the_schema_states(permuted):
    """Also by the last bit: a correlation above 1 is not in its own interval."""
    columns = [column.name for column in schema.CORRESPONDENCE.columns if column.range == "-1 to 1"]
    assert (permuted[columns] <= 1).all(axis=None)
    assert (permuted[columns] >= -1).all(axis=None)


def test_identity_and_columns(permuted):
    assert list(permuted.columns) == schema.CORRESPONDENCE.names
    pd.testing.assert_frame_equal(schema.as_table(schema.CORRESPONDENCE, permuted), permuted)
    assert set(permuted["model_a"]) == {"a/net"}
    assert set(permuted["model_b"]) == {"b/net"}
    assert set(permuted["depth_a"]) == {0.25}
    assert set(permuted["family"]) == {"curve"}
    assert permuted.drop(columns="q").notna().all(axis=None)


@pytest.mark.parametrize("turn", [90, 180, -60])
def test_shift_is_positive_where_b_prefers_larger_angles(turn):
    """Copy B answers to arcs turned by `turn`: its preference is A's plus `turn`."""
    a = planted()
    b = replace(a, shown=of_arcs(drawn(PREFERRED + turn)))
    rows = correspondence_rows(a, b, twins(1), HUNGARIAN)
    assert (rows["unit_a"] == rows["unit_b"]).all()
    np.testing.assert_allclose(rows["shift_deg"], turn)
    np.testing.assert_allclose(rows["delta_theta_deg"], turn, atol=1e-6)
    np.testing.assert_allclose(rows["r_aligned"], 1.0, atol=1e-9)
    assert (rows["r_tuning"] < 0.5).all()
    np.testing.assert_allclose(rows["r_natural"], 1.0, atol=1e-9)


def test_differences_of_curvature_and_width_are_b_against_a():
    a = planted()
    wide_and_flat = np.column_stack([*(curve_unit(mu, best=4.0, k=2.0) for mu in PREFERRED), plain_units(PLAIN, 0)])
    rows = correspondence_rows(a, replace(a, shown=of_arcs(with_controls(wide_and_flat))), twins(1), HUNGARIAN)
    np.testing.assert_allclose(rows["delta_log_curvature"], -1.0)  # 4 against 8
    width = [2 * np.rad2deg(np.arccos(1 - np.log(2) / k)) for k in (2.0, 4.0)]
    np.testing.assert_allclose(rows["delta_fwhm_deg"], width[0] - width[1], atol=1.5)


@pytest.mark.parametrize("method", PLAN.methods)
def test_a_haar_rotated_copy_is_matched_poorly(method):
    a = planted()
    turned = replace(a.in_basis(haar(0, 5)), ref=replace(a.ref, model="b/net"))
    plan = MatchingPlan(("curve",), (method,), 100, 19, NULLS)
    plain, rotated = (correspondence_rows(a, b, twins(1), plan) for b in (a, turned))
    assert plain["r_natural"].min() > 0.99
    assert rotated["r_natural"].mean() < 0.8
    assert rotated["r_aligned"].mean() < plain["r_aligned"].mean()
    # A rotated copy is one more draw of its own null.
    assert abs(rotated["excess"].mean()) < 0.25 < plain["excess"].mean()


# Matching on one fold, scoring on the other


def test_pair_that_agrees_in_fold_0_only_is_matched_and_scores_nothing():
    a = planted()
    b = planted("b/net", seed=1)
    agreeing = a.fold == 0
    natural = b.natural.copy()
    natural[agreeing, 3] = a.natural[agreeing, 5] + 0.1 * natural[agreeing, 3]
    rows = correspondence_rows(a, replace(b, natural=natural), twins(1), PLAN)
    pair = rows[(rows["unit_a"] == 5) & (rows["unit_b"] == 3)]
    assert set(pair["method"]) == set(PLAN.methods)
    assert (pair["r_match"] > 0.95).all()
    assert (pair["r_natural"].abs() < 0.25).all()
    assert (pair["r_natural_low"] < 0).all()
    assert (pair["r_natural_high"] > 0).all()


def test_pair_that_agrees_in_fold_1_only_is_not_chosen_for_it():
    a, b = planted(), planted("b/net", seed=1)
    natural = b.natural.copy()
    natural[a.fold == 1, 3] = a.natural[a.fold == 1, 5]
    before, after = (correspondence_rows(a, x, twins(1), PLAN) for x in (b, replace(b, natural=natural)))
    chosen = ["method", "unit_a", "unit_b", "rank_ab", "rank_ba", "r_match"]
    pd.testing.assert_frame_equal(before[chosen], after[chosen], check_exact=True)


def related(seed=0, noise=1.0, width=12 + PLAIN):
    """Two layers of which B repeats A's units in another order, with noise; B has `width` units."""
    a = planted(seed=seed)
    rng = np.random.default_rng([3, seed])
    order = np.resize(rng.permutation(16), width)
    natural = a.natural[:, order] + noise * rng.standard_normal((len(a.natural), width))
    return a, layer(natural / natural.std(axis=0), arcs_of(a, "curve")[:, order], "b/net")


def correlation_matrix(a, b, which):
    return np.array([[correlation(x, y) for y in fold(b, which).T] for x in fold(a, which).T])


@pytest.mark.parametrize("width", [16, 10, 23])
def test_hungarian_rows_against_scipy_and_numpy(width):
    a, b = related(width=width)
    rows = correspondence_rows(a, b, twins(1, width), HUNGARIAN)
    decide, held_out = (correlation_matrix(a, b, which) for which in (0, 1))
    partner = dict(zip(*linear_sum_assignment(decide, maximize=True), strict=True))
    # Pairs that hold a detector on either side stay in the table.
    detector_b = [not (column[CURVATURE > 0].min() > 0.5) for column in arcs_of(b, "curve")[: THETA.size].T]
    expected = {(i, j) for i, j in partner.items() if i < 12 or detector_b[j]}
    assert set(zip(rows["unit_a"], rows["unit_b"], strict=True)) == expected
    for row in rows.itertuples():
        i, j = row.unit_a, row.unit_b
        assert row.r_match == pytest.approx(decide[i, j], abs=1e-12)
        assert row.r_natural == pytest.approx(held_out[i, j], abs=1e-12)
        assert row.rank_ab == 1 + np.argsort(-decide[i]).tolist().index(j)
        assert row.rank_ba == 1 + np.argsort(-decide[:, j]).tolist().index(i)
        assert row.mutual == (row.rank_ab == row.rank_ba == 1)
        assert row.detector_a == (i < 12)
        assert row.detector_b == detector_b[j]


def test_mutual_needs_both_ranks():
    """With much noise some pairs are the best of one side only."""
    a, b = related(noise=4.0, width=24)
    rows = correspondence_rows(a, b, twins(1, 24), HUNGARIAN)
    best = rows[["rank_ab", "rank_ba"]] == 1
    assert (best["rank_ab"] != best["rank_ba"]).any()
    assert rows["mutual"].tolist() == best.all(axis=1).tolist()


def test_mutual_nearest_rows_against_loops():
    a, b = related(noise=3.0)
    rows = correspondence_rows(a, b, twins(1), MatchingPlan(("curve",), ("mutual_nearest",), 100, 19, NULLS))
    decide = correlation_matrix(a, b, 0)
    pairs = {(i, int(decide[i].argmax())) for i in range(16) if decide[:, decide[i].argmax()].argmax() == i}
    found = set(zip(rows["unit_a"], rows["unit_b"], strict=True))
    assert found <= pairs
    assert {pair for pair in pairs if pair[0] < 12} <= found
    assert (rows[["rank_ab", "rank_ba"]] == 1).all(axis=None)
    assert rows["mutual"].all()


def best_partner_mean(own, nulls, units, signs=(1,)):
    """Held-out correlation with the partner that is best on fold 0, mean over the null layers and the signs of their directions."""
    found = []
    for null in nulls:
        decide, held_out = (correlation_matrix(own, null, which) for which in (0, 1))
        found += [[sign * held_out[i, (sign * decide[i]).argmax()] for i in units] for sign in signs]
    return np.mean(found, axis=0)


@pytest.mark.parametrize("method", PLAN.methods)
def test_null_columns_take_the_best_partner_in_each_null_layer(method, monkeypatch):
    """With every method a null unit may be the partner of several units of A. The side that is harder to beat counts."""
    monkeypatch.setattr(random_bases, "LEAST_BASES", PARTS_BASES)  # a mean over fewer is the same mean
    a, b = related()
    untrained = twins(2)
    rows = correspondence_rows(a, b, untrained, MatchingPlan(("curve",), (method,), 100, 19, NULLS))
    turned_a, turned_b = ([made.in_basis(basis) for basis in haars(PARTS_BASES, NULLS.seed)] for made in (a, b))
    even_a, even_b = (
        [made.standardised().in_basis(basis) for basis in haars(PARTS_BASES, NULLS.seed)] for made in (a, b)
    )
    sides = {"untrained": (untrained, untrained), "haar": (turned_b, turned_a), "haar_standardised": (even_b, even_a)}
    for name, (of_b, of_a) in sides.items():
        forward, backward = (
            best_partner_mean(*side, (1,) if name == "untrained" else (1, -1))
            for side in ((a, of_b, rows["unit_a"]), (b, of_a, rows["unit_b"]))
        )
        assert (forward > backward).any()
        assert (forward < backward).any()
        np.testing.assert_allclose(rows[f"r_natural_{name}"], np.maximum(forward, backward), atol=1e-6)


@pytest.mark.parametrize("method", PLAN.methods)
def test_tuning_columns_of_the_untrained_null(method):
    """With one untrained twin whose units are A's own, turned by 60 degrees."""
    a = planted()
    twin = replace(relabelled(a, np.arange(16)), shown=of_arcs(drawn(PREFERRED + 60)))
    rows = correspondence_rows(a, a, [twin], MatchingPlan(("curve",), (method,), 100, 19, NULLS))
    np.testing.assert_allclose(rows["r_natural_untrained"], 1.0, atol=1e-9)
    np.testing.assert_allclose(rows["r_aligned_untrained"], 1.0, atol=1e-9)
    tuning = {mu: lobe(mu)[:36] for mu in (0, 60)}
    np.testing.assert_allclose(rows["r_tuning_untrained"], correlation(tuning[0], tuning[60]), atol=1e-9)


# Intervals


def test_interval_holds_the_point_and_narrows_with_more_photographs():
    widths = []
    for photographs in (16, 160):
        a = layer(seen(14, 0, photographs), drawn(plain=2), photographs=photographs)
        other = a.natural + seen(14, 1, photographs)
        rows = correspondence_rows(a, replace(a, natural=other), [a], HUNGARIAN)
        assert (rows["r_natural_low"] < rows["r_natural"]).all()
        assert (rows["r_natural"] < rows["r_natural_high"]).all()
        widths.append((rows["r_natural_high"] - rows["r_natural_low"]).mean())
    assert widths[1] < 0.5 * widths[0]


def test_interval_agrees_with_resampling_photographs_one_by_one():
    a, b = related()
    rows = correspondence_rows(a, b, twins(1), MatchingPlan(("curve",), ("hungarian",), 4000, 19, NULLS))
    x, y, photograph = fold(a, 1), fold(b, 1), a.photograph[a.fold == 1]
    crops = [np.flatnonzero(photograph == p) for p in np.unique(photograph)]
    rng = np.random.default_rng(11)
    for row in rows.head(3).itertuples():
        r = []
        for _ in range(2000):
            chosen = np.concatenate([crops[k] for k in rng.integers(len(crops), size=len(crops))])
            r.append(correlation(x[chosen, row.unit_a], y[chosen, row.unit_b]))
        z, half = np.arctanh(row.r_natural), t.ppf(0.975, len(crops) - 1) * np.std(np.arctanh(r), ddof=1)
        np.testing.assert_allclose([row.r_natural_low, row.r_natural_high], np.tanh([z - half, z + half]), atol=0.02)


def test_more_crops_of_the_same_photographs_do_not_narrow_the_interval():
    """Crops doubled: the same evidence. An interval over crops would be 1.4 times narrower."""
    a, b = related()
    doubled = [
        replace(
            side,
            **{name: np.repeat(getattr(side, name), 2, axis=0) for name in ("natural", "fold", "photograph")},
        )
        for side in (a, b, *twins(1))
    ]
    once = correspondence_rows(a, b, twins(1), HUNGARIAN)
    twice = correspondence_rows(doubled[0], doubled[1], doubled[2:], HUNGARIAN)
    for column in ("r_natural", "r_natural_low", "r_natural_high"):
        np.testing.assert_allclose(twice[column], once[column], atol=1e-9)
    assert (twice["n_score"] == 2 * once["n_score"]).all()


def test_a_flat_photograph_leaves_the_interval_defined():
    """A unit silent for most photographs: resamples without the others are left out, with no warning."""
    a, b = related()
    natural = a.natural.copy()
    natural[(a.photograph != 1) & (a.fold == 1), 0] = 0.0
    rows = correspondence_rows(replace(a, natural=natural), b, twins(1), HUNGARIAN)
    unit = rows[rows["unit_a"] == 0]
    assert len(unit) == 1
    assert unit[["r_natural", "r_natural_low", "r_natural_high"]].notna().all(axis=None)


@given(data=st.data(), n=st.integers(1, 2000))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_wilson_interval_agrees_with_scipy(data, n):
    successes = data.draw(st.integers(0, n))
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


# Shapes, order, determinism


@pytest.mark.parametrize("width", [9, 40])
def test_layers_of_unequal_width(width):
    a = planted()
    b = layer(seen(width, 4), drawn(PREFERRED[:6], width - 6), "b/net")
    rows = correspondence_rows(a, b, twins(1, width), PLAN)
    hungarian = rows[rows["method"] == "hungarian"]
    assert hungarian["unit_a"].is_unique
    assert hungarian["unit_b"].is_unique
    assert hungarian["unit_b"].max() < width
    assert len(hungarian) <= min(16, width)
    assert set(rows["family_rate_b"]) == {6 / width}


def test_dead_units_keep_their_neighbours_numbers():
    a = planted()
    natural = a.natural.copy()
    natural[:, [0, 7]] = 0.5
    rows = correspondence_rows(replace(a, natural=natural), relabelled(a, ORDER), twins(1), HUNGARIAN)
    kept = rows[rows["unit_a"] < 12]
    assert set(kept["unit_a"]) == set(range(12)) - {0, 7}
    true = kept[kept["r_natural"] > 0.99]
    assert len(true) >= 9
    assert (ORDER[true["unit_b"]] == true["unit_a"]).all()


def test_layers_without_detectors_give_an_empty_table():
    nothing = layer(seen(6), plain_units(6, 0))
    rows = correspondence_rows(nothing, nothing, [nothing], PLAN)
    pd.testing.assert_frame_equal(rows, schema.empty_table(schema.CORRESPONDENCE))


def dead(made):
    return replace(made, natural=np.full_like(made.natural, 0.5))


@pytest.mark.parametrize("method", PLAN.methods)
@pytest.mark.parametrize("side", ["a", "b", "both"])
def test_a_dead_layer_has_no_pairs(method, side):
    a, b = planted(), planted("b/net", seed=1)
    a, b = (dead(a) if side in ("a", "both") else a), (dead(b) if side in ("b", "both") else b)
    rows = correspondence_rows(a, b, twins(1), MatchingPlan(("curve",), (method,), 100, 19, NULLS))
    pd.testing.assert_frame_equal(rows, schema.empty_table(schema.CORRESPONDENCE))


@pytest.mark.parametrize("method", PLAN.methods)
def test_a_dead_twin_leaves_the_other_twins(method):
    a, b = related()
    plan = MatchingPlan(("curve",), (method,), 100, 19, NULLS)
    alive = twins(1)
    nothing, both, one = (correspondence_rows(a, b, t, plan) for t in ([dead(*alive)], [dead(*alive), *alive], alive))
    assert nothing[["r_natural_untrained", "r_tuning_untrained", "r_aligned_untrained"]].isna().all(axis=None)
    assert nothing["r_natural_haar"].notna().all()
    pd.testing.assert_frame_equal(both, one, check_exact=True)


@pytest.mark.parametrize("crops", [1, 2, 3])
def test_too_few_crops_give_no_pairs(crops):
    """One crop per photograph: with three, a fold holds a single one, in which nothing varies."""
    few = np.arange(crops) * CROPS_EACH
    a, b, twin = (
        replace(x, natural=x.natural[few], fold=x.fold[few], photograph=x.photograph[few])
        for x in (planted(), planted("b/net", seed=1), *twins(1))
    )
    rows = correspondence_rows(a, b, [twin], PLAN)
    pd.testing.assert_frame_equal(rows, schema.empty_table(schema.CORRESPONDENCE))


def test_a_detector_on_one_side_is_enough():
    a, nothing = planted(), layer(seen(16, 9), plain_units(16, 9), "b/net")
    for first, second, column in ((a, nothing, "detector_a"), (nothing, a, "detector_b")):
        rows = correspondence_rows(first, second, twins(1), HUNGARIAN)
        assert len(rows) == 12
        assert rows[column].all()
        assert not rows[{"detector_a": "detector_b", "detector_b": "detector_a"}[column]].any()


def test_layers_judged_together_are_judged_as_one_by_one(monkeypatch):
    """Also where one of them has no live unit, or no detector."""
    monkeypatch.setattr(random_bases, "LEAST_BASES", PARTS_BASES)
    monkeypatch.setattr(correspondence, "_AT_ONCE", 3)
    a, b = related()
    plain = layer(seen(12, 9), plain_units(12, 9), "b/net")

    def contender(of):
        # Anew, so that nothing that was derived is kept.
        untrained = [replace(twin, ref=replace(twin.ref, model=of.ref.model)) for twin in twins(1)]
        return Contender(replace(of), untrained, PLAN)

    others = b, dead(b), plain, related(seed=3)[1]
    together = correspondence.rows_and_nulls(contender(a), map(contender, others))
    assert [bool(len(rows)) for rows, _ in together] == [True, False, True, True]
    for other, (rows, nulls) in zip(others, together, strict=True):
        for judged, alone in ((rows, correspondence.correspondence_rows), (nulls, correspondence.null_rows)):
            expected = alone(contender(a), contender(other))
            pd.testing.assert_frame_equal(judged, expected, rtol=1e-9, atol=1e-12)


def test_random_bases_of_two_layers_are_never_taken_for_one_another():
    """Bases that nobody else holds could lie where others lay before."""

    class Forgetful(Contender):
        @property
        def bases(self):
            return replace(super().bases)

    a, b = related()
    own, *others = (Forgetful(of, (), replace(PLAN, verdicts_only=True)) for of in (a, b, related(seed=3)[1]))
    found = search([Quest(own, other, np.arange(3)) for other in others])
    assert not np.array_equal(found[0].in_bases.r, found[1].in_bases.r)
    for other, of in zip(others, found, strict=True):
        np.testing.assert_array_equal(of.in_bases.r, search([Quest(own, other, np.arange(3))])[0].in_bases.r)


def test_same_input_same_table():
    a, b = related()
    once, again = (correspondence_rows(a, b, twins(1), PLAN) for _ in range(2))
    pd.testing.assert_frame_equal(once, again, check_exact=True)


def test_order_of_the_methods_orders_the_rows_only():
    a, b = related()
    tables = [
        correspondence_rows(a, b, twins(1), MatchingPlan(("curve",), m, 200, 19, NULLS))
        for m in (PLAN.methods, PLAN.methods[::-1])
    ]
    assert list(dict.fromkeys(tables[1]["method"])) == list(PLAN.methods[::-1])
    forward, backward = (
        table.sort_values(["method", "unit_a"], kind="stable").reset_index(drop=True) for table in tables
    )
    pd.testing.assert_frame_equal(forward, backward, check_exact=True)


TURNED = ("delta_theta_deg", "delta_log_curvature", "delta_fwhm_deg", "shift_deg")


def mirrored(rows):
    """The rows as they have to be with the layers' names exchanged."""
    other = {"a": "b", "b": "a"}
    names = {}
    for name in rows.columns:
        parts = [other.get(part, part) for part in name.split("_")]
        names[name] = {"rank_ab": "rank_ba", "rank_ba": "rank_ab"}.get(name, "_".join(parts))
    swapped = rows.rename(columns=names)[list(rows.columns)]
    return swapped.assign(**{name: -swapped[name] for name in TURNED})


@pytest.mark.parametrize("width", [16, 23])
def test_order_of_the_layers_does_not_matter(width):
    """Every column, verdicts, p, q and intervals among them: the same rows with a and b exchanged."""
    a, b = related(noise=np.linspace(0.3, 8.0, width), width=width)
    untrained = twins(2), twins(2, width)
    plan = replace(PLAN, nulls=replace(NULLS, haar_rotations=4))
    sides = [Contender(made, of, plan) for made, of in zip((a, b), untrained, strict=True)]
    forward, backward = (
        resampling.with_q(correspondence.correspondence_rows(*order))
        .sort_values(["method", *by])
        .reset_index(drop=True)
        for order, by in ((sides, ["unit_a", "unit_b"]), (sides[::-1], ["unit_b", "unit_a"]))
    )
    assert {"same_feature", "family_only"} <= set(forward["verdict"])
    assert forward["p"].nunique() > 2
    turned = mirrored(backward)
    exact = ["unit_a", "unit_b", "verdict", "p", "q", "rank_ab", "rank_ba", "mutual", "detector_a", "detector_b"]
    pd.testing.assert_frame_equal(turned[exact], forward[exact], check_exact=True)
    pd.testing.assert_frame_equal(turned, forward, atol=1e-9)


def test_both_sides_have_to_exceed_their_random_bases():
    """The excess is over the random bases of B for unit_a and over those of A for unit_b, whichever is larger."""
    a, b = related(noise=0.6)
    sides = Contender(a, (), MANY_BASES), Contender(b, (), MANY_BASES)
    rows = correspondence.correspondence_rows(*sides)
    halves = [side.side.halves for side in sides]
    for row in rows.itertuples():
        each = []
        for own, other, unit in ((0, 1, row.unit_a), (1, 0, row.unit_b)):
            for layer_of in (sides[other].layer, sides[other].layer.standardised()):
                best = []
                for basis in haars(LEAST_BASES, MANY_BASES.nulls.seed):
                    null = layer_of.in_basis(basis).halves()
                    r = halves[own].decide[:, unit] @ null.decide
                    best += [
                        sign * (halves[own].score[:, unit] @ null.score[:, (sign * r).argmax()]) for sign in (1, -1)
                    ]
                each.append(np.mean(best))
        assert row.excess == pytest.approx(row.r_natural - max(each), abs=1e-6)
        assert row.excess_low < row.excess


def test_nulls_hold_no_same_feature_and_say_whose_they_are():
    a, b = related(noise=0.5)
    sides = [Contender(made, [planted(seed=50 + k) for k in range(2)], MANY_BASES) for made in (a, b)]
    assert (correspondence.correspondence_rows(*sides)["verdict"] == "same_feature").sum() >= 10
    rows = correspondence.null_rows(*sides)
    assert list(rows.columns) == schema.CORRESPONDENCE_NULLS.names
    assert list(dict.fromkeys(rows["null"])) == ["untrained", "haar_a", "haar_b"]
    turned = rows[rows["null"] != "untrained"]
    assert not (turned["verdict"] == "same_feature").any()
    # What no verdict asks for is not computed in a random basis, and is between the twins.
    for column in ("p", "soft_mass", "ceiling_a"):
        assert turned[column].isna().all()
        assert rows.loc[rows["null"] == "untrained", column].notna().all()
    # Twins that are one and the same layer are found to be: the table would show a false agreement.
    assert (rows.loc[rows["null"] == "untrained", "verdict"] == "same_feature").all()


def test_ceilings_are_of_the_layer_that_is_mixed():
    """A copy can be mixed from the layer, units that answer to other images cannot."""
    a = planted()
    poor = replace(a, natural=seen(16, 60))
    rows = correspondence_rows(a, replace(poor, ref=replace(a.ref, model="b/net")), twins(1), HUNGARIAN)
    same = correspondence_rows(a, a, twins(1), HUNGARIAN)
    assert (same[["ceiling_a", "ceiling_b"]] > 0.99).all(axis=None)
    assert (rows[["ceiling_a", "ceiling_b"]].abs() < 0.5).all(axis=None)
    assert (same[["ceiling_a_untrained", "ceiling_b_untrained"]].abs() < 0.5).all(axis=None)


def test_soft_mass_of_a_permuted_copy_and_of_a_split_unit(permuted):
    assert (permuted["soft_mass"] == 1.0).all()
    assert (permuted["soft_mass_untrained"] <= 1.0).all()
    a = planted()
    order = np.r_[np.arange(16), np.arange(16)]
    twice = layer(a.natural[:, order] + 0.01 * seen(32, 5), arcs_of(a, "curve")[:, order], "b/net")
    rows = correspondence_rows(a, twice, twins(1, 32), HUNGARIAN)
    # Every unit of B goes to one unit of A alone, which halves its mass between two.
    np.testing.assert_allclose(rows["soft_mass"], 1.0, atol=1e-9)


# Families and units


def family(made, untrained, plan=NULLS):
    table = family_rows("curve", made, untrained, plan)
    assert len(table) == 1
    assert list(table.columns) == schema.FAMILIES.names
    return table.iloc[0]


def test_family_of_a_planted_layer():
    a = planted()
    natural = a.natural.copy()
    natural[:, [1, 14]] = 0.5  # a detector and another unit do not vary
    row = family(replace(a, natural=natural), twins(2))
    low, high = binomtest(11, 16).proportion_ci(method="wilson")
    assert (row["n_units"], row["n_dead"], row["n_tuned"], row["n_detectors"]) == (16, 2, 11, 11)
    assert row["share"] == 11 / 16
    assert (row["share_low"], row["share_high"]) == pytest.approx((low, high))
    assert row["share_strong"] == 11 / 16
    assert row["largest_gap_deg"] == pytest.approx(60, abs=1e-6)
    assert row["mean_fwhm_deg"] == pytest.approx(2 * np.rad2deg(np.arccos(1 - np.log(2) / 4)), abs=1)
    assert row["mean_echo"] == pytest.approx(np.exp(4 * (np.cos(np.deg2rad(150)) - 1)), abs=1e-4)
    assert row["mean_r1"] == pytest.approx(0.8635, abs=1e-3)  # I1(4) / I0(4)
    assert (row["model"], row["tap"], row["depth"], row["rf_px"]) == ("a/net", "tap", 0.25, 95)
    assert (row["family"], row["rule"]) == ("curve", "invariant")
    assert row["share_shuffled"] == 0.0


def test_coverage_of_a_planted_layer():
    preferred = [15.0, 45.0, 75.0]  # the middles of three bins of thirty degrees
    row = family(layer(seen(7), drawn(preferred)), twins(1, 7))
    assert row["coverage"] == pytest.approx(3 / 12)
    assert row["largest_gap_deg"] == pytest.approx(300, abs=1e-6)


def test_weak_detectors_are_counted_and_not_strong():
    drawings = np.column_stack([curve_unit(0, amplitude=2.0), curve_unit(90, amplitude=2.0), curve_unit(180)])
    row = family(layer(seen(3), drawings), twins(1, 3))
    assert row["n_detectors"] == 3
    assert row["share_strong"] == pytest.approx(1 / 3)


def test_counts_of_untrained_twins_are_means_over_twins():
    """One twin holds three detectors by accident, the others only edge filters."""
    untrained = twins(3)
    accident = arcs_of(untrained[0], "curve").copy()
    for unit, mu in ((3, 0), (4, 90), (5, 180)):
        accident[: THETA.size, unit] = curve_unit(mu, 6.0 if mu else 2.0)
    untrained[0] = replace(untrained[0], shown=of_arcs(accident))
    row = family(planted(), untrained)
    assert row["n_twins"] == 3
    assert row["n_detectors_untrained"] == pytest.approx(1.0)
    assert row["share_untrained"] == pytest.approx(1 / 16)
    assert row["share_strong_untrained"] == pytest.approx(2 / 48)
    # The weak detector has a peak of 1.7 sigma: not enough for the naive rule, which the edge filters pass.
    assert row["share_naive_untrained"] == pytest.approx((5 + 3 + 3) / 48)
    assert row["coverage_untrained"] == pytest.approx(3 / 12 / 3)
    assert row["largest_gap_untrained_deg"] == pytest.approx((180 + 360 + 360) / 3, abs=1e-6)


def test_haar_and_shuffled_columns_follow_their_plan():
    a = planted()
    first, second = (family(a, twins(1), NullPlan(3, 2, seed)) for seed in (0, 0))
    pd.testing.assert_series_equal(first, second, check_exact=True)
    shares = [unit_rows("curve", a.in_basis(basis))[0]["detector"].mean() for basis in haars(3, 0)]
    assert first["share_haar"] == pytest.approx(np.mean(shares))
    assert first["share_haar"] < first["share"]


def test_layer_without_detectors_has_shares_of_0_and_no_means():
    row = family(layer(seen(6), plain_units(6, 0)), twins(1, 6))
    assert (row["n_detectors"], row["share"], row["coverage"], row["largest_gap_deg"]) == (0, 0.0, 0.0, 360.0)
    assert row["share_low"] == pytest.approx(0.0, abs=1e-12)
    assert row[["mean_r1", "mean_fwhm_deg", "mean_echo"]].isna().all()


@pytest.mark.parametrize(("seed", "expected"), [(None, -1), (3, 3)])
def test_unit_rows_hold_every_unit_with_its_curve(seed, expected):
    a = planted()
    rows, own = unit_rows("curve", replace(a, ref=replace(a.ref, seed=seed)))
    assert list(rows.columns) == UNITS.names and list(own.columns) == OWN["curve"].names
    keys = ["model", "seed", "tap", "unit"]
    pd.testing.assert_frame_equal(own[keys], rows[keys])
    assert rows["unit"].tolist() == list(range(16))
    assert set(rows["seed"]) == {expected}
    assert rows["detector"].tolist() == [True] * 12 + [False] * PLAIN
    # Mean over the curvatures: 0.7 and 1 times the amplitude of 6.
    np.testing.assert_allclose(rows["tuning_sigma"][2], 6 * 0.85 * lobe(60)[:36], rtol=1e-5)
    np.testing.assert_allclose(rows["preferred_deg"][:12], PREFERRED, atol=1e-6)


# Verdicts where the truth is known


def detectors_of(rows):
    return rows[rows["detector_a"] & rows["detector_b"]]


MANY_BASES = MatchingPlan(("curve",), ("hungarian",), 200, 99, NullPlan(haar_rotations=24, shuffles=1, seed=0))
"""Small layers' best partners differ much from basis to basis: few bases would leave the excess uncertain."""


def test_permuted_copy_is_the_same_feature_unit_by_unit():
    a = planted()
    found = detectors_of(correspondence_rows(a, relabelled(a, ORDER), twins(), MANY_BASES))
    assert len(found) == 12
    assert set(found["verdict"]) == {"same_feature"}
    assert (found["p"] == 1 / 100).all()
    assert (found["shift_deg"] == 0).all()


def test_copy_that_prefers_other_orientations_is_correlated_only():
    a = planted()
    turned = replace(a, ref=replace(a.ref, model="b/net"), shown=of_arcs(drawn(PREFERRED + 90)))
    found = detectors_of(correspondence_rows(a, turned, twins(1), MANY_BASES))
    assert set(found["verdict"]) == {"correlated_only"}
    assert (found["shift_deg"] == 90).all()


def test_haar_rotated_layer_has_no_same_feature():
    a = planted()
    for basis in haars(5, 3):
        rows = correspondence_rows(a, a.in_basis(basis), twins(1), MANY_BASES)
        assert not (rows["verdict"] == "same_feature").any()


def test_layers_without_anything_in_common_hold_no_same_feature():
    """Both hold detectors of all orientations, and answer to other images."""
    wrong = total = 0
    for seed in range(12):
        a = planted(seed=seed)
        b = layer(seen(16, 500 + seed), drawn(seed=seed), "b/net")
        rows = correspondence_rows(a, b, twins(1), MANY_BASES)
        wrong += (rows["verdict"] == "same_feature").sum()
        total += len(rows)
    assert total >= 140
    assert wrong / total <= 0.01


def test_replaced_half_is_told_from_the_kept_half():
    a = planted()
    other = seen(16, 77)
    natural = a.natural.copy()
    replaced = [1, 3, 5, 7, 9, 11]
    natural[:, replaced] = other[:, replaced]
    b = replace(a, ref=replace(a.ref, model="b/net"), natural=natural)
    rows = correspondence_rows(a, b, twins(1), MANY_BASES)
    same = rows[rows["verdict"] == "same_feature"]
    assert sorted(same["unit_a"]) == [0, 2, 4, 6, 8, 10]
    assert (same["unit_a"] == same["unit_b"]).all()


def test_known_noise_gives_the_known_correlation_within_its_interval():
    a = planted()
    noise = np.random.default_rng(5).standard_normal(a.natural.shape)
    b = replace(a, ref=replace(a.ref, model="b/net"), natural=a.natural + 0.5 * noise)
    found = detectors_of(correspondence_rows(a, b, twins(1), MANY_BASES))
    expected = 1 / np.sqrt(1.25)
    inside = (found["r_natural_low"] <= expected) & (expected <= found["r_natural_high"])
    assert inside.mean() >= 0.8
    assert found["r_natural"].mean() == pytest.approx(expected, abs=0.02)
    assert set(found["verdict"]) == {"same_feature"}
