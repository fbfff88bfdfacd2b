"""TOML in: what is missing, malformed or misspelt becomes one sentence."""

from __future__ import annotations

import re
import reprlib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from universality.base.errors import UniversalityError, did_you_mean
from universality.base.spec import Spec

S = TypeVar("S", bound=Spec)

_MOST_DOTS = 32
# The time that tomllib takes for a dotted key grows with the square of its parts.
_WINDOWS_PATH = re.compile(r'"((?:[A-Za-z]:\\|\\\\)[^"\\\n]*)')
"""In double quotes, where TOML takes a backslash for the beginning of a special character."""
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
        text = content.decode("utf-8-sig")  # editors on Windows begin a file with a mark
    except FileNotFoundError:
        raise error(f"{kind} '{path}' does not exist; check the path") from None
    except IsADirectoryError:
        raise error(f"{kind} '{path}' is a folder, expected a TOML file") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{kind} '{path}' cannot be read as UTF-8 text: {cause}") from None
    return toml_of(text, f"{kind} '{path}'", kind, error)


def toml_of(text: str, where: str, kind: str, error: type[UniversalityError]) -> dict[str, Any]:
    """Return what a TOML text holds; raise `error` in one sentence that begins with `where` if it is malformed."""
    if _ENDLESS_KEY.search(text):
        raise error(f"{where} has a key of {_MOST_DOTS} parts or more; a {kind} needs three levels at most")
    try:
        return tomllib.loads(text)
    except ValueError as cause:  # also a number of thousands of digits, which Python refuses to read
        windows = _WINDOWS_PATH.search(text)
        remedy = f"write paths in single quotes, '{windows[1]}...', or with /" if windows else "correct that line"
        raise error(f"{where} is not valid TOML: {cause}; {remedy}") from None
    except RecursionError:
        raise error(f"{where} is nested too deeply; a {kind} needs three levels at most") from None


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
