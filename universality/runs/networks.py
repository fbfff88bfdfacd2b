"""The networks of a job, trained and untrained, and the stimulus sets that it shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from universality.activations.network import Network, tap_of
from universality.base.errors import CardError, did_you_mean
from universality.features.families import family_of
from universality.models import catalogue
from universality.models.card import ModelCard, Tap
from universality.runs.job import Job
from universality.stimuli.natural import NaturalStimuli, own_images

if TYPE_CHECKING:
    from torch import nn


def compared_sets(job: Job) -> tuple[str, ...]:
    """Return the names of the sets that a job's comparisons read: natural images and those of its families, each once."""
    of_families = [s for name in job.comparison.families for s in family_of(name).sets]
    return tuple(dict.fromkeys(["natural", *of_families]))


def stimulus_sets(job: Job) -> tuple[str, ...]:
    """Return the names of the sets that a job shows: those that are compared, its own folder, and what else it asks for."""
    own = ["folder"] if job.stimuli.folder.manifest else []
    return tuple(dict.fromkeys([*compared_sets(job), *own, *job.stimuli.also]))


def networks_of(job: Job) -> list[Network]:
    """Return the job's networks: every model trained, then its untrained twins and its noisy copies, in the job's order.

    Raises
    ------
    CardError
        For an unknown model or tap.
    """
    found = []
    # A twin is one network under either policy: it is calibrated on whole images.
    whole = {"policy": "same_field_of_view", "natural": _calibration(job)}
    calibration = job.stimuli.model_copy(update=whole)
    for entry in job.models:
        card = catalogue.card(entry.id)
        taps = _taps(card, entry.taps)
        for name in entry.edited:
            if name not in {tap.name for tap in taps}:
                near = did_you_mean(name, [tap.name for tap in taps])
                raise CardError(
                    f"model '{entry.id}' is to be edited at '{name}', which is no tap of it in this job{near}"
                )
        variants = [(None, None), *((seed, None) for seed in job.nulls.untrained_seeds)]
        for seed, copy_r in (*variants, *((None, r) for r in job.copies_of(entry.id))):
            module = _module(card)
            found.append(
                Network(card, seed, taps, job.stimuli, job.extraction, calibration, entry.scene_px, module, copy_r)
            )
    return found


def _module(card: ModelCard) -> nn.Module | None:
    if card.id not in catalogue.IN_HAND:
        return None  # plans need no Torch
    from universality.models.in_hand import module_of

    return module_of(card)


def _calibration(job: Job) -> NaturalStimuli:
    """Return the images that set BatchNorm statistics: each kind in the proportion of the job's natural images.

    Crops and shapes can be more than the job shows; of one's own images there are no others.
    """
    shown: NaturalStimuli = job.stimuli.natural
    count, drawn, own = job.nulls.calibration_crops, shown.crops + shown.shapes, own_images(shown)
    images = min(round(count * own / (drawn + own)), own)
    rest = count - images if drawn else 0
    crops = round(rest * shown.crops / drawn) if drawn else 0
    of_folders = {"images": images} if images else {"folders": (), "images": None}
    return shown.model_copy(update={"crops": crops, "shapes": rest - crops, **(of_folders if own else {})})


def _taps(card: ModelCard, names: Sequence[str] | None) -> tuple[Tap, ...]:
    if names is None:
        return card.taps
    taps = tuple(tap_of(card, name) for name in names)
    places: dict[tuple[str, int, str], str] = {}
    for tap in taps:
        first = places.setdefault((tap.path, tap.call, tap.side), tap.name)
        if first != tap.name:
            raise CardError(f"taps '{first}' and '{tap.name}' of '{card.id}' are the same place; name one of them")
    return taps
