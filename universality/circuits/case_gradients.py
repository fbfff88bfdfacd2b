"""A network of a job asked for its gradients at chosen natural images, and for the branches of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import xarray as xr

from universality.activations.network import Network
from universality.base.arrays import Array, Ints
from universality.circuits.branches import Branch
from universality.circuits.reading import LOADED, Loaded
from universality.models.card import Tap

TOGETHER = 64
"""Images that are drawn at a time."""


@dataclass(frozen=True)
class Gradients:
    """Asks a network.

    Attributes
    ----------
    network : of a job
    """

    network: Network

    def at(self, first: Tap, second: Tap, directions: Array, images: Ints) -> Iterator[xr.DataArray]:
        """Yield the gradients of directions (direction, unit) of the later tap by the earlier one, (unit_b, unit_a, dy, dx), at each natural image."""
        from universality.circuits.expanded import weights_into  # with Torch
        from universality.stimuli import sets

        network, preprocessing, loaded = self.network, self.network.card.preprocessing, self._loaded
        for start in range(0, len(images), TOGETHER):
            drawn = sets.render(
                "natural",
                network.stimuli,
                preprocessing.canvas_px,
                images[start : start + TOGETHER],
                preprocessing.interpolation,
            )
            for image in sets.normalise(drawn.values, preprocessing):
                with loaded.lock:
                    yield weights_into(
                        loaded.module, first, second, directions, preprocessing.shape, network.label, image[None]
                    )

    def branches(self, tap: Tap) -> list[Branch]:
        """Return the branches that a tap's channels are joined from."""
        from universality.circuits.branches import branches  # with Torch

        with self._loaded.lock:
            return branches(self._loaded.module, tap, self.network.card.preprocessing.shape)

    @property
    def _loaded(self) -> Loaded:
        return LOADED.get((self.network.label, self.network.weights), lambda: Loaded(self.network.load()))
