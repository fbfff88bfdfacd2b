"""Model cards and taps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from universality.base import html
from universality.base.errors import CardError, did_you_mean
from universality.base.spec import Float, InnerPath, Int, Sha256, Spec, digest, unique
from universality.base.toml import parse_toml, validate

WHOLE_IMAGE = "whole image"
"""What stands for the receptive field of a tap that has none."""
Size = int | tuple[int, int, int]
"""Of a network's input: side of a square in colour, px, or (channels, height, width)."""


def input_shape(size: Size) -> tuple[int, int, int]:
    """Return channels, height and width of an input.

    Examples
    --------
    >>> input_shape(224), input_shape((1, 64, 96))
    ((3, 224, 224), (1, 64, 96))
    """
    return (3, size, size) if isinstance(size, int) else size


class Tap(Spec):
    """One place in a network whose units are recorded.

    Positions are in pixels of the network's input, counted between pixel centres: the first pixel's centre is
    0, so an input of `size_px` pixels has its middle at ``(size_px - 1) / 2``.

    A tap gives a *map* (units at positions in rows and columns), *tokens* (the same in one row of vectors, of which the first
    `prefix` stand for no place of the image) or a *vector* (units without positions). Without `rf_px` units count as seeing the
    whole image: positions, if there are any, are where the network's grid lies in the image.
    """

    name: str = Field(description="label of the tap in tables; by default the module path")
    path: str = Field(description="module path inside the network, as in named_modules(); empty for the network itself")
    item: str = Field("", description="which of several tensors the module gives: place or key, such as 0 or out")
    call: Int = Field(0, ge=0, description="which call of the module in one forward pass, from 0")
    calls: Int = Field(1, ge=1, description="how often the module is called in one forward pass")
    side: Literal["input", "output"] = Field("output", description="the module's first input or its output")
    activation: Literal["pre", "post"] = Field(description="before or after the nonlinearity")
    kind: Literal["map", "tokens", "vector"] = Field(
        "map", description="map: rows and columns of positions; tokens: the same in a row; vector: no positions"
    )
    layout: Literal["channels_first", "channels_last"] = Field(
        "channels_first", description="whether units are the first or the last dimension of what one image gives"
    )
    prefix: Int = Field(0, ge=0, description="tokens before those of the grid: class and register tokens, not recorded")
    channels: Int = Field(ge=1, description="units (feature maps)")
    size: Int = Field(ge=1, description="height and width of the feature map at the card's input size; 1 for a vector")
    width: Int | None = Field(None, ge=1, description="width of the feature map where it is not its height")
    rf_px: Int | None = Field(
        None,
        ge=1,
        description="receptive field, side, px; absent where units see the whole image, or no one field fits them all",
    )
    stride_px: Int | Annotated[Float, Field(gt=0)] | None = Field(
        None, description="distance between neighbouring positions, px; below 1 in enlarged maps; absent for a vector"
    )
    rf_start_px: Float | None = Field(
        None, description="centre of the receptive field of position 0, px; absent for a vector"
    )
    relative_depth: Float = Field(
        gt=0, le=1, description="convolutions and linear layers run before the tap / all of them, in forward order"
    )

    clips_at: Annotated[Float, Field(gt=0)] | None = Field(
        None,
        description="largest value of a nonlinearity that clips from above, such as 6 of ReLU6, where the network holds the values before it; "
        "tuning and matching read those, cut at 0",
    )

    _later: ClassVar[tuple[str, ...]] = ("item", "kind", "layout", "prefix", "width", "clips_at")

    @model_validator(mode="before")
    @classmethod
    def _name_from_path(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and isinstance(data.get("path"), str):
            return {**data, "name": tap_name(data["path"], str(data.get("item", "")))}
        return data

    @model_validator(mode="after")
    def _call_below_calls(self) -> Tap:
        if self.call >= self.calls:
            raise ValueError(f"call {self.call} is not below calls {self.calls}")
        return self

    @model_validator(mode="after")
    def _clips_behind_a_nonlinearity(self) -> Tap:
        if self.clips_at is not None and self.activation == "pre":
            raise ValueError(
                "values before a nonlinearity are not clipped; leave out clips_at, or state activation = 'post'"
            )
        return self

    @model_validator(mode="after")
    def _geometry_fits_the_kind(self) -> Tap:
        placed = self.stride_px is not None and self.rf_start_px is not None
        if self.kind == "vector":
            if self.size != 1 or self.width is not None or self.prefix:
                raise ValueError("a vector has no positions: state size = 1, and neither width nor prefix")
            if self.rf_px is not None or self.stride_px is not None or self.rf_start_px is not None:
                raise ValueError("a vector has no positions: leave out rf_px, stride_px and rf_start_px")
        elif not placed:
            raise ValueError(f"positions of {self.kind} need stride_px and rf_start_px; state both")
        elif self.kind == "map" and self.prefix:
            raise ValueError("only tokens have a prefix; leave it out, or state kind = 'tokens'")
        if isinstance(self.stride_px, int) and self.stride_px < 1:
            raise ValueError("stride_px must be above 0")
        return self

    @property
    def whole_image(self) -> bool:
        """Whether every unit sees the whole image, so that there is no receptive field."""
        return self.rf_px is None

    @property
    def columns(self) -> int:
        """Width of the map."""
        return self.width or self.size

    @property
    def shown(self) -> str:
        """What the tap gives, in words: ``14 x 14``, ``14 x 14 tokens``, ``vector``."""
        if self.kind == "vector":
            return "vector"
        return f"{self.size} x {self.columns}{' tokens' if self.kind == 'tokens' else ''}"

    def center_index(self, size_px: int) -> int:
        """Return the row (and column) index of the unit whose receptive-field centre is nearest the image's."""
        return self.index_at((size_px - 1) / 2)

    def index_at(self, position_px: float, size: int | None = None) -> int:
        """Return the index of the position whose receptive-field centre is nearest `position_px` (ties: lower).

        `size` is the number of positions along the side: the map's height when left out.
        """
        if self.stride_px is None or self.rf_start_px is None:
            return 0
        exact = (position_px - self.rf_start_px) / self.stride_px
        nearest = int(-(-(exact - 0.5) // 1))  # ceil(exact - 0.5): rounds half down
        return min(max(nearest, 0), (size or self.size) - 1)

    def centre_px(self, position_px: float, size: int | None = None) -> float:
        """Return where the centre of that position lies, px; `position_px` itself for a vector, which has none."""
        if self.stride_px is None or self.rf_start_px is None:
            return position_px
        return self.rf_start_px + self.stride_px * self.index_at(position_px, size)


def tap_name(path: str, item: str = "") -> str:
    """Return how a place is named on the command line and in tables.

    Examples
    --------
    >>> tap_name("layer1.0"), tap_name("backbone", "out"), tap_name("", "0")
    ('layer1.0', 'backbone[out]', 'output[0]')
    """
    return f"{path or 'output'}[{item}]" if item else path or "output"


CHANNELS = {
    1: "luminance",
    3: "red, green, blue",
    4: "red, green, blue, and a fourth that is 1 everywhere, as in opaque pictures",
}
"""By number of channels of a network's input: what stimuli, which are in colour, are shown as."""


class Preprocessing(Spec):
    """How an image in [0, 1] becomes a network's input: of `size_px`, then ``(x - mean) / std``."""

    size_px: Int = Field(ge=8, le=4096, description="side of the network's input, px")
    width_px: Int | None = Field(
        None, ge=8, le=4096, description="width of an input that is not square; size_px is its height"
    )
    resize_px: Int | None = Field(None, description="side to which the source's own recipe resizes before cropping, px")
    interpolation: Literal["bilinear", "bicubic"] = Field(description="resampling of photographs")
    mean: tuple[float, ...] = Field(
        description="per channel (red, green, blue; or luminance alone; or a fourth that is 1 in every image)"
    )
    std: tuple[float, ...] = Field(description="per channel, as mean")
    note: str = Field("", description="anything the source switches on silently")

    _later: ClassVar[tuple[str, ...]] = ("width_px",)

    @model_validator(mode="after")
    def _std_positive(self) -> Preprocessing:
        if len(self.mean) not in CHANNELS or len(self.std) != len(self.mean):
            said = "; ".join(f"{count}: {what}" for count, what in CHANNELS.items())
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers, expected as many each ({said})"
            )
        if min(self.std) <= 0:
            raise ValueError("std must be positive in every channel")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return len(self.mean), self.size_px, self.width_px or self.size_px

    @property
    def canvas_px(self) -> int:
        """Side of the square that stimuli are drawn on; the input is the middle of it, px."""
        return max(self.shape[1:])

    @property
    def pixels(self) -> int:
        """Pixels of the input."""
        return self.shape[1] * self.shape[2]


class Weights(Spec):
    """Where pretrained weights come from and how they are recognised."""

    name: str = Field(description="the source's name of these weights")
    seed: Int | None = Field(None, ge=0, description="of random weights; absent for trained ones")
    url: str = Field("", description="download address (torchvision) or hub repository (timm)")
    hub_file: str = Field("", description="file in the hub repository, where it is not the usual one")
    file_sha256_prefix: str = Field("", pattern=r"^[0-9a-f]{0,64}$", description="start of the file's SHA-256")
    state_dict_sha256: Sha256 | None = Field(
        None, description="hash of the loaded state dict (zoo.state_dict_sha256); absent where it is not pinned yet"
    )
    package: str = Field("", description="importable package that carries the file")
    package_file: InnerPath = Field("", description="path of the file inside that package")
    mapping: Literal["by_name", "by_order"] = Field("by_name", description="how tensors find their place")
    drop_prefixes: tuple[str, ...] = Field((), description="tensors of parts that the card's network leaves out")
    part: str = Field("", description="which set of tensors in the file, where it holds several, such as model_ema")
    done: tuple[str, ...] = Field((), description="what was unwrapped and converted, in words")
    lost: tuple[str, ...] = Field((), description="what was left out of the file, or filled, in words")


class Training(Spec):
    """How the project trained a network itself."""

    command: str = Field(description="command that trains it again")
    diet: str = Field(description="kind of training images")
    task: str = Field(description="what the label is")
    seed: Int = Field(ge=0)
    epochs: Int = Field(ge=1)
    images: Int = Field(ge=1, description="training images")
    generator: Int = Field(ge=1, description="version of the generator that drew the training images")
    accuracy: Float = Field(ge=0, le=1, description="on held-out images of fresh seeds")
    held_out_images: Int = Field(ge=1)
    chance: Float = Field(ge=0, le=1)
    seconds: Float = Field(gt=0, description="time of the training steps on the machine that trained it")
    threads: Int = Field(ge=1)
    versions: str = Field(description="Python and packages that trained it")


class ModelCard(Spec):
    """Facts about one network: where it comes from, its preprocessing, its taps, its licence."""

    id: str = Field(
        pattern=r"^([a-z0-9_]+/)?[A-Za-z0-9_.\-]+$",
        description="source/name, as in the file's place; of a module in hand its name",
    )
    source: str = Field(description="key in weight_files.SOURCES: who supplies the weights")
    library: Literal["timm", "torchvision", "pocket", "handwritten", "factory", "hand"] = Field(
        description="who supplies the architecture; handwritten: the project's formulas; factory: a function of your own, architecture = package.module:function; hand: "
        "a module that was given to a run"
    )
    architecture: str = Field(description="the library's name of the architecture")
    kwargs: dict[str, bool | int | float | str | tuple[int, ...]] = Field(
        default_factory=dict, description="arguments of the architecture"
    )
    training_set: str = Field(description="what the weights were trained on")
    licence: str = Field(description="licence of the weights")
    citation: str = Field(description="paper of the architecture or of the weights")
    note: str = Field("", description="what a reader of results should know")
    void_twin: str = Field(
        "", description="why an untrained twin is no null, as measured on natural images; empty where it is one"
    )
    preprocessing: Preprocessing
    weights: Weights
    training: Training | None = Field(None, description="for networks that the project trained itself")
    taps: Annotated[tuple[Tap, ...], Field(min_length=1)]

    _later: ClassVar[tuple[str, ...]] = ("void_twin",)

    @model_validator(mode="after")
    def _tap_names_unique(self) -> ModelCard:
        unique(tuple(tap.name for tap in self.taps))
        return self

    def tap(self, name: str) -> Tap:
        """Return the tap called `name`; raise `CardError` with the nearest name if there is none."""
        for tap in self.taps:
            if tap.name == name:
                return tap
        near = did_you_mean(name, [tap.name for tap in self.taps])
        raise CardError(f"model '{self.id}' has no tap '{name}'{near}")

    @property
    def untrained(self) -> bool:
        """Whether the model itself has random weights."""
        return self.weights.seed is not None

    @property
    def weight_notes(self) -> list[str]:
        """What a reader of results has to know of the weights, in words: that they are random, or what their file lacked."""
        random = (
            [f"its weights are random (seed {self.weights.seed}): it is untrained itself"] if self.untrained else []
        )
        return [*random, *(f"of its weights: {text}" for text in self.weights.lost)]

    @model_validator(mode="after")
    def _ids_have_a_source(self) -> ModelCard:
        if self.library != "hand" and "/" not in self.id:
            raise ValueError(f"'id' is '{self.id}', expected source/name as in the file's place")
        return self

    @model_validator(mode="after")
    def _random_weights_have_a_seed(self) -> ModelCard:
        if (self.source == "random") != self.untrained:
            raise ValueError("random weights need both: source = 'random', and weights.seed")
        return self

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
            (
                "input",
                f"{' x '.join(map(str, dict.fromkeys(shown.shape[1:])))} px, {shown.interpolation}, mean {shown.mean}, std {shown.std}",
            ),
            ("weights", f"{self.weights.name}, SHA-256 {self.weights.state_dict_sha256 or 'not pinned'}"),
            ("licence", self.licence),
            ("citation", self.citation),
            ("note", " ".join(text for text in (self.note, self.void_twin) if text)),
        )
        heads = ("tap", "activation", "units", "map", "receptive field, px", "stride, px", "relative depth")
        taps = [
            (
                t.name,
                t.activation,
                t.channels,
                t.shown,
                t.rf_px or WHOLE_IMAGE,
                t.stride_px or "",
                f"{t.relative_depth:.2f}",
            )
            for t in self.taps
        ]
        return html.heading(self.id) + html.facts(said) + html.table(heads, taps)


def read_card(path: Path) -> ModelCard:
    """Read a model card; raise `CardError` if it is malformed."""
    return validate(ModelCard, parse_toml(path, "model card", CardError), f"model card '{path}'", CardError)
