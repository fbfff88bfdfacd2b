"""The hand-written networks of the zoo: Gabor filters, their energy, and a drawn layer of detectors, each rectified.

Both take the images of the pocket zoo (64 px, the same normalisation). Positions lie on a grid with the middle of the image on it. What comes out is
the largest answer of each detector in the image.

What an untrained twin is of a network that was never trained: the same architecture, in which each spatial kernel has independent
normal weights of mean 0 and of the written kernel's root mean square, as initial weights are drawn. So a twin means what it means for every
other network of a table. (The written weights in another order would be no null: they inhibit on the whole, and nothing would answer.) A
harder null keeps each kernel's amplitude spectrum over space, its scale and band, and draws the phases (`kernels.phase_scrambled`).
What that leaves is half written, and the rules of the families let some of its units through: 2 and 4 of 16 boundaries, 2 and 0 of 48 arcs
with two seeds, none within 5 degrees of the written angle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from universality.base.arrays import Array
from universality.models.handwritten import kernels

GRAIN = 2.0**-20
"""Weights are whole multiples of it: the last digits of a cosine differ between machines, the weights do not."""
# Arcs: radii of curvatures 12, 8 and 5 per image side at 64 px (the stimuli's own), in steps of 2 px, the stride of the first layer.
RADII_PX = (64 / 12, 64 / 8, 64 / 5)
ARCS = 16
ARC_KERNEL = 19
# Boundaries: base frequencies of 10, 14 and 19 cycles per side are waves of 6.4 to 3.4 px, a sixth of them 38 to 20 px.
HIGH_PX, LOW_PX = 4.7, 26.0
BOUNDARIES = 16
BOUNDARY_KERNEL = 7
AXES_DEG = np.arange(6) * 30.0


class Handwritten(nn.Module):
    """Simple cells (Gabor filters, rectified), complex cells (sums over phases), and detectors (drawn, rectified).

    Parameters
    ----------
    simple : (filter, y, x)
        For the mean of the colours.
    pooled : (complex cell, filter)
    last : (detector, complex cell, y, x)
    strides : of the first and the last layer
    """

    def __init__(self, simple: Array, pooled: Array, last: Array, strides: tuple[int, int]) -> None:
        super().__init__()
        self.simple = convolution(kernels.of_grey(simple), strides[0])
        self.rectified = nn.ReLU()
        self.complex = convolution(pooled[:, :, None, None])
        self.detectors = convolution(last, strides[1])
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """Return the largest answer of each detector in the image (image, detector): which of them is there most, as a classifier says."""
        found: Tensor = self.relu(self.detectors(self.complex(self.rectified(self.simple(images)))))
        return found.amax(dim=(2, 3))


def convolution(weights: Array, stride: int = 1, bias: Array | None = None) -> nn.Conv2d:
    """Return a fixed convolution of the weights (out, in, y, x), padded by half a kernel."""
    out, into, kernel, _ = weights.shape
    made = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(np.round(weights / GRAIN) * GRAIN))
        if bias is not None and made.bias is not None:
            made.bias.copy_(torch.from_numpy(bias))
    return made.requires_grad_(False)


def curves() -> Handwritten:
    """Return arc detectors of 16 orientations at each of three radii, in this order: orientation fastest."""
    simple = kernels.gabors(10, 5.0, 2.0, kernels.TANGENTS_DEG).reshape(-1, 10, 10)
    angles = np.arange(ARCS) * (360.0 / ARCS)
    last = np.array([kernels.arc_detector(float(a), radius / 2, ARC_KERNEL) for radius in RADII_PX for a in angles])
    return Handwritten(simple, kernels.energies(len(kernels.TANGENTS_DEG), kernels.PHASES), last, (2, 2))


def high_low() -> Handwritten:
    """Return detectors of boundaries between high and low frequencies, of 16 directions."""
    bands = [kernels.gabors(30, wave, width, AXES_DEG) for wave, width in ((HIGH_PX, 2.0), (LOW_PX, 7.0))]
    simple = np.concatenate([band.reshape(-1, 30, 30) for band in bands])
    pooled = kernels.energies(len(bands), len(AXES_DEG) * kernels.PHASES) / len(AXES_DEG)
    angles = np.arange(BOUNDARIES) * (360.0 / BOUNDARIES)
    last = np.array([kernels.boundary_detector(float(a), BOUNDARY_KERNEL, 1.6) for a in angles])
    return Handwritten(simple, pooled, last, (4, 1))


ARCHITECTURES: dict[str, Callable[[], Handwritten]] = {"curves": curves, "high_low": high_low}


def written(architecture: str) -> nn.Module:
    """Return a network as it is written; raise `LookupError` for one that there is not."""
    return ARCHITECTURES[architecture]().eval()


def drawn(architecture: str) -> nn.Module:
    """Return a network whose spatial kernels are independent normal weights from Torch's generator; `LookupError` as `written`."""
    network = ARCHITECTURES[architecture]()
    with torch.no_grad():
        for layer in (network.simple, network.detectors):
            size = layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            layer.weight.copy_(size * torch.randn(layer.weight.shape))
    return network.eval()
