"""What two layers share: counts, scores, the choice of the best pair of layers, and disagreements, against hand-made tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from universality.base import schema
from universality.correspondence import layer_pairs

UNITS, DETECTORS = 20, {("a", "a1"): 10, ("a", "a2"): 5, ("b", "b1"): 8}


def filled(table, rows):
    """Rows with a 0, False or empty text in every column that is not given."""
    blank = {"string": "", "bool": False, "int": 0, "float": 0.0}
    frame = pd.DataFrame([{c.name: blank[c.kind] for c in table.columns} | row for row in rows])
    return schema.as_table(table, frame) if rows else schema.empty_table(table)


def families():
    return filled(
        schema.FAMILIES,
        [
            {
                "model": model, "tap": tap, "family": "curve", "n_units": UNITS, "n_detectors": count,
                "share": count / UNITS, "n_twins": 2, "coverage": 0.5, "largest_gap_deg": 40.0,
            }
            for (model, tap), count in DETECTORS.items()
        ],
    )  # fmt: skip


def similarity(value=0.5, untrained=0.5, measures=("cka_linear_debiased", "svcca_variance99")):
    return filled(
        schema.SIMILARITY,
        [
            {
                "model_a": "a", "model_b": "b", "tap_a": tap, "tap_b": "b1", "measure": measure, "value": value,
                "value_untrained": untrained,
            }
            for tap in ("a1", "a2")
            for measure in measures
        ],
    )  # fmt: skip


def match(tap, verdict="unmatched", r_match=0.0, r_natural=0.0, met=True, **columns):
    return {
        "model_a": "a", "model_b": "b", "tap_a": tap, "tap_b": "b1", "family": "curve", "method": "hungarian",
        "detector_a": True, "detector_b": met, "verdict": verdict, "r_match": r_match, "r_natural": r_natural,
        **columns,
    }  # fmt: skip


def trained():
    rows = [match("a1", "same_feature", 0.9, 0.8, r_aligned=0.9, ceiling_a=0.7) for _ in range(4)]
    rows += [match("a1", "family_only", 0.5, 0.4, r_aligned=0.5, ceiling_a=0.5) for _ in range(2)]
    rows += [match("a1", met=False, r_match=0.9, r_natural=0.9, ceiling_a=0.1) for _ in range(4)]
    rows += [match("a2", "correlated_only", 0.95, 0.1)]
    return filled(schema.CORRESPONDENCE, rows)


def nulls():
    """Twins of seed 0 meet once at a2; of seed 1 nowhere. In a random basis A meets at both taps, B nowhere."""
    rows = [match("a2", "family_only", 0.8, 0.6, null="untrained", seed=0, family_rate_a=0.1, family_rate_b=0.1)]
    basis = {"null": "haar_a", "seed": -1, "family_rate_a": 0.2, "family_rate_b": 0.4}
    rows += [match("a1", "family_only", 0.3, 0.24, **basis), match("a2", "same_feature", 0.6, 0.12, **basis)]
    return filled(schema.CORRESPONDENCE_NULLS, rows)


@pytest.fixture(scope="module")
def table():
    made = layer_pairs.pair_rows(families(), trained(), nulls(), similarity(), ["hungarian"])
    assert list(made.columns) == schema.PAIRS.names
    return made.set_index("tap_a")


def test_every_pair_of_layers_family_and_method_has_a_row():
    made = layer_pairs.pair_rows(families(), trained(), nulls(), similarity(), ["hungarian", "mutual_nearest"])
    assert made[["tap_a", "method"]].to_numpy().tolist() == [
        [tap, method] for tap in ("a1", "a2") for method in ("hungarian", "mutual_nearest")
    ]
    empty = made[made["method"] == "mutual_nearest"]
    assert (empty[["n_met", "n_same_feature", "score", "score_haar", "score_untrained"]] == 0).all(axis=None)
    assert not empty["best"].any()
    assert empty["median_r_natural"].isna().all()


def test_counts_and_shares(table):
    row = table.loc["a1"]
    assert row[["n_met", "n_same_feature", "n_family_only", "n_unmatched"]].tolist() == [6, 4, 2, 4]
    assert (row["met_a"], row["met_b"]) == (6 / 10, 6 / 8)
    assert (row["chance_a"], row["chance_b"]) == (8 / UNITS, 10 / UNITS)
    for side, n in (("a", 10), ("b", 8)):
        expected = binomtest(6, n).proportion_ci(method="wilson")
        assert (row[f"met_{side}_low"], row[f"met_{side}_high"]) == pytest.approx((expected.low, expected.high))
    assert row["median_r_natural"] == 0.8
    assert row["median_ceiling_a"] == 0.7
    assert row["mean_r_aligned"] == pytest.approx((4 * 0.9 + 2 * 0.5) / 6)


def test_scores_are_held_out_and_only_pairs_of_detectors_count(table):
    assert table.loc["a1", "score_match"] == pytest.approx(2 * (4 * 0.9 + 2 * 0.5) / 18)
    assert table.loc["a1", "score"] == pytest.approx(2 * (4 * 0.8 + 2 * 0.4) / 18)
    assert table.loc["a2", "score"] == pytest.approx(2 * 0.1 / 13)


def test_nulls_are_means_over_their_draws(table):
    """Two twins, and two random bases, also where one of them holds nothing; scores over the nulls' own detectors."""
    assert table.loc["a2", "n_met_untrained"] == table.loc["a2", "n_family_only_untrained"] == 0.5
    assert table.loc["a2", "score_untrained"] == pytest.approx(2 * 0.6 / (0.1 * 20 + 0.1 * 20) / 2)
    assert table.loc["a1", "n_met_haar"] == 0.5
    assert table.loc["a2", "n_same_feature_haar"] == 0.5
    assert table.loc["a1", "score_haar"] == pytest.approx(2 * 0.24 / (0.2 * 20 + 0.4 * 20) / 2)


def test_the_best_layers_are_chosen_by_one_half_and_reported_by_the_other(table):
    assert table["best"].tolist() == [True, False]
    # In the random basis a2 wins by fold 0 (0.6), although a1 has more on fold 1.
    assert table["best_score_haar"].tolist() == pytest.approx([2 * 0.12 / 12 / 2] * 2)
    assert table["best_score_untrained"].tolist() == pytest.approx([2 * 0.6 / 4 / 2] * 2)


def test_order_of_the_taps_does_not_matter(table):
    parts = [families(), trained(), nulls(), similarity()]
    turned = layer_pairs.pair_rows(*(part.iloc[::-1].reset_index(drop=True) for part in parts), ["hungarian"])
    assert turned["tap_a"].tolist() == ["a2", "a1"]
    # Measures come in another order too: the first of each kind is the same here.
    pd.testing.assert_frame_equal(turned.set_index("tap_a").loc[table.index], table)


def test_choice_among_layers_without_anything_in_common_is_not_rewarded():
    """Many layers, correlations of noise: the best pair by fold 0 is no better than others on fold 1."""
    rng = np.random.default_rng(0)
    chosen, luckiest = [], []
    for _ in range(200):
        made = pd.DataFrame(
            {"group": 0, "n_met": 1, "score_match": rng.standard_normal(12), "score": rng.standard_normal(12)}
        )
        best = made[layer_pairs._chosen(made, ["group"])]
        chosen.append(best["score"].item())
        luckiest.append(best["score_match"].item())
    assert abs(np.mean(chosen)) < 0.2 < 1.4 < np.mean(luckiest)


def test_context_names_its_measures_and_is_empty_without_them():
    row = layer_pairs.pair_rows(families(), trained(), nulls(), similarity(0.6, 0.3), ["hungarian"]).iloc[0]
    assert (row["cka_measure"], row["svcca_measure"]) == ("cka_linear_debiased", "svcca_variance99")
    assert (row["cka"], row["cka_untrained"], row["svcca"]) == (0.6, 0.3, 0.6)
    none = similarity(measures=("unit_match_hungarian",))
    row = layer_pairs.pair_rows(families(), trained(), nulls(), none, ["hungarian"]).iloc[0]
    assert (row["cka_measure"], row["disagreement"]) == ("", "")
    assert np.isnan(row["cka"])


def case(cka=(0.5, 0.5), svcca=(np.nan, np.nan), low=0.1, detectors=10):
    return pd.Series(
        {
            "n_detectors_a": detectors, "n_detectors_b": 10, "met_a": 0.4, "met_b": 0.4, "met_a_low": low, "met_b_low": 0.1,
            "chance_a": 0.2, "chance_b": 0.2, "cka": cka[0], "cka_untrained": cka[1], "svcca": svcca[0],
            "svcca_untrained": svcca[1], "cka_measure": "cka_x", "svcca_measure": "svcca_x",
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            case((0.8, 0.9)),
            "layers alike by cka_x 0.80 (untrained twins 0.90), but detectors meet no more often than chance",
        ),
        (case((0.5, 0.4)), "layers alike by cka_x 0.50 (untrained twins 0.40), but detectors meet no more often"),
        (case((0.5, 0.46)), ""),
        (case((0.5, 0.9)), ""),
        (case((0.5, 0.9), low=0.3), "cka_x 0.50 (untrained twins 0.90) below the twins, but A's detectors meet more"),
        (case((0.5, 0.54), low=0.3), ""),
        (case((0.8, 0.5), low=0.3), ""),
        (case((0.8, 0.9), detectors=0), ""),
        (case((0.5, 0.4), (0.3, 0.5), low=0.3), "cka_x 0.50 (untrained twins 0.40) above the twins, svcca_x 0.30"),
    ],
)
def test_disagreements(made, said):
    found = layer_pairs.disagreement(made)
    assert said in found
    assert bool(said) == bool(found)
