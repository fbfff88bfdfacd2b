"""What the policy is for: units with equal features and unlike receptive fields are matched under it, and not without it."""

import numpy as np
import pytest
import torch
from planted import gabors, of_grey
from rounding import float32_slack
from torch import nn
from torch.nn import functional
from undrawn import draw_nothing

import universality
from universality.activations import extraction
from universality.activations.spec import ExtractionSpec
from universality.jobs.trace import trace
from universality.models import catalogue, zoo
from universality.models.receptive_field import describe_tap
from universality.runs.job import read_job
from universality.runs.run import open_run
from universality.stimuli import sets
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.framing import Frame
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

SPEC = StimuliSpec(natural=NaturalStimuli(crops=90), curves=CurveStimuli(orientations=8, curvatures=(0.0, 4.0, 8.0)))
CENTRE = ExtractionSpec(reduction="center", center_radius=0, batch_size=30)


def answers(network, tap, size_px, name, framed):
    """Activations (stimulus, unit) of the centre unit."""
    frame = Frame.of(tap, size_px) if framed else None
    images = sets.render(name, SPEC, size_px, frame=frame).values - np.float32(0.5)
    return extraction.collect(
        extraction.extract(
            network, [tap], [images], CENTRE.model_copy(update={"batch_size": len(images)}), size_px, frame
        )
    )[tap.name]


def correlations(a, b):
    """Pearson r (unit of a, unit of b)."""
    units = a.shape[1]
    return np.corrcoef(a.T.astype(np.float64), b.T.astype(np.float64))[:units, units:]


def filters():
    """Odd Gabor filters (filter, channel, y, x), twelve orientations at two wavelengths."""
    tangents = np.arange(12) * 15.0
    return of_grey(np.concatenate([gabors(15, wavelength, 3.0, tangents)[:, 1] for wavelength in (6.0, 10.0)]))


class OneLayer(nn.Module):
    """Fixed filters and a rectifier."""

    def __init__(self, weights, stride):
        super().__init__()
        self.conv = nn.Conv2d(3, len(weights), weights.shape[-1], stride, weights.shape[-1] // 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(weights))
        self.relu = nn.ReLU()
        self.eval()

    def forward(self, x):
        return self.relu(self.conv(x))


@pytest.fixture(scope="module")
def single():
    return OneLayer(filters(), 2)


@pytest.fixture(scope="module")
def doubled():
    """The same filters, each weight spread over 2 x 2 pixels: receptive fields exactly twice as large."""
    return OneLayer(filters().repeat(2, axis=2).repeat(2, axis=3) / 4, 4)


def test_the_doubled_network_is_the_single_one_on_doubled_pixels(single, doubled):
    """Closed form, without any stimulus of the package: a unit of one on x is a unit of the other on x doubled."""
    x = torch.randn(2, 3, 15, 15, generator=torch.Generator().manual_seed(0))
    twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        came, expected = functional.conv2d(twice, doubled.conv.weight), functional.conv2d(x, single.conv.weight)
    torch.testing.assert_close(came, expected, atol=float32_slack(expected, doubled.conv.weight[0].numel()), rtol=0)


@pytest.mark.parametrize("name", ["natural", "curves"])
def test_units_of_twice_the_field_are_matched_only_under_the_policy(single, doubled, name):
    size, found = 64, {}
    taps = [describe_tap(network, "relu", size) for network in (single, doubled)]
    assert [tap.rf_px for tap in taps] == [15, 30]
    for framed in (True, False):
        a, b = (answers(network, tap, size, name, framed) for network, tap in zip((single, doubled), taps, strict=True))
        r = correlations(a, b)
        found[framed] = np.diag(r), (r.argmax(axis=1) == np.arange(len(r))).mean()
    assert found[True][0].min() > 0.9
    assert found[True][1] == 1.0
    assert (found[True][0] > found[False][0]).all()
    if name == "natural":  # straight lines and edges look alike at every size, photographs do not
        assert np.median(found[False][0]) < 0.6
        assert found[False][1] < 0.5


@pytest.mark.parametrize("name", ["natural", "curves"])
def test_one_network_at_two_input_sizes_gives_the_same_answers_only_under_the_policy(name):
    card = catalogue.card("pocket/vgg-focus-s0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = zoo.build(card)
    taps = {size: describe_tap(network, "features.9", size) for size in (64, 104)}
    assert {tap.rf_px for tap in taps.values()} == {26}
    small, large = (answers(network, tap, size, name, True) for size, tap in taps.items())
    # Photographs may round the other way in 8 bits.
    scale = small.std(axis=0)
    live = scale > 1e-3 * scale.max()
    assert live.sum() > 20
    assert (np.abs(large - small)[:, live] / scale[live]).max() < (0.05 if name == "natural" else 1e-3)
    small, large = (answers(network, tap, size, name, False) for size, tap in taps.items())
    live &= (small.std(axis=0) > 0) & (large.std(axis=0) > 0)
    assert np.median(np.diag(correlations(small[:, live], large[:, live]))) < (0.9 if name == "natural" else 0.95)


JOB = """
name = "fields"
[[models]]
id = "pocket/vgg-focus-s0"
taps = ["features.9", "features.9:pre", "features.16"]
[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.7"]
[stimuli]
policy = "same_receptive_field"
[stimuli.natural]
crops = 30
shapes = 30
[stimuli.curves]
orientations = 8
curvatures = [0.0, 5.0]
[extraction]
reduction = "positions"
[comparison]
measures = ["cka_linear_debiased"]
bootstraps = 100
permutations = 19
[nulls]
calibration_crops = 32
haar_rotations = 1
shuffles = 1
[stages]
without = ["atlas"]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    said = []

    class Reporter:
        def say(self, text):
            said.append(text)

        def track(self, description, total):
            said.append(f"{description}: {total}")
            return lambda steps: None

    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        run = universality.run(folder / "job.toml", folder / "run", store=folder / "store", reporter=Reporter())
    return folder, run, said


class TestRun:
    def test_taps_of_one_field_share_a_pass_and_the_plan_counts_it(self, finished):
        folder, _, _ = finished
        passes = universality.plan(folder / "job.toml", folder / "run", folder / "elsewhere").passes
        sides = [
            (shown.frame.side_px, len(shown.taps))
            for shown in passes
            if (shown.network.label, shown.stimulus_set) == ("pocket/vgg-focus-s0", "curves")
        ]
        assert sides == [(26, 2), (62, 1)]
        planned = universality.plan(folder / "job.toml", folder / "run", folder / "store")
        assert not planned.missing
        table = planned.table().set_index(["network", "stimuli"])
        row = table.loc["pocket/vgg-focus-s0", "curves"]
        assert (row["images"], row["taps"], row["exist"]) == (128, 3, 3)

    def test_what_the_input_cuts_is_said_and_recorded(self, finished):
        _, run, said = finished
        sentence = "'features.16' of 'pocket/vgg-focus-s0' (62 px) reaches beyond the input (64 px): 95% of the side"
        assert any(sentence in text for text in said)
        table = run.families.set_index(["model", "tap"])
        assert (table["scene_px"] == table["rf_px"]).all()
        shown = table["scene_shown"]
        assert shown["pocket/vgg-focus-s0", "features.16"] == pytest.approx(59 / 62)
        assert (shown.drop(("pocket/vgg-focus-s0", "features.16")) == 1).all()
        assert (table["misalignment_px"].between(0.1, 4)).all()

    def test_what_is_stored_is_the_answer_to_scenes_in_the_field(self, finished):
        folder, run, _ = finished
        job = read_job(folder / "job.toml")
        card = catalogue.card("pocket/alexnet-focus-s0")
        (tap,) = [card.tap("features.7")]
        frame = Frame(64, 9, 43)
        assert Frame.of(tap, 64) == frame
        images = sets.render("curves", job.stimuli, 64, frame=frame).values
        spec = job.extraction.model_copy(update={"batch_size": len(images)})
        batches = [sets.normalise(images, card.preprocessing)]
        (came,) = extraction.extract(zoo.pretrained(card), [tap], batches, spec, 64, frame)
        stored = run.activations(card.id, tap.name, "curves").values
        assert stored.shape == (64, 9, tap.channels)
        np.testing.assert_allclose(stored, came[tap.name], atol=1e-4 * np.abs(stored).max())

    def test_the_side_before_is_the_other_one_to_the_bit(self, finished):
        _, run, _ = finished
        post, pre = (run.activations("pocket/vgg-focus-s0", tap).values for tap in ("features.9", "features.9:pre"))
        np.testing.assert_array_equal(np.maximum(pre, 0), post)
        assert pre.min() < 0

    def test_a_unit_before_its_nonlinearity_can_be_traced(self, finished):
        _, run, _ = finished
        whole = open_run(run.path)
        unit = int(whole.units.query("tap == 'features.9:pre' and seed == -1 and live")["unit"].iloc[0])
        assert set(trace(whole, "pocket/vgg-focus-s0", "features.9:pre", unit)["tap"]) == {"features.7"}
