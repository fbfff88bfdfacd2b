"""Maps of weights: their colours, the names of networks and taps beside them with one key, and rows of maps with a label beside each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from universality.base.names import short
from universality.features.families import FAMILIES
from universality.figures.style import (
    MM,
    PAGE_MM,
    Labels,
    Panels,
    below,
    canvas,
    drawn_width,
    fitted,
    key_of,
    lines_mm,
    plain,
    style,
    text_mm,
    wrapped,
)

EXCITES, INHIBITS = "#b2182b", "#2166ac"
COLOURS = "RdBu_r"
"""Of weights: red excites, blue inhibits."""
BINS = 8
"""Of preferred angles, as tables of weights hold them."""
LAYER = ["model", "source_tap", "target_tap"]
SAID_PT = 5.0
"""Size of the text beside maps."""
_GAP_MM = 2.0


def family_word(family: str) -> str:
    """Return what a family is called beside a map: its noun without the word detectors."""
    return FAMILIES[family].noun.removesuffix(" detectors") if family in FAMILIES else family or "no family"


def period_of(family: str) -> float:
    """Return the degrees after which the angles of a family repeat; 360 of one that is not known."""
    return FAMILIES[family].period_deg if family in FAMILIES else 360.0


def mapped(values: Any) -> NDArray[np.float64]:
    """Return a square map of the values of a cell of a table."""
    flat = np.asarray(values, dtype=np.float64)
    side = round(flat.size**0.5)
    return flat.reshape(side, side)


def framed(ax: Axes) -> None:
    """Draw a thin frame without ticks."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.3)


def show_map(ax: Axes, image: NDArray[np.float64], most: float) -> None:
    """Draw a map of weights, the colours from -most to most."""
    ax.set_axis_on()
    framed(ax)
    ax.imshow(image, cmap=COLOURS, vmin=-most, vmax=most, interpolation="nearest")


def names_of(models: Iterable[str], taps: Iterable[str], width_mm: float, points: float = SAID_PT) -> Labels:
    """Return networks and taps as they fit into a line of that width, with one key for both: no label stands for two things."""
    networks = list(dict.fromkeys(map(str, models)))
    return fitted(
        [*networks, *map(str, taps)],
        width_mm,
        points=points,
        shorter=lambda name: short(name) if name in networks else plain(name),
    )


def between(names: Labels, first: str, second: str, width_mm: float, points: float = SAID_PT) -> str:
    """Return two taps as a label names them, in one line where they fit into it."""
    line = f"{names.of[first]} to {names.of[second]}"
    return line if text_mm(line, points) <= width_mm else f"{names.of[first]} to\n{names.of[second]}"


def source_line(family: str, width_mm: float, points: float = SAID_PT) -> str:
    """Return the line of a label that names the family of sources, without the word detectors where it does not fit."""
    line = f"from {FAMILIES[family].noun if family in FAMILIES else family_word(family)}"
    return line if text_mm(line, points) <= width_mm else f"from {family_word(family)}"


def label_width(width_mm: float) -> float:
    """Return the width of the labels beside rows of maps, of a figure so wide, mm."""
    return max(26.0, 0.18 * width_mm)


def map_rows(
    figure: Figure | SubFigure | None, width_mm: float, labels: Sequence[str], heads: Sequence[str], title: str, key: dict[str, str]
) -> Panels:  # fmt: skip
    """Return axes for rows of maps, all of them switched off until a map is shown: a label beside each row, a head above each column, the key below.

    Parameters
    ----------
    labels, heads : of rows, as they are drawn; of columns
    title : above all, which is wrapped
    key : abbreviation -> name in full
    """
    width, rows = drawn_width(figure, width_mm), max(len(labels), 1)
    side = (width - label_width(width) - 4) / len(heads) - 1.5
    said, explained = wrapped(title, width, 7), key_of(key, width)
    row_mm = max([side, *(lines_mm(label, SAID_PT) for label in labels)]) + 3.5
    height = lines_mm(said, 7) + lines_mm(explained, 5.5) + 8 + row_mm * rows
    with style():
        sheet = canvas(figure, width_mm, min(height, PAGE_MM))
        if isinstance(sheet, Figure) and figure is None:
            sheet.set_layout_engine("constrained", w_pad=0.5 * MM, wspace=0)
        axes: Panels = sheet.subplots(rows, len(heads), squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
            ax.set_box_aspect(1)  # of empty places too: heads stand in one line
        for ax, label in zip(axes[:, 0], labels, strict=False):
            at = (-_GAP_MM * MM * 72, 0)
            ax.annotate(
                label, (0, 0.5), at, xycoords="axes fraction", textcoords="offset points", ha="right", va="center", fontsize=SAID_PT
            )  # fmt: skip
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head, fontsize=5.5)
        sheet.suptitle(said, fontsize=7)
        below(sheet, explained)
    return axes
