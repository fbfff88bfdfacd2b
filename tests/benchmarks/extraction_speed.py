"""Extraction speed as a ratio to the bare forward pass, in one process: run it with ``make benchmark``.

The bare pass is the same network in channels_last, on the same batches, stopped at the same tap, with nothing recorded.
It is measured with the C library's own settings and with freed memory kept, because extraction asks for the latter. The
passes take turns, so that a drift of the machine's speed meets all of them.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from universality.activations import extraction
from universality.activations.spec import ExtractionSpec
from universality.base import memory
from universality.models import catalogue, hooks, zoo

MODEL = "package/efficientnet_lite0"
TAPS = ("blocks.2.1.bn2", "blocks.3.1.bn2", "blocks.3.2.bn2", "blocks.4.1.bn2")
IMAGES = 320
ROUNDS = 5


def stop(*_: object) -> None:
    raise hooks.StopForward


def main() -> None:
    card = catalogue.card(MODEL)
    spec = ExtractionSpec(reduction="center")
    network = zoo.pretrained(card).to(memory_format=torch.channels_last)
    taps = [card.tap(name) for name in TAPS]
    size = card.preprocessing.size_px
    images = np.random.default_rng(0).random((IMAGES, 3, size, size), dtype=np.float32)
    batches = [images[start : start + spec.batch_size] for start in range(0, IMAGES, spec.batch_size)]

    def bare() -> None:
        handle = hooks.module_at(network, TAPS[-1]).register_forward_hook(stop)
        try:
            with torch.inference_mode():
                for batch in batches:
                    hooks.forward(network, torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
        finally:
            handle.remove()

    def recorded() -> None:
        extraction.collect(extraction.extract(network, taps, batches, spec, size))

    def rate(work: Callable[[], None]) -> float:
        started = time.perf_counter()
        work()
        return IMAGES / (time.perf_counter() - started)

    bare()
    default = float(np.median([rate(bare) for _ in range(ROUNDS)]))
    memory.keep_freed_memory()
    recorded()
    pairs = np.array([(rate(bare), rate(recorded)) for _ in range(ROUNDS)])
    ratios = pairs[:, 1] / pairs[:, 0]
    print(f"{MODEL} to {TAPS[-1]}, {len(TAPS)} taps, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"bare forward, C library's own settings: {default:.0f} images/s")
    print(f"bare forward, freed memory kept:        {np.median(pairs[:, 0]):.0f} images/s")
    print(f"extraction:                             {np.median(pairs[:, 1]):.0f} images/s")
    print(
        f"extraction / bare forward, pair by pair: median {np.median(ratios):.2f} "
        f"(from {ratios.min():.2f} to {ratios.max():.2f})"
    )
    print(f"extraction / bare forward with the C library's own settings: {np.median(pairs[:, 1]) / default:.2f}")


if __name__ == "__main__":
    main()
