"""The pages that are made from the package: `python docs/generators.py` writes docs/job.md, measures.md and tables.md.

They are committed, so that they can be read without building the site; a test compares them with the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from universality.base.schema import Table
from universality.jobs.stages import STAGES
from universality.runs.job import job_schema
from universality.similarity import COMPARATORS, INVARIANCES, METHODS, Comparator
from universality.similarity.describe import record, shown

_RANGE = (
    ("minimum", ">= {}"), ("exclusiveMinimum", "> {}"), ("maximum", "<= {}"), ("exclusiveMaximum", "< {}"),
    ("minItems", "at least {} of them"), ("pattern", "matches `{}`"),
)  # fmt: skip
JOB_HEAD = """# The job file

TOML. Every key, as `universality schema job` exports it (JSON schema, for editors that check TOML); this page is made from
the same specification. Unknown keys are refused. Keys without a default must be given. `[[models]]` is written once for
each model, the other tables once or not at all.
"""


def job_markdown() -> str:
    """Return every key of a job file: meaning, type, default and range, table by table."""
    schema = job_schema()
    parts = [JOB_HEAD]
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


def measures_markdown() -> str:
    """Return the description of all measures as Markdown: it is ``docs/measures.md``."""
    parts = [
        "# Measures\n\nEvery measure between two layers, as `universality.measures()` and `universality measures` give it. This page is "
        "made from\n`universality/similarity/registry.py`; `tests/test_similarity_common.py` tests ranges, invariances, symmetry, metrics and least n.\n\n"
        "`universality.score(name, x, y)` compares two [arrays](how-to/own-arrays.md) (n stimuli, p units), (n, q). Units that do not vary are masked "
        "and counted.\nWhere a score would be trivial or undefined it is NaN, with a reason.\n\n",
        _markdown_table(("measure", "computes", "range", "self", "symmetric", "metric"), map(_summary, COMPARATORS.values())),
        "\n## Invariances\n\nWhat may be done to either layer without changing the score.\n\n",
        _markdown_table(("invariance", "meaning"), ((f"`{key}`", text) for key, text in INVARIANCES.items())),
        "\n",
        _markdown_table(("measure", *INVARIANCES), map(_invariances, COMPARATORS.values())),
        "\n## Requirements, cost and sources\n\n",
        _markdown_table(("measure", "least n", "n against p, q", "cost per layer; per pair", "reference"), map(_source, COMPARATORS.values())),
        "\n## Matching units\n\n`universality.match_units(x, y, method=...)` returns one row per match.\n\n",
        _markdown_table(("method", "matches"), ((f"`{key}`", method.meaning) for key, method in METHODS.items())),
    ]  # fmt: skip
    return "".join(parts)


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _summary(entry: Comparator) -> tuple[str, ...]:
    facts = record(entry)
    limits = f"{shown(entry.low)} to {shown(entry.high)}, {entry.direction}"
    return (
        f"`{entry.name}`",
        entry.variant,
        limits,
        *(shown(facts[key]) for key in ("self_score", "symmetric", "metric")),
    )


def _invariances(entry: Comparator) -> tuple[str, ...]:
    return (f"`{entry.name}`", *("yes" if key in entry.invariances else "no" for key in INVARIANCES))


def _source(entry: Comparator) -> tuple[str, ...]:
    return (f"`{entry.name}`", str(entry.min_n), entry.n_against_p, entry.cost, entry.reference)


def tables_markdown() -> str:
    """Return the description of all tables as Markdown, stage by stage: it is ``docs/tables.md``."""
    parts = [
        "# Tables of a run\n\nEvery column, its unit, range and meaning, by the stage of the job that makes the table. The same words "
        "are in the\nmetadata of the Parquet files. This page is made from `universality/base/schema.py`.\n"
    ]
    for stage in STAGES.values():
        needs = f" It needs {', '.join(f'`{name}`' for name in stage.needs)}." if stage.needs else ""
        parts.append(f"\n# Stage `{stage.name}`\n\n{stage.makes[0].upper()}{stage.makes[1:]}.{needs}\n")
        parts += [_table_markdown(table) for table in stage.tables]
    return "".join(parts)


def _table_markdown(table: Table) -> str:
    parts = [
        f"\n## {table.name}.parquet\n\nOne row: {table.row}.\n\n| column | kind | unit | range | meaning |\n|---|---|---|---|---|\n"
    ]
    for column in table.columns:
        cells = (f"`{column.name}`", column.kind, column.unit, column.range, column.meaning)
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


PAGES = {"job.md": job_markdown, "measures.md": measures_markdown, "tables.md": tables_markdown}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (Path(__file__).parent / name).write_text(make(), encoding="utf-8")
