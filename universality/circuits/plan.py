"""What decides the comparison of circuits beside the networks."""

from __future__ import annotations

from dataclasses import dataclass

TAPS_BACK = 2
"""How many connected taps before a unit's own its sources are taken from, one after another."""


@dataclass(frozen=True)
class CircuitPlan:
    """Which families, and the seed of all draws."""

    families: tuple[str, ...]
    seed: int
