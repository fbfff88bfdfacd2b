"""Definitions of detectors of one's own, as a file states them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from universality.base.errors import JobError
from universality.base.spec import Float, Spec
from universality.base.toml import parse_toml, validate


class CriterionSpec(Spec):
    """One criterion of a definition of one's own."""

    column: str = Field(description="column of the family's units: of the table units or of the family's own")
    op: Literal[">", ">=", "<", "<="]
    threshold: Float = Field(description="in the column's unit")
    reason: str = Field(min_length=3, description="why it is there")


class DefinitionSpec(Spec):
    """A definition of one's own for a family, applied to the family's units in a run."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    base: str = Field(description="family whose stimuli and columns it uses: a name in features.families.FAMILIES")
    inherit: bool = Field(True, description="keep the base's criteria; one of the same column and side replaces it")
    note: str = ""
    criteria: Annotated[tuple[CriterionSpec, ...], Field(min_length=1)]


def read_definition(path: Path) -> DefinitionSpec:
    """Read a definition of detectors; raise `JobError` if it is malformed."""
    return validate(DefinitionSpec, parse_toml(path, "definition", JobError), f"definition '{path}'", JobError)
