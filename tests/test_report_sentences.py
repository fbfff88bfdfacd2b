"""Sentences carry the tables' numbers with their nulls: small tables with known answers."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from universality.activations.spec import ExtractionSpec
from universality.atlas import groups
from universality.base import schema
from universality.features.tables import UNITS
from universality.report import cautions, sentences
from universality.runs.job import ComparisonSpec, Job
from universality.similarity.matching import HOW, MATCHINGS
from universality.stimuli.spec import StimuliSpec


def filled(table, rows, **base):
    kinds = {"string": "", "int": 0, "float": 0.0, "bool": False, "floats": None}
    empty = {c.name: kinds[c.kind] for c in table.columns}
    return schema.as_table(table, pd.DataFrame([empty | base | row for row in rows]))


@pytest.fixture
def families():
    rows = [
        {"model": "m/a", "tap": "a0", "depth": 0.2, "n_units": 10, "n_detectors": 1, "share": 0.1, "share_low": 0.02, "share_high": 0.4},
        {"model": "m/a", "tap": "a1", "depth": 0.4, "n_units": 10, "n_detectors": 4, "share": 0.4, "share_low": 0.17, "share_high": 0.69},
        {"model": "m/b", "tap": "b0", "depth": 0.3, "n_units": 8, "n_detectors": 2, "share": 0.25, "share_low": 0.07, "share_high": 0.59},
        {"model": "m/b", "tap": "b1", "depth": 0.9, "n_units": 8, "n_detectors": 0, "share": 0.0},
    ]  # fmt: skip
    return filled(schema.FAMILIES, rows, family="curve", rule="invariant", n_twins=1, share_haar=0.05)


@pytest.fixture
def similarity():
    def row(tap_a, depth_a, tap_b, depth_b, value):
        return {
            "tap_a": tap_a,
            "depth_a": depth_a,
            "tap_b": tap_b,
            "depth_b": depth_b,
            "value": value,
            "value_haar": value,
        }

    rows = [row("a0", 0.2, "b0", 0.3, 0.5), row("a0", 0.2, "b1", 0.9, 0.9), row("a1", 0.4, "b0", 0.3, 0.7), row("a1", 0.4, "b1", 0.9, 0.9)]  # fmt: skip
    return filled(
        schema.SIMILARITY, rows, model_a="m/a", model_b="m/b", measure="cka", direction="similarity",
        value_untrained=0.65, value_shuffled=-0.001,
    )  # fmt: skip


@pytest.fixture
def correspondence():
    rows = [
        {"tap_a": "a1", "tap_b": "b0", "unit_a": 0, "detector_b": True, "near_b": True, "verdict": "same_feature", "r_natural": 0.9, "q": 0.01},
        {"tap_a": "a1", "tap_b": "b0", "unit_a": 1, "detector_b": True, "near_b": True, "verdict": "family_only", "r_natural": 0.5, "q": 0.01, "delta_theta_deg": 90},
        {"tap_a": "a1", "tap_b": "b0", "unit_a": 2, "detector_b": False, "verdict": "unmatched", "r_natural": 0.1, "q": 0.5},
        {"tap_a": "a0", "tap_b": "b0", "unit_a": 3, "detector_b": True, "near_b": True, "verdict": "family_only", "r_natural": 0.3, "q": 0.2},
        # Not the taps of nearest depth: in no sentence.
        {"tap_a": "a1", "tap_b": "b1", "unit_a": 0, "detector_b": True, "near_b": True, "verdict": "same_feature", "r_natural": 0.99, "q": 0.01},
    ]  # fmt: skip
    return filled(
        schema.CORRESPONDENCE, rows, model_a="m/a", model_b="m/b", family="curve", method="hungarian", detector_a=True,
        near_a=True, power=0.6, r_confirmable=0.7, r_natural_haar=0.4, r_natural_untrained=-0.001, r_tuning=0.8, family_rate_b=0.25, r_natural_low=0.0, r_natural_high=0.3,
    )  # fmt: skip


@pytest.fixture
def units():
    rows = [{"model": "m/a", "tap": "a1", "unit": n, "preferred_deg": angle} for n, angle in enumerate((0.0, 90.0))]
    rows += [{"model": "m/b", "tap": "b0", "unit": n, "preferred_deg": angle} for n, angle in enumerate((10.0, 180.0))]
    rows += [{"model": "m/b", "tap": "b0", "unit": 9, "preferred_deg": 0.0, "seed": 0}]
    return filled(UNITS, rows, seed=-1, family="curve", detector=True)


def test_detectors_are_summed_up_from_the_least_to_the_most(families):
    finding = sentences.detectors_summary(families)
    assert finding.text.startswith(
        "Curve detectors are there in 2 of 2 networks at the tap nearest to 50 % of their depth: 25 % (95 % interval 7.0 % to 59 %) in b at b0 to 40 % (95 % interval "
        "17 % to 69 %) in a at a1, of these 0 of 6 of the strict level; in untrained twins none at any tap (0 of 36 units, so below 8.0 % with 95 % confidence). At the tap with the most of them it is up to 40 % (95 % interval for the largest of 2 taps "
        "15 % to 72 %) in a at a1."
    )
    assert finding.standing == "above"


def test_detectors_that_untrained_twins_reach_are_not_above_their_null(families):
    families.loc[families["tap"] == "b1", "share_untrained"] = 0.1
    finding = sentences.detectors_summary(families)
    assert "in untrained twins 10 % at most (mean over seeds, b at b1)" in finding.text
    assert finding.standing == "mixed"


def test_the_bound_of_no_untrained_unit_is_never_said_to_be_nothing(families):
    """0 of 22,560: by the exact interval below 1 - 0.05^(1/22560) = 0.0133 %."""
    said = sentences.detectors_summary(families.assign(n_units=22560, n_twins=[1] + [0] * (len(families) - 1))).text
    assert "(0 of 22560 units, so below 0.013 % with 95 % confidence)" in said


def test_no_detectors_anywhere_is_said(families):
    families["n_detectors"] = 0
    assert "none in any of 2 networks" in sentences.detectors_summary(families).text


@pytest.mark.parametrize(("haar", "standing"), [(0.05, "above"), (0.2, "null")])
def test_units_are_held_against_random_directions(families, haar, standing):
    best = families.iloc[[1, 2]].assign(share_haar=haar)
    finding = sentences.basis_summary(best)
    assert finding.standing == standing
    assert (
        f"{sentences._share(haar)} pass the rule, in one of their standardised units 0.0 %, of the units themselves 32 %"
        in finding.text
    )
    standardised = sentences.basis_summary(best.assign(share_haar=0.0, share_haar_standardised=haar))
    assert standardised.standing == standing


def test_matches_are_summed_up_over_taps_of_nearest_depth(correspondence, similarity):
    summary, verdicts = sentences.matches_summary(correspondence, groups.nearest_taps(similarity), "curve", "hungarian")
    assert summary.text == (
        "Of 4 curve detectors matched one to one among all units, 3 met one of the same kind (75 %, chance 25 %), over 1 pair of "
        "networks, each tap of the first with the tap of the second nearest in depth. Their median held-out r is 0.50 (best partner "
        "in a random basis (Haar) 0.40, in an untrained twin 0.00)."
    )
    assert summary.standing == "above"
    # Wilson's interval of 1 in 3
    assert "1 earns the verdict same_feature (33 %, 95 % interval 6.1 % to 79 %" in verdicts.text
    assert "The others: 2 family_only" in verdicts.text
    assert "Were each of them a true pair of its correlation, 1.8 would be above random bases" in verdicts.text
    assert "from r 0.70 on with a power of 0.8" in verdicts.text


def test_the_verdict_of_a_single_pair_is_in_the_singular(correspondence):
    one = (
        correspondence[correspondence["detector_a"] & correspondence["detector_b"]]
        .head(1)
        .assign(verdict="family_only", q=0.5)
    )
    text = sentences._verdicts(one, "curve").text
    assert text.startswith(
        "Of 1 pair of curve detectors (one a detector, the other at least a near miss) in networks, 0 earn the verdict"
    )


def test_matches_below_their_null_are_said_to_be_there(correspondence, similarity):
    taps = groups.nearest_taps(similarity)
    correspondence[["r_natural_haar", "family_rate_b"]] = 0.9
    assert next(sentences.matches_summary(correspondence, taps, "curve", "hungarian")).standing == "null"
    correspondence["detector_b"] = False
    alone = list(sentences.matches_summary(correspondence, taps, "curve", "hungarian"))
    assert [finding.standing for finding in alone] == ["null"]


def test_a_null_without_detectors_is_not_said_to_be_passed(correspondence):
    rows = [
        {"null": "haar_b", "method": "hungarian", "verdict": "family_only", "detector_a": True, "near_b": True}
    ] * 500
    # These could not have passed, and are not counted.
    rows += [{"null": "haar_b", "method": "hungarian", "verdict": "unmatched", "detector_a": True}] * 300
    nulls = filled(schema.CORRESPONDENCE_NULLS, rows)
    finding = sentences.null_verdicts(correspondence, nulls, "hungarian")
    assert "0 of 0" not in finding.text and finding.standing == "above"
    assert (
        "(Haar): 0 of 500, which is below 0.6 % with 95 % confidence; between untrained twins: no pair could have passed, so"
        in finding.text
    )
    assert sentences.null_verdicts(correspondence, nulls.head(0), "hungarian").standing == "none"


@pytest.mark.parametrize(("same", "standing"), [(1, "null"), (9, "above")])
def test_few_verdicts_are_not_above_their_null(same, standing):
    """1 of 255 against 0 of 413 is what chance does; 9 of 255 is not (Fisher's exact p 0.38 and 2e-4)."""
    verdicts = ["same_feature"] * same + ["family_only"] * (255 - same)
    of_family = {"detector_a": True, "near_b": True, "method": "hungarian"}
    rows = [of_family | {"verdict": verdict} for verdict in verdicts]
    nulls = [of_family | {"null": "haar_b", "verdict": "family_only"}] * 413
    found = sentences.null_verdicts(
        filled(schema.CORRESPONDENCE, rows), filled(schema.CORRESPONDENCE_NULLS, nulls), "hungarian"
    )
    assert found.standing == standing


def test_ceilings_are_those_of_the_tap_with_the_most_detectors():
    rows = [
        {"model": "m/a", "tap": "a0", "n_detectors": 8, "n_again": 6, "n_met": 6, "n_same_feature": 4, "median_r": 0.8},
        {"model": "m/a", "tap": "a1", "n_detectors": 3, "n_again": 3, "n_met": 3, "n_same_feature": 3, "median_r": 0.9},
        {"model": "m/b", "tap": "b0", "n_detectors": 2, "n_again": 2, "n_met": 1, "n_same_feature": 1, "median_r": 0.7},
    ]
    table = filled(schema.CEILINGS, rows, family="curve", method="hungarian", copy_r=0.84)
    text = sentences.ceiling(table, "curve", 0.84).text
    assert "with their originals by 0.84; here by a median of 0.75" in text
    assert "of 10 curve detectors 8 are detectors again, 7 meet one (70 %), and 5 earn same_feature (50 %)" in text
    none = sentences.ceiling(table.assign(n_detectors=0), "curve", 0.84)
    assert none.standing == "none" and "none of 2 networks holds curve detectors" in none.text
    assert text.startswith("Ceilings, networks (a, b): ")


def test_matches_of_one_pair_name_their_taps_and_chance(correspondence, units):
    finding = sentences.matches_detail(correspondence, units, "curve", ("m/a", "m/b"), ("a1", "b0"), "hungarian")
    assert finding.text.startswith(
        "a a1 to b b0, one to one among all live units: of 3 curve detectors that were matched, 2 (67 %"
    )
    assert "50 % differ by at most 30 degrees in preferred orientation (chance 25 %)" in finding.text
    assert "1 family_only" in finding.text and "1 unmatched" in finding.text
    nothing = sentences.matches_detail(correspondence, units, "curve", ("m/a", "m/b"), ("a0", "b1"), "hungarian")
    assert nothing.text == "a a0 to b b1: none of the curve detectors was matched one to one."


def test_similarity_is_a_mean_over_taps_of_nearest_depth(similarity):
    near = groups.at_taps(similarity, groups.nearest_taps(similarity))
    assert near["value"].tolist() == [0.5, 0.7]  # 0.9 of the deep tap b1 is in neither
    finding = sentences.similarity_summary(near, "cka")
    assert "more alike than those of their untrained twins in 0 of 1 pairs of networks: 0.60 (" in finding.text
    assert "untrained twins 0.65" in finding.text and "shuffled stimuli 0.00" in finding.text
    assert "random basis (Haar) the same by construction" in finding.text
    assert finding.standing == "null"


def test_a_distance_is_more_alike_when_it_is_smaller(similarity):
    near = similarity.assign(direction="distance")
    assert sentences.similarity_summary(near.assign(value=0.6), "d").standing == "above"
    assert sentences.similarity_summary(near.assign(value=0.7), "d").standing == "null"


def test_a_measure_without_values_is_said_to_have_none(similarity):
    assert "not defined" in sentences.similarity_summary(similarity.assign(value=np.nan), "cka").text


def test_a_family_of_another_version_is_called_by_its_name(families):
    assert sentences.detectors_summary(families.assign(family="red_thing")).text.startswith("Red thing units are there")


def said_of(similarity, correspondence, families, units, drawn, method):
    """The findings of a run that has these tables and no others."""
    tables = {"similarity": similarity, "correspondence": correspondence, "families": families, "units": units}
    job = SimpleNamespace(matched_by=lambda: method, drawn=lambda: drawn, compared=lambda: drawn)
    return sentences.findings(SimpleNamespace(has=lambda *names: set(names) <= set(tables), job=job, **tables))


def test_all_findings_come_together(similarity, correspondence, families, units):
    found = said_of(similarity, correspondence, families, units, [("m/a", "m/b")], "hungarian")
    assert [finding.topic for finding in found if not finding.detail] == [
        "detectors",
        "detectors",
        "matches",
        "matches",
        "similarity",
    ]
    text = " ".join(finding.text for finding in found)
    assert "-0.00" not in text and "nan" not in text.lower()


def test_cautions_name_dead_units_and_twins_that_pass(families):
    families.loc[3, ["n_dead", "n_detectors_untrained"]] = (4, 2.0)
    said = list(cautions.of_families(families))
    assert "curve detectors of b at b1 (2.0 of 8)" in said[0] and "at 1 of 4 taps" in said[0]
    assert "4 of 36 units" in said[1] and "b at b1 (4 of 8)" in said[1]
    assert "one untrained twin" in said[2]
    assert len(list(cautions.of_families(families.assign(n_dead=0, n_detectors_untrained=0.0, n_twins=2)))) == 0


def test_cautions_name_wide_intervals(correspondence):
    assert list(cautions.of_correspondence(correspondence)) == []
    wide = list(cautions.of_correspondence(correspondence.assign(r_natural_low=-0.4)))
    assert "in 100% of 4 matched pairs" in wide[0] and "median width 0.70" in wide[0]


@pytest.mark.parametrize(("photographs", "said"), [(29, 1), (30, 0)])
def test_cautions_name_few_photographs(photographs, said):
    index = np.arange(2 * photographs)
    parameters = xr.Dataset(
        coords={
            "photograph": ("stimulus", np.array([f"p{i}" for i in index])),
            "fold": ("stimulus", index % 2),
            "shape_index": ("stimulus", np.full(index.size, -1)),
        }
    )
    assert len(list(cautions.of_photographs(parameters))) == said


def test_cautions_name_measures_without_value(similarity):
    similarity.loc[0, ["value", "reason"]] = (np.nan, "fewer stimuli than units")
    assert list(cautions.of_similarity(similarity)) == [
        "1 of 4 similarities are not defined; the commonest reason: fewer stimuli than units."
    ]


def test_cautions_name_more_than_one_kind_of_processor():
    def record(*made):
        return {"provenance": {"extraction": [{"processors": kinds} for kinds in made]}}

    assert list(cautions.of_processors(cautions.processors(record(["x86_64 A"], ["x86_64 A"], None)))) == []
    (said,) = cautions.of_processors(cautions.processors(record(["x86_64 B"], ["arm64", "x86_64 B"])))
    assert "2 kinds of processor (arm64; x86_64 B)" in said


@pytest.fixture
def by_both(correspondence):
    """Every match of the one-to-one matching, and two of them, with other verdicts, as mutual nearest neighbours."""
    nearest = correspondence.iloc[[1, 3]].assign(method="mutual_nearest", verdict="same_feature", r_natural=[0.6, 0.7])
    return pd.concat([correspondence, nearest], ignore_index=True)


def a_job(**changes):
    models = [{"id": "m/a"}, {"id": "m/b"}]
    return Job.model_validate({"name": "j", "models": models, "extraction": {"reduction": "center"}} | changes)


def test_the_first_method_of_a_job_is_the_one_that_is_spoken_of():
    assert a_job().matched_by() == "hungarian"
    for order in (("mutual_nearest",), ("mutual_nearest", "hungarian"), ("hungarian", "mutual_nearest")):
        assert a_job(comparison={"matching": order}).matched_by() == order[0]


def test_tables_that_a_run_lacks_are_not_spoken_of(families):
    run = SimpleNamespace(has=lambda *names: set(names) <= {"families"}, families=families)
    assert {finding.topic for finding in sentences.findings(run)} == {"detectors"}


def test_every_method_that_a_job_may_name_has_its_words():
    assert set(ComparisonSpec().matching) == set(HOW) == set(MATCHINGS)  # the default names all


@pytest.mark.parametrize(("method", "matched", "met", "same"), [("hungarian", 4, 3, 1), ("mutual_nearest", 2, 2, 2)])
def test_sentences_are_about_the_method_of_the_job(by_both, similarity, families, units, method, matched, met, same):
    of_family = {"null": "haar_a", "detector_a": True, "near_b": True}
    nulls = filled(schema.CORRESPONDENCE_NULLS, [of_family | {"method": name} for name in ("hungarian", method)])
    found = said_of(similarity, by_both, families, units, [("m/a", "m/b")], method)
    summary, verdicts, detail = (finding.text for finding in found if finding.topic == "matches")
    assert f"Of {matched} curve detectors matched {HOW[method]} among all units, {met} met one" in summary
    assert f"{same} earn" in verdicts
    at_taps = by_both[(by_both["method"] == method) & (by_both["tap_a"] == "a1") & (by_both["tap_b"] == "b0")]
    assert f"{HOW[method]} among all live units: of {len(at_taps)} curve detectors that were matched" in detail
    could = by_both["detector_a"] & by_both["near_b"]
    counted = by_both[could & (by_both["method"] == method)]["verdict"].eq("same_feature")
    said = sentences.null_verdicts(by_both, nulls, method).text
    assert f"matched {HOW[method]}, of the matched pairs that could get it" in said
    assert f"near miss): {counted.sum()} of {counted.size};" in said
    assert f"(Haar): 0 of {nulls['method'].eq(method).sum()}, which is below" in said
    others = [words for name, words in HOW.items() if name != method]
    assert not any(words in text for words in others for text in (summary, verdicts, detail, said))


def test_disagreements_are_those_of_a_matching_of_all_units():
    """Mutual nearest neighbours leave detectors without a partner, which the table counts against the chance of a full matching."""
    rows = [
        {"method": name, "disagreement": "they differ"} for name in ("hungarian", "mutual_nearest", "mutual_nearest")
    ]
    (said,) = sentences.disagreements(filled(schema.PAIRS, rows), "hungarian")
    assert said.text.startswith("In 1 of 1 cases")
    assert list(sentences.disagreements(filled(schema.PAIRS, rows), "mutual_nearest")) == []


def test_a_method_without_matches_is_named(correspondence, similarity, families, units):
    found = said_of(similarity, correspondence, families, units, [("m/a", "m/b")], "mutual_nearest")
    said = [finding.text for finding in found if finding.topic == "matches"]
    assert said[0].startswith("No two curve detectors were matched as mutual nearest neighbours")
    assert said[1].endswith("none of the curve detectors was matched as mutual nearest neighbours.")


def test_of_no_pairs_nothing_is_claimed(similarity, correspondence, families, units):
    found = said_of(similarity.head(0), correspondence.head(0), families, units, [], "hungarian")
    (said,) = (finding for finding in found if finding.topic != "detectors")
    assert said.text == "No two networks were compared: the job's list of pairs is empty." and said.standing == "none"


def test_angles_are_called_what_they_are_of(families, similarity, correspondence, units):
    hues = [table.assign(family="colour_contrast") for table in (correspondence, families, units)]
    found = said_of(similarity, *hues, [("m/a", "m/b")], "hungarian")
    details = " ".join(finding.text for finding in found if finding.detail and finding.topic != "similarity")
    assert "degrees in axis of hues" in details and "in preferred axis of hues" in details
    assert "orientation" not in details


@pytest.mark.parametrize(
    ("policy", "reduction", "middle", "size"),
    [
        ("same_field_of_view", "center", True, True),
        ("same_field_of_view", "mean", False, True),
        ("same_receptive_field", "center", False, False),
    ],
)
def test_cautions_about_places_are_those_of_the_job(policy, reduction, middle, size):
    job = a_job(extraction=ExtractionSpec(reduction=reduction), stimuli=StimuliSpec(policy=policy))
    said = " ".join(cautions.of_places(job)).lower()
    assert ("at the middle of the image" in said) is middle
    assert ("the size of drawings follows the image and not each layer's receptive field" in said) is size


def test_networks_trained_on_other_things_are_spoken_of_apart(families, similarity, correspondence, units, monkeypatch):
    sets = {"m/a": "ImageNet-1k (ILSVRC 2012)", "m/b": "procedural shapes, diet focus"}
    monkeypatch.setattr(
        "universality.models.catalogue.cards", lambda: {m: SimpleNamespace(training_set=t) for m, t in sets.items()}
    )
    said = [f.text for f in said_of(similarity, correspondence, families, units, [("m/a", "m/b")], "hungarian")]
    assert any("in 1 of 1 networks trained on ImageNet-1k at the tap" in text for text in said)
    assert any("in 1 of 1 networks trained on procedural shapes at the tap" in text for text in said)
    assert any("over 1 pair of networks trained on different things" in text for text in said)
