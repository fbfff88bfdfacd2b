"""What a user writes down: model cards, taps, stimulus sets and jobs. Frozen, validated, TOML in, digest out.

A digest is the SHA-256 of the canonical JSON of the validated values, so it depends neither on the order of
the keys in a file nor on its comments.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import reprlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from universality import display
from universality.errors import CardError, JobError, StimulusError, UniversalityError, did_you_mean
from universality.schema import REDUCTIONS

Reduction = Literal["center", "mean", "max", "positions"]
Variant = Literal["thin_dark", "thin_bright", "filled_dark", "filled_bright"]
CurveControl = Literal["part_before", "part_middle", "part_after", "corner", "corner_centred", "circle", "scrambled"]
MatchMethod = Literal["hungarian", "mutual_nearest"]


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of plain data.

    Examples
    --------
    >>> digest({"b": 1, "a": 2.0}) == digest({"a": 2.0, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def inner_path(path: str) -> str:
    """Refuse a path that is absolute or climbs out of the folder that holds the file naming it."""
    pure = Path(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError(f"path '{path}' leaves its root; give a relative path without '..'")
    return path


# Without Strict, true would count as 1 and "60" as 60.
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    doubled = sorted({str(v) for v in values if values.count(v) > 1})
    if doubled:
        raise ValueError(f"values appear twice: {', '.join(doubled)}; name each once")
    return values


InnerPath = Annotated[str, AfterValidator(inner_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Base of every specification: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """Return the validated values as plain JSON-compatible data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the validated values."""
        return digest(self.plain())


class Tap(Spec):
    """One place in a network whose units are recorded.

    Positions are in pixels of the network's input, counted between pixel centres: the first pixel's centre is
    0, so an input of `size_px` pixels has its middle at ``(size_px - 1) / 2``.
    """

    name: str = Field(description="label of the tap in tables; by default the module path")
    path: str = Field(description="module path inside the network, as in named_modules()")
    call: Int = Field(0, ge=0, description="which call of the module in one forward pass, from 0")
    calls: Int = Field(1, ge=1, description="how often the module is called in one forward pass")
    side: Literal["input", "output"] = Field("output", description="the module's first input or its output")
    activation: Literal["pre", "post"] = Field(description="before or after the nonlinearity")
    channels: Int = Field(ge=1, description="units (feature maps)")
    size: Int = Field(ge=1, description="height and width of the feature map at the card's input size")
    rf_px: Int = Field(ge=1, description="receptive field, side, px")
    stride_px: Int = Field(ge=1, description="distance between the receptive fields of neighbouring positions, px")
    rf_start_px: Float = Field(description="centre of the receptive field of position 0, px")
    relative_depth: Float = Field(
        gt=0, le=1, description="convolutions and linear layers run before the tap / all of them, in forward order"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_from_path(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and "path" in data:
            return {**data, "name": data["path"]}
        return data

    @model_validator(mode="after")
    def _call_below_calls(self) -> Tap:
        if self.call >= self.calls:
            raise ValueError(f"call {self.call} is not below calls {self.calls}")
        return self

    def center_index(self, size_px: int) -> int:
        """Return the row (and column) index of the unit whose receptive-field centre is nearest the image's."""
        return self.index_at((size_px - 1) / 2)

    def index_at(self, position_px: float) -> int:
        """Return the index of the position whose receptive-field centre is nearest `position_px` (ties: lower)."""
        exact = (position_px - self.rf_start_px) / self.stride_px
        nearest = int(-(-(exact - 0.5) // 1))  # ceil(exact - 0.5): rounds half down
        return min(max(nearest, 0), self.size - 1)


class Preprocessing(Spec):
    """How an image in [0, 1] becomes a network's input: square of `size_px`, then ``(x - mean) / std``."""

    size_px: Int = Field(ge=8, le=4096, description="side of the network's input, px")
    resize_px: Int | None = Field(None, description="side to which the source's own recipe resizes before cropping, px")
    interpolation: Literal["bilinear", "bicubic"] = Field(description="resampling of photographs")
    mean: tuple[float, float, float] = Field(description="per channel (red, green, blue)")
    std: tuple[float, float, float] = Field(description="per channel (red, green, blue)")
    note: str = Field("", description="anything the source switches on silently")

    @model_validator(mode="after")
    def _std_positive(self) -> Preprocessing:
        if min(self.std) <= 0:
            raise ValueError("std must be positive in every channel")
        return self


class Weights(Spec):
    """Where pretrained weights come from and how they are recognised."""

    name: str = Field(description="the source's name of these weights")
    url: str = Field("", description="download address (torchvision) or hub repository (timm)")
    file_sha256_prefix: str = Field("", pattern=r"^[0-9a-f]{0,64}$", description="start of the file's SHA-256")
    state_dict_sha256: Sha256 | None = Field(
        None, description="hash of the loaded state dict (zoo.state_dict_sha256); absent where nobody pinned it yet"
    )
    package: str = Field("", description="importable package that carries the file")
    package_file: InnerPath = Field("", description="path of the file inside that package")
    mapping: Literal["by_name", "by_order"] = Field("by_name", description="how tensors find their place")
    drop_prefixes: tuple[str, ...] = Field((), description="tensors of parts that the card's network leaves out")


class Training(Spec):
    """How the project trained a network itself."""

    command: str = Field(description="command that trains it again")
    diet: str = Field(description="kind of training images")
    task: str = Field(description="what the label is")
    seed: Int = Field(ge=0)
    epochs: Int = Field(ge=1)
    images: Int = Field(ge=1, description="training images")
    generator: str = Field(description="fingerprint of the training images")
    accuracy: Float = Field(ge=0, le=1, description="on held-out images of fresh seeds")
    held_out_images: Int = Field(ge=1)
    chance: Float = Field(ge=0, le=1)
    seconds: Float = Field(gt=0, description="time of the training steps on the machine that trained it")
    threads: Int = Field(ge=1)
    versions: str = Field(description="Python and packages that trained it")


class ModelCard(Spec):
    """Facts about one network: where it comes from, its preprocessing, its taps, its licence."""

    id: str = Field(pattern=r"^[a-z0-9_]+/[A-Za-z0-9_.\-]+$", description="source/name, as in the file's place")
    source: str = Field(description="key in zoo.SOURCES: who supplies the weights")
    library: Literal["timm", "torchvision", "pocket"] = Field(description="who supplies the architecture")
    architecture: str = Field(description="the library's name of the architecture")
    kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    training_set: str = Field(description="what the weights were trained on")
    licence: str = Field(description="licence of the weights")
    citation: str = Field(description="paper of the architecture or of the weights")
    note: str = Field("", description="what a reader of results should know")
    preprocessing: Preprocessing
    weights: Weights
    training: Training | None = Field(None, description="for networks that the project trained itself")
    taps: Annotated[tuple[Tap, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _tap_names_unique(self) -> ModelCard:
        _unique(tuple(tap.name for tap in self.taps))
        return self

    def tap(self, name: str) -> Tap:
        """Return the tap called `name`; raise `CardError` with the nearest name if there is none."""
        for tap in self.taps:
            if tap.name == name:
                return tap
        near = did_you_mean(name, [tap.name for tap in self.taps])
        raise CardError(f"model '{self.id}' has no tap '{name}'{near}")

    def architecture_digest(self) -> str:
        """Digest of what decides the untrained network: library, architecture and its arguments."""
        return digest([self.library, self.architecture, self.kwargs])

    def _repr_html_(self) -> str:
        """Return the facts and the taps for a notebook."""
        shown, trained = self.preprocessing, self.training
        said = (
            ("architecture", f"{self.library} {self.architecture}"),
            ("trained on", self.training_set),
            ("accuracy", f"{trained.accuracy:.3f} (chance {trained.chance:.3f})" if trained else ""),
            ("input", f"{shown.size_px} px, {shown.interpolation}, mean {shown.mean}, std {shown.std}"),
            ("weights", f"{self.weights.name}, SHA-256 {self.weights.state_dict_sha256 or 'not pinned'}"),
            ("licence", self.licence),
            ("citation", self.citation),
            ("note", self.note),
        )
        heads = ("tap", "activation", "units", "map", "receptive field, px", "stride, px", "relative depth")
        taps = [
            (t.name, t.activation, t.channels, f"{t.size} x {t.size}", t.rf_px, t.stride_px, f"{t.relative_depth:.2f}")
            for t in self.taps
        ]
        return display.heading(self.id) + display.facts(said) + display.table(heads, taps)


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
        tuple[Annotated[Float, Field(ge=0, le=100)], ...], Field(min_length=2), AfterValidator(_unique)
    ] = Field((0.0, 3.0, 5.0, 8.0, 12.0), description="1 / radius, in 1 / image side; 0 is the straight line")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
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
        tuple[Annotated[Float, Field(ge=1, le=1000)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((10.0, 14.0, 19.0), description="frequency of the high side, cycles / image side")
    ratios: Annotated[
        tuple[Annotated[Float, Field(ge=1, le=100)], ...], Field(min_length=2), AfterValidator(_unique)
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

    kinds: Annotated[tuple[CurveControl, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        ("part_before", "part_middle", "part_after", "corner", "circle", "scrambled"),
        description="what is drawn; the family curve needs all of these",
    )
    orientations: Int = Field(10, ge=8, le=360, description="orientations, evenly over 360 degrees")
    curvatures: Annotated[
        tuple[Annotated[Float, Field(ge=0.01, le=100)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((3.0, 8.0), description="1 / radius of the arcs that are controlled, in 1 / image side")
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
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


class GratingStimuli(Spec):
    """Sinusoidal gratings; see :mod:`universality.stimuli.gratings`."""

    orientations: Int = Field(18, ge=4, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Annotated[
        tuple[Annotated[Float, Field(ge=0.5, le=1000)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((3.0, 6.0, 12.0, 24.0), description="cycles / image side")
    phases: Int = Field(4, ge=2, le=64, description="phases, evenly over 360 degrees")
    contrast: Float = Field(0.4, gt=0, le=0.5, description="amplitude about the grey background, in [0, 1] units")
    colour: Colour = Field("grey", description=_COLOUR_MEANING)
    scale: Scale = 1.0


class ColourStimuli(Spec):
    """Patches of equal luminance; see :mod:`universality.stimuli.colours`."""

    hues: Int = Field(12, ge=2, le=360, description="hues, evenly over 360 degrees; even, so that each has an opponent")
    saturations: Annotated[
        tuple[Annotated[Float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((0.5, 1.0), description="share of the largest distance from grey that every hue can reach")
    orientations: Int = Field(8, ge=2, le=360, description="orientations of the half-fields, evenly over 360 degrees")
    disc: Float = Field(0.3, gt=0, le=1, description="diameter of the discs, in image sides")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _opponents(self) -> ColourStimuli:
        if self.hues % 2:
            raise ValueError("hues must be even: every hue needs its opponent")
        return self


class ContourStimuli(Spec):
    """Gratings, lines and edges of one set of orientations; see :mod:`universality.stimuli.contours`."""

    orientations: Int = Field(18, ge=8, le=360, description="orientations, evenly over 180 degrees")
    frequencies_cpi: Annotated[
        tuple[Annotated[Float, Field(ge=0.5, le=1000)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((3.0, 6.0, 12.0, 24.0), description="of the gratings, cycles / image side")
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
    saturations: Annotated[
        tuple[Annotated[Float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((0.5, 1.0), description="share of the largest distance from grey that every hue can reach")
    orientations: Int = Field(8, ge=4, le=360, description="of boundaries, evenly over 360 degrees; even")
    luminance: Float = Field(0.4, gt=0, le=0.5, description="distance of the grey controls from the background")
    frequencies_cpi: Annotated[
        tuple[Annotated[Float, Field(ge=0.5, le=1000)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((3.0, 6.0, 12.0, 24.0), description="of the grey gratings, cycles / image side")
    phases: Int = Field(4, ge=2, le=64, description="of the grey gratings, evenly over 360 degrees")
    scale: Scale = 1.0

    @model_validator(mode="after")
    def _even(self) -> ColourContrastStimuli:
        if self.hues % 2:
            raise ValueError("hues must be even: every hue needs its opponent")
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
        tuple[Annotated[Int, Field(ge=0, lt=1_000_000)], ...], Field(min_length=1), AfterValidator(_unique)
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


MOST_FIGURE_PAIRS = 6
LEAST_NATURAL = 24


class StimuliSpec(Spec):
    """The job's common stimulus sets and the policy that makes them common."""

    policy: Literal["same_field_of_view", "same_receptive_field"] = Field(
        "same_field_of_view",
        description="every network sees the same scenes: sizes are in image sides, rendered at its own input size; or every "
        "tap's centre unit sees them in its receptive field: sizes are in receptive fields",
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


class ModelEntry(Spec):
    """One network of a job and the taps to record (all taps of its card when left out).

    ``NAME:pre`` and ``NAME:post`` are the two sides of the nonlinearity at the card's tap NAME.
    """

    id: str = Field(description="id of a model card, as `universality zoo list` shows it")
    taps: Annotated[tuple[str, ...], AfterValidator(_unique)] | None = Field(
        None, min_length=1, description="names of taps of the card; all of them when left out"
    )
    scene_px: dict[str, Annotated[Int, Field(ge=1, le=4096)]] = Field(
        default_factory=dict,
        description="by tap, side of its scenes under the policy same_receptive_field where that is not the receptive field",
    )

    @model_validator(mode="after")
    def _scenes_are_of_taps(self) -> ModelEntry:
        for name in self.scene_px:
            if self.taps is not None and name not in self.taps:
                raise ValueError(
                    f"scene_px names '{name}'{did_you_mean(name, self.taps)}, which is no tap of the entry"
                )
        return self


def _pairs_differ(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    for a, b in pairs:
        if a == b:
            raise ValueError(f"a pair needs two models, came '{a}' twice")
    _unique(tuple(" and ".join(sorted(pair)) for pair in pairs))
    return pairs


def _unique_models(entries: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
    _unique(tuple(entry.id for entry in entries))
    return entries


class ExtractionSpec(Spec):
    """How activations are recorded. `reduction` has no default: it decides what a result is about."""

    reduction: Reduction = Field(description=f"one of {', '.join(REDUCTIONS)}")
    center_radius: Int = Field(1, ge=0, le=8, description="center: maximum over +- so many positions of the map")
    positions: Int = Field(3, ge=1, le=32, description="positions: so many by so many places of the image; odd")
    batch_size: Int = Field(16, ge=1, le=4096, description="images in one forward pass")
    dtype: Literal["float32", "float64"] = Field("float32", description="of the stored activations")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="where networks are shown images; auto is cuda where a GPU is at hand when the run starts"
    )

    @model_validator(mode="after")
    def _middle_exists(self) -> ExtractionSpec:
        if self.reduction == "positions" and self.positions % 2 == 0:
            raise ValueError(
                f"positions = {self.positions} has no middle place, where curves are drawn; give an odd number"
            )
        return self

    def key(self) -> dict[str, Any]:
        """Return what of this decides the stored values (the batch size does not).

        CPU and GPU differ in the last bits, so a GPU's values have keys of their own; those of the CPU say nothing of the
        device, as before there was a choice.

        Raises
        ------
        JobError
            The device is ``auto``: which it is has to be decided before anything is looked up.
        """
        if self.device == "auto":
            raise JobError("extraction.device = 'auto' has no stores of its own; settle it on cpu or cuda first")
        extra = {"center": {"radius": self.center_radius}, "positions": {"grid": self.positions}}
        where = {} if self.device == "cpu" else {"device": self.device}
        return {"reduction": self.reduction, "dtype": self.dtype, **extra.get(self.reduction, {}), **where}


class ComparisonSpec(Spec):
    """Which measures and matchings to compute."""

    measures: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        (
            "cka_linear_debiased",
            "cka_linear_biased",
            "svcca_variance99",
            "unit_match_hungarian",
            "unit_match_mutual_nearest",
        ),
        description="measures between pairs of taps, as `universality measures` lists them",
    )
    matching: Annotated[tuple[MatchMethod, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        ("hungarian", "mutual_nearest"), description="how units are paired: one to one, or each other's nearest"
    )
    families: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        ("curve",), description="curve, high_low_frequency, oriented_edge or colour_contrast; each brings its stimuli"
    )
    permutations: Int = Field(
        199, ge=19, le=100_000, description="permutations of images for p; the least p is 1 / (n + 1)"
    )
    bootstraps: Int = Field(500, ge=100, le=100_000, description="resamples of photographs for the intervals")


class NullSpec(Spec):
    """The nulls, always on: how many of each."""

    untrained_seeds: Annotated[
        tuple[Annotated[Int, Field(ge=0, lt=2**31)], ...], Field(min_length=1), AfterValidator(_unique)
    ] = Field((0,), description="one untrained twin of every network for each seed")
    calibration_crops: Int = Field(256, ge=32, le=100_000, description="natural images that set BatchNorm statistics")
    haar_rotations: Int = Field(3, ge=1, le=1000, description="random orthonormal bases of each layer")
    shuffles: Int = Field(3, ge=1, le=1000, description="orders of the stimuli, drawn at random")


class Job(Spec):
    """A comparison job: networks, stimuli, extraction, comparison, nulls."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$", description="names the run's folder, data/runs/NAME by default"
    )
    question: str = Field("", description="what the job is to answer; it heads the report")
    seed: Int = Field(0, ge=0, description="seed of rotations, shuffles and bootstraps")
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=2), AfterValidator(_unique_models)]
    stimuli: StimuliSpec = Field(default_factory=StimuliSpec)
    extraction: ExtractionSpec
    comparison: ComparisonSpec = Field(default_factory=ComparisonSpec)
    nulls: NullSpec = Field(default_factory=NullSpec)
    pairs: Annotated[tuple[tuple[str, str], ...], AfterValidator(_pairs_differ)] | None = Field(
        None, description="pairs of models to compare (ids); all when left out, none when empty"
    )
    figure_pairs: Annotated[tuple[tuple[str, str], ...], AfterValidator(_pairs_differ)] | None = Field(
        None, description=f"pairs drawn one by one; the first {MOST_FIGURE_PAIRS} compared pairs when left out"
    )

    @model_validator(mode="after")
    def _pairs_are_of_models(self) -> Job:
        known = {entry.id for entry in self.models}
        for name, pairs in (("pairs", self.pairs), ("figure_pairs", self.figure_pairs)):
            for model in (model for pair in pairs or () for model in pair):
                if model not in known:
                    raise ValueError(
                        f"{name} names '{model}'{did_you_mean(model, known)}, which is no model of the job"
                    )
        return self

    @model_validator(mode="after")
    def _variants_can_differ(self) -> Job:
        counts = {"curve": ("curves.variants", self.stimuli.curves.variants),
                  "high_low_frequency": ("high_low.base_cpi", self.stimuli.high_low.base_cpi)}  # fmt: skip
        for family in self.comparison.families:
            name, values = counts.get(family, ("", (0, 0)))
            if len(values) < 2:
                raise ValueError(
                    f"stimuli.{name} holds one value, but the family '{family}' is defined by agreement between two or more"
                )
        return self

    @model_validator(mode="after")
    def _scenes_have_a_policy(self) -> Job:
        stated = next((entry.id for entry in self.models if entry.scene_px), None)
        if stated is not None and self.stimuli.policy == "same_field_of_view":
            raise ValueError(
                f"scene_px of '{stated}' needs stimuli.policy = 'same_receptive_field', came 'same_field_of_view', under which "
                "scenes fill the input; drop it or change the policy"
            )
        return self

    @model_validator(mode="after")
    def _places_are_in_the_scene(self) -> Job:
        reduction = self.extraction.reduction
        if self.stimuli.policy == "same_receptive_field" and reduction not in ("center", "positions"):
            raise ValueError(
                f"extraction.reduction = '{reduction}' takes all positions of a map, of which under the policy "
                "same_receptive_field only those in the middle are shown the scene; choose center or positions"
            )
        return self

    @model_validator(mode="after")
    def _controls_are_drawn_like_arcs(self) -> Job:
        if "curve" in self.comparison.families:
            arcs, controls = self.stimuli.curves, self.stimuli.curve_controls
            for name in ("arc_length_deg", "stroke", "contrast", "colour", "scale"):
                own, theirs = getattr(arcs, name), getattr(controls, name)
                if own != theirs:
                    raise ValueError(
                        f"stimuli.curves.{name} is {own!r}, but stimuli.curve_controls.{name} is {theirs!r}; set both alike: "
                        "controls are drawn like the arcs that they control"
                    )
            if not set(arcs.variants) & set(controls.variants):
                raise ValueError(
                    "stimuli.curve_controls.variants shares none with stimuli.curves.variants; a control needs arcs drawn "
                    "like it"
                )
        return self

    @model_validator(mode="after")
    def _drawn_pairs_are_compared(self) -> Job:
        compared = {frozenset(pair) for pair in self.compared()}
        for pair in self.figure_pairs or ():
            if frozenset(pair) not in compared:
                raise ValueError(
                    f"figure_pairs names '{pair[0]}' and '{pair[1]}', which pairs does not compare; add them there"
                )
        return self

    def compared(self) -> list[tuple[str, str]]:
        """Return the pairs of models to compare, each in the job's order of models."""
        wanted = None if self.pairs is None else {frozenset(pair) for pair in self.pairs}
        every = itertools.combinations([entry.id for entry in self.models], 2)
        return [pair for pair in every if wanted is None or frozenset(pair) in wanted]

    def drawn(self) -> list[tuple[str, str]]:
        """Return the compared pairs that get figures of their own."""
        pairs = self.compared()
        if self.figure_pairs is None:
            return pairs[:MOST_FIGURE_PAIRS]
        wanted = {frozenset(pair) for pair in self.figure_pairs}
        return [pair for pair in pairs if frozenset(pair) in wanted]


class CriterionSpec(Spec):
    """One criterion of a definition of one's own."""

    column: str = Field(description="column of the table units")
    op: Literal[">", ">=", "<", "<="]
    threshold: Float = Field(description="in the column's unit")
    reason: str = Field(min_length=3, description="why it is there")


class DefinitionSpec(Spec):
    """A definition of one's own for a family, applied to the table ``units`` of a run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    base: str = Field(description="family whose stimuli and columns it uses: a name in detectors.FAMILIES")
    inherit: bool = Field(True, description="keep the base's criteria; one of the same column and side replaces it")
    note: str = ""
    criteria: Annotated[tuple[CriterionSpec, ...], Field(min_length=1)]


S = TypeVar("S", bound=Spec)

_MOST_DOTS = 32
# The time that tomllib takes for a dotted key grows with the square of its parts.
_ENDLESS_KEY = re.compile(
    rf"""^[ \t\[]*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{_MOST_DOTS}}}""", re.MULTILINE
)

MOST_TOML_BYTES = 1 << 20
"""A card or job is a few kB; what is larger, or never ends, was given by mistake."""

_BRIEF = reprlib.Repr()  # unlike repr, it ends at any depth
_BRIEF.maxother = _BRIEF.maxstring = 80


def parse_toml(
    path: Path, kind: str, error: type[UniversalityError], most_bytes: int = MOST_TOML_BYTES
) -> dict[str, Any]:
    """Read a TOML file; raise `error` in one sentence if it is missing, malformed or larger than `most_bytes`."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise error(
                f"{kind} '{path}' is larger than {most_bytes >> 20} MiB, expected a {kind} in TOML; check the path"
            )
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise error(f"{kind} '{path}' does not exist; check the path") from None
    except IsADirectoryError:
        raise error(f"{kind} '{path}' is a folder, expected a TOML file") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{kind} '{path}' cannot be read as UTF-8 text: {cause}") from None
    if _ENDLESS_KEY.search(text):
        raise error(f"{kind} '{path}' has a key of {_MOST_DOTS} parts or more; a {kind} needs three levels at most")
    try:
        return tomllib.loads(text)
    except ValueError as cause:  # also a number of thousands of digits, which Python refuses to read
        raise error(f"{kind} '{path}' is not valid TOML: {cause}; mend that line") from None
    except RecursionError:
        raise error(f"{kind} '{path}' is nested too deeply; a {kind} needs three levels at most") from None


def validate(model: type[S], data: dict[str, Any], where: str, error: type[UniversalityError]) -> S:
    """Validate `data` as `model`; raise `error` in one sentence that names the key and the remedy."""
    try:
        return model.model_validate(data)
    except ValidationError as cause:
        raise error(f"{where}: {_first_problem(model, cause)}") from None


def _first_problem(model: type[BaseModel], cause: ValidationError) -> str:
    problems = cause.errors(include_url=False)
    # A misspelt key shows as a missing one too: the misspelling is what the user has to see.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    keys = _keys_of(model, problem["loc"])
    place = ".".join(keys) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{place}'{did_you_mean(keys[-1], _known_keys(model, keys[:-1]))}"
    if problem["type"] == "missing":
        return f"key '{place}' is missing; add it"
    came = _BRIEF.repr(problem.get("input"))
    came = came if len(came) <= 80 else came[:77] + "..."
    message = re.sub(r"^Value error, ", "", problem["msg"])
    return f"key '{place}': {message} (came: {came})"


def _keys_of(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    # Below a mapping of plain values the validator appends the kind it tried last; no such key is in the file.
    depth = 2 if loc[:1] == ("kwargs",) else len(loc)
    return [str(part) for part in loc[:depth]]


def _known_keys(model: type[BaseModel], keys: list[str]) -> list[str]:
    """Field names at the place `keys` below `model`; list indices are passed over."""
    for key in keys:
        field = model.model_fields.get(key)
        if field is None:
            continue
        inner = _inner_model(field.annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _inner_model(part)
        if found is not None:
            return found
    return None


def read_card(path: Path) -> ModelCard:
    """Read a model card; raise `CardError` if it is malformed."""
    return validate(ModelCard, parse_toml(path, "model card", CardError), f"model card '{path}'", CardError)


def read_definition(path: Path) -> DefinitionSpec:
    """Read a definition of detectors; raise `JobError` if it is malformed."""
    return validate(DefinitionSpec, parse_toml(path, "definition", JobError), f"definition '{path}'", JobError)


def read_job(path: Path) -> Job:
    """Read a job file; raise `JobError` if it is malformed, `StimulusError` if a stimulus set is empty."""
    job = validate(Job, parse_toml(path, "job", JobError), f"job '{path}'", JobError)
    if 0 < job.stimuli.natural.crops + job.stimuli.natural.shapes < LEAST_NATURAL:
        raise StimulusError(
            f"job '{path}': {job.stimuli.natural.crops + job.stimuli.natural.shapes} natural images are too few to match units on one "
            f"half and score them on the other, expected at least {LEAST_NATURAL}; raise stimuli.natural.crops or shapes"
        )
    if job.stimuli.natural.crops + job.stimuli.natural.shapes == 0:
        raise StimulusError(
            f"job '{path}': stimulus set 'natural' is empty (crops = 0, shapes = 0), expected at least one image; "
            "set stimuli.natural.crops or stimuli.natural.shapes"
        )
    return job
