"""Common stimuli: labelled sets whose coordinates are their parameters.

Policy ``same_field_of_view``: every network sees the same scenes. Sizes are stated in image sides and every network
gets the set rendered at its own input size, with its own normalisation, so one stimulus covers the same part of the
field of view everywhere while its size in px differs. Policy ``same_receptive_field``: what fills the image under the
other policy fills the receptive field of each tap's centre unit (`universality.stimuli.framing`). A new kind of
stimulus is one file and one line in `universality.stimuli.kinds.STIMULI`.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.base.errors import StimulusError, did_you_mean
from universality.base.schema import CHANNEL, STIMULUS, X, Y
from universality.base.spec import Spec, digest
from universality.models.card import Preprocessing
from universality.stimuli import framing
from universality.stimuli.framing import Frame
from universality.stimuli.kinds import STIMULI, StimulusKind
from universality.stimuli.spec import StimuliSpec

POLICIES = {
    "same_field_of_view": (
        "every network sees the same scenes: sizes are in image sides, and each set is rendered at the network's own "
        "input size and normalisation (so px differ, the part of the field of view does not)"
    ),
    "same_receptive_field": (
        "units see the same scene in their receptive fields: sizes are in receptive fields, and each set is rendered for "
        "every tap at the size of its receptive field, centred on that of its centre unit; the scene goes on around it"
    ),
}


def _kind(name: str) -> StimulusKind:
    try:
        return STIMULI[name]
    except KeyError:
        raise StimulusError(f"unknown stimulus set '{name}'{did_you_mean(name, STIMULI)}") from None


def _spec_of(name: str, spec: StimuliSpec) -> Spec:
    chosen: Spec = getattr(spec, _kind(name).name)
    return chosen


def stamp(name: str, spec: StimuliSpec) -> Hashable:
    """Return what changes when the files of the set `name` do; None for a set that its spec alone decides."""
    return _kind(name).stamp(_spec_of(name, spec))


def parameters(name: str, spec: StimuliSpec) -> xr.Dataset:
    """Return the parameters of every stimulus of the set `name`: coordinates on the dimension ``stimulus``.

    Raises
    ------
    StimulusError
        Unknown set, or a set without stimuli.
    """
    # A table is made once, not for every batch of its stimuli and every key of a shard.
    table = _kept_parameters(_kind(name), _spec_of(name, spec), stamp(name, spec)).copy()
    if table.sizes.get(STIMULUS, 0) == 0:
        remedy = "name a manifest in stimuli.folder.manifest" if name == "folder" else "change the job's stimuli"
        raise StimulusError(f"stimulus set '{name}' is empty, expected at least one stimulus; {remedy}")
    return table


@lru_cache(maxsize=32)
def _kept_parameters(kind: StimulusKind, chosen: Spec, changed: Hashable) -> xr.Dataset:
    del changed  # part of the cache's key
    return kind.parameters(chosen)


def render(
    name: str,
    spec: StimuliSpec,
    size_px: int,
    rows: slice | NDArray[np.int64] = slice(None),
    interpolation: str = "bicubic",
    frame: Frame | None = None,
) -> xr.DataArray:
    """Draw stimuli of the set `name` at `size_px`: (stimulus, channel, y, x) float32 in [0, 1], labelled.

    `rows` chooses stimuli, so a long set can be drawn batch by batch; `interpolation` resamples photographs; a `frame` says
    which part of the image the scene fills (all of it without one).
    """
    chosen = parameters(name, spec).isel({STIMULUS: rows})
    kind, values = _kind(name), _spec_of(name, spec)
    if frame is None:
        pixels = kind.render(values, chosen, size_px, interpolation)
    else:
        pixels = kind.framed(values, chosen, frame, interpolation)
    return xr.DataArray(
        pixels,
        dims=(STIMULUS, CHANNEL, Y, X),
        coords=chosen.coords,
        name=name,
        attrs={"policy": spec.policy, "range": "0 to 1", "size_px": size_px},
    )


def refuse(name: str, spec: StimuliSpec, scene_px: int) -> None:
    """Raise `StimulusError` if scenes of `scene_px` cannot show the set `name`; nothing is drawn."""
    _kind(name).refuse(_spec_of(name, spec), scene_px)


LABEL_WIDTH = 15
"""Characters that fit over an image of a contact sheet."""


def sheet(
    name: str, size_px: int, most: int, spec: StimuliSpec | None = None, frame: Frame | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """Return at most `most` images of a set (of the default one without `spec`), evenly from it, and a label for each.

    A `frame` says which part of the image the scene fills (all of it without one).

    Returns
    -------
    (image, channel, y, x) float32 in [0, 1], and as many labels
    """
    spec = spec or StimuliSpec()
    count = parameters(name, spec).sizes[STIMULUS]
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    drawn = render(name, spec, size_px, rows, frame=frame)
    return drawn.values, captions(drawn)


def captions(drawn: xr.DataArray) -> list[str]:
    """Return a label for each image of what `render` gave, from its coordinates, in lines of `LABEL_WIDTH`.

    Raises
    ------
    StimulusError
        The array does not bear the name of a stimulus set.
    """
    columns = [drawn[label].values for label in labels_of(str(drawn.name), drawn)]
    names = [[_brief(value) for value in values] for values in zip(*columns, strict=True)]
    return ["\n".join([first, *wrap(" ".join(rest), LABEL_WIDTH)]) for first, *rest in names]


def labels_of(name: str, stimuli: xr.Dataset | xr.DataArray) -> list[str]:
    """Return which coordinates of stimuli of the set `name` people are told: labels that no stimulus has are none of them."""
    return [label for label in _kind(name).labels if label in stimuli.coords]


def _brief(value: Any) -> str:
    if isinstance(value, (int, float, np.number)):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)[:LABEL_WIDTH]


def _causes(name: str, spec: StimuliSpec, frame: Frame | None, left_out: tuple[str, ...] = ()) -> list[Any]:
    """Return what decides the pixels of the set `name` at a given size, less some fields of its spec."""
    kind, chosen = _kind(name), _spec_of(name, spec)
    values = {key: value for key, value in chosen.plain().items() if key not in (*kind.places, *left_out)}
    placed = [] if frame is None else [framing.FRAMING_VERSION, frame.size_px, frame.start_px, frame.side_px]
    return [name, kind.content(chosen), spec.policy, values, *placed]


def stimulus_digest(name: str, spec: StimuliSpec, frame: Frame | None = None) -> str:
    """Return what decides the pixels of the set `name` at a given size: kind, version, parameters, photographs, frame."""
    changed = stamp(name, spec)
    if changed is None:
        return digest(_causes(name, spec, frame))
    return _kept_digest(name, spec, frame, _spec_of(name, spec).digest(), changed)


@lru_cache(maxsize=256)
def _kept_digest(name: str, spec: StimuliSpec, frame: Frame | None, values: str, changed: Hashable) -> str:
    """Return the digest of a set of files, whose list may be long; `values` tells apart what Python calls equal."""
    del values, changed  # part of the cache's key
    return digest(_causes(name, spec, frame))


def rows_digest(name: str, spec: StimuliSpec, rows: range, frame: Frame | None = None) -> str:
    """Return what decides the pixels of a stretch of the set `name` at a given size.

    Where a longer set begins with the shorter one, how long it is has no part in it: the stimuli's own parameters have.
    """
    counts = _kind(name).counts
    if not counts:
        return digest([stimulus_digest(name, spec, frame), rows.start, rows.stop])
    chosen = parameters(name, spec).isel({STIMULUS: slice(rows.start, rows.stop)})
    labels = {str(label): [str(value) for value in chosen[label].values.tolist()] for label in chosen.coords}
    return digest([*_causes(name, spec, frame, counts), labels])


def extendable(name: str) -> bool:
    """Return whether a longer set of this kind begins with the stimuli of a shorter one."""
    return bool(_kind(name).counts)


LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow and torchvision."""


def normalise(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return images in [0, 1] as a network's input: ``(images - mean) / std`` per channel, (stimulus, channel, y, x) float32.

    Of a square that is larger than the input the middle is taken. A network of one channel is shown the luminance; a fourth
    channel is 1 everywhere, as in opaque pictures.
    """
    channels, height, width = preprocessing.shape
    if images.shape[-2:] != (height, width):
        down, across = ((side - length) // 2 for side, length in zip(images.shape[-2:], (height, width), strict=True))
        images = images[..., down : down + height, across : across + width]
    if channels == 1:
        weights = np.asarray(LUMINANCE, dtype=np.float32)[:, None, None]
        images = (images * weights).sum(axis=-3, keepdims=True)
    elif channels == 4:
        images = np.concatenate([images, np.ones_like(images[..., :1, :, :])], axis=-3)
    mean, std = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    return np.asarray((images - mean) / std, dtype=np.float32)
