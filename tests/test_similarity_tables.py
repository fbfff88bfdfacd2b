"""Every measure on every pair of layers beside its nulls, on layers built by hand."""

import numpy as np
import pandas as pd
import pytest
import zoos
from scipy.stats import ortho_group
from shown import by_set, drawn
from silent_controls import CONTROLS, with_controls

from universality.activations.bases import haar, haars
from universality.activations.layer import Layer, LayerRef
from universality.activations.nulls import NullPlan
from universality.base import schema
from universality.models.card import Tap
from universality.runs.job import ComparisonSpec
from universality.similarity import COMPARATORS, score
from universality.similarity.tables import similarity_rows
from universality.stimuli import curves
from universality.stimuli.curves import CurveStimuli

PARAMETERS = curves.parameters(CurveStimuli(orientations=8, curvatures=(0.0, 5.0)))
ROWS = 240
PLAN = NullPlan(haar_rotations=4, shuffles=4, seed=0)
MEASURES = list(ComparisonSpec().measures)
BASIS_FREE = [name for name in MEASURES if COMPARATORS[name].basis_free]
UNIT_MATCHING = [name for name in MEASURES if not COMPARATORS[name].basis_free]


def tap(name, depth=0.5, channels=8):
    return Tap(
        name=name, path=name, activation="pre", channels=channels, size=7, rf_px=31, stride_px=8, rf_start_px=0.0,
        relative_depth=depth,
    )  # fmt: skip


def layer(natural, model="a/net", name="one", depth=0.5, seed=None):
    natural = np.asarray(natural, dtype=np.float64)
    rows, units = natural.shape
    answers = np.random.default_rng(0).standard_normal((PARAMETERS.sizes["stimulus"], units))
    photograph = np.arange(rows) % 12
    ref = LayerRef(model, seed, tap(name, depth, units), "nowhere", {})
    return Layer(
        ref, natural, photograph % 2, photograph, by_set("curve", with_controls(answers), (PARAMETERS, CONTROLS))
    )


def activations(units, seed=0, rows=ROWS):
    """Units of unequal spread, as layers have; none of them resembles another."""
    return np.random.default_rng(seed).standard_normal((rows, units)) * np.linspace(1, 3, units)


def row_of(table, measure):
    return table[table["measure"] == measure].iloc[0]


def rows_of(a, b, twins_a=(), twins_b=(), measures=MEASURES, plan=PLAN):
    return similarity_rows([a], [b], [[t] for t in twins_a], [[t] for t in twins_b], measures, plan)


@pytest.fixture(scope="module")
def identical():
    x = activations(10)
    twins = [layer(activations(10, seed), seed=seed) for seed in (1, 2)]
    return rows_of(layer(x), layer(x, "b/net"), twins[:1], twins[1:])


@pytest.mark.parametrize("measure", MEASURES)
def test_identical_layers_score_1_and_their_nulls_do_not(identical, measure):
    row = row_of(identical, measure)
    assert row["value"] == pytest.approx(1.0, abs=1e-12)
    assert row["reason"] == ""
    assert row["direction"] == COMPARATORS[measure].direction
    assert row["value_shuffled"] < 0.5
    assert row["value_untrained"] < 0.5


@pytest.mark.parametrize("measure", BASIS_FREE)
def test_a_haar_rotation_leaves_basis_free_measures_as_they_are(identical, measure):
    row = row_of(identical, measure)
    assert row["value_haar"] == pytest.approx(row["value"], abs=1e-9)


@pytest.mark.parametrize("measure", UNIT_MATCHING)
def test_a_haar_rotation_lowers_unit_matching(identical, measure):
    row = row_of(identical, measure)
    assert row["value_haar"] < row["value"] - 0.2


@pytest.mark.parametrize("measure", UNIT_MATCHING)
def test_haar_column_agrees_with_independent_rotations(measure):
    """Rotations from another generator give the same mean, within its spread."""
    x, y = activations(10), activations(10) + activations(10, 1)
    plan = NullPlan(haar_rotations=40, shuffles=1, seed=3)
    row = rows_of(layer(x), layer(y), measures=[measure], plan=plan).iloc[0]
    draws = ortho_group.rvs(10, size=200, random_state=np.random.default_rng(7))
    scores = [score(measure, x, y @ q).value for q in draws]
    assert row["value_haar"] == pytest.approx(np.mean(scores), abs=4 * np.std(scores) / np.sqrt(40))


def test_shuffled_column_is_chance():
    """Debiased CKA of shuffled stimuli is about 0; the mean correlation of matched units falls to its chance level."""
    x = activations(10)
    table = rows_of(layer(x), layer(x), plan=NullPlan(1, 30, 0))
    assert row_of(table, "cka_linear_debiased")["value_shuffled"] == pytest.approx(0.0, abs=0.01)
    rng = np.random.default_rng(9)
    for measure in MEASURES:
        chance = [score(measure, x, x[rng.permutation(ROWS)]).value for _ in range(30)]
        spread = np.std(chance) * np.sqrt(2 / 30)
        assert row_of(table, measure)["value_shuffled"] == pytest.approx(np.mean(chance), abs=5 * spread)


@pytest.mark.parametrize("measure", MEASURES)
def test_value_and_untrained_columns_are_scores(measure):
    x, y = activations(6), activations(6)[:, :4] + activations(4, 5)
    twins = [[activations(units, seed) for seed in (11, 12, 13)] for units in (6, 4)]
    twins[1] = [y_twin + x_twin[:, :4] for x_twin, y_twin in zip(*twins, strict=True)]
    a, b = (
        [layer(twin, model, seed=seed) for seed, twin in enumerate(side)]
        for model, side in zip(("a/net", "b/net"), twins, strict=True)
    )
    row = rows_of(layer(x), layer(y), a, b, [measure]).iloc[0]
    assert row["value"] == score(measure, x, y).value
    expected = [score(measure, x_twin, y_twin).value for x_twin, y_twin in zip(*twins, strict=True)]
    assert row["value_untrained"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_every_measure_of_the_registry_can_be_asked_for():
    """Also those that are distances, directed, or without a value for these layers."""
    x, y = activations(6, rows=60), activations(6, rows=60)[:, :4] + activations(4, 5, rows=60)
    names = list(COMPARATORS)
    table = rows_of(layer(x), layer(y), measures=names, plan=NullPlan(2, 1, 0)).set_index("measure")
    assert table.index.tolist() == names
    for name in names:
        row, expected = table.loc[name], score(name, x, y)
        assert row["value"] == pytest.approx(expected.value, abs=0, nan_ok=True)
        assert row["reason"] == expected.reason
        if COMPARATORS[name].basis_free and not expected.reason:
            assert row["value_haar"] == pytest.approx(row["value"], abs=1e-8)


def test_a_single_score_has_the_nulls_of_a_job():
    """Every measure, with the same numbers of resamples and seed: bit for bit, but for the null that a measure has not."""
    x, y = activations(6, rows=60), activations(6, rows=60)[:, :4] + activations(4, 5, rows=60)
    plan = NullPlan(haar_rotations=2, shuffles=3, seed=7)
    table = rows_of(layer(x), layer(y), measures=list(COMPARATORS), plan=plan).set_index("measure")
    for name, entry in COMPARATORS.items():
        row, (single,) = (
            table.loc[name],
            score(name, x, y, nulls=True, shuffles=3, haar_rotations=2, seed=7).table().to_dict("records"),
        )
        same = ["direction", "value", "value_shuffled", "n", "p", "q", "reason"] + ["value_haar"] * entry.has_haar_null
        pd.testing.assert_series_equal(pd.Series(single)[same], row[same], check_names=False, check_exact=True)


def test_without_twins_the_untrained_column_is_undefined():
    assert rows_of(layer(activations(5)), layer(activations(5, 1)))["value_untrained"].isna().all()


def test_rows_run_over_taps_of_a_then_of_b_then_measures():
    a = [layer(activations(5, k), "a/net", f"a{k}", 0.2 + k / 10) for k in range(2)]
    b = [layer(activations(6, 5 + k), "b/net", f"b{k}", 0.3 + k / 10) for k in range(3)]
    measures = ["unit_match_hungarian", "cka_linear_biased"]
    table = similarity_rows(a, b, [], [], measures, PLAN)
    got = list(zip(table["tap_a"], table["tap_b"], table["measure"], strict=True))
    assert got == [(f"a{i}", f"b{j}", m) for i in range(2) for j in range(3) for m in measures]
    assert table["depth_a"].tolist() == [0.2 + i / 10 for i in range(2) for _ in range(6)]
    assert table["depth_b"].tolist() == [0.3 + j / 10 for _ in range(2) for j in range(3) for _ in measures]
    assert set(table["model_a"]) == {"a/net"}
    assert set(table["model_b"]) == {"b/net"}
    for (i, j, measure), value in zip(
        [(i, j, m) for i in range(2) for j in range(3) for m in measures], table["value"], strict=True
    ):
        assert value == score(measure, a[i].natural, b[j].natural).value


def test_columns_are_exactly_those_of_the_schema(identical):
    assert list(identical.columns) == schema.SIMILARITY.names
    pd.testing.assert_frame_equal(schema.as_table(schema.SIMILARITY, identical), identical)


def test_dead_units_are_counted_out():
    x, y = activations(7), activations(9, 1)
    x[:, 2], y[:, [0, 4]] = 0.0, 0.3
    table = rows_of(layer(x), layer(y))
    assert set(table["n"]) == {ROWS}
    assert set(table["p"]) == {6}
    assert set(table["q"]) == {7}
    for measure in MEASURES:
        assert row_of(table, measure)["value"] == score(measure, x, y).value


@pytest.mark.parametrize("measure", BASIS_FREE)
def test_dead_units_do_not_disturb_the_haar_column(measure):
    x, y = activations(7), activations(9)
    y[:, [0, 4]] = 0.3
    row = rows_of(layer(x), layer(y), measures=[measure]).iloc[0]
    assert row["value_haar"] == pytest.approx(row["value"], abs=1e-9)


def test_dead_layer_has_no_score_and_a_reason():
    table = rows_of(layer(activations(5)), layer(np.ones((ROWS, 5))))
    assert table["value"].isna().all()
    assert (table["reason"] != "").all()
    assert set(table["q"]) == {0}


def test_too_few_stimuli_have_no_svcca_and_a_reason():
    a, b = (layer(np.random.default_rng(seed).standard_normal((20, 400))) for seed in range(2))
    row = row_of(rows_of(a, b), "svcca_variance99")
    assert np.isnan(row["value"])
    assert "too few" in row["reason"]


@pytest.mark.parametrize("rows", [3, 4, ROWS])
def test_order_of_the_measures_does_not_matter(rows):
    """Also where measures share a preparation but need unequal numbers of stimuli."""
    a, b = layer(activations(5, rows=rows)), layer(activations(5, 1, rows=rows))
    forward, backward = (
        rows_of(a, b, [a], [b], order).set_index("measure").loc[MEASURES] for order in (MEASURES, MEASURES[::-1])
    )
    pd.testing.assert_frame_equal(forward, backward, check_exact=True)
    for measure in MEASURES:
        alone = rows_of(a, b, [a], [b], [measure]).set_index("measure")
        pd.testing.assert_frame_equal(alone, forward.loc[[measure]], check_exact=True)


def test_same_plan_same_table_and_the_seed_moves_the_nulls_only():
    a, b = layer(activations(6)), layer(activations(6) + activations(6, 1))
    once, again, other = (rows_of(a, b, plan=NullPlan(2, 2, seed)) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(once, again, check_exact=True)
    assert once["value"].equals(other["value"])
    assert (once["value_shuffled"] != other["value_shuffled"]).all()
    matching = once["measure"].isin(UNIT_MATCHING)
    assert (once["value_haar"] != other["value_haar"])[matching].all()


def test_rotations_are_orthogonal_different_and_repeatable():
    first, second = (zoos.rotation(6, index, 0) for index in range(2))
    np.testing.assert_allclose(first @ first.T, np.eye(6), atol=1e-12)
    assert np.abs(first - second).max() > 0.1
    for index, (basis, matrix) in enumerate(zip(haars(2, 0), (first, second), strict=True)):
        np.testing.assert_array_equal(basis.seen(np.eye(6)), matrix)
        np.testing.assert_array_equal(haar(index, 0).seen(np.eye(6)), matrix)
    assert not np.array_equal(first, zoos.rotation(6, 0, 1))


def test_live_needs_both_folds():
    x = activations(4)
    made = layer(x)
    x[made.fold == 0, 1], x[made.fold == 1, 2], x[:, 3] = 0.5, 0.5, 0.5
    assert layer(x).live.tolist() == [True, False, False, False]


def test_rotated_layer_mixes_photographs_and_curves_alike():
    made = layer(activations(5))
    q = zoos.rotation(5, 0, 0)
    turned = made.in_basis(haar(0, 0))
    np.testing.assert_allclose(turned.natural @ q.T, made.natural, atol=1e-12)
    np.testing.assert_allclose(drawn(turned, "curve") @ q.T, drawn(made, "curve"), atol=1e-12)
    assert turned.ref == made.ref
    assert np.array_equal(turned.fold, made.fold)
