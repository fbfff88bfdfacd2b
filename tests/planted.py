"""Networks written by hand, whose features are known, to test the definitions of detectors.

Both networks are feed-forward: Gabor filters with rectification (simple cells), sums over phase (complex cells), and a
second convolution whose weights are drawn, not learned. Angles are clockwise from +x with y pointing down, in degrees.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from shown import by_set
from torch import nn

from universality.activations import extraction
from universality.activations.layer import Layer, LayerRef
from universality.activations.spec import ExtractionSpec
from universality.base.schema import STIMULUS
from universality.features.families import FAMILIES
from universality.models.card import Preprocessing
from universality.models.handwritten import kernels
from universality.models.handwritten.kernels import PHASES, energies, gabors, of_grey, places
from universality.models.handwritten.networks import convolution
from universality.models.receptive_field import describe_tap
from universality.stimuli import colours, sets

GREY = np.full(3, 1 / 3)
EXTRACTION = ExtractionSpec(reduction="center", batch_size=128)


def phase_scrambled(weights, seed):
    """Weights of the same amplitude spectra over space, the phases of every kernel random, its mean kept."""
    return kernels.phase_scrambled(weights, np.random.default_rng(seed).standard_normal(weights.shape))


@dataclass(frozen=True)
class Plan:
    """What a planted network is made of.

    simple : filters (filter, y, x) of the first convolution, for the mean of the colours, or (filter, channel, y, x)
    pooling : (complex cell, filter)
    drawn : by unit's name, (complex cell, y, x) of the second convolution
    planted_deg : by unit's name, its orientation; units not named here are controls
    strides : of both convolutions
    """

    size_px: int
    simple: np.ndarray
    pooling: np.ndarray
    drawn: dict[str, np.ndarray]
    planted_deg: dict[str, float]
    strides: tuple[int, int]

    def scrambled(self, seed, parts=("first", "second")):
        """The same plan with the phases of the kernels of the first, the second or both convolutions random."""
        simple, drawn = self.simple, self.drawn
        if "first" in parts:
            simple = phase_scrambled(simple, seed)
        if "second" in parts:
            weights = phase_scrambled(np.array(list(drawn.values())), seed)
            drawn = dict(zip(drawn, weights, strict=True))
        return replace(self, simple=simple, drawn=drawn)


def unpadded(weights, stride=1, bias=None):
    """A fixed convolution that looks at nothing beyond the border."""
    made = convolution(weights, stride, bias)
    made.padding = (0, 0)
    return made


class Planted(nn.Module):
    """Simple cells, complex cells, and a second convolution that is drawn, not learned.

    Of an image it looks at the middle: what the units of `ACROSS` by `ACROSS` positions see, since no more are ever recorded.
    `expected_deg` has the planted orientation of every unit, NaN for controls.
    """

    ACROSS = 2 * EXTRACTION.center_radius + 1

    def __init__(self, plan):
        super().__init__()
        self.names = list(plan.drawn)
        self.expected_deg = np.array([plan.planted_deg.get(name, np.nan) for name in self.names])
        self.preprocessing = Preprocessing(
            size_px=plan.size_px, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
        filters = plan.simple if plan.simple.ndim == 4 else of_grey(plan.simple)
        self.simple = unpadded(filters, plan.strides[0])
        self.rectified = nn.ReLU()
        self.complex = unpadded(plan.pooling[:, :, None, None])
        # A dead unit stays below 0 whatever it is shown.
        bias = np.array([-1.0 if name == "dead" else 0.0 for name in self.names])
        drawn = np.array(list(plan.drawn.values()))
        self.units = unpadded(drawn, plan.strides[1], bias)
        self.relu = nn.ReLU()
        first, second = plan.strides
        seen = filters.shape[-1] + (drawn.shape[-1] - 1 + (self.ACROSS - 1) * second) * first
        self.margin, odd = divmod(plan.size_px - seen, 2)
        assert self.margin >= 0 and not odd
        self.eval()

    def forward(self, images):
        return self.relu(self.before(images))

    def before(self, images):
        """The units before the nonlinearity."""
        end = -self.margin or None
        middle = images[:, :, self.margin : end, self.margin : end]
        return self.units(self.complex(self.rectified(self.simple(middle))))

    def tap(self, activation):
        path = {"pre": "units", "post": "relu"}[activation]
        return describe_tap(self, path, self.preprocessing.size_px, activation=activation, name=activation)

    def answers(self, images, taps):
        """Activations (image, unit) by tap of images in [0, 1] (image, channel, y, x)."""
        shown = sets.normalise(images, self.preprocessing)
        batches = (shown[start : start + 128] for start in range(0, len(shown), 128))
        size = self.preprocessing.size_px
        return dict(extraction.collect(extraction.extract(self, taps, batches, EXTRACTION, size)))


@lru_cache(maxsize=16)
def images(kind, spec, size):
    """A whole set of stimuli, drawn once for all networks of a size."""
    return sets.render(kind, spec, size).values


def layers(network, family, spec, activations=("pre", "post")):
    """The taps' layers by activation, after showing a family's stimuli and the natural images to a network."""
    size = network.preprocessing.size_px
    taps = [network.tap(activation) for activation in activations]
    natural, *drawn = (network.answers(images(kind, spec, size), taps) for kind in ("natural", *FAMILIES[family].sets))
    table = sets.parameters("natural", spec)
    parameters = [sets.parameters(name, spec) for name in FAMILIES[family].sets]
    return {
        tap.name: Layer(
            LayerRef("planted", None, tap, "", {}), natural[tap.name].astype(np.float64), table["fold"].values,
            np.arange(table.sizes[STIMULUS]), by_set(family, np.concatenate([shown[tap.name] for shown in drawn]), parameters),
        )
        for tap in taps
    }  # fmt: skip


# Arcs

TANGENTS = kernels.TANGENTS_DEG
ARC_SIZE = 49  # odd, so that one position of every map looks at the middle
ARC_KERNEL = 15
ARC_RADIUS = 4.0
EDGE = len(TANGENTS)  # a channel beside the complex cells: one odd simple cell


def with_edge(weights):
    """Weights of the complex cells, and none of the channel beside them."""
    return np.pad(weights, ((0, 1), (0, 0), (0, 0)))


def arc(orientation_deg):
    return with_edge(kernels.arc(orientation_deg, ARC_RADIUS, ARC_KERNEL))


def line(orientation_deg):
    return with_edge(kernels.line(orientation_deg, ARC_KERNEL))


def arc_detector(orientation_deg, straight=0.1, others=0.3):
    return with_edge(kernels.arc_detector(orientation_deg, ARC_RADIUS, ARC_KERNEL, straight, others))


def arc_controls():
    """Units that no definition of a curve detector may find."""
    edge = np.zeros((EDGE + 1, ARC_KERNEL, ARC_KERNEL))
    edge[EDGE, ARC_KERNEL // 2, ARC_KERNEL // 2] = 0.3
    mixture = np.random.default_rng(0).standard_normal(edge.shape) / 300
    return {
        "edge": edge,
        "line": line(90) - 0.5 * arc(90) - 0.5 * arc(270),
        "either arc": 0.3 * (arc(40) + arc(220) - line(40)),
        "mixture": mixture - mixture.mean(),
        "dead": np.zeros_like(edge),
    }


def arc_plan(count=16):
    """Arc detectors of `count` evenly spaced orientations, and controls."""
    planted = {f"arc {angle:g}": float(angle) for angle in np.arange(count) * (360 / count)}
    pooling = np.zeros((EDGE + 1, EDGE * PHASES))
    pooling[:EDGE] = energies(EDGE, PHASES)
    pooling[EDGE, 1] = 1.0
    detectors = {name: arc_detector(angle) for name, angle in planted.items()}
    filters = gabors(9, 5.0, 2.0, TANGENTS).reshape(-1, 9, 9)
    return Plan(ARC_SIZE, filters, pooling, detectors | arc_controls(), planted, (1, 2))


# Boundaries between high and low frequencies

BOUNDARY_SIZE = 65
BOUNDARY_KERNEL = 7
FIRST_KERNEL = 29
AXES = np.arange(6) * 30.0
BANDS = ("high", "low", "bright")


def boundary_filters():
    """Gabor filters of both bands and all tangents, and a filter for the brightness on one side of the middle."""
    x, y = places(FIRST_KERNEL)
    side = np.exp(-(x**2 + y**2) / (2 * 4.0**2)) * x
    bands = [gabors(FIRST_KERNEL, wavelength, width, AXES) for wavelength, width in ((4.7, 2.0), (26.0, 7.0))]
    return np.concatenate([*(band.reshape(-1, *x.shape) for band in bands), [side / np.abs(side).sum()]])


def boundary_detector(direction_deg):
    """The written detector, that does not look at the brightness."""
    return with_edge(kernels.boundary_detector(direction_deg, BOUNDARY_KERNEL, 1.6))


def boundary_controls():
    """Units that no definition of a high-low frequency detector may find."""
    side = boundary_detector(60)[0]
    blank = 0 * side
    middle = np.zeros_like(side)
    middle[BOUNDARY_KERNEL // 2, BOUNDARY_KERNEL // 2] = 1.0
    return {
        "luminance edge": np.stack([blank, blank, middle]),
        "texture": np.stack([np.abs(side), blank, blank]),
        "coarse texture": np.stack([blank, np.abs(side), blank]),
        "contrast edge": np.stack([side, side, blank]),
        "dead": np.stack([blank, blank, blank]),
    }


def boundary_plan(count=12):
    """High-low frequency detectors of `count` evenly spaced directions, and controls."""
    planted = {f"boundary {angle:g}": float(angle) for angle in np.arange(count) * (360 / count)}
    filters = boundary_filters()
    pooling = np.zeros((len(BANDS), len(filters)))
    each = len(AXES) * PHASES
    pooling[0, :each] = pooling[1, each : 2 * each] = 1 / len(AXES)
    pooling[2, -1] = 1.0
    detectors = {name: boundary_detector(angle) for name, angle in planted.items()}
    return Plan(BOUNDARY_SIZE, filters, pooling, detectors | boundary_controls(), planted, (4, 1))


def without_bands(plan):
    """The same boundary network, but that its complex cells sum over both bands."""
    pooling = plan.pooling.copy()
    pooling[:2] = plan.pooling[:2].mean(axis=0)
    return replace(plan, pooling=pooling)


# Contours of any kind

EDGE_SIZE = 65


def alone(weights_by_name):
    """Weights (complex cell, 1, 1) of units that look at one position."""
    return {name: np.asarray(weights, dtype=np.float64)[:, None, None] for name, weights in weights_by_name.items()}


def edge_plan():
    """Complex cells of twelve orientations, each passed on as it is, and controls."""
    orientations = (TANGENTS + 90.0) % 180.0
    x, y = places(9)
    blob = np.exp(-(x**2 + y**2) / 2) / (2 * np.pi) - np.exp(-(x**2 + y**2) / 8) / (8 * np.pi)
    filters = np.concatenate([gabors(9, 5.0, 2.0, TANGENTS).reshape(-1, 9, 9), [blob, -blob]])
    cells = len(TANGENTS)
    pooling = np.zeros((cells + 1, len(filters)))
    pooling[:cells, : cells * PHASES] = np.kron(np.eye(cells), np.ones(PHASES))
    pooling[cells, -2:] = 1.0
    own = np.eye(cells + 1)
    controls = {"cross": own[0] + own[6], "any": own[:cells].sum(axis=0), "blob": own[cells], "dead": 0 * own[0]}
    planted = {f"edge {angle:g}": float(angle) for angle in orientations}
    detectors = dict(zip(planted, own[:cells], strict=True))
    drawn = alone(detectors | controls)
    return Plan(EDGE_SIZE, filters, pooling, drawn, planted, (1, 1))


# Boundaries of colour


def opponent_weights(turn_deg):
    """Weights of red, green and blue that add up to 0: silent for grey."""
    turn = np.deg2rad(turn_deg)
    return np.cos(turn) * np.array([1.0, -1.0, 0.0]) / 2**0.5 + np.sin(turn) * np.array([-1.0, -1.0, 2.0]) / 6**0.5


def axis_of(weights):
    """The axis of hues such weights prefer, from their product with the two sides of a boundary, degrees."""
    axes = np.arange(0.0, 180.0, 30.0)
    grid = [(hue, saturation) for hue in (axes, axes + 180.0) for saturation in (0.5, 1.0)]
    sides = np.array([[weights @ colours.patch("field", h, s, 0.0, 1)[:, 0, 0] for h in hues] for hues, s in grid])
    half = np.maximum(*np.abs(sides.reshape(2, 2, -1)))
    opponent = np.abs(sides[:2] - sides[2:])
    curve = (half + opponent).sum(axis=0)
    return float(np.rad2deg(np.angle(curve @ np.exp(2j * np.deg2rad(axes)))) % 360.0 / 2)


def colour_plan(count=8):
    """Edge filters of opponent colours, of several axes of hues and directions, and controls."""
    x, y = places(7)
    envelope = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    turns = np.arange(count) * (180.0 / count)
    sides = [envelope * (x * np.cos(np.deg2rad(3 * turn)) + y * np.sin(np.deg2rad(3 * turn))) for turn in turns]
    units = {
        f"axis {turn:g}": opponent_weights(turn)[:, None, None] * side for turn, side in zip(turns, sides, strict=True)
    }
    planted = {name: axis_of(opponent_weights(turn)) for name, turn in zip(units, turns, strict=True)}
    random = np.random.default_rng(0).standard_normal((3, 7, 7))
    units |= {
        "grey edge": GREY[:, None, None] * sides[0],
        "red edge": np.array([1.0, 0.0, 0.0])[:, None, None] * sides[0],
        "red field": opponent_weights(0.0)[:, None, None] * envelope,
        "mixture": random - random.mean(),
        "dead": 0 * random,
    }
    own = np.eye(len(units))
    return Plan(
        EDGE_SIZE, np.array(list(units.values())), own, alone(dict(zip(units, own, strict=True))), planted, (1, 1)
    )


def weights_scrambled(plan, seed):
    """The same filters, the weights of each in another order over its pixels and channels.

    Phases alone would leave the orientation of their spectra, channels alone the sum that is silent for grey.
    """
    flat = plan.simple.reshape(len(plan.simple), -1)
    return replace(plan, simple=np.random.default_rng(seed).permuted(flat, axis=1).reshape(plan.simple.shape))
