"""The table of kinds of stimuli: from the parameters of a set to its images.

A new kind is one file, with the class of its parameters, and one line in `STIMULI`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from universality.base.spec import Spec
from universality.stimuli import (
    colour_contrast,
    colours,
    contours,
    curve_controls,
    curves,
    folder,
    framing,
    gratings,
    high_low,
    natural,
    rotated,
    shapes,
)
from universality.stimuli.framing import Frame


@dataclass(frozen=True)
class StimulusKind:
    """A kind of stimulus.

    Attributes
    ----------
    spec : class of its values, every one with a default
    parameters : spec -> coordinates of every stimulus
    render : spec, chosen parameters, size in px, interpolation of photographs -> (stimulus, channel, y, x)
    content : spec -> what beside the spec's values decides the pixels
    labels : parameters that stand over an image of a contact sheet, where the set has them
    framed : spec, chosen parameters, place of the scene, interpolation -> the same, the scene in a part of the image
    refuse : spec, size in px of the image or of the scene in it; raises `StimulusError` if that cannot show the set
    places : fields of the spec about files; what of them decides the pixels is in `content`
    counts : fields that say how many stimuli there are; the first ones of a longer set are those of the shorter
    stamp : spec -> what changes when its files do; None for a set that its spec alone decides
    """

    name: str
    spec: type[Spec]
    parameters: Callable[[Any], xr.Dataset]
    render: Callable[[Any, xr.Dataset, int, str], NDArray[np.float32]]
    content: Callable[[Any], Any]
    labels: tuple[str, ...]
    framed: Callable[[Any, xr.Dataset, Frame, str], NDArray[np.float32]]
    refuse: Callable[[Any, int], None] = lambda spec, size_px: None
    places: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    stamp: Callable[[Any], Hashable] = lambda spec: None


def _drawing(name: str, spec: type[Spec], module: Any, *labels: str) -> StimulusKind:
    """Return a kind whose pixels are decided by its spec and the version of its renderer."""
    framed = getattr(module, "render_framed", partial(framing.extended, module.render))
    refused = getattr(module, "refuse", StimulusKind.refuse)
    return StimulusKind(
        name, spec, module.parameters, module.render, lambda _: module.RENDERER_VERSION, labels, framed, refused
    )


def _ending(
    render: Callable[[Any, xr.Dataset, int, str], NDArray[np.float32]], surround: Literal["mirror", "grey"]
) -> Callable[[Any, xr.Dataset, Frame, str], NDArray[np.float32]]:
    """Return how a kind whose pictures end is shown in a part of the image."""

    def framed(spec: Any, chosen: xr.Dataset, frame: Frame, interpolation: str) -> NDArray[np.float32]:
        return framing.padded(render(spec, chosen, frame.side_px, interpolation), frame, surround)

    return framed


STIMULI: dict[str, StimulusKind] = {
    kind.name: kind
    for kind in (
        _drawing("curves", curves.CurveStimuli, curves, "variant", "curvature", "orientation_deg"),
        _drawing("high_low", high_low.HighLowStimuli, high_low, "kind", "high_cpi", "ratio", "orientation_deg"),
        _drawing(
            "curve_controls", curve_controls.CurveControlStimuli, curve_controls,
            "kind", "variant", "curvature", "orientation_deg",
        ),
        _drawing("gratings", gratings.GratingStimuli, gratings, "cpi", "phase_deg", "orientation_deg"),
        _drawing("colours", colours.ColourStimuli, colours, "kind", "hue_deg", "saturation", "orientation_deg"),
        _drawing("contours", contours.ContourStimuli, contours, "kind", "cpi", "phase_deg", "orientation_deg"),
        _drawing(
            "colour_contrast", colour_contrast.ColourContrastStimuli, colour_contrast,
            "kind", "hue_deg", "saturation", "cpi", "phase_deg", "orientation_deg",
        ),
        StimulusKind(
            "shapes", shapes.ShapeStimuli, shapes.parameters, shapes.render, lambda _: shapes.content(),
            ("shape", "texture"), _ending(shapes.render, "mirror"),
        ),
        StimulusKind(
            "natural", natural.NaturalStimuli, natural.parameters, natural.render, natural.content,
            ("photograph", "label"), natural.render_framed, natural.refuse, places=("folders", "images"),
            counts=("crops", "shapes"), stamp=natural.stamp,
        ),
        StimulusKind(
            "rotated", rotated.RotatedStimuli, rotated.parameters, rotated.render, rotated.content,
            ("photograph", "crop", "angle_deg"), _ending(rotated.render, "grey"),
        ),
        StimulusKind(
            "folder", folder.FolderStimuli, folder.parameters, folder.render, folder.content,
            ("file", "label"), folder.render_framed, places=("manifest",), stamp=folder.stamp,
        ),
    )
}  # fmt: skip
