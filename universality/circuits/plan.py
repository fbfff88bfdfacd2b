"""What decides the comparison of circuits beside the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WeightKind = Literal["linear", "mean_gradient"]
"""What stands for the weights between two taps: products over all paths, or the mean of the gradients at natural images."""

TAPS_BACK = 2
"""How many connected taps before a unit's own its sources are taken from, one after another."""


@dataclass(frozen=True)
class CircuitPlan:
    """Which families, the seed of all draws, and what stands for weights where units of two networks are compared."""

    families: tuple[str, ...]
    seed: int
    weights: WeightKind = "linear"
