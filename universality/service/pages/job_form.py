"""The form of a job, made from the schema of job files, and back: from what a browser sends to the values of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import tomli_w

from universality.base.errors import JobError
from universality.features import names
from universality.runs.job import ComparisonSpec, Job, MatchMethod
from universality.similarity.registry import COMPARATORS

_OWN = {
    "name",
    "question",
    "seed",
    "models",
    "pairs",
    "figure_pairs",
    "stages",
    "comparison.families",
    "comparison.measures",
    "comparison.matching",
}
"""What the form shows in a way of its own."""
_NEVER = {"stimuli.natural.folders", "stimuli.natural.images", "stimuli.folder"}
"""What a request may not say: which files a job reads is decided by whoever runs the service."""
FAMILIES, MEASURES, MATCHING = tuple(names.NAMES), tuple(COMPARATORS), get_args(MatchMethod)
DEFAULTS: dict[str, tuple[str, ...]] = ComparisonSpec().model_dump(include={"families", "measures", "matching"})
"""What is ticked at first."""
_NUMBERS: dict[str, Callable[[str], int | float]] = {"integer": int, "number": float}
_MOST_LETTERS = 4000


@dataclass(frozen=True)
class Field:
    """One value of a job that the form asks for.

    Attributes
    ----------
    name : its dotted key, such as ``nulls.shuffles``
    kind : integer, number, string, boolean or list
    options : what it may be; empty for anything of its kind
    default : as text; empty for none
    of : kind of the entries of a list
    """

    name: str
    kind: str
    meaning: str
    default: str
    required: bool
    options: tuple[str, ...] = ()
    of: str = "string"


@cache
def fields() -> tuple[Field, ...]:
    """Return the values that the schema of job files names and that the form has no other way for, in the schema's order."""
    schema = Job.model_json_schema()
    found = _walk(schema, schema["$defs"], "", True)
    return tuple(
        field
        for field in found
        if not any(field.name == own or field.name.startswith(f"{own}.") for own in _OWN | _NEVER)
    )


def _walk(part: Mapping[str, Any], known: Mapping[str, Any], prefix: str, required: bool) -> Iterator[Field]:
    for name, said in part.get("properties", {}).items():
        dotted, needed = f"{prefix}{name}", required and name in part.get("required", ())
        inner = _resolved(said, known)
        kind = inner.get("type")
        meaning = said.get("description", inner.get("description", ""))
        default = _text(said["default"]) if said.get("default") is not None else ""
        if "properties" in inner:
            yield from _walk(inner, known, f"{dotted}.", needed)
        elif "enum" in inner or "const" in inner:
            options = tuple(map(str, inner.get("enum", [inner.get("const")])))
            yield Field(dotted, "string", meaning, default, needed, options)
        elif kind in ("integer", "number", "string", "boolean"):
            yield Field(dotted, kind, meaning, default, needed)
        elif kind == "array":
            of = _resolved(inner.get("items", {}), known)
            if of.get("type") in ("integer", "number", "string"):
                yield Field(dotted, "list", meaning, default, needed, tuple(map(str, of.get("enum", ()))), of["type"])


def _resolved(said: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a schema refers to; of a value that may be absent what it is otherwise."""
    if "$ref" in said:
        return _resolved(known[said["$ref"].rsplit("/", 1)[1]], known)
    if "anyOf" in said:
        return _resolved(next(one for one in said["anyOf"] if one.get("type") != "null"), known)
    return said


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def groups() -> dict[str, list[Field]]:
    """Return the fields by what they are about: the first parts of their keys."""
    found: dict[str, list[Field]] = {}
    for field in fields():
        found.setdefault(field.name.rsplit(".", 1)[0] if "." in field.name else "job", []).append(field)
    return found


def values_of(form: Sequence[tuple[str, str]], stages: Sequence[str]) -> dict[str, Any]:
    """Return the values of a job that a form says; what has its default is left out.

    Parameters
    ----------
    form : names and values as a browser sends them: dotted keys; ``models`` once for each network, ``taps:MODEL`` once for each chosen tap;
        ``pairs`` as lines of two networks; ``families``, ``measures``, ``matching`` and ``stages`` once for each that is ticked
    stages : all stages; those that are not ticked are left out

    Raises
    ------
    JobError
        A value is not of its kind.
    """
    single: dict[str, str] = {}
    ticked: dict[str, list[str]] = {}
    for name, value in form:
        if len(value) > _MOST_LETTERS:
            raise JobError(f"'{name[:60]}' has {len(value)} characters, expected at most {_MOST_LETTERS}; shorten it")
        single[name] = value.strip()
        ticked.setdefault(name, []).append(value.strip())
    job: dict[str, Any] = {name: single[name] for name in ("name", "question") if single.get(name)}
    if single.get("seed", "0") not in ("", "0"):
        job["seed"] = _number("seed", single["seed"], "integer")
    job["models"] = []
    for model in ticked.get("models", []):
        taps = ticked.get(f"taps:{model}", [])
        job["models"].append({"id": model, "taps": taps} if taps else {"id": model})
    if single.get("pairs"):
        job["pairs"] = [_pair(line) for line in single["pairs"].splitlines() if line.strip()]
    job["comparison"] = _comparison(ticked)
    left_out = [name for name in stages if name not in ticked.get("stages", [])]
    if left_out and "stages" in ticked:
        job["stages"] = {"without": left_out}
    for field in fields():
        text = single.get(field.name, "")
        if text and text != field.default:
            _put(job, field.name.split("."), _value(field, text))
    return {name: value for name, value in job.items() if value != {}}


def _comparison(ticked: Mapping[str, list[str]]) -> dict[str, Any]:
    # A browser says nothing of boxes that are not ticked; that a form had boxes at all is said by `boxes`.
    asked = {name: ticked.get(name, []) for name in DEFAULTS if "boxes" in ticked}
    return {name: values for name, values in asked.items() if sorted(values) != sorted(DEFAULTS[name])}


def _pair(line: str) -> list[str]:
    parts = line.replace(",", " ").split()
    if len(parts) != 2:
        raise JobError(f"pairs has the line '{line.strip()[:100]}', expected two networks; write one pair a line")
    return parts


def _value(field: Field, text: str) -> Any:
    if field.kind == "list":
        parts = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
        return [_number(field.name, part, field.of) if field.of in _NUMBERS else part for part in parts]
    if field.kind == "boolean":
        return text.lower() in ("true", "on", "yes")
    return _number(field.name, text, field.kind) if field.kind in _NUMBERS else text


def _number(name: str, text: str, kind: str) -> int | float:
    try:
        return _NUMBERS[kind](text)
    except ValueError:
        raise JobError(
            f"'{name}' is '{text[:60]}', expected a {'whole number' if kind == 'integer' else 'number'}; correct it"
        ) from None


def _put(job: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        job = job.setdefault(key, {})
    job[keys[-1]] = value


def toml_of(values: Mapping[str, Any]) -> str:
    """Return the values of a job as a job file."""
    return tomli_w.dumps(values)
