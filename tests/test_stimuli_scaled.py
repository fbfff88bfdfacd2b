"""Arc length, jitter and scale of drawings, and the size of a receptive field."""

import numpy as np
import pytest
import xarray as xr
from silent_controls import grid_of

from universality.base.errors import StimulusError
from universality.stimuli import curves, sets
from universality.stimuli.curve_controls import CurveControlStimuli
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.gratings import GratingStimuli
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.spec import StimuliSpec

SIZE = 128


def drawn(theta, curvature, variant, size=SIZE, shift=(0.0, 0.0), **changes):
    values = {
        "orientation_deg": float(theta), "curvature": float(curvature), "variant": variant,
        "jitter_x": shift[0], "jitter_y": shift[1],
    }  # fmt: skip
    chosen = xr.Dataset(coords={name: ("stimulus", [value]) for name, value in values.items()})
    return curves.render(CurveStimuli(**changes), chosen, size, "bicubic")[0, 0].astype(np.float64)


def ink(image):
    return np.abs(image - 0.5) / 0.5


# Arc length


@pytest.mark.parametrize("extent", [40.0, 90.0, 150.0, 180.0])
@pytest.mark.parametrize(("theta", "curvature"), [(0, 3), (35, 5), (230, 8)])
def test_thin_arc_is_a_stroke_along_points_of_its_extent(extent, theta, curvature):
    size = 96
    turn = np.exp(1j * np.deg2rad(theta))
    points = turn * (np.exp(1j * np.deg2rad(np.linspace(-extent / 2, extent / 2, 400))) - 1) / curvature
    axis = (np.arange(size) - (size - 1) / 2) / size
    away = np.min(np.abs(axis[None, :] + 1j * axis[:, None] - points[:, None, None]), axis=0)
    expected = np.clip(0.5 - (away - 0.01) * size, 0, 1)
    image = ink(drawn(theta, curvature, "thin_bright", size, arc_length_deg=extent))
    np.testing.assert_allclose(image, expected, atol=0.02)


@pytest.mark.parametrize("extent", [60.0, 120.0, 180.0])
def test_filled_arc_goes_on_along_the_tangents_of_its_ends(extent):
    """Brute force: the region is what lies behind the tangents at all points of the arc."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) / SIZE
    z = axis[None, :] + 1j * axis[:, None]
    theta, radius = 25, 0.2
    normals = np.exp(1j * np.deg2rad(theta + np.linspace(-extent / 2, extent / 2, 181)))
    centre = -radius * np.exp(1j * np.deg2rad(theta))
    ahead = np.max(((z - centre)[None] * np.conj(normals)[:, None, None]).real - radius, axis=0)
    image = ink(drawn(theta, 1 / radius, "filled_dark", arc_length_deg=extent))
    np.testing.assert_allclose(image, np.clip(0.5 - ahead * SIZE, 0, 1), atol=0.01)


# Jitter


def test_jittered_copies_divide_the_span_evenly():
    spec = CurveStimuli(orientations=8, curvatures=(0.0, 4.0), jitter=3, jitter_span=0.06)
    table = sets.parameters("curves", StimuliSpec(curves=spec))
    assert table.sizes["stimulus"] == 9 * 4 * 2 * 8
    for name in ("jitter_x", "jitter_y"):
        np.testing.assert_allclose(np.unique(table[name].values), [-0.02, 0.0, 0.02], atol=1e-12)
    # Periodic with the stride, the copies are evenly spaced too.
    names = ("jitter_x", "jitter_y", "variant", "curvature", "orientation_deg")
    rows = set(zip(*(table[name].values.tolist() for name in names), strict=True))
    assert len(rows) == table.sizes["stimulus"]


def test_without_jitter_there_is_one_copy_in_the_middle():
    table = sets.parameters("curves", StimuliSpec())
    assert (table["jitter_x"].values == 0).all()
    assert (table["jitter_y"].values == 0).all()


@pytest.mark.parametrize("variant", ["thin_dark", "filled_bright"])
@pytest.mark.parametrize("curvature", [0.0, 5.0])
def test_a_jittered_drawing_is_the_drawing_shifted(variant, curvature):
    right, down = 3, -2
    plain = drawn(40, curvature, variant)
    moved = drawn(40, curvature, variant, shift=(right / SIZE, down / SIZE))
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(moved[inner], np.roll(plain, (down, right), axis=(0, 1))[inner], atol=1e-6)


def test_half_a_pixel_of_jitter_is_the_mean_of_both_neighbours_for_a_straight_edge():
    middle = drawn(0, 0, "filled_dark", shift=(0.5 / SIZE, 0.0))
    ends = [drawn(0, 0, "filled_dark", shift=(k / SIZE, 0.0)) for k in (0, 1)]
    np.testing.assert_allclose(middle, np.mean(ends, axis=0), atol=1e-6)


JITTERED = CurveStimuli(orientations=8, curvatures=(0.0, 4.0, 8.0), jitter=2)
PLAIN = CurveStimuli(orientations=8, curvatures=(0.0, 4.0, 8.0))


def test_grid_averages_over_jitter_in_whatever_order_the_rows_come():
    table = curves.parameters(JITTERED)
    rng = np.random.default_rng(0)
    activations = rng.standard_normal((table.sizes["stimulus"], 3))
    frame = table.reset_coords().to_dataframe().assign(unit=activations[:, 1])
    keys = ["variant", "curvature", "orientation_deg"]
    expected = frame.groupby(keys)["unit"].mean().to_numpy().reshape(4, 3, 8)
    order = rng.permutation(len(activations))
    grid = grid_of(table.isel(stimulus=order))
    assert grid.rows.shape == (4, 4, 3, 8)
    np.testing.assert_allclose(grid.arrange(activations[order])[1], expected, atol=1e-12)


def test_grid_of_one_copy_is_not_changed_by_averaging():
    table = curves.parameters(PLAIN)
    activations = np.random.default_rng(1).standard_normal((table.sizes["stimulus"], 2))
    arranged = grid_of(table).arrange(activations)
    assert sorted(arranged.ravel()) == sorted(activations.ravel())


def test_shuffled_orientations_are_the_same_for_all_copies():
    table = curves.parameters(JITTERED)
    grid = grid_of(table)
    shuffled = grid.shuffled(np.random.default_rng(2))
    for name in ("orientation_deg", "curvature", "variant"):
        shown = table[name].values[shuffled.rows]
        assert (shown == shown[:1]).all()
    assert (table["orientation_deg"].values[shuffled.rows] != table["orientation_deg"].values[grid.rows]).any()


def test_shuffles_without_jitter_are_those_of_the_plain_grid():
    grid = grid_of(curves.parameters(PLAIN))
    expected = np.random.default_rng(3).permuted(grid.rows[0], axis=2)
    np.testing.assert_array_equal(grid.shuffled(np.random.default_rng(3)).rows[0], expected)


def test_a_copy_that_is_missing_is_a_gap():
    table = curves.parameters(JITTERED)
    keep = np.delete(np.arange(table.sizes["stimulus"]), 5)
    with pytest.raises(StimulusError, match=r"no full grid: 383 of 384 combinations of jitter, variant"):
        grid_of(table.isel(stimulus=keep))


# Scale


def spec_with(scale):
    return StimuliSpec(
        curves=CurveStimuli(orientations=8, curvatures=(0.0, 4.0), jitter=1, scale=scale, arc_length_deg=150.0),
        curve_controls=CurveControlStimuli(orientations=8, curvatures=(4.0,), scale=scale),
        gratings=GratingStimuli(orientations=4, frequencies_cpi=(3.0,), scale=scale),
        high_low=HighLowStimuli(orientations=8, base_cpi=(10.0,), phases=1, scale=scale),
    )


@pytest.mark.parametrize("name", ["curves", "gratings", "curve_controls"])
def test_a_drawing_at_scale_one_half_is_the_middle_of_one_at_half_the_size(name):
    """A picture of 32 px is the middle of one of 64 px at scale 1/2: no pixel differs."""
    whole = sets.render(name, spec_with(1.0), 32)
    halved = sets.render(name, spec_with(0.5), 64)
    middle = halved.values[:, :, 16:48, 16:48]
    keep = whole["kind"].values != "scrambled" if name == "curve_controls" else slice(None)
    np.testing.assert_allclose(middle[keep], whole.values[keep], atol=1e-6)


def test_high_low_textures_at_scale_one_half_are_the_same_waves_at_half_the_size():
    """Their mean and contrast are those of what is shown, so the middle agrees up to a shift and a factor."""
    whole = sets.render("high_low", spec_with(1.0), 32)
    halved = sets.render("high_low", spec_with(0.5), 64).values[:, 0, 16:48, 16:48]
    full = np.flatnonzero(np.char.startswith(whole["kind"].values, "full"))
    for row in full:
        assert np.corrcoef(halved[row].ravel(), whole.values[row, 0].ravel())[0, 1] > 0.99
    luminance = whole["kind"].values == "luminance_edge"
    np.testing.assert_allclose(halved[luminance], whole.values[luminance, 0], atol=1e-6)


def test_scale_halves_radius_and_stroke():
    wide, narrow = (ink(drawn(0, 3, "thin_dark", 256, scale=scale, stroke=0.04)) for scale in (1.0, 0.5))
    assert narrow.sum() == pytest.approx(wide.sum() / 4, rel=0.02)
    rows = [np.ptp(np.flatnonzero(image.max(axis=1) > 0.5)) for image in (wide, narrow)]
    assert rows[1] == pytest.approx(rows[0] / 2, abs=2)


def test_scaled_textures_that_an_image_cannot_show_are_refused():
    spec = StimuliSpec(high_low=HighLowStimuli(scale=0.25))
    with pytest.raises(StimulusError, match=r"of 40 cycles.*at least 80 px, came 64 px.*or raise the scale"):
        sets.render("high_low", spec, 64, slice(1))
