"""Small pictures for the page: strips of the stimuli, and for every unit the images it answers most and least to.

Images are drawn again from the job's parameters, so the page shows what the networks were shown. Every distinct image is held
once, however many units point to it, and their number is limited so that the page stays small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from universality.activations.store import ActivationStore
from universality.base import schema
from universality.base.errors import StoreError, UniversalityError
from universality.features.families import FAMILIES
from universality.runs.run import Run
from universality.stimuli import sets
from universality.stimuli.spec import StimuliSpec

THUMBNAIL_PX = 56
STRIP_IMAGES = 12
TOP, BOTTOM = 6, 4
MOST_THUMBNAILS = 2000
"""About 1 kB each."""
FIGURE_PX = 1440
"""Width of an embedded figure; the files of the run are sharper."""
MOST_FIGURE_BYTES = 4_000_000

TOGETHER = 200
"""Images that are drawn in one piece of work."""

Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""How pieces of work are done, one for each of some values: by `map`, or by a run's workers, in any case in order."""
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


@dataclass(frozen=True)
class Stores:
    """Where the trained activations of one layer lie: the place of the stores, and the key for each stimulus set."""

    location: str
    keys: Mapping[str, str]

    def responses(self, stimulus_set: str) -> NDArray[np.float32] | None:
        """Return (stimulus, unit) activations, a.u., the largest place of each image; None if none were recorded."""
        if stimulus_set not in self.keys:
            return None
        # Read at once and without hashing every file: what is shown is small pictures, and the codec guards the reading.
        stored = ActivationStore(self.location).open(self.keys[stimulus_set], verify=False, lazy=False)
        values = stored[schema.ACTIVATION].values
        return np.asarray(values.max(axis=1) if values.ndim == 3 else values)


@dataclass(frozen=True)
class Seen:
    """The images that stand out for each unit of a layer.

    Attributes
    ----------
    top, bottom : (unit, `TOP`) and (unit, `BOTTOM`) numbers of natural images of largest and smallest response, the most extreme
        first; of equals the one that comes first. With several places per image its largest response counts.
    drawings : by stimulus set (unit,), the number of the drawing of largest response
    """

    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    drawings: Mapping[str, NDArray[np.int64]]


def stores_of(run: Run, model: str, tap: str) -> Stores:
    """Return where the trained activations of a layer lie."""
    keys = {name: key for (of, at, name), key in run.trained_keys.items() if (of, at) == (model, tap)}
    if "natural" not in keys:
        raise StoreError(f"the record of run '{run.path}' names no natural activations of '{model}' at '{tap}'")
    return Stores(str(run.store), keys)


def seen(layer: Stores, drawings: Sequence[str]) -> Seen:
    """Return what stands out for the units of a layer; `drawings` names the stimulus sets of the families."""
    responses = layer.responses("natural")
    assert responses is not None  # `stores_of` has looked
    order = np.argsort(responses, axis=0, kind="stable")
    # The first of equals from above, too: descending order by the negative, not by turning the ascending one round.
    descending = np.argsort(-responses, axis=0, kind="stable")
    drawn = {name: found for name in drawings if (found := layer.responses(name)) is not None}
    return Seen(
        descending[:TOP].T.astype(np.int64),
        order[:BOTTOM].T.astype(np.int64),
        {name: np.asarray(found.argmax(axis=0), dtype=np.int64) for name, found in drawn.items()},
    )


def pictures_of(
    run: Run, units: Sequence[Unit], families: Sequence[str], album: Album, each: Each = map
) -> dict[Unit, dict[str, object]]:
    """Return for each unit the places in the album of its top and bottom images and, by family, of its strongest drawing.

    Units come in order of importance: when the album is full the later ones get none.
    """
    drawings = {family: FAMILIES[family].stimuli for family in families if family in FAMILIES}
    places = list(dict.fromkeys((model, tap) for model, tap, _ in units))
    look = partial(seen, drawings=tuple(dict.fromkeys(drawings.values())))
    layers = dict(zip(places, each(look, [stores_of(run, *place) for place in places]), strict=True))
    found: dict[Unit, dict[str, object]] = {}
    for model, tap, unit in units:
        layer = layers[model, tap]
        here: dict[str, object] = {}
        for name, chosen in (("top", layer.top[unit]), ("bottom", layer.bottom[unit])):
            here[name] = album.add([("natural", int(image)) for image in chosen])
        for family, drawn in drawings.items():
            if drawn in layer.drawings:
                place = album.add([(drawn, int(layer.drawings[drawn][unit]))])
                here[f"drawn_{family}"] = place and place[0]
        found[model, tap, unit] = here
    return found


def encoded(album: Album, run: Run, each: Each = map) -> list[dict[str, str]]:
    """Draw every image of the album and return, in its order, data URI and label."""
    by_set: dict[str, list[int]] = {}
    for name, image in album.numbers:
        by_set.setdefault(name, []).append(image)
    parts = [
        (name, tuple(numbers[start : start + TOGETHER]))
        for name, numbers in by_set.items()
        for start in range(0, len(numbers), TOGETHER)
    ]
    drawn: dict[Key, dict[str, str]] = {}
    for (name, numbers), images in zip(parts, each(partial(drawn_small, run.job.stimuli), parts), strict=True):
        drawn |= {(name, number): image for number, image in zip(numbers, images, strict=True)}
    return [drawn[key] for key in album.numbers]


def drawn_small(spec: StimuliSpec, part: tuple[str, tuple[int, ...]]) -> list[dict[str, str]]:
    """Return data URI and label of some images of a stimulus set: its name and their numbers."""
    name, numbers = part
    images = sets.render(name, spec, THUMBNAIL_PX, np.array(numbers, dtype=np.int64))
    labels = zip(*(images[label].values for label in sets.labels_of(name, images)), strict=True)
    return [
        {"src": picture_uri(pixels), "alt": f"{name} {number}: {', '.join(filter(None, map(_brief, label)))}"}
        for number, pixels, label in zip(numbers, images.values, labels, strict=True)
    ]


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


def figure_uri(png: bytes) -> str:
    """Return a figure as the data URI of a PNG of `FIGURE_PX` with a palette: a seventh of the size, as sharp on a screen."""
    with Image.open(io.BytesIO(png)) as image:
        colour = image.convert("RGB")
    if colour.width > FIGURE_PX:
        height = round(colour.height * FIGURE_PX / colour.width)
        colour = colour.resize((FIGURE_PX, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    palette = colour.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
