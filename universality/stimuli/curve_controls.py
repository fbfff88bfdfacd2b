"""Controls of the arcs: their thirds, corners with the same tangents, full circles, and arcs with scrambled phases.

Convention and lengths as in `universality.stimuli.curves`. Every control belongs to an arc of the same orientation and
curvature; "bright" and "dark" are mirrored about the background.

- part_before, part_middle, part_after: a third of the arc, at the place where it lies in the arc; against the clock, in
  the middle and with the clock. Filled: the third's own region, whose border goes on along straight tangents.
- corner: two straight sides that touch the ends of an arc of `corner_deg` as its tangents do. Thin: from the apex, which
  lies in front of the arc, to the arc's ends, with round ends. Filled: the region behind the sides, without end.
- corner_centred: the same corner moved back, so that its apex lies where the arc's midpoint does, in the middle
- circle: the arc's whole circle, as a stroke or a disc; it runs through the middle
- scrambled: the arc's picture with the same amplitude spectrum and mean, and a random phase added to every other
  frequency. The phases depend on the frequency alone, so arcs of all orientations get the same ones, and a larger image
  shows the same picture in more detail. Where a value would leave [0, 1], the whole picture's contrast about
  its mean is lowered as far as needed, so nothing is clipped and amplitudes stay equal up to that one factor (usual
  for filled shapes, rare for strokes). The spectrum is that of a picture repeated without end, jumps at its rim included.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from universality.base.schema import STIMULUS
from universality.base.spec import Float, Int, Spec, unique
from universality.stimuli import framing
from universality.stimuli.colour import coloured
from universality.stimuli.fields import COLOUR_MEANING, Colour, Scale, Variant
from universality.stimuli.geometry import (
    Array,
    corner_distance,
    corner_sides_distance,
    coverage,
    filled_distance,
    half_angle,
    stroke_distance,
    turned_grid,
)

CurveControl = Literal["part_before", "part_middle", "part_after", "corner", "corner_centred", "circle", "scrambled"]


class CurveControlStimuli(Spec):
    """Parts of arcs, corners, circles and scrambled arcs."""

    kinds: Annotated[tuple[CurveControl, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("part_before", "part_middle", "part_after", "corner", "circle", "scrambled"),
        description="what is drawn; a family that takes them as its controls needs all of these",
    )
    orientations: Int = Field(10, ge=8, le=360, description="orientations, evenly over 360 degrees")
    curvatures: Annotated[
        tuple[Annotated[Float, Field(ge=0.01, le=100)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field((3.0, 8.0), description="1 / radius of the arcs that are controlled, in 1 / image side")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("thin_dark", "thin_bright"), description="lines or filled shapes, darker or brighter than the grey"
    )
    corner_deg: Float = Field(
        90.0, gt=0, le=150, description="turn of the corners, extent of the arc whose ends they touch"
    )
    arc_length_deg: Float = Field(180.0, gt=0, le=180, description="extent of the arcs that are scrambled, degrees")
    stroke: Float = Field(0.02, gt=0, lt=0.5, description="stroke width of thin drawings, in image sides")
    contrast: Float = Field(0.5, gt=0, le=0.5, description="distance from the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=COLOUR_MEANING)
    seed: Int = Field(0, ge=0, description="of the scrambled phases")
    scale: Scale = 1.0


BACKGROUND = 0.5
RENDERER_VERSION = 2
PARTS = {"part_before": -1, "part_middle": 0, "part_after": 1}
KINDS = (*PARTS, "corner", "corner_centred", "circle", "scrambled")


def parameters(spec: CurveControlStimuli) -> xr.Dataset:
    """Return the parameters of every stimulus, (stimulus,): orientation fastest, then curvature, variant and kind."""
    angles = [float(a) for a in np.arange(spec.orientations) * (360.0 / spec.orientations)]
    kind, variant, curvature, angle = zip(
        *itertools.product(spec.kinds, spec.variants, spec.curvatures, angles), strict=True
    )
    return xr.Dataset(
        coords={
            "kind": (STIMULUS, np.array(kind)),
            "orientation_deg": (STIMULUS, np.array(angle), {"units": "degrees"}),
            "curvature": (STIMULUS, np.array(curvature), {"units": "1 / (scale x image side)"}),
            "variant": (STIMULUS, np.array(variant)),
        }
    )


def render(spec: CurveControlStimuli, chosen: xr.Dataset, size_px: int, interpolation: str) -> NDArray[np.float32]:
    """Draw the chosen stimuli: (stimulus, channel, y, x), in [0, 1]; `interpolation` is not used here."""
    del interpolation
    columns = ("kind", "orientation_deg", "curvature", "variant")
    difference = np.stack(
        [
            _draw(spec, str(kind), float(theta), float(kappa), str(variant), size_px)
            for kind, theta, kappa, variant in zip(*(chosen[name].values for name in columns), strict=True)
        ]
    )
    return coloured(difference, BACKGROUND, spec.colour)


def render_framed(
    spec: CurveControlStimuli, chosen: xr.Dataset, frame: framing.Frame, interpolation: str
) -> NDArray[np.float32]:
    """Draw the chosen stimuli in a part of the image: they go on around it, scrambled ones repeat as their spectrum says."""
    repeats = chosen["kind"].values == "scrambled"
    out = np.empty((chosen.sizes[STIMULUS], 3, frame.size_px, frame.size_px), dtype=np.float32)
    if repeats.any():
        scenes = render(spec, chosen.isel({STIMULUS: repeats}), frame.side_px, interpolation)
        out[repeats] = framing.padded(scenes, frame, "repeat")
    if not repeats.all():
        out[~repeats] = framing.extended(render, spec, chosen.isel({STIMULUS: ~repeats}), frame, interpolation)
    return out


def _draw(
    spec: CurveControlStimuli, kind: str, theta_deg: float, curvature: float, variant: str, size_px: int
) -> Array:
    shape, polarity = variant.split("_")
    if kind in PARTS:
        along, across = _part_grid(spec, PARTS[kind], theta_deg, curvature, size_px)
    else:
        along, across = turned_grid(theta_deg, size_px, spec.scale)
    distance = _distance(spec, kind, shape == "filled", along, across, curvature)
    if shape == "thin":
        distance = distance - spec.stroke / 2
    covered = spec.contrast * coverage(distance, size_px, spec.scale)
    if kind == "scrambled":
        covered = scrambled(covered, spec.seed, BACKGROUND)
    return covered if polarity == "bright" else -covered


def _part_grid(
    spec: CurveControlStimuli, part: int, theta_deg: float, curvature: float, size_px: int
) -> tuple[Array, Array]:
    """Return the coordinates along and across the orientation of a third of the arc, from its own midpoint."""
    turned_deg = theta_deg + part * spec.arc_length_deg / 3
    whole, third = np.deg2rad(theta_deg), np.deg2rad(turned_deg)
    radius = spec.scale / curvature
    shift = radius * (np.cos(third) - np.cos(whole)), radius * (np.sin(third) - np.sin(whole))
    return turned_grid(turned_deg, size_px, spec.scale, shift)


def _distance(
    spec: CurveControlStimuli, kind: str, filled: bool, along: Array, across: Array, curvature: float
) -> Array:
    """Return the distance to the drawing: signed where filled, to the middle of the stroke where thin."""
    radius = 1.0 / curvature
    if kind == "circle":
        away = np.hypot(along + radius, across) - radius
        return np.asarray(away if filled else np.abs(away))
    if kind == "scrambled" or kind in PARTS:
        extent_deg = spec.arc_length_deg / (3 if kind in PARTS else 1)
        return (filled_distance if filled else stroke_distance)(along, across, curvature, extent_deg)
    cosine, sine = half_angle(spec.corner_deg)
    # The tangents of an arc's ends meet at radius / cosine from its centre, each radius * tangent long.
    apex = radius / cosine - radius if kind == "corner" else 0.0
    if filled:
        return corner_distance(along - apex, across, spec.corner_deg)
    return corner_sides_distance(along - apex, across, radius * sine / cosine, spec.corner_deg)


def scrambled(difference: Array, seed: int, limit: float) -> Array:
    """Return (y, x) with random phases added; amplitudes and mean stay, up to one factor that keeps it within +-limit."""
    mean = difference.mean()
    spectrum = np.fft.fft2(difference - mean) * np.exp(1j * _phases(len(difference), seed))
    texture = np.fft.ifft2(spectrum).real
    peak, trough = texture.max(), texture.min()
    room = min(
        (limit - mean) / peak if peak > limit - mean else 1.0,
        (limit + mean) / -trough if -trough > limit + mean else 1.0,
    )
    return np.asarray(mean + room * texture)


@lru_cache(maxsize=8)
def _phases(size_px: int, seed: int) -> Array:
    """Return phases (ky, kx), odd in the frequency so that the picture stays real, the same ones at every size."""
    k = np.rint(np.fft.fftfreq(size_px) * size_px).astype(np.int64)
    ky, kx = (part.ravel() for part in np.meshgrid(k, k, indexing="ij"))
    ring = np.maximum(np.abs(ky), np.abs(kx))
    # Ring by ring outwards: a larger image draws the smaller one's phases first.
    order = np.lexsort((kx, ky, ring))
    drawn = np.empty(order.size)
    drawn[order] = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, order.size)
    phases = drawn.reshape(size_px, size_px)
    mirrored = np.roll(phases[::-1, ::-1], 1, axis=(0, 1))
    return np.asarray(phases - mirrored)
