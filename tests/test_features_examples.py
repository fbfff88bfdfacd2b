"""Natural examples: found where they were put, told from crops of the middle, kept once, and said where there are none."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from tapped import tap_at
from torch import nn

import universality
from universality.activations import bases
from universality.activations.network import Network
from universality.base.errors import RunError
from universality.features import examples
from universality.models import catalogue
from universality.runs.job import Job
from universality.stimuli import manifest
from universality.stimuli.whole import Square

SIZE, SPOT = 32, 6
PLACES = {
    f"{k:02d}.png": (int(x), int(y)) for k, (x, y) in enumerate(np.random.default_rng(4).integers(10, 46, (16, 2)))
}
"""Where the red spot lies in each own image, px of the image."""


class Red(nn.Module):
    """Unit 0 answers to a red spot of 5 px wherever it lies, unit 1 to a green one, unit 2 to nothing."""

    def __init__(self):
        super().__init__()
        self.see = nn.Conv2d(3, 3, 5, padding=2)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.see.weight.zero_()
            self.see.bias.zero_()
            for unit, (wanted, other) in enumerate(((0, 1), (1, 0))):
                self.see.weight[unit, wanted], self.see.weight[unit, other] = 0.04, -0.04

    def forward(self, x):
        return self.head(self.act(self.see(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A job on own images of 96 x 64 px: dim noise with one red spot, the stronger the later the file."""
    root = tmp_path_factory.mktemp("spots")
    (root / "photos").mkdir()
    for k, (name, (x, y)) in enumerate(PLACES.items()):
        pixels = np.random.default_rng(k).integers(60, 70, (64, 96, 3), dtype=np.uint8)
        pixels[y : y + SPOT, x : x + SPOT, 0] = 120 + 8 * k
        pixels[40, 70 + k, 1] = 200
        Image.fromarray(pixels).save(root / "photos" / name)
    listed = manifest.write(root / "photos").path
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Red()
    job = Job.model_validate(
        {
            "name": "spots", "question": "", "models": [{"id": "red", "taps": ["act"]}], "pairs": [["red", "red"]], "comparison": {"families": [], "measures": ["cka_linear_debiased"]},
            "stimuli": {"natural": {"crops": 0, "folders": [str(listed)]}}, "extraction": {"reduction": "center"},
            "nulls": {"untrained_seeds": [0], "haar_rotations": 1, "shuffles": 1},
        }
    )  # fmt: skip
    made = {"red": (network, {"size_px": SIZE, "mean": (0.0,) * 3, "std": (1.0,) * 3})}
    yield universality.run(job, root / "run", store=root / "store", models=made), network
    catalogue.IN_HAND.pop("red", None)


def test_examples_lie_where_the_spot_is_in_the_pictures_own_pixels(run):
    found = run[0].examples("red", "act", 0)
    top = found.isel(example=np.flatnonzero(found["kind"].values == "top"))
    assert top["picture"].values.tolist() == sorted(PLACES, reverse=True)[: examples.TOP]
    for name, x, y, side in zip(*(top[c].values for c in ("picture", "x_px", "y_px", "side_px")), strict=True):
        # The network sees 64 px as 32: its field of 5 px is 10 px of the picture, and positions are 2 px apart.
        assert side == pytest.approx(5 * 64 / SIZE)
        middle = np.array([x + side / 2, y + side / 2])
        assert np.abs(middle - (np.array(PLACES[name]) + SPOT / 2)).max() <= 2 * 64 / SIZE


def test_values_are_the_largest_over_all_counted_positions(run):
    """Against a plain forward pass over both squares of each picture."""
    finished, network = run
    found = finished.examples("red", "act", 0)
    spread = finished.activations("red", "act").values[:, 0].std()
    spec = finished.job.stimuli.natural
    from universality.stimuli import whole

    values = {}
    inside = examples.counted_positions(tap_at("act", rf_px=5, size=SIZE, rf_start_px=0.0), (3, SIZE, SIZE))
    for picture in whole.pictures(spec):
        image = whole.opened(spec, picture)
        squares = np.stack([whole.shown(image, square, SIZE, "bicubic") for square in whole.squares(*image.size)])
        with torch.no_grad():
            maps = network.act(network.see(torch.from_numpy(squares))).numpy()
        values[picture.name] = maps[:, 0][:, inside].max()
    top = found.isel(example=np.flatnonzero(found["kind"].values == "top"))
    np.testing.assert_allclose(top["value"].values, sorted(values.values())[::-1][: examples.TOP], rtol=1e-5)
    np.testing.assert_allclose(top["sigma"].values, top["value"].values / spread, rtol=1e-6)


def test_pictures_show_the_middle_of_the_field(run):
    found = run[0].examples("red", "act", 0, size_px=20)
    assert found["image"].shape[1:] == (20, 20, 3)
    red = found["image"].values[0].astype(int)
    assert red[..., 0].mean() > red[..., 1].mean() + 50


def test_a_unit_without_an_answer_has_none_and_that_is_said(run):
    with pytest.raises(RunError, match="unit 2 of 'red' at 'act' answers the same to every whole picture"):
        run[0].examples("red", "act", 2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("rad", "act", 0), "has no model 'rad', expected one of red; did you mean 'red'"),
        (("red", "actt", 0), "has no tap 'actt' of 'red', expected one of act; did you mean 'act'"),
        (("red", "act", 3), "has no unit 3 of 'red' at 'act', expected 0 to 2"),
        (("red", "act", -1), "has no unit -1 of 'red' at 'act', expected 0 to 2"),
    ],
)
def test_what_there_is_not_is_named(run, asked, said):
    with pytest.raises(RunError, match=said):
        run[0].examples(*asked)


def test_what_a_network_answers_is_kept(run, monkeypatch):
    finished, _ = run
    before = finished.examples("red", "act", 1)
    again = universality.open_run(finished.path)
    monkeypatch.setattr(Network, "load", lambda self: pytest.fail("the network was shown the pictures twice"))
    assert again.examples("red", "act", 1).identical(before)


def test_a_damaged_piece_is_made_again(run, tmp_path):
    import shutil

    finished, _ = run
    before = finished.examples("red", "act", 1)
    shutil.copytree(finished.store, tmp_path / "store")
    for piece in (tmp_path / "store" / examples.FOLDER).rglob("*"):
        if piece.is_file():
            piece.write_bytes(piece.read_bytes()[:-3])
    assert universality.open_run(finished.path, tmp_path / "store").examples("red", "act", 1).identical(before)


def test_the_null_is_the_best_direction_of_a_random_basis(run):
    finished, _ = run
    found = finished.gallery.of_null(("red", "act", 0), "red", "act")
    layer = finished.gallery.layer("red", "act")
    deviation = layer.natural.std(axis=0)
    even = np.divide(layer.natural, deviation, out=np.zeros_like(layer.natural), where=deviation > 0)
    turned = bases.haar(0, finished.job.seed).seen(even)
    r = [
        [np.corrcoef(layer.natural[layer.fold == k, 0], turned[layer.fold == k, d])[0, 1] for d in range(3)]
        for k in (0, 1)
    ]
    assert found.attrs["unit"] == np.argmax(r[0])
    assert found.attrs["r_match"] == pytest.approx(max(r[0]))
    assert found.attrs["r_natural"] == pytest.approx(r[1][int(np.argmax(r[0]))])
    with pytest.raises(RunError, match="does not vary over both halves of the natural images"):
        finished.gallery.of_null(("red", "act", 2), "red", "act")


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-4, 4, width=16)))
def test_picked_are_the_largest_and_those_at_quantiles(values):
    found = examples.picked(values)
    if np.ptp(values) == 0:
        assert found.empty
        return
    top, spread = (found[found["kind"] == kind] for kind in ("top", "spread"))
    np.testing.assert_array_equal(values[top["picture"]], np.sort(values)[::-1][: examples.TOP])
    assert top["picture"].is_unique
    expected = [np.sort(values)[::-1][round((1 - q) * (len(values) - 1))] for q in examples.QUANTILES]
    np.testing.assert_array_equal(values[spread["picture"]], expected)


@given(st.integers(1, 20), st.integers(1, 60), st.integers(1, 5), st.floats(-4, 4))
def test_counted_positions_see_the_image_with_the_middle_of_their_field(size, field, stride, start):
    length = 32
    found = examples.counted_positions(
        tap_at("t", size=size, rf_px=field, stride_px=stride, rf_start_px=start), (3, length, length)
    )
    centres = start + stride * np.arange(size)
    inside = (centres - field / 4 >= -0.5) & (centres + field / 4 <= length - 0.5)
    assert found.shape == (size, size)
    assert found.any()
    if inside.any():
        np.testing.assert_array_equal(found, np.outer(inside, inside))


def test_fields_are_those_of_the_input_scaled_to_the_square():
    tap = tap_at("t", size=8, rf_px=6, stride_px=4, rf_start_px=1.5)
    box = examples.field_of(tap, (3, 32, 32), Square(100, 0, 64), 2, 3)
    # Centre of column 3 at 1.5 + 12 px between pixel centres, so at 14 px from the left border, of 32; 2 px of the picture each.
    assert (box.x, box.y, box.side) == (100 + 2 * (14 - 3), 2 * (10 - 3), 12)
    whole_image = tap_at("t", rf_px=None)
    assert examples.field_of(whole_image, (3, 32, 32), Square(100, 0, 64), 0, 0) == examples.Box(100, 0, 64)


def test_an_input_that_is_not_square_is_the_middle_of_the_square():
    tap = tap_at("t", size=4, width=8, rf_px=4, stride_px=4, rf_start_px=1.5)
    box = examples.field_of(tap, (3, 16, 32), Square(0, 0, 32), 0, 0)
    assert (box.x, box.y) == (0, 8)
