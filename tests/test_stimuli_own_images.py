"""A job shows the folder that it names to every network, and needs no pairs to be compared."""

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import float32_slack

import universality
from universality.models import catalogue, zoo
from universality.runs.job import read_job
from universality.stimuli import manifest, sets
from universality.stimuli.spec import StimuliSpec

JOB = """
name = "own_images"
pairs = []

[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.4"]

[[models]]
id = "pocket/vgg-focus-s1"
taps = ["features.4"]

[stimuli.natural]
crops = 0
shapes = 32

[stimuli.high_low]
orientations = 8
phases = 1

[stimuli.folder]
manifest = "{manifest}"

[extraction]
reduction = "center"

[comparison]
families = ["high_low_frequency"]
measures = ["cka_linear_debiased"]
bootstraps = 100

[nulls]
calibration_crops = 32
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for place in ("leaf/a.png", "leaf/b.png", "stone/c.png"):
        (root / "photos" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "photos" / place)
    manifest_path = manifest.write(root / "photos").path
    (root / "job.toml").write_text(JOB.format(manifest=manifest_path.as_posix()), encoding="utf-8")
    return read_job(root / "job.toml"), universality.run(root / "job.toml", root / "run", store=root / "store"), root


def test_activations_of_the_folder_are_those_of_a_plain_forward_pass(own):
    job, run, _ = own
    shown = run.activations("pocket/vgg-focus-s1", "features.4", "folder")
    assert list(shown.file.values) == ["leaf/a.png", "leaf/b.png", "stone/c.png"]
    assert list(shown.label.values) == ["leaf", "leaf", "stone"]
    card = catalogue.card("pocket/vgg-focus-s1")
    images = sets.normalise(sets.render("folder", job.stimuli, 64).values, card.preprocessing)
    layers = zoo.pretrained(card).features[:5]
    with torch.inference_mode():
        maps = layers(torch.from_numpy(images)).numpy()
    middle = card.tap("features.4").center_index(64)
    around = slice(middle - 1, middle + 2)
    terms = sum(layer.weight[0].numel() for layer in layers if isinstance(layer, torch.nn.Conv2d))
    slack = float32_slack(maps, terms)
    np.testing.assert_allclose(shown.values, maps[:, :, around, around].max(axis=(2, 3)), rtol=0, atol=slack)


def test_untrained_twins_see_the_folder_too(own):
    _, run, _ = own
    trained, twin = (run.activations("pocket/vgg-focus-s0", "features.4", "folder", seed=seed) for seed in (None, 0))
    assert trained.shape == twin.shape == (3, 32) and not np.allclose(trained.values, twin.values)


def test_the_folder_decides_no_match_and_no_other_number(own, tmp_path):
    """The same job without the folder gives the same tables."""
    job, run, root = own
    without = job.model_copy(update={"stimuli": StimuliSpec(**{**dict(job.stimuli), "folder": StimuliSpec().folder})})
    other = universality.run(without, tmp_path / "run", store=root / "store")
    assert run.units.equals(other.units) and run.families.equals(other.families)
    assert {entry["stimuli"] for entry in other.record["stores"]} == {"natural", "high_low"}


def test_a_job_without_pairs_has_families_findings_and_a_report(own):
    _, run, _ = own
    assert len(run.families) == 2 and len(run.correspondence) == len(run.similarity) == len(run.pairs) == 0
    assert (run.path / "report.html").stat().st_size > 10_000
    assert {finding.topic for finding in universality.findings(run)} >= {"detectors"}
