"""Scenes in receptive fields: the same picture in the field whatever surrounds it, and what surrounds it."""

import numpy as np
import pytest
from PIL import Image

from universality.activations.sampling import misalignment_px, position_targets, refuse_places
from universality.activations.spec import ExtractionSpec
from universality.base.errors import CardError, JobError, StimulusError, TapError
from universality.models import catalogue
from universality.models.card import Tap
from universality.runs.job import read_job
from universality.runs.networks import networks_of
from universality.stimuli import framing, sets
from universality.stimuli.colour_contrast import ColourContrastStimuli
from universality.stimuli.contours import ContourStimuli
from universality.stimuli.curve_controls import CurveControlStimuli
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.framing import Frame
from universality.stimuli.gratings import GratingStimuli
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.rotated import RotatedStimuli
from universality.stimuli.sets import STIMULI
from universality.stimuli.spec import StimuliSpec

SIDE = 40
FRAMES = [Frame(64, 11, SIDE), Frame(97, 30, SIDE), Frame(41, 1, SIDE)]
SPEC = StimuliSpec(
    policy="same_receptive_field",
    curves=CurveStimuli(orientations=8, curvatures=(0.0, 4.0)),
    high_low=HighLowStimuli(orientations=8, base_cpi=(10.0, 14.0), phases=1),
    curve_controls=CurveControlStimuli(orientations=8, curvatures=(4.0,)),
    gratings=GratingStimuli(orientations=4, frequencies_cpi=(3.0, 6.0)),
    contours=ContourStimuli(orientations=8, frequencies_cpi=(3.0, 6.0)),
    colour_contrast=ColourContrastStimuli(hues=8, orientations=4, frequencies_cpi=(3.0, 6.0)),
    natural=NaturalStimuli(crops=20, shapes=6),
    rotated=RotatedStimuli(crops=(0, 3), orientations=8),
)
KINDS = [name for name in STIMULI if name != "folder"]


def tap(**facts):
    stated = {
        "path": "c",
        "activation": "pre",
        "channels": 4,
        "size": 16,
        "rf_px": 26,
        "stride_px": 4,
        "rf_start_px": 1.5,
        "relative_depth": 0.5,
    }
    return Tap.model_validate({**stated, **facts})


def shown(name, frame, rows=slice(None, None, 5)):
    count = sets.parameters(name, SPEC).sizes["stimulus"]
    return sets.render(name, SPEC, frame.size_px, np.arange(count)[rows], frame=frame).values


def scene_of(images, frame):
    window = slice(frame.start_px, frame.start_px + frame.side_px)
    return images[..., window, window]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_scene_is_what_fills_an_image_of_its_size(name, frame):
    """The same pixels as without a frame; a photograph's 8 bits may round the other way."""
    images = shown(name, frame)
    count = sets.parameters(name, SPEC).sizes["stimulus"]
    alone = sets.render(name, SPEC, SIDE, np.arange(count)[::5]).values
    assert images.shape == (len(alone), 3, frame.size_px, frame.size_px)
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(scene_of(images, frame), alone, atol=1.01 / 255 if name == "natural" else 2e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_scene_larger_than_the_image_is_cut(name):
    frame = Frame(32, -5, SIDE)
    alone = sets.render(name, SPEC, SIDE).values[::5]
    np.testing.assert_array_equal(shown(name, frame), alone[:, :, 5:37, 5:37])
    assert frame.shown == 32 / 40


def test_drawn_lines_go_on_around_the_scene():
    table = sets.parameters("curves", SPEC)
    row = np.flatnonzero(
        (table["curvature"].values == 0)
        & (table["orientation_deg"].values == 0)
        & (table["variant"].values == "thin_dark")
    )
    frame = Frame(96, 20, SIDE)
    image = 0.5 - sets.render("curves", SPEC, 96, row, frame=frame).values[0, 0]
    rows, columns = np.nonzero(image > 0.1)
    assert set(rows) == set(range(96)), "an upright line of the drawn world ends nowhere"
    assert columns.mean() == pytest.approx(frame.middle_px, abs=0.5)


def test_scrambled_pictures_repeat():
    table = sets.parameters("curve_controls", SPEC)
    row = np.flatnonzero(table["kind"].values == "scrambled")[:3]
    image = sets.render("curve_controls", SPEC, 100, row, frame=Frame(100, 30, SIDE)).values
    np.testing.assert_array_equal(image[..., :60, :60], image[..., 40:, 40:])


def mirrored(index, length):
    """Index of the pixel that stands for one outside 0 to length - 1: 0 for -1, 1 for -2."""
    index = index % (2 * length)
    return index if index < length else 2 * length - 1 - index


@pytest.mark.parametrize("corner", [(30, 25), (0, 60), (33, 0)], ids=str)
@pytest.mark.parametrize("frame", [Frame(64, 11, 20), Frame(150, 70, 20), Frame(20, -4, 20), Frame(21, 0, 20)], ids=str)
def test_the_photograph_goes_on_around_the_crop_and_is_mirrored_where_it_ends(corner, frame):
    """At one pixel a pixel nothing is resampled: by brute force, pixel by pixel."""
    photo = np.random.default_rng(0).integers(0, 256, (80, 110, 3), dtype=np.uint8)
    x, y = corner
    came = framing.cut(Image.fromarray(photo), x, y, 20, frame, Image.Resampling.BICUBIC)
    rows = [mirrored(y - frame.start_px + i, 80) for i in range(frame.size_px)]
    columns = [mirrored(x - frame.start_px + i, 110) for i in range(frame.size_px)]
    expected = np.moveaxis(photo[np.ix_(rows, columns)], 2, 0) / np.float32(255)
    np.testing.assert_array_equal(came, expected)


def test_the_surround_keeps_the_proportion_of_the_crop():
    """A ramp over the photograph stays one ramp across the border of the crop, at twice its pixels."""
    ramp = np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (240, 240, 3))
    came = framing.cut(
        Image.fromarray(np.ascontiguousarray(ramp)), 100, 100, 40, Frame(64, 22, 20), Image.Resampling.BILINEAR
    )
    expected = (100 + (np.arange(64) - 22 + 0.5) * 2 - 0.5) / 255
    np.testing.assert_allclose(came[0, 10], expected, atol=0.6 / 255)


@pytest.mark.parametrize("model_id", list(catalogue.cards()))
def test_every_cards_frames_are_the_receptive_fields_of_centre_units(model_id):
    """Whole pixels, within half a stride of the middle. Real gradients reach exactly there (tests/test_models_card.py)."""
    card = catalogue.card(model_id)
    size = card.preprocessing.size_px
    for at in card.taps:
        frame = Frame.of(at, size)
        centre = at.rf_start_px + at.stride_px * at.center_index(size)
        assert frame.middle_px == centre
        assert abs(frame.middle_px - (size - 1) / 2) <= at.stride_px / 2
        assert misalignment_px(at, ExtractionSpec(reduction="center"), frame) == 0


def test_places_are_the_same_fractions_of_every_scene():
    one, two = Frame(64, 17, 26), Frame(224, 40, 104)
    a, b = (position_targets(3, frame.side_px, frame.start_px) for frame in (one, two))
    fractions = [(at + 0.5 - f.start_px) / f.side_px for at, f in ((a, one), (b, two))]
    np.testing.assert_allclose(fractions, [[0.25, 0.5, 0.75]] * 2)


@pytest.mark.parametrize("positions", [1, 3, 5])
def test_misalignment_is_the_largest_distance_by_brute_force(positions):
    at = tap(rf_px=36)
    frame = Frame.of(at, 64)
    centres = 1.5 + 4 * np.arange(16)
    targets = frame.start_px + 36 * np.arange(1, positions + 1) / (positions + 1) - 0.5
    expected = np.abs(centres[:, None] - targets).min(axis=0).max()
    came = misalignment_px(at, ExtractionSpec(reduction="positions", positions=positions), frame)
    assert came == pytest.approx(expected) and came <= 2
    assert np.isnan(misalignment_px(at, ExtractionSpec(reduction="mean"), frame))


def test_places_that_a_map_cannot_tell_apart_or_does_not_reach_are_refused():
    spec = ExtractionSpec(reduction="positions", positions=9)
    at = tap()
    with pytest.raises(TapError, match=r"9 places along 26 px fall on \d positions of the map, 4 px apart; lower"):
        refuse_places(at, spec, Frame.of(at, 64))
    small = tap(size=4, rf_px=60)
    with pytest.raises(
        TapError, match=r"lies .* px from the nearest receptive-field centre, expected at most half a stri"
    ):
        refuse_places(small, spec, Frame.of(small, 64))
    refuse_places(at, ExtractionSpec(reduction="positions", positions=3), Frame.of(at, 64))


def test_the_frame_is_part_of_what_decides_the_pixels():
    digests = {sets.stimulus_digest("curves", SPEC, frame) for frame in (None, *FRAMES)}
    assert len(digests) == 4


JOB = """
name = "j"
[[models]]
id = "pocket/vgg-focus-s0"
taps = ["{tap}"]
[[models]]
id = "pocket/alexnet-focus-s0"
taps = ["features.9"]
[stimuli]
policy = "{policy}"
[stimuli.high_low]
base_cpi = [10.0, {cpi}]
[extraction]
reduction = "{reduction}"
[comparison]
families = ["high_low_frequency"]
"""


def job(tmp_path, **values):
    path = tmp_path / "job.toml"
    chosen = {"tap": "features.13", "policy": "same_receptive_field", "cpi": 14.0, "reduction": "center", **values}
    path.write_text(JOB.format(**chosen), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tap": "features.9"},
            r"receptive field of 'features.9' of 'pocket/vgg-focus-s0' is too small: high-low stimuli of 14 cycles "
            r".* at least 28 px, came 26 px; lower stimuli.high_low.base_cpi",
        ),
        (
            {"policy": "same_field_of_view", "cpi": 40.0},
            r"the input of 'pocket/vgg-focus-s0' is too small: .* at least 80 px, came 64 px",
        ),
    ],
)
def test_a_set_that_a_network_cannot_show_is_refused_by_plan(tmp_path, values, message):
    from universality import plan

    with pytest.raises(StimulusError, match=message):
        plan(job(tmp_path, **values), tmp_path / "run", tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.toml"]


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_whole_maps_are_refused_under_the_policy(tmp_path, reduction):
    with pytest.raises(JobError, match=f"extraction.reduction = '{reduction}' takes all positions .* choose center"):
        read_job(job(tmp_path, reduction=reduction))


def test_twins_are_calibrated_on_whole_images_under_either_policy(tmp_path):
    twins = [networks_of(read_job(job(tmp_path, policy=policy)))[1] for policy in sets.POLICIES]
    assert twins[0].seed == 0
    assert twins[0].weights == twins[1].weights
    assert twins[0].key("natural", twins[0].taps[0]) != twins[1].key("natural", twins[1].taps[0])


def test_scenes_of_a_stated_side_lie_about_the_centre_of_the_field(tmp_path):
    path = job(tmp_path, cpi=11.0)
    text = path.read_text(encoding="utf-8").replace(
        'taps = ["features.13"]', 'taps = ["features.13"]\nscene_px = { "features.13" = 22 }'
    )
    path.write_text(text, encoding="utf-8")
    network = networks_of(read_job(path))[0]
    (at,) = network.taps
    frame, whole = network.frame(at), Frame.of(at, 64)
    assert (frame.side_px, whole.side_px, network.scene(at).side_px) == (22, 42, 22)
    assert frame.middle_px == whole.middle_px
    # An even side in an odd field: half a pixel off, and said so.
    assert network.scene(at).misalignment_px == 0
    assert misalignment_px(at, network.extraction, Frame.of(at, 64, 21)) == 0.5


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            '"features.13" = 22',
            '"features.12" = 22',
            r"scene_px names 'features.12'; did you mean 'features.13'\?, which is",
        ),
        ("same_receptive_field", "same_field_of_view", r"scene_px of 'pocket/vgg-focus-s0' needs stimuli.policy"),
        ("= 22", "= 0", r"models.0.scene_px.features.13': Input should be greater than or equal to 1"),
    ],
)
def test_stated_sides_that_make_no_sense_are_refused(tmp_path, before, after, message):
    path = job(tmp_path)
    text = path.read_text(encoding="utf-8").replace(
        'taps = ["features.13"]', 'taps = ["features.13"]\nscene_px = { "features.13" = 22 }'
    )
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(JobError, match=message):
        read_job(path)


def test_one_place_under_two_names_is_refused(tmp_path):
    path = tmp_path / "job.toml"
    taps = 'taps = ["features.10:post", "features.11"]'
    path.write_text(
        f'name = "j"\n[[models]]\nid = "torchvision/vgg16"\n{taps}\n[[models]]\nid = "pocket/vgg-focus-s0"\n'
        '[extraction]\nreduction = "center"\n',
        encoding="utf-8",
    )
    with pytest.raises(CardError, match=r"taps 'features.10:post' and 'features.11' .* are the same place; name one"):
        networks_of(read_job(path))
