"""The tables and figures of a run as lists, and figures as files in any format and width."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from universality.base.errors import MissingError, ServiceError, did_you_mean
from universality.base.recent import Recent
from universality.runs.run import Run, row_counts
from universality.runs.tables import TABLES
from universality.service.helper import Helper

MEDIA = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv; charset=utf-8"}
"""Formats of figures; ``csv`` are the numbers that are drawn."""
WIDTHS_MM = {"double": 183.0, "single": 89.0}
"""Widths of figures that have a name: of a journal's page and of its column."""
NARROWEST_MM, WIDEST_MM = 60, 400
"""Widths that may be asked for, in whole mm, so that few files are drawn."""
_KEPT_BYTES = 32 << 20
_kept: Recent[bytes] = Recent(_KEPT_BYTES, len)


@dataclass(frozen=True)
class Figure:
    """A figure of a run: the stem of its files, its kind, its caption."""

    stem: str
    kind: str
    caption: str


def figures(run: Run) -> list[Figure]:
    """Return the figures that a run has drawn."""
    return [
        Figure(stem, stem.split("__")[0], str(about.get("caption", "")))
        for stem, about in sorted(run.record.get("figures", {}).items())
    ]


def table_list(run: Run) -> list[dict[str, Any]]:
    """Return the tables of a run: name, what one row is, how many rows."""
    return [
        {"name": name, "row": TABLES[name].row if name in TABLES else "", "rows": count}
        for name, count in row_counts(run).items()
    ]


def file_of(run: Run, helper: Helper, stem: str, form: str, width: str) -> tuple[bytes, str]:
    """Return a figure's file and its media type: as it lies in the run's directory if it does, else drawn now.

    Parameters
    ----------
    form : name in `MEDIA`
    width : as `width_mm` takes it

    Raises
    ------
    MissingError
        The run has no such figure, or the format is unknown.
    ServiceError
        The width is none that is drawn.
    """
    known = {figure.stem: figure for figure in figures(run)}
    for given, options, what in ((stem, known, "figure"), (form, MEDIA, "format")):
        if given not in options:
            raise MissingError(
                f"run '{run.path.name}' has no {what} '{given[:200]}'{did_you_mean(given[:200], options)}"
            )
    wide = width_mm(width)
    file = run.path / "figures" / f"{stem}.{form}"
    if wide == WIDTHS_MM["double"] and file.is_file():
        return file.read_bytes(), MEDIA[form]
    name = str(run.path), run.record.get("digest"), stem, form, wide
    return _kept.get(name, lambda: _drawn(run, helper, stem, form, wide)), MEDIA[form]


def width_mm(width: str) -> float:
    """Return the width, mm, that a name of `WIDTHS_MM` or a whole number of mm states; raise `ServiceError` for any other.

    Examples
    --------
    >>> width_mm("single"), width_mm("120")
    (89.0, 120.0)
    """
    if width in WIDTHS_MM:
        return WIDTHS_MM[width]
    if width.isascii() and width.isdigit() and len(width) < 5 and NARROWEST_MM <= int(width) <= WIDEST_MM:
        return float(width)
    named = " or ".join(f"{name} ({mm:.0f} mm)" for name, mm in WIDTHS_MM.items())
    raise ServiceError(
        f"the width of a figure is '{width[:60]}', expected {named}, or whole mm from {NARROWEST_MM} to {WIDEST_MM}; choose one"
    )


def _drawn(run: Run, helper: Helper, stem: str, form: str, wide: float) -> bytes:
    file = Path(helper.call("figure", run=str(run.path.resolve()), stem=stem, suffix=form, width_mm=wide))
    try:
        return file.read_bytes()
    finally:
        file.unlink()
        file.parent.rmdir()
