"""What all figures share: sizes of a journal page, fonts, colours, files."""

from __future__ import annotations

import io
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from universality.base.errors import FigureError
from universality.base.names import short
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
_HINTED = 1.03
"""So much wider is text on a screen, where letters are set to whole pixels."""
_BREAKS = re.compile(r"(?<=[_./:\-\N{NO-BREAK SPACE}])(?=[^_./:\-\N{NO-BREAK SPACE}])")
"""Where a name may be broken: behind what joins its parts."""
_JOINS = "_./:-"
LINE_SPACING = 1.2


def wrapped(text: str, width_mm: float, points: float = 6.5) -> str:
    """Return text broken into lines of at most that width, at spaces; what is longer than a line, behind `_ . / : -`."""
    most = max(12, int(width_mm * MM * 72 / (_CHARACTER * points)))
    lines = []
    for line in text.split("\n"):
        # A long name goes in as words, each joined to the one before by a sign that is taken out again.
        words = ["\0".join(_broken(word, lambda part: len(part) < most)) for word in line.split(" ")]
        filled = textwrap.fill(" ".join(words).replace("\0", " \0"), most, break_on_hyphens=False)
        lines.append(filled.replace(" \0", "").replace("\0", ""))
    return "\n".join(lines)


def _broken(name: str, fits: Callable[[str], bool]) -> list[str]:
    """Return a name in as few pieces as fit, each as long as it may be; a part that does not fit alone is a piece."""
    pieces = [""]
    for part in _BREAKS.split(name):
        if pieces[-1] and not fits(pieces[-1] + part):
            pieces.append("")
        pieces[-1] += part
    return pieces


@cache
def _advance(character: str) -> float:
    """Return the width of a character, of its size."""
    with_it, without = (
        TextPath((0, 0), text, size=100, prop=FontProperties(family=["DejaVu Sans"])).get_extents().width
        for text in (f"|{character}|", "||")
    )
    return float(with_it - without) / 100


def text_mm(text: str, points: float) -> float:
    """Return the width of one line of text, mm."""
    return sum(map(_advance, text)) * points / 72 / MM


def lines_mm(text: str, points: float) -> float:
    """Return the height of text, by its lines, mm; of no text 0."""
    return (text.count("\n") + 1) * LINE_SPACING * points / 72 / MM if text else 0.0


@dataclass(frozen=True)
class Labels:
    """Names as they are drawn.

    Attributes
    ----------
    of : name -> what stands for it, of several lines where it was broken
    key : what stands for it -> name in full, of those that were abbreviated
    """

    of: Mapping[str, str]
    key: Mapping[str, str]

    def height_mm(self, points: float) -> float:
        """Return the height of the highest label, mm."""
        return max((lines_mm(label, points) for label in self.of.values()), default=0.0)


def plain(tap: str) -> str:
    """Return a tap's name without the normalisation that ends a block."""
    return tap.removesuffix(".bn2")


def distinct(names: Iterable[str], shorter: Callable[[str], str] = short) -> dict[str, str]:
    """Return by name what it is called: shorter, but in full where two names would be called the same.

    Examples
    --------
    >>> distinct(["timm/vgg16", "torchvision/vgg16", "timm/vgg19"])
    {'timm/vgg16': 'timm/vgg16', 'torchvision/vgg16': 'torchvision/vgg16', 'timm/vgg19': 'vgg19'}
    """
    every = list(dict.fromkeys(names))
    counts = Counter(map(shorter, every))
    return {name: shorter(name) if counts[shorter(name)] == 1 else name for name in every}


def fitted(
    names: Iterable[str],
    width_mm: float,
    *,
    points: float,
    lines: int = 1,
    shorter: Callable[[str], str] = short,
) -> Labels:
    """Return names as they fit: as they are; broken into at most so many lines; or abbreviated to what tells them apart.

    Names are broken behind `_ . / : -`. Of an abbreviated one those parts are kept that no other name has together, and as
    many from its beginning as there is room for, with an ellipsis for the others; where not even these fit, or where no
    parts tell it apart, a name is its place among the names.

    Parameters
    ----------
    names : iterable of str
        All names that are drawn together: what stands for one stands for no other.
    width_mm, points, lines
        Room for a line, size of the text, and how many lines there may be.
    shorter : callable
        What a name is called where it is not ambiguous.

    Examples
    --------
    >>> found = fitted(["own/net_base_patch16_224.a_run_of_many_seed1", "own/net_base_patch16_224.a_run_of_many_seed2"], 20.0, points=6)
    >>> list(found.of.values())
    ['net_base…seed1', 'net_base…seed2']
    >>> found.key["net_base…seed1"]
    'net_base_patch16_224.a_run_of_many_seed1'
    """

    def fits(text: str) -> bool:
        return _HINTED * text_mm(text, points) <= width_mm

    whole = distinct(names, shorter)
    pieces = {name: _broken(text, fits) for name, text in whole.items()}
    of = {name: "\n".join(parts) for name, parts in pieces.items() if len(parts) <= lines and all(map(fits, parts))}
    short_of = {}
    for place, (name, text) in enumerate(whole.items(), 1):
        if name not in of:
            others = [rival for other, rival in whole.items() if other != name]
            short_of[name] = _abbreviated(text, others, fits) or f"[{place}]"
    return Labels(
        {name: of.get(name) or short_of[name] for name in whole},
        {label: whole[name] for name, label in short_of.items()},
    )


def _abbreviated(name: str, others: Sequence[str], fits: Callable[[str], bool]) -> str:
    """Return a name with an ellipsis for what it can do without, or nothing where what tells it apart does not fit."""
    parts = _parts(name)
    words = [part.strip(_JOINS) for part in parts]
    rivals = [{part.strip(_JOINS) for part in _parts(other)} for other in others]
    kept: set[int] = set()
    while rivals:
        # Of equally telling parts the last: names differ near their ends.
        tells = min(reversed(range(len(words))), key=lambda place: sum(words[place] in rival for rival in rivals))
        left = [rival for rival in rivals if words[tells] in rival]
        if len(left) == len(rivals):
            return ""
        kept, rivals = kept | {tells}, left
    for place in range(len(parts)):
        if not fits(_elided(parts, kept | {place})):
            break
        kept = kept | {place}
    found = _elided(parts, kept)
    return found if kept and fits(found) else ""


def _parts(name: str) -> list[str]:
    """Return the parts of a name, each with what joins it to the next; a number stays with the word before it."""
    parts: list[str] = []
    for part in _BREAKS.split(name):
        if parts and part.strip(_JOINS).isdigit():
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def _elided(parts: Sequence[str], kept: set[int]) -> str:
    shown = [part if place in kept else "…" for place, part in enumerate(parts)]
    return re.sub(f"[{re.escape(_JOINS)}]*…+", "…", "".join(shown))


def key_of(
    entries: Mapping[str, str], width_mm: float, points: float = 5.5, *, sign: str = " = ", most_mm: float = 75.0
) -> str:
    """Return a key to abbreviations, in lines of at most that width; one higher than `most_mm` says where the names are instead."""
    joined = [f"{label}{sign}{name}".replace(" ", "\N{NO-BREAK SPACE}") for label, name in entries.items()]
    key = wrapped(";  ".join(joined), width_mm, points)
    if lines_mm(key, points) <= most_mm:
        return key
    said = "names are shortened (…) or numbered in their order ([1], [2], ...); the table has them in full"
    return wrapped(said, width_mm, points)


def below(sheet: Figure | SubFigure, *texts: str) -> None:
    """Put lines of text below all panels of a figure without a legend; those that are empty are left out."""
    said = "\n".join(text for text in texts if text)
    if said:
        sheet.supxlabel(said, fontsize=6 if len(texts) > 1 else 5.5)


def listed(words: Iterable[str]) -> str:
    """Return words as a sentence lists them.

    Examples
    --------
    >>> listed("ab"), listed(["trained", "untrained twins", "stimuli shuffled"])
    ('a and b', 'trained, untrained twins and stimuli shuffled')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def only_one(table: pd.DataFrame, *columns: str) -> None:
    """Check that all rows of a table are about one thing, such as one pair of models.

    Raises
    ------
    FigureError
        They are about several: drawn over one another they would look like one.
    """
    held = table[list(columns)].drop_duplicates()
    if len(held) > 1:
        first, second = (" and ".join(row) for row in held.head(2).itertuples(index=False, name=None))
        raise FigureError(
            f"the table holds {len(held)} different {' and '.join(columns)} ({first}; {second}{'; ...' if len(held) > 2 else ''}), "
            "but a figure shows one; select the rows of one"
        )


def legend_below(
    figure: Figure | SubFigure, ax: Axes, width_mm: float, *, handles: Sequence[Artist] | None = None, title: str = ""
) -> None:
    """Put the legend of `ax` below all panels, where it hides no data, in as few rows as the width allows.

    `handles` are drawn instead of the artists of `ax`; `title` stands above them.
    """
    shown = ax.get_legend_handles_labels()[0] if handles is None else list(handles)
    labels = [str(handle.get_label()) for handle in shown]
    size = float(_STYLE["legend.fontsize"])
    # A handle, its pad and the space between columns take 4.8 times the size of the text.
    widths = [text_mm(label, size) + 4.8 * size / 72 / MM for label in labels]
    columns = next(
        k for k in range(max(len(labels), 1), 0, -1)
        if k == 1 or sum(max(part) for part in np.array_split(widths, k)) <= width_mm - 8
    )  # fmt: skip
    figure.legend(shown, labels, loc="outside lower center", ncols=columns, frameon=False, title=title or None)


def tap_label(tap: str, depth: float) -> str:
    """Return a tap's name with its relative depth in percent."""
    return with_depth(plain(tap), depth)


def with_depth(name: str, depth: float) -> str:
    """Return what a tap is called with its relative depth in percent, where it has one."""
    return f"{name} ({depth:.0%})" if depth == depth else name


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
        with _laid_out_undrawn(figure):
            figure.savefig(content, format=suffix.removeprefix("."), dpi=dpi, metadata=inside)
    return content.getvalue()


@contextmanager
def _laid_out_undrawn(figure: Figure) -> Iterator[None]:
    """Let a figure with a layout be saved in one drawing instead of two.

    Matplotlib draws such a figure once without a canvas, of which only the layout matters, and then again; the file is the same to
    the byte if the first time nothing but the layout is computed.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        yield
        return
    draw = figure.draw

    def lay_out(renderer: RendererBase) -> None:
        vars(figure)["draw"] = draw
        engine.execute(figure)

    vars(figure)["draw"] = lay_out
    try:
        yield
    finally:
        vars(figure).pop("draw", None)
