"""Square crops of photographs that scikit-image and scikit-learn carry in their packages.

`data/natural_photographs.toml` lists the photographs with their SHA-256; a file that differs is refused. The crops
of one photograph resemble one another, so the photographs, not the crops, are divided into two folds: matches are
decided on fold 0 and scored on fold 1.

Photographs are a weak probe of networks that were trained on none. A set may also hold images of the pocket zoo's world (`shapes`),
from a stream that no training has seen, each one a "photograph" of its own; both folds hold every shape and texture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from universality.base.errors import StimulusError
from universality.base.paths import resource
from universality.base.schema import STIMULUS
from universality.base.spec import Int, Spec, digest
from universality.base.toml import parse_toml
from universality.stimuli import framing, shapes
from universality.stimuli.shapes import ShapeStimuli


class NaturalStimuli(Spec):
    """Square crops of photographs, and images of the pocket zoo's world."""

    crops: Int = Field(1200, ge=0, le=1_000_000, description="crops over all photographs")
    shapes: Int = Field(
        0, ge=0, le=1_000_000, description="images of the pocket zoo's world, which no training has seen"
    )
    diet: Literal["focus", "sharp"] = Field("focus", description="of the shapes")
    min_side_px: Int = Field(
        96, ge=16, description="smallest side of a crop in the photograph, px; its shorter side if that is smaller"
    )
    seed: Int = Field(0, ge=0, description="of the places of the crops, and of the stream of shapes")


RENDERER_VERSION = 1
MANIFEST = "data/natural_photographs.toml"


@dataclass(frozen=True)
class Photograph:
    """A row of the manifest: name, package and path of the file, its SHA-256, size in px, and fold."""

    name: str
    package: str
    path: str
    sha256: str
    width_px: int
    height_px: int
    fold: int


@lru_cache(maxsize=1)
def photographs() -> tuple[Photograph, ...]:
    """Return the manifest's photographs, in its order."""
    rows: list[dict[str, Any]] = parse_toml(resource(MANIFEST), "manifest", StimulusError)["photograph"]
    fields = Photograph.__dataclass_fields__
    return tuple(Photograph(**{key: row[key] for key in fields}) for row in rows)


def manifest_digest() -> str:
    """Return the digest of the photographs' hashes: it enters every key of natural activations."""
    return digest([[photo.name, photo.sha256, photo.width_px, photo.height_px, photo.fold] for photo in photographs()])


def content() -> list[Any]:
    """Return what beside the spec decides the pixels: versions, photographs, generator of the shapes."""
    return [RENDERER_VERSION, manifest_digest(), shapes.content()]


def parameters(spec: NaturalStimuli) -> xr.Dataset:
    """Return every image's photograph, fold, corner and side of the crop in px of the photograph: (stimulus,).

    Crops come first, then shapes: for these `shape_index` is the image's number (else -1) and the crop is NaN. Crop k of
    a photograph does not depend on how many there are, and photographs take turns, so the first crops of a large set are
    the small set.
    """
    crops = _crop_parameters(spec)
    if spec.shapes == 0:
        return crops
    index = np.arange(spec.shapes)
    nowhere = np.full(spec.shapes, np.nan)
    return xr.concat(
        [
            crops,
            xr.Dataset(
                coords={
                    "photograph": (STIMULUS, np.array([f"shapes {spec.diet} {i:06d}" for i in index])),
                    "fold": (STIMULUS, _shape_fold(index)),
                    "shape_index": (STIMULUS, index),
                    **dict.fromkeys(("crop_x_px", "crop_y_px", "crop_side_px"), (STIMULUS, nowhere)),
                }
            ),
        ],
        dim=STIMULUS,
    )


def _shape_fold(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide shapes so that 288 successive images have every pair of shape and texture once in each fold."""
    return np.asarray((index + index // 12 + index // 144) % 2)


def _crop_parameters(spec: NaturalStimuli) -> xr.Dataset:
    photos = photographs()
    per_photo = -(-spec.crops // len(photos))
    boxes = np.stack([_boxes(photo, index, per_photo, spec) for index, photo in enumerate(photos)], axis=1)
    x, y, side = boxes.reshape(-1, 3)[: spec.crops].T
    turn = np.tile(np.arange(len(photos)), per_photo)[: spec.crops]
    return xr.Dataset(
        coords={
            "photograph": (STIMULUS, np.array([photo.name for photo in photos])[turn]),
            "fold": (STIMULUS, np.array([photo.fold for photo in photos])[turn]),
            "shape_index": (STIMULUS, np.full(spec.crops, -1)),
            "crop_x_px": (STIMULUS, x, {"units": "px"}),
            "crop_y_px": (STIMULUS, y, {"units": "px"}),
            "crop_side_px": (STIMULUS, side, {"units": "px"}),
        }
    )


def _boxes(photo: Photograph, index: int, count: int, spec: NaturalStimuli) -> NDArray[np.float64]:
    """Return (count, 3): x, y, side in whole px; the side is log-uniform up to the photograph's shorter side."""
    chance = np.random.default_rng([spec.seed, index]).random((count, 3))
    shorter = min(photo.width_px, photo.height_px)
    smallest = min(spec.min_side_px, shorter)
    side = np.floor(smallest * (shorter / smallest) ** chance[:, 0])
    x = np.floor(chance[:, 1] * (photo.width_px - side + 1))
    y = np.floor(chance[:, 2] * (photo.height_px - side + 1))
    return np.stack([x, y, side], axis=1)


def render(spec: NaturalStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Cut the chosen crops or draw the shapes, and resample them to `size_px`: (stimulus, channel, y, x), RGB in [0, 1]."""
    return render_framed(spec, chosen, framing.Frame.whole(size_px), interpolation)


def render_framed(
    spec: NaturalStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str
) -> NDArray[np.float32]:
    """Show crops and shapes in a part of the image: (stimulus, channel, y, x), RGB in [0, 1].

    Around a crop comes its photograph (`framing.cut`). Shapes are mirrored: their generator scatters no leaves beyond them.
    """
    drawn = chosen["shape_index"].values
    out = np.empty((chosen.sizes[STIMULUS], 3, frame.size_px, frame.size_px), dtype=np.float32)
    resampling = shapes.RESAMPLING[interpolation]
    columns = (chosen[name].values for name in ("photograph", "crop_x_px", "crop_y_px", "crop_side_px"))
    for row, (name, x, y, side) in enumerate(zip(*columns, strict=True)):
        if drawn[row] < 0:
            out[row] = framing.cut(load_photograph(str(name)), x, y, side, frame, resampling)
    if (drawn >= 0).any():
        of_shapes = ShapeStimuli(images=spec.shapes, diet=spec.diet, seed=spec.seed)
        scenes = shapes.render_index(of_shapes, drawn[drawn >= 0], frame.side_px, interpolation)
        out[drawn >= 0] = framing.padded(scenes, frame, "mirror")
    return out


@lru_cache(maxsize=64)
def load_photograph(name: str) -> Image.Image:
    """Return the photograph as RGB after checking its bytes against the manifest.

    Raises
    ------
    StimulusError
        If the package that carries it is missing, or the file is missing or differs.
    """
    photo = next(photo for photo in photographs() if photo.name == name)
    path = _package_folder(photo.package) / photo.path
    try:
        content = path.read_bytes()
    except OSError:
        raise StimulusError(
            f"photograph '{name}' is not in package {photo.package} ({photo.path}); install a version that ships it"
        ) from None
    came = hashlib.sha256(content).hexdigest()
    if came != photo.sha256:
        raise StimulusError(
            f"photograph '{name}' has SHA-256 {came[:12]}..., the manifest states {photo.sha256[:12]}...; "
            f"install another version of {photo.package} or renew the manifest"
        )
    with Image.open(path) as image:
        return image.convert("RGB")


def _package_folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise StimulusError(f"package '{package}', which carries photographs, is not installed; install it")
    return Path(found.origin).parent
