"""Images of a folder that a manifest lists.

The manifest is a TOML file in the folder: one ``[[image]]`` per file with `file` (a path below the manifest's folder),
`sha256`, and if wanted `fold` (0 decides matches, 1 scores them) and `label`. Files that differ from it are refused, as
are paths, also through links, that leave the folder. `universality stimuli manifest FOLDER` writes one.

A file is processed in this order: the first frame is taken; 16-bit grey is divided by 257 and rounded to 8 bits
(Pillow itself keeps the high byte of 16-bit colour); transparency is laid on the grey 128; other modes (grey, palette,
CMYK) become RGB without colour management; the EXIF orientation is applied; the largest centred square is cut and
resampled. Files of more pixels than Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`) are refused before they are decoded.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field, model_validator

from universality.base.errors import StimulusError
from universality.base.schema import STIMULUS
from universality.base.spec import InnerPath, Sha256, Spec
from universality.base.toml import parse_toml, validate
from universality.stimuli import framing, shapes


class FolderStimuli(Spec):
    """Images of a folder that a manifest lists."""

    manifest: str = Field(
        "", description="path of the manifest, from the current folder if not absolute; empty for none"
    )


RENDERER_VERSION = 1
MANIFEST = "manifest.toml"
MOST_MANIFEST_BYTES = 512 << 20
"""Some millions of images."""
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
UNDER_TRANSPARENT = (128, 128, 128, 255)


class ManifestImage(Spec):
    """A row of the manifest."""

    file: InnerPath = Field(min_length=1, description="path below the manifest's folder, with /")
    sha256: Sha256 = Field(description="of the file's bytes")
    fold: Literal[0, 1] | None = Field(None, description="0 decides matches, 1 scores them")
    label: str = Field("", description="what the image shows")


class Manifest(Spec):
    """The images of a folder."""

    image: Annotated[tuple[ManifestImage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _files_once(self) -> Manifest:
        seen: set[str] = set()
        for row in self.image:
            if row.file in seen:
                raise ValueError(f"file '{row.file}' is listed twice; name each file once")
            seen.add(row.file)
        return self


def read_manifest(path: Path) -> Manifest:
    """Return the images that the manifest at `path` lists; raise `StimulusError` if it is missing or malformed."""
    try:
        stat = path.stat()
        changed = (stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        changed = (-1, -1)  # reading it says what is wrong
    return _read_manifest(path, changed)


@lru_cache(maxsize=4)
def _read_manifest(path: Path, changed: tuple[int, int]) -> Manifest:
    del changed  # part of the cache's key
    return validate(
        Manifest, parse_toml(path, "manifest", StimulusError, MOST_MANIFEST_BYTES), f"manifest '{path}'", StimulusError
    )


def content(spec: FolderStimuli) -> list[object]:
    """Return what decides the pixels: version and the manifest's rows, not where the folder lies."""
    return [RENDERER_VERSION, read_manifest(Path(spec.manifest)).plain() if spec.manifest else None]


def parameters(spec: FolderStimuli) -> xr.Dataset:
    """Return every image's file, fold (-1 where the manifest states none) and label: (stimulus,), in its order."""
    rows = read_manifest(Path(spec.manifest)).image if spec.manifest else ()
    return xr.Dataset(
        coords={
            "file": (STIMULUS, np.array([row.file for row in rows], dtype=str)),
            "fold": (STIMULUS, np.array([-1 if row.fold is None else row.fold for row in rows], dtype=np.int64)),
            "label": (STIMULUS, np.array([row.label for row in rows], dtype=str)),
        }
    )


def render(spec: FolderStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Load the chosen images, cut the centred square and resample it: (stimulus, channel, y, x), RGB in [0, 1].

    Raises
    ------
    StimulusError
        A file that is missing, differs from the manifest, lies outside its folder, is no image or too large a one.
    """
    resampling = shapes.RESAMPLING[interpolation]
    out = np.empty((chosen.sizes[STIMULUS], 3, size_px, size_px), dtype=np.float32)
    for row, image in enumerate(_images(spec, chosen)):
        left, top, side = _centred_square(image)
        square = image.crop((left, top, left + side, top + side)).resize((size_px, size_px), resampling)
        out[row] = np.moveaxis(np.asarray(square, dtype=np.float32), 2, 0) / np.float32(255)
    return out


def render_framed(
    spec: FolderStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str
) -> NDArray[np.float32]:
    """Show the centred squares in a part of the image, the rest of the file around them (`framing.cut`)."""
    resampling = shapes.RESAMPLING[interpolation]
    return np.stack([framing.cut(image, *_centred_square(image), frame, resampling) for image in _images(spec, chosen)])


def _images(spec: FolderStimuli, chosen: xr.Dataset) -> Iterator[Image.Image]:
    path = Path(spec.manifest)
    hashes = {row.file: row.sha256 for row in read_manifest(path).image}
    for name in chosen["file"].values:
        yield _listed(path.parent, str(name), hashes[str(name)])


def _centred_square(image: Image.Image) -> tuple[int, int, int]:
    """Return corner (x, y) and side of the largest centred square."""
    side = min(image.size)
    return (image.width - side) // 2, (image.height - side) // 2, side


def _listed(folder: Path, name: str, sha256: str) -> Image.Image:
    path = folder / name
    came = _sha256(folder, name)
    if came != sha256:
        raise StimulusError(
            f"image '{path}' has SHA-256 {came[:12]}..., its manifest states {sha256[:12]}...; restore the file or "
            "write the manifest again"
        )
    return load_image(path)


def _sha256(folder: Path, name: str) -> str:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise StimulusError(f"image '{path}' is a link out of its manifest's folder; copy the file into the folder")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise StimulusError(
            f"image '{path}' cannot be read ({reason}); restore the file or write the manifest again"
        ) from None


def load_image(path: Path) -> Image.Image:
    """Return the image upright and as 8-bit RGB; see the module for other kinds.

    Raises
    ------
    StimulusError
        The file is no image, broken, of more pixels than Pillow's limit, or of values without a known range.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns above its limit and raises above twice the limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return ImageOps.exif_transpose(_as_rgb(image, path))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise StimulusError(
            f"image '{path}' has more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit against decompression bombs; "
            "scale it down"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError) as cause:
        # Decoders of broken files raise any of these.
        reason = str(cause).splitlines()[0][:120] if str(cause) else type(cause).__name__
        raise StimulusError(f"'{path}' is no image that can be decoded ({reason}); replace or drop it") from None


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Return an 8-bit RGB copy that keeps the EXIF orientation."""
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise StimulusError(
                f"image '{path}' holds values of mode {image.mode} that are neither 8 nor 16 bits; save it in 8 bits"
            )
        rgb = Image.fromarray(np.rint(values / 257.0).astype(np.uint8)).convert("RGB")
    elif image.has_transparency_data:
        above = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", above.size, UNDER_TRANSPARENT), above).convert("RGB")
    else:
        rgb = image.convert("RGB")
    orientation = image.getexif().get(0x0112)
    if orientation is not None:
        rgb.getexif()[0x0112] = orientation
    return rgb


def write_manifest(folder: Path) -> tuple[Path, int]:
    """Write ``manifest.toml`` of every image in and below `folder`; return its path and the number of images.

    The label is the first subfolder's name; folds are left for the reader to fill in.

    Raises
    ------
    StimulusError
        No folder, no image in it, an image that cannot be read, or a manifest that exists already.
    """
    if not folder.is_dir():
        raise StimulusError(f"'{folder}' is no folder, expected one of images; check the path")
    path = folder / MANIFEST
    if path.exists():
        raise StimulusError(f"manifest '{path}' exists; remove it first, it may hold folds and labels of your own")
    rows = []
    for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        load_image(file)
        place = file.relative_to(folder)
        label = place.parts[0] if len(place.parts) > 1 else ""
        rows.append({"file": place.as_posix(), "sha256": _sha256(folder, place.as_posix()), "label": label})
    if not rows:
        raise StimulusError(f"folder '{folder}' holds no image ({', '.join(SUFFIXES)}); put some there")
    listed = validate(Manifest, {"image": rows}, f"folder '{folder}'", StimulusError)
    tables = ["\n".join(f"{key} = {_toml(str(row[key]))}" for key in row if row[key]) for row in rows]
    text = "# Images by SHA-256; fold = 0 or 1 may be added to each.\n" + "".join(f"\n[[image]]\n{t}\n" for t in tables)
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeEncodeError) as cause:
        raise StimulusError(f"manifest '{path}' cannot be written: {cause}; rename that file or folder") from None
    return path, len(listed.image)


def _toml(text: str) -> str:
    # A JSON string is a TOML string but for the character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
