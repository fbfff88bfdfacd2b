"""How the time of all pairs grows with stimuli, units, taps and models: draws ``docs/benchmark_growth.png``.

Run it with ``make benchmark``. Each point is the best of several rounds; the line is proportional to the operations that
the cheaper space needs, set to the best rate of the panel, so a point above the line is time not spent in products.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

from universality import compare_all
from universality.similarity.all_pairs.plan import choose_space, make_plan, operations

TARGET = Path(__file__).parents[2] / "docs" / "benchmark_growth.png"
# What grows, and (taps, stimuli, units) for each of its values; a model has 8 taps.
PANELS = {
    "stimuli": {n: (16, n, 128) for n in (250, 500, 1000, 2000, 4000, 8000, 16000)},
    "units a tap": {p: (16, 1000, p) for p in (16, 32, 64, 128, 256, 512, 1024)},
    "taps": {taps: (taps, 1000, 128) for taps in (2, 4, 8, 16, 32, 64, 128)},
    "models of 8 taps": {models: (8 * models, 1000, 128) for models in (1, 2, 4, 8, 16)},
}
COLOURS = {"gram": "#1f5a99", "feature": "#c2571a"}
MARKERS = {"gram": "o", "feature": "s"}


def seconds(taps: int, stimuli: int, units: int, rounds: int) -> float:
    rng = np.random.default_rng(0)
    layers = {f"tap{i}": rng.standard_normal((stimuli, units), dtype=np.float32) for i in range(taps)}
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        compare_all(layers)
        times.append(time.perf_counter() - started)
    return min(times)


def draw(axes: plt.Axes, label: str, cases: dict[int, tuple[int, int, int]], rounds: int) -> None:
    sizes = np.array(list(cases))
    took = np.array([seconds(*case, rounds) for case in cases.values()])
    needed = np.array([min(operations(n, [p] * taps).values()) for taps, n, p in cases.values()], dtype=float)
    spaces = np.array([choose_space(make_plan(n, [p] * taps, 4, 2**30, 1)) for taps, n, p in cases.values()])
    axes.plot(sizes, needed * (took / needed).min(), color="0.6", linewidth=1, label="operations")
    for space, colour in COLOURS.items():
        there = spaces == space
        if there.any():
            axes.plot(sizes[there], took[there], MARKERS[space], color=colour, markersize=4, label=f"{space} space")
    axes.set(xscale="log", yscale="log", xlabel=label)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
    axes.minorticks_off()
    axes.set_title(fixed(label))
    axes.legend(frameon=False, loc="upper left")
    print(label, dict(zip(sizes.tolist(), np.round(took, 4).tolist(), strict=True)), spaces.tolist())


def fixed(label: str) -> str:
    """Return what stays the same in a panel, in words."""
    parts = {"taps": "16 taps", "stimuli": "1,000 stimuli", "units": "128 units"}
    varied = {"stimuli": ("stimuli",), "units a tap": ("units",)}.get(label, ("taps",))
    return ", ".join(text for name, text in parts.items() if name not in varied)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    plt.rcParams.update({"font.size": 7, "axes.titlesize": 7, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(2, 2, figsize=(183 / 25.4, 120 / 25.4), layout="constrained", sharey=True)
    for panel, (label, cases) in zip(axes.flat, PANELS.items(), strict=True):
        draw(panel, label, cases, rounds)
    figure.supylabel("seconds for debiased CKA of all pairs", fontsize=7)
    figure.savefig(TARGET, dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
