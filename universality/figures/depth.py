"""Detectors against depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter

from universality.base.names import HAAR_NAME
from universality.figures.panels import sheet_of
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    TRAINED,
    UNTRAINED,
    Panels,
    canvas,
    drawn_width,
    legend_below,
    style,
    wrapped,
)

STATES = {
    "share": (TRAINED, "o", "trained, with 95 % interval"),
    "share_haar": (HAAR, "s", HAAR_NAME),
    "share_untrained": (UNTRAINED, "^", "untrained twins"),
}
MOST_PANELS = 40
"""Of more networks than these a page has no room for panels."""
_BIN = 0.1
"""Width of the bins of relative depth, over which many networks are averaged."""
_KEYS = ["family", "model", "tap", "depth", "n_units", "n_detectors"]


def depth_data(families: pd.DataFrame) -> pd.DataFrame:
    """Return what `detectors_against_depth` draws: one row per model and tap, models in the table's order, taps by depth."""
    order = {model: place for place, model in enumerate(dict.fromkeys(families["model"]))}
    rows = families.assign(order=families["model"].map(order)).sort_values(["order", "depth"], kind="stable")
    columns = [*_KEYS, "share", "share_low", "share_high", "share_haar", "share_untrained"]
    return rows[columns].reset_index(drop=True)


def detectors_against_depth(
    families: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw the share of one family's detectors against relative depth, one panel per model on one scale, beside its nulls.

    More than `MOST_PANELS` models share one panel: points are layers, lines the means over bins of 0.1 of depth.

    Parameters
    ----------
    families : DataFrame
        Rows of the table ``families`` that belong to one family.
    noun : str
        What its units are called.
    figure : Figure or SubFigure, optional
        Where to draw; its width decides how many panels stand in a row.
    width_mm : float
        Width of the figure that is made where none is given, mm.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last model are switched off.
    """
    drawn = depth_data(families)
    models = list(dict.fromkeys(drawn["model"]))
    if len(models) > MOST_PANELS:
        return _all_in_one(drawn, noun, len(models), figure, width_mm)
    with style():
        sheet = sheet_of(figure, width_mm, len(models), models, panel_mm=34, head_mm=16, lines=3, share_y=True)
        for ax, model in zip(sheet.drawn, models, strict=True):
            _panel(ax, drawn[drawn["model"] == model], sheet.names.of[model])
        # All panels share one scale, so its lower end is set when everything is drawn: set earlier it would fix the upper end, too.
        sheet.axes[0, 0].set_ylim(bottom=0)
        sheet.axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        sheet.finish("relative depth", "share of the layer's units", f"share of {noun} against relative depth")
    return sheet.axes


def depth_words(families: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `detectors_against_depth`: of how many networks it is, and how they are drawn."""
    models = families["model"].nunique()
    many = f": points are layers, lines the means over bins of {_BIN} of depth"
    return {"networks": f"{models} network{'s' * (models != 1)}", "panels": many if models > MOST_PANELS else ""}


def _all_in_one(
    drawn: pd.DataFrame, noun: str, models: int, figure: Figure | SubFigure | None, width_mm: float
) -> Panels:
    # Depth 1 belongs to the last bin.
    bins = (drawn["depth"] / _BIN).round(6).astype(int).clip(upper=round(1 / _BIN) - 1)
    with style():
        sheet = canvas(figure, width_mm, 90)
        axes = sheet.subplots(1, 1, squeeze=False)
        ax = axes[0, 0]
        for column, (colour, marker, label) in STATES.items():
            # As one picture: a file of ten thousand points opens slowly.
            ax.plot(
                drawn["depth"], drawn[column], marker, color=colour, markersize=1.5, alpha=0.15, markeredgewidth=0,
                rasterized=True, clip_on=False,
            )  # fmt: skip
            means = drawn.groupby(bins)[["depth", column]].mean()
            ax.plot(means["depth"], means[column], marker=marker, color=colour, markersize=3, label=label.split(",")[0])
        ax.set(xlim=(0, 1), xlabel="relative depth", ylabel="share of the layer's units")
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        legend_below(sheet, ax, drawn_width(figure, width_mm))
        title = f"share of {noun} against relative depth: {models} networks; points are layers, lines means over bins of {_BIN}"
        sheet.suptitle(wrapped(title, drawn_width(figure, width_mm), 7), fontsize=7)
    return axes


def _panel(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    for column, (colour, marker, label) in STATES.items():
        # Not clipped: half a marker of a share of 0 would hide behind the axis.
        ax.plot(
            rows["depth"],
            rows[column],
            marker=marker,
            color=colour,
            markersize=2.5,
            label=label,
            zorder=3,
            clip_on=False,
        )
    ax.fill_between(rows["depth"], rows["share_low"], rows["share_high"], color=TRAINED, alpha=0.15, linewidth=0)
    ax.set_title(name)
    ax.set_xlim(0, 1)
