"""High-low frequency stimuli: frequencies, contrasts, sides and directions are what the parameters state."""

import itertools

import numpy as np
import pytest
import xarray as xr

from universality.base.errors import StimulusError
from universality.stimuli import high_low, sets
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.spec import StimuliSpec

SIZE = 128
# No value is clipped at this contrast, so textures can be compared exactly.
FAINT = HighLowStimuli(contrast=0.05)


PIN_1 = [
    [
        [0.2727, 0.4359, 0.56, 0.6761],
        [0.4, 0.6624, 0.7398, 0.4655],
        [0.5647, 0.6959, 0.645, 0.4778],
        [0.5468, 0.5021, 0.3639, 0.5656],
    ],
    [
        [0.7055, 0.7077, 0.5639, 0.5161],
        [0.7779, 0.5695, 0.4692, 0.5558],
        [0.539, 0.6264, 0.5305, 0.513],
        [0.6742, 0.5306, 0.4454, 0.4941],
    ],
]


def drawn(kind, theta=0.0, base=14.0, ratio=6.0, phase=0, size=SIZE, spec=None):
    """One stimulus (y, x) at any orientation, also one that no grid holds."""
    values = {"kind": kind, "high_cpi": base, "ratio": ratio, "phase": phase, "orientation_deg": float(theta)}
    chosen = xr.Dataset(coords={name: ("stimulus", [value]) for name, value in values.items()})
    return high_low.render(spec or HighLowStimuli(), chosen, size, "bicubic")[0, 0].astype(np.float64)


def sides(theta, size=SIZE, margin=1.0):
    """Which pixels lie towards `theta` of the middle, and which away from it: (y, x) each; y down."""
    axis = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    along = x * np.cos(np.deg2rad(theta)) + y * np.sin(np.deg2rad(theta))
    return along > margin, along < -margin


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def centre_cpi(patch, size):
    """Centre of a patch's spectrum in cycles per side of the image it is cut from: power-weighted mean over octaves."""
    window = np.outer(*(np.hanning(n) for n in patch.shape))
    power = np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
    fy, fx = (np.fft.fftfreq(n) * size for n in patch.shape)
    radius = np.hypot(fy[:, None], fx[None, :])
    power[0, 0], radius[0, 0] = 0.0, 1.0
    return 2 ** np.average(np.log2(radius), weights=power)


# The table of parameters


def test_table_holds_every_combination_once():
    spec = HighLowStimuli(orientations=8, base_cpi=(10.0, 20.0), ratios=(1.0, 2.0, 5.0), phases=3)
    table = sets.parameters("high_low", StimuliSpec(high_low=spec))
    names = ("kind", "ratio", "high_cpi", "phase", "orientation_deg")
    rows = [tuple(map(str, row)) for row in zip(*(table[name].values for name in names), strict=True)]
    angles, bases, phases = [45.0 * k for k in range(8)], (10.0, 20.0), range(3)
    expected = [
        *itertools.product(["high_low"], (1.0, 2.0, 5.0), bases, phases, angles),
        *itertools.product(["same_low", "contrast_edge", "orientation_edge"], [5.0], bases, phases, angles),
        *itertools.product(["full_high", "full_low"], [5.0], bases, phases, [np.nan]),
        *itertools.product(["luminance_edge"], [np.nan], [np.nan], [-1], angles),
    ]
    assert len(rows) == len(expected) == 3 * 2 * 3 * 8 + 3 * 2 * 3 * 8 + 2 * 2 * 3 + 8
    assert set(rows) == {tuple(map(str, row)) for row in expected}


def test_table_states_its_units():
    table = sets.parameters("high_low", StimuliSpec())
    assert table["orientation_deg"].attrs["units"] == "degrees"
    assert table["high_cpi"].attrs["units"] == "cycles / (scale x image side)"


def test_render_labels_what_it_draws():
    spec = StimuliSpec(high_low=HighLowStimuli(orientations=8, base_cpi=(5.0,), phases=1))
    images = sets.render("high_low", spec, 16)
    assert images.dims == ("stimulus", "channel", "y", "x")
    assert images.shape == (50, 3, 16, 16)
    assert images.dtype == np.float32
    assert (images.values == images.values[:, :1]).all()
    assert images.values.min() >= 0.0
    assert images.values.max() <= 1.0
    assert set(images.coords) == {"kind", "high_cpi", "ratio", "phase", "orientation_deg"}


# Both sides


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("base", [10.0, 14.0, 19.0])
@pytest.mark.parametrize("theta", [0, 35, 90, 200, 315])
def test_both_sides_have_one_mean_and_one_contrast(theta, base, size):
    """Up to clipping (0.05 % of the pixels) and the pixels that the boundary runs through."""
    for phase in range(2):
        image = drawn("high_low", theta, base, phase=phase, size=size)
        for side in sides(theta, size, 0.49):
            assert image[side].mean() == pytest.approx(0.5, abs=0.003)
            assert image[side].std() == pytest.approx(0.14, rel=0.02)


@pytest.mark.parametrize("theta", [0, 90, 180, 270])
@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize(("base", "ratio"), [(48.0, 6.0), (40.0, 4.0), (32.0, 1.0)])
def test_spectrum_of_each_side_is_centred_where_it_is_asked(theta, phase, base, ratio):
    """High frequencies, so that half an image holds enough periods of the low one for a spectrum.

    The mean of 64 waves drawn from a quarter octave lies within 7 % (three standard errors); the rest is the window's.
    """
    size = 256
    image = np.rot90(drawn("high_low", theta, base, ratio, phase, size), k=theta // 90)  # the near side to the right
    assert centre_cpi(image[:, size // 2 + 1 :], size) == pytest.approx(base, rel=0.1)
    assert centre_cpi(image[:, : size // 2 - 1], size) == pytest.approx(base / ratio, rel=0.1)


@pytest.mark.parametrize("theta", [0, 25, 90, 145, 200, 305])
def test_the_high_side_lies_towards_the_orientation(theta):
    """Differences of neighbouring pixels are larger where the frequency is higher; y points down."""
    image = drawn("high_low", theta)
    steps = np.hypot(*np.gradient(image))
    near, far = (np.sqrt((steps[side] ** 2).mean()) for side in sides(theta, margin=3))
    assert near > 3 * far


@pytest.mark.parametrize("theta", [0, 25, 90, 200])
def test_textures_stand_still_while_the_boundary_turns(theta):
    """Each side is the full texture, up to level and contrast, right up to the boundary."""
    image = drawn("high_low", theta, spec=FAINT)
    near, far = sides(theta)
    for side, kind in ((near, "full_high"), (far, "full_low")):
        assert correlation(image[side], drawn(kind, np.nan, spec=FAINT)[side]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("theta", [0, 25, 90, 200])
def test_half_a_turn_exchanges_the_sides(theta):
    once, turned = (drawn("high_low", angle, spec=FAINT) for angle in (theta, theta + 180))
    near, far = sides(theta)
    high, low = (drawn(kind, np.nan, spec=FAINT) for kind in ("full_high", "full_low"))
    for image, first, second in ((once, high, low), (turned, low, high)):
        assert correlation(image[near], first[near]) == pytest.approx(1.0, abs=1e-6)
        assert correlation(image[far], second[far]) == pytest.approx(1.0, abs=1e-6)


def test_the_boundary_runs_through_the_middle_and_is_one_pixel_wide():
    size = 101  # odd: a column lies exactly in the middle
    image, high, low = (drawn(kind, 0, size=size, spec=FAINT) for kind in ("high_low", "full_high", "full_low"))
    middle = size // 2
    for column in (middle + 1, middle + 2):
        assert correlation(image[:, column], high[:, column]) == pytest.approx(1.0, abs=1e-6)
        assert correlation(image[:, size - 1 - column], low[:, size - 1 - column]) == pytest.approx(1.0, abs=1e-6)
    for full in (high, low):
        assert correlation(image[:, middle], full[:, middle]) < 0.99


@pytest.mark.parametrize("phases", [(0, 1), (1, 2)])
def test_phases_are_independent_draws(phases):
    first, second = (drawn("full_high", np.nan, phase=phase) for phase in phases)
    assert abs(correlation(first, second)) < 0.1


def test_seeds_are_independent_draws():
    first, second = (drawn("full_high", np.nan, spec=HighLowStimuli(seed=seed)) for seed in (0, 1))
    assert abs(correlation(first, second)) < 0.1


# Controls


@pytest.mark.parametrize("theta", [0, 90, 180, 270])
def test_same_low_has_independent_textures_of_the_low_frequency(theta):
    size, base = 256, 48.0
    image = np.rot90(drawn("same_low", theta, base, size=size), k=theta // 90)
    right, left = image[:, size // 2 + 1 :], image[:, : size // 2 - 1]
    for side in (right, left):
        assert centre_cpi(side, size) == pytest.approx(base / 6, rel=0.1)
        assert side.std() == pytest.approx(0.14, rel=0.02)


@pytest.mark.parametrize(("kind", "ratio", "full"), [("same_low", 6.0, "full_low"), ("high_low", 1.0, "full_high")])
@pytest.mark.parametrize("theta", [0, 110])
def test_textures_of_a_seam_are_two(kind, ratio, full, theta):
    """The near side is the one of the full image, the far side is not: there is a visible seam."""
    image, whole = drawn(kind, theta, ratio=ratio, spec=FAINT), drawn(full, np.nan, spec=FAINT)
    near, far = sides(theta)
    assert correlation(image[near], whole[near]) == pytest.approx(1.0, abs=1e-6)
    assert abs(correlation(image[far], whole[far])) < 0.5
    other = drawn(kind, theta + 180, ratio=ratio, spec=FAINT)
    assert correlation(other[far], whole[far]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("theta", [0, 35, 90, 250])
def test_contrast_edge_is_weaker_away_from_the_orientation(theta):
    """The same textures as at ratio 1, the far one at a third of the contrast."""
    image, seam = drawn("contrast_edge", theta), drawn("high_low", theta, ratio=1.0)
    near, far = sides(theta)
    assert image[near].std() == pytest.approx(0.14, rel=0.03)
    assert image[far].std() == pytest.approx(0.14 / 3, rel=0.03)
    for side in (near, far):
        assert image[side].mean() == pytest.approx(0.5, abs=0.003)
        assert correlation(image[side], seam[side]) > 0.999


@pytest.mark.parametrize("theta", [0, 90, 180, 270])
def test_orientation_edge_varies_across_the_boundary_near_and_along_it_far(theta):
    """Both sides have the contrast and the frequency of the other boundaries; only the direction of their waves differs."""
    image = drawn("orientation_edge", theta, base=14.0, size=128)
    near, far = sides(theta, 128)
    across, along = (1, 0) if theta % 180 == 0 else (0, 1)
    for side, most, least in ((near, across, along), (far, along, across)):
        assert image[side].std() == pytest.approx(0.14, rel=0.03)
        assert image[side].mean() == pytest.approx(0.5, abs=0.003)
        steps = [np.abs(np.diff(image, axis=axis, append=np.nan))[side] for axis in (most, least)]
        assert np.nanmean(steps[0]) > 3 * np.nanmean(steps[1])


@pytest.mark.parametrize("theta", [0, 35, 90, 250])
@pytest.mark.parametrize("contrast", [0.14, 0.3])
def test_luminance_edge_is_two_greys_the_brighter_towards_the_orientation(theta, contrast):
    image = drawn("luminance_edge", theta, np.nan, np.nan, -1, spec=HighLowStimuli(contrast=contrast))
    near, far = sides(theta)
    np.testing.assert_allclose(image[near], 0.5 + contrast, atol=1e-6)
    np.testing.assert_allclose(image[far], 0.5 - contrast, atol=1e-6)
    assert image.mean() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("kind", "expected"), [("full_high", 48.0), ("full_low", 8.0)])
@pytest.mark.parametrize("phase", [0, 1])
def test_full_textures_have_their_frequency_contrast_and_no_boundary(kind, expected, phase):
    image = drawn(kind, np.nan, 48.0, phase=phase, size=256)
    assert centre_cpi(image, 256) == pytest.approx(expected, rel=0.07)
    assert image.mean() == pytest.approx(0.5, abs=0.002)
    assert image.std() == pytest.approx(0.14, rel=0.01)
    quarters = [part for half in np.split(image, 2) for part in np.split(half, 2, axis=1)]
    assert all(centre_cpi(part, 256) == pytest.approx(expected, rel=0.12) for part in quarters)


def test_textures_have_no_direction_of_their_own():
    """Horizontal and vertical differences are equally large, over many draws."""
    images = [drawn("full_high", np.nan, phase=phase, size=64) for phase in range(40)]
    down, right = (np.mean([(np.diff(image, axis=axis) ** 2).mean() for image in images]) for axis in (0, 1))
    assert down == pytest.approx(right, rel=0.1)


# Size, rows, repetition


@pytest.mark.parametrize(
    "kind", ["high_low", "same_low", "contrast_edge", "orientation_edge", "luminance_edge", "full_high", "full_low"]
)
@pytest.mark.parametrize("theta", [0, 40, 215])
def test_a_large_drawing_scaled_down_resembles_the_small_one(kind, theta):
    small, large = (drawn(kind, theta, size=size) for size in (64, 128))
    down = large.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert correlation(down, small) > 0.998
    assert np.abs(down - small).mean() < 0.01


@pytest.mark.parametrize("theta", [10, 77])
def test_at_one_size_or_another_the_waves_have_the_same_place(theta):
    """The middles of the pixels of a 43 px image are those of every third pixel of one of 129 px."""
    small, large = (drawn("high_low", theta, base=8.0, size=size, spec=FAINT) for size in (43, 129))
    for a, b in zip(sides(theta, 43), sides(theta, 129, 3), strict=True):
        assert correlation(small[a], large[1::3, 1::3][a]) == pytest.approx(1.0, abs=1e-6)
        assert a.sum() == pytest.approx(b.sum() / 9, rel=0.05)


def test_a_subset_equals_the_same_rows_of_all():
    spec = StimuliSpec(high_low=HighLowStimuli(orientations=8, base_cpi=(5.0, 6.0)))
    everything = sets.render("high_low", spec, 20)
    high_low._texture.cache_clear()
    rows = np.array([70, 3, everything.sizes["stimulus"] - 1, 17, 3])
    xr.testing.assert_identical(sets.render("high_low", spec, 20, rows), everything[rows])
    xr.testing.assert_identical(sets.render("high_low", spec, 20, slice(10, 13)), everything[10:13])
    xr.testing.assert_identical(sets.render("high_low", spec, 20), everything)


def test_drawing_leaves_the_kept_textures_as_they_are():
    spec = HighLowStimuli()
    before = high_low._texture(14.0, spec.seed, 0, 0, 40, 1.0).copy()
    for kind in ("high_low", "contrast_edge", "full_high"):
        drawn(kind, 30, size=40)
    np.testing.assert_array_equal(high_low._texture(14.0, spec.seed, 0, 0, 40, 1.0), before)


def test_frequency_that_the_pixels_cannot_show_is_refused():
    with pytest.raises(StimulusError, match=r"19 cycles / image side need images of at least 38 px, came 32 px"):
        drawn("high_low", 30, size=32, base=19.0)


@pytest.mark.parametrize(("colour", "axis"), [("red_green", (1, -1, 0)), ("blue_yellow", (-1, -1, 1))])
def test_colour_takes_the_place_of_grey(colour, axis):
    grey, tinted = (
        high_low.render(
            HighLowStimuli(colour=name), high_low.parameters(HighLowStimuli()).isel(stimulus=[300, 500]), 64, "bicubic"
        )
        for name in ("grey", colour)
    )
    for channel, sign in enumerate(axis):
        np.testing.assert_allclose(tinted[:, channel] - 0.5, sign * (grey[:, 0] - 0.5), atol=1e-6)


def test_regression_pin_of_the_pixels():
    """A regression test: a change of pixels needs a new RENDERER_VERSION, so that stores are not reused."""
    images = [drawn("high_low", 30, size=32, base=6.0), drawn("contrast_edge", 200, size=32, base=6.0, phase=1)]
    came = np.stack([image[4::8, 4::8] for image in images])
    pinned = {3: PIN_1}  # version 1 differed at scales below 1 only, version 3 adds a kind
    np.testing.assert_allclose(came, pinned[high_low.RENDERER_VERSION], atol=2e-4)
