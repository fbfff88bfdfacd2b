"""Feature visualisation: images made by gradient ascent that a unit, a direction, or units of two networks answer to.

An image is a spectrum (real and imaginary part of each frequency, three decorrelated colours) whose amplitudes are divided by the
frequency, or, by the method ``phase``, phases alone under the mean amplitudes of our photographs. While it is optimised it is turned,
scaled and shifted at random, so that what is found does not hang on single pixels. Units are driven before their nonlinearity where a tap
has one of its own: behind it a silent or clipped unit has no gradient.

A picture made in this way says what drives a unit, not what the unit is for, and any network can be made to show anything
(R. Geirhos et al., Don't trust your eyes, 2023). So beside each stands what it reaches, among natural images, and what a random direction
of the same layer reaches with the same budget.

References
----------
C. Olah, A. Mordvintsev, L. Schubert, Feature visualization, Distill 2017 (parametrisation, transformations, diversity). Departures: colours are
decorrelated as those of our own photographs are; one affine map does what there are several steps.
T. Fel et al., Unlocking feature visualization for deeper networks with magnitude constrained optimization, NeurIPS 2023 (method ``phase``). Departures:
amplitudes are the mean of our own photographs; the same transformations as the other method, not crops of a large image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from universality.base.arrays import reciprocal
from universality.base.errors import TapError
from universality.models import hooks, unclipped
from universality.models.card import Preprocessing, Tap
from universality.stimuli import natural, whole
from universality.stimuli.sets import LUMINANCE

Method = Literal["fourier", "phase"]
VERSION = 1
STEPS = 256
BATCH = 8
"""Images that are optimised together, in one forward pass."""
LEARNING_RATE = {"fourier": 0.05, "phase": 1.0}
TURN_DEG, SCALE, SHIFT = 10.0, (0.9, 1.1), 1 / 16
"""Largest turn (degrees), least and largest enlargement, and largest shift (of the side) of an image while it is optimised."""
NOISE = 0.02
_SPECTRUM_PX = 128
_START = 0.04
_LOUDER = 3.0
_TRIES = 5
"""How often noise in which a unit has no gradient is drawn again, so much stronger each time."""
_LEAST_GREY = 0.01
"""Standard deviation over an image, of its range, below which it is called grey."""


@dataclass(frozen=True)
class Options:
    """How images are made.

    Attributes
    ----------
    method : amplitudes and phases (``fourier``), or phases alone (``phase``)
    steps : of the optimiser
    seed : of the images at the start and of their transformations
    diversity : weight of a term by which images of one group become unlike one another; 0 for none
    """

    method: Method = "fourier"
    steps: int = STEPS
    seed: int = 0
    diversity: float = 0.0


@dataclass(frozen=True)
class Lens:
    """A network as an objective sees it: where its units are driven, and where what they reach is read.

    Attributes
    ----------
    module : in eval mode; its weights need no gradients
    driven : the tap before the nonlinearity, where there is one
    read : the tap itself; of one that clips, where its values before that are (`universality.models.unclipped`)
    """

    module: nn.Module
    driven: Tap
    read: Tap
    preprocessing: Preprocessing

    def prepared(self, images: Tensor) -> Tensor:
        """Return images in [0, 1], (image, 3, y, x), as the network's input."""
        channels, height, width = self.preprocessing.shape
        size = self.preprocessing.canvas_px
        if images.shape[-1] != size:
            images = nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        down, across = (size - height) // 2, (size - width) // 2
        images = images[..., down : down + height, across : across + width]
        if channels == 1:
            images = (images * torch.tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
        elif channels == 4:
            images = torch.cat([images, torch.ones_like(images[:, :1])], 1)
        mean, std = (
            torch.tensor(v, dtype=torch.float32)[:, None, None]
            for v in (self.preprocessing.mean, self.preprocessing.std)
        )
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    def maps(self, images: Tensor, tap: Tap) -> Tensor:
        """Return the maps (image, unit, y, x) of a tap for images in [0, 1]; the pass ends behind it."""
        caught: list[Tensor] = []

        def catch(_: Tap, maps: Tensor) -> None:
            # A copy: a nonlinearity that works in place overwrites what comes before it.
            caught.append(unclipped.cut(tap, maps.clone()))
            raise hooks.StopForward

        with hooks.watching(self.module, [tap], catch):
            hooks.forward(self.module, self.prepared(images))
        return caught[0]

    def middle(self, maps: Tensor, tap: Tap) -> Tensor:
        """Return the answers (image, unit) of the position nearest to the image's middle."""
        _, height, width = self.preprocessing.shape
        row, column = (
            tap.index_at((length - 1) / 2, count) for length, count in ((height, tap.size), (width, tap.columns))
        )
        return maps[:, :, row, column]


@dataclass(frozen=True)
class Objective:
    """What one image is optimised for: the sum over networks of the weighted answers of their units.

    Attributes
    ----------
    weights : for each `Lens` a vector (unit,), 1 / a.u.: one unit, a direction, or several units at once; negative where it is to stay silent
    group : objectives of one group become unlike one another where diversity is asked for
    seed : tells the image's start and transformations from those of others, whatever else is in the batch
    """

    weights: tuple[NDArray[np.float64], ...]
    group: int = 0
    seed: tuple[int, ...] = (0,)


def made(
    lenses: Sequence[Lens],
    objectives: Sequence[Objective],
    options: Options,
    start: Image.Image | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> NDArray[np.uint8]:
    """Return one image for each objective: all are optimised together, in one forward pass a step.

    The same objectives, options and seeds give the same images on one kind of processor; in another batch they agree to rounding.

    Parameters
    ----------
    lenses : networks that see the same images; images have the largest one's input size
    start : a photograph to begin with, instead of noise
    advance : hears of every step, with the number of images

    Returns
    -------
    (image, y, x, channel)

    Raises
    ------
    TapError
        The units have no gradient with respect to the image: they lie behind a step that lets none pass.
    """
    size = max(lens.preprocessing.canvas_px for lens in lenses)
    weights = [
        torch.tensor(np.stack([o.weights[k] for o in objectives]), dtype=torch.float32) for k in range(len(lenses))
    ]
    chances = [np.random.default_rng([options.seed, *o.seed]) for o in objectives]
    spectrum = _Spectrum.of(size, options.method, chances, start)
    kind: Callable[..., torch.optim.Optimizer] = torch.optim.Adam if options.method == "fourier" else torch.optim.NAdam
    optimiser = kind([spectrum.values], lr=LEARNING_RATE[options.method])
    groups = torch.tensor([o.group for o in objectives])

    def gradients() -> Tensor:
        images = _moved(spectrum.images(), chances, options.method)
        loss: Tensor = torch.zeros(())
        for lens, wanted in zip(lenses, weights, strict=True):
            maps = lens.maps(images, lens.driven)
            loss = loss - (lens.middle(maps, lens.driven) * wanted).sum()
            if options.diversity:
                loss = loss + options.diversity * _alike(maps, groups)
        if not loss.requires_grad:
            raise TapError(
                f"tap '{lenses[0].driven.name}' has no gradient with respect to the image; choose another tap"
            )
        optimiser.zero_grad()
        loss.backward()
        return spectrum.values.grad if spectrum.values.grad is not None else torch.zeros(())

    louder = 1.0
    for _ in range(_TRIES if options.method == "fourier" and start is None else 0):
        silent = gradients().flatten(1).abs().amax(1) == 0
        if not silent.any():
            break
        louder *= _LOUDER
        with torch.no_grad():
            for place in torch.nonzero(silent).ravel().tolist():
                fresh = chances[place].normal(0, louder * _START, spectrum.values.shape[1:])
                spectrum.values[place] = torch.tensor(fresh, dtype=torch.float32)
    for _ in range(options.steps):
        gradients()
        optimiser.step()
        advance(len(objectives))
    with torch.no_grad():
        shown = (spectrum.images() * 255).round().to(torch.uint8)
    return np.ascontiguousarray(shown.permute(0, 2, 3, 1).numpy())


def answers(
    lens: Lens, images: NDArray[np.uint8], reduced: Callable[[Tensor], Tensor] | None = None
) -> NDArray[np.float64]:
    """Return what a layer answers to images (image, y, x, channel), as they are: (image, unit), a.u.

    `reduced` makes of maps (image, unit, y, x) what is recorded of them; left out, the position nearest to the middle is.
    """
    with torch.inference_mode():
        shown = torch.tensor(np.ascontiguousarray(np.moveaxis(images, 3, 1))).float() / 255
        maps = lens.maps(shown, lens.read)
        found = lens.middle(maps, lens.read) if reduced is None else reduced(maps)
        return np.asarray(found.double().numpy())


def is_grey(image: NDArray[np.uint8]) -> bool:
    """Return whether an image (y, x, channel) stayed grey."""
    return bool(image.std() / 255 < _LEAST_GREY)


def _alike(maps: Tensor, groups: Tensor) -> Tensor:
    """Return how alike the images of one group are to the layer: cosines of its Gram matrices, summed over pairs."""
    flat = maps.flatten(2)
    gram = torch.einsum("nup,nvp->nuv", flat, flat).flatten(1)
    gram = nn.functional.normalize(gram, dim=1)
    pairs = (groups[:, None] == groups) & ~torch.eye(len(groups), dtype=torch.bool)
    return (gram @ gram.T)[pairs].sum()


@dataclass
class _Spectrum:
    """Images as spectra: what the optimiser changes, and how images come of it.

    Attributes
    ----------
    values : ``fourier``: (image, colour, row, column, 2); ``phase``: (image, colour, row, column), radians
    amplitude : (colour, row, column) or broadcast to it
    """

    size: int
    method: Method
    values: Tensor
    amplitude: Tensor
    colours: Tensor = field(repr=False)

    @classmethod
    def of(
        cls, size: int, method: Method, chances: Sequence[np.random.Generator], start: Image.Image | None
    ) -> _Spectrum:
        shape = 3, size, size // 2 + 1
        colours = torch.tensor(colour_mixing(), dtype=torch.float32)
        if method == "phase":
            amplitude = torch.tensor(mean_amplitudes(size), dtype=torch.float32)
            first = np.stack([chance.uniform(-math.pi, math.pi, shape) for chance in chances])
        else:
            rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
            amplitude = torch.tensor(size / 4 / np.maximum(np.hypot(rows, columns), 1 / size), dtype=torch.float32)
            first = np.stack([chance.normal(0, _START, (*shape, 2)) for chance in chances])
        values = torch.tensor(first, dtype=torch.float32)
        made = cls(size, method, values, amplitude, colours)
        if start is not None:
            begun = made._of_photograph(start)
            made.values = (begun + 0.1 * values) if method == "fourier" else begun + 0 * values
        made.values.requires_grad_(True)
        return made

    def images(self) -> Tensor:
        """Return the images, (image, 3, y, x) in [0, 1]."""
        if self.method == "phase":
            spectrum = torch.polar(self.amplitude.expand_as(self.values), self.values)
        else:
            spectrum = torch.view_as_complex(self.values) * self.amplitude
        planes = torch.fft.irfft2(spectrum, s=(self.size, self.size))
        return torch.sigmoid(torch.einsum("dc,ncyx->ndyx", self.colours, planes))

    def _of_photograph(self, photograph: Image.Image) -> Tensor:
        """Return the values that give the middle square of a photograph."""
        square = whole.squares(*photograph.size)
        pixels = whole.shown(photograph, square[len(square) // 2], self.size, "bicubic")
        planes = torch.logit(torch.tensor(pixels).clamp(0.02, 0.98))
        spectrum = torch.fft.rfft2(torch.einsum("cd,dyx->cyx", torch.linalg.inv(self.colours), planes))
        return torch.angle(spectrum) if self.method == "phase" else torch.view_as_real(spectrum / self.amplitude)


def _moved(images: Tensor, chances: Sequence[np.random.Generator], method: Method) -> Tensor:
    """Return images turned, scaled and shifted, each by its own chance; what comes in from outside is mirrored."""
    maps = []
    for chance in chances:
        turn, scale = np.deg2rad(chance.uniform(-TURN_DEG, TURN_DEG)), chance.uniform(*SCALE)
        shift = chance.uniform(-2 * SHIFT, 2 * SHIFT, 2)  # affine maps count the side from -1 to 1
        maps.append(
            [
                [np.cos(turn) / scale, -np.sin(turn) / scale, shift[0]],
                [np.sin(turn) / scale, np.cos(turn) / scale, shift[1]],
            ]
        )
    grid = nn.functional.affine_grid(torch.tensor(maps, dtype=torch.float32), list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    if method == "fourier":
        return moved
    noise = np.stack([chance.standard_normal(images.shape[1:], dtype=np.float32) for chance in chances])
    return moved + NOISE * torch.tensor(noise)


@lru_cache(maxsize=1)
def colour_mixing() -> NDArray[np.float64]:
    """Return the matrix (red green blue, colour) that gives three independent planes the colours' covariance in our photographs.

    It is scaled so that its largest column has unit length.
    """
    pixels = np.concatenate([plane.reshape(3, -1) for plane in _photographs()], axis=1)
    values, vectors = np.linalg.eigh(np.cov(pixels))
    # The sign of an eigenvector is the library's choice.
    vectors = vectors * np.sign(vectors.sum(axis=0))
    mixing = vectors * np.sqrt(values)
    return np.asarray(mixing[:, ::-1] / np.linalg.norm(mixing, axis=0).max())


@lru_cache(maxsize=4)
def mean_amplitudes(size: int) -> NDArray[np.float64]:
    """Return the mean amplitude of each frequency of our photographs in decorrelated colours, (colour, row, column), for images of `size`.

    Photographs are taken at 128 px as the inverse of a sigmoid gives them; other sizes are interpolated over frequencies.
    """
    unmixed = np.linalg.inv(colour_mixing())
    total = np.zeros((3, _SPECTRUM_PX, _SPECTRUM_PX // 2 + 1))
    count = 0
    for plane in _photographs():
        clipped = np.clip(plane, 0.02, 0.98)
        total += np.abs(np.fft.rfft2(np.einsum("cd,dyx->cyx", unmixed, np.log(clipped / (1 - clipped)))))
        count += 1
    mean = total / count / _SPECTRUM_PX**2
    rows = np.abs(np.fft.fftfreq(size)) * _SPECTRUM_PX
    columns = np.minimum(np.fft.rfftfreq(size) * _SPECTRUM_PX, _SPECTRUM_PX / 2)
    # By distance from 0 alone: the mean over all directions, so that none is preferred.
    radius = np.hypot(np.fft.fftfreq(_SPECTRUM_PX)[:, None], np.fft.rfftfreq(_SPECTRUM_PX)) * _SPECTRUM_PX
    rings = np.rint(radius).astype(int).ravel()
    profile = np.stack([np.bincount(rings, plane.ravel()) / np.bincount(rings) for plane in mean])
    wanted = np.hypot(rows[:, None], columns)
    return np.stack([np.interp(wanted, np.arange(profile.shape[1]), line) for line in profile]) * size**2


@lru_cache(maxsize=1)
def _photographs() -> tuple[NDArray[np.float64], ...]:
    """Return the middle squares of all photographs, (channel, y, x) in [0, 1]."""
    found = []
    for photograph in natural.photographs():
        image = natural.load_photograph(photograph.name)
        square = whole.squares(*image.size)
        found.append(whole.shown(image, square[len(square) // 2], _SPECTRUM_PX, "bicubic").astype(np.float64))
    return tuple(found)


def unit_weights(unit: int, units: int, deviation: float = 1.0) -> NDArray[np.float64]:
    """Return the weights of one unit of a layer, in 1 / its standard deviation."""
    weights = np.zeros(units)
    weights[unit] = 1.0 / deviation
    return weights


def direction_weights(shares: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of a direction of standardised units, of unit length; units that do not vary have none."""
    return shares / np.linalg.norm(shares) * reciprocal(deviation)


def random_weights(deviation: NDArray[np.float64], *seed: int) -> NDArray[np.float64]:
    """Return the weights of a random direction of standardised units."""
    drawn = np.random.default_rng(seed).standard_normal(deviation.size)
    return direction_weights(drawn, deviation)
