"""All pairs of many layers against the machine's own rate and against named peers, in one process.

Run it with ``make benchmark``. Every figure is the best of several rounds, and engine and peers take turns within a
round, so that other processes meet all of them. The peers are measured where they are installed (``pip install
pytorch-cka ckatorch``); each is given the same threads. Ratios of one run can be compared; seconds hold for one
machine only.
"""

import argparse
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from universality import compare_all
from universality.similarity.all_pairs.plan import blas_threads, operations

TAPS, STIMULI, UNITS = 64, 2000, 256
PAIRS = TAPS * (TAPS - 1) // 2
TABLE = ("cka_linear_debiased", "svcca_variance99", "procrustes_orthogonal", "rsa_correlation_pearson")


def activations(taps: int, stimuli: int, units: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rectified mixtures of latent directions whose variance falls with their rank, as activations have it."""
    rng = np.random.default_rng(seed)
    fall = (np.arange(1, units + 1) ** -0.75).astype(np.float32)[:, None]
    shared = rng.standard_normal((stimuli, units), dtype=np.float32)
    layers = {}
    for i in range(taps):
        latent = 0.5 * shared + rng.standard_normal((stimuli, units), dtype=np.float32)
        layers[f"tap{i}"] = np.maximum(latent @ (fall * rng.standard_normal((units, units), dtype=np.float32)), 0.0)
    return layers


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def best(
    contestants: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the shortest time of each; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            times[name].append(seconds(work, clock))
    return {name: min(values) for name, values in times.items()}


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def peers(layers: dict[str, np.ndarray]) -> dict[str, Callable[[], object]]:
    """Return what is installed: one pair by each peer, and all pairs by the peer that can stack layers."""
    tensors = [torch.from_numpy(x) for x in layers.values()]
    x, y = tensors[:2]
    found: dict[str, Callable[[], object]] = {}
    if version("pytorch-cka") != "not installed":
        from cka.cka import cka_from_features

        found["pytorch-cka cka_from_features, one pair"] = lambda: cka_from_features(x, y)
        found["pytorch-cka cka_from_features, all stacked"] = lambda: cka_from_features(
            torch.stack(tensors), torch.stack(tensors)
        )
    if version("ckatorch") != "not installed":
        from ckatorch.core import cka_base, cka_batch

        found["ckatorch cka_batch (HSIC_1), one pair"] = lambda: cka_batch(x[None], y[None])
        found["ckatorch cka_base(unbiased=True), one pair"] = lambda: cka_base(x, y, unbiased=True)
    return found


def sgemm() -> tuple[Callable[[], object], float]:
    """Return a float32 product and its operations."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), dtype=np.float32)
    b = a[::-1].copy()
    return lambda: a @ b, 2.0 * 2048**3


def all_pairs(rounds: int) -> None:
    layers = activations(TAPS, STIMULI, UNITS)
    product, product_operations = sgemm()
    times = best({"sgemm": product, "engine": lambda: compare_all(layers), **peers(layers)}, rounds)
    rate = product_operations / times["sgemm"]
    needed = min(operations(STIMULI, [UNITS] * TAPS).values())
    each = times["engine"] / PAIRS
    print(f"\nDebiased linear CKA, {TAPS} taps x {STIMULI} stimuli x {UNITS} units, {PAIRS} pairs, float32 products")
    print(f"sgemm: {rate / 1e9:.0f} Gflop/s; the engine needs {needed / 1e9:.0f} Gflop")
    print(
        f"engine: {times['engine']:.3f} s, {1e3 * each:.3f} ms a pair, {needed / times['engine'] / rate:.0%} of sgemm"
    )
    for name in peers(layers):
        peer = times[name] / (PAIRS if "stacked" in name else 1)
        print(f"{name}: {1e3 * peer:.2f} ms a pair, {peer / each:.0f} times the engine's")
    exact = compare_all(layers, TABLE, dtype="float64")
    rough = compare_all(layers, TABLE)
    for name in TABLE:
        print(
            f"largest difference of float32 and float64, {name}: {np.abs(rough.values[name] - exact.values[name]).max():.1e}"
        )
    several = {"cka": TABLE[:1], "SVCCA + Procrustes": TABLE[1:3], "CKA + SVCCA + Procrustes + RSA": TABLE}
    runs = {name: lambda chosen=chosen: compare_all(layers, chosen) for name, chosen in several.items()}
    whole, busy = (best(runs, min(rounds, 3), clock) for clock in (time.perf_counter, time.process_time))
    for name in list(several)[1:]:
        print(
            f"{name}: {whole[name]:.2f} s, {whole[name] / whole['cka']:.1f} times CKA alone "
            f"({busy[name] / busy['cka']:.1f} in processor time)"
        )
    products = STIMULI * (TAPS * UNITS) ** 2
    print(f"the products of SVCCA + Procrustes alone have {products / needed:.1f} times the operations of CKA")


def matching(rounds: int) -> None:
    layers = activations(2, 10_000, 2048)
    a, b = layers.values()
    r = np.corrcoef(a[:, :2048].T, b.T)[:2048, 2048:]
    times = best(
        {
            "product": lambda: a.T @ b,
            "assignment": lambda: linear_sum_assignment(r, maximize=True),
            "engine": lambda: compare_all(layers, ["unit_match_hungarian"]),
        },
        rounds,
    )
    bare = times["product"] + times["assignment"]
    print("\nUnit matching, 2,048 x 2,048 units, 10,000 stimuli")
    print(
        f"sgemm {times['product']:.2f} s + assignment {times['assignment']:.2f} s; engine {times['engine']:.2f} s, "
        f"{times['engine'] / bare:.2f} times their sum"
    )


def memory(folder: Path) -> None:
    print("\nPeak memory beside the layers, 8 taps of 64 units on disk, memory_limit 64 MiB, all measures of the table")
    for stimuli in (1_000, 10_000, 100_000):
        path = folder / f"{stimuli}.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (stimuli, 8 * 64))
        rng = np.random.default_rng(0)
        for start in range(0, stimuli, 1000):
            mapped[start : start + 1000] = rng.standard_normal((1000, 8 * 64), dtype=np.float32)
        layers = {f"tap{i}": mapped[:, 64 * i : 64 * (i + 1)] for i in range(8)}
        tracemalloc.start()
        took = seconds(lambda layers=layers: compare_all(layers, TABLE, memory_limit="64 MiB"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{stimuli} stimuli: {peak / 2**20:.1f} MiB, {took:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=blas_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "torch", "pytorch-cka", "ckatorch"))
    print(f"{platform.machine()}, {options.threads} threads; Python {platform.python_version()}, {packages}")
    with threadpool_limits(options.threads, user_api="blas"), tempfile.TemporaryDirectory() as folder:
        all_pairs(options.rounds)
        matching(min(options.rounds, 3))
        memory(Path(folder))


if __name__ == "__main__":
    main()
