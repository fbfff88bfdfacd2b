"""Small pictures for the page: strips of the stimuli, and for every unit the images it answers most and least to.

Images are drawn again from the job's parameters, so the page shows what the networks were shown. Every distinct image is held
once, however many units point to it, and their number is limited so that the page stays small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.activations.store import ActivationStore
from universality.base import schema
from universality.base.errors import StoreError, UniversalityError
from universality.features.families import FAMILIES
from universality.runs.run import Run
from universality.stimuli import sets

THUMBNAIL_PX = 56
STRIP_IMAGES = 12
TOP, BOTTOM = 6, 4
MOST_THUMBNAILS = 2000
"""About 1 kB each."""
FIGURE_PX = 1440
"""Width of an embedded figure; the files of the run are sharper."""
MOST_FIGURE_BYTES = 4_000_000

Unit = tuple[str, str, int]
"""Model, tap, unit."""
Key = tuple[str, int]
"""Stimulus set and the image's number in it."""


@dataclass
class Album:
    """The distinct images that cards point to.

    Attributes
    ----------
    numbers : image -> its place in the album
    full : whether an image was refused because the album had reached its limit
    """

    most: int = MOST_THUMBNAILS
    numbers: dict[Key, int] = field(default_factory=dict)
    full: bool = False

    def add(self, keys: Sequence[Key]) -> list[int] | None:
        """Return the places of all `keys`, or None, and nothing added, where they do not all fit."""
        new = [key for key in keys if key not in self.numbers]
        if len(self.numbers) + len(new) > self.most:
            self.full = True
            return None
        for key in new:
            self.numbers[key] = len(self.numbers)
        return [self.numbers[key] for key in keys]


def extremes(run: Run, model: str, tap: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the natural images of largest and of smallest response for every unit of a trained layer.

    Returns
    -------
    (unit, `TOP`) and (unit, `BOTTOM`) numbers of images, the most extreme first; of equals the one that comes first. With several
    places per image its largest response counts.
    """
    responses = _responses(run, model, tap, "natural")
    if responses is None:
        raise StoreError(f"the record of run '{run.path}' names no natural activations of '{model}' at '{tap}'")
    order = np.argsort(responses, axis=0, kind="stable")
    # The first of equals from above, too: descending order by the negative, not by turning the ascending one round.
    descending = np.argsort(-responses, axis=0, kind="stable")
    return descending[:TOP].T.astype(np.int64), order[:BOTTOM].T.astype(np.int64)


def strongest_drawing(run: Run, model: str, tap: str, family: str) -> NDArray[np.int64] | None:
    """Return for every unit (unit,) the number of the family's drawing of largest response; None if there are no drawings."""
    responses = _responses(run, model, tap, FAMILIES[family].stimuli) if family in FAMILIES else None
    return None if responses is None else np.asarray(responses.argmax(axis=0), dtype=np.int64)


def _responses(run: Run, model: str, tap: str, stimulus_set: str) -> NDArray[np.float32] | None:
    """Return (stimulus, unit) activations of a trained layer, a.u., the largest place of each image; None if none were recorded."""
    key = run.trained_keys.get((model, tap, stimulus_set))
    if key is None:
        return None
    # Read at once and without hashing every file: what is shown is small pictures, and the codec guards the reading.
    values = ActivationStore(run.store).open(key, verify=False, lazy=False)[schema.ACTIVATION].values
    return np.asarray(values.max(axis=1) if values.ndim == 3 else values)


def pictures_of(
    run: Run, units: Iterable[Unit], families: Sequence[str], album: Album
) -> dict[Unit, dict[str, object]]:
    """Return for each unit the places in the album of its top and bottom images and, by family, of its strongest drawing.

    Units come in order of importance: when the album is full the later ones get none.
    """
    layers: dict[tuple[str, str], tuple[NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.int64] | None]]] = {}
    found: dict[Unit, dict[str, object]] = {}
    for model, tap, unit in units:
        if (model, tap) not in layers:
            drawings = {family: strongest_drawing(run, model, tap, family) for family in families}
            layers[model, tap] = (*extremes(run, model, tap), drawings)
        top, bottom, drawings = layers[model, tap]
        here: dict[str, object] = {}
        for name, chosen in (("top", top[unit]), ("bottom", bottom[unit])):
            here[name] = album.add([("natural", int(image)) for image in chosen])
        for family, strongest in drawings.items():
            if strongest is not None:
                place = album.add([(FAMILIES[family].stimuli, int(strongest[unit]))])
                here[f"drawn_{family}"] = place and place[0]
        found[model, tap, unit] = here
    return found


def encoded(album: Album, run: Run, size_px: int = THUMBNAIL_PX) -> list[dict[str, str]]:
    """Draw every image of the album and return, in its order, data URI and label."""
    by_set: dict[str, list[int]] = {}
    for name, image in album.numbers:
        by_set.setdefault(name, []).append(image)
    drawn: dict[Key, dict[str, str]] = {}
    for name, numbers in by_set.items():
        images = sets.render(name, run.job.stimuli, size_px, np.array(numbers, dtype=np.int64))
        labels = zip(*(images[label].values for label in sets.labels_of(name, images)), strict=True)
        for number, pixels, label in zip(numbers, images.values, labels, strict=True):
            text = ", ".join(filter(None, map(_brief, label)))
            drawn[name, number] = {"src": picture_uri(pixels), "alt": f"{name} {number}: {text}"}
    return [drawn[key] for key in album.numbers]


def _brief(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def picture_uri(pixels: NDArray[np.float32]) -> str:
    """Return an image (channel, y, x) in [0, 1] as the data URI of a WebP file."""
    levels = np.round(np.clip(np.moveaxis(pixels, 0, 2), 0.0, 1.0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "WEBP", quality=70, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def strips(run: Run) -> Iterator[tuple[str, int, str]]:
    """Yield every stimulus set that was shown: its name, how many images it has, and a strip of some as a data URI."""
    for name in dict.fromkeys(entry["stimuli"] for entry in run.record["stores"]):
        try:
            images, _ = sets.sheet(name, THUMBNAIL_PX, STRIP_IMAGES, run.job.stimuli)
            count = sets.parameters(name, run.job.stimuli).sizes["stimulus"]
        except UniversalityError:
            continue  # photographs that this machine lacks: the page goes without
        yield name, count, picture_uri(np.concatenate(list(images), axis=2))


def figure_uri(file: Path) -> str:
    """Return a figure as the data URI of a PNG of `FIGURE_PX` with a palette: a seventh of the size, as sharp on a screen."""
    with Image.open(file) as image:
        colour = image.convert("RGB")
    if colour.width > FIGURE_PX:
        height = round(colour.height * FIGURE_PX / colour.width)
        colour = colour.resize((FIGURE_PX, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    palette = colour.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
