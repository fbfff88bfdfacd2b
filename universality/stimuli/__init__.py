"""Common stimuli: labelled sets whose coordinates are their parameters.

Policy ``same_field_of_view``: every network sees the same scenes. Sizes are stated in image sides and every network
gets the set rendered at its own input size, with its own normalisation, so one stimulus covers the same part of the
field of view everywhere while its size in px differs. A new kind of stimulus is one file and one line in `STIMULI`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.errors import StimulusError, did_you_mean
from universality.schema import CHANNEL, STIMULUS, X, Y
from universality.spec import Spec, StimuliSpec, digest
from universality.stimuli import curves, high_low, natural, shapes

__all__ = ["POLICIES", "STIMULI", "StimulusKind", "parameters", "render", "sheet", "stimulus_digest"]

POLICIES = {
    "same_field_of_view": (
        "every network sees the same scenes: sizes are in image sides, and each set is rendered at the network's own "
        "input size and normalisation (so px differ, the part of the field of view does not)"
    )
}


@dataclass(frozen=True)
class StimulusKind:
    """A kind of stimulus: its parameters, how it is drawn, and what beside its spec decides the pixels."""

    name: str
    parameters: Callable[[Any], xr.Dataset]
    render: Callable[[Any, xr.Dataset, int, str], NDArray[np.float32]]
    content: Callable[[], Any]


STIMULI: dict[str, StimulusKind] = {
    kind.name: kind
    for kind in (
        StimulusKind("curves", curves.parameters, curves.render, lambda: curves.RENDERER_VERSION),
        StimulusKind("high_low", high_low.parameters, high_low.render, lambda: high_low.RENDERER_VERSION),
        StimulusKind("shapes", shapes.parameters, shapes.render, shapes.content),
        StimulusKind("natural", natural.parameters, natural.render, natural.content),
    )
}


def _kind(name: str) -> StimulusKind:
    try:
        return STIMULI[name]
    except KeyError:
        raise StimulusError(f"unknown stimulus set '{name}'{did_you_mean(name, STIMULI)}") from None


def _spec_of(name: str, spec: StimuliSpec) -> Spec:
    chosen: Spec = getattr(spec, _kind(name).name)
    return chosen


def parameters(name: str, spec: StimuliSpec) -> xr.Dataset:
    """Return the parameters of every stimulus of the set `name`: coordinates on the dimension ``stimulus``.

    Raises
    ------
    StimulusError
        Unknown set, or a set without stimuli.
    """
    table = _kind(name).parameters(_spec_of(name, spec))
    if table.sizes.get(STIMULUS, 0) == 0:
        raise StimulusError(f"stimulus set '{name}' is empty, expected at least one stimulus; change the job's stimuli")
    return table


def render(
    name: str,
    spec: StimuliSpec,
    size_px: int,
    rows: slice | NDArray[np.int64] = slice(None),
    interpolation: str = "bicubic",
) -> xr.DataArray:
    """Draw stimuli of the set `name` at `size_px`: (stimulus, channel, y, x) float32 in [0, 1], labelled.

    `rows` chooses stimuli, so a long set can be drawn batch by batch; `interpolation` resamples photographs.
    """
    chosen = parameters(name, spec).isel({STIMULUS: rows})
    pixels = _kind(name).render(_spec_of(name, spec), chosen, size_px, interpolation)
    return xr.DataArray(
        pixels,
        dims=(STIMULUS, CHANNEL, Y, X),
        coords=chosen.coords,
        name=name,
        attrs={"policy": spec.policy, "range": "0 to 1", "size_px": size_px},
    )


SHEET_LABELS = {
    "curves": ("variant", "curvature", "orientation_deg"),
    "high_low": ("kind", "high_cpi", "ratio", "orientation_deg"),
    "shapes": ("shape", "texture"),
    "natural": ("photograph",),
}
"""Parameters that stand over an image of a contact sheet."""


def sheet(name: str, size_px: int, most: int) -> tuple[NDArray[np.float32], list[str]]:
    """Return at most `most` images of a set, evenly from it, and a label for each.

    Returns
    -------
    (image, channel, y, x) float32 in [0, 1], and as many labels
    """
    spec = StimuliSpec()
    count = parameters(name, spec).sizes[STIMULUS]
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    drawn = render(name, spec, size_px, rows)
    columns = [drawn[label].values for label in SHEET_LABELS[name]]
    names = [[_brief(value) for value in values] for values in zip(*columns, strict=True)]
    return drawn.values, [f"{first}\n{' '.join(rest)}" for first, *rest in names]


def _brief(value: Any) -> str:
    if isinstance(value, (int, float, np.number)):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)[:16]


def stimulus_digest(name: str, spec: StimuliSpec) -> str:
    """Return what decides the pixels of the set `name` at a given size: kind, version, parameters, photographs."""
    return digest([name, _kind(name).content(), spec.policy, _spec_of(name, spec).plain()])
