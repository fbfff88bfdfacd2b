"""Whole pictures: which there are, the squares that cover them, and what is cut from them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from universality.stimuli import manifest, natural, whole
from universality.stimuli.natural import NaturalStimuli


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_squares_cover_the_picture_and_lie_inside_it(width, height):
    found = whole.squares(width, height)
    side, long = min(width, height), max(width, height)
    along = sorted(square.x if width > height else square.y for square in found)
    assert all(
        square.side == side and 0 <= square.x <= width - side and 0 <= square.y <= height - side for square in found
    )
    gaps = [along[0], *(b - a - side for a, b in itertools.pairwise(along)), long - side - along[-1]]
    assert max(gaps) <= 0.02 * side + 1
    assert len(found) <= -(-long // side)


def test_pictures_are_those_of_the_job():
    photographs = natural.photographs()
    assert [p.name for p in whole.pictures(NaturalStimuli(crops=1))] == [photo.name for photo in photographs]
    drawn = whole.pictures(NaturalStimuli(crops=0, shapes=5))
    assert [(p.source, p.number) for p in drawn] == [("drawn", k) for k in range(5)]
    many = whole.pictures(NaturalStimuli(crops=0, shapes=1000))
    assert len(many) == whole.MOST_SHAPES
    assert {p.fold for p in many} == {0, 1}


def test_every_photograph_says_its_licence():
    assert all(picture.licence for picture in whole.pictures(NaturalStimuli(crops=1)))
    assert {p.name: p.licence for p in whole.pictures(NaturalStimuli(crops=1))}["horse"] == "Seth Zeigler, CC0"


def test_content_knows_what_decides_the_pictures_and_nothing_else():
    content = whole.content(NaturalStimuli(crops=100, shapes=100))
    assert content == whole.content(NaturalStimuli(crops=200, shapes=500, min_side_px=50))
    for other in (
        NaturalStimuli(crops=0, shapes=100),
        NaturalStimuli(crops=9, shapes=9),
        NaturalStimuli(crops=9, shapes=100, seed=1),
    ):
        assert whole.content(other) != content


def checker(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, Image.fromarray(pixels)


@pytest.mark.parametrize(("x", "y"), [(3, 2), (-4, 5), (20, 9), (-2, -2)])
def test_a_cut_of_the_same_size_is_the_pixels_with_grey_beyond(x, y):
    pixels, image = checker(24, 16)
    expected = np.full((8, 8, 3), 128, np.uint8)
    for row in range(8):
        for column in range(8):
            if 0 <= y + row < 16 and 0 <= x + column < 24:
                expected[row, column] = pixels[y + row, x + column]
    np.testing.assert_array_equal(np.asarray(whole.cut(image, x, y, 8, 8)), expected)


def test_a_cut_beyond_the_picture_is_grey():
    _, image = checker(24, 16)
    assert set(np.asarray(whole.cut(image, 50, 2, 8, 8)).ravel()) == {128}


def test_a_square_is_shown_in_the_range_of_images():
    pixels, image = checker(24, 16)
    shown = whole.shown(image, whole.Square(8, 0, 16), 16, "bilinear")
    np.testing.assert_allclose(np.moveaxis(shown, 0, -1), pixels[:, 8:] / 255, atol=1e-6)


def test_own_images_are_shown_upright_and_in_colour(tmp_path):
    """16-bit grey, CMYK and a picture that lies on its side: whole pictures are what the set's own images are."""
    pixels, image = checker(24, 16)
    grey = (np.arange(24 * 16).reshape(16, 24) * 170).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a16.png")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "side.png", exif=turned)
    listed = manifest.write(tmp_path).path
    spec = NaturalStimuli(crops=0, folders=(str(listed),))
    found = {picture.name: whole.opened(spec, picture) for picture in whole.pictures(spec)}
    assert {name: (each.mode, each.size) for name, each in found.items()} == {
        "a16.png": ("RGB", (24, 16)), "cmyk.tif": ("RGB", (24, 16)), "side.png": ("RGB", (16, 24)),
    }  # fmt: skip
    np.testing.assert_array_equal(np.asarray(found["side.png"]), np.rot90(pixels, -1))
    np.testing.assert_array_equal(np.asarray(found["a16.png"])[..., 0], np.rint(grey / 257))
