"""Noisy copies of a network: its own weights with noise, as strong as leaves its units a stated correlation with themselves.

What two networks share at best is what a network shares with itself. A copy is judged like any other network, so how many of its
detectors are found again, and how many pairs get a verdict, is the ceiling of every share between networks whose units are no more alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from universality.base import memory
from universality.base.errors import WeightsError
from universality.models import hooks, unclipped
from universality.models.card import Tap

WEAKEST, STRONGEST = 0.01, 2.0
"""Noise tried, in standard deviations of each weight tensor."""
FIRST = 0.1
"""Noise tried first, in the same measure."""
CLOSE = 0.01
"""The correlation is met when it is so near."""
STEPS = 8
"""Amounts of noise tried at most; three or four are usual."""


def noisy(network: nn.Module, taps: Sequence[Tap], r: float, seed: int, images: Iterable[np.ndarray]) -> nn.Module:
    """Return a copy of a network whose units at some taps correlate with the originals by `r` on natural images.

    Every tensor of weights (biases and normalisations aside) gets normal noise in proportion to its own standard deviation. The
    proportion s is found from what trials leave: a signal with s times an independent noise correlates with itself by
    ``1 / sqrt(1 + (k s)^2)``, and after several layers by something of that form. The noise has one direction for all proportions.

    Parameters
    ----------
    taps : the mean over them of the median over units is brought to `r`, at the middle of maps
    r : above 0, below 1
    images : (batch, channel, y, x) float32 batches, normalised for the network; some dozens are enough

    Raises
    ------
    WeightsError
        If the network has no weights that could get noise: its copy would be itself.
    """
    made = copy.deepcopy(network).eval()
    # One number has no standard deviation.
    weights = [tensor for tensor in made.parameters() if tensor.ndim > 1 and tensor.numel() > 1]
    if not weights:
        raise WeightsError(
            "the network has no weights that could get noise, expected a parameter of two dimensions or more; name the networks to be copied in nulls.copied, without it"
        )
    generator = torch.Generator().manual_seed(seed)
    noise = [w.detach().std() * torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    before = [w.detach().clone() for w in weights]
    batches = [torch.from_numpy(batch).contiguous(memory_format=torch.channels_last) for batch in images]
    made = made.to(memory_format=torch.channels_last)
    channels, height, width = batches[0].shape[1:]
    places = unclipped.places(made, taps, (channels, height, width))

    def moved(much: float) -> None:
        with torch.no_grad():
            for tensor, original, drawn in zip(weights, before, noise, strict=True):
                tensor.copy_(original + much * drawn)

    memory.keep_freed_memory()
    answers = _answers(made, places, batches)
    tried: dict[float, float] = {}
    while True:
        much = _next(tried, r)
        moved(much)
        alike = np.mean([_median_r(x, y) for x, y in zip(answers, _answers(made, places, batches), strict=True)])
        tried[much] = float(alike)
        if abs(alike - r) <= CLOSE:
            return made
        if len(tried) == STEPS:
            moved(min(tried, key=lambda trial: abs(tried[trial] - r)))
            return made


def _next(tried: Mapping[float, float], r: float) -> float:
    """Return the noise to try next, from what each one tried has left."""
    if not tried:
        return FIRST
    low = max((much for much, left in tried.items() if left > r), default=WEAKEST)
    high = min((much for much, left in tried.items() if left <= r), default=STRONGEST)
    # On logarithmic scales noise against 1 / r^2 - 1 is a straight line, of slope 2 where a signal meets noise once.
    points = [(np.log(much), np.log(left**-2 - 1)) for much, left in tried.items() if 0 < left < 1][-2:]
    if points:
        (x, y), slope = points[-1], 2.0
        if len(points) == 2 and (points[1][1] - points[0][1]) * (points[1][0] - points[0][0]) > 0:
            slope = (points[1][1] - points[0][1]) / (points[1][0] - points[0][0])
        # Compared as a logarithm: where noise changes next to nothing the line leads beyond any number.
        fitted = x + (np.log(r**-2 - 1) - y) / slope
        if np.log(low) < fitted < np.log(high):
            return float(np.exp(fitted))
    # Where so much noise leaves nothing, or the line misses what is known already, the middle is tried.
    return float(np.sqrt(low * high))


def _answers(network: nn.Module, places: Sequence[Tap], batches: Sequence[Tensor]) -> list[np.ndarray]:
    """Return by tap what its units answer at the middle of their map, before a clipping: (image, unit)."""
    found: dict[str, list[np.ndarray]] = {tap.name: [] for tap in places}
    caught: set[str] = set()

    def catch(tap: Tap, maps: Tensor) -> None:
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].double()
        found[tap.name].append(unclipped.cut(tap, middle).numpy())
        caught.add(tap.name)
        if len(caught) == len(found):
            raise hooks.StopForward

    with torch.inference_mode(), hooks.watching(network, places, catch) as calls:
        for batch in batches:
            calls.clear()
            caught.clear()
            hooks.forward(network, batch)
    return [np.concatenate(found[tap.name]) for tap in places]


def _median_r(x: np.ndarray, y: np.ndarray) -> float:
    """Return the median over units that vary of the correlation of units with themselves; one that the noise silenced counts as 0."""
    x, y = x.astype(np.float64) - x.mean(axis=0), y.astype(np.float64) - y.mean(axis=0)
    varies = np.ptp(x, axis=0) > 0
    lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    r = np.divide((x * y).sum(axis=0), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return float(np.median(r[varies])) if varies.any() else 0.0
