"""Feature visualisation: finds what drives a unit whose optimum is known, the same from the same seed, beside what it reaches."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tapped import tap_at
from torch import nn

import universality
from universality.base.errors import RunError, TapError
from universality.features import visualisation
from universality.features.visualisation import Lens, Objective, Options
from universality.models.card import Preprocessing
from universality.runs import visualisations

SIZE = 16
PLAIN = Preprocessing(size_px=SIZE, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
TEMPLATES = np.stack(
    [
        np.sin(2 * np.pi * np.add.outer(a * np.arange(SIZE), b * np.arange(SIZE)) / SIZE)
        for a, b in ((0, 2), (2, 0), (1, 1))
    ]
)


class Templates(nn.Module):
    """Each unit is the inner product with a grating, so that its optimum is known."""

    def __init__(self, bias=0.0):
        super().__init__()
        self.see = nn.Conv2d(3, 3, SIZE)
        self.act = nn.ReLU()
        with torch.no_grad():
            self.see.weight.copy_(torch.tensor(TEMPLATES)[:, None].expand(-1, 3, -1, -1) / SIZE)
            self.see.bias.fill_(bias)

    def forward(self, x):
        return self.act(self.see(x)).flatten(1)


def lens(network=None, driven="see"):
    module = (network or Templates()).eval().requires_grad_(False)
    shared = {"channels": 3, "rf_px": SIZE}
    before = tap_at(driven, activation="pre", **shared)
    return Lens(module, before, tap_at("act", **shared), PLAIN)


def one(unit, units=3, seed=0):
    return Objective((visualisation.unit_weights(unit, units),), seed=(seed,))


def likeness(image, unit):
    grey = image.astype(float).mean(axis=2)
    return np.corrcoef(grey.ravel(), TEMPLATES[unit].ravel())[0, 1]


def test_the_image_resembles_the_known_optimum():
    images = visualisation.made([lens()], [one(0, seed=1), one(1, seed=2)], Options(steps=150))
    assert images.shape == (2, SIZE, SIZE, 3) and images.dtype == np.uint8
    for unit in (0, 1):
        assert likeness(images[unit], unit) > 0.6
        assert abs(likeness(images[unit], 1 - unit)) < 0.3


def test_phases_alone_drive_a_unit():
    """A grating's amplitude is fixed, so that the best of many random phases is about the most that there is."""
    image = visualisation.made([lens()], [one(0)], Options(method="phase", steps=60))
    others = visualisation.made([lens()], [one(0, seed=k) for k in range(60)], Options(method="phase", steps=1))
    answers = visualisation.answers(lens(), others)[:, 0]
    assert visualisation.answers(lens(), image)[0, 0] > 0.7 * answers.max() > 1.2 * answers.mean()


def test_a_negative_weight_keeps_a_unit_silent():
    weights = np.array([1.0, -1.0, 0.0])
    image = visualisation.made([lens()], [Objective((weights,), seed=(3,))], Options(steps=150))
    answers = visualisation.answers(lens(), image)[0]
    assert answers[0] > 1 and answers[1] == 0


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    made = [visualisation.made([lens()], [one(0)], Options(steps=20, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_company_in_a_batch_changes_an_image_by_rounding_only():
    alone = visualisation.made([lens()], [one(0, seed=5)], Options(steps=20))
    together = visualisation.made([lens()], [one(1, seed=6), one(0, seed=5)], Options(steps=20))
    assert np.abs(alone[0].astype(int) - together[1]).max() <= 2


def test_a_photograph_is_the_beginning():
    photograph = Image.fromarray(np.random.default_rng(0).integers(60, 200, (40, 30, 3), dtype=np.uint8)).resize(
        (32, 32)
    )
    far = visualisation.made([lens()], [one(0)], Options(steps=1), start=photograph)
    shown = np.asarray(photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(float)
    assert np.corrcoef(far[0].astype(float).ravel(), shown.ravel())[0, 1] > 0.9


def test_a_unit_that_noise_does_not_reach_is_woken():
    """Before its nonlinearity there is a gradient; behind it, with this bias, none until the noise is strong."""
    deep = Templates(bias=-0.2)
    image = visualisation.made([lens(deep, driven="act")], [one(0, seed=1)], Options(steps=150))
    assert visualisation.answers(lens(deep), image)[0, 0] > 0
    assert not visualisation.is_grey(image[0])


def test_a_dead_unit_stays_as_it_began():
    dead = Templates(bias=-100.0)
    image = visualisation.made([lens(dead, driven="act")], [one(0)], Options(steps=5))
    assert visualisation.answers(lens(dead), image)[0, 0] == 0


def test_a_step_that_lets_no_gradient_pass_is_named():
    class Cut(Templates):
        def forward(self, x):
            return super().forward(x.detach())

    with pytest.raises(TapError, match="tap 'see' has no gradient with respect to the image"):
        visualisation.made([lens(Cut())], [one(0)], Options(steps=1))


def test_faces_of_one_unit_become_unlike():
    def alike(diversity):
        both = [Objective((visualisation.unit_weights(0, 3),), group=1, seed=(k,)) for k in range(2)]
        images = visualisation.made([lens(Mixed())], both, Options(steps=120, diversity=diversity)).astype(float)
        return np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]

    assert alike(3.0) < alike(0.0) - 0.02


class Mixed(nn.Module):
    """Unit 0 answers to two gratings alike: it has two faces."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, SIZE // 2, stride=SIZE // 2)
        self.see = nn.Conv2d(3, 3, 2)
        self.act = nn.ReLU()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            self.first.weight.normal_(std=0.1)
            self.see.weight.normal_(std=0.5)

    def forward(self, x):
        return self.act(self.see(self.first(x).relu())).flatten(1)


def test_the_method_of_phases_holds_the_amplitudes_of_photographs():
    (image,) = visualisation.made([lens()], [one(0)], Options(method="phase", steps=1))
    scaled = (np.moveaxis(image, 2, 0).astype(float) + 0.5) / 256
    planes = np.einsum("cd,dyx->cyx", np.linalg.inv(visualisation.colour_mixing()), np.log(scaled / (1 - scaled)))
    came, wanted = np.abs(np.fft.rfft2(planes)), visualisation.mean_amplitudes(SIZE)
    inner = np.s_[:, 1:5, 1:5]
    assert np.corrcoef(np.log(came[inner]).ravel(), np.log(wanted[inner]).ravel())[0, 1] > 0.9


def test_colours_have_the_covariance_of_photographs():
    mixing = visualisation.colour_mixing()
    covariance = mixing @ mixing.T
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    # Natural colours vary in brightness first: red, green and blue go together.
    assert (covariance > 0.5 * covariance.max()).all()
    assert np.linalg.norm(mixing, axis=0).max() == pytest.approx(1.0)


def found_units(model, tap="features.4"):
    from universality.models import catalogue

    return catalogue.card(model).tap(tap).channels


class TestOfAModel:
    """The public function, on a pocket network without a run."""

    MODEL, UNITS = "pocket/alexnet-focus-s0", ["features.4:3", "features.4:5"]

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, tmp_path_factory):
        store = tmp_path_factory.mktemp("store")
        return universality.visualise(cls.MODEL, cls.UNITS, steps=24, store=store), store

    def test_units_are_driven_beyond_natural_images(self, found):
        images = found[0]
        assert images["image"].shape == (2, 64, 64, 3)
        assert images["unit"].values[:, 0].tolist() == [f"{self.MODEL}:{unit}" for unit in self.UNITS]
        assert (images["percentile"].values > 90).all()
        assert (images["note"].values == "").all()

    def test_what_is_said_to_be_reached_is_what_the_network_answers(self, found):
        from universality.models import catalogue, zoo
        from universality.stimuli import sets

        card = catalogue.card(self.MODEL)
        network, tap = zoo.pretrained(card), card.tap("features.4")
        middle = tap.center_index(64)

        def answers(images):
            with torch.no_grad():
                maps = network.features[:5](torch.from_numpy(sets.normalise(images, card.preprocessing)))
            around = slice(middle - 1, middle + 2)
            return maps[:, :, around, around].amax((2, 3)).numpy().astype(float)

        images = np.moveaxis(found[0]["image"].values, 3, 1).astype(np.float32) / 255
        from universality.stimuli.natural import NaturalStimuli
        from universality.stimuli.spec import StimuliSpec

        natural = answers(sets.render("natural", StimuliSpec(natural=NaturalStimuli(crops=240)), 64).values)
        for place, unit in enumerate((3, 5)):
            reached = answers(images)[place, unit]
            assert found[0]["reached_sigma"].values[place, 0] == pytest.approx(
                reached / natural[:, unit].std(), rel=0.05
            )

    def test_what_is_kept_is_not_made_again(self, found, monkeypatch):
        images, store = found
        monkeypatch.setattr(visualisation, "made", lambda *_: pytest.fail("made again"))
        again = universality.visualise(self.MODEL, self.UNITS, steps=24, store=store)
        assert again.identical(images)

    def test_a_direction_of_one_unit_is_that_unit(self, found):
        direction = tuple(float(k == 3) for k in range(64))
        asked = visualisations.Drive(self.MODEL, "features.4", -1, direction=direction[: found_units(self.MODEL)])
        images = universality.visualise(self.MODEL, [asked], steps=24, store=found[1])
        assert images["natural_sigma"].values[0, 0] == pytest.approx(found[0]["natural_sigma"].values[0, 0])
        assert images["percentile"].values[0, 0] > 90
        with pytest.raises(RunError, match=r"a direction of '.*' at 'features.4' has 2 numbers, expected"):
            universality.visualise(
                self.MODEL, [visualisations.Drive(self.MODEL, "features.4", -1, direction=(1.0, 0.0))], store=found[1]
            )

    def test_facts_have_a_row_for_each_unit(self, found):
        rows = pd.DataFrame(visualisations.facts(found[0]))
        assert rows["unit"].tolist() == [f"{self.MODEL}:{unit}" for unit in self.UNITS]
        # A random direction has the same budget, and its own standard deviation.
        assert rows["random_reached_sigma"].nunique() == 1
        assert (rows["random_reached_sigma"] > 0).all()

    @pytest.mark.parametrize(
        ("units", "options", "said"),
        [
            (["features.4:999"], {}, "has no unit 999 at 'features.4', expected 0 to"),
            (["features.5"], {}, "names no unit, expected MODEL:TAP:INDEX"),
            ([], {}, "no unit is asked for"),
            (["features.4:1"], {"steps": 0}, "0 steps and 1 faces of each unit are asked for"),
            (["features.4:1"], {"method": "dream"}, "unknown method 'dream', expected one of fourier, phase"),
            (["features.4:1"], {"start": "no-such.png"}, "photograph 'no-such.png' cannot be read"),
        ],
    )
    def test_bad_requests_are_one_sentence(self, found, units, options, said):
        with pytest.raises(RunError, match=said):
            universality.visualise(self.MODEL, units, store=found[1], **options)


def test_a_module_in_hand(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    prepared = {"size_px": 24, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    found = universality.visualise(network, ["1:0", ["1:1", "-1:2"]], steps=6, store=tmp_path, preprocessing=prepared)
    assert found["image"].shape == (2, 24, 24, 3)
    assert found["unit"].values[1].tolist() == ["in-hand:1:1", "-in-hand:1:2"]
