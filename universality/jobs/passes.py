"""What a network is shown: a stimulus set in one frame for several taps, in shards whose keys are digests of what decides their rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from universality.activations.network import Network
from universality.base.spec import digest
from universality.models.card import Tap
from universality.stimuli import natural, sets
from universality.stimuli.framing import Frame

SHARD_STIMULI = 256
SHARD_BYTES = 64 << 20
"""Largest shard of a tap, unless one batch is larger."""


@dataclass(frozen=True)
class Pass:
    """A stimulus set shown to a network for all taps that see it in the same frame and whose stores are missing."""

    network: Network
    stimulus_set: str
    frame: Frame | None
    taps: tuple[Tap, ...]

    @property
    def label(self) -> str:
        """Name for people: network, set, and the side of the scene where it is not the image's."""
        scene = "" if self.frame is None else f" in {self.frame.side_px} px"
        return f"{self.network.label}: {self.stimulus_set}{scene}"

    @cached_property
    def shards(self) -> tuple[range, ...]:
        """Stretches of the set: whole batches, so that no image changes its place in a batch."""
        count, batch = self.network.shape(self.stimulus_set, self.taps[0])[0], self.network.extraction.batch_size
        row = max(self.network.nbytes(self.stimulus_set, tap) // count for tap in self.taps)
        size = max(min(SHARD_STIMULI, SHARD_BYTES // row) // batch, 1) * batch
        return tuple(range(start, min(start + size, count)) for start in range(0, count, size))

    @property
    def drawn(self) -> tuple[Any, ...]:
        """What tells the images of this pass, batch by batch, from those of another pass of the same model."""
        return self.stimulus_set, self.frame, self.shards

    def key(self, tap: Tap, rows: range) -> str:
        """Return the key of a tap's shard: the digest of what decides its values."""
        key = self.network.key(self.stimulus_set, tap)
        part = sets.rows_digest(self.stimulus_set, self.network.stimuli, rows, self.frame)
        return digest(["shard", key.weights, key.preprocessing, part, key.tap, key.reduction])[:32]


Kinds = tuple[tuple[str, float], tuple[str, float]]
"""Kinds of work under which seconds are recorded, with how much of each: of this network, and of any."""


def loading(network: Network) -> Kinds:
    """Return what loading a network is, for the record of seconds: of an untrained twin, by the pixels that calibrate it."""
    if network.trained:
        return (f"load {network.card.id}", 1.0), ("load", 1.0)
    images = natural.count(network.calibration.natural)
    return (f"calibrate {network.card.id}", max(images, 1)), ("calibrate", max(images, 1) * _megapixels(network))


def showing(shown: Pass, images: int) -> Kinds:
    """Return what showing some images of a pass is: as many images, each by how deep in the network its taps lie."""
    network, device = shown.network, shown.network.extraction.device
    work = images * max(tap.relative_depth for tap in shown.taps)
    of_any = f"images on {device}"
    return (f"{of_any}, {network.card.id}, {shown.stimulus_set}", work), (of_any, work * _megapixels(network))


def _megapixels(network: Network) -> float:
    return network.card.preprocessing.pixels / 1e6
