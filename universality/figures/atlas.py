"""The atlas of features as a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality.figures.style import DOUBLE_MM, MM, UNTRAINED, short, style


def atlas_figure(
    atlas: pd.DataFrame, units: pd.DataFrame, noun: str, *, period_deg: float = 360.0, angle: str = "orientation"
) -> Figure:
    """Draw one family: rows are models, columns are bins of orientation, cells the tuning of the unit that stands for them.

    A cell states how many units the model has there; a filled curve has a partner of verdict ``same_feature`` in as many
    other models as the number before the slash says.
    """
    models = list(dict.fromkeys(atlas["model"]))
    angles = sorted(atlas["angle_deg"].unique())
    colours = sns.husl_palette(360)
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (14 + 13 * len(models)) * MM), layout="constrained")
        axes = figure.subplots(len(models), len(angles), squeeze=False, sharex=True, sharey=True)
        for (row, model), (column, middle) in ((r, c) for r in enumerate(models) for c in enumerate(angles)):
            ax = axes[row, column]
            cell = atlas[(atlas["model"] == model) & (atlas["angle_deg"] == middle)].iloc[0]
            _draw_cell(ax, cell, units, colours[int(middle * (360.0 / period_deg)) % 360])
            if row == 0:
                ax.set_title(f"{middle:.0f}°")
            if column == 0:
                ax.set_ylabel(
                    f"{short(model)}\n{cell['tap'].removesuffix('.bn2')}", rotation=0, ha="right", va="center"
                )
        figure.suptitle(
            f"{noun} by preferred {angle}: one unit per cell; below, models with the same feature / units here",
            fontsize=6.5,
        )
    return figure


def _draw_cell(ax: Axes, cell: pd.Series, units: pd.DataFrame, colour: tuple[float, float, float]) -> None:
    ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1.1))
    for side in ax.spines.values():
        side.set_visible(False)
    if cell["unit"] < 0:
        ax.text(0.5, 0.4, "–", transform=ax.transAxes, ha="center", color=UNTRAINED)
        return
    chosen = units[
        (units["model"] == cell["model"]) & (units["tap"] == cell["tap"]) & (units["unit"] == cell["unit"])
        & (units["seed"] == -1)
    ]  # fmt: skip
    curve = np.maximum(chosen["tuning_sigma"].iloc[0], 0.0)
    closed = np.append(curve, curve[0]) / curve.max()
    place = np.linspace(0, 1, closed.size)
    ax.plot(place, closed, color=colour, linewidth=0.7)
    if cell["links"] > 0:
        ax.fill_between(place, 0, closed, color=colour, alpha=0.35, linewidth=0)
    ax.set_xlabel(f"{cell['links']} / {cell['n_units']}", labelpad=1, fontsize=5)
