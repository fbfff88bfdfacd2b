"""What looking at units costs: feature visualisation a unit, against bare passes of the same network.

    python tests/benchmarks/seeing.py

Prints seconds on all cores, and ratios to bare forward and backward passes of as many images, taken in the same run.
"""

from __future__ import annotations

import sys
import tempfile
import time

import torch

import universality
from universality.models import catalogue, zoo

CASES = {
    "pocket/vgg-focus-s0": ("features.13", (7, 22, 16, 27, 61, 19, 58, 40)),
    "package/efficientnet_lite0": ("blocks.4.1.bn2", (472, 525, 9, 268)),
}


def bare(model: str, images: int, repeats: int) -> float:
    """Return the seconds of forward and backward passes of a whole network with so many images, each repeat."""
    card = catalogue.card(model)
    network = zoo.pretrained(card).requires_grad_(False)
    batch = torch.randn(images, *card.preprocessing.shape, requires_grad=True)
    network(batch).sum().backward()
    begun = time.perf_counter()
    for _ in range(repeats):
        network(batch).sum().backward()
    return (time.perf_counter() - begun) / repeats


def main() -> int:
    """Measure and print."""
    steps = 256
    for model, (tap, units) in CASES.items():
        step = bare(model, len(units), 3)
        with tempfile.TemporaryDirectory() as store:
            begun = time.perf_counter()
            universality.visualise(model, [f"{tap}:{unit}" for unit in units], steps=steps, store=store)
            took = time.perf_counter() - begun
        # One more image, of the random direction, is made beside them.
        each = took / (len(units) + 1)
        print(
            f"visualise {model} {tap}: {each:.1f} s an image of {steps} steps, {took / (steps * step):.2f} of bare passes of the whole network"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
