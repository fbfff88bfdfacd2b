"""What cards and jobs have in common: strict values, paths that stay below their root, frozen models, digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of plain data.

    Examples
    --------
    >>> digest({"b": 1, "a": 2.0}) == digest({"a": 2.0, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with a digest of themselves under ``digest``, for a file that nothing else has a checksum of."""
    return {**values, "digest": digest(values)}


def is_sealed(values: dict[str, Any]) -> bool:
    """Return whether the values are those that `sealed` gave.

    Examples
    --------
    >>> is_sealed(sealed({"a": 1})), is_sealed({**sealed({"a": 1}), "a": 2}), is_sealed({"a": 1})
    (True, False, False)
    """
    said = {name: value for name, value in values.items() if name != "digest"}
    try:
        return bool(values == sealed(said))
    except ValueError:  # a number that is none
        return False


def inner_path(path: str) -> str:
    """Refuse a path that is absolute or climbs out of the folder that holds the file naming it."""
    pure = Path(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError(f"path '{path}' leaves its root; give a relative path without '..'")
    return path


# Without Strict, true would count as 1 and "60" as 60.
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse values that appear twice."""
    doubled = sorted({str(v) for v in values if values.count(v) > 1})
    if doubled:
        raise ValueError(f"values appear twice: {', '.join(doubled)}; name each once")
    return values


InnerPath = Annotated[str, AfterValidator(inner_path)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Spec(BaseModel):
    """Base of every specification: immutable, unknown keys refused.

    What is stored is found again by digests of plain values, so a field that was added later is in them only where it does
    not have its default: `_later` names such fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    _later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name in self._later:
            if name in values and getattr(self, name) == type(self).model_fields[name].default:
                del values[name]
        return values

    def plain(self) -> dict[str, Any]:
        """Return the validated values as plain JSON-compatible data."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the validated values."""
        return digest(self.plain())
