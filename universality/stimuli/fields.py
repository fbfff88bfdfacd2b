"""Fields that the parameters of several stimulus sets share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from universality.base.spec import Float, unique

Variant = Literal["thin_dark", "thin_bright", "filled_dark", "filled_bright"]
Colour = Literal["grey", "red_green", "blue_yellow"]
COLOUR_MEANING = (
    "axis from the grey background along which a drawing differs: grey, red against green, blue against yellow"
)

Scale = Annotated[
    Float,
    Field(gt=0, le=2, description="shrinks the drawing about the middle: its lengths are in scale x image side"),
]

Frequencies = Annotated[
    tuple[Annotated[Float, Field(ge=0.5, le=1000)], ...], Field(min_length=1), AfterValidator(unique)
]
"""Of gratings, cycles / image side."""
Saturations = Annotated[tuple[Annotated[Float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(unique)]
"""Shares of the largest distance from grey that every hue can reach."""


def need_opponents(hues: int) -> None:
    """Refuse an odd number of hues."""
    if hues % 2:
        raise ValueError("hues must be even: every hue needs its opponent")
