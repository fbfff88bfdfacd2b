"""Natural images: crops of photographs that can be shipped, images of the pocket zoo's world, and people's own images.

The photographs are those of `data/photographs` and those that scikit-image and scikit-learn carry in their packages:
`data/natural_photographs.toml` lists them with author, source, licence and SHA-256; a file that differs is refused. The crops
of one photograph resemble one another, so the photographs, not the crops, are divided into two folds, balanced over what they
show, colour and texture: matches are decided on fold 0 and scored on fold 1. Few crops of many photographs say more than many of few.

Photographs are a weak probe of networks that were trained on none. A set may also hold images of the pocket zoo's world (`shapes`),
from a stream that no training has seen, each one a "photograph" of its own; both folds hold every shape and texture.

Images of one's own (`folders`) join these, or are all there is. What belongs together among them, a group of their manifest, is
one "photograph".
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, Field, model_validator

from universality.base.errors import StimulusError
from universality.base.paths import resource
from universality.base.schema import STIMULUS
from universality.base.spec import Int, Spec, digest, unique
from universality.base.toml import parse_toml
from universality.stimuli import folder, framing, manifest, shapes
from universality.stimuli.shapes import ShapeStimuli


class NaturalStimuli(Spec):
    """Square crops of photographs, images of the pocket zoo's world, and one's own images."""

    crops: Int = Field(1200, ge=0, le=1_000_000, description="crops over all photographs")
    shapes: Int = Field(
        0, ge=0, le=1_000_000, description="images of the pocket zoo's world, which no training has seen"
    )
    diet: Literal["focus", "sharp"] = Field("focus", description="of the shapes")
    min_side_px: Int = Field(
        96, ge=16, description="smallest side of a crop in the photograph, px; its shorter side if that is smaller"
    )
    seed: Int = Field(0, ge=0, description="of the places of the crops, and of the stream of shapes")
    folders: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(unique)] = Field(
        (),
        description="one's own images: paths of manifests, or of folders that hold a manifest.toml, from the current folder if not "
        "absolute",
    )
    images: Int | None = Field(
        None, ge=1, description="at most so many of one's own images, evenly from all of them; all when left out"
    )

    @model_validator(mode="after")
    def _images_are_of_folders(self) -> NaturalStimuli:
        if self.images is not None and not self.folders:
            raise ValueError(
                "images says how many of one's own images are shown, and folders names none; name one or drop it"
            )
        return self


RENDERER_VERSION = 1
MANIFEST = "data/natural_photographs.toml"
OWN_PACKAGE = "universality"
"""As a photograph's package: shipped with this one, under `Photograph.path`."""


@dataclass(frozen=True)
class Photograph:
    """A row of the manifest: name, package and path of the file, kind of subject, SHA-256, size in px, fold, licence, and author where known."""

    name: str
    package: str
    path: str
    kind: str
    sha256: str
    width_px: int
    height_px: int
    fold: int
    licence: str
    author: str = ""

    @property
    def credit(self) -> str:
        """Author, where known, and licence."""
        return f"{self.author}, {self.licence}" if self.author else self.licence

    @property
    def file(self) -> Path:
        """Where it lies; a package that is not installed is a `StimulusError`."""
        return resource(self.path) if self.package == OWN_PACKAGE else _package_folder(self.package) / self.path


@lru_cache(maxsize=1)
def photographs() -> tuple[Photograph, ...]:
    """Return the manifest's photographs, in its order."""
    rows: list[dict[str, Any]] = parse_toml(resource(MANIFEST), "manifest", StimulusError)["photograph"]
    fields = Photograph.__dataclass_fields__
    return tuple(Photograph(**{key: row[key] for key in fields if key in row}) for row in rows)


def manifest_digest() -> str:
    """Return the digest of the photographs' hashes: it enters every key of natural activations."""
    return digest([[photo.name, photo.sha256, photo.width_px, photo.height_px, photo.fold] for photo in photographs()])


def stamp(spec: NaturalStimuli) -> Hashable:
    """Return what changes when a manifest of one's own images does; None without any."""
    return tuple(manifest.stamp(place) for place in spec.folders) or None


def content(spec: NaturalStimuli) -> list[Any]:
    """Return what beside the spec decides the set: versions, photographs, generator of the shapes, rows of the manifests.

    Where the folders lie has no part in it.
    """
    drawn = [RENDERER_VERSION, manifest_digest(), shapes.content()]
    if not spec.folders:
        return drawn
    return [*drawn, folder.RENDERER_VERSION, [manifest.read(place).digest for place in spec.folders], spec.images]


def own_images(spec: NaturalStimuli) -> int:
    """Return how many of one's own images are shown."""
    listed = sum(len(manifest.read(place).rows) for place in spec.folders)
    return listed if spec.images is None else min(listed, spec.images)


def count(spec: NaturalStimuli) -> int:
    """Return how many images the set has."""
    return spec.crops + spec.shapes + own_images(spec)


def refuse(spec: NaturalStimuli, size_px: int) -> None:
    """Raise `StimulusError` if one's own images cannot be divided into those that decide and those that score."""
    del size_px
    if not spec.folders:
        return
    table = _own_parameters(spec.folders, spec.images, stamp(spec))
    for fold, does in enumerate(("decides", "scores")):
        groups = len(set(table["photograph"].values[table["fold"].values == fold]))
        if groups == 1 or (groups == 0 and spec.crops + spec.shapes == 0):
            what = "one group" if groups else "no image"
            raise StimulusError(
                f"fold {fold} of your own images, which {does} matches, holds {what}, expected two groups or more, because an error is "
                f"estimated from how much groups differ; state other folds or smaller groups in the manifest ({', '.join(spec.folders)})"
            )


def parameters(spec: NaturalStimuli) -> xr.Dataset:
    """Return every image's photograph, fold, corner and side of the crop in px of the photograph: (stimulus,).

    Crops come first, then shapes: for these `shape_index` is the image's number (else -1) and the crop is NaN. Crop k of
    a photograph does not depend on how many there are, and photographs take turns, so the first crops of a large set are
    the small set. One's own images come last, where there are any; then `folder_index` is the number of the folder (else -1),
    and there are `file` and `label` (else empty).
    """
    parts = [_crop_parameters(spec), *([_shape_parameters(spec)] if spec.shapes else [])]
    if not spec.folders:
        return xr.concat(parts, dim=STIMULUS) if len(parts) > 1 else parts[0]
    own = _own_parameters(spec.folders, spec.images, stamp(spec))
    if spec.crops + spec.shapes:
        # No group of one's own can be taken for a photograph of that name.
        own = own.assign_coords(photograph=(STIMULUS, np.char.add("own ", own["photograph"].values)))
    parts = [part.assign_coords(_of_no_folder(part.sizes[STIMULUS])) for part in parts if part.sizes[STIMULUS]]
    return xr.concat([*parts, own], dim=STIMULUS)


def _of_no_folder(rows: int) -> dict[str, Any]:
    return {
        "folder_index": (STIMULUS, np.full(rows, -1)),
        **dict.fromkeys(("file", "label"), (STIMULUS, np.full(rows, "", dtype="U1"))),
    }


@lru_cache(maxsize=8)
def _own_parameters(folders: tuple[str, ...], most: int | None, changed: Hashable) -> xr.Dataset:
    """Return the coordinates of one's own images; `changed` is part of the cache's key."""
    del changed
    listed = [(number, row) for number, place in enumerate(folders) for row in manifest.read(place).rows]
    if most is not None and most < len(listed):
        listed = [listed[k] for k in np.linspace(0, len(listed) - 1, most).round().astype(int)]
    rows = [row for _, row in listed]
    # Files of several folders may have one name.
    names = [f"{number + 1}/{row.file}" if len(folders) > 1 else row.file for number, row in listed]
    groups = manifest.groups_of(rows, names)
    nowhere = np.full(len(rows), np.nan)
    return xr.Dataset(
        coords={
            "photograph": (STIMULUS, np.array(groups, dtype=str)),
            "fold": (STIMULUS, manifest.folds_of(rows, groups)),
            "shape_index": (STIMULUS, np.full(len(rows), -1)),
            **dict.fromkeys(("crop_x_px", "crop_y_px", "crop_side_px"), (STIMULUS, nowhere)),
            "folder_index": (STIMULUS, np.array([number for number, _ in listed], dtype=np.int64)),
            "file": (STIMULUS, np.array([row.file for row in rows], dtype=str)),
            "label": (STIMULUS, np.array([row.label for row in rows], dtype=str)),
        }
    )


def _shape_parameters(spec: NaturalStimuli) -> xr.Dataset:
    index = np.arange(spec.shapes)
    nowhere = np.full(spec.shapes, np.nan)
    return xr.Dataset(
        coords={
            "photograph": (STIMULUS, np.array([f"shapes {spec.diet} {i:06d}" for i in index])),
            "fold": (STIMULUS, _shape_fold(index)),
            "shape_index": (STIMULUS, index),
            **dict.fromkeys(("crop_x_px", "crop_y_px", "crop_side_px"), (STIMULUS, nowhere)),
        }
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
    """Cut the chosen crops, draw the shapes or load the own images, at `size_px`: (stimulus, channel, y, x), RGB in [0, 1]."""
    return _rendered(spec, chosen, framing.Frame.whole(size_px), interpolation, framed=False)


def render_framed(
    spec: NaturalStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str
) -> NDArray[np.float32]:
    """Show crops, shapes and own images in a part of the image: (stimulus, channel, y, x), RGB in [0, 1].

    Around a crop comes its photograph, around the centred square of an own image the rest of the file (`framing.cut`). Shapes are
    mirrored: their generator scatters no leaves beyond them.
    """
    return _rendered(spec, chosen, frame, interpolation, framed=True)


def _rendered(
    spec: NaturalStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str, *, framed: bool
) -> NDArray[np.float32]:
    drawn = chosen["shape_index"].values
    own = chosen["folder_index"].values if spec.folders else np.full(drawn.shape, -1)
    out = np.empty((chosen.sizes[STIMULUS], 3, frame.size_px, frame.size_px), dtype=np.float32)
    resampling = shapes.RESAMPLING[interpolation]
    columns = [chosen[name].values for name in ("photograph", "crop_x_px", "crop_y_px", "crop_side_px")]
    for row in np.flatnonzero((drawn < 0) & (own < 0)):
        name, x, y, side = (column[row] for column in columns)
        out[row] = framing.cut(load_photograph(str(name)), x, y, side, frame, resampling)
    if (drawn >= 0).any():
        of_shapes = ShapeStimuli(images=spec.shapes, diet=spec.diet, seed=spec.seed)
        scenes = shapes.render_index(of_shapes, drawn[drawn >= 0], frame.side_px, interpolation)
        out[drawn >= 0] = framing.padded(scenes, frame, "mirror")
    listed = [manifest.read(place) for place in spec.folders] if (own >= 0).any() else []
    for row in np.flatnonzero(own >= 0):
        image = listed[own[row]].image(str(chosen["file"].values[row]))
        out[row] = (
            folder.framed_square(image, frame, interpolation)
            if framed
            else folder.square(image, frame.size_px, interpolation)
        )
    return out


# All of them (about 150 MB): crops take turns between photographs, so a smaller cache would never find one again.
@cache
def load_photograph(name: str) -> Image.Image:
    """Return the photograph as RGB after checking its bytes against the manifest.

    Raises
    ------
    StimulusError
        If the package that carries it is missing, or the file is missing or differs.
    """
    photo = next(photo for photo in photographs() if photo.name == name)
    path = photo.file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise StimulusError(
            f"photograph '{name}' is not in package {photo.package} ({photo.path}); install a version that ships it"
        ) from None
    except OSError as cause:
        raise StimulusError(
            f"photograph '{path}' cannot be read: {cause.strerror or cause}; check its permissions"
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
