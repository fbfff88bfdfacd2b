"""Networks, images and modules in hand: activations, comparisons and jobs without a card."""

import re

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import universality
from universality.base.errors import UniversalityError
from universality.runs.job import Job

IMAGES = np.random.default_rng(0).normal(size=(12, 3, 16, 16)).astype(np.float32)
PREPARED = {"size_px": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


class Net(nn.Module):
    """Two blocks and a classifier; every part can initialise itself."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.pool(self.layer1(self.stem(x))).flatten(1))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Net()
    network.stem.eval()  # a user's mode of each part is the user's
    return network


def by_hand(net, images=IMAGES):
    """What the layers answer, without any of the package's code."""
    modes = {module: module.training for module in net.modules()}
    with torch.no_grad():
        net.eval()
        stem = net.stem(torch.from_numpy(images))
        kept = stem.clone()
        layer1 = net.layer1(stem)
        found = {"stem": kept.mean((2, 3)), "layer1": layer1.mean((2, 3)), "fc": net.fc(layer1.mean((2, 3)))}
    for module, mode in modes.items():
        module.training = mode
    return found


def test_every_layer_answers_as_by_hand_and_the_module_is_left_as_it_was(net):
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    found = universality.activations(net, IMAGES, batch_size=5)
    assert [name for name in found if name != "pool"] == ["stem", "layer1", "fc"]
    for name, values in by_hand(net).items():
        assert found[name].dims == ("stimulus", f"unit_{name}")
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)
    assert [m.training for m in net.modules()] == modes and not any(m._forward_hooks for m in net.modules())
    assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items())


def test_images_come_in_every_container(net, tmp_path):
    expected = universality.activations(net, IMAGES, ["stem", "fc"])
    turned = xr.DataArray(IMAGES, dims=("image", "channel", "y", "x")).transpose("y", "x", "image", "channel")
    loader = DataLoader(TensorDataset(torch.from_numpy(IMAGES), torch.zeros(12)), batch_size=5)
    batches = [{"pixel_values": torch.from_numpy(IMAGES[start : start + 4])} for start in range(0, 12, 4)]
    for given in (torch.from_numpy(IMAGES).requires_grad_(), IMAGES.astype(np.float64), turned, loader, batches):
        found = universality.activations(net, given, ["stem", "fc"])
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
    found.to_netcdf(tmp_path / "found.nc", engine="scipy")
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "found.nc", engine="scipy"), found)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES[0], "have the shape (3, 16, 16), expected (image, channel, y, x)"),
        (np.moveaxis(IMAGES, 1, 3), "move the last dimension to the second place"),
        ((IMAGES * 255).astype(np.uint8), "of type uint8, expected floats"),
        (np.where(IMAGES > 2, np.nan, IMAGES), "NaN or infinite"),
        (IMAGES[:0], "there are no images"),
        (iter([IMAGES]), "ends after one pass"),
        (7, "images are int, expected a folder"),
        ([["a"]], "a batch holds str"),
        ("no-such-folder", "nothing says how; give preprocessing="),
    ],
)
def test_images_that_cannot_be_shown_are_refused_in_one_sentence(net, images, said):
    with pytest.raises(UniversalityError, match=re.escape(said)) as caught:
        universality.activations(net, images)
    assert "\n" not in str(caught.value)


def test_layers_are_chosen_by_patterns(net):
    assert list(universality.activations(net, IMAGES, "layer1.?")) == ["layer1.0", "layer1.1"]
    assert list(universality.activations(net, IMAGES, ["fc", "stem.0"])) == ["stem.0", "fc"]
    with pytest.raises(UniversalityError, match="has no layer that fits 'layr1'"):
        universality.activations(net, IMAGES, "layr1")


def test_what_is_no_model_is_refused():
    for model, said in ((3, "model is int"), ("pocket/vgg-focus-s00", "did you mean")):
        with pytest.raises(UniversalityError, match=said):
            universality.activations(model, IMAGES)


def test_compared_values_are_scores_of_the_layers_beside_their_nulls(net):
    other = Net(classes=7)
    found = universality.compare(net, other, images=IMAGES, measures=["cka_linear_debiased", "unit_match_hungarian"])
    assert found["value"].dims == ("measure", "layer_a", "layer_b") and "untrained" not in found.attrs
    answers = [universality.activations(module, IMAGES) for module in (net, other)]
    for measure in found["measure"].values:
        for a in found["layer_a"].values:
            for b in found["layer_b"].values:
                expected = universality.score(str(measure), answers[0][a].values, answers[1][b].values).value
                assert found["value"].sel(measure=measure, layer_a=a, layer_b=b).item() == pytest.approx(
                    expected, abs=1e-9
                )
    # Twins are drawn anew: what they score is not what the networks do.
    assert not np.allclose(found["value"], found["value_untrained"])
    again = universality.compare(net, other, images=IMAGES, measures=["cka_linear_debiased", "unit_match_hungarian"])
    xr.testing.assert_identical(found, again)


def test_a_module_that_cannot_begin_anew_has_no_twin_and_the_reason_is_said(net):
    net.scale = nn.Parameter(torch.ones(1))
    found = universality.compare(net, images=IMAGES)
    assert (
        found["value_untrained"].isnull().all()
        and "'scale' of 'Net' cannot be initialised again" in found.attrs["untrained"]
    )


JOB = {
    "name": "hand",
    "models": [{"id": "mine", "taps": ["stem", "layer1"]}, {"id": "other"}],
    "stimuli": {"natural": {"crops": 48}},
    "extraction": {"reduction": "mean"},
    "comparison": {"families": [], "measures": ["cka_linear_debiased"]},
    "nulls": {"calibration_crops": 32, "haar_rotations": 1, "shuffles": 1},
}


def test_a_job_takes_modules_by_name_and_its_run_is_read_without_them(net, tmp_path):
    models = {"mine": (net, PREPARED), "other": (Net(), PREPARED)}
    run = universality.run(Job.model_validate(JOB), tmp_path / "run", store=tmp_path / "store", models=models)
    matrix = run.matrix("cka_linear_debiased", "mine", "other")
    assert matrix["tap_a"].values.tolist() == ["stem", "layer1"] and matrix.notnull().all()
    shown = run.activations("mine", "layer1")
    from universality.stimuli import sets

    images = sets.render("natural", run.job.stimuli, 16).values
    expected = by_hand(net, ((images - 0.5) / 0.25).astype(np.float32))["layer1"]
    np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-5)
    # Another process has no modules, and needs none to read.
    from universality.models import catalogue

    catalogue.IN_HAND.clear()
    again = universality.open_run(tmp_path / "run", tmp_path / "store")
    assert catalogue.card("mine").tap("layer1").channels == 8 and again.similarity.equals(run.similarity)
    catalogue.IN_HAND.clear()


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ({"mine": 3}, "model 'mine' is int"),
        ({"mine": Net()}, "nothing says how images are made for 'mine'"),
        ({"yours": (Net(), PREPARED)}, "models holds 'yours'"),
        ({"mine": (Net(), {"size_px": 16})}, "mean"),
    ],
)
def test_modules_that_a_job_cannot_take_are_refused(models, said, tmp_path):
    with pytest.raises(UniversalityError, match=re.escape(said)):
        universality.run(Job.model_validate(JOB), tmp_path / "run", store=tmp_path / "store", models=models)
