"""The stimulus sets that a job shows: those of its families, and what else it asks for."""

import numpy as np
import pytest

import universality
from universality.base.errors import JobError
from universality.features.families import FAMILIES
from universality.jobs.planning import plan
from universality.runs.job import read_job
from universality.runs.layers import references
from universality.runs.networks import compared_sets, stimulus_sets
from universality.stimuli import sets
from universality.stimuli.kinds import STIMULI
from universality.stimuli.spec import StimuliSpec

JOB = """
name = "pinned"
[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.13"]
[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.9"]
{stimuli}
[stimuli.natural]
crops = 0
shapes = 48
{kinds}
[extraction]
reduction = "center"
[comparison]
families = [{families}]
[nulls]
untrained_seeds = [0]
calibration_crops = 32
"""
EVERY = ", ".join(f'"{name}"' for name in FAMILIES)


def job_in(folder, stimuli="", kinds="", families=EVERY):
    path = folder / "job.toml"
    path.write_text(JOB.format(stimuli=stimuli, kinds=kinds, families=families), encoding="utf-8")
    return path


# Written by the planner before layers were held by stimulus set; those of natural images and of the twins, which are calibrated on them, when
# 79 photographs were added.
PINNED = {
    ("pocket/vgg-focus-s0", None, "natural"): "5105f495d44e1618888128ee4a9d343d",
    ("pocket/vgg-focus-s0", None, "curves"): "942341462466cd56cd09ce1542428b1d",
    ("pocket/vgg-focus-s0", None, "curve_controls"): "83bdc5ba1eb20de15bb9b459b25b8266",
    ("pocket/vgg-focus-s0", None, "high_low"): "58328e7de219aaa443b8b764e9415ce3",
    ("pocket/vgg-focus-s0", None, "contours"): "fe6d6a98e0dde6705381c59e7a7e38c1",
    ("pocket/vgg-focus-s0", None, "colour_contrast"): "e144e00b32c0ad2550efb714c8192bbe",
    ("pocket/vgg-focus-s0", 0, "natural"): "20075b139328098ef9944dd38f00e19e",
    ("pocket/vgg-focus-s0", 0, "curves"): "7c55537b423f7ab90b1d14e8dbf1fc51",
    ("pocket/vgg-focus-s0", 0, "curve_controls"): "f03660d394420aa3a58680202cf71cab",
    ("pocket/vgg-focus-s0", 0, "high_low"): "85cd87180baa5d85d50680bd54dfadcb",
    ("pocket/vgg-focus-s0", 0, "contours"): "3501ed06c0c20483c6e265b2901cad9b",
    ("pocket/vgg-focus-s0", 0, "colour_contrast"): "73a9eaf7d8c6b2257e5a0ae8b7731f51",
    ("pocket/alexnet-focus-s0", None, "natural"): "f57717da9e64e4c718e66af7964363d7",
    ("pocket/alexnet-focus-s0", None, "curves"): "338368c217fbc6ec75bede0b6d048e41",
    ("pocket/alexnet-focus-s0", None, "curve_controls"): "4d392695f1d88757876a0d33f37f76b2",
    ("pocket/alexnet-focus-s0", None, "high_low"): "02f7f6f7272d1e4dc1d98d3c03584bc9",
    ("pocket/alexnet-focus-s0", None, "contours"): "24181cd21c8e1221a8b5b8aa32da0b69",
    ("pocket/alexnet-focus-s0", None, "colour_contrast"): "6053117c69bc8a5d0cd54334120afc97",
    ("pocket/alexnet-focus-s0", 0, "natural"): "2081b712a4358b7dd0ad95ff4e86156c",
    ("pocket/alexnet-focus-s0", 0, "curves"): "106cce5a9244fd20812f7c205467fc80",
    ("pocket/alexnet-focus-s0", 0, "curve_controls"): "d19c97934fc15f12eaeba1e93fdf9a64",
    ("pocket/alexnet-focus-s0", 0, "high_low"): "7b68d4367ab6a823c8fb30314aa5c0cf",
    ("pocket/alexnet-focus-s0", 0, "contours"): "90128050fb09f65d8f61bccaa1d61dea",
    ("pocket/alexnet-focus-s0", 0, "colour_contrast"): "f7849cd67f8b023cd0d291ca00d52d2e",
}
PINNED_JOB = "d17a62c0296acd934eca27aecc929eb4538eb54a7d06140770dbf066979c4970"


def test_regression_pin_keys_of_stores_and_the_digest_of_a_job_are_those_of_earlier_releases(tmp_path, monkeypatch):
    # A twin's key names the versions that drew its weights: with others it is another network.
    drew = {"torch": "2.14.1+cu130", "timm": "1.0.31", "torchvision": "0.29.1+cu130"}
    monkeypatch.setattr("universality.models.catalogue.written_version", drew.__getitem__)
    planned = plan(job_in(tmp_path), store="memory://pins")
    assert {(p.network.card.id, p.network.seed, p.stimulus_set): p.key for p in planned.stores} == PINNED
    assert planned.job.digest() == PINNED_JOB


def test_every_set_has_parameters_in_a_job():
    assert set(StimuliSpec.model_fields) - {"policy", "also"} == set(STIMULI)


def test_further_sets_are_shown_and_change_no_key_and_no_layer(tmp_path):
    plain, further = (
        plan(job_in(tmp_path, stimuli), store="memory://pins")
        for stimuli in ("", '[stimuli]\nalso = ["gratings", "rotated", "curves"]')
    )
    shown = stimulus_sets(further.job)
    assert shown == (*stimulus_sets(plain.job), "gratings", "rotated")
    assert compared_sets(further.job) == compared_sets(plain.job)
    assert {p.key for p in further.stores} > {p.key for p in plain.stores}
    assert further.inputs.layers == plain.inputs.layers
    assert further.job.digest() != plain.job.digest()


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ('["gratins"]', "also names 'gratins', which is no stimulus set; did you mean 'gratings'?"),
        ('["policy"]', "also names 'policy', which is no stimulus set; choose one of"),
        ('["folder"]', "also names 'folder', which has no images; name a manifest in stimuli.folder.manifest"),
        ('["shapes", "shapes"]', "values appear twice: shapes"),
    ],
)
def test_a_wrong_further_set_is_named(tmp_path, also, said):
    with pytest.raises(JobError, match="stimuli") as refused:
        read_job(job_in(tmp_path, f"[stimuli]\nalso = {also}"))
    assert said in str(refused.value)


KINDS = """
[stimuli.high_low]
orientations = 8
phases = 1
[stimuli.gratings]
orientations = 6
frequencies_cpi = [4.0]
phases = 2
[stimuli.colours]
hues = 4
saturations = [1.0]
orientations = 2
[stimuli.shapes]
images = 5
[stimuli.rotated]
crops = [0, 3]
orientations = 4
"""
FURTHER = ("gratings", "colours", "shapes", "rotated")


def test_a_run_gives_the_activations_of_further_sets(tmp_path):
    """They are what the network answers to these images, labelled with their parameters."""
    named = ", ".join(f'"{name}"' for name in FURTHER)
    path = job_in(tmp_path, f"[stimuli]\nalso = [{named}]", KINDS, '"high_low_frequency"')
    run = universality.run(path, tmp_path / "run", store=tmp_path / "store", only=["families", "similarity"])
    planned = plan(path, store=tmp_path / "store")
    assert not planned.missing
    network = planned.networks[0]
    for name in FURTHER:
        table = sets.parameters(name, run.job.stimuli)
        found = run.activations(network.card.id, "features.13", name)
        assert found.sizes == {"stimulus": table.sizes["stimulus"], "unit": network.taps[0].channels}
        for label in table.coords:
            np.testing.assert_array_equal(found[label].values, table[label].values)
    _check_answers(network, run)
    assert {name for ref in references(run) for name in ref.stores} == {"natural", "high_low"}


def _check_answers(network, run):
    """The stored answers to gratings are the module's own at its middle positions."""
    from universality.activations import extraction

    shown = extraction.extract(
        network.load(),
        network.taps,
        network.batches("gratings"),
        network.extraction,
        network.card.preprocessing.size_px,
    )
    values = extraction.collect(shown)["features.13"]
    stored = run.activations(network.card.id, "features.13", "gratings").values
    np.testing.assert_allclose(stored, values, rtol=1e-5, atol=1e-6)
    assert np.ptp(stored, axis=0).max() > 0
