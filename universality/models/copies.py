"""Noisy copies of a network: its own weights with noise, as strong as leaves its units a stated correlation with themselves.

What two networks share at best is what a network shares with itself. A copy is judged like any other network, so how many of its
detectors are found again, and how many pairs get a verdict, is the ceiling of every share between networks whose units are no more alike.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from universality.models import hooks, unclipped
from universality.models.card import Tap

WEAKEST, STRONGEST = 0.01, 2.0
"""Noise tried, in standard deviations of each weight tensor."""
STEPS = 7
"""Halvings of the span between them, on a logarithmic scale: the correlation is met within about 0.02."""


def noisy(network: nn.Module, taps: Sequence[Tap], r: float, seed: int, images: Iterable[np.ndarray]) -> nn.Module:
    """Return a copy of a network whose units at some taps correlate with the originals by `r` on natural images.

    Every tensor of weights (biases and normalisations aside) gets normal noise in proportion to its own standard deviation; the
    proportion is found by halving. The noise has one direction for all proportions.

    Parameters
    ----------
    taps : the mean over them of the median over units is brought to `r`, at the middle of maps
    r : 0 to 1
    images : (batch, channel, y, x) float32 batches, normalised for the network; some dozens are enough
    """
    made = copy.deepcopy(network).eval()
    weights = [tensor for tensor in made.parameters() if tensor.ndim > 1]
    generator = torch.Generator().manual_seed(seed)
    noise = [w.detach().std() * torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
    before = [w.detach().clone() for w in weights]
    batches = [torch.from_numpy(batch) for batch in images]

    def moved(much: float) -> None:
        with torch.no_grad():
            for tensor, original, drawn in zip(weights, before, noise, strict=True):
                tensor.copy_(original + much * drawn)

    answers = _answers(made, taps, batches)
    low, high = np.log([WEAKEST, STRONGEST])
    for _ in range(STEPS):
        moved(float(np.exp((low + high) / 2)))
        alike = np.mean([_median_r(x, y) for x, y in zip(answers, _answers(made, taps, batches), strict=True)])
        low, high = ((low + high) / 2, high) if alike > r else (low, (low + high) / 2)
    moved(float(np.exp((low + high) / 2)))
    return made


def _answers(network: nn.Module, taps: Sequence[Tap], batches: Sequence[Tensor]) -> list[np.ndarray]:
    """Return by tap what its units answer at the middle of their map, before a clipping: (image, unit)."""
    found: dict[str, list[np.ndarray]] = {tap.name: [] for tap in taps}

    def catch(tap: Tap, maps: Tensor) -> None:
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].double()
        found[tap.name].append(unclipped.cut(tap, middle).numpy())

    channels, height, width = batches[0].shape[1:]
    places = unclipped.places(network, taps, (channels, height, width))
    with torch.inference_mode(), hooks.watching(network, places, catch) as calls:
        for batch in batches:
            calls.clear()
            network(batch)
    return [np.concatenate(found[tap.name]) for tap in taps]


def _median_r(x: np.ndarray, y: np.ndarray) -> float:
    """Return the median over units that vary of the correlation of units with themselves; one that the noise silenced counts as 0."""
    x, y = x.astype(np.float64) - x.mean(axis=0), y.astype(np.float64) - y.mean(axis=0)
    varies = np.ptp(x, axis=0) > 0
    lengths = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    r = np.divide((x * y).sum(axis=0), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return float(np.median(r[varies])) if varies.any() else 0.0
