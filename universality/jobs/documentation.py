"""What can be written in a job file: its JSON schema, and every key as Markdown, both from the specification itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from universality.spec import job_schema

_RANGE = (
    ("minimum", ">= {}"), ("exclusiveMinimum", "> {}"), ("maximum", "<= {}"), ("exclusiveMaximum", "< {}"),
    ("minItems", "at least {} of them"), ("pattern", "matches `{}`"),
)  # fmt: skip
HEAD = """# The job file

TOML. Every key, as `universality schema job` exports it (JSON schema, for editors that check TOML); this page is made from
the same specification. Unknown keys are refused. Keys without a default must be given. `[[models]]` is written once for
each model, the other tables once or not at all.
"""


def job_markdown() -> str:
    """Return every key of a job file: meaning, type, default and range, table by table."""
    schema = job_schema()
    parts = [HEAD]
    for path, part in _tables(schema, schema, ""):
        title = f"`{path}`" if path else "Top level"
        parts.append(f"## {title}\n\n{_first_line(part)}\n")
        parts.append("| key | meaning | type | default | range |\n|---|---|---|---|---|")
        parts.append("\n".join(_rows(schema, part, path)) + "\n")
    return "\n".join(parts)


def _first_line(part: dict[str, Any]) -> str:
    return str(part.get("description", "")).split("; see :mod:")[0].rstrip(".").replace("`", "") + "."


def _inner(schema: dict[str, Any], field: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """Return the table that a key holds, and whether it is an array of tables."""
    listed = field.get("type") == "array"
    reference = (field.get("items", {}) if listed else field).get("$ref")
    return (None if reference is None else schema["$defs"][reference.rsplit("/", 1)[-1]]), listed


def _tables(schema: dict[str, Any], part: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and schema of a table, then of those inside it."""
    yield path, part
    for key, field in part["properties"].items():
        inner, listed = _inner(schema, field)
        if inner is not None:
            yield from _tables(schema, inner, _below(path, key, listed))


def _below(path: str, key: str, listed: bool) -> str:
    name = f"{path.strip('[]')}.{key}".lstrip(".")
    return f"[[{name}]]" if listed else f"[{name}]"


def _rows(schema: dict[str, Any], part: dict[str, Any], path: str) -> Iterator[str]:
    required = part.get("required", [])
    for key, field in part["properties"].items():
        inner, listed = _inner(schema, field)
        if inner is not None:
            shown = _below(path, key, listed)
            yield f"| `{key}` | {_cell(field.get('description') or _first_line(inner))} | table, see `{shown}` below | {'**required**' if key in required else ''} | |"
            continue
        default = "**required**" if key in required else _default(field.get("default"))
        yield f"| `{key}` | {_cell(field['description'])} | {_type(field)} | {default} | {_cell(_range(field))} |"


def _default(value: Any) -> str:
    if value is None:
        return "left out"
    if value == {}:
        return "empty"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"`{str(value).lower() if isinstance(value, bool) else text}`" if text else "empty"


def _options(field: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds a key may have; null stands for leaving it out and is none."""
    return [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]


def _type(field: dict[str, Any]) -> str:
    (kind,) = _options(field)
    if kind.get("type") == "object":
        return f"table of {_type(kind['additionalProperties'])}s"
    if kind.get("type") != "array":
        return {"number": "number", "integer": "integer", "string": "text", "boolean": "true or false"}[kind["type"]]
    if "prefixItems" in kind:
        return f"list of {len(kind['prefixItems'])}"
    return f"list of {_type(kind['items'])}"


def _range(field: dict[str, Any]) -> str:
    (kind,) = _options(field)
    said = [text.format(kind[name]) for name, text in _RANGE if name in kind]
    if "prefixItems" in kind:
        return ""
    if kind.get("type") in ("array", "object"):
        inner = _range(kind.get("items") or kind["additionalProperties"])
        said += [f"each {inner}"] if inner else []
    values = kind.get("enum") or ([kind["const"]] if "const" in kind else [])
    said += [f"one of {', '.join(map(str, values))}"] if values else []
    return "; ".join(said)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
