"""The atlas of features as a picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from universality.figures.backend import seaborn as sns
from universality.figures.style import (
    DOUBLE_MM,
    PAGE_MM,
    SINGLE_MM,
    UNTRAINED,
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
from universality.figures.units import closed_curve, trained_tuning

_HUES = sns.husl_palette(360)
_ROWS_MM = 220.0
"""Height of all rows together, at most."""
_FEW_ROWS = 12
"""So many rows have room for names of two lines."""


def atlas_data(atlas: pd.DataFrame, units: pd.DataFrame, period_deg: float = 360.0) -> pd.DataFrame:
    """Return what `atlas_cells` draws: one row per cell and angle of its tuning curve; a cell without a unit has one row."""
    columns = ["model", "tap", "angle_deg", "n_units", "n_untrained", "unit", "links"]
    cells = atlas[columns].rename(columns={"angle_deg": "bin_deg"})
    parts = []
    for cell in cells.to_dict("records"):
        if cell["unit"] < 0:
            parts.append(pd.DataFrame([cell]))
            continue
        tuning = trained_tuning(units, cell["model"], cell["tap"], cell["unit"])
        parts.append(closed_curve(tuning, period_deg, **{str(name): value for name, value in cell.items()}))
    drawn = pd.concat(parts, ignore_index=True)
    return drawn.reindex(columns=[*cells.columns, "angle_deg", "response_sigma", "height"])


def atlas_cells(
    atlas: pd.DataFrame,
    units: pd.DataFrame,
    noun: str,
    *,
    period_deg: float = 360.0,
    angle: str = "orientation",
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw one family: rows are models, columns are bins of orientation, cells the tuning of the unit that stands for them.

    A cell states how many units the model has there; a filled tuning curve has a partner of verdict ``same_feature`` in as many
    other models as the number before the slash says. A figure of less than the width of two columns has the bins in two
    blocks, one below the other.

    Returns
    -------
    array of Axes
        (model, bin).
    """
    drawn = atlas_data(atlas, units, period_deg)
    models, bins = list(dict.fromkeys(atlas["model"])), sorted(atlas["angle_deg"].unique())
    width = drawn_width(figure, width_mm)
    blocks = 1 if width > SINGLE_MM or len(bins) % 2 else 2
    across = len(bins) // blocks
    rows = len(models) * blocks
    title = _atlas_title(atlas, noun, period_deg, angle, width)
    around_mm = max(14.0, lines_mm(title, 6.5) + 6)
    # Cells keep two thirds of the width. Labels are a model above its tap, or beside it where rows are too low.
    for low in (False, True):
        room, lines = (width / 6 - 1, 1) if low else (width / 3, 2 if rows <= _FEW_ROWS else 1)
        names = fitted(models, room, points=6, lines=lines)
        taps = fitted(atlas["tap"], room, points=6, lines=lines, shorter=plain)
        key = key_of({**names.key, **taps.key}, width)
        label_mm = names.height_mm(6) + (0 if low else taps.height_mm(6))
        most_mm = min(_ROWS_MM, PAGE_MM - around_mm - lines_mm(key, 5.5)) / rows
        if label_mm + 0.5 <= most_mm:
            break
    height = 14 + min(max(13.0, label_mm + 2), _ROWS_MM / rows) * rows + lines_mm(key, 5.5)
    with style():
        sheet = canvas(figure, width_mm, min(height, PAGE_MM))
        axes = sheet.subplots(len(models) * blocks, across, squeeze=False, sharex=True, sharey=True)
        # Row r of block b holds model r: seen as (model, bin), whatever the blocks.
        axes = axes.reshape(blocks, len(models), across).swapaxes(0, 1).reshape(len(models), len(bins))
        for (row, model), (column, middle) in ((r, c) for r in enumerate(models) for c in enumerate(bins)):
            ax, cell = axes[row, column], drawn[(drawn["model"] == model) & (drawn["bin_deg"] == middle)]
            _draw_cell(ax, cell, _HUES[int(middle * (360.0 / period_deg)) % 360])
            if row == 0:
                ax.set_title(f"{middle:.0f}°")
            if column % across == 0:
                label = (" " if low else "\n").join((names.of[model], taps.of[cell["tap"].iloc[0]]))
                ax.set_ylabel(label, rotation=0, ha="right", va="center")
        below(sheet, key)
        sheet.suptitle(title, fontsize=6.5)
    return axes


def _atlas_title(atlas: pd.DataFrame, noun: str, period_deg: float, angle: str, width_mm: float) -> str:
    said = (
        f"{noun} by preferred {angle}: tuning curve (0 to {period_deg:g}°, peak at full height) of one unit per cell;\n"
        "below, other models with the same feature / units here. Filled: at least one other model has it. – : no unit.\n"
        f"Units in all cells: {atlas['n_units'].sum()} in trained models, {atlas['n_untrained'].sum():.2g} in untrained twins."
    )
    return wrapped(said, width_mm)


def clique_images(
    rows: pd.DataFrame,
    images: dict[tuple[str, str, int], NDArray[np.float32]],
    most: int = 12,
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw cliques of no known family: rows are cliques, columns models, cells the images that excite the unit most.

    Parameters
    ----------
    rows : DataFrame
        Rows ``data-driven`` of the table ``atlas``.
    images : dict
        By (model, tap, unit): (image, channel, y, x) in [0, 1], the most exciting first.
    most : int
        So many cliques are drawn, in the order of the table.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (clique, model).
    """
    features, models = list(dict.fromkeys(rows["feature"]))[:most], list(dict.fromkeys(rows["model"]))
    held = [
        name
        for name in models
        if (rows.loc[rows["feature"].isin(features) & (rows["model"] == name), "unit"] >= 0).any()
    ]
    width = drawn_width(figure, width_mm)
    column_mm = (width - 22) / len(held) - 2
    names = fitted(held, column_mm, points=5, lines=3)
    units = rows[rows["feature"].isin(features) & (rows["unit"] >= 0)]
    taps = fitted(units["tap"], column_mm, points=5, lines=2, shorter=plain)
    key = key_of({**names.key, **taps.key}, width)
    with style():
        higher = lines_mm(key, 5.5) + taps.height_mm(5) * len(features)
        sheet = canvas(figure, width_mm, 12 + 17 * len(features) + higher)
        axes = sheet.subplots(len(features), len(held), squeeze=False)
        for (row, feature), (column, model) in ((r, c) for r in enumerate(features) for c in enumerate(held)):
            ax, cell = axes[row, column], rows[(rows["feature"] == feature) & (rows["model"] == model)].iloc[0]
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(names.of[model], fontsize=5)
            if column == 0:
                of_feature = rows[(rows["feature"] == feature) & (rows["unit"] >= 0)].iloc[0]
                ax.set_ylabel(
                    f"{feature}\nstability {of_feature['stability']:.0%}", rotation=0, ha="right", va="center"
                )
            _draw_images(ax, cell, images, taps.of, column_mm)
        every = rows["feature"].nunique()
        which = "" if every == len(features) else f" (the first {len(features)} of {every} cliques)"
        said = (
            f"Units of several models that are mutual nearest neighbours round every cycle and belong to no known family{which}: the "
            "images that excite each most;\nbelow, layer and unit, and mean held-out r with the others. – : the model has none."
        )
        below(sheet, key)
        sheet.suptitle(wrapped(said, width), fontsize=6.5)
    return axes


def _draw_images(
    ax: Axes,
    cell: pd.Series,
    images: dict[tuple[str, str, int], NDArray[np.float32]],
    taps: Mapping[str, str],
    width_mm: float,
) -> None:
    if cell["unit"] < 0:
        ax.text(0.5, 0.5, "–", transform=ax.transAxes, ha="center", va="center", color=UNTRAINED)
        return
    shown = images[str(cell["model"]), str(cell["tap"]), int(cell["unit"])]
    ax.imshow(np.moveaxis(np.concatenate(list(shown), axis=-1), 0, 2), vmin=0, vmax=1, interpolation="nearest")
    tap, unit = taps[str(cell["tap"])], f"{cell['unit']}  r {cell['mean_r']:.2f}"
    fits = text_mm(f"{tap}:{unit}", 5) <= width_mm
    ax.set_xlabel(f"{tap}:{unit}" if fits else f"{tap}\n{unit}", labelpad=1, fontsize=5)


def _draw_cell(ax: Axes, cell: pd.DataFrame, colour: tuple[float, float, float]) -> None:
    ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1.1))
    for side in ax.spines.values():
        side.set_visible(False)
    facts = cell.iloc[0]
    if facts["unit"] < 0:
        ax.text(0.5, 0.4, "–", transform=ax.transAxes, ha="center", color=UNTRAINED)
        return
    place = np.linspace(0, 1, len(cell))
    ax.plot(place, cell["height"], color=colour, linewidth=0.7)
    if facts["links"] > 0:
        ax.fill_between(place, 0, cell["height"], color=colour, alpha=0.35, linewidth=0)
    ax.set_xlabel(f"{facts['links']} / {facts['n_units']}", labelpad=1, fontsize=5)
