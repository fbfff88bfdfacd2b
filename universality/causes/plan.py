"""What decides an experiment beside the networks, and how its result is read."""

from __future__ import annotations

from dataclasses import dataclass

BASES = ("resample", "mean", "zero")
"""What stands for a removed unit. Zero is never alone: far from what a unit answers, it may harm by itself."""
MEASURES = ("kl", "loss", "next")
RANDOM_SETS = 12
"""Random sets of units that a family is set beside."""
NEAREST = 8
"""Other units of like activity that a unit is set beside, and that random units are drawn from."""
BOOTSTRAPS = 400


@dataclass(frozen=True)
class CausePlan:
    """How many images are shown, which families, and the seed of all draws."""

    images: int
    families: tuple[str, ...]
    seed: int
