"""Limits of what a run shows, read from its tables and its job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from universality.base.errors import UniversalityError
from universality.base.names import number, short
from universality.report.sentences import noun_of
from universality.runs.job import Job
from universality.runs.run import Run
from universality.stimuli import sets

FEW_PHOTOGRAPHS = 30
WIDE = 0.5
"""Width of a 95 % interval of r above which little is known about a pair."""
_MOST_NAMED = 6


def cautions(run: Run) -> list[str]:
    """Return the warnings that apply to a run, each in one sentence."""
    said: list[str] = []
    if run.has("families"):
        said += of_families(run.families)
        if run.has("similarity"):
            said += of_left_out(run.similarity, run.families)
    if run.has("correspondence"):
        said += of_correspondence(run.correspondence[run.correspondence["method"] == run.job.matched_by()])
    if run.has("similarity"):
        said += of_similarity(run.similarity)
    # A missing photograph does not make the tables wrong; the pictures say that they are missing.
    with suppress(UniversalityError):
        said += of_photographs(sets.parameters("natural", run.job.stimuli))
    return [
        *of_basis(run.job),
        *said,
        *of_twins(run.record),
        *of_places(run.job),
        *of_processors(processors(run.record)),
    ]


def of_basis(job: Job) -> Iterator[str]:
    """Yield what `unit` means in the tables of a job whose layers are not seen in all of their units."""
    if job.basis == "units" and not job.in_units:
        yield f"Only {job.dictionary.directions} units of every layer are looked at, drawn at random; `unit` is the number among them."
    elif job.basis == "haar":
        yield "Layers are seen in random directions (basis = 'haar'): what is called a unit here is a random mixture of units."
    elif not job.in_units:
        yield (
            f"Layers are seen in dictionaries (basis = '{job.basis}'): what is called a unit here is a direction that was learnt from natural images of the fold that decides matches. "
            "Random bases are of the layers' units."
        )
    if not job.in_units:
        yield "Motifs and interventions are about single channels, so this run has none; run the job with basis = 'units' for them."
    if job.basis == "universal_sae":
        yield (
            "A universal dictionary is learnt so that its directions answer alike in all networks: that they correspond is no finding by itself. Compare with "
            "dictionary.shuffled_images and with dictionaries of single networks."
        )


def of_places(job: Job) -> Iterator[str]:
    """Yield what follows from where scenes are shown and units are read.

    Under the policy same_receptive_field every scene is drawn for the receptive field of the units that are read.
    """
    if job.stimuli.policy != "same_field_of_view":
        return
    if job.extraction.reduction == "center":
        yield (
            "Activations are recorded at the middle of the image, so a natural image counts by what lies there; the size of drawings "
            "follows the image and not each layer's receptive field."
        )
    else:
        yield "The size of drawings follows the image and not each layer's receptive field."


def of_left_out(similarity: pd.DataFrame, families: pd.DataFrame) -> Iterator[str]:
    """Yield which taps were compared as layers only, because there is no receptive field to scale scenes to."""
    known = set(zip(families["model"], families["tap"], strict=True))
    sides = [similarity[[f"model_{side}", f"tap_{side}"]].itertuples(index=False, name=None) for side in "ab"]
    left = [layer for layer in dict.fromkeys(itertools.chain(*sides)) if layer not in known]
    if left:
        named = _listed([f"{tap} of {short(model)}" for model, tap in left])
        yield (
            f"{len(left)} taps have no receptive field to which scenes could be scaled: they were shown whole images, enter the "
            f"similarity of layers, and are left out of detectors, matched units and the atlas ({named})."
        )


def of_twins(record: dict[str, Any]) -> Iterator[str]:
    """Yield of which networks the weights lack something, and of which the untrained twin is no null, as measured on natural images."""
    for model, facts in record.get("provenance", {}).get("models", {}).items():
        yield from (f"{short(model)}: {text}." for text in facts.get("weight_notes", ()))
        if facts.get("void_twin"):
            yield f"{short(model)}: {facts['void_twin']}"


def processors(record: dict[str, Any]) -> list[str]:
    """Return the kinds of processor that made the activations of a run, each once."""
    made = record.get("provenance", {}).get("extraction", [])
    return sorted({kind for part in made for kind in part.get("processors") or ()})


def of_processors(kinds: Sequence[str]) -> Iterator[str]:
    """Yield a warning where the activations come from more than one kind."""
    if len(kinds) > 1:
        yield (
            f"The activations were made by {len(kinds)} kinds of processor ({'; '.join(kinds)}), which add sums in another order: "
            "made anew on one kind they differ in the last digits, and verdicts may for pairs at a threshold."
        )


def of_families(families: pd.DataFrame) -> Iterator[str]:
    """Yield warnings about taps whose untrained twins pass, dead units, and how many twins there are."""
    passing = families[families["n_detectors_untrained"] > 0]
    if len(passing):
        named = [
            f"{noun_of(row['family'])} of {short(row['model'])} at {row['tap']} ({number(row['n_detectors_untrained'], 1)} of "
            f"{row['n_units']})"
            for _, row in passing.iterrows()
        ]
        yield f"Untrained twins pass the rule at {len(passing)} of {len(families)} taps: {_listed(named)}."
    layers = families.drop_duplicates(["model", "tap"])
    dead, units = int(layers["n_dead"].sum()), int(layers["n_units"].sum())
    if dead:
        worst = layers.iloc[int((layers["n_dead"] / layers["n_units"]).argmax())]
        yield (
            f"{dead} of {units} units do not vary in one of the two halves of the natural images and are left out, most of them for "
            f"its size in {short(worst['model'])} at {worst['tap']} ({worst['n_dead']} of {worst['n_units']})."
        )
    if families["n_twins"].min() == 1:
        yield "There is one untrained twin per network, so how much twins differ among themselves is not known here."


def of_correspondence(correspondence: pd.DataFrame) -> Iterator[str]:
    """Yield a warning where the intervals of matched detectors are wide; `correspondence` has the matches of one method."""
    both = correspondence[correspondence["detector_a"] & correspondence["detector_b"]]
    width = (both["r_natural_high"] - both["r_natural_low"]).dropna()
    if len(width) and (width > WIDE).mean() > 0.1:
        yield (
            f"Intervals are wide: in {(width > WIDE).mean():.0%} of {len(width)} matched pairs of detectors the 95 % interval of r is "
            f"wider than {WIDE:g} (median width {number(width.median())})."
        )


def of_similarity(similarity: pd.DataFrame) -> Iterator[str]:
    """Yield a warning where a measure has no value, with the commonest reason."""
    missing = similarity[similarity["value"].isna()]
    if len(missing):
        yield (
            f"{len(missing)} of {len(similarity)} similarities are not defined; the commonest reason: "
            f"{missing['reason'].value_counts().index[0] or 'none is given'}."
        )


def of_photographs(parameters: xr.Dataset) -> Iterator[str]:
    """Yield a warning where few photographs stand behind the scores; `parameters` are those of the set natural."""
    shape = parameters["shape_index"].values >= 0
    own = parameters["folder_index"].values >= 0 if "folder_index" in parameters.coords else np.zeros_like(shape)
    crop, scored = ~shape & ~own, parameters["fold"].values == 1
    photographs, groups = (len(set(parameters["photograph"].values[some & scored])) for some in (crop, own))
    if 0 < groups < FEW_PHOTOGRAPHS:
        yield (
            f"Scores rest on {int((own & scored).sum())} of your own images in only {groups} groups (the half that did not decide the "
            "matches); images of one group resemble one another, and so few groups bound what is known."
        )
    if 0 < photographs < FEW_PHOTOGRAPHS:
        yield (
            f"Scores rest on {int((crop & scored).sum())} crops of only {photographs} photographs"
            f"{f' and {int((shape & scored).sum())} drawn images' if shape.any() else ''} (the half that did not decide the "
            "matches); crops of one photograph resemble one another, and so few photographs bound what is known."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
