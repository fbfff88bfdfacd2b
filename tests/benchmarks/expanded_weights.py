"""Weights of all units between two taps, beside the bare backward passes that they take, in one process: run it with ``make benchmark``.

The bare passes are one call of the library's backward pass for each unit of the later tap, on the same network made linear, with nothing labelled, cut or checked. Both take turns. Seconds
are those of the clock and those of the processor: beside other programs only the latter say something of the code.
"""

import os
import time
from collections.abc import Callable

import torch

import universality
from universality.circuits import expanded, kept
from universality.circuits.linear import Linearised
from universality.models import catalogue, hooks, zoo

MODEL, FIRST, SECOND = "package/efficientnet_lite0", "blocks.3.1.bn2", "blocks.4.1.bn2"
ROUNDS = 3
LIMIT_S = 10.0


def took(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    kept.LEAST_BYTES = 1 << 60  # what is kept would be read the second time
    card = catalogue.card(MODEL)
    network, first, second = zoo.pretrained(card), card.tap(FIRST), card.tap(SECOND)
    held: dict[str, torch.Tensor] = {}

    def sink(_: object, maps: torch.Tensor) -> None:
        if "a" in held:
            held["b"] = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
            raise hooks.StopForward

    def bare() -> None:
        held.clear()
        handle = expanded._leaf(network, first, held)
        with zoo.frozen(network), torch.enable_grad(), hooks.watching(network, [second], sink), Linearised():
            hooks.forward(network, torch.zeros(1, *card.preprocessing.shape))
        handle.remove()
        for answer in held["b"]:
            torch.autograd.grad(answer, held["a"], retain_graph=True)

    def whole() -> None:
        universality.expanded_weights(MODEL, FIRST, SECOND)

    print(
        f"{MODEL}, {FIRST} ({first.channels} units) -> {SECOND} ({second.channels} units), {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    best = {}
    for work in (bare, whole):
        best[work.__name__] = min((took(work) for _ in range(ROUNDS)), key=lambda of: of[1])
        wall, processor = best[work.__name__]
        print(f"{work.__name__:>6}: {wall:6.2f} s, processor {processor:6.2f} s (best of {ROUNDS})")
    print(
        f"ratio of processor seconds {best['whole'][1] / best['bare'][1]:.2f}; asked: below {LIMIT_S:.0f} s on two idle cores"
    )


if __name__ == "__main__":
    main()
