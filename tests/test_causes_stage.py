"""The stages about interventions in a whole run: their tables hold together, with what correspondence says, and what a job cannot ask is said."""

import tomllib

import numpy as np
import pytest
from edited_job import EDITED_JOB

import universality
from universality.base.errors import CardError, JobError
from universality.causes.plan import BASES
from universality.causes.transplants import VERDICTS, judged
from universality.report import pages
from universality.report.interventions import ablations_said, patches_said, transplants_said
from universality.runs.job import Job

STAGES = {"ablations", "patches", "transplants", "roles"}


@pytest.fixture(scope="module")
def tables(edited):
    return {
        name: edited.table(name)
        for name in ("ablations", "ablation_classes", "attributions", "patches", "transplants", "circuit_and_role")
    }


def job(**changed):
    return Job.model_validate(tomllib.loads(EDITED_JOB) | changed)


def test_every_unit_and_family_is_removed_in_every_way_beside_random_units(edited, tables):
    rows = tables["ablations"]
    assert set(edited.record["stages"]) >= STAGES
    units = rows[rows["what"] == "unit"]
    assert (units.groupby(["model", "base"]).size() == 64).all() and set(units["base"]) == set(BASES)
    detectors = edited.units[(edited.units["seed"] == -1) & edited.units["detector"]]
    families = rows[rows["what"] == "family"].drop_duplicates("model").set_index("model")["n_units"]
    assert families.to_dict() == detectors.groupby("model").size().to_dict()
    assert (
        (rows["next_tap"] == "features.11").all() and rows["kl"].min() > -1e-12 and rows["d_loss_random"].notna().all()
    )
    assert len(tables["ablation_classes"]) == 12 * len(rows)
    assert (tables["attributions"].groupby("model").size() == 64).all()


def test_whole_layers_restore_the_answer(tables):
    whole = tables["patches"][(tables["patches"]["what"] == "layer") & (tables["patches"]["n_pairs"] > 7)]
    assert len(whole) and {"shape"} <= set(whole["parameter"])
    np.testing.assert_allclose(whole["restored"], 1, rtol=1e-5)
    assert (whole["answered"] == 1).all()


def test_transplants_are_of_matched_pairs_in_both_directions(edited, tables):
    rows = tables["transplants"]
    units = rows[rows["what"] == "unit"]
    keys = ["model_a", "model_b", "tap_a", "tap_b", "family", "unit_a", "unit_b"]
    matched = edited.correspondence
    matched = matched[(matched["method"] == edited.job.matched_by()) & (matched["verdict"] != "unmatched")]
    assert set(map(tuple, units[keys].to_numpy())) == set(map(tuple, matched[keys].to_numpy()))
    assert (units.groupby(keys).size() == 2 * 2 * 3).all()
    assert {(r.into, r.what) for r in rows.itertuples()} >= {("a", "layer"), ("b", "layer")}
    assert set(rows["verdict"]) <= set(VERDICTS) and (rows["verdict"].to_numpy() == judged(rows)).all()
    known = rows[rows["recovery"].notna()]
    assert (
        (known["recovery"] <= 1).all()
        and (known["ablated_low"] > 0).all()
        and (known["recovery_low"] <= known["recovery_high"]).all()
    )


def test_sentences_put_each_number_beside_its_nulls(tables):
    for said, name in (
        (ablations_said, "ablations"),
        (patches_said, "patches"),
        (lambda t: transplants_said(t, "networks"), "transplants"),
    ):
        found = list(said(tables[name]))
        assert found and all("nan" not in text for text, _ in found), found
        assert any("random" in text for text, _ in found)


def test_the_page_of_a_unit_says_what_its_network_loses_and_how_its_match_stands_in(edited, tables, tmp_path):
    rows = tables["transplants"].query("what == 'unit' and measure == 'kl' and base == 'mean' and into == 'b'")
    row = rows[rows["recovery"].notna()].sort_values("ablated").iloc[-1]
    unit = row["model_b"], row["tap_b"], int(row["unit_b"])
    pages.write(edited, tmp_path, units=[unit])
    shown = " ".join((tmp_path / pages.address(unit)).read_text(encoding="utf-8").split())
    said = f"recovers {row['recovery']:.2f} ({row['recovery_low']:.2f} to {row['recovery_high']:.2f}) of what the mean in its place costs"
    assert f"In this unit's place (two scalars) the partner {said}" in shown
    assert f"the best other unit {row['recovery_unmatched']:.2f}" in shown and f": {row['verdict']}." in shown
    # The other direction, what this unit does in the partner's place, is said on the partner's page.
    assert shown.count("In this unit's place") == len(rows[rows["unit_b"] == unit[2]])
    lost = (
        tables["ablations"].query("what == 'unit' and model == @unit[0] and unit == @unit[2]").set_index("base")["kl"]
    )
    for base, words in (("resample", "Maps of other images"), ("mean", "Its mean"), ("zero", "Zero")):
        assert f"{words} in its place: divergence of the answers {lost[base]:.4f} nats" in shown


def test_an_interrupted_experiment_resumes_and_other_images_are_another_experiment(edited):
    plan = universality.plan(
        edited.job, edited.path, edited.store.location if hasattr(edited.store, "location") else edited.store
    )
    assert plan.kept() == plan.n_tasks
    other = universality.plan(job(interventions={"images": 36}), edited.path, plan.store.location)
    left = dict(zip((stage.name for stage in other.stages), other.left(), strict=True))
    assert {name for name, share in left.items() if share == 1 and name != "roles"} == STAGES - {"roles"}
    assert other.inputs_digest != plan.inputs_digest


def test_a_job_without_edited_taps_has_no_such_stage_and_is_the_job_that_it_was():
    models = [{"id": entry.id, "taps": list(entry.taps)} for entry in job().models]
    plain = job(models=models, stages={})
    assert not STAGES & {stage.name for stage in universality.plan(plain, store="memory://none").stages}
    assert plain.digest() == job(models=models, stages={}, interventions={"images": 99}).digest()
    with pytest.raises(
        JobError, match=r"stage 'ablations' is about interventions, and no model of the job names taps .* edited = "
    ):
        universality.plan(plain, store="memory://none", only=["ablations"])


def test_a_tap_that_is_none_of_the_job_is_one_sentence():
    models = [
        {"id": "pocket/alexnet-focus-s0", "taps": ["features.9"], "edited": ["features.8"]},
        {"id": "pocket/alexnet-focus-s1", "taps": ["features.9"]},
    ]
    with pytest.raises(
        CardError,
        match=r"'pocket/alexnet-focus-s0' is to be edited at 'features.8', which is no tap of it in this job; did you mean 'features.9'",
    ):
        universality.plan(job(models=models), store="memory://none")
