"""Where in a unit's field a group of sources excites it, and where it inhibits it: "windows above, wheels below".

A layout is the mean weight from a group of sources, square by square around the middle of the field (`profiles.placed`): in the frame of the image for one unit, in each unit's own
frame for a family. What it is read by:

- *weight*: its sum, above 0 where the group excites.
- *side*: ``sum(w (x, y)) / sum(|w|)``, px: where excitation lies, opposite to where inhibition lies.
- *asymmetry*: the share of its squares' sum that changes sign when it is turned by half a turn, ``sum((w(x, y) - w(-x, -y))^2) / (4 sum(w^2))``: 0 where both sides are
  alike, 1 where one is the other's opposite.

The null: labels exchanged, norms kept. As many sources, drawn from all of the layer, in the group's place, each scaled to the root mean square of the weights of the one that it stands for.

References
----------
C. Olah et al., Zoom In, Distill 2020 (the car detector: windows above, wheels below). The measures are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from universality.base.arrays import Array, Ints, reciprocal
from universality.base.errors import MeasureError
from universality.circuits.chance import p_above, p_apart
from universality.circuits.profiles import placed

PLACES = 5
"""Squares along a side."""
DRAWS = 399
"""Exchanges of labels."""


@dataclass(frozen=True)
class Layout:
    """The layout of a group of sources, and those with labels exchanged.

    Attributes
    ----------
    map : (y, x) mean weight in each square
    drawn : (draw, y, x) the same with labels exchanged
    side_px : of a square, px of the image
    axis : whether the frame is known up to half a turn alone: maps are then the mean of both, and have no side
    """

    map: Array
    drawn: Array
    side_px: float
    axis: bool = False

    @property
    def weight(self) -> float:
        """The sum of the map."""
        return float(self.map.sum())

    @cached_property
    def side(self) -> tuple[float, float]:
        """Where excitation lies: direction, degrees clockwise from +x of the frame, 0 to 360, and distance from the middle, px; NaN of an axis or a map without weights."""
        size = float(np.abs(self.map).sum())
        if self.axis or size == 0:
            return float("nan"), float("nan")
        along = (np.arange(len(self.map)) - (len(self.map) - 1) / 2) * self.side_px
        x, y = float((self.map * along).sum() / size), float((self.map * along[:, None]).sum() / size)
        return float(np.rad2deg(np.arctan2(y, x)) % 360), float(np.hypot(x, y))

    @property
    def asymmetry(self) -> float:
        """The share of the map that changes sign when it is turned by half a turn, 0 to 1; NaN of an axis or a map without weights."""
        return float("nan") if self.axis else float(_asymmetry(self.map[None])[0])

    def summary(self) -> dict[str, float]:
        """Return weight, side and asymmetry beside those with labels exchanged."""
        weights = self.drawn.sum(axis=(1, 2))
        low, high = np.quantile(weights, [0.025, 0.975]) if weights.size else (np.nan, np.nan)
        odd = _asymmetry(self.drawn) if not self.axis else np.zeros(0)
        odd = odd[np.isfinite(odd)]
        direction, distance = self.side
        return {
            "weight": self.weight, "weight_null_low": float(low), "weight_null_high": float(high), "p_weight": p_apart(self.weight, weights),
            "side_deg": direction, "side_px": distance, "asymmetry": self.asymmetry, "asymmetry_null": float(odd.mean()) if odd.size else np.nan,
            "asymmetry_null_95": float(np.quantile(odd, 0.95)) if odd.size else np.nan, "p_asymmetry": p_above(self.asymmetry, odd),
        }  # fmt: skip


def _asymmetry(maps: Array) -> Array:
    turned = maps[:, ::-1, ::-1]
    total = np.square(maps).sum(axis=(1, 2))
    found = np.square(maps - turned).sum(axis=(1, 2)) / 4 * reciprocal(total)
    return np.asarray(np.where(total > 0, found, np.nan))


def side_of(weights: xr.DataArray, places: int = PLACES) -> float:
    """Return the side of a square, px, with which `places` of them hold every offset that weights are at."""
    steps = [np.diff(weights[name].values) for name in ("dy", "dx")]
    stride = max((float(step.max()) for step in steps if step.size), default=1.0)
    reach = max(float(np.abs(weights[name].values).max(initial=0.0)) for name in ("dy", "dx"))
    return max(stride, 2 * reach / (places - 1))


def layout(
    weights: xr.DataArray,
    group: ArrayLike,
    angle_deg: ArrayLike = 0.0,
    *,
    axis: bool = False,
    counts: ArrayLike | None = None,
    others: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Layout:
    """Return where a group of sources excites and inhibits targets.

    Parameters
    ----------
    weights : DataArray, (unit_b, unit_a, dy, dx)
        As `expanded_weights` gives them, in units that make targets comparable; the mean over targets is taken.
    group : (source,) numbers of units of tap A
    angle_deg : by which each target's frame is turned, degrees; 0 for the frame of the image
    axis : whether the frames are known up to half a turn alone (angles that repeat after 180 degrees)
    counts : (target, source of the group), optional
        How often each source counts for each target, 0 or more; once when left out.
    others : (unit,) numbers of the units that the null takes, optional
        Beside the group itself; all units of tap A that have weights when left out.
    draws, seed : of the null

    Raises
    ------
    MeasureError
        The group is empty, names a unit that tap A has not, or nothing is left to draw from.
    """
    chosen = np.asarray(group, dtype=np.int64)
    known = np.asarray(weights["unit_a"].values)
    if not chosen.size or not np.isin(chosen, known).all():
        missing = "no unit" if not chosen.size else f"unit {chosen[~np.isin(chosen, known)][0]}, which the tap has not"
        raise MeasureError(f"the group of sources holds {missing}, expected some of the {known.size} units of tap A")
    turned = np.broadcast_to(np.asarray(angle_deg, dtype=np.float64), weights.shape[:1])
    return of_squares(
        placed_in(weights, turned, axis),
        known,
        chosen,
        side_of(weights),
        axis=axis,
        counts=counts,
        others=others,
        draws=draws,
        seed=seed,
    )


def placed_in(weights: xr.DataArray, angle_deg: Array, axis: bool) -> Array:
    """Return weights (target, source, place) in squares, in the targets' frames; of axes the mean of both ways round."""
    values = placed(weights, angle_deg, side_of(weights), PLACES, disc=bool(np.any(angle_deg)))
    return np.asarray((values + values[..., ::-1]) / 2) if axis else values


def of_squares(
    values: Array, known: NDArray[np.int64], group: Ints, side_px: float, *, axis: bool = False, counts: ArrayLike | None = None,
    others: ArrayLike | None = None, draws: int = DRAWS, seed: int = 0,
) -> Layout:  # fmt: skip
    """Return `layout` from weights (target, source, place) that are in squares already; `known` has the sources' numbers."""
    place = {int(unit): k for k, unit in enumerate(known)}
    own = np.array([place[int(unit)] for unit in group])
    size = np.sqrt(np.square(values).mean(axis=(0, 2)))
    # The group is among what it could be: without it the null would lie too far away, and half of a layer too far from the other half.
    could = known if others is None else np.union1d(np.asarray(others, dtype=np.int64), group)
    pool = np.array([k for k in (place[int(unit)] for unit in could) if size[k] > 0], dtype=np.int64)
    if pool.size <= own.size:
        raise MeasureError(
            "no source beside the group has weights to draw a null from; leave some units out of the group"
        )
    often = np.ones((len(values), own.size)) if counts is None else np.asarray(counts, dtype=np.float64)
    often = often / often.sum()
    rng = np.random.default_rng(seed)
    picks = np.stack([rng.permutation(pool)[: own.size] for _ in range(draws)])
    scale = size[own][None] / size[picks]
    own_map, drawn = np.zeros(values.shape[2]), np.zeros((draws, values.shape[2]))
    for target, weight in zip(values, often, strict=True):
        if weight.any():
            own_map += weight @ target[own]
            drawn += np.einsum("dg,dgp->dp", weight * scale, target[picks])
    places = round(values.shape[2] ** 0.5)
    return Layout(own_map.reshape(places, places), drawn.reshape(draws, places, places), side_px, axis)
