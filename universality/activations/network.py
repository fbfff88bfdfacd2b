"""One network, trained or untrained, and the content keys of what it will be asked."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from universality.activations import sampling
from universality.activations.spec import ExtractionSpec
from universality.activations.store import StoreKey
from universality.base.errors import CardError, StimulusError, TapError
from universality.base.schema import STIMULUS
from universality.base.spec import digest
from universality.models import catalogue
from universality.models.card import ModelCard, Tap
from universality.stimuli import sets
from universality.stimuli.framing import Frame, Scene
from universality.stimuli.spec import StimuliSpec

if TYPE_CHECKING:
    from torch import nn


SIDES = ("pre", "post")
Variant = int | float | None
"""Of a card's network: None for itself, a whole number for the untrained twin of that seed, a share for the noisy copy of that correlation."""


def _count(stimulus_set: str, spec: StimuliSpec) -> int:
    """Return how many stimuli a set has."""
    return _kept_count(stimulus_set, spec, sets.stamp(stimulus_set, spec))


@lru_cache(maxsize=64)
def _kept_count(stimulus_set: str, spec: StimuliSpec, stamp: Hashable) -> int:
    """Return how many stimuli a set has; every tap of every network of a job asks."""
    del stamp  # part of the cache's key
    return int(sets.parameters(stimulus_set, spec).sizes[STIMULUS])


@dataclass(frozen=True)
class Network:
    """One network of a job: a card's trained weights (`seed` None), an untrained twin, or a noisy copy (`copy_r`) of the trained one.

    `copy_r` is the correlation that a copy's units are to have with their originals. `scene_px` has the side of the scenes for taps where that is not the receptive field; `module` is a network in hand.
    """

    card: ModelCard
    seed: int | None
    taps: tuple[Tap, ...]
    stimuli: StimuliSpec
    extraction: ExtractionSpec
    calibration: StimuliSpec
    scene_px: Mapping[str, int] = field(default_factory=dict)
    module: nn.Module | None = field(default=None, repr=False, compare=False)
    copy_r: float | None = None

    @property
    def label(self) -> str:
        """Name for people: card id, and the twin's seed."""
        if self.copy_r is not None:
            return f"{self.card.id} (noisy copy, r {self.copy_r:g})"
        if self.seed is None:
            return f"{self.card.id} (untrained)" if self.card.untrained else self.card.id
        return f"{self.card.id} (untrained, seed {self.seed})"

    @cached_property
    def weights(self) -> str:
        """Identity of the weights: the pinned or computed state-dict hash, or the digest of the twin's recipe."""
        if self.copy_r is not None:
            taps = [tap.plain() for tap in self.taps]
            made_of = [self._original.weights, self.copy_r, taps, sets.stimulus_digest("natural", self.calibration)]
            return catalogue.copy_identity(self.card, digest(made_of))
        if self.seed is not None:
            content = [sets.stimulus_digest("natural", self.calibration), self.card.preprocessing.plain()]
            return catalogue.untrained_identity(self.card, self.seed, digest(content))
        if self.card.weights.state_dict_sha256:
            return self.card.weights.state_dict_sha256
        from universality.models.zoo import pretrained, state_dict_sha256

        return state_dict_sha256(pretrained(self.card).state_dict())

    @property
    def identity(self) -> str:
        """Digest of the architecture and its weights: two networks of one identity answer alike."""
        return digest([self.card.architecture_digest(), self.weights])

    def scaled(self, tap: Tap) -> bool:
        """Return whether scenes are scaled to `tap`: by its receptive field, or by the side that the job states."""
        return self.stimuli.policy == "same_receptive_field" and not (tap.whole_image and tap.name not in self.scene_px)

    def judged(self, tap: Tap) -> bool:
        """Return whether `tap` takes part in what needs scenes of its own: all taps do where every scene fills the image."""
        return self.stimuli.policy == "same_field_of_view" or self.scaled(tap)

    def frame(self, tap: Tap) -> Frame | None:
        """Return the part of the image in which scenes are shown for `tap`; None for all of it.

        A unit that sees the whole image has no other scene than that.
        """
        shape = self.card.preprocessing.shape
        if self.scaled(tap):
            return Frame.of(tap, self.card.preprocessing.canvas_px, self.scene_px.get(tap.name))
        return None if shape[1] == shape[2] else Frame.in_input(shape)

    def scene(self, tap: Tap) -> Scene:
        """Return how scenes lie in the images shown for `tap`."""
        shape = self.card.preprocessing.shape
        frame = self.frame(tap) or Frame.in_input(shape)
        return Scene(frame.side_px, frame.shown, sampling.misalignment_px(tap, self.extraction, frame, shape))

    def refuse(self, stimulus_set: str, tap: Tap) -> None:
        """Raise `StimulusError` or `TapError` if a set cannot be shown or read at `tap`; nothing is drawn."""
        frame, shape = self.frame(tap), self.card.preprocessing.shape
        try:
            sets.refuse(stimulus_set, self.stimuli, frame.side_px if frame else shape[1])
        except StimulusError as error:
            scene = f"the receptive field of '{tap.name}'" if self.scaled(tap) else "the input"
            raise StimulusError(f"{scene} of '{self.card.id}' is too small: {error}") from None
        sampling.refuse_vector(tap, self.extraction)
        if frame and self.scaled(tap):
            if shape[1] != shape[2]:
                raise TapError(
                    f"the input of '{self.card.id}' is {shape[1]} x {shape[2]} px, expected a square one under the policy "
                    "same_receptive_field; set stimuli.policy = 'same_field_of_view'"
                )
            sampling.refuse_places(tap, self.extraction, frame)

    def key(self, stimulus_set: str, tap: Tap) -> StoreKey:
        """Return the content key of this network's activations at `tap` for a stimulus set."""
        # That a tap clips decides nothing where the clipped values are stored.
        unasked = {"name", "activation", "relative_depth", *(() if self.extraction.unclipped(tap) else ("clips_at",))}
        geometry = tap.model_dump(exclude=unasked)
        preprocessing = self.card.preprocessing.model_dump(mode="json", exclude={"note", "resize_px"})
        return StoreKey(
            model=self.label,
            weights=self.identity,
            preprocessing=digest(preprocessing),
            stimuli=sets.stimulus_digest(stimulus_set, self.stimuli, self.frame(tap)),
            tap=geometry,
            reduction=self.extraction.key(),
        )

    def shape(self, stimulus_set: str, tap: Tap) -> tuple[int, ...]:
        """Return the shape of the stored activations: (stimulus, unit) or (stimulus, position, unit)."""
        count = _count(stimulus_set, self.stimuli)
        places = (self.extraction.positions**2,) if self.extraction.reduction == "positions" else ()
        return (count, *places, tap.channels)

    def nbytes(self, stimulus_set: str, tap: Tap) -> int:
        """Return the size of the stored activations before compression, bytes."""
        return int(np.prod(self.shape(stimulus_set, tap))) * np.dtype(self.extraction.dtype).itemsize

    def load(self) -> nn.Module:
        """Return the network in eval mode, checked and (for a twin) calibrated."""
        from universality.models import in_hand
        from universality.models.zoo import pretrained, untrained

        if self.copy_r is not None:
            from universality.models import copies

            seed = int(digest([self.card.id, "noisy copy"])[:15], 16)
            # Some batches from everywhere: crops come first, then drawn images.
            size, count = catalogue.CALIBRATION_BATCH, _count("natural", self.calibration)
            starts = range(0, count, max(count // (4 * size), 1) * size)
            some = itertools.chain.from_iterable(
                self._batches("natural", self.calibration, size, rows=range(start, min(start + size, count)))
                for start in starts
            )
            return copies.noisy(self._original.load(), self.taps, self.copy_r, seed, some)
        if self.card.library == in_hand.LIBRARY:
            return self._of_module()
        if self.seed is None:
            return pretrained(self.card)
        return untrained(self.card, self.seed, self._batches("natural", self.calibration, catalogue.CALIBRATION_BATCH))

    @property
    def variant(self) -> Variant:
        """Which network of the card it is."""
        return self.seed if self.copy_r is None else self.copy_r

    @property
    def trained(self) -> bool:
        """Whether it is the card's own network: neither an untrained twin nor a noisy copy."""
        return self.seed is None and self.copy_r is None

    @property
    def _original(self) -> Network:
        return replace(self, copy_r=None)

    def _of_module(self) -> nn.Module:
        """Return a copy of the module in hand, or its untrained twin: hooks and memory layout of a run are not the user's."""
        from universality.models import twins, zoo

        if self.module is None:
            raise CardError(f"module '{self.card.id}' was given to another process; give it again with models=")
        if self.seed is None:
            return copy.deepcopy(self.module).eval()
        twin = twins.reinitialised(self.module, int(digest([self.card.id, self.seed])[:15], 16))
        zoo.calibrate_batchnorm(twin, self._batches("natural", self.calibration, catalogue.CALIBRATION_BATCH))
        return twin

    def void(self, module: nn.Module) -> str:
        """Return why this untrained twin, loaded, is no null, as measured on its first calibration images; empty where it is one."""
        from universality.models import twins

        images = next(self._batches("natural", self.calibration, catalogue.CALIBRATION_BATCH))
        return twins.examined(module, images).void

    def batches(self, stimulus_set: str, frame: Frame | None = None, rows: range | None = None) -> Iterator[np.ndarray]:
        """Yield the normalised images of a stimulus set (or of a stretch of it), batch by batch, at this network's input size."""
        return self._batches(stimulus_set, self.stimuli, self.extraction.batch_size, frame, rows)

    def _batches(
        self, stimulus_set: str, spec: StimuliSpec, size: int, frame: Frame | None = None, rows: range | None = None
    ) -> Iterator[np.ndarray]:
        preprocessing = self.card.preprocessing
        shown = range(_count(stimulus_set, spec)) if rows is None else rows
        for start in range(shown.start, shown.stop, size):
            some = slice(start, min(start + size, shown.stop))
            images = sets.render(stimulus_set, spec, preprocessing.canvas_px, some, preprocessing.interpolation, frame)
            yield sets.normalise(images.values, preprocessing)

    @property
    def _kind(self) -> str:
        if self.copy_r is not None:
            return f"noisy copy, r {self.copy_r:g}"
        return "trained" if self.seed is None and not self.card.untrained else "untrained"

    def provenance(self, stimulus_set: str, tap: Tap) -> dict[str, Any]:
        """Return the attributes that travel with the stored activations."""
        before = (
            {"values": f"before the clipping at {tap.clips_at:g}, cut at 0"} if self.extraction.unclipped(tap) else {}
        )
        return {
            "model": self.card.id,
            "network": self._kind,
            "untrained_seed": -1 if self.seed is None else self.seed,
            "weights_identity": self.weights,
            "card_digest": self.card.digest(),
            "tap": tap.plain(),
            "stimuli": stimulus_set,
            "stimuli_spec": getattr(self.stimuli, stimulus_set).plain(),
            "stimuli_digest": sets.stimulus_digest(stimulus_set, self.stimuli, self.frame(tap)),
            "policy": self.stimuli.policy,
            "scene": {key: value for key, value in asdict(self.scene(tap)).items() if not np.isnan(value)},
            "preprocessing": self.card.preprocessing.plain(),
            "reduction": self.extraction.key(),
            **before,
        }


def tap_of(card: ModelCard, name: str) -> Tap:
    """Return the tap called `name`; ``NAME:pre`` and ``NAME:post`` are the two sides of the nonlinearity of tap NAME.

    A card states one side of each tap; the other is found by running the network once.

    Raises
    ------
    CardError
        The card has no such tap, or states this side itself (under NAME alone).
    TapError
        The tap has no nonlinearity of its own, or no module is given or gives its other side.
    """
    stem, _, side = name.rpartition(":")
    if side not in SIDES or name in {tap.name for tap in card.taps}:
        return card.tap(name)
    tap = card.tap(stem)
    if tap.activation == side:
        raise CardError(
            f"tap '{stem}' of '{card.id}' is itself the side '{side}' of its nonlinearity; name it '{stem}'"
        )
    from universality.models.nonlinearity import other_side

    found = other_side(card, tap)
    if found is None:
        why = "joined from branches or made without one" if side == "pre" else "handed on through other steps"
        raise TapError(
            f"tap '{stem}' of '{card.id}' has no side '{side}': its units are {why}; name a tap at a single nonlinearity"
        )
    return found.tap
