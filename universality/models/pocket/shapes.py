"""Procedural training images: a textured shape in front of textured dead leaves.

Image ``index`` of stream ``seed`` depends on these two numbers only, never on the size of the batch
it is made in: every image draws one fixed-length vector of uniform numbers from
``numpy.random.default_rng((seed, index))``, and every parameter is a function of that vector and of
the diet. The same (seed, index) under two diets is therefore the same picture but for what the diet
takes away, so diets can be compared in pairs.

Diets
-----
``focus``
    The figure carries a fine texture and stands in front of a coarse one; in half of the images
    the background is also defocused. In 40 % of the images both sides of the contour have the same
    mean colour, and only texture tells them apart.
``sharp``
    The same images, but never defocused, with background and figure textures of one frequency band,
    and never of equal mean colour, because then nothing but texture orientation would be left to
    separate figure and ground.

Contrast (standard deviation of the texture) is one number for both sides, so neither diet offers
a contrast edge before defocus.

Labels are balanced by construction: ``shape`` cycles with the index, ``figure_texture`` with
``index // 12``; 144 consecutive images hold every pair exactly once.

Conventions: x to the right, y down, angles clockwise from +x in degrees; positions in px from the
image centre; intensities in [0, 1].
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Diet = Literal["focus", "sharp"]
Task = Literal["shape", "texture"]

SHAPES = (
    "disc",
    "ellipse",
    "ring",
    "arc",
    "crescent",
    "half_disc",
    "teardrop",
    "heart",
    "triangle",
    "square",
    "star",
    "cross",
)
"""Shape classes in label order."""

FINE_CPP = (0.12, 0.19, 0.30)
COARSE_CPP = (0.02, 0.03, 0.045)
"""Centre frequencies of the texture bands, cycles per px."""

ORIENTATIONS_DEG = (np.nan, 0.0, 60.0, 120.0)
"""Direction of the texture's wave vector, degrees; NaN: isotropic."""

TEXTURES = tuple(
    f"{1 / cpp:.0f}px_{'isotropic' if np.isnan(angle) else f'{angle:.0f}deg'}"
    for cpp in FINE_CPP
    for angle in ORIENTATIONS_DEG
)
"""Spectral classes of the figure's texture in label order: 3 fine periods x 4 structures."""

GENERATOR_VERSION = 1
"""Raised when the same parameters give other pixels."""

DIETS: tuple[Diet, ...] = ("focus", "sharp")
REFERENCE_PX = 64
N_LEAVES = 20
_BANK_PX = 512
_BLOCK = 128
_CONTOUR_BAND_PX = 5.0

_SCALARS = (
    "form",
    "rotation",
    "scale",
    "centre_x",
    "centre_y",
    "band",
    "structure",
    "contrast",
    "leaf_contrast",
    "is_defocused",
    "defocus",
    "is_equal_mean",
    "figure_x",
    "figure_y",
    "background_x",
    "background_y",
    "colour_distance",
    "colour_azimuth",
    "colour_height",
)
_COLOURS = ("background", "figure_tint", "background_tint", "leaf_tint")
_LEAVES = ("leaf_x", "leaf_y", "leaf_radius", "leaf_level")
_N_DRAWS = len(_SCALARS) + 3 * len(_COLOURS) + N_LEAVES * len(_LEAVES)


def sample_parameters(n: int, seed: int, diet: Diet, start: int = 0) -> dict[str, NDArray[Any]]:
    """Parameters of images ``start`` to ``start + n - 1`` of stream ``seed``.

    Parameters
    ----------
    n : int
        Number of images.
    seed : int
        Stream; use different seeds for training and held-out images.
    diet : {"focus", "sharp"}
        Which cues separate figure and ground, see the module's text.
    start : int
        Index of the first image.

    Returns
    -------
    dict of str to ndarray
        One array per parameter, first dimension ``image`` (n). Scalars per image: ``index``,
        ``shape`` and ``figure_texture`` (labels), ``form`` (aspect or thickness within the class,
        0 to 1), ``rotation_deg``, ``scale_px`` (circumscribed radius), ``centre_x_px``,
        ``centre_y_px``, ``figure_frequency_cpp``, ``background_frequency_cpp`` (cycles per px),
        ``figure_orientation_deg``, ``background_orientation_deg`` (NaN: isotropic), ``contrast``
        (standard deviation of either texture), ``leaf_contrast``, ``defocus_sigma_px`` (0: in
        focus), ``equal_mean``. With a second dimension: ``figure_offset_px``,
        ``background_offset_px`` (2: y, x in the texture bank), ``background_colour``,
        ``figure_colour``, ``figure_tint``, ``background_tint``, ``leaf_tint`` (3: red, green,
        blue), ``leaf_x_px``, ``leaf_y_px``, ``leaf_radius_px``, ``leaf_level`` (``N_LEAVES``).

    Raises
    ------
    ValueError
        If the diet is unknown, or ``n`` or ``start`` is negative.
    """
    if diet not in DIETS:
        raise ValueError(f"diet is {diet!r}, expected one of {', '.join(DIETS)}")
    if n < 0 or start < 0:
        raise ValueError(f"n and start must not be negative, got n={n}, start={start}")
    index = np.arange(start, start + n)
    draws = _named_draws(index, seed)
    texture = index // len(SHAPES) % len(TEXTURES)
    parameters: dict[str, NDArray[Any]] = {"index": index, "shape": index % len(SHAPES)}
    parameters |= _geometry(draws)
    parameters |= _textures(draws, texture, diet)
    parameters |= _colours(draws, parameters["equal_mean"])
    return parameters


def labels(parameters: Mapping[str, NDArray[Any]], task: Task) -> NDArray[np.int64]:
    """Class of every image for a task, shape (n,): index into `SHAPES` or `TEXTURES`."""
    names = {"shape": "shape", "texture": "figure_texture"}
    if task not in names:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(names)}")
    return parameters[names[task]].astype(np.int64)


def render(parameters: Mapping[str, NDArray[Any]], size_px: int = REFERENCE_PX) -> NDArray[np.uint8]:
    """Draw the images that the parameters describe.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        As returned by `sample_parameters`, or any row selection of it.
    size_px : int
        Side of the square field of view. Figure and textures keep their size in px; a side below
        64 crops, and one above shows more background than the leaves are scattered over.

    Returns
    -------
    ndarray of uint8, shape (n, size_px, size_px, 3)
        Dimensions image, y, x, channel; sRGB-like intensities, 255 is 1.0.
    """
    n = len(parameters["index"])
    images = np.empty((n, size_px, size_px, 3), np.uint8)
    for first in range(0, n, _BLOCK):
        block = {name: values[first : first + _BLOCK] for name, values in parameters.items()}
        images[first : first + _BLOCK] = _render_block(block, size_px)
    return images


def distance_to_contour(parameters: Mapping[str, NDArray[Any]], size_px: int = REFERENCE_PX) -> Array:
    """Distance of every pixel centre to the figure's contour, px, negative inside.

    Exact near smooth parts of the contour and a lower bound near corners, which is all that
    anti-aliasing over one pixel needs. Shape (n, size_px, size_px).
    """
    scale = _column(parameters["scale_px"])
    u, v = _figure_coordinates(parameters, size_px)
    distance = np.empty_like(u)
    for label in np.unique(parameters["shape"]):
        rows = np.flatnonzero(parameters["shape"] == label)
        form = _column(parameters["form"][rows])
        distance[rows] = _CONTOURS[SHAPES[int(label)]](u[rows], v[rows], form)
    return distance * scale


# --- parameters ------------------------------------------------------------------------------


def _named_draws(index: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.float64]]:
    """Uniform numbers in [0, 1) by name: (n,), (n, 3) for colours, (n, N_LEAVES) for leaves."""
    raw = np.empty((len(index), _N_DRAWS))
    for row, number in enumerate(index):
        raw[row] = np.random.default_rng((seed, int(number))).random(_N_DRAWS)
    draws = {name: raw[:, column] for column, name in enumerate(_SCALARS)}
    position = len(_SCALARS)
    for names, width in ((_COLOURS, 3), (_LEAVES, N_LEAVES)):
        for name in names:
            draws[name] = raw[:, position : position + width]
            position += width
    return draws


def _between(low: float, high: float, draw: NDArray[np.float64]) -> Array:
    return (low + (high - low) * draw).astype(np.float32)


def _pick(values: tuple[float, ...], draw: NDArray[np.float64]) -> Array:
    return np.asarray(values, np.float32)[(draw * len(values)).astype(int)]


def _geometry(draws: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Place the figure so that it stays inside the image, and scatter the leaves."""
    scale = _between(13.0, 25.0, draws["scale"])
    room = REFERENCE_PX / 2 - 2 - scale
    # Radii follow a power law, as in natural images, within the limits a 64 px image can show.
    radius = _between(6.0**-2, 24.0**-2, draws["leaf_radius"]) ** -0.5
    return {
        "form": draws["form"].astype(np.float32),
        "rotation_deg": _between(0.0, 360.0, draws["rotation"]),
        "scale_px": scale,
        "centre_x_px": room * _between(-1.0, 1.0, draws["centre_x"]),
        "centre_y_px": room * _between(-1.0, 1.0, draws["centre_y"]),
        "leaf_x_px": _between(-36.0, 36.0, draws["leaf_x"]),
        "leaf_y_px": _between(-36.0, 36.0, draws["leaf_y"]),
        "leaf_radius_px": radius,
        "leaf_level": _between(-1.0, 1.0, draws["leaf_level"]),
    }


def _textures(
    draws: Mapping[str, NDArray[np.float64]], texture: NDArray[np.int64], diet: Diet
) -> dict[str, NDArray[Any]]:
    """Spectra of both sides, where they are cut from the bank, contrast and defocus."""
    figure_cpp = np.asarray(FINE_CPP, np.float32)[texture // len(ORIENTATIONS_DEG)]
    has_frequency_cue = diet == "focus"
    is_defocused = (draws["is_defocused"] < 0.5) & has_frequency_cue
    equal_mean = (draws["is_equal_mean"] < 0.4) & has_frequency_cue
    offsets = {
        f"{side}_offset_px": np.stack([(draws[f"{side}_{axis}"] * _BANK_PX).astype(np.int64) for axis in "yx"], axis=1)
        for side in ("figure", "background")
    }
    return offsets | {
        "figure_texture": texture,
        "figure_frequency_cpp": figure_cpp,
        "figure_orientation_deg": np.asarray(ORIENTATIONS_DEG, np.float32)[texture % len(ORIENTATIONS_DEG)],
        "background_frequency_cpp": (_pick(COARSE_CPP, draws["band"]) if has_frequency_cue else figure_cpp),
        "background_orientation_deg": _pick(ORIENTATIONS_DEG, draws["structure"]),
        # Texture must be visible where it is the only cue, and may be absent elsewhere: plain
        # surfaces are common in the world.
        "contrast": np.where(
            equal_mean,
            _between(0.07, 0.16, draws["contrast"]),
            np.maximum(_between(-0.04, 0.16, draws["contrast"]), 0.01),
        ),
        "leaf_contrast": _between(0.0, 0.2, draws["leaf_contrast"]),
        "defocus_sigma_px": np.where(is_defocused, _between(1.0, 3.0, draws["defocus"]), 0.0),
        "equal_mean": equal_mean,
    }


def _colours(draws: Mapping[str, NDArray[np.float64]], equal_mean: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Mean colours of both sides, and the colour axes along which textures and leaves vary."""
    background = _between(0.25, 0.75, draws["background"])
    height = _between(-1.0, 1.0, draws["colour_height"])
    azimuth = 2 * np.pi * draws["colour_azimuth"]
    ring = np.sqrt(1 - height**2)
    direction = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), height], axis=1)
    # Towards mid grey in every channel: a step outwards would be clipped.
    direction = np.abs(direction) * np.where(background > 0.5, -1, 1)
    distance = _between(0.15, 0.5, draws["colour_distance"])[:, None]
    step = np.where(equal_mean[:, None], 0.0, distance * direction)
    tints = {
        f"{name}_tint": (1 + _between(-0.5, 0.5, draws[f"{name}_tint"])).astype(np.float32)
        for name in ("figure", "background", "leaf")
    }
    return tints | {
        "background_colour": background,
        "figure_colour": (background + step).astype(np.float32),
    }


# --- drawing ---------------------------------------------------------------------------------


def _column(values: NDArray[Any]) -> Array:
    """(n,) -> (n, 1, 1), to broadcast over y and x."""
    return values.astype(np.float32)[:, None, None]


def _axis_px(size_px: int) -> Array:
    """Pixel centres along one axis, px from the image centre, shape (size_px,)."""
    return np.arange(size_px, dtype=np.float32) - np.float32((size_px - 1) / 2)


def _render_block(block: Mapping[str, NDArray[Any]], size_px: int) -> NDArray[np.uint8]:
    distance = distance_to_contour(block, size_px)
    coverage = np.clip(0.5 - distance, 0, 1)[..., None]
    outside = (1 - coverage) * (distance < _CONTOUR_BAND_PX)[..., None]
    figure = _tinted(_texture(block, "figure", size_px), "contrast", "figure_tint", block)
    ground = _texture(block, "background", size_px)
    background = _tinted(ground, "contrast", "background_tint", block)
    background += _tinted(_leaves(block, size_px), "leaf_contrast", "leaf_tint", block)
    background = _defocus(background, block["defocus_sigma_px"])
    # Centring on the contour makes the colour parameters true where the two sides meet.
    figure = _centred(figure, coverage, block["figure_colour"])
    background = _centred(background, outside, block["background_colour"])
    images = background + coverage * (figure - background)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _tinted(values: Array, contrast: str, tint: str, block: Mapping[str, NDArray[Any]]) -> Array:
    """Scale a zero-mean map (n, y, x) and colour it: (n, y, x, 3)."""
    gain = block[contrast][:, None] * block[tint]
    return values[..., None] * gain[:, None, None, :].astype(np.float32)


def _centred(values: Array, weights: Array, colour: NDArray[Any]) -> Array:
    """Shift every image so that its weighted mean is the given colour."""
    mean = (values * weights).sum((1, 2)) / weights.sum((1, 2))
    return values + (colour - mean)[:, None, None, :].astype(np.float32)


def _defocus(images: Array, sigma_px: NDArray[Any]) -> Array:
    from scipy import ndimage

    for row in np.flatnonzero(sigma_px > 0):
        sigma = float(sigma_px[row])
        images[row] = ndimage.gaussian_filter(images[row], (sigma, sigma, 0), mode="reflect")
    return images


def _leaves(block: Mapping[str, NDArray[Any]], size_px: int) -> Array:
    """Dead leaves: opaque discs of random grey level, later ones in front, (n, y, x)."""
    axis = _axis_px(size_px)
    dx2 = (axis - block["leaf_x_px"][..., None]) ** 2
    dy2 = (axis - block["leaf_y_px"][..., None]) ** 2
    level = np.zeros((len(dx2), size_px, size_px), np.float32)
    for leaf in range(N_LEAVES):
        gap = np.sqrt(dy2[:, leaf, :, None] + dx2[:, leaf, None, :])
        cover = np.clip(_column(block["leaf_radius_px"][:, leaf]) + 0.5 - gap, 0, 1)
        level += cover * (_column(block["leaf_level"][:, leaf]) - level)
    return level


def _texture(block: Mapping[str, NDArray[Any]], side: str, size_px: int) -> Array:
    """Cut (n, y, x) from the bank's periodic textures of the given spectra."""
    frequencies = np.asarray(COARSE_CPP + FINE_CPP, np.float32)
    band = np.searchsorted(frequencies, block[f"{side}_frequency_cpp"])
    angle = block[f"{side}_orientation_deg"]
    structure = np.where(np.isnan(angle), 0, np.nan_to_num(angle) // 60 + 1).astype(int)
    offset = block[f"{side}_offset_px"]
    steps = np.arange(size_px)
    y = (offset[:, 0, None] + steps) % _BANK_PX
    x = (offset[:, 1, None] + steps) % _BANK_PX
    return _texture_bank()[band[:, None, None], structure[:, None, None], y[:, :, None], x[:, None]]


@cache
def _texture_bank() -> Array:
    """Periodic Gaussian textures of unit variance, (band, structure, y, x), made once."""
    from scipy import fft

    white = fft.rfft2(np.random.default_rng(20200310).standard_normal((_BANK_PX, _BANK_PX)))
    fy = fft.fftfreq(_BANK_PX)[:, None]
    fx = fft.rfftfreq(_BANK_PX)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.nan
    angle = np.degrees(np.arctan2(fy, fx))
    bank = np.empty((6, len(ORIENTATIONS_DEG), _BANK_PX, _BANK_PX), np.float32)
    for band, centre_cpp in enumerate(COARSE_CPP + FINE_CPP):
        for structure, direction in enumerate(ORIENTATIONS_DEG):
            gain = np.exp(-0.5 * (np.log2(radius / centre_cpp) / 0.25) ** 2)
            if not np.isnan(direction):
                off_axis = (angle - direction + 90) % 180 - 90
                gain = gain * np.exp(-0.5 * (off_axis / 12) ** 2)
            noise = fft.irfft2(white * np.nan_to_num(gain), (_BANK_PX, _BANK_PX))
            bank[band, structure] = noise / noise.std()
    return bank


def _figure_coordinates(parameters: Mapping[str, NDArray[Any]], size_px: int) -> tuple[Array, Array]:
    """Pixel centres in the figure's own frame, in units of its circumscribed radius."""
    axis = _axis_px(size_px)
    angle = np.radians(_column(parameters["rotation_deg"]))
    x = axis[None, None, :] - _column(parameters["centre_x_px"])
    y = axis[None, :, None] - _column(parameters["centre_y_px"])
    scale = _column(parameters["scale_px"])
    u = (np.cos(angle) * x + np.sin(angle) * y) / scale
    v = (np.cos(angle) * y - np.sin(angle) * x) / scale
    return u, v


# --- contours: signed distance in units of the circumscribed radius, negative inside ---------


def _disc(u: Array, v: Array, form: Array) -> Array:
    return np.sqrt(u * u + v * v) - (0.75 + 0.25 * form)


def _ellipse(u: Array, v: Array, form: Array) -> Array:
    minor = 0.45 + 0.2 * form
    radial = np.sqrt(u * u + (v / minor) ** 2)
    slope = np.sqrt(u * u + (v / minor**2) ** 2)
    # First-order distance f / |grad f|; the ratio tends to the semi-minor axis at the centre.
    return (radial - 1) * np.where(slope > 1e-6, radial / np.maximum(slope, 1e-6), minor)


def _ring(u: Array, v: Array, form: Array) -> Array:
    half_width = 0.16 + 0.1 * form
    return np.abs(np.sqrt(u * u + v * v) - (1 - half_width)) - half_width


def _arc(u: Array, v: Array, form: Array) -> Array:
    half_opening = np.radians(30 + 45 * form)
    gap = u * np.sin(half_opening) - np.abs(v) * np.cos(half_opening)
    return np.maximum(_ring(u, v, np.full_like(form, 0.5)), gap)


def _crescent(u: Array, v: Array, form: Array) -> Array:
    shift = 0.45 + 0.25 * form
    bite = np.sqrt((u - shift) ** 2 + v * v) - 0.85
    return np.maximum(np.sqrt(u * u + v * v) - 1, -bite)


def _half_disc(u: Array, v: Array, form: Array) -> Array:
    # The cut passes near the centre; the figure is shifted so that it stays centred in its frame.
    cut = 0.15 - 0.2 * form
    shifted = u + 0.4
    return np.maximum(np.sqrt(shifted**2 + v * v) - 1, cut - shifted)


def _teardrop(u: Array, v: Array, form: Array) -> Array:
    radius = 0.5 + 0.1 * form
    tip = 2 - radius
    along = u + 1 - radius
    across = np.abs(v)
    sine = radius / tip
    cosine = np.sqrt(1 - sine**2)
    flank = across * cosine + along * sine - radius
    on_flank = along * cosine - across * sine > 0
    return np.where(on_flank, flank, np.sqrt(along**2 + v * v) - radius)


def _heart(u: Array, v: Array, form: Array) -> Array:
    del form
    side = 0.8
    up, across = u / side, np.abs(v) / side
    square = (np.abs(up) + across - 1) * np.sqrt(0.5)
    lobe = np.sqrt((up - 0.5) ** 2 + (across - 0.5) ** 2) - np.sqrt(0.5)
    return side * np.minimum(square, lobe).astype(np.float32)


def _half_planes(u: Array, v: Array, n_sides: int, apothem: float) -> Array:
    """Distances to the sides of a regular polygon, (n_sides, n, y, x)."""
    angles = 2 * np.pi * np.arange(n_sides) / n_sides
    sides = [u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)) for a in angles]
    return np.stack(sides) - np.float32(apothem)


def _triangle(u: Array, v: Array, form: Array) -> Array:
    del form
    return _half_planes(u, v, 3, 0.5).max(axis=0)


def _square(u: Array, v: Array, form: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - (0.55 + 0.15 * form)


def _star(u: Array, v: Array, form: Array) -> Array:
    del form
    # A pentagram is the set of points on the inner side of at least four of its five lines.
    apothem = float(np.cos(np.radians(72)))
    return np.partition(_half_planes(u, v, 5, apothem), 3, axis=0)[3]


def _cross(u: Array, v: Array, form: Array) -> Array:
    half_width = 0.2 + 0.12 * form
    length = 0.93
    across = np.maximum(np.abs(u) - length, np.abs(v) - half_width)
    return np.minimum(across, np.maximum(np.abs(v) - length, np.abs(u) - half_width))


_CONTOURS: dict[str, Callable[[Array, Array, Array], Array]] = {
    "disc": _disc,
    "ellipse": _ellipse,
    "ring": _ring,
    "arc": _arc,
    "crescent": _crescent,
    "half_disc": _half_disc,
    "teardrop": _teardrop,
    "heart": _heart,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
}
