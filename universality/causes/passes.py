"""A network that is shown the same images again and again with other maps at one tap: what it answers, and what becomes of the next tap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from universality.base.arrays import Array, reciprocal
from universality.base.errors import TapError
from universality.models.card import Tap
from universality.models.restarting import Passed, Restarting

BATCH = 108


@dataclass(frozen=True)
class Answers:
    """What a network answered.

    Attributes
    ----------
    log_p : (image, class) logarithms of the probabilities, natural
    change : (image, unit) squared change of the next tap's units, over their variance, mean over positions, NaN of one that does not vary; None where no next
        tap is read
    """

    log_p: Array
    change: Array | None

    @property
    def choice(self) -> NDArray[np.int64]:
        """The class that it chose, (image,)."""
        return np.asarray(self.log_p.argmax(axis=1), dtype=np.int64)


class Passes:
    """Images that a network was shown, ready to be shown again.

    Parameters
    ----------
    network : in eval mode; its memory layout becomes channels last, which convolutions on a CPU are faster with
    tap : whose maps are edited
    read : the next tap, whose change is wanted; left out where the edit cannot be seen there
    images : (image, channel, y, x) float32

    Attributes
    ----------
    maps : (image, unit, y, x) float32 at the tap
    intact : what the network answers
    read : the next tap, None where there is none
    """

    def __init__(
        self, network: nn.Module, tap: Tap, read: Tap | None, images: NDArray[np.float32], *, shared: bool = True
    ) -> None:
        network = network.to(memory_format=torch.channels_last)
        shown = torch.from_numpy(np.ascontiguousarray(images)).contiguous(memory_format=torch.channels_last)
        self.tap, self.read = tap, read
        self._from = Restarting(network, tap, [] if read is None else [read], shared=shared)
        self._shown = [self._from.show(batch) for batch in shown.split(BATCH)]
        self.maps = torch.cat([part.maps for part in self._shown])
        self._scale = self._scales()
        self.intact = self._answers([part.intact for part in self._shown])

    @property
    def shares(self) -> bool:
        """Whether passes start at the tap."""
        return self._from.shares

    def with_units(self, units: Sequence[int] | NDArray[np.int64], values: Tensor) -> Answers:
        """Return the answers with units (k,) of the tap set to values (image, k, y, x)."""
        places = torch.as_tensor(np.asarray(units, dtype=np.int64))
        if values.shape != (len(self.maps), len(places), *self.maps.shape[2:]):
            raise TapError(
                f"values for {len(places)} unit(s) of '{self.tap.name}' have the shape {tuple(values.shape)}, expected "
                f"{(len(self.maps), len(places), *self.maps.shape[2:])} (image, unit, y, x); resize them"
            )
        passed, start = [], 0
        for part in self._shown:
            some = slice(start, start + len(part.maps))
            maps = part.maps.clone()
            maps[:, places] = values[some].to(maps.dtype)
            passed.append(part.with_maps(maps))
            start = some.stop
        return self._answers(passed)

    def with_maps(self, maps: Tensor) -> Answers:
        """Return the answers with all units of the tap set to maps (image, unit, y, x)."""
        return self.with_units(np.arange(self.maps.shape[1]), maps)

    def _scales(self) -> Array | None:
        """Return one over the variance of the next tap's units over images and positions; NaN of those that do not vary."""
        if self.read is None:
            return None
        maps = [part.intact.maps[self.read.name] for part in self._shown]
        count = sum(m.numel() // m.shape[1] for m in maps)
        mean = torch.stack([m.double().sum((0, 2, 3)) for m in maps]).sum(0) / count
        deviation = torch.stack([(m.double() - mean[None, :, None, None]).square().sum((0, 2, 3)) for m in maps]).sum(0)
        scale = reciprocal((deviation / count).numpy())
        return np.where(scale > 0, scale, np.nan)

    def _answers(self, passed: Sequence[Passed]) -> Answers:
        output = torch.cat([one.output for one in passed])
        if output.ndim != 2:
            raise TapError(
                f"the network gives {tuple(output.shape)}, expected (image, class) to measure what an edit of '{self.tap.name}' does to its answers"
            )
        if not bool(torch.isfinite(output).all()):
            raise TapError(f"an edit of '{self.tap.name}' made the network's output infinite or NaN")
        return Answers(output.double().log_softmax(1).numpy(), self._change(passed))

    def _change(self, passed: Sequence[Passed]) -> Array | None:
        if self.read is None or self._scale is None:
            return None
        name, parts = self.read.name, []
        for one, part in zip(passed, self._shown, strict=True):
            apart = (one.maps[name] - part.intact.maps[name]).square().mean((2, 3))
            parts.append(apart.double().numpy())
        return np.concatenate(parts) * self._scale


def maps_at(network: nn.Module, tap: Tap, images: NDArray[np.float32]) -> Tensor:
    """Return the maps of a tap: (image, unit, y, x) float32."""
    from universality.models.editing import cache

    network = network.to(memory_format=torch.channels_last)
    shown = torch.from_numpy(np.ascontiguousarray(images)).contiguous(memory_format=torch.channels_last)
    return cache(network, shown, [tap], batch_size=BATCH)[tap.name]
