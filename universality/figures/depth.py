"""Detectors against depth."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from universality.figures.style import DOUBLE_MM, HAAR, HAAR_NAME, MM, TRAINED, UNTRAINED, short, style

STATES = {
    "share": (TRAINED, "o", "trained, with 95 % interval"),
    "share_haar": (HAAR, "s", HAAR_NAME),
    "share_untrained": (UNTRAINED, "^", "untrained twins"),
}
_COLUMNS = 4


def detectors_against_depth(families: pd.DataFrame, noun: str) -> Figure:
    """Draw the share of one family's detectors against relative depth, one panel per model on one scale, beside its nulls.

    Parameters
    ----------
    families : DataFrame
        Rows of the table ``families`` that belong to one family.
    noun : str
        What its units are called.
    """
    models = list(dict.fromkeys(families["model"]))
    columns = min(len(models), _COLUMNS)
    rows = -(-len(models) // columns)
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (16 + 34 * rows) * MM), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, model in zip(axes.ravel(), models, strict=False):
            _panel(ax, families[families["model"] == model].sort_values("depth"), model)
        for ax in axes.ravel()[len(models) :]:
            ax.set_axis_off()
        # All panels share one scale, so its lower end is set when everything is drawn: set earlier it would fix the upper end, too.
        axes[0, 0].set_ylim(bottom=0)
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for column in range(columns):
            # The last row may be short: the lowest panel of each column carries the label of the shared axis.
            lowest = max(row for row in range(rows) if row * columns + column < len(models))
            axes[lowest, column].tick_params(labelbottom=True)
            axes[lowest, column].set_xlabel("relative depth")
        figure.supylabel("share of the layer's units", fontsize=6)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(f"share of {noun} against relative depth", fontsize=7)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, model: str) -> None:
    for column, (colour, marker, label) in STATES.items():
        ax.plot(rows["depth"], rows[column], marker=marker, color=colour, markersize=2.5, label=label, zorder=3)
    if "share_low" in rows:
        ax.fill_between(rows["depth"], rows["share_low"], rows["share_high"], color=TRAINED, alpha=0.15, linewidth=0)
    ax.set_title(short(model))
    ax.set_xlim(0, 1)
