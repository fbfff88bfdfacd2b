"""Drawings at the size of a receptive field."""

from __future__ import annotations

from universality.models.card import Tap
from universality.stimuli.spec import StimuliSpec

SCALED = ("curves", "curve_controls", "high_low", "gratings", "colours", "contours", "colour_contrast")
"""Sets with a field `scale`."""


def scaled_to(spec: StimuliSpec, tap: Tap, size_px: int) -> StimuliSpec:
    """Return the sets with drawings as large as the receptive field of `tap` at an input of `size_px`.

    At scale 1 a drawing is made for one image side; the scale becomes the share of the image side that the receptive
    field covers, at most 1, whatever it was before. The policy ``same_field_of_view`` no longer holds between taps
    that get scales of their own. Frequencies rise as the scale falls: what an image of `size_px` cannot show is
    refused when it is drawn.

    Examples
    --------
    >>> tap = Tap(path="conv", activation="pre", channels=8, size=28, rf_px=56, stride_px=8, rf_start_px=3.5, relative_depth=0.5)
    >>> scaled_to(StimuliSpec(), tap, 224).curves.scale
    0.25
    """
    scale = min(1.0, tap.rf_px / size_px)
    return spec.model_copy(update={name: getattr(spec, name).model_copy(update={"scale": scale}) for name in SCALED})
