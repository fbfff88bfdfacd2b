"""Tuning on rotated natural crops: rotation against drawings, statistics against closed forms."""

import numpy as np
import pytest

from universality.base.errors import MeasureError
from universality.features.natural import family_preference, family_rotation_slope, joint_tuning, rotated, top_crops
from universality.features.tuning import circular_difference
from universality.stimuli import sets
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.spec import StimuliSpec

ANGLES = np.arange(36) * 10.0
PREFERRED = np.array([3.0, 40.0, 95.0, 170.0, 221.0, 300.0])
SIZE = 49


def von_mises(k, mu, angles=ANGLES):
    return np.exp(k * (np.cos(np.deg2rad(angles - mu)) - 1))


def family(orientations, preferred=PREFERRED, k=6.0, gain=1.0):
    """Answers (crop, angle, unit) of ideal units to crops of these orientations, rotated."""
    shown = np.asarray(orientations)[:, None, None] + ANGLES[:, None]
    return gain * von_mises(k, preferred, shown)


# Rotation


@pytest.mark.parametrize("turn", [0.0, 40.0, 90.0, 130.0, 270.0])
def test_a_rotated_drawing_is_the_drawing_of_the_rotated_orientation(turn):
    spec = StimuliSpec(curves=CurveStimuli(variants=("filled_bright",), curvatures=(0.0, 5.0)))
    parameters = sets.parameters("curves", spec)
    drawn = sets.render("curves", spec, SIZE).values
    here = (parameters["curvature"].values == 5.0).nonzero()[0]
    degrees = parameters["orientation_deg"].values[here]
    start, end = (here[np.abs(circular_difference(degrees, want)) < 1e-9][0] for want in (30.0, 30.0 + turn))
    came = rotated(drawn[[start]], [turn])[0, 0]
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    inside = np.hypot(axis[:, None], axis) < 0.38 * SIZE
    assert np.abs(came - drawn[end])[:, inside].mean() < 0.012
    wrong = rotated(drawn[[start]], [-turn])[0, 0]
    assert turn == 0 or np.abs(wrong - drawn[end])[:, inside].mean() > 0.05


def test_quarter_turns_are_exact():
    image = np.random.default_rng(0).random((1, 3, 9, 9))
    came = rotated(image, [90.0])[0, 0]
    inside = np.hypot(*np.meshgrid(np.arange(-4, 5), np.arange(-4, 5))) <= 3.6
    # Clockwise with y down: what lay to the right comes to lie below.
    expected = np.rot90(image[0], -1, axes=(1, 2))
    np.testing.assert_allclose(came[:, inside], expected[:, inside], atol=1e-6)


def test_what_lies_outside_the_disc_does_not_matter():
    rng = np.random.default_rng(1)
    axis = np.arange(33) - 16
    outside = np.hypot(axis[:, None], axis) > 20
    image = rng.random((1, 1, 33, 33))
    other = np.where(outside, 0.5, image)
    a, b = (rotated(images, [0.0, 30.0])[0, :, 0] for images in (image, other))
    np.testing.assert_allclose(a, b, atol=0.02)
    np.testing.assert_allclose(a[:, outside], np.broadcast_to(a[0, 0, 0], a[:, outside].shape), atol=1e-6)


def test_rotation_keeps_the_range_and_the_input():
    image = (np.random.default_rng(2).random((2, 3, 17, 17)) > 0.5).astype(np.float32)
    kept = image.copy()
    came = rotated(image, ANGLES)
    assert came.shape == (2, 36, 3, 17, 17)
    assert came.dtype == np.float32
    assert came.min() >= 0
    assert came.max() <= 1
    np.testing.assert_array_equal(image, kept)


# Top crops


def test_top_crops_by_hand():
    natural = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 9.0], [3.0, 0.0]])
    assert top_crops(natural, 3).tolist() == [[1, 3, 2], [2, 0, 1]]


# Shape of the tuning


@pytest.mark.parametrize("k", [1.0, 4.0, 12.0])
def test_natural_tuning_of_the_same_shape_agrees_whatever_its_angle(k):
    drawn = np.stack([von_mises(k, mu) for mu in (0.0, 120.0)])
    rotations = np.stack([[gain * von_mises(k, mu) for gain, mu in ((1, 0.0), (3, 20.0), (0.2, 350.0))]] * 2)
    came = joint_tuning(rotations, drawn, ANGLES)
    np.testing.assert_allclose(came.r_joint, 1.0, atol=1e-12)
    expected = 2 * np.rad2deg(np.arccos(np.clip(1 - np.log(2) / k, -1, 1)))
    np.testing.assert_allclose(came.fwhm_deg, expected, atol=1.5)
    np.testing.assert_allclose(came.fwhm_drawn_deg, came.fwhm_deg, atol=1e-9)


def test_other_shapes_do_not_agree():
    axis = von_mises(6, 0) + von_mises(6, 180)
    crops = np.stack([[axis], [von_mises(6, 40)], [np.ones(36)]])
    drawn = np.stack([von_mises(6, 90), axis, von_mises(6, 90)])
    came = joint_tuning(crops, drawn, ANGLES)
    assert came.r_joint[0] < 0.8
    assert came.r_joint[1] < 0.8
    assert np.isnan(came.r_joint[2])


def test_crops_without_an_answer_do_not_count():
    one, silent = von_mises(5, 10), np.zeros(36)
    came = joint_tuning([[one, silent], [one, one], [silent, silent]], [one, one, one], ANGLES)
    assert came.r_joint[0] == pytest.approx(came.r_joint[1]) == pytest.approx(1.0)
    assert np.isnan(came.r_joint[2])
    assert np.isnan(came.r1[2])


# Angles of a family


def test_preferences_agree_whatever_the_crops_show():
    came = family_preference(family([10.0, 77.0, 300.5]), PREFERRED, ANGLES)
    np.testing.assert_allclose(came.natural_deg, PREFERRED, atol=1e-9)
    np.testing.assert_allclose(came.difference_deg, 0.0, atol=1e-9)


@pytest.mark.parametrize("unit", range(6))
def test_a_wrong_preference_shows_in_its_unit(unit):
    """Its own vote is left out: the whole error is its own, the others share what it votes wrongly."""
    stated = PREFERRED.copy()
    stated[unit] += 40.0
    difference = family_preference(family([10.0, 77.0]), stated, ANGLES).difference_deg
    assert difference[unit] == pytest.approx(-40.0, abs=1e-9)
    # One of five votes turned by 40 degrees: atan2(sin 40, 4 + cos 40).
    expected = np.rad2deg(np.arctan2(np.sin(np.deg2rad(40)), 4 + np.cos(np.deg2rad(40))))
    np.testing.assert_allclose(np.delete(difference, unit), expected, atol=1e-9)


def test_units_that_do_not_vote_are_judged_by_those_that_do():
    """The vote of a wrong unit is left out, so the members agree exactly, and its own error shows in full."""
    stated = PREFERRED + 40.0 * (np.arange(6) == 2)
    came = family_preference(family([10.0, 77.0]), stated, ANGLES, members=np.arange(6) != 2)
    np.testing.assert_allclose(came.difference_deg, [0, 0, -40, 0, 0, 0], atol=1e-9)


def test_silent_unit_has_no_natural_preference():
    answers = family([10.0])
    answers[..., 2] = 0.0
    came = family_preference(answers, PREFERRED, ANGLES)
    assert np.isnan(came.natural_deg).tolist() == [False, False, True, False, False, False]


def test_family_follows_the_crop():
    came = family_rotation_slope(family([10.0, 200.0]), PREFERRED, ANGLES)
    assert came.slope.tolist() == [1.0, 1.0]
    assert (came.locking > 0.9).all()


def test_evenly_spaced_family_locks_as_closely_as_its_spacing_allows():
    """The winner is within half the spacing: the mean of exp(i x) over +-15 degrees in steps of 10 is (1 + 2 cos 10) / 3."""
    preferred = np.arange(12) * 30.0
    came = family_rotation_slope(family([0.0], preferred), preferred, ANGLES)
    assert came.slope.tolist() == [1.0]
    assert came.locking[0] == pytest.approx((1 + 2 * np.cos(np.deg2rad(10))) / 3)


def test_family_with_its_sign_reversed_turns_the_other_way():
    came = family_rotation_slope(family([0.0], -PREFERRED), PREFERRED, ANGLES)
    assert came.slope.tolist() == [-1.0]
    assert came.locking[0] < 0.3


def test_family_that_does_not_follow_has_slope_0():
    fixed = np.tile(np.eye(6)[2], (1, 36, 1))
    came = family_rotation_slope(fixed, PREFERRED, ANGLES)
    assert came.slope.tolist() == [0.0]
    assert came.locking[0] == pytest.approx(0.0, abs=1e-12)


def test_crop_without_answers_has_no_slope():
    answers = family([0.0, 0.0])
    answers[1] = -1.0
    came = family_rotation_slope(answers, PREFERRED, ANGLES)
    assert np.isnan(came.slope).tolist() == [False, True]
    assert np.isnan(came.locking).tolist() == [False, True]


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotated(np.ones((2, 3, 8, 9)), ANGLES), "expected square ones"),
        (lambda: top_crops(np.ones((3, 2)), 4), "show more images"),
        (lambda: top_crops(np.ones(3), 1), r"expected \(image, unit\)"),
        (lambda: joint_tuning(np.ones((2, 3, 36)), np.ones((2, 35)), ANGLES), "resample the tuning"),
        (lambda: joint_tuning(np.ones((2, 3, 36)), np.ones((2, 36)), ANGLES / 2), "not evenly spaced"),
        (lambda: family_preference(np.ones((2, 6, 36)), PREFERRED, ANGLES), "transpose them"),
        (lambda: family_preference(family([0.0]), PREFERRED * np.nan, ANGLES), "drop units without a preference"),
        (lambda: family_rotation_slope(family([0.0]), PREFERRED, ANGLES / 2), "rotate evenly"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(MeasureError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
