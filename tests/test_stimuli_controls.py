"""Controls of curves, gratings and colours: geometry by brute force, spectra by FFT, luminance by the standard."""

import numpy as np
import pytest
import xarray as xr

from universality.base.errors import StimulusError
from universality.stimuli import colours, curve_controls, curves, gratings, sets
from universality.stimuli.colours import ColourStimuli
from universality.stimuli.curve_controls import CurveControlStimuli
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.gratings import GratingStimuli
from universality.stimuli.kinds import STIMULI
from universality.stimuli.spec import StimuliSpec

SIZE = 128


def one(**values):
    return xr.Dataset(coords={name: ("stimulus", [value]) for name, value in values.items()})


def control(kind, theta=0.0, curvature=4.0, variant="thin_dark", size=SIZE, **changes):
    """One control (y, x), also at an orientation that no grid holds."""
    chosen = one(kind=kind, orientation_deg=float(theta), curvature=float(curvature), variant=variant)
    return curve_controls.render(CurveControlStimuli(**changes), chosen, size, "bicubic")[0, 0].astype(np.float64)


def arc(theta, curvature, variant, size=SIZE, **changes):
    chosen = one(orientation_deg=float(theta), curvature=float(curvature), variant=variant, jitter_x=0.0, jitter_y=0.0)
    return curves.render(CurveStimuli(**changes), chosen, size, "bicubic")[0, 0].astype(np.float64)


def ink(image):
    return np.abs(image - 0.5) / 0.5


def plane(size):
    """Pixel centres as complex numbers x + iy, y down, in image sides from the middle."""
    axis = (np.arange(size) - (size - 1) / 2) / size
    return axis[None, :] + 1j * axis[:, None]


def nearest(points, size):
    """Brute force: each pixel's distance to the nearest of many points, in image sides."""
    return np.min(np.abs(plane(size)[None] - np.asarray(points)[:, None, None]), axis=0)


def corner_points(theta, curvature, corner_deg, apex_in_the_middle):
    """Points on both tangents from their common point to where they touch the arc, found from the arc alone."""
    turn = np.exp(1j * np.deg2rad(theta))
    centre, half = -turn / curvature, np.deg2rad(corner_deg) / 2
    ends = [centre + turn * np.exp(1j * sign * half) / curvature for sign in (1, -1)]
    tangents = [1j * (end - centre) for end in ends]
    # Where both tangents meet: end_0 + s tangent_0 = end_1 + t tangent_1.
    system = np.array([[t.real for t in tangents], [t.imag for t in tangents]]) * [1, -1]
    gap = ends[1] - ends[0]
    s, _ = np.linalg.solve(system, [gap.real, gap.imag])
    apex = ends[0] + s * tangents[0]
    steps = np.linspace(0, 1, 120)
    points = np.concatenate([apex + steps * (end - apex) for end in ends])
    return points - apex if apex_in_the_middle else points


# Corners and circles


@pytest.mark.parametrize("kind", ["corner", "corner_centred"])
@pytest.mark.parametrize(
    ("theta", "curvature", "corner_deg"), [(0, 4, 90.0), (35, 6, 90.0), (250, 3, 60.0), (120, 8, 140.0)]
)
def test_thin_corner_is_a_stroke_along_the_tangents_of_the_arc(kind, theta, curvature, corner_deg):
    size = 96
    image = control(kind, theta, curvature, "thin_bright", size, corner_deg=corner_deg)
    away = nearest(corner_points(theta, curvature, corner_deg, kind == "corner_centred"), size)
    expected = np.clip(0.5 - (away - 0.01) * size, 0, 1)
    np.testing.assert_allclose(ink(image), expected, atol=0.02)
    assert expected.max() > 0.9


@pytest.mark.parametrize("corner_deg", [50.0, 90.0, 130.0])
@pytest.mark.parametrize("theta", [0, 77, 215])
def test_filled_corner_holds_all_points_behind_both_sides(theta, corner_deg):
    z = plane(SIZE)
    turn, half = np.exp(1j * np.deg2rad(theta)), np.deg2rad(corner_deg) / 2
    normals = [turn * np.exp(1j * sign * half) for sign in (1, -1)]
    # Behind the tangent at the arc's end: less far along its normal than the end, which lies one radius from the centre.
    ahead = np.max([((z + turn / 4) * np.conj(n)).real - 1 / 4 for n in normals], axis=0)
    image = control("corner", theta, 4, "filled_dark", corner_deg=corner_deg)
    assert (ink(image)[ahead * SIZE < -0.51] == 1).all()
    assert (ink(image)[ahead * SIZE > 0.71] == 0).all()


def test_arc_and_corner_touch_at_the_ends_of_the_arc():
    theta, extent = 30, 90.0
    turn = np.exp(1j * np.deg2rad(theta))
    size, z = 256, plane(256)
    for variant in ("thin_dark", "filled_dark"):
        corner = ink(control("corner", theta, 3, variant, size, corner_deg=extent))
        curve = ink(arc(theta, 3, variant, size, arc_length_deg=extent))
        for sign in (1, -1):
            end = (turn * np.exp(1j * sign * np.deg2rad(extent / 2)) - turn) / 3
            near = np.abs(z - end) < 0.012
            np.testing.assert_allclose(corner[near].mean(), curve[near].mean(), atol=0.08)
            assert corner[near].mean() > 0.2
        assert np.abs(corner - curve).max() == 1  # they differ at the apex


@pytest.mark.parametrize("theta", [0, 45, 200])
@pytest.mark.parametrize("curvature", [4.0, 8.0])
def test_circle_is_the_whole_circle_of_the_arc(theta, curvature):
    centre = -np.exp(1j * np.deg2rad(theta)) / curvature
    points = centre + np.exp(1j * np.linspace(0, 2 * np.pi, 720, endpoint=False)) / curvature
    expected = np.clip(0.5 - (nearest(points, SIZE) - 0.01) * SIZE, 0, 1)
    thin = ink(control("circle", theta, curvature, "thin_bright"))
    np.testing.assert_allclose(thin, expected, atol=0.02)
    disc = ink(control("circle", theta, curvature, "filled_dark"))
    inside = np.abs(plane(SIZE) - centre) < 1 / curvature
    assert np.abs(disc - inside).max() <= 0.75
    assert disc.mean() == pytest.approx(inside.mean(), rel=0.01)
    # The arc is a part of the circle.
    assert (thin >= ink(arc(theta, curvature, "thin_dark")) - 1e-6).all()


@pytest.mark.parametrize("kind", ["corner", "corner_centred", "circle"])
@pytest.mark.parametrize("variant", ["thin_dark", "filled_bright"])
def test_a_quarter_turn_of_a_control_is_its_picture_turned(kind, variant):
    for theta in (0, 33):
        turned = np.rot90(control(kind, theta, 5, variant), k=-1)
        np.testing.assert_allclose(control(kind, theta + 90, 5, variant), turned, atol=1e-6)


# Scrambled arcs


@pytest.mark.parametrize("size", [64, 65])
@pytest.mark.parametrize("variant", ["thin_dark", "thin_bright", "filled_dark", "filled_bright"])
@pytest.mark.parametrize(("theta", "curvature"), [(0, 3), (70, 8)])
def test_scrambled_arc_has_the_spectrum_of_the_arc(size, variant, theta, curvature):
    plain, mixed = arc(theta, curvature, variant, size), control("scrambled", theta, curvature, variant, size)
    before, after = (np.abs(np.fft.fft2(image)) for image in (plain, mixed))
    assert mixed.mean() == pytest.approx(plain.mean(), abs=1e-6)
    factor = mixed.std() / plain.std()
    before[0, 0] = after[0, 0] = 0
    np.testing.assert_allclose(after, factor * before, atol=1e-3 * before.max())
    assert factor <= 1 + 1e-6
    if variant.startswith("thin") and curvature == 8:
        assert factor == pytest.approx(1, abs=1e-6)
    assert np.corrcoef(plain.ravel(), mixed.ravel())[0, 1] < 0.5


def test_no_scrambled_arc_is_clipped():
    images = [control("scrambled", t, 3, v) for t in (0, 50) for v in ("filled_dark", "filled_bright", "thin_dark")]
    for image in images:
        assert image.min() >= 0
        assert image.max() <= 1
        assert np.sum((image == 0) | (image == 1)) <= 1  # the contrast is lowered just as far as the largest value asks


def test_scrambled_arcs_of_both_polarities_are_mirrored():
    bright, dark = (control("scrambled", 20, 5, f"filled_{p}") for p in ("bright", "dark"))
    np.testing.assert_allclose(bright + dark, 1, atol=1e-6)


def test_seed_decides_the_phases():
    first, again, second = (control("scrambled", 20, 5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize("kind", curve_controls.KINDS)
@pytest.mark.parametrize("variant", ["thin_dark", "filled_bright"])
def test_controls_are_the_same_picture_at_two_sizes(kind, variant):
    small = control(kind, 50, 4, variant, 64)
    large = control(kind, 50, 4, variant, 256).reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.97


# Gratings


def grating(theta, cpi, phase, size=SIZE, **changes):
    chosen = one(orientation_deg=float(theta), cpi=float(cpi), phase_deg=float(phase))
    return gratings.render(GratingStimuli(**changes), chosen, size, "bicubic")[0, 0].astype(np.float64)


@pytest.mark.parametrize(("kx", "ky"), [(6, 0), (0, 6), (5, 3), (-4, 7)])
@pytest.mark.parametrize("phase", [0, 90, 200])
def test_spectrum_of_a_grating_is_one_pair_of_frequencies(kx, ky, phase):
    """Whole cycles along both sides, so nothing leaks: (kx, ky) is where the orientation and frequency say."""
    image = grating(np.rad2deg(np.arctan2(ky, kx)), np.hypot(kx, ky), phase)
    spectrum = np.fft.fft2(image - 0.5) / SIZE**2
    assert 2 * np.abs(spectrum[ky, kx]) == pytest.approx(0.4, abs=1e-6)
    # The phase is that of the middle of the image, half a pixel before pixel SIZE / 2.
    at_middle = np.angle(spectrum[ky, kx] * np.exp(2j * np.pi * (kx + ky) * (SIZE - 1) / 2 / SIZE), deg=True)
    assert (at_middle - phase + 180) % 360 - 180 == pytest.approx(0, abs=1e-3)
    spectrum[ky, kx] = spectrum[-ky, -kx] = 0
    assert np.abs(spectrum).max() < 1e-6


def test_half_a_turn_reverses_the_phase_of_a_grating():
    np.testing.assert_allclose(grating(205, 7, 60), grating(25, 7, -60), atol=1e-6)


def test_phases_of_a_grating_cancel():
    images = sets.render("gratings", StimuliSpec(gratings=GratingStimuli(orientations=4)), 64)
    mean = images.groupby("phase_deg").mean().mean("phase_deg")
    np.testing.assert_allclose(mean, 0.5, atol=1e-6)


def test_grating_table_holds_every_combination_once():
    table = sets.parameters("gratings", StimuliSpec())
    rows = set(zip(*(table[n].values.tolist() for n in ("orientation_deg", "cpi", "phase_deg")), strict=True))
    expected = {(10.0 * k, f, 90.0 * p) for k in range(18) for f in (3.0, 6.0, 12.0, 24.0) for p in range(4)}
    assert rows == expected
    assert table.sizes["stimulus"] == len(expected)


def test_gratings_that_an_image_cannot_show_are_refused():
    with pytest.raises(
        StimulusError, match=r"gratings of 24 cycles.*at least 60 px.*came 50 px; lower stimuli.gratings"
    ):
        sets.render("gratings", StimuliSpec(), 50, slice(-1, None))


# Colours


def linear(image):
    """Linear light of sRGB values, by the standard's two branches."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("size", [32, 65])
def test_every_pixel_of_every_patch_has_the_luminance_of_grey(size):
    spec = ColourStimuli(hues=8, saturations=(0.3, 1.0), orientations=3)
    images = sets.render("colours", StimuliSpec(colours=spec), size).values.astype(np.float64)
    luminance = np.einsum("c,ncyx->nyx", [0.2126, 0.7152, 0.0722], linear(images))
    np.testing.assert_allclose(luminance, linear(np.array(0.5)), atol=1e-6)


def patch(kind, hue, saturation=1.0, angle=np.nan, size=64):
    chosen = one(kind=kind, hue_deg=float(hue), saturation=saturation, orientation_deg=angle)
    return colours.render(ColourStimuli(), chosen, size, "bicubic")[0].astype(np.float64)


def test_hues_lie_where_the_convention_says():
    red, blue, green, yellow = (patch("field", hue)[:, 0, 0] for hue in (0, 90, 180, 270))
    assert red[0] > 0.5 > red[1]
    assert red[2] == pytest.approx(0.5, abs=1e-6)
    assert blue[2] > 0.5 > blue[0]
    assert green[1] > 0.5 > green[0]
    assert yellow[0] == pytest.approx(yellow[1])
    assert yellow[0] > 0.5 > yellow[2]


def test_opposite_hues_mix_to_grey_and_saturation_is_a_share():
    for hue in (0, 30, 130):
        strong, weak, opposite = (
            linear(patch("field", h, s)[:, 0, 0]) - linear(0.5) for h, s in ((hue, 1.0), (hue, 0.25), (hue + 180, 1.0))
        )
        np.testing.assert_allclose(strong, -opposite, atol=1e-6)
        np.testing.assert_allclose(weak, 0.25 * strong, atol=1e-6)


def test_full_saturation_just_fits_every_hue():
    darkest = min(linear(patch("field", hue, size=8)).min() for hue in np.arange(0, 360, 1.0))
    assert 0 <= darkest < 1e-4


@pytest.mark.parametrize(("angle", "side"), [(0.0, np.s_[:, 40:]), (90.0, np.s_[40:, :]), (180.0, np.s_[:, :24])])
def test_half_fields_have_the_colour_towards_the_orientation(angle, side):
    field, opposite = (patch("field", h)[:, :1, :1] for h in (30, 210))
    for kind, other in (("half", np.full((3, 1, 1), 0.5)), ("opponent", opposite)):
        image = patch(kind, 30, angle=angle)
        far = tuple(slice(24) if s == slice(40, None) else slice(40, None) if s == slice(24) else s for s in side)
        np.testing.assert_allclose(image[(slice(None), *side)] - field, 0, atol=1e-6)
        np.testing.assert_allclose(image[(slice(None), *far)] - other, 0, atol=1e-6)


def test_disc_has_its_diameter():
    image = patch("disc", 0, size=200)
    assert (np.abs(image[0] - 0.5) > 0.05).mean() == pytest.approx(np.pi * 0.15**2, rel=0.02)
    assert image[0, 0, 0] == pytest.approx(0.5)


# All sets


SETS = {
    "curve_controls": StimuliSpec(curve_controls=CurveControlStimuli(orientations=8, curvatures=(4.0,))),
    "gratings": StimuliSpec(gratings=GratingStimuli(orientations=4, frequencies_cpi=(3.0,))),
    "colours": StimuliSpec(colours=ColourStimuli(hues=4, orientations=2)),
}


@pytest.mark.parametrize("name", SETS)
def test_rows_can_be_drawn_in_any_order_and_again(name):
    everything = sets.render(name, SETS[name], 24)
    rows = np.random.default_rng(0).permutation(everything.sizes["stimulus"])[:7]
    xr.testing.assert_identical(sets.render(name, SETS[name], 24, rows), everything[rows])
    assert everything.dtype == np.float32
    assert everything.values.min() >= 0
    assert everything.values.max() <= 1


def test_control_table_holds_every_combination_once():
    table = sets.parameters("curve_controls", SETS["curve_controls"])
    names = ("kind", "variant", "curvature", "orientation_deg")
    rows = list(zip(*(table[name].values.tolist() for name in names), strict=True))
    assert len(rows) == len(set(rows)) == 6 * 2 * 8


@pytest.mark.parametrize("variant", ["thin_dark", "thin_bright"])
def test_thirds_of_an_arc_make_the_arc(variant):
    """Their round ends overlap inside the stroke, so the darkest (brightest) of the three is the arc, pixel by pixel."""
    arc = curves.render(
        CurveStimuli(arc_length_deg=150.0),
        one(orientation_deg=40.0, curvature=4.0, variant=variant, jitter_x=0.0, jitter_y=0.0), SIZE, "bicubic",
    )[0, 0]  # fmt: skip
    thirds = [control(kind, 40, 4, variant, arc_length_deg=150.0) for kind in curve_controls.PARTS]
    together = (np.min if variant == "thin_dark" else np.max)(thirds, axis=0)
    np.testing.assert_allclose(together, arc, atol=1e-6)
    inked = [np.abs(third - 0.5).sum() for third in thirds]
    assert np.ptp(inked) < 0.02 * np.mean(inked)


def test_the_third_with_the_clock_lies_with_the_clock():
    """Of the arc to the right, whose midpoint is in the middle, that is below; against the clock, above."""
    rows = np.arange(SIZE)
    ink = [np.abs(control(kind, 0, 4) - 0.5).sum(axis=1) for kind in curve_controls.PARTS]
    before, middle, after = ((rows * one).sum() / one.sum() - (SIZE - 1) / 2 for one in ink)
    assert before < -5 < middle < 5 < after
    assert middle == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", list(STIMULI))
def test_every_set_can_label_a_sheet(name):
    if name == "folder":
        with pytest.raises(StimulusError, match=r"'folder' is empty.*stimuli.folder.manifest"):
            sets.sheet(name, 48, 5)
        return
    images, labels = sets.sheet(name, 64, 5)
    assert images.shape == (5, 3, 64, 64)
    assert len(labels) == 5
    assert all(label.strip() for label in labels)
