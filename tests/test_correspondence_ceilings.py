"""Ceilings: what a layer shares with a noisy copy of itself, from planted units and from a job."""

from dataclasses import replace

import numpy as np
import pytest
from test_correspondence_tables import HUNGARIAN, THETA, drawn, layer, plain_units, planted, seen
from undrawn import drawn as with_figures

import universality
from universality.activations.store import ActivationStore
from universality.base.errors import JobError
from universality.correspondence.ceilings import ceiling_rows
from universality.correspondence.search import Contender


def contender(made, copy_r=None):
    return Contender(replace(made, ref=replace(made.ref, copy_r=copy_r)), (), HUNGARIAN)


def test_copy_that_is_equal_shares_everything():
    made = planted()
    (row,) = ceiling_rows(contender(made), contender(made, 0.99)).to_dict("records")
    assert (row["n_detectors"], row["n_again"], row["n_own"], row["n_met"]) == (12, 12, 12, 12)
    assert row["share_met"] == 1.0 and row["share_met_high"] == 1.0
    assert row["share_same"] >= 0.8  # of 16 units a single random basis comes near some
    assert row["median_r"] == pytest.approx(1.0, abs=1e-12) == row["median_r_natural"]
    assert (row["model"], row["tap"], row["family"], row["copy_r"]) == ("a/net", made.ref.tap.name, "curve", 0.99)


def test_what_a_copy_loses_is_missing_from_the_shares():
    """The copy answers to natural images as before; four of its twelve detectors no longer answer to arcs."""
    made, lost = planted(), [0, 3, 6, 9]
    arcs = drawn()
    arcs[: THETA.size, lost] = plain_units(len(lost), 3)
    (row,) = ceiling_rows(contender(made), contender(layer(seen(arcs.shape[1], 0), arcs), 0.9)).to_dict("records")
    assert (row["n_detectors"], row["n_again"], row["n_own"], row["n_met"]) == (12, 8, 12, 8)
    assert row["share_met"] == pytest.approx(8 / 12)
    assert row["n_same_feature"] <= 8


def test_layer_without_detectors_has_no_ceiling():
    made = layer(seen(6), plain_units(6, 0))
    (row,) = ceiling_rows(contender(made), contender(made, 0.9)).to_dict("records")
    assert row["n_detectors"] == row["n_met"] == 0
    assert np.isnan(row["share_met"]) and np.isnan(row["share_same"])


JOB = """
name = "copies"
pairs = []

[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.9"]

[stimuli.natural]
crops = 94
shapes = 144

[stimuli.high_low]
orientations = 12
phases = 1

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
matching = ["hungarian"]
bootstraps = 100
permutations = 19

[nulls]
calibration_crops = 64
noisy_copies = [0.9]
"""


@pytest.fixture(scope="module")
def run(once):
    def make(folder):
        (folder / "job.toml").write_text(JOB, encoding="utf-8")
        with with_figures():
            universality.run(
                folder / "job.toml", folder / "run", store=folder / "store", threads=1, only=["families", "ceilings"]
            )

    return universality.open_run(once("copies", make) / "run")


def test_job_records_the_copies_and_counts_what_they_keep(run):
    (row,) = run.table("ceilings").to_dict("records")
    assert row["n_detectors"] == int(run.families["n_detectors"].iloc[0]) >= 5
    assert row["n_own"] >= row["n_detectors"] - 2
    assert 0 < row["n_again"] <= row["n_detectors"]
    (entry,) = [e for e in run.record["stores"] if "copy_r" in e and e["stimuli"] == "natural"]
    store = ActivationStore(run.store)
    copied, own = (
        store.open(key).activation.values for key in (entry["key"], run.trained_keys[(*entry_of(entry), "natural")])
    )
    r = [
        np.corrcoef(own[:, u], copied[:, u])[0, 1]
        for u in range(own.shape[1])
        if own[:, u].std() and copied[:, u].std()
    ]
    assert np.median(r) == pytest.approx(0.9, abs=0.06)
    assert run.record["provenance"]["models"][entry["model"]]["noisy_copies"] == {"0.9": entry["weights"]}


def entry_of(entry):
    return entry["model"], entry["tap"]


def test_activations_of_a_run_are_never_those_of_a_copy(run):
    found = run.activations("pocket/alexnet-focus-s0", "features.9")
    assert found.attrs["network"] == "trained"


def test_copies_of_some_models(tmp_path):
    two = JOB.replace(
        "[stimuli.natural]", '[[models]]\nid = "pocket/vgg-focus-s0"\ntaps = ["features.13"]\n\n[stimuli.natural]', 1
    )
    for copied, of in (("", 2), ('copied = ["pocket/vgg-focus-s0"]\n', 1)):
        (tmp_path / "job.toml").write_text(two + copied, encoding="utf-8")
        planned = universality.plan(tmp_path / "job.toml", tmp_path / "run", tmp_path / "store", only=["ceilings"])
        assert [n.card.id for n in planned.networks if n.copy_r] == ["pocket/alexnet-focus-s0", "pocket/vgg-focus-s0"][
            -of:
        ]
        assert len([task for task in planned.tasks() if task.stage == "ceilings"]) == of


@pytest.mark.parametrize(
    ("nulls", "message"),
    [
        (
            'copied = ["pocket/alexnet-focus-s1"]',
            "nulls.copied names 'pocket/alexnet-focus-s1'.*which is no model of the job",
        ),
        (
            'copied = ["pocket/alexnet-focus-s0"]\nnoisy_copies = []',
            r"noisy_copies says of no copy .* give it, such as \[0.84\]",
        ),
    ],
)
def test_models_that_cannot_be_copied_are_one_sentence(tmp_path, nulls, message):
    (tmp_path / "job.toml").write_text(
        JOB.replace("noisy_copies = [0.9]", f"noisy_copies = [0.9]\n{nulls}" if "[]" not in nulls else nulls),
        encoding="utf-8",
    )
    with pytest.raises(JobError, match=message):
        universality.plan(tmp_path / "job.toml", tmp_path / "run", tmp_path / "store")


def test_ceilings_without_copies_are_one_sentence(tmp_path):
    (tmp_path / "job.toml").write_text(JOB.replace("noisy_copies = [0.9]\n", ""), encoding="utf-8")
    planned = universality.plan(tmp_path / "job.toml", tmp_path / "run", tmp_path / "store")
    assert "ceilings" not in [stage.name for stage in planned.stages]
    with pytest.raises(JobError, match=r"'ceilings' is about noisy copies .* ask for some there, such as \[0.84\]"):
        universality.plan(tmp_path / "job.toml", tmp_path / "run", tmp_path / "store", only=["ceilings"])
