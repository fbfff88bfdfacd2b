"""Small HTML for notebooks. Every text is escaped here, so that no card, job or finding can bring markup of its own."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Return a value as text that is safe between tags and in a quoted attribute."""
    return html.escape(str(value), quote=True)


def heading(value: object) -> str:
    """Return a heading."""
    return f"<h4>{text(value)}</h4>"


def paragraph(value: object) -> str:
    """Return a paragraph; nothing of an empty text."""
    return f"<p>{text(value)}</p>" if str(value) else ""


def items(values: Iterable[object]) -> str:
    """Return a list; nothing of no values."""
    rows = "".join(f"<li>{text(value)}</li>" for value in values)
    return f"<ul>{rows}</ul>" if rows else ""


def folded(summary: object, inner: str) -> str:
    """Return `inner`, which is HTML already, behind a line that opens it."""
    return f"<details><summary>{text(summary)}</summary>{inner}</details>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table.

    Examples
    --------
    >>> table(["model"], [["<b>"]])
    '<table><thead><tr><th>model</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of names and values without a head; rows with an empty value are left out."""
    said = [(name, value) for name, value in rows if str(value)]
    body = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in said)
    return f"<table><tbody>{body}</tbody></table>"
