"""The stage `circuits` in a whole run: its tables hold together, and with what correspondence says."""

import numpy as np
import pandas as pd
import pytest
from undrawn import drawn

import universality
from universality.circuits import motifs
from universality.circuits.motif_tables import MOTIF_TABLES
from universality.circuits.pairs import LEAST_SOURCES, NULLS, VERDICTS, judged, power, same_circuit
from universality.circuits.plan import CircuitPlan
from universality.correspondence.resampling import with_q
from universality.figures.circuits import circuit_words
from universality.jobs.circuits import motif_task
from universality.report.sentences import circuit_sentences, findings, profiles_sentence, untrained_sentences
from universality.runs.layers import references
from universality.runs.networks import networks_of

KEYS = ["model_a", "model_b", "tap_a", "tap_b", "family", "unit_a", "unit_b"]


JOB = """
name = "wired"
question = "Are detectors wired alike?"

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.11", "features.13", "features.18"]

[[models]]
id = "pocket/vgg-focus-s1"
taps = ["features.13", "features.18"]

[stimuli.natural]
crops = 60
shapes = 120
diet = "focus"

[stimuli.high_low]
orientations = 16
phases = 1

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
measures = ["cka_linear_debiased"]
bootstraps = 100

[nulls]
calibration_crops = 32
untrained_seeds = [0]
haar_rotations = 2
shuffles = 2

[stages]
only = ["circuits"]
"""


@pytest.fixture(scope="module")
def wired(once):
    """A run of two pocket networks: the first has a tap more than the second."""

    def make(folder):
        (folder / "job.toml").write_text(JOB, encoding="utf-8")
        with drawn("wiring_profiles", "circuits_and_nulls"):
            universality.run(folder / "job.toml", folder / "run", store=folder / "store")

    folder = once("wired", make)
    return universality.open_run(folder / "run", folder / "store")


@pytest.fixture(scope="module")
def tables(wired):
    return {name: wired.table(name) for name in ("circuits", "circuits_untrained", "profiles", "profile_pairs")}


def test_rows_are_matched_pairs_whose_networks_have_earlier_taps(wired, tables):
    rows = tables["circuits"]
    assert len(rows) > 5
    matched = wired.correspondence
    matched = matched[(matched["method"] == wired.job.matched_by()) & (matched["verdict"] != "unmatched")]
    both = rows.merge(matched[[*KEYS, "verdict", "r_natural"]], on=KEYS, suffixes=("", "_of_match"))
    assert len(both) == len(rows)
    np.testing.assert_array_equal(both["verdict_response"], both["verdict_of_match"])
    np.testing.assert_array_equal(both["r_natural"], both["r_natural_of_match"])
    # The second network has one tap before its last, and none before that.
    assert set(rows["tap_b"]) == {"features.18"} and set(rows["back"]) == {1}
    before = {"features.13": "features.11", "features.18": "features.13"}
    assert rows["tap_a"].map(before).tolist() == rows["source_a"].tolist()
    assert set(rows["source_b"]) == {"features.13"}


def test_numbers_lie_where_they_can(tables):
    rows = tables["circuits"]
    within = rows[["s_w", "s_w_ceiling", "fidelity", *(f"s_w_{name}" for name in NULLS)]]
    assert ((within >= -1 - 1e-9) & (within <= 1 + 1e-9) | within.isna()).all(axis=None)
    assert (rows["s_w_low"] <= rows["s_w_high"]).all()
    assert (rows["n_sources"] >= LEAST_SOURCES).all()
    assert rows["share_within"].between(0, 1).all() and rows["power"].dropna().between(0, 1).all()
    assert set(rows["verdict"]) <= set(VERDICTS)


def test_profiles_are_of_every_tap_with_the_one_before(tables):
    rows = tables["profiles"]
    at = set(rows[["model", "source_tap", "target_tap"]].itertuples(index=False, name=None))
    assert ("pocket/vgg-focus-s1", "features.13", "features.18") in at
    # High-low frequency detectors excite those of their own orientation most: published of this zoo, and in no untrained twin.
    own = rows[(rows["target_tap"] == "features.18") & (rows["difference_deg"] == 0)]
    assert (own["weight"] > own["permuted_high"]).all() and (own["weight_low"] > own["untrained_high"]).all()
    pair = tables["profile_pairs"].query("tap_a == 'features.18' and tap_b == 'features.18'").iloc[0]
    assert pair["r"] > pair["r_permuted_95"] and pair["p"] < 0.05


def test_motifs_of_a_network_say_where_they_come_from(wired, monkeypatch):
    monkeypatch.setattr(motifs, "CASE_UNITS", 2)
    monkeypatch.setattr(motifs, "CASE_IMAGES", 24)
    model, taps = "pocket/vgg-focus-s1", ("features.13", "features.18")
    networks = {network.seed: network for network in networks_of(wired.job) if network.card.id == model}
    layers = {seed: [ref for ref in references(wired) if (ref.model, ref.seed) == (model, seed)] for seed in networks}
    units = wired.units.query("model == @model and seed == -1")
    rows = motif_task(networks, layers, CircuitPlan(wired.job.comparison.families, 0), units)
    found = {name: motifs.finished(name, of) for name, of in rows.items()}
    assert all(list(of) == MOTIF_TABLES[name].names for name, of in found.items())
    for name in ("layouts", "equivariance", "cases", "superposition", "edges"):
        assert len(found[name]) and set(found[name]["model"]) == {model} and set(found[name]["target_tap"]) == {taps[1]}
        assert set(found[name]["source_tap"]) == {taps[0]}
    assert found["branches"].empty  # nothing is joined along the channels
    detectors = units.query("tap == 'features.18' and detector")["unit"]
    assert set(found["edges"]["unit"]) == set(detectors) and set(found["cases"]["unit"]) <= set(detectors)
    assert (found["cases"]["n_shown"] + found["cases"]["n_silent"] == 24).all()
    # Trained weights follow the difference of angles, those of the twin with the same labels do not.
    (share,) = found["equivariance"].to_dict("records")
    assert share["share"] > share["share_permuted_95"] and share["share"] > share["share_untrained"]


def test_q_and_verdict_follow_from_the_other_columns(tables):
    rows = tables["circuits"]
    pd.testing.assert_series_equal(with_q(rows)["q"], rows["q"])
    np.testing.assert_array_equal(judged(rows), rows["verdict"])
    np.testing.assert_allclose(power(rows), rows["power"])


def test_untrained_twins_are_judged_by_the_same_rule(wired, tables):
    rows = tables["circuits_untrained"]
    assert len(rows) > 5 and set(rows["seed"]) == {0} and not rows["same_circuit"].any()
    np.testing.assert_array_equal(same_circuit(with_q(rows)), rows["same_circuit"])
    said = [finding.text for finding in findings(wired) if finding.text.startswith("Untrained twins compared")]
    assert len(said) == rows["sources"].nunique()
    by_match = rows[rows["sources"] == "match"]
    assert any(
        f"0 of {len(by_match)} pairs of units matched by their responses are same_circuit" in text for text in said
    )


def test_sentences_of_untrained_twins_count_and_bound():
    rows = pd.DataFrame(
        {"sources": ["match"] * 40 + ["angle"] * 10, "same_circuit": [True] + [False] * 49, "s_w": 0.01}
    )
    said = [finding.text for finding in untrained_sentences(rows)]
    # Clopper and Pearson, one-sided: 1 of 40, 0 of 10.
    assert "1 of 40" in said[0] and "below 11 % with 95 % confidence" in said[0]
    assert "0 of 10" in said[1] and "below 26 % with 95 % confidence" in said[1]


def test_power_is_how_often_a_pair_at_the_ceiling_would_pass():
    """Against draws: Fisher's z about the ceiling's, and the verdict's own rule."""
    rows = pd.DataFrame(
        [
            row(
                s_w=np.tanh(0.6),
                s_w_low=np.tanh(0.4),
                s_w_high=np.tanh(0.8),
                s_w_ceiling=0.45,
                s_w_haar_95=0.2,
                s_w_readout=0.25,
            )
        ]
    )
    z = np.arctanh(0.45) + 0.2 / 1.96 * np.random.default_rng(0).standard_normal(20_000)
    drawn = (
        rows.loc[rows.index.repeat(len(z))]
        .reset_index(drop=True)
        .assign(s_w=np.tanh(z), s_w_low=np.tanh(z - 0.2), s_w_high=np.tanh(z + 0.2))
    )
    assert power(rows)[0] == pytest.approx((judged(drawn) == "same_circuit").mean(), abs=0.01)
    assert 0.5 < power(rows)[0] < 0.9
    assert power(rows.assign(s_w_ceiling=0.2))[0] < 0.05 and np.isnan(power(rows.assign(s_w_ceiling=np.nan))[0])


def test_captions_count_each_way_of_setting_sources_side_by_side_by_itself():
    rows = pd.DataFrame(
        [
            {**row(), "verdict": v, "sources": s}
            for v, s in (("undecided", "match"), ("same_circuit", "match"), ("undecided", "angle"))
        ]
    )
    (said,) = circuit_words(rows, "curves").values()
    assert (
        said
        == "; sources matched one to one: 1 undecided, 1 same_circuit; sources by family and relative angle: 1 undecided"
    )


def row(**given):
    return {
        "model_a": "a", "model_b": "b", "q": 0.01, "s_w": 0.7, "s_w_low": 0.6, "s_w_high": 0.8, "s_w_haar_95": 0.5, "s_w_ceiling": 0.9, "fidelity": 0.9,
        "s_w_detectable": 0.2, "s_w_permuted_95": 0.2, "power": 0.75, "share_within": 0.62, "sources": "match", "back": 1, "verdict_response": "same_feature", **{f"s_w_{name}": 0.1 for name in NULLS}, **given,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "same_circuit"),
        ({"q": 0.2}, "undecided"),
        ({"s_w_readout": 0.65}, "undecided"),
        ({"s_w_untrained": np.nan}, "same_circuit"),
        ({"s_w_haar_95": 0.75}, "undecided"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.4}, "same_response_other_circuit"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.46}, "undecided"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.4, "fidelity": 0.2}, "undecided"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.4, "fidelity": np.nan}, "undecided"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.4, "verdict_response": "correlated_only"}, "undecided"),
        ({"s_w": 0.2, "s_w_low": 0.0, "s_w_high": 0.4, "s_w_ceiling": np.nan}, "undecided"),
    ],
)
def test_each_condition_of_a_verdict_counts(given, verdict):
    assert judged(pd.DataFrame([row(**given)])).tolist() == [verdict]


def test_sentences_say_the_mean_with_its_interval_and_every_null():
    rows = pd.DataFrame([row(model_b=f"b{k}", s_w=0.3 + 0.1 * k) for k in range(5)])
    rows = rows.assign(verdict=judged(rows))
    (said,) = circuit_sentences(rows, 9, "curve")
    assert "s_w 0.50 on average" in said.text and "5 of 9 such pairs" in said.text
    counts = rows["verdict"].value_counts()
    assert (
        f"Verdicts: {counts['same_circuit']} same_circuit" in said.text
        and f"{counts['undecided']} undecided" in said.text
    )
    assert "nine squares, which hold 62 % of the weights' power" in said.text
    assert "if every true s_w were the ceiling, 75 % would be same_circuit" in said.text
    assert said.text.count("0.10") >= 5 and said.standing == "above"
    (none,) = circuit_sentences(rows[rows["verdict_response"] == "nothing"], 9, "curve")
    (one,) = circuit_sentences(rows[:1], 9, "curve", weights="mean_gradient")
    assert "one pair of networks, so no interval over networks" in one.text and "have gradients (means over" in one.text
    assert "(9 such pairs)" in none.text


def test_profiles_at_chance_are_said_to_be_there():
    rows = pd.DataFrame(
        {"r": np.linspace(-0.2, 0.2, 20), "r_permuted": 0.0, "r_untrained": 0.0, "p": np.linspace(0.03, 0.99, 20)}
    )
    said = profiles_sentence(rows, "curve")
    assert said.standing != "above" and "1 of them above 95 %" in said.text


def test_runs_with_circuits_speak_of_them(wired, whole):
    said = [finding.text for finding in findings(wired) if finding.topic == "circuits"]
    assert any("the profiles of" in text for text in said) and len(said) >= 2
    # One of the small run's networks has a single tap.
    (said,) = [finding.text for finding in findings(whole) if finding.topic == "circuits"]
    assert "no matched pair of units has sources to compare" in said
