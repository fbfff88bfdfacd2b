"""From the bytes of an image file to an upright picture of 8-bit RGB.

A file is processed in this order: the first frame is taken; 16-bit grey is divided by 257 and rounded to 8 bits
(Pillow itself keeps the high byte of 16-bit colour); transparency is laid on the grey 128; other modes (grey, palette,
CMYK) become RGB without colour management; the EXIF orientation is applied. Files of more pixels than Pillow's limit
(`PIL.Image.MAX_IMAGE_PIXELS`) are refused before they are decoded.

Metadata are no pixels: where they cannot be read the picture is used as it is stored, and what was wrong is handed on.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from universality.base.errors import StimulusError

UNDER_TRANSPARENT = (128, 128, 128, 255)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""By EXIF orientation, how the stored picture is turned; 1 is upright, 0 says that nobody knows."""
_LIBRARIES = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "PNG": "zlib", "WEBP": "webp"}
"""Formats that Pillow knows by name even where it was built without the library that decodes them."""
_NOT_DECODED = ("EPS", "MPEG")
"""Opened by Pillow, but drawn by another program or by none."""
_FAULTS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError, NotImplementedError,
    struct.error, zlib.error,
)  # fmt: skip
"""Pillow's decoders of broken files, and its readers of broken metadata, raise any of these."""
_PNG = b"\x89PNG\r\n\x1a\n"


@lru_cache(maxsize=1)
def suffixes() -> tuple[str, ...]:
    """Return the suffixes, small letters with their dot, of all formats that Pillow decodes on this installation."""
    known = Image.registered_extensions()  # loads all plugins
    return tuple(sorted(suffix for suffix, name in known.items() if _decodes(name)))


def _decodes(name: str) -> bool:
    name = "JPEG" if name == "MPO" else name  # several pictures in one file, of which the first is a JPEG
    if name not in Image.OPEN or name in _NOT_DECODED:
        return False
    opener = Image.OPEN[name][0]
    stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
    return not stub and (name not in _LIBRARIES or bool(features.check(_LIBRARIES[name])))


def decoded(content: bytes, path: Path) -> tuple[Image.Image, str]:
    """Return the image upright and as 8-bit RGB, and what of its metadata cannot be read ("" where all can).

    Parameters
    ----------
    content : the file's bytes
    path : names the file in errors

    Raises
    ------
    StimulusError
        The file is no image, broken, of more pixels than Pillow's limit, or of values without a known range.
    """
    try:
        return _decoded(content, path)
    except _FAULTS as cause:
        bare = _bare_png(content)
        if bare:
            try:
                return _decoded(bare, path)[0], _reason(cause)
            except _FAULTS:
                pass  # it is not the metadata
        raise StimulusError(
            f"'{path}' is no image that can be decoded ({_reason(cause)}); replace or drop it"
        ) from None


def _reason(cause: BaseException) -> str:
    if isinstance(cause, UnidentifiedImageError):
        return "no format that Pillow knows"
    return str(cause).splitlines()[0][:120] if str(cause) else type(cause).__name__


def _decoded(content: bytes, path: Path) -> tuple[Image.Image, str]:
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            # Pillow warns above its limit and raises above twice the limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                rgb = _as_rgb(image, path)
                orientation, fault = _orientation(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise StimulusError(
            f"image '{path}' has more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit against decompression bombs; "
            "scale it down"
        ) from None
    remarks = [fault, *(str(warning.message) for warning in said if warning.category is UserWarning)]
    turn = _UPRIGHT.get(orientation)
    return rgb if turn is None else rgb.transpose(turn), next((_first_line(remark) for remark in remarks if remark), "")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].strip()[:120]


def _orientation(image: Image.Image) -> tuple[int, str]:
    """Return the EXIF orientation (1 where none is stated) and what is wrong with it ("" for nothing)."""
    try:
        stated = image.getexif().get(_ORIENTATION, 1)
    except _FAULTS as cause:
        return 1, f"EXIF: {_reason(cause)}"
    if stated not in range(9):
        return 1, f"EXIF orientation {str(stated)[:20]}, expected 0 to 8"
    return int(stated), ""


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Return the pixels as stored, 8-bit RGB."""
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise StimulusError(
                f"image '{path}' holds values of mode {image.mode} that are neither 8 nor 16 bits; save it in 8 bits"
            )
        return Image.fromarray(np.rint(values / 257.0).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, UNDER_TRANSPARENT), above).convert("RGB")
    return image.convert("RGB")


def _bare_png(content: bytes) -> bytes:
    """Return a PNG less what no pixel depends on; nothing where it is none, is cut short, or has nothing to leave out.

    Pillow refuses a file for a wrong checksum, or too long a text, in such a part. The transparent colour stays.
    """
    if not content.startswith(_PNG):
        return b""
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(content):
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(content):
            return b""
        if name[:1].isupper() or name == b"tRNS":
            kept.append(content[at:end])
        at = end
    bare = b"".join(kept)
    return bare if len(bare) < len(content) else b""
