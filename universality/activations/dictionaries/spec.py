"""Which basis a job's layers are seen in, and how a dictionary is learnt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from universality.base.spec import Int, Spec, unique

BasisName = Literal["units", "haar", "nmf", "sae", "universal_sae"]
LEARNT = ("nmf", "sae", "universal_sae")
"""Bases that are learnt from activations."""


class DictionarySpec(Spec):
    """How many directions a basis has, and how those of a dictionary are learnt."""

    directions: Int | None = Field(
        None,
        ge=2,
        le=65_536,
        description="of each layer; as many as it has units when left out. Of units, so many are drawn at random",
    )
    active: Int = Field(
        8, ge=1, description="sae: directions that describe one position of one image, at most or on average"
    )
    sparsity: Literal["topk", "batch_topk"] = Field(
        "topk", description="sae: the largest so many of each position, or of all positions together"
    )
    seeds: Annotated[tuple[Annotated[Int, Field(ge=0, lt=2**31)], ...], Field(min_length=1), AfterValidator(unique)] = (
        Field((0, 1), description="of the learning; the first gives the basis, the others say how stable it is")
    )
    steps: Int = Field(1000, ge=1, le=1_000_000, description="sae: steps of the learning")
    batch: Int = Field(512, ge=8, le=65_536, description="positions of images in a step")
    samples: Int = Field(
        65_536,
        ge=64,
        le=10_000_000,
        description="positions of images that are learnt from, at most; more are drawn from at random",
    )
    shuffled_images: bool = Field(
        False,
        description="universal_sae, a null: every network but the first is shown the images in another order while it is learnt",
    )
