"""How activations are recorded and how many nulls there are, as a job states it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from universality.base.errors import JobError
from universality.base.schema import REDUCTIONS
from universality.base.spec import Int, Spec, unique
from universality.models.card import Tap

Reduction = Literal["center", "mean", "max", "positions"]


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

    def unclipped(self, tap: Tap) -> bool:
        """Return whether what is stored of a tap are the values before its nonlinearity clips them, cut at 0.

        Of maxima and single positions the clipped values follow from those; of means they do not, so means are of what the network hands on.
        """
        return tap.clips_at is not None and self.reduction != "mean"

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


class NullSpec(Spec):
    """The nulls, always on: how many of each."""

    untrained_seeds: Annotated[
        tuple[Annotated[Int, Field(ge=0, lt=2**31)], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field((0,), description="one untrained twin of every network for each seed")
    calibration_crops: Int = Field(256, ge=32, le=100_000, description="natural images that set BatchNorm statistics")
    haar_rotations: Int = Field(
        3,
        ge=1,
        le=1000,
        description="random orthonormal bases of each layer in which detectors are counted; a verdict takes 120 at least, each in both directions",
    )
    noisy_copies: Annotated[tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], AfterValidator(unique)] = Field(
        (),
        description="a noisy copy of every network (or of those in copied) for each correlation of its units with the originals, such as 0.84: the ceilings",
    )
    copied: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        (), description="models (ids) that get noisy copies; every one when left out"
    )
    shuffles: Int = Field(3, ge=1, le=1000, description="orders of the stimuli, drawn at random")
