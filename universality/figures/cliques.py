"""Cliques: units of several networks that are pairwise the same, as a dot matrix beside how many the nulls hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from universality.base.names import HAAR_NAME, number
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    PAGE_MM,
    TRAINED,
    UNTRAINED,
    Panels,
    below,
    canvas,
    drawn_width,
    fitted,
    key_of,
    lines_mm,
    style,
    wrapped,
)

UNIT, COUNT, ROW = "unit", "count", "network"
"""What a row of `clique_data` stands for: a dot, a bar, or a row of the matrix (whether or not it holds a dot)."""
NETWORKS = {"trained": "trained", "untrained": "untrained twins", "haar": HAAR_NAME}
_COLOURS = (TRAINED, "#029e73", "#cc78bc", "#ca9161", "#56b4e9", "#d55e00")
_MOST = 60
"""More cliques than this are not drawn: columns would be narrower than their dots."""
_ROW_MM = 2.8
MM_PER_PT = 25.4 / 72
_KEYS = ["family", "drawn", "clique", "place", "model", "tap", "unit", "n_models", "stability"]
_COUNTED = ["networks", "replicates", "n_units", "n_cliques", "n_disjoint", "n_stable"]


def clique_data(cliques: pd.DataFrame, clique_counts: pd.DataFrame, families: pd.DataFrame) -> pd.DataFrame:
    """Return what `clique_matrix` draws: dots (one per unit of a clique), bars (one per kind of network), rows (networks).

    Cliques come by size, of equally large ones in the table's order; `place` is the column. Of more than 60 the largest are
    kept; `n_cliques` and `n_disjoint` of the bars count all.
    """
    parts = []
    models = list(dict.fromkeys([*families["model"], *cliques["model"]]))
    for family in dict.fromkeys([*cliques["family"], *clique_counts["family"]]):
        here = cliques[cliques["family"] == family].sort_values(
            ["n_models", "clique"], ascending=[False, True], kind="stable"
        )
        place = {clique: column for column, clique in enumerate(dict.fromkeys(here["clique"]))}
        dots = here.assign(place=here["clique"].map(place), drawn=UNIT)
        counts = clique_counts[clique_counts["family"] == family].assign(drawn=COUNT)
        names = pd.DataFrame({"family": family, "drawn": ROW, "model": models})
        parts += [dots[dots["place"] < _MOST], counts, names]
    columns = [*_KEYS, *_COUNTED]
    drawn: pd.DataFrame = pd.concat([part.reindex(columns=columns) for part in parts if len(part)], ignore_index=True)
    return drawn


def clique_matrix(
    cliques: pd.DataFrame,
    clique_counts: pd.DataFrame,
    families: pd.DataFrame,
    clique_nouns: Mapping[str, str],
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw networks by cliques, one matrix per family, a dot where a network's unit belongs; beside it the counts of the nulls.

    Bars count the cliques that share no unit, found by one rule in the trained networks (the columns of the matrix), in their
    untrained twins (mean over seeds) and in random bases (mean over bases); the dark part re-forms in half of the resamples at least.

    Parameters
    ----------
    cliques, clique_counts : DataFrame
        Tables ``cliques`` and ``clique_counts`` of the atlas.
    families : DataFrame
        Table ``families`` of the run: all its networks have a row, those without a clique an empty one.
    clique_nouns : mapping of str to str
        Family -> what its units are called, in the order of the panels; families not named are left out.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (family, 2): matrix and bars.
    """
    drawn = clique_data(cliques, clique_counts, families)
    shown = [family for family in clique_nouns if (drawn["family"] == family).any()]
    width, rows = drawn_width(figure, width_mm), drawn.loc[drawn["drawn"] == ROW, "model"].nunique()
    # One line to a row, and half of the width for the dots and the bars.
    names = fitted(drawn.loc[drawn["drawn"] == ROW, "model"], 0.28 * width, points=5)
    key = key_of(names.key, width)
    least = int(clique_counts["least_models"].min()) if len(clique_counts) else 3
    said = wrapped(
        f"cliques: units of {least} networks or more that are pairwise the same feature, a column each (number in brackets)\n"
        "bars: by one rule in trained networks and nulls, those that share no unit; dark and filled: stable",
        width,
    )
    height = lines_mm(said, 6.5) + 2.5 + len(shown) * (13 + max(_ROW_MM * rows, 12)) + lines_mm(key, 5.5)
    with style():
        sheet = canvas(figure, width_mm, min(height, PAGE_MM))
        axes = sheet.subplots(len(shown), 2, squeeze=False, width_ratios=[2.2 if width < DOUBLE_MM else 4.5, 1])
        for (matrix, bars), family, colour in zip(axes, shown, _colours(len(shown)), strict=True):
            here = drawn[drawn["family"] == family]
            _matrix(matrix, here, names.of, colour, matrix_mm=(0.42 if width < DOUBLE_MM else 0.65) * width)
            _bars(bars, here[here["drawn"] == COUNT], colour)
            held = cliques.loc[cliques["family"] == family, "clique"].nunique()
            matrix.set_title(_title(clique_nouns[family], held), loc="left")
        below(sheet, key)
        sheet.suptitle(said, fontsize=6.5)
    return axes


def _colours(families: int) -> list[str]:
    return [_COLOURS[place % len(_COLOURS)] for place in range(families)]


def _title(noun: str, held: int) -> str:
    if held > _MOST:
        return f"{noun} (the {_MOST} largest of {held})"
    return f"{noun} ({held})" if held else noun


def clique_words(cliques: pd.DataFrame, *_: pd.DataFrame, clique_nouns: Mapping[str, str]) -> dict[str, str]:
    """Return what a caption says of `clique_matrix`: whether all cliques are drawn."""
    held = cliques[cliques["family"].isin(list(clique_nouns))].groupby("family")["clique"].nunique()
    return {"which": f"the {_MOST} largest of each, " if (held > _MOST).any() else ""}


def _matrix(ax: Axes, rows: pd.DataFrame, names: Mapping[str, str], colour: str, matrix_mm: float) -> None:
    models = list(rows.loc[rows["drawn"] == ROW, "model"])
    dots = rows[rows["drawn"] == UNIT]
    columns = int(dots["place"].max()) + 1 if len(dots) else 0
    # No wider than a twelfth of the matrix where there are few: dots keep to their network's name.
    across = max(columns, 12)
    size_pt = min(2.4, 0.75 * matrix_mm / MM_PER_PT / across)
    for row in range(0, len(models), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="0.95", linewidth=0, zorder=0)
    heights = dots["model"].map(models.index).to_numpy(np.float64)
    # A column's line binds its dots together; what is not stable is drawn open.
    for place in dict.fromkeys(dots["place"].to_numpy(np.float64)):
        of_clique = heights[(dots["place"] == place).to_numpy()]
        ax.plot([place, place], [of_clique.min(), of_clique.max()], color=colour, linewidth=0.6, zorder=2, label="_")
    stable = (dots["stability"] >= 0.5).to_numpy()
    fills = [colour if held else "white" for held in stable]
    ax.scatter(dots["place"], heights, s=size_pt**2, c=fills or None, edgecolors=colour, linewidths=0.5, zorder=3)
    ax.set(xlim=(-0.7, across - 0.3), ylim=(len(models) - 0.5, -0.5), xticks=[])
    ax.set_yticks(range(len(models)), [names[str(model)] for model in models])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if not columns:
        ax.text(
            0.5, 0.5, "none in the trained networks", transform=ax.transAxes, ha="center", va="center", color="0.35"
        )


def _bars(ax: Axes, counts: pd.DataFrame, colour: str) -> None:
    of_kind = {row["networks"]: row for row in counts.to_dict("records")}
    names = [name for name in NETWORKS if name in of_kind]
    colours = {"trained": colour, "untrained": UNTRAINED, "haar": HAAR}
    high = max(float(counts["n_disjoint"].max()) if len(counts) else 0.0, 1.0)
    for place, name in enumerate(names):
        row = of_kind[name]
        ax.barh(place, row["n_disjoint"], height=0.5, color=colours[name], alpha=0.35, linewidth=0)
        ax.barh(place, row["n_stable"], height=0.5, color=colours[name], linewidth=0)
        value = float(row["n_disjoint"])
        digits = 0 if value.is_integer() else 1
        ax.text(value + 0.03 * high, place, number(value, digits), va="center", fontsize=5)
    ax.set_yticks(range(len(names)), [NETWORKS[name].replace(" (", "\n(") for name in names])
    ax.set(xlim=(0, 1.2 * high), ylim=(len(NETWORKS) - 0.5, -0.5), xlabel="cliques")
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
