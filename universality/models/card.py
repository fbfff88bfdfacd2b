"""Model cards and taps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from universality.base import html
from universality.base.errors import CardError, did_you_mean
from universality.base.spec import Float, InnerPath, Int, Sha256, Spec, digest, unique
from universality.base.toml import parse_toml, validate


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

    id: str = Field(pattern=r"^[a-z0-9_]+/[A-Za-z0-9_.\-]+$", description="source/name, as in the file's place")
    source: str = Field(description="key in weight_files.SOURCES: who supplies the weights")
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
        return html.heading(self.id) + html.facts(said) + html.table(heads, taps)


def read_card(path: Path) -> ModelCard:
    """Read a model card; raise `CardError` if it is malformed."""
    return validate(ModelCard, parse_toml(path, "model card", CardError), f"model card '{path}'", CardError)
