"""Two published statements about weights, put to the test: pass or fail.

Usage: python analyses/circuits/published.py [--run DIR] [--store DIR]

1. Curve circuits (N. Cammarata et al., Curve circuits, Distill 2021): weights between curve detectors fall with the difference of their orientations, from 0.73 at 0 degrees to
   -1 at 180 (their hand-written circuit). Passes in a network whose profile (of the job circuits) correlates with that one above 95 % of exchanges of its values.
2. Master filters (arXiv 2509.11711): depthwise 3 x 3 kernels of trained networks are eight filters up to a x + b. Passes in a network of which eight clusters of kernels (each less its
   mean, of length one, either sign) hold more of the variance than in each of five draws of as many random kernels, and at least 0.8 of it.

Both rules were written down before any of these numbers was looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import nn

import universality
from universality.models import catalogue, zoo

REFERENCE = {0: 0.73, 45: 0.17, 90: 0.0, 135: -0.23, 180: -1.0, 225: -0.23, 270: 0.0, 315: 0.17}
"""Weights of the hand-written curve circuit by the difference of orientations, read from the article's figure, degrees."""
NETWORKS = ("package/efficientnet_lite0", "package/efficientnet_lite1", "package/efficientnet_lite2")
FILTERS = 8
LEAST_SHARE = 0.8


def curve_circuits(run: universality.Run) -> Iterator[str]:
    """Yield the first check for every network with a profile of curve detectors into curve detectors."""
    rows = run.table("profiles").query("source_family == 'curve' and target_family == 'curve'")
    rng = np.random.default_rng(0)
    for (model, tap), of in rows.groupby(["model", "target_tap"], sort=False):
        expected = of["difference_deg"].map(REFERENCE).to_numpy()
        if len(of) < len(REFERENCE):
            yield f"curve circuits, {model} {tap}: not asked, {len(of)} of {len(REFERENCE)} differences of angles have sources"
            continue
        drawn = np.array([np.corrcoef(expected, rng.permutation(of["weight"]))[0, 1] for _ in range(999)])
        r, bound = np.corrcoef(expected, of["weight"])[0, 1], np.quantile(drawn, 0.95)
        yield f"curve circuits, {model} {tap}: {'pass' if r > bound else 'fail'}, r {r:.2f} with the published profile (95 % of exchanges below {bound:.2f})"


def kernels_of(network: nn.Module) -> NDArray[np.float64]:
    """Return all depthwise 3 x 3 kernels, (kernel, 9), each less its mean and of length one."""
    found = [
        part.weight.detach().double().numpy().reshape(-1, 9)
        for part in network.modules()
        if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1 and part.kernel_size == (3, 3)
    ]
    values = np.concatenate(found)
    return normalised(values)


def normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return kernels less their mean, of length one."""
    less = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(less, axis=1)
    return less[length > 0] / length[length > 0, None]


def share_held(kernels: NDArray[np.float64]) -> float:
    """Return the share of variance, 0 to 1, that eight filters of either sign hold: the mean of r squared with the nearest one."""
    # A kernel and its opposite are one: their outer products are the same point.
    outer = np.einsum("ki,kj->kij", kernels, kernels).reshape(len(kernels), -1)
    centres = KMeans(FILTERS, n_init=4, random_state=0).fit(outer).cluster_centers_.reshape(FILTERS, 9, 9)
    filters = np.linalg.eigh(centres)[1][:, :, -1]
    return float(np.square(kernels @ filters.T).max(axis=1).mean())


def master_filters() -> Iterator[str]:
    """Yield the second check for every network."""
    for name in NETWORKS:
        kernels = kernels_of(zoo.pretrained(catalogue.card(name)))
        share, rng = share_held(kernels), np.random.default_rng(0)
        # As many random kernels vary by less than a thousandth from draw to draw.
        random = [share_held(normalised(rng.standard_normal((len(kernels), 9)))) for _ in range(5)]
        passed = share >= LEAST_SHARE and share > max(random)
        yield (
            f"master filters, {name}: {'pass' if passed else 'fail'}, eight filters hold {share:.2f} of the variance of {len(kernels)} depthwise 3 x 3 kernels "
            f"(asked: {LEAST_SHARE}; random kernels {np.mean(random):.2f})"
        )


def main() -> None:
    """Print both checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("data/runs/circuits"))
    parser.add_argument("--store", type=Path, default=None)
    given = parser.parse_args()
    for line in (*curve_circuits(universality.open_run(given.run, given.store)), *master_filters()):
        print(f"- {line}")


if __name__ == "__main__":
    main()
