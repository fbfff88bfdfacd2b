"""What the site shows of the code itself: commands, keys and changes are read when it is built, so they cannot go stale."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel
from typer.main import get_command

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of generated parts by the parts."""
    for mark, make in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def commands() -> str:
    """Return every command with its arguments, options and example."""
    from universality.cli import app

    return "\n".join(_command("universality", get_command(app)))


def _command(path: str, command: click.Command) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if not inner or getattr(command, "invoke_without_command", False):
        yield from _one(path, command)
    for name, child in inner.items():
        yield from _command(f"{path} {name}", child)


def _one(path: str, command: click.Command) -> Iterator[str]:
    yield f"\n## {path}\n"
    yield (command.help or "").replace("Example: ", "    ")
    rows = [row for parameter in command.params for row in _parameter(parameter)]
    if rows:
        yield "\n| | |\n|---|---|"
        yield from rows


def _parameter(parameter: click.Parameter) -> Iterator[str]:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return
    names = ", ".join(f"`{name}`" for name in parameter.opts) if parameter.param_type_name == "option" else ""
    metavar = (parameter.metavar or parameter.name or "").upper()
    text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    yield f"| {names or f'`{metavar}`'} | {text} |"


def card_keys() -> str:
    """Return the keys of a model card."""
    from universality.models.card import ModelCard

    return "\n".join(_keys(ModelCard, "", "model card"))


def _keys(model: type[BaseModel], place: str, title: str) -> Iterator[str]:
    yield f"\n## {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n| key | meaning | default |\n|---|---|---|"
    later = []
    for name, field in model.model_fields.items():
        key = f"{place}{name}"
        inner = _model_in(field.annotation)
        if inner is not None:
            later.append((inner, key))
        default = "needed" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        meaning = field.description or (f"see [{key}](#{key.replace('_', '_')})" if inner else "")
        yield f"| `{key}` | {meaning.replace('|', '/')} | {'' if inner else default} |"
    for inner, key in later:
        yield from _keys(inner, "", key)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def changes() -> str:
    """Return the changelog without its title; its links are seen from the pages' own folder."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2].replace("](docs/", "](")


MARKS = {"<!-- commands -->": commands, "<!-- card keys -->": card_keys, "<!-- changes -->": changes}
