"""Natural examples: the parts of whole pictures that units answer most to, over all positions, and what they answer to others.

Every whole picture of a job's natural images is shown once (in squares, `universality.stimuli.whole`). At every position of a
tap's map the answer is compared (before its nonlinearity clips it, where it does); of each picture a unit keeps its largest. So examples of one unit are of different pictures, and
lie where in the picture the unit answers, not in the middle of a crop.

Pictures of examples show the middle half of the receptive field (`SHOWN`): a unit answers to little beyond it, and the field of a
deep unit is as large as the photograph.

Positions count whose receptive field lies with its central half inside the image: nearer to the border a unit sees mostly padding.
Beside the units stand the directions of one random basis (Haar, of standardised units): what a mixture of the same units would show.

References
----------
J. Borowski et al., Exemplary natural images explain CNN activations better than state-of-the-art feature visualization, ICLR 2021
(people predict units from such examples better than from synthetic images).
"""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from universality.activations import bases, extraction, pieces
from universality.activations.layer import Layer, LayerRef
from universality.activations.network import Network
from universality.activations.places import Place, place_of
from universality.base.arrays import reciprocal
from universality.base.spec import digest
from universality.features.tables import EXAMPLES
from universality.models import hooks, unclipped
from universality.models.card import Tap
from universality.models.folding import folded
from universality.stimuli import sets, whole
from universality.stimuli.natural import NaturalStimuli

VERSION = 1
FOLDER = "examples"
"""Of a store: maxima of layers, and thumbnails."""
TOP = 10
QUANTILES = (0.9, 0.75, 0.5, 0.25, 0.0)
THUMBNAIL_PX = 112
SHOWN = 0.5
"""Share of the side of the receptive field that pictures of examples show, around its middle."""
_BATCH = 16
_QUALITY = 88
_MAXIMA = ("value", "row", "column", "square")


@dataclass(frozen=True)
class Maxima:
    """Where in each whole picture the units of a layer (or the directions of a basis) answer most.

    Attributes
    ----------
    value : (picture, unit) float32, the largest answer, a.u. (of directions: sigma)
    row, column : (picture, unit), the position in the tap's map
    square : (picture, unit), the number of the square of the picture
    """

    value: NDArray[np.float32]
    row: NDArray[np.uint16]
    column: NDArray[np.uint16]
    square: NDArray[np.uint16]


@dataclass(frozen=True)
class Looked:
    """What the units of a layer, and the directions of one random basis of it, answer to whole pictures."""

    units: Maxima
    haar: Maxima


def key_of(network: Network, ref: LayerRef, seed: int) -> str:
    """Return the key of a layer's maxima: the digest of what decides them."""
    of = network.key("natural", ref.tap)
    pictures = whole.content(network.stimuli.natural)
    basis = [] if ref.basis is None else [ref.basis.identity]
    # Directions are mixtures of units standardised over the stored natural images.
    return digest([VERSION, of.weights, of.preprocessing, of.tap, pictures, ref.stores["natural"], seed, *basis])[:32]


def maxima(
    network: Network, refs: Sequence[LayerRef], seed: int, read: Callable[[LayerRef], Layer]
) -> dict[str, Looked]:
    """Return by tap what a network's layers answer to whole pictures; what is not kept in their store is computed and kept.

    Parameters
    ----------
    refs : layers of the network whose natural activations are stored
    seed : of the random basis
    read : gives a layer, whose units are standardised over its natural images
    """
    place = place_of(refs[0].store_root)
    found = {ref.tap.name: _read(place, key_of(network, ref, seed)) for ref in refs}
    missing = [ref for ref in refs if found[ref.tap.name] is None]
    if missing:
        for ref, looked in zip(missing, _computed(network, missing, seed, read), strict=True):
            _write(place, key_of(network, ref, seed), looked)
            found[ref.tap.name] = looked
    return {name: looked for name, looked in found.items() if looked is not None}


def is_kept(network: Network, ref: LayerRef, seed: int) -> bool:
    """Return whether what a layer answers to whole pictures is kept in its store."""
    return _read(place_of(ref.store_root), key_of(network, ref, seed)) is not None


def _read(place: Place, key: str) -> Looked | None:
    kept = pieces.read(place, pieces.name_of(FOLDER, key))
    if kept is None:
        return None
    with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
        return Looked(*(Maxima(*(arrays[f"{of}_{name}"] for name in _MAXIMA)) for of in ("units", "haar")))


def _write(place: Place, key: str, looked: Looked) -> None:
    sink = io.BytesIO()
    parts = {f"{of}_{name}": getattr(getattr(looked, of), name) for of in ("units", "haar") for name in _MAXIMA}
    np.savez_compressed(sink, **parts)
    pieces.write(place, pieces.name_of(FOLDER, key), sink.getvalue())


def _computed(network: Network, refs: Sequence[LayerRef], seed: int, read: Callable[[LayerRef], Layer]) -> list[Looked]:
    taps, preprocessing = [ref.tap for ref in refs], network.card.preprocessing
    watched = {}
    for ref in refs:
        layer = read(ref)
        scale = reciprocal((layer.in_units or layer).natural.std(axis=0)).astype(np.float32)
        random = bases.haar(0, seed, ref.width)
        watched[ref.tap.name] = _Watched(counted_positions(ref.tap, preprocessing.shape), scale, layer.basis, random)
    module = extraction.laid_out(folded(network.load(), taps, preprocessing.shape))
    at = extraction.read_at(module, taps, network.extraction, preprocessing.shape)
    last = extraction.probe(module, at, preprocessing.shape)

    def catch(tap: Tap, maps: Tensor) -> None:
        watched[tap.name].caught(unclipped.cut(tap, maps))
        if tap.name == last:
            raise hooks.StopForward

    numbers, shown = itertools.tee(_squares(network.stimuli.natural), 2)
    pictures: Iterable[NDArray[np.float32]] = (
        whole.shown(image, square, preprocessing.canvas_px, preprocessing.interpolation)
        for _, _, square, image in shown
    )
    with hooks.watching(module, at, catch) as calls, torch.inference_mode():
        while images := list(itertools.islice(pictures, _BATCH)):
            calls.clear()
            places = [(picture, square) for picture, square, _, _ in itertools.islice(numbers, len(images))]
            for each in watched.values():
                each.shown(places)
            batch = sets.normalise(np.stack(images), preprocessing)
            hooks.forward(module, extraction.to_torch(batch, _BATCH, hooks.device_of(module)))
    return [watched[ref.tap.name].looked() for ref in refs]


def _squares(spec: NaturalStimuli) -> Iterator[tuple[int, int, whole.Square, Image.Image]]:
    """Yield every square that is shown: number of the picture, of the square in it, the square, the picture."""
    for number, picture in enumerate(whole.pictures(spec)):
        image = whole.opened(spec, picture)
        for which, square in enumerate(whole.squares(*image.size)):
            yield number, which, square, image


class _Watched:
    """One layer while pictures are shown: the largest answers so far, picture by picture."""

    def __init__(
        self, inside: NDArray[np.bool_], scale: NDArray[np.float32], own: bases.Basis, random: bases.Basis
    ) -> None:
        self._inside, self._scale, self._own, self._basis = inside, scale, own, random
        self._now: list[tuple[int, int]] = []
        self._rows: dict[str, list[dict[str, NDArray[Any]]]] = {"units": [], "haar": []}

    def shown(self, places: list[tuple[int, int]]) -> None:
        """Say which picture, and which square of it, each image of the next batch is."""
        self._now = places

    def caught(self, maps: Tensor) -> None:
        """Take in the maps (image, unit, y, x) of a batch."""
        answers = maps[: len(self._now)].to(torch.float32).cpu().numpy()[:, :, self._inside]
        directions = [self._basis.seen(each.T * self._scale).T for each in answers]
        if self._own is not bases.UNITS:
            answers = np.stack([self._own.seen(each.T.astype(np.float64)).T for each in answers])
        rows, columns = (at.astype(np.uint16) for at in np.nonzero(self._inside))
        for (picture, square), units, haar in zip(self._now, answers, directions, strict=True):
            for name, values in (("units", units), ("haar", haar)):
                best = values.argmax(axis=1)
                found = {
                    "value": np.take_along_axis(values, best[:, None], 1)[:, 0].astype(np.float32), "row": rows[best],
                    "column": columns[best], "square": np.full(len(best), square, np.uint16),
                }  # fmt: skip
                self._joined(self._rows[name], found, picture)

    @staticmethod
    def _joined(kept: list[dict[str, NDArray[Any]]], found: dict[str, NDArray[Any]], picture: int) -> None:
        if picture == len(kept):
            kept.append(found)
            return
        before = kept[picture]
        larger = found["value"] > before["value"]  # of equals the first square
        kept[picture] = {name: np.where(larger, found[name], before[name]) for name in _MAXIMA}

    def looked(self) -> Looked:
        """Return the largest answers of all pictures."""
        return Looked(
            *(
                Maxima(*(np.stack([row[name] for row in self._rows[of]]) for name in _MAXIMA))
                for of in ("units", "haar")
            )
        )


def counted_positions(tap: Tap, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return which positions of a tap's map count, (y, x): those whose receptive field lies with its central half in the image.

    All positions of a tap without a receptive field count; where no other does, the one nearest to the middle.
    """
    if tap.rf_px is None or tap.stride_px is None or tap.rf_start_px is None:
        return np.ones((tap.size, tap.columns), dtype=np.bool_)
    along = []
    for positions, length in ((tap.size, shape[1]), (tap.columns, shape[2])):
        centres = tap.rf_start_px + tap.stride_px * np.arange(positions)
        inside = (centres - tap.rf_px / 4 >= -0.5) & (centres + tap.rf_px / 4 <= length - 0.5)
        if not inside.any():
            inside[tap.index_at((length - 1) / 2, positions)] = True
        along.append(inside)
    return np.asarray(np.logical_and.outer(*along))


@dataclass(frozen=True)
class Box:
    """A square part of a picture, px of the picture; it may reach beyond its border."""

    x: float
    y: float
    side: float


def field_of(tap: Tap, shape: tuple[int, int, int], square: whole.Square, row: int, column: int) -> Box:
    """Return the receptive field of a position in the picture that a square is part of; the square for a unit that sees the whole image."""
    side = tap.rf_px
    if side is None or tap.stride_px is None or tap.rf_start_px is None:
        return Box(square.x, square.y, square.side)
    canvas = max(shape[1:])
    scale = square.side / canvas
    x, y = (
        (tap.rf_start_px + tap.stride_px * at + (canvas - length) // 2 + 0.5 - side / 2) * scale
        for at, length in ((column, shape[2]), (row, shape[1]))
    )
    return Box(square.x + x, square.y + y, side * scale)


def picked(values: NDArray[np.float32], top: int = TOP, quantiles: Sequence[float] = QUANTILES) -> pd.DataFrame:
    """Return which pictures are examples of a unit: `kind`, `rank` (from 1), `quantile` and `picture`.

    The `top` pictures of largest answer, the largest first, of equals the earlier one; then the pictures at some quantiles of the
    answers over all pictures. None of a unit that answers the same to all of them.
    """
    order = np.argsort(-values, kind="stable")
    if not len(values) or values[order[0]] == values[order[-1]]:
        return pd.DataFrame({name: [] for name in ("kind", "rank", "quantile", "picture")})
    last = max(len(values) - 1, 1)
    rows = [("top", k + 1, 1 - k / last, int(order[k])) for k in range(min(top, len(values)))]
    spread = [("spread", k + 1, q, int(order[round((1 - q) * (len(values) - 1))])) for k, q in enumerate(quantiles)]
    return pd.DataFrame([*rows, *spread], columns=["kind", "rank", "quantile", "picture"])


def example_rows(
    network: Network, tap: Tap, found: Maxima, units: Iterable[int], scale: float | NDArray[np.float64] = 1.0
) -> pd.DataFrame:
    """Return the rows of the table ``examples`` of some units (or directions) of a layer.

    Parameters
    ----------
    scale : (unit,) standard deviation over natural images, a.u.
    """
    spec, shape = network.stimuli.natural, network.card.preprocessing.shape
    pictures = whole.pictures(spec)
    deviation = np.broadcast_to(np.asarray(scale, dtype=np.float64), found.value.shape[1:])
    squares: dict[int, tuple[whole.Square, ...]] = {}
    rows = []
    for unit in units:
        for kind, rank, quantile, number in picked(found.value[:, unit]).itertuples(index=False):
            picture = pictures[int(number)]
            if number not in squares:
                squares[number] = whole.squares(*whole.opened(spec, picture).size)
            square = squares[number][int(found.square[number, unit])]
            box = field_of(tap, shape, square, int(found.row[number, unit]), int(found.column[number, unit]))
            value = float(found.value[number, unit])
            rows.append(
                {
                    "model": network.card.id, "tap": tap.name, "unit": int(unit), "kind": kind, "rank": int(rank), "quantile": quantile,
                    "value": value, "sigma": value / deviation[unit] if deviation[unit] > 0 else np.nan, "picture": picture.name,
                    "source": picture.source, "number": picture.number, "fold": picture.fold, "licence": picture.licence,
                    "x_px": box.x, "y_px": box.y, "side_px": box.side, "field": not tap.whole_image,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=EXAMPLES.names)


class Thumbnails:
    """The small pictures of a layer's examples, kept in one piece beside its maxima: each is cut once."""

    def __init__(self, store_root: str, key: str, spec: NaturalStimuli) -> None:
        self._place, self._spec = place_of(store_root), spec
        self._name = pieces.name_of(FOLDER, digest([key, "thumbnails", "JPEG", THUMBNAIL_PX, SHOWN])[:32])
        self._kept: dict[str, bytes] | None = None

    def of(self, rows: pd.DataFrame) -> list[bytes]:
        """Return the examples' pictures, JPEG of `THUMBNAIL_PX`, one for each row of the table ``examples``; new ones are kept."""
        kept = self._kept = self._read() if self._kept is None else self._kept
        names = [_name(row) for row in rows.to_dict("records")]
        new = {name: row for name, row in zip(names, rows.to_dict("records"), strict=True) if name not in kept}
        for name, row in new.items():
            kept[name] = encoded(cut_of(self._spec, row, THUMBNAIL_PX))
        if new:
            self._write(kept)
        return [kept[name] for name in names]

    def _read(self) -> dict[str, bytes]:
        content = pieces.read(self._place, self._name)
        if content is None:
            return {}
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return {name: packed.read(name) for name in packed.namelist()}

    def _write(self, kept: dict[str, bytes]) -> None:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
            for name in sorted(kept):
                packed.writestr(zipfile.ZipInfo(name), kept[name])
        pieces.write(self._place, self._name, sink.getvalue())


def cut_of(spec: NaturalStimuli, row: Mapping[Any, Any], size_px: int) -> Image.Image:
    """Return the middle of the receptive field that a row of the table ``examples`` is about, in the picture's own pixels scaled to `size_px`."""
    picture = whole.Picture(str(row["picture"]), row["source"], int(row["number"]), int(row["fold"]))
    x, y, side = (float(row[name]) for name in ("x_px", "y_px", "side_px"))
    # A unit that sees the whole image has no middle to show.
    share = SHOWN if row["field"] else 1.0
    border = side * (1 - share) / 2
    return whole.cut(whole.opened(spec, picture), x + border, y + border, side * share, size_px)


def encoded(image: Image.Image) -> bytes:
    """Return a picture as JPEG: a third larger than WebP, and encoded in a seventeenth of the time."""
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue()


def decoded(content: bytes) -> NDArray[np.uint8]:
    """Return a kept picture: (y, x, channel)."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _name(row: Mapping[Any, Any]) -> str:
    return digest([row[name] for name in ("source", "number", "picture", "x_px", "y_px", "side_px", "field")])[:24]
