"""Stimuli: what is drawn has the stated geometry, and what is cut is what the manifest states."""

import dataclasses
import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from universality.base.errors import StimulusError
from universality.base.paths import resource
from universality.models.card import Preprocessing
from universality.models.pocket import shapes as generator
from universality.models.pocket import training
from universality.stimuli import colours, curve_controls, curves, gratings, high_low, natural, rotated, sets, shapes
from universality.stimuli.colours import ColourStimuli
from universality.stimuli.curve_controls import CurveControlStimuli
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.gratings import GratingStimuli
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.kinds import STIMULI
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.rotated import RotatedStimuli
from universality.stimuli.shapes import ShapeStimuli
from universality.stimuli.spec import StimuliSpec

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("thin_dark", "thin_bright", "filled_dark", "filled_bright")
SIZE = 128


def drawn(orientation, curvature, variant, size=SIZE, spec=None):
    """One stimulus (y, x) at any orientation, also one that no grid holds."""
    chosen = xr.Dataset(
        coords={
            "orientation_deg": ("stimulus", [float(orientation)]),
            "curvature": ("stimulus", [float(curvature)]),
            "variant": ("stimulus", [variant]),
            "jitter_x": ("stimulus", [0.0]),
            "jitter_y": ("stimulus", [0.0]),
        }
    )
    return curves.render(spec or CurveStimuli(), chosen, size, "bicubic")[0, 0].astype(np.float64)


def ink(image):
    """Share of each pixel that is covered, 0 to 1, whatever the polarity, at the full contrast of 0.5."""
    return np.abs(image - 0.5) / 0.5


def offsets(size):
    """(x, y) of the pixel centres from the middle of the image, in px, y down."""
    axis = np.arange(size) - (size - 1) / 2
    return np.meshgrid(axis, axis)


def fitted_circle(image, keep):
    """Centre (x, y) and radius of the circle through the kept pixels, in px: algebraic least squares."""
    x, y = (part[keep] for part in offsets(len(image)))
    design = np.stack([2 * x, 2 * y, np.ones_like(x)], axis=1)
    (cx, cy, rest), *_ = np.linalg.lstsq(design, x * x + y * y, rcond=None)
    return cx, cy, np.sqrt(rest + cx * cx + cy * cy)


# Curves: the table of parameters


def test_curve_table_holds_every_combination_once():
    spec = CurveStimuli(orientations=9, curvatures=(0.0, 4.0, 7.0), variants=("thin_dark", "filled_bright"))
    table = sets.parameters("curves", StimuliSpec(curves=spec))
    names = ("variant", "curvature", "orientation_deg")
    rows = set(zip(*(table[name].values.tolist() for name in names), strict=True))
    expected = {(v, c, 40.0 * k) for v in spec.variants for c in spec.curvatures for k in range(9)}
    assert table.sizes == {"stimulus": 2 * 3 * 9}
    assert rows == expected


def test_curve_table_states_its_units():
    table = sets.parameters("curves", StimuliSpec())
    assert table["orientation_deg"].attrs["units"] == "degrees"
    assert table["curvature"].attrs["units"] == "1 / (scale x image side)"


def test_render_labels_what_it_draws():
    spec = StimuliSpec(curves=CurveStimuli(orientations=8, curvatures=(0.0, 4.0)))
    images = sets.render("curves", spec, 16)
    assert images.dims == ("stimulus", "channel", "y", "x")
    assert images.shape == (64, 3, 16, 16)
    assert images.dtype == np.float32
    assert images.attrs["size_px"] == 16
    assert images.attrs["policy"] == spec.policy
    assert set(images.coords) == {"variant", "curvature", "orientation_deg", "jitter_x", "jitter_y"}


# Curves: orientation


def test_filled_dark_at_orientation_0_is_dark_at_smaller_x():
    image = drawn(0, 4, "filled_dark")
    middle = image[SIZE // 2]
    assert middle[: SIZE // 2 - 1].max() < 0.01
    assert middle[SIZE // 2 + 1 :].min() == 0.5


def test_filled_dark_at_orientation_90_is_dark_at_smaller_y():
    """Clockwise with y down: 90 degrees points down, so the concave side lies above."""
    column = drawn(90, 4, "filled_dark")[:, SIZE // 2]
    assert column[: SIZE // 2 - 1].max() < 0.01
    assert column[SIZE // 2 + 1 :].min() == 0.5


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("theta", [0, 25, 90, 145, 200, 305])
def test_ink_lies_on_the_side_of_the_centre_of_curvature(variant, theta):
    x, y = offsets(SIZE)
    # The corners of the square image would pull the filled strip's centroid towards a diagonal.
    covered = ink(drawn(theta, 4, variant)) * (np.hypot(x, y) < SIZE / 2)
    away = np.rad2deg(np.arctan2(-(covered * y).sum(), -(covered * x).sum()))
    assert abs((away - theta + 180) % 360 - 180) < 2.0


@pytest.mark.parametrize("curvature", [3.0, 4.0, 6.0])
@pytest.mark.parametrize("theta", [0, 30, 135, 260])
def test_radius_of_the_stroke_is_one_over_the_curvature(curvature, theta):
    size = 256
    image = drawn(theta, curvature, "thin_dark", size)
    cx, cy, radius = fitted_circle(image, ink(image) > 0.5)
    expected = size / curvature
    direction = np.array([np.cos(np.deg2rad(theta)), np.sin(np.deg2rad(theta))])
    assert radius == pytest.approx(expected, rel=0.01)
    # The arc's midpoint is the middle of the image: the centre lies one radius behind it.
    np.testing.assert_allclose([cx, cy], -expected * direction, atol=0.01 * expected + 0.2)


@pytest.mark.parametrize("curvature", [3.0, 6.0])
@pytest.mark.parametrize("theta", [0, 70, 225])
def test_radius_of_the_filled_border_is_one_over_the_curvature(curvature, theta):
    size = 256
    image = drawn(theta, curvature, "filled_bright", size)
    x, y = offsets(size)
    along = x * np.cos(np.deg2rad(theta)) + y * np.sin(np.deg2rad(theta))
    border = (ink(image) > 0.02) & (ink(image) < 0.98) & (along > -size / curvature)
    _, _, radius = fitted_circle(image, border)
    assert radius == pytest.approx(size / curvature, rel=0.01)


@pytest.mark.parametrize("curvature", [0.0, 3.0, 8.0])
@pytest.mark.parametrize("theta", [0, 90, 180, 270])
def test_stroke_runs_through_the_middle_of_the_image(curvature, theta):
    size = 101  # odd: a pixel lies exactly in the middle
    covered = ink(drawn(theta, curvature, "thin_dark", size))
    middle = size // 2
    step = np.rint([np.sin(np.deg2rad(theta)), np.cos(np.deg2rad(theta))]).astype(int)
    profile = np.array([covered[tuple(middle + k * step)] for k in range(-4, 5)])
    assert covered[middle, middle] == 1.0
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-6)
    assert profile[0] == profile[-1] == 0.0


# Curves: symmetries


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("curvature", [0.0, 5.0])
@pytest.mark.parametrize("size", [64, 65])
def test_orientation_plus_90_is_a_clockwise_quarter_turn(variant, curvature, size):
    for theta in (0, 33, 200):
        turned = np.rot90(drawn(theta, curvature, variant, size), k=-1)
        np.testing.assert_allclose(drawn(theta + 90, curvature, variant, size), turned, atol=1e-6)


@pytest.mark.parametrize("shape", ["thin", "filled"])
@pytest.mark.parametrize("curvature", [0.0, 5.0])
def test_bright_mirrors_dark_about_the_background(shape, curvature):
    bright, dark = (drawn(40, curvature, f"{shape}_{polarity}") for polarity in ("bright", "dark"))
    np.testing.assert_allclose(bright + dark, 1.0, atol=1e-6)
    assert bright.max() > 0.9


@given(theta=st.floats(0, 360, exclude_max=True))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_a_line_has_no_direction_but_a_filled_half_has(theta):
    line, opposite = (drawn(t, 0, "thin_dark", 33) for t in (theta, theta + 180))
    np.testing.assert_allclose(line, opposite, atol=1e-6)
    half, other_half = (drawn(t, 0, "filled_dark", 33) for t in (theta, theta + 180))
    np.testing.assert_allclose(ink(half) + ink(other_half), 1.0, atol=1e-6)


def test_an_arc_differs_from_the_opposite_arc():
    assert np.abs(drawn(20, 5, "thin_dark") - drawn(200, 5, "thin_dark")).max() == pytest.approx(0.5)


# Curves: ink


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("curvature", [3.0, 5.0, 8.0])
@pytest.mark.parametrize("theta", [0, 37])
def test_ink_of_an_arc_is_stroke_times_half_a_circle(size, curvature, theta):
    stroke = CurveStimuli().stroke
    expected = stroke * np.pi / curvature + np.pi * (stroke / 2) ** 2  # with its round ends
    assert ink(drawn(theta, curvature, "thin_bright", size)).mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("stroke", [0.02, 0.05, 0.1])
def test_ink_of_a_line_is_stroke_times_side(stroke):
    spec = CurveStimuli(stroke=stroke)
    assert ink(drawn(0, 0, "thin_dark", 100, spec)).mean() == pytest.approx(stroke, rel=0.01)


@pytest.mark.parametrize("curvature", [3.0, 6.0])
def test_ink_of_a_filled_arc_is_half_a_disc_and_the_strip_behind_it(curvature):
    radius = 1 / curvature
    expected = np.pi * radius**2 / 2 + 2 * radius * (0.5 - radius)
    assert ink(drawn(0, curvature, "filled_dark", 224)).mean() == pytest.approx(expected, rel=0.01)


def test_ink_of_a_half_plane_is_half_the_image():
    assert ink(drawn(0, 0, "filled_dark", 65)).mean() == pytest.approx(0.5, abs=1e-6)


def test_values_stay_in_range_and_reach_the_contrast():
    spec = CurveStimuli(orientations=8, curvatures=(0.0, 4.0, 12.0), contrast=0.3)
    images = sets.render("curves", StimuliSpec(curves=spec), 48).values
    assert images.min() == pytest.approx(0.2)
    assert images.max() == pytest.approx(0.8)
    full = sets.render("curves", StimuliSpec(), 16).values
    assert full.min() >= 0.0
    assert full.max() <= 1.0


def test_drawings_are_grey():
    images = sets.render("curves", StimuliSpec(), 24, slice(100, 110)).values
    assert (images == images[:, :1]).all()


# Curves: size and limits


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("curvature", [0.0, 4.0, 8.0])
def test_a_large_drawing_scaled_down_resembles_the_small_one(variant, curvature):
    small = drawn(50, curvature, variant, 64)
    large = drawn(50, curvature, variant, 256).reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.abs(small - large).max() < 0.1
    assert np.abs(small - large).mean() < 0.005


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_straight_line_is_the_limit_of_small_curvature(variant):
    line = drawn(70, 0, variant)
    far, near = (np.abs(drawn(70, curvature, variant) - line).max() for curvature in (1e-2, 1e-3))
    # The sagitta of a chord of half length 0.71 image sides is 0.25 curvature: 0.03 px here, half of it in grey.
    assert near < 0.5 * 0.26e-3 * SIZE
    assert near < far / 5


def test_a_subset_equals_the_same_rows_of_all():
    spec = StimuliSpec(curves=CurveStimuli(orientations=8, curvatures=(0.0, 6.0)))
    everything = sets.render("curves", spec, 20)
    rows = np.array([3, 50, 17])
    xr.testing.assert_identical(sets.render("curves", spec, 20, rows), everything[rows])
    xr.testing.assert_identical(sets.render("curves", spec, 20, slice(10, 13)), everything[10:13])


def sheet_of_curves():
    """One orientation a row, 32 px each: (y, x) uint8.

    To pin a new RENDERER_VERSION: Image.fromarray(sheet_of_curves()).save(GOLDEN / "curves_v2.png").
    """
    spec = StimuliSpec(curves=CurveStimuli(orientations=8, curvatures=(0.0, 3.1, 7.7)))
    shown = sets.render("curves", spec, 32)
    images = [shown.values[shown["orientation_deg"] == angle, 0] for angle in np.unique(shown["orientation_deg"])]
    return np.round(np.block([[*row] for row in images]) * 255).astype(np.uint8)


def test_regression_pin_of_the_pixels():
    """A regression test: a change of pixels needs a new RENDERER_VERSION, so that stores are not reused.

    Another processor may round the other way, by one step of grey; nothing else may differ, anywhere.
    """
    pinned = np.asarray(Image.open(GOLDEN / f"curves_v{curves.RENDERER_VERSION}.png"))
    assert np.abs(sheet_of_curves().astype(int) - pinned).max() <= 1


# Photographs


def natural_spec(**changes):
    return StimuliSpec(natural=NaturalStimuli(**changes))


@pytest.fixture
def fresh_photographs():
    natural.load_photograph.cache_clear()
    yield
    natural.load_photograph.cache_clear()


def exchange(monkeypatch, **changes):
    """Change the first photograph of the manifest."""
    first, *rest = natural.photographs()
    monkeypatch.setattr(natural, "photographs", lambda: (dataclasses.replace(first, **changes), *rest))
    return first


@given(crops=st.integers(1, 200), smallest=st.integers(16, 900), seed=st.integers(0, 2**31))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_crops_lie_inside_their_photographs(crops, smallest, seed):
    table = natural.parameters(NaturalStimuli(crops=crops, min_side_px=smallest, seed=seed))
    sizes = {photo.name: (photo.width_px, photo.height_px) for photo in natural.photographs()}
    width, height = np.array([sizes[name] for name in table["photograph"].values]).T
    x, y, side = (table[f"crop_{name}_px"].values for name in ("x", "y", "side"))
    assert table.sizes["stimulus"] == crops
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (x + side <= width).all()
    assert (y + side <= height).all()
    assert (side >= np.minimum(smallest, np.minimum(width, height))).all()


def test_sides_of_crops_are_log_uniform():
    table = natural.parameters(NaturalStimuli(crops=94_000, min_side_px=96))
    camera = table["crop_side_px"].values[table["photograph"].values == "camera"]
    assert np.mean(camera < np.sqrt(96 * 512)) == pytest.approx(0.5, abs=0.06)


def test_first_rows_of_a_large_set_are_the_small_set():
    small, large = (sets.parameters("natural", natural_spec(crops=crops)) for crops in (37, 400))
    xr.testing.assert_identical(large.isel(stimulus=slice(37)), small)


def test_photographs_take_turns():
    table = sets.parameters("natural", natural_spec(crops=300))
    counts = np.unique(table["photograph"].values, return_counts=True)[1]
    assert counts.size == len(natural.photographs())
    assert counts.max() - counts.min() <= 1


def test_folds_share_no_photograph():
    table = sets.parameters("natural", natural_spec(crops=60))
    names, fold = table["photograph"].values, table["fold"].values
    first, second = set(names[fold == 0]), set(names[fold == 1])
    assert set(fold) == {0, 1}
    assert first
    assert second
    assert not first & second


@pytest.mark.parametrize("photo", natural.photographs(), ids=lambda photo: photo.name)
def test_manifest_states_hash_and_size_of_the_file(photo):
    path = photo.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == photo.sha256
    with Image.open(path) as image:
        assert image.size == (photo.width_px, photo.height_px)
    assert photo.fold in (0, 1)


def test_shipped_photographs_have_author_source_and_free_licence():
    rows = tomllib.loads(resource(natural.MANIFEST).read_text(encoding="utf-8"))["photograph"]
    shipped = [row for row in rows if row["package"] == natural.OWN_PACKAGE]
    assert {Path(row["path"]).name for row in shipped} == {path.name for path in resource("data/photographs").iterdir()}
    for row in shipped:
        assert row["licence"] in ("public domain", "CC0")
        assert row["author"]
        assert row["source"].startswith("https://")


def test_folds_of_photographs_are_balanced():
    """By what they show, colour, brightness, contrast and texture, measured from the files."""
    photos = natural.photographs()
    fold = np.array([photo.fold for photo in photos])
    assert abs((fold == 0).sum() - (fold == 1).sum()) <= 1
    for kind in {photo.kind for photo in photos}:
        of_kind = fold[[photo.kind == kind for photo in photos]]
        assert abs((of_kind == 0).sum() - (of_kind == 1).sum()) <= 1
    measured = np.array([looks(photo) for photo in photos])
    grey = measured[:, 0] < 0.01
    assert (grey & (fold == 0)).sum() == (grey & (fold == 1)).sum()
    apart = np.abs(measured[fold == 0].mean(axis=0) - measured[fold == 1].mean(axis=0)) / measured.std(axis=0)
    assert apart.max() < 0.1


def looks(photo):
    """Return mean chroma, brightness, contrast and log of the mean gradient."""
    with Image.open(photo.file) as image:
        small = image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, dtype=np.float64) / 255
    bright = pixels.mean(axis=2)
    gradient = np.hypot(*np.gradient(bright)).mean()
    return np.ptp(pixels, axis=2).mean(), bright.mean(), bright.std(), np.log(gradient)


def test_any_number_of_crops_is_balanced_over_folds():
    for crops in (24, 93, 480):
        fold = sets.parameters("natural", natural_spec(crops=crops))["fold"].values
        assert abs((fold == 0).sum() - (fold == 1).sum()) <= 1


def test_whole_crop_at_its_own_size_is_the_photograph():
    photo = next(photo for photo in natural.photographs() if photo.name == "camera")
    chosen = xr.Dataset(
        coords={
            name: ("stimulus", [value])
            for name, value in {
                "photograph": "camera",
                "crop_x_px": 0.0,
                "crop_y_px": 0.0,
                "crop_side_px": 512.0,
                "shape_index": -1,
            }.items()
        }
    )
    cut = natural.render(NaturalStimuli(), chosen, 512, "bicubic")[0]
    with Image.open(photo.file) as image:
        expected = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    np.testing.assert_allclose(np.moveaxis(cut, 0, 2), expected, atol=1e-6)


def test_crop_holds_the_stated_box():
    spec = natural_spec(crops=94)
    table = sets.parameters("natural", spec)
    row = int(np.flatnonzero(table["photograph"].values == "chelsea")[0])
    x, y, side = (int(table[f"crop_{name}_px"].values[row]) for name in ("x", "y", "side"))
    photo = next(photo for photo in natural.photographs() if photo.name == "chelsea")
    with Image.open(photo.file) as image:
        box = np.asarray(image.convert("RGB"), dtype=np.float64)[y : y + side, x : x + side] / 255
    cut = sets.render("natural", spec, side, np.array([row])).values[0]
    np.testing.assert_allclose(np.moveaxis(cut, 0, 2), box, atol=1e-6)


def test_natural_render_is_deterministic_labelled_and_in_range():
    spec = natural_spec(crops=16)
    once, again = (sets.render("natural", spec, 24) for _ in range(2))
    xr.testing.assert_identical(once, again)
    assert once.dims == ("stimulus", "channel", "y", "x")
    assert once.dtype == np.float32
    assert once.values.min() >= 0.0
    assert once.values.max() <= 1.0
    xr.testing.assert_identical(sets.render("natural", spec, 24, slice(5, 9)), once[5:9])


def test_interpolation_decides_the_pixels():
    spec = natural_spec(crops=4)
    soft, sharp = (sets.render("natural", spec, 24, interpolation=name) for name in ("bilinear", "bicubic"))
    assert np.abs(soft - sharp).max() > 1e-3


def test_seed_changes_the_crops_and_not_the_photographs():
    first, second = (sets.parameters("natural", natural_spec(crops=60, seed=seed)) for seed in (0, 1))
    assert (first["photograph"].values == second["photograph"].values).all()
    assert np.mean(first["crop_x_px"].values == second["crop_x_px"].values) < 0.3


# Photographs and shapes


def test_first_rows_of_a_mixed_set_are_the_crops():
    alone, mixed = (natural_spec(crops=37, shapes=count) for count in (0, 50))
    table = sets.parameters("natural", mixed)
    assert table.sizes["stimulus"] == 87
    xr.testing.assert_identical(table.isel(stimulus=slice(37)), sets.parameters("natural", alone))
    images = sets.render("natural", mixed, 24)
    np.testing.assert_array_equal(images[:37], sets.render("natural", alone, 24))


def test_last_rows_of_a_mixed_set_are_the_shapes():
    spec = natural_spec(crops=5, shapes=30, diet="sharp", seed=3)
    table = sets.parameters("natural", spec).isel(stimulus=slice(5, None))
    assert table["shape_index"].values.tolist() == list(range(30))
    for name in ("crop_x_px", "crop_y_px", "crop_side_px"):
        assert np.isnan(table[name].values).all()
    # Each one stands for itself when photographs are resampled.
    assert np.unique(table["photograph"].values).size == 30
    expected = sets.render("shapes", StimuliSpec(shapes=ShapeStimuli(images=30, diet="sharp", seed=3)), 48)
    np.testing.assert_array_equal(sets.render("natural", spec, 48)[5:], expected)


@pytest.mark.parametrize("count", [288, 576, 1440])
def test_both_folds_hold_every_pair_of_shape_and_texture_equally_often(count):
    table = sets.parameters("natural", natural_spec(crops=0, shapes=count))
    shown = sets.parameters("shapes", StimuliSpec(shapes=ShapeStimuli(images=count)))
    kinds = np.stack([table["fold"].values.astype(str), shown["shape"].values, shown["texture"].values])
    cells, counts = np.unique(kinds, axis=1, return_counts=True)
    assert cells.shape[1] == 2 * 12 * 12
    assert set(counts) == {count // 288}


@pytest.mark.parametrize("count", [24, 144, 150, 1000])
def test_folds_of_fewer_shapes_are_balanced_too(count):
    table = sets.parameters("natural", natural_spec(crops=0, shapes=count))
    fold, shape = table["fold"].values, np.arange(count) % 12
    assert abs((fold == 0).sum() - (fold == 1).sum()) <= 1
    for kind in range(12):
        assert abs((fold[shape == kind] == 0).sum() - (fold[shape == kind] == 1).sum()) <= 1


def test_first_shapes_of_a_large_set_are_the_small_set():
    small, large = (sets.parameters("natural", natural_spec(crops=0, shapes=count)) for count in (40, 300))
    xr.testing.assert_identical(large.isel(stimulus=slice(40)), small)


def test_mixed_rows_can_be_drawn_in_any_order():
    spec = natural_spec(crops=6, shapes=20)
    everything = sets.render("natural", spec, 24)
    rows = np.array([25, 3, 9, 0, 9, 14])
    xr.testing.assert_identical(sets.render("natural", spec, 24, rows), everything[rows])
    assert everything.dtype == np.float32
    assert everything.values.min() >= 0.0
    assert everything.values.max() <= 1.0


def test_diet_and_seed_change_the_shapes():
    plain, *others = (
        sets.render("natural", natural_spec(crops=2, shapes=12, **changes), 64).values
        for changes in ({}, {"diet": "sharp"}, {"seed": 1})
    )
    for other in others:
        assert np.abs(other[2:] - plain[2:]).mean(axis=(1, 2, 3)).min() > 1e-3
    np.testing.assert_array_equal(others[0][:2], plain[:2])


# Shapes


def shape_spec(**changes):
    return StimuliSpec(shapes=ShapeStimuli(**changes))


@pytest.mark.parametrize("diet", ["focus", "sharp"])
def test_shapes_and_textures_are_balanced(diet):
    table = sets.parameters("shapes", shape_spec(images=288, diet=diet))
    pairs = np.stack([table["shape"].values, table["texture"].values])
    cells, counts = np.unique(pairs, axis=1, return_counts=True)
    assert cells.shape[1] == 144
    assert set(counts) == {2}
    assert set(table["shape"].values) == set(generator.SHAPES)
    assert set(table["texture"].values) == set(generator.TEXTURES)
    assert set(table["diet"].values) == {diet}
    assert table["index"].values.tolist() == list(range(288))


@pytest.mark.parametrize("diet", ["focus", "sharp"])
@pytest.mark.parametrize("seed", [0, 4])
def test_index_diet_and_seed_explain_the_image(diet, seed):
    spec = shape_spec(images=40, diet=diet, seed=seed)
    rows = np.array([31, 7, 20])
    images = sets.render("shapes", spec, 64, rows)
    for image, index in zip(images, images["index"].values, strict=True):
        alone = generator.render(generator.sample_parameters(1, shapes.FIRST_STREAM + seed, diet, int(index)))[0]
        np.testing.assert_allclose(np.moveaxis(image.values, 0, 2), alone / 255, atol=1e-6)
    assert images["index"].values.tolist() == rows.tolist()


def test_contours_lie_where_the_parameters_say():
    """A disc of another colour than its surroundings: its middle has the figure's colour, its corners have not."""
    spec = shape_spec(images=600, diet="sharp")
    table = sets.parameters("shapes", spec)
    discs = np.flatnonzero(table["shape"].values == "disc")
    images = sets.render("shapes", spec, 64, discs).values
    x, y = offsets(64)
    inside_differs = []
    for row, image in zip(discs, images, strict=True):
        one = table.isel(stimulus=row)
        away = np.hypot(x - float(one["centre_x_px"]), y - float(one["centre_y_px"]))
        radius = float(one["scale_px"]) * (0.75 + 0.25 * float(one["form"]))
        rings = [(away > radius + a) & (away < radius + b) for a, b in ((-7, -4), (-4, -1), (1, 4))]
        within, inner, outer = (image[:, ring].mean(axis=1) for ring in rings)
        inside_differs.append(np.abs(inner - outer).sum() > 2 * np.abs(inner - within).sum())
    assert np.mean(inside_differs) > 0.9


def test_defocus_and_diet_can_be_seen():
    """The same scene is smoother where the table says that its background is out of focus."""
    focus, sharp = (shape_spec(images=144, diet=diet) for diet in ("focus", "sharp"))
    table = sets.parameters("shapes", focus)
    sigma = table["defocus_sigma_px"].values
    assert (sets.parameters("shapes", sharp)["defocus_sigma_px"].values == 0).all()
    corners = [sets.render("shapes", spec, 64).values[..., :6, :6] for spec in (focus, sharp)]
    rough = [np.abs(np.diff(corner, axis=-1)).mean(axis=(1, 2, 3)) for corner in corners]
    assert np.median((rough[0] / rough[1])[sigma > 2]) < 0.5 * np.median((rough[0] / rough[1])[sigma == 0])


@pytest.mark.parametrize("diet", ["focus", "sharp"])
def test_no_training_has_seen_these_images(diet):
    streams = (training.TRAINING_STREAM, training.VALIDATION_STREAM, training.TEST_STREAM)
    assert max(streams) < shapes.FIRST_STREAM
    images = np.moveaxis(sets.render("shapes", shape_spec(images=24, diet=diet), 64).values, 1, 3)
    for stream in streams:
        seen = generator.render(generator.sample_parameters(24, stream, diet)) / 255
        # Not at the same number, and at no other.
        gap = np.abs(images[:, None] - seen[None]).mean(axis=(2, 3, 4))
        assert gap.min() > 0.01


@pytest.mark.parametrize("seed", [0, 1, 12_345])
def test_stream_of_every_seed_lies_above_those_of_training(monkeypatch, seed):
    asked = []
    real = generator.sample_parameters

    def noted(n, stream, diet, start=0):
        asked.append(stream)
        return real(n, stream, diet, start)

    monkeypatch.setattr(generator, "sample_parameters", noted)
    sets.render("shapes", shape_spec(images=2, seed=seed), 64)
    sets.render("natural", natural_spec(crops=0, shapes=2, seed=seed), 64)
    assert set(asked) == {100 + seed}


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 128, 150])
def test_shapes_are_resampled_as_photographs_are(name, size):
    spec = shape_spec(images=6)
    plain = np.rint(sets.render("shapes", spec, 64).values * 255).astype(np.uint8)
    came = sets.render("shapes", spec, size, interpolation=name).values
    for small, large in zip(plain, came, strict=True):
        picture = Image.fromarray(np.moveaxis(small, 0, 2))
        expected = np.asarray(picture.resize((size, size), getattr(Image.Resampling, name.upper()))) / 255
        np.testing.assert_allclose(np.moveaxis(large, 0, 2), expected, atol=1e-6)


def test_upsampled_shapes_show_the_same_picture():
    """Four pixels for one: their mean resembles the pixel."""
    spec = shape_spec(images=12)
    small, large = (sets.render("shapes", spec, size).values for size in (64, 128))
    back = large.reshape(12, 3, 64, 2, 64, 2).mean(axis=(3, 5))
    assert np.abs(back - small).mean() < 0.01


def test_subset_of_shapes_equals_the_same_rows_of_all():
    spec = shape_spec(images=30)
    everything = sets.render("shapes", spec, 64)
    rows = np.array([29, 0, 13])
    xr.testing.assert_identical(sets.render("shapes", spec, 64, rows), everything[rows])
    xr.testing.assert_identical(sets.render("shapes", spec, 64, slice(10, 13)), everything[10:13])


# Refusals


def assert_one_sentence(caught):
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.usefixtures("fresh_photographs")
def test_wrong_hash_is_refused(monkeypatch):
    photo = exchange(monkeypatch, sha256="0" * 64)
    with pytest.raises(
        StimulusError, match=rf"'{photo.name}' has SHA-256 {photo.sha256[:12]}.*states 000000000000"
    ) as e:
        sets.render("natural", natural_spec(crops=1), 16)
    assert_one_sentence(e)


@pytest.mark.usefixtures("fresh_photographs")
def test_missing_package_is_refused(monkeypatch):
    exchange(monkeypatch, package="package_that_nobody_wrote")
    with pytest.raises(StimulusError, match=r"package 'package_that_nobody_wrote'.*not installed; install it") as e:
        sets.render("natural", natural_spec(crops=1), 16)
    assert_one_sentence(e)


@pytest.mark.usefixtures("fresh_photographs")
@pytest.mark.parametrize("package", ["skimage", natural.OWN_PACKAGE])
def test_missing_file_is_refused(monkeypatch, package):
    photo = exchange(monkeypatch, package=package, path="data/no_such_file.png")
    with pytest.raises(StimulusError, match=rf"'{photo.name}' is not in package {package}.*no_such_file") as e:
        sets.render("natural", natural_spec(crops=1), 16)
    assert_one_sentence(e)


def test_empty_set_is_refused():
    with pytest.raises(StimulusError, match="stimulus set 'natural' is empty, expected at least one") as e:
        sets.parameters("natural", natural_spec(crops=0))
    assert_one_sentence(e)


@pytest.mark.parametrize("ask", [sets.parameters, sets.stimulus_digest])
def test_unknown_set_names_the_nearest(ask):
    with pytest.raises(StimulusError, match="unknown stimulus set 'curvs'; did you mean 'curves'") as e:
        ask("curvs", StimuliSpec())
    assert_one_sentence(e)


# Digests


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("curves", StimuliSpec(curves=CurveStimuli(orientations=40))),
        ("curves", StimuliSpec(curves=CurveStimuli(curvatures=(0.0, 3.0)))),
        ("curves", StimuliSpec(curves=CurveStimuli(stroke=0.03))),
        ("curves", StimuliSpec(curves=CurveStimuli(contrast=0.4))),
        ("curves", StimuliSpec(curves=CurveStimuli(variants=("thin_dark",)))),
        ("natural", natural_spec(crops=1201)),
        ("natural", natural_spec(seed=1)),
        ("natural", natural_spec(min_side_px=97)),
        ("natural", natural_spec(shapes=1)),
        ("natural", natural_spec(diet="sharp")),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(orientations=40))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(base_cpi=(10.0, 14.0)))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(ratios=(1.0, 5.0)))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(phases=3))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(contrast=0.15))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(seed=1))),
        ("shapes", StimuliSpec(shapes=ShapeStimuli(images=145))),
        ("shapes", StimuliSpec(shapes=ShapeStimuli(diet="sharp"))),
        ("shapes", StimuliSpec(shapes=ShapeStimuli(seed=1))),
        ("curves", StimuliSpec(curves=CurveStimuli(arc_length_deg=90.0))),
        ("curves", StimuliSpec(curves=CurveStimuli(jitter=2))),
        ("curves", StimuliSpec(curves=CurveStimuli(jitter_span=0.1))),
        ("curves", StimuliSpec(curves=CurveStimuli(scale=0.5))),
        ("high_low", StimuliSpec(high_low=HighLowStimuli(scale=0.5))),
        *(
            ("curve_controls", StimuliSpec(curve_controls=CurveControlStimuli(**change)))
            for change in (
                {"orientations": 40},
                {"curvatures": (3.0,)},
                {"variants": ("thin_dark",)},
                {"corner_deg": 80.0},
                {"arc_length_deg": 90.0},
                {"stroke": 0.03},
                {"contrast": 0.4},
                {"seed": 1},
                {"scale": 0.5},
            )
        ),
        *(
            ("gratings", StimuliSpec(gratings=GratingStimuli(**change)))
            for change in (
                {"orientations": 4},
                {"frequencies_cpi": (3.0,)},
                {"phases": 2},
                {"contrast": 0.3},
                {"scale": 0.5},
            )
        ),
        *(
            ("colours", StimuliSpec(colours=ColourStimuli(**change)))
            for change in ({"hues": 6}, {"saturations": (1.0,)}, {"orientations": 4}, {"disc": 0.5})
        ),
        *(
            ("rotated", StimuliSpec(rotated=RotatedStimuli(**change)))
            for change in ({"crops": (1,)}, {"orientations": 12}, {"aperture": 0.9}, {"min_side_px": 97}, {"seed": 1})
        ),
    ],
)
def test_digest_changes_with_its_own_spec_only(name, changed):
    assert sets.stimulus_digest(name, changed) != sets.stimulus_digest(name, StimuliSpec())
    for other in set(STIMULI) - {name}:
        assert sets.stimulus_digest(other, changed) == sets.stimulus_digest(other, StimuliSpec())


def changed_digests(monkeypatch, module, version):
    """Names of the sets whose digest changes when a version is raised."""
    before = {name: sets.stimulus_digest(name, StimuliSpec()) for name in STIMULI}
    monkeypatch.setattr(module, version, getattr(module, version) + 1)
    return {name for name in STIMULI if sets.stimulus_digest(name, StimuliSpec()) != before[name]}


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        (curves, {"curves"}),
        (high_low, {"high_low"}),
        (natural, {"natural", "rotated"}),  # rotated crops are natural ones
        (curve_controls, {"curve_controls"}),
        (gratings, {"gratings"}),
        (colours, {"colours"}),
        (rotated, {"rotated"}),
        (shapes, {"shapes", "natural"}),  # natural sets may hold shapes
    ],
    ids=lambda value: value.__name__.rsplit(".")[-1] if hasattr(value, "__name__") else "",
)
def test_digest_changes_with_the_renderer(monkeypatch, module, changed):
    assert changed_digests(monkeypatch, module, "RENDERER_VERSION") == changed


def test_digest_changes_with_the_generator_of_the_shapes(monkeypatch):
    assert changed_digests(monkeypatch, generator, "GENERATOR_VERSION") == {"shapes", "natural"}


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"fold": 1}, {"name": "another"}, {"width_px": 500}, {"height_px": 500}]
)
def test_natural_digest_changes_with_whatever_in_the_manifest_decides_the_crops(monkeypatch, change):
    before = sets.stimulus_digest("natural", StimuliSpec())
    curves_before = sets.stimulus_digest("curves", StimuliSpec())
    exchange(monkeypatch, **change)
    assert sets.stimulus_digest("natural", StimuliSpec()) != before
    assert sets.stimulus_digest("curves", StimuliSpec()) == curves_before


def test_digest_is_the_same_for_a_spec_written_out():
    written = StimuliSpec.model_validate(StimuliSpec().plain())
    assert sets.stimulus_digest("curves", written) == sets.stimulus_digest("curves", StimuliSpec())


class TestNormalise:
    """Images in [0, 1] as inputs of other shapes than a square in colour."""

    images = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)

    @staticmethod
    def shown(count, **sides):
        return Preprocessing(size_px=8, interpolation="bicubic", mean=(0.5,) * count, std=(0.25,) * count, **sides)

    def test_one_channel_is_the_luminance_of_pillow(self):
        came = sets.normalise(self.images, self.shown(1))
        levels = np.round(np.moveaxis(self.images, 1, 3) * 255).astype(np.uint8)
        grey = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in levels])[:, None] / 255
        assert came.shape == (2, 1, 8, 8)
        np.testing.assert_allclose(came * 0.25 + 0.5, grey, atol=1.5 / 255)

    def test_a_fourth_channel_is_that_of_opaque_pictures(self):
        came = sets.normalise(self.images, self.shown(4))
        np.testing.assert_array_equal(came[:, :3], sets.normalise(self.images, self.shown(3)))
        assert (came[:, 3] == (1 - 0.5) / 0.25).all()

    def test_of_an_input_that_is_not_square_the_middle_is_shown(self):
        wide = np.random.default_rng(1).random((2, 3, 12, 12)).astype(np.float32)
        came = sets.normalise(wide, self.shown(3, width_px=12))
        np.testing.assert_array_equal(
            came, sets.normalise(wide, self.shown(3).model_copy(update={"size_px": 12}))[:, :, 2:10]
        )

    @pytest.mark.parametrize(("count", "given"), [(2, 2), (5, 5), (3, 4)])
    def test_other_numbers_of_channels_are_refused(self, count, given):
        with pytest.raises(ValueError, match=f"mean and std have {count} and {given} numbers, expected as many each"):
            Preprocessing(size_px=8, interpolation="bicubic", mean=(0.5,) * count, std=(0.5,) * given)
