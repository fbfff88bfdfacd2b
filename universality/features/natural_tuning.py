"""Do detectors prefer on natural images what they prefer among drawings: a second pass over the natural images.

The top natural images of each tap's detectors are turned through a full circle and shown again. What the rest of the
family says about the orientation of an image predicts where a unit has to peak (`universality.features.natural`).
Beside the detectors stand as many units of the same layer that are none, judged by the same family on the same images:
chance. Untrained twins get the same pass where a family of theirs is large enough to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality.activations import extraction
from universality.activations.layer import Layer
from universality.activations.network import Network
from universality.base import schema
from universality.features import answers
from universality.features.families import FAMILIES
from universality.features.natural import family_preference, rotated, top_crops
from universality.models.card import Tap
from universality.stimuli import sets
from universality.stimuli.framing import Frame

AGREES_DEG = 20.0
LEAST_FAMILY = 3
"""Fewest detectors of a tap from which the preference of another unit is estimated."""
MOST_UNITS = 24
CROPS_EACH = 3
TURNS_DEG = np.arange(24) * 15.0


def natural_rows(network: Network, units: pd.DataFrame, seed: int, read: Callable[[Tap], Layer]) -> pd.DataFrame:
    """Return the rows of the table ``joint`` of one network: one per detector and per unit that stands for chance.

    For each tap and family the `MOST_UNITS` detectors with the largest peak are taken, `CROPS_EACH` top images of each.
    Nothing is chosen by the outcome; the units for chance are drawn with the job's seed. Families whose angle has another
    period than 360 degrees are left out: an image turned by half a circle would be the same to them.

    Parameters
    ----------
    units : the rows of the table ``units`` of this network
    seed : of the job
    read : gives the layer of a tap
    """
    rows = list(_rows_of(network, units, seed, read))
    return schema.as_table(schema.JOINT, pd.DataFrame(rows, columns=schema.JOINT.names))


def _rows_of(
    network: Network, units: pd.DataFrame, seed: int, read: Callable[[Tap], Layer]
) -> Iterator[dict[str, object]]:
    """Yield the rows; taps that are shown scenes in one place share a pass over the turned images."""
    chosen = {
        (tap, str(family)): _chosen(rows, [seed, len(rows), tap.channels])
        for tap in network.taps
        for family, rows in units[units["tap"] == tap.name].groupby("family", sort=False)
        if FAMILIES[str(family)].period_deg == 360.0
    }
    chosen = {key: rows for key, rows in chosen.items() if rows["detector"].sum() >= LEAST_FAMILY}
    if not chosen:
        return
    layers = {tap: read(tap) for tap, _ in chosen}
    top = {key: _top_images(layers[key[0]], rows) for key, rows in chosen.items()}
    shown = np.unique(np.concatenate([images.ravel() for images in top.values()]))
    seen = {tap.name: _in_basis(layers[tap], values) for tap, values in _answers(network, list(layers), shown).items()}
    for (tap, family), rows in chosen.items():
        of_family = np.isin(shown, top[tap, family])
        yield from _rows(network, tap, family, rows, seen[tap.name][of_family], layers[tap])


def _chosen(units: pd.DataFrame, seed: list[int]) -> pd.DataFrame:
    """Return the strongest detectors of a tap and as many other live units that have a preference for drawings."""
    found = units[units["detector"]].sort_values("peak_sigma", ascending=False, kind="stable").head(MOST_UNITS)
    others = units[~units["detector"] & units["live"] & units["preferred_deg"].notna()]
    count = min(len(found), len(others))
    drawn = np.random.default_rng(seed).choice(len(others), count, replace=False)
    return pd.concat([found, others.iloc[np.sort(drawn)]])


def _top_images(layer: Layer, units: pd.DataFrame) -> NDArray[np.int64]:
    """Return the images (detector, place) that excite each detector most; of several places of an image, the best."""
    found = units.loc[units["detector"], "unit"].to_numpy()
    by_image = layer.natural[:, found].reshape(-1, layer.places, found.size).max(axis=1)
    return top_crops(by_image, CROPS_EACH)


def _in_basis(layer: Layer, answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return responses (image, turn, unit) in the basis that a layer is seen in."""
    seen = layer.basis.seen(answers.reshape(-1, answers.shape[-1]))
    return np.asarray(seen.reshape(*answers.shape[:-1], -1))


def _answers(network: Network, taps: Sequence[Tap], images: NDArray[np.int64]) -> dict[Tap, NDArray[np.float64]]:
    """Return responses (image, turn, unit) by tap to natural images, turned, reduced as the run's; of several places the middle."""
    preprocessing, spec = network.card.preprocessing, network.extraction
    size = preprocessing.canvas_px

    def batches(frame: Frame | None) -> Iterator[np.ndarray]:
        for image in images:
            one = np.array([image])
            shown = sets.render("natural", network.stimuli, size, one, preprocessing.interpolation, frame)
            yield sets.normalise(rotated(shown.values, TURNS_DEG)[0], preprocessing)

    spec = spec.model_copy(update={"batch_size": TURNS_DEG.size})
    if spec.reduction == "positions":
        spec = spec.model_copy(update={"reduction": "center", "center_radius": 0})
    by_frame: dict[Frame | None, list[Tap]] = {}
    for tap in taps:
        by_frame.setdefault(network.frame(tap), []).append(tap)
    loaded = network.load()
    shown: dict[str, NDArray[np.float32]] = {}
    for frame, together in by_frame.items():
        shown |= extraction.collect(
            extraction.extract(loaded, together, batches(frame), spec, preprocessing.shape, frame)
        )
    return {tap: shown[tap.name].astype(np.float64).reshape(len(images), TURNS_DEG.size, -1) for tap in taps}


def _rows(
    network: Network, tap: Tap, family: str, units: pd.DataFrame, seen: NDArray[np.float64], layer: Layer
) -> Iterator[dict[str, object]]:
    numbers, preferred = units["unit"].to_numpy(), units["preferred_deg"].to_numpy()
    sigma = answers.responses(layer, family).sigma.deviation
    came = family_preference(
        seen[:, :, numbers] / sigma[numbers], preferred, TURNS_DEG, members=units["detector"].to_numpy()
    )
    agrees = np.abs(came.difference_deg) <= AGREES_DEG
    detector = units["detector"].to_numpy(dtype=np.bool_)
    chance = float(agrees[~detector].mean()) if (~detector).any() else np.nan
    for place, unit in enumerate(numbers):
        yield {
            "model": network.card.id, "seed": -1 if network.seed is None else network.seed, "tap": tap.name,
            "family": family, "unit": int(unit), "detector": bool(detector[place]),
            "joint_deg": came.natural_deg[place], "synthetic_deg": preferred[place],
            "difference_deg": came.difference_deg[place], "agrees": bool(agrees[place]), "chance": chance,
        }  # fmt: skip
