"""Sheets of panels of one kind (their frame, shared labels, one legend for all), and strips of points with their means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import short
from universality.figures.style import (
    PAGE_MM,
    Labels,
    Panels,
    canvas,
    columns_for,
    drawn_width,
    fitted,
    key_of,
    legend_below,
    lines_mm,
)

_COLUMNS = 4
_POINTS = 6.5


@dataclass(frozen=True)
class Sheet:
    """Axes in rows and columns on one sheet; those beyond the last panel are switched off.

    Attributes
    ----------
    axes : array of Axes, (row, column)
    count : panels that are drawn
    width_mm : of the sheet
    names : of networks, fitted to a panel's width
    """

    figure: Figure | SubFigure
    axes: Panels
    count: int
    width_mm: float
    names: Labels

    @property
    def drawn(self) -> list[Axes]:
        """The axes that have a panel."""
        return list(self.axes.ravel()[: self.count])

    def finish(self, x: str, y: str, title: str) -> None:
        """Label what all panels share, put the legend of the first one below, and the title above; call it when everything is drawn."""
        columns = self.axes.shape[1]
        for column in range(min(columns, self.count)):
            # The last row may be short: the lowest panel of each column carries the label of the shared axis.
            lowest = (self.count - 1 - column) // columns
            self.axes[lowest, column].tick_params(labelbottom=True)
            self.axes[lowest, column].set_xlabel(x)
        self.figure.supylabel(y, fontsize=6)
        if self.count:
            legend_below(self.figure, self.axes[0, 0], self.width_mm, title=key_of(self.names.key, self.width_mm))
        self.figure.suptitle(title, fontsize=7)


def sheet_of(
    figure: Figure | SubFigure | None, width_mm: float, count: int, names: Sequence[str], *, panel_mm: float, head_mm: float, lines: int = 1, share_y: bool = False, double: int = _COLUMNS, points: float = _POINTS,
    shorter: Callable[[str], str] = short,
) -> Sheet:  # fmt: skip
    """Return a sheet of `count` empty panels.

    Parameters
    ----------
    figure : where to draw; a new figure of `width_mm` when None
    names : of networks that titles name
    panel_mm : height of a panel with a title of one line, mm
    head_mm : height of what stands above and below all panels, mm
    lines : which a network's name may take; one where there are more than four rows
    share_y : whether all panels have one scale; x is always shared
    double : panels side by side on the width of two columns
    points : size of the titles that name them
    shorter : what a name is called where it is not ambiguous
    """
    width = drawn_width(figure, width_mm)
    columns = columns_for(width, max(count, 1), double=double)
    rows = max(-(-count // columns), 1)
    found = fitted(
        names, (width - 10) / columns - 3, points=points, lines=lines if rows <= _COLUMNS else 1, shorter=shorter
    )
    higher = lines_mm(key_of(found.key, width), 5.5) + rows * (found.height_mm(points) - lines_mm("x", points))
    sheet = canvas(figure, width_mm, head_mm + min(panel_mm * rows + higher, PAGE_MM - head_mm))
    axes = sheet.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    for ax in axes.ravel()[count:]:
        ax.set_axis_off()
    return Sheet(sheet, axes, count, width, found)


def strips(
    ax: Axes,
    rows: pd.DataFrame,
    column: str,
    names: Sequence[str],
    palette: Sequence[str],
    levels: Sequence[float] = (0,),
) -> None:
    """Draw the values of each name in `column` as points above it, with their mean as a line, and thin lines at `levels`."""
    sns.stripplot(rows, x=column, y="value", hue=column, order=names, hue_order=names, palette=list(palette), jitter=False, size=2, alpha=0.5,
                  legend=False, ax=ax)  # fmt: skip
    means = rows.groupby(column)["value"].mean()
    for place, name in enumerate(names):
        if name in means:
            ax.plot([place - 0.35, place + 0.35], [means[name]] * 2, color="black", linewidth=1, zorder=4)
    for level in levels:
        ax.axhline(level, color="0.7", linewidth=0.5, zorder=0)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
