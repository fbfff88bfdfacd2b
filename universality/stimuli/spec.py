"""The parameters of every stimulus set, and the sets of a job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from universality.base.errors import did_you_mean
from universality.base.spec import Float, Int, Spec, unique

Variant = Literal["thin_dark", "thin_bright", "filled_dark", "filled_bright"]
CurveControl = Literal["part_before", "part_middle", "part_after", "corner", "corner_centred", "circle", "scrambled"]
Colour = Literal["grey", "red_green", "blue_yellow"]
_COLOUR_MEANING = (
    "axis from the grey background along which a drawing differs: grey, red against green, blue against yellow"
)

Scale = Annotated[
    Float,
    Field(gt=0, le=2, description="shrinks the drawing about the middle: its lengths are in scale x image side"),
]


class CurveStimuli(Spec):
    """Arcs and straight lines through the middle of the image; see :mod:`universality.stimuli.curves`."""

    orientations: Int = Field(36, ge=8, le=360, description="orientations, evenly over 360 degrees")
    curvatures: Annotated[
        tuple[Annotated[Float, Field(ge=0, le=100)], ...], Field(min_length=2), AfterValidator(unique)
    ] = Field((0.0, 3.0, 5.0, 8.0, 12.0), description="1 / radius, in 1 / image side; 0 is the straight line")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("thin_dark", "thin_bright", "filled_dark", "filled_bright"),
        description="lines or filled shapes, darker or brighter than the grey",
    )
    stroke: Float = Field(0.02, gt=0, lt=0.5, description="stroke width of thin arcs, in image sides")
    contrast: Float = Field(0.5, gt=0, le=0.5, description="distance from the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    arc_length_deg: Float = Field(180.0, gt=0, le=180, description="extent of the arcs, degrees of their circle")
    jitter: Int = Field(1, ge=1, le=9, description="so many by so many copies at places about the middle; 1 is none")
    jitter_span: Float = Field(
        0.03, gt=0, le=0.5, description="side of the square that the copies divide evenly, in image sides: one stride"
    )
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _line_and_curves(self) -> CurveStimuli:
        if 0.0 not in self.curvatures:
            raise ValueError("curvatures must contain 0, the straight line: it is the control")
        if min(c for c in self.curvatures if c > 0) < 0.01:
            raise ValueError("curvatures other than 0 must be at least 0.01: flatter arcs cannot be told from lines")
        return self


class HighLowStimuli(Spec):
    """Half-planes of high and low spatial frequency; see :mod:`universality.stimuli.high_low`."""

    orientations: Int = Field(36, ge=8, le=360, description="orientations, evenly over 360 degrees")
    base_cpi: Annotated[
        tuple[Annotated[Float, Field(ge=1, le=1000)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field((10.0, 14.0, 19.0), description="frequency of the high side, cycles / image side")
    ratios: Annotated[
        tuple[Annotated[Float, Field(ge=1, le=100)], ...], Field(min_length=2), AfterValidator(unique)
    ] = Field((1.0, 6.0), description="high / low frequency; the largest one decides, 1 is the control")
    phases: Int = Field(2, ge=1, le=100, description="independent draws of the textures")
    contrast: Float = Field(0.14, gt=0, le=0.5, description="standard deviation of the textures, in [0, 1] units")
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    seed: Int = Field(0, ge=0, description="of the textures")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _ratio_1(self) -> HighLowStimuli:
        if 1.0 not in self.ratios:
            raise ValueError("ratios must contain 1, the boundary between equal frequencies: it is the control")
        return self


class CurveControlStimuli(Spec):
    """Parts of arcs, corners, circles and scrambled arcs; see :mod:`universality.stimuli.curve_controls`."""

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
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    seed: Int = Field(0, ge=0, description="of the scrambled phases")
    scale: Scale = 1.0


Frequencies = Annotated[
    tuple[Annotated[Float, Field(ge=0.5, le=1000)], ...], Field(min_length=1), AfterValidator(unique)
]
"""Of gratings, cycles / image side."""
Saturations = Annotated[tuple[Annotated[Float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(unique)]
"""Shares of the largest distance from grey that every hue can reach."""


def _need_opponents(hues: int) -> None:
    if hues % 2:
        raise ValueError("hues must be even: every hue needs its opponent")


class GratingStimuli(Spec):
    """Sinusoidal gratings; see :mod:`universality.stimuli.gratings`."""

    orientations: Int = Field(18, ge=4, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Frequencies = Field((3.0, 6.0, 12.0, 24.0), description="cycles / image side")
    phases: Int = Field(4, ge=2, le=64, description="phases, evenly over 360 degrees")
    contrast: Float = Field(0.4, gt=0, le=0.5, description="amplitude about the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    scale: Scale = 1.0


class ColourStimuli(Spec):
    """Patches of equal luminance; see :mod:`universality.stimuli.colours`."""

    hues: Int = Field(12, ge=2, le=360, description="hues, evenly over 360 degrees; even, so that each has an opponent")
    saturations: Saturations = Field(
        (0.5, 1.0), description="share of the largest distance from grey that every hue can reach"
    )
    orientations: Int = Field(8, ge=2, le=360, description="orientations of the half-fields, evenly over 360 degrees")
    disc: Float = Field(0.3, gt=0, le=1, description="diameter of the discs, in image sides")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _opponents(self) -> ColourStimuli:
        _need_opponents(self.hues)
        return self


class ContourStimuli(Spec):
    """Gratings, lines and edges of one set of orientations; see :mod:`universality.stimuli.contours`."""

    orientations: Int = Field(18, ge=8, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Frequencies = Field((3.0, 6.0, 12.0, 24.0), description="of the gratings, cycles / image side")
    phases: Int = Field(4, ge=3, le=64, description="of the gratings, evenly over 360 degrees")
    grating_contrast: Float = Field(0.4, gt=0, le=0.5, description="amplitude about the grey background")
    stroke: Float = Field(0.02, gt=0, lt=0.5, description="width of lines, in image sides")
    contrast: Float = Field(
        0.5, gt=0, le=0.5, description="line against background, and one side of an edge against it"
    )
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    scale: Scale = 1.0


class ColourContrastStimuli(Spec):
    """Boundaries of equal luminance, and luminance controls; see :mod:`universality.stimuli.colour_contrast`."""

    hues: Int = Field(12, ge=8, le=360, description="hues, evenly over 360 degrees; even, so that each has an opponent")
    saturations: Saturations = Field(
        (0.5, 1.0), description="share of the largest distance from grey that every hue can reach"
    )
    orientations: Int = Field(8, ge=4, le=360, description="of boundaries, evenly over 360 degrees; even")
    luminance: Float = Field(0.4, gt=0, le=0.5, description="distance of the grey controls from the background")
    frequencies_cpi: Frequencies = Field(
        (3.0, 6.0, 12.0, 24.0), description="of the grey gratings, cycles / image side"
    )
    phases: Int = Field(4, ge=2, le=64, description="of the grey gratings, evenly over 360 degrees")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _even(self) -> ColourContrastStimuli:
        _need_opponents(self.hues)
        if self.orientations % 2:
            raise ValueError("orientations must be even: every boundary is shown both ways round")
        return self


class ShapeStimuli(Spec):
    """Images of the pocket zoo's world; see :mod:`universality.stimuli.shapes`."""

    images: Int = Field(144, ge=1, le=1_000_000, description="how many")
    diet: Literal["focus", "sharp"] = Field("focus", description="backgrounds out of focus, or sharp as the shapes")
    seed: Int = Field(0, ge=0, description="of the stream of images, which no training has seen")


class NaturalStimuli(Spec):
    """Square crops of photographs, and images of the pocket zoo's world; see :mod:`universality.stimuli.natural`."""

    crops: Int = Field(1200, ge=0, le=1_000_000, description="crops over all photographs")
    shapes: Int = Field(
        0, ge=0, le=1_000_000, description="images of the pocket zoo's world, which no training has seen"
    )
    diet: Literal["focus", "sharp"] = Field("focus", description="of the shapes")
    min_side_px: Int = Field(
        96, ge=16, description="smallest side of a crop in the photograph, px; its shorter side if that is smaller"
    )
    seed: Int = Field(0, ge=0, description="of the places of the crops, and of the stream of shapes")


class RotatedStimuli(Spec):
    """Crops of photographs, turned; see :mod:`universality.stimuli.rotated`."""

    crops: Annotated[
        tuple[Annotated[Int, Field(ge=0, lt=1_000_000)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field(tuple(range(12)), description="numbers of the crops in the set natural of the same side and seed")
    orientations: Int = Field(36, ge=2, le=360, description="angles, evenly over 360 degrees")
    aperture: Float = Field(0.95, gt=0, le=1, description="diameter of the disc that is shown, in image sides")
    min_side_px: Int = Field(96, ge=16, description="as in the set natural")
    seed: Int = Field(0, ge=0, description="as in the set natural")


class FolderStimuli(Spec):
    """Images of a folder that a manifest lists; see :mod:`universality.stimuli.folder`."""

    manifest: str = Field(
        "", description="path of the manifest, from the current folder if not absolute; empty for none"
    )


class StimuliSpec(Spec):
    """The job's common stimulus sets and the policy that makes them common."""

    policy: Literal["same_field_of_view", "same_receptive_field"] = Field(
        "same_field_of_view",
        description="every network sees the same scenes: sizes are in image sides, rendered at its own input size; or every "
        "tap's centre unit sees them in its receptive field: sizes are in receptive fields",
    )
    also: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        (), description="sets that are shown and stored beside those that the job's families ask for"
    )
    curves: CurveStimuli = Field(default_factory=CurveStimuli)
    high_low: HighLowStimuli = Field(default_factory=HighLowStimuli)
    shapes: ShapeStimuli = Field(default_factory=ShapeStimuli)
    natural: NaturalStimuli = Field(default_factory=NaturalStimuli)
    curve_controls: CurveControlStimuli = Field(default_factory=CurveControlStimuli)
    gratings: GratingStimuli = Field(default_factory=GratingStimuli)
    colours: ColourStimuli = Field(default_factory=ColourStimuli)
    contours: ContourStimuli = Field(default_factory=ContourStimuli)
    colour_contrast: ColourContrastStimuli = Field(default_factory=ColourContrastStimuli)
    rotated: RotatedStimuli = Field(default_factory=RotatedStimuli)
    folder: FolderStimuli = Field(default_factory=FolderStimuli)

    @model_validator(mode="after")
    def _also_are_sets(self) -> StimuliSpec:
        known = [name for name in StimuliSpec.model_fields if name not in ("policy", "also")]
        for name in self.also:
            if name not in known:
                raise ValueError(f"also names '{name}', which is no stimulus set{did_you_mean(name, known)}")
        if "folder" in self.also and not self.folder.manifest:
            raise ValueError("also names 'folder', which has no images; name a manifest in stimuli.folder.manifest")
        return self
