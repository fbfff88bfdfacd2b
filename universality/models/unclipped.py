"""Values before a clipping: behind ReLU6 every value above 6 is 6, so that images which excite a unit most cannot be told apart.

A tap that clips (`Tap.clips_at`) can be read where its nonlinearity is given its input, in the same forward pass. Cut at 0 there, values are those
of a ReLU in the nonlinearity's place, for this tap alone: what the network hands on stays clipped, and is their minimum with the ceiling. Maxima
over positions commute with the clipping, means do not.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from universality.base.errors import TapError
from universality.models.card import Size, Tap
from universality.models.nonlinearity import counterparts
from universality.models.survey import CEILINGS, Survey


def ceilings(network: nn.Module, taps: Sequence[Tap], survey: Survey) -> dict[str, float]:
    """Return by tap name where taps behind a nonlinearity clip; not of those before whose clipping the network gives nothing."""
    clipped = []
    for tap in taps:
        found = survey.at(tap.path, tap.call, tap.side, tap.item)
        if found is not None and found.clipped and tap.activation == "post":
            clipped.append(tap)
    others = counterparts(network, clipped, survey.shape) if clipped else {}
    return {name: CEILINGS[other.nonlinearity] for name, other in others.items() if other is not None}


def places(network: nn.Module, taps: Sequence[Tap], size: Size) -> tuple[Tap, ...]:
    """Return where each tap is read: one that clips before its nonlinearity, under its own name, all others where they are.

    Raises
    ------
    TapError
        A tap is said to clip, and no nonlinearity of this network that does so gives its values.
    """
    clipping = [tap for tap in taps if tap.clips_at is not None]
    if not clipping:
        return tuple(taps)
    others = counterparts(network, clipping, size)
    read = {}
    for tap in clipping:
        other = others[tap.name]
        if other is None or CEILINGS.get(other.nonlinearity) != tap.clips_at:
            came = "none does" if other is None else f"'{other.nonlinearity}' makes them"
            raise TapError(
                f"tap '{tap.name}' states clips_at = {tap.clips_at:g}, expected a nonlinearity that clips its values there, {came}; correct the card"
            )
        moved = {"name": tap.name, "clips_at": tap.clips_at}
        read[tap.name] = other.tap.model_copy(update=moved)
    return tuple(read.get(tap.name, tap) for tap in taps)


def cut(tap: Tap, values: Tensor) -> Tensor:
    """Return values that were read at one of `places`: those before a clipping are cut at 0, all others stay as they are."""
    return values if tap.clips_at is None else values.clamp(min=0)
