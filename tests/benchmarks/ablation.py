"""What passes that start at the tap save: every unit of one tap of a pocket network removed, over 500 images.

    python tests/benchmarks/ablation.py [--images 500]

Asked: all units of one tap within 60 s on two cores. Prints processor seconds of one thread, from the tap and as whole passes (some units, times what is left out), and whether both give the same to the bit.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from universality.causes.ablations import instead
from universality.causes.passes import Passes
from universality.models import catalogue, zoo
from universality.models.pocket import shapes
from universality.stimuli import sets

NETWORKS = {
    "pocket/vgg-focus-s0": "features.13",
    "pocket/resnet-focus-s0": "layer2.1",
    "pocket/inceptionv1-focus-s0": "inception3b",
    "pocket/alexnet-focus-s0": "features.9",
}
WHOLE = 4
"""Units that whole passes are timed on."""


def seconds(passes: Passes, units: int) -> tuple[float, list[np.ndarray]]:
    """Return the processor seconds of removing the first units one by one, and the answers."""
    standing, found = instead(passes.maps, "resample", 0), []
    start = time.process_time()
    for unit in range(units):
        found.append(passes.with_units([unit], standing[:, [unit]]).log_p)
    return time.process_time() - start, found


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    images = parser.parse_args().images
    torch.set_num_threads(1)
    drawn = np.moveaxis(shapes.render(shapes.sample_parameters(images, 141, "focus")), 3, 1).astype(np.float32) / 255
    print("network, tap: units, s from the tap, s of whole passes, gain, equal to the bit")
    for name, tap in NETWORKS.items():
        card = catalogue.card(name)
        shown = sets.normalise(drawn, card.preprocessing)
        shared, whole = (
            Passes(zoo.pretrained(card), card.tap(tap), None, shown, shared=share) for share in (True, False)
        )
        units = card.tap(tap).channels
        took, answers = seconds(shared, units)
        slow, others = seconds(whole, WHOLE)
        same = all(np.array_equal(x, y) for x, y in zip(answers, others, strict=False))
        slow *= units / WHOLE
        print(f"{name}, {tap}: {units}, {took:.1f}, {slow:.1f}, {slow / took:.1f}, {same}")


if __name__ == "__main__":
    main()
