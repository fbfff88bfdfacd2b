"""What all figures share: sizes of a journal page, fonts, colours, files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from universality.runs.provenance import Facts, in_figure

MM = 1 / 25.4
SINGLE_MM, DOUBLE_MM = 89.0, 183.0
WIDTHS_MM = {"single": SINGLE_MM, "double": DOUBLE_MM}
"""Widths of one and of two columns of a journal page, mm."""
PAGE_MM = 240.0
"""No figure should be higher, mm."""
Panels = NDArray[np.object_]
"""Axes of a grid of panels."""
TRAINED, UNTRAINED, HAAR = "#0173b2", "#949494", "#de8f05"
_STYLE: dict[Any, Any] = {
    "font.size": 6, "axes.titlesize": 6.5, "axes.labelsize": 6, "xtick.labelsize": 5, "ytick.labelsize": 5,
    "legend.fontsize": 5.5, "legend.title_fontsize": 5.5, "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "universality",
    "axes.linewidth": 0.5, "lines.linewidth": 0.8, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
    "xtick.major.size": 2, "ytick.major.size": 2, "axes.spines.top": False, "axes.spines.right": False,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip


_DRAWING = RLock()


@contextmanager
def style() -> Iterator[None]:
    """Apply the figures' own settings, and only here; a user's own defaults (a matplotlibrc) decide nothing.

    Matplotlib's settings are those of the whole process, so its threads draw one after another.
    """
    with _DRAWING, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def canvas(figure: Figure | SubFigure | None, width_mm: float, height_mm: float) -> Figure | SubFigure:
    """Return the figure that is given, else a new one of that size, mm."""
    if figure is not None:
        return figure
    return Figure(figsize=(width_mm * MM, height_mm * MM), layout="constrained")


def panel(ax: Axes | None, width_mm: float, height_mm: float) -> Axes:
    """Return the axes that are given, else those of a new figure of that size, mm."""
    return canvas(None, width_mm, height_mm).subplots() if ax is None else ax


def drawn_width(figure: Figure | SubFigure | None, width_mm: float) -> float:
    """Return the width to lay panels out for, mm: that of the figure where one is given."""
    return width_mm if figure is None else float(figure.bbox.width / figure.dpi / MM)


def columns_for(width_mm: float, panels: int, *, double: int) -> int:
    """Return how many panels stand side by side: `double` on the width of two columns, fewer on less."""
    return max(1, min(panels, round(double * width_mm / DOUBLE_MM)))


def figure_of(axes: Axes | Panels) -> Figure:
    """Return the figure that axes, or a grid of them, lie in."""
    first: Any = axes if isinstance(axes, Axes) else axes.flat[0]
    figure: Figure = first.figure.figure  # of a SubFigure the one it lies in, of a Figure itself
    return figure


_CHARACTER = 0.56
"""Mean width of a character, of its size in points; an estimate, so that a figure need not be drawn twice."""


def wrapped(text: str, width_mm: float, points: float = 6.5, *, hyphens: bool = False) -> str:
    """Return text broken into lines of at most that width, at spaces, with `hyphens` also behind these."""
    most = max(12, int(width_mm * MM * 72 / (_CHARACTER * points)))
    return "\n".join(textwrap.fill(line, most, break_on_hyphens=hyphens) for line in text.split("\n"))


def legend_below(
    figure: Figure | SubFigure, ax: Axes, width_mm: float, *, handles: Sequence[Artist] | None = None, title: str = ""
) -> None:
    """Put the legend of `ax` below all panels, where it hides no data, in as few rows as the width allows.

    `handles` are drawn instead of the artists of `ax`; `title` stands above them.
    """
    shown = ax.get_legend_handles_labels()[0] if handles is None else list(handles)
    labels = [str(handle.get_label()) for handle in shown]
    with mpl.rc_context(_STYLE):
        size = mpl.rcParams["legend.fontsize"]
        # A handle, its pad and the space between columns take 4.8 times the size of the text.
        widths = [(TextPath((0, 0), label, size=size).get_extents().width + 4.8 * size) / 72 / MM for label in labels]
    columns = next(
        k for k in range(max(len(labels), 1), 0, -1)
        if k == 1 or sum(max(part) for part in np.array_split(widths, k)) <= width_mm - 8
    )  # fmt: skip
    figure.legend(shown, labels, loc="outside lower center", ncols=columns, frameon=False, title=title or None)


def tap_label(tap: str, depth: float) -> str:
    """Return a tap's name with its relative depth in percent."""
    return f"{tap.removesuffix('.bn2')} ({depth:.0%})"


def save(
    figure: Figure,
    stem: str | Path,
    facts: Facts | None = None,
    suffixes: Sequence[str] = (".png", ".pdf"),
    *,
    kind: str = "",
    caption: str = "",
) -> list[Path]:
    """Write a figure without dates, as PNG (300 dpi), PDF or SVG, with provenance, kind and caption inside; return the files."""
    stem = Path(stem)
    files = []
    for suffix in suffixes:
        files.append(stem.with_name(stem.name + suffix))
        files[-1].write_bytes(encoded(figure, suffix, facts, kind=kind, caption=caption))
    return files


def encoded(figure: Figure, suffix: str, facts: Facts | None = None, *, kind: str = "", caption: str = "") -> bytes:
    """Return the bytes of a figure's file: PNG (300 dpi), PDF or SVG, with provenance, kind and caption inside, no date."""
    content = io.BytesIO()
    with style():
        inside = in_figure(suffix, facts, kind, caption)
        dpi = 300 if suffix == ".png" else "figure"
        figure.savefig(content, format=suffix.removeprefix("."), dpi=dpi, metadata=inside)
    return content.getvalue()
