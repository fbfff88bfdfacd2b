"""The atlas of features as a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
            f"{noun} by preferred {angle}: tuning curve (0 to {period_deg:g}°, peak at full height) of one unit per cell;\n"
            "below, other models with the same feature / units here. Filled: at least one other model has it. – : no unit.\n"
            f"Units in all cells: {atlas['n_units'].sum()} in trained models, {atlas['n_untrained'].sum():.2g} in untrained twins.",
            fontsize=6.5,
        )
    return figure


def data_driven_figure(
    rows: pd.DataFrame, images: dict[tuple[str, str, int], NDArray[np.float32]], most: int = 12
) -> Figure:
    """Draw cliques of no known family: rows are cliques, columns models, cells the images that excite the unit most.

    Parameters
    ----------
    rows : DataFrame
        Rows ``data-driven`` of the table ``atlas``.
    images : dict
        By (model, tap, unit): (image, channel, y, x) in [0, 1], the most exciting first.
    most : int
        So many cliques are drawn, in the order of the table.
    """
    features, models = list(dict.fromkeys(rows["feature"]))[:most], list(dict.fromkeys(rows["model"]))
    held = [
        name
        for name in models
        if (rows.loc[rows["feature"].isin(features) & (rows["model"] == name), "unit"] >= 0).any()
    ]
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (12 + 17 * len(features)) * MM), layout="constrained")
        axes = figure.subplots(len(features), len(held), squeeze=False)
        for (row, feature), (column, model) in ((r, c) for r in enumerate(features) for c in enumerate(held)):
            ax, cell = axes[row, column], rows[(rows["feature"] == feature) & (rows["model"] == model)].iloc[0]
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(short(model).replace("-", "\n"), fontsize=5)
            if column == 0:
                of_feature = rows[(rows["feature"] == feature) & (rows["unit"] >= 0)].iloc[0]
                ax.set_ylabel(
                    f"{feature}\nstability {of_feature['stability']:.0%}", rotation=0, ha="right", va="center"
                )
            _draw_images(ax, cell, images)
        figure.suptitle(
            "Units of several models that are mutual nearest neighbours round every cycle and belong to no known family: the "
            "images that excite each most;\nbelow, layer and unit, and mean held-out r with the others. – : the model has none.",
            fontsize=6.5,
        )
    return figure


def _draw_images(ax: Axes, cell: pd.Series, images: dict[tuple[str, str, int], NDArray[np.float32]]) -> None:
    if cell["unit"] < 0:
        ax.text(0.5, 0.5, "–", transform=ax.transAxes, ha="center", va="center", color=UNTRAINED)
        return
    shown = images[str(cell["model"]), str(cell["tap"]), int(cell["unit"])]
    ax.imshow(np.moveaxis(np.concatenate(list(shown), axis=-1), 0, 2), vmin=0, vmax=1, interpolation="nearest")
    ax.set_xlabel(
        f"{cell['tap'].removesuffix('.bn2')}:{cell['unit']}  r {cell['mean_r']:.2f}", labelpad=1, fontsize=4.5
    )


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
