"""The job that compares the layers of two networks, or of one with itself, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from universality.base.errors import CardError, did_you_mean
from universality.models.card import ModelCard
from universality.runs.job import Job

CROPS = 240
"""Natural images where the user gives none: enough for a CKA without bias, few enough for seconds on small networks."""


def layers_job(
    cards: Sequence[ModelCard],
    measures: Sequence[str],
    *,
    layers: Sequence[str] = ("all",),
    folders: Sequence[str] = (),
    reduction: str = "mean",
    untrained_seeds: Sequence[int] = (0,),
    seed: int = 0,
) -> Job:
    """Return a job of layers alone.

    Parameters
    ----------
    cards : one card or two
        Of one, the layers are compared with one another.
    layers : patterns of tap names
        ``layer*.conv2`` with the shell's wildcards; ``all`` for every tap of the cards.
    folders : paths
        Images of one's own (`stimuli.natural.folders`), which are then the only ones.
    reduction : how a map becomes one row of units per image: see `ExtractionSpec`

    Raises
    ------
    CardError
        A pattern fits no tap of a card.
    """
    models = list(dict.fromkeys(card.id for card in cards))
    natural: dict[str, Any] = {"crops": 0, "folders": list(folders)} if folders else {"crops": CROPS}
    return Job.model_validate(
        {
            "name": "-".join(["layers", *(model.replace("/", ".") for model in models)])[:64],
            "question": f"How alike are the layers of {' and '.join(models)}?",
            "seed": seed,
            "models": [
                {"id": card.id, "taps": chosen(card, layers)} for card in {card.id: card for card in cards}.values()
            ],
            "pairs": [[models[0], models[-1]]],
            "stimuli": {"natural": natural},
            "extraction": {"reduction": reduction},
            "comparison": {"families": [], "measures": list(measures)},
            "nulls": {"untrained_seeds": list(untrained_seeds), "haar_rotations": 1},
        }
    )


def chosen(card: ModelCard, patterns: Sequence[str]) -> list[str]:
    """Return the taps of a card that fit any of some patterns, in forward order."""
    names = [tap.name for tap in sorted(card.taps, key=lambda tap: tap.relative_depth)]
    for pattern in patterns:
        if pattern != "all" and not any(fnmatchcase(name, pattern) for name in names):
            near = did_you_mean(pattern, names)
            raise CardError(f"'{card.id}' has no tap that fits '{pattern}', expected some of {', '.join(names)}{near}")
    return [name for name in names if any(pattern == "all" or fnmatchcase(name, pattern) for pattern in patterns)]
