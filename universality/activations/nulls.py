"""How many nulls of each kind a job asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NullPlan:
    """How many nulls of each kind, and their seed."""

    haar_rotations: int
    shuffles: int
    seed: int
