"""Wiring of layers: where in a field sources lie, and how far weights follow angles alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import number
from universality.figures.style import (
    DOUBLE_MM,
    PAGE_MM,
    Labels,
    Panels,
    below,
    canvas,
    columns_for,
    drawn_width,
    key_of,
    lines_mm,
    style,
    text_mm,
    wrapped,
)
from universality.figures.weight_maps import (
    BINS,
    LAYER,
    SAID_PT,
    between,
    label_width,
    map_rows,
    mapped,
    names_of,
    period_of,
    show_map,
    source_line,
)

MOST_ROWS = 12
MOST_MATRICES = 16

# layouts --------------------------------------------------------------------------------------------------------------


def layout_data(laid: pd.DataFrame) -> pd.DataFrame:
    """Return what `field_layouts` draws: a row for each square of each map, with the quantiles of other sources, of the first `MOST_ROWS` families of sources and layers."""
    rows = laid[laid["frame"] == "own"]
    groups = rows[[*LAYER, "source_family"]].drop_duplicates().iloc[:MOST_ROWS]
    parts = []
    for row in rows.merge(groups).to_dict("records"):
        maps = {name: mapped(row[name]) for name in ("map", "map_null_low", "map_null_high")}
        y, x = np.indices(maps["map"].shape)
        facts = {
            name: row[name]
            for name in (
                *LAYER,
                "source_family",
                "target_family",
                "difference_deg",
                "n_sources",
                "n_targets",
                "square_px",
            )
        }
        middle = (len(maps["map"]) - 1) / 2
        parts.append(pd.DataFrame({
            **facts, "u_px": ((x - middle) * row["square_px"]).ravel(), "v_px": ((y - middle) * row["square_px"]).ravel(), "weight": maps["map"].ravel(),
            "null_low": maps["map_null_low"].ravel(), "null_high": maps["map_null_high"].ravel(),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*LAYER, "source_family", "weight"])


def field_layouts(
    laid: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw where in their field detectors of one family are excited and inhibited, by difference of preferred angles, one row per layer and family of sources.

    Maps are means over the targets, each turned so that its preferred direction points to the right. The second column is the middle of the null: labels exchanged, norms
    kept. A dot marks a square outside 95 % of these. Each row has its own scale.

    Parameters
    ----------
    laid : DataFrame
        Rows of the table ``layouts`` that have one family of targets.
    noun : str
        What the targets are called.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column): all sources, the null, then each difference; panels without sources are switched off.
    """
    own = laid[laid["frame"] == "own"]
    groups = list(own.groupby([*LAYER, "source_family"], sort=False))[:MOST_ROWS]
    period = max((period_of(family) for family in own["target_family"]), default=360.0)
    width = drawn_width(figure, width_mm)
    room = label_width(width)
    names = _names([key for key, _ in groups], room)
    labels = [_of_layer(names, key, room) for key, _ in groups]
    heads = ["all", "null", *(f"{period * k / BINS:g}°" for k in range(BINS))]
    title = f"weights into {noun}, in their field turned so that the preferred angle points to the right, by the angle of the source less that of the target"
    axes = map_rows(figure, width_mm, labels, heads, title, dict(names.key))
    with style():
        for line, (_, rows) in zip(axes, groups, strict=False):
            most = max(float(np.abs(np.concatenate(list(rows["map"]))).max()), 1e-12)
            for row in rows.to_dict("records"):
                degrees = row["difference_deg"]
                place = 0 if degrees != degrees else 2 + round(BINS * degrees / period) % BINS
                _layout(line[place], row, most, width >= DOUBLE_MM)
                if place == 0:
                    show_map(line[1], (mapped(row["map_null_low"]) + mapped(row["map_null_high"])) / 2, most)
    return axes


def _names(layers: list[Any], width_mm: float) -> Labels:
    """Return names of layers' networks and taps that fit into a line, a tap with the word behind it."""
    taps = [tap for _, *both, _ in layers for tap in both]
    return names_of((model for model, *_ in layers), taps, width_mm - text_mm(" to", SAID_PT))


def _of_layer(names: Labels, layer: Any, width_mm: float) -> str:
    model, first, second, family = map(str, layer)
    return f"{names.of[model]}\n{between(names, first, second, width_mm)}\n{source_line(family, width_mm)}"


def _layout(ax: Axes, row: dict[Any, Any], most: float, wide: bool) -> None:
    image, low, high = (mapped(row[name]) for name in ("map", "map_null_low", "map_null_high"))
    show_map(ax, image, most)
    y, x = np.nonzero((image < low) | (image > high))
    ax.plot(x, y, ".", color="black", markersize=1.5 if wide else 0.9)
    ax.set_xlabel(f"{row['n_sources']}", fontsize=SAID_PT, labelpad=1)


# equivariance ---------------------------------------------------------------------------------------------------------


def equivariance_data(matrices: pd.DataFrame) -> pd.DataFrame:
    """Return what `equivariance_matrices` draws: a row for each cell of the first `MOST_MATRICES` matrices."""
    parts = []
    for row in matrices.iloc[:MOST_MATRICES].to_dict("records"):
        matrix = mapped(row["matrix"])
        target, source = np.indices(matrix.shape)
        facts = {
            name: row[name]
            for name in (*LAYER, "source_family", "target_family", "share", "share_permuted_95", "share_untrained")
        }
        parts.append(
            pd.DataFrame(
                {**facts, "target_bin": target.ravel(), "source_bin": source.ravel(), "weight": matrix.ravel()}
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*LAYER, "source_family", "weight"])


def equivariance_matrices(
    matrices: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw mean weights by preferred angle of target and source, one panel per layer and family of sources: stripes along the diagonal are equivariance.

    Parameters
    ----------
    matrices : DataFrame
        Rows of the table ``equivariance`` that have one family of targets.
    noun : str
        What the targets are called.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); each panel has its own scale, grey where no unit prefers an angle; panels beyond the last are switched off.
    """
    drawn = matrices.iloc[:MOST_MATRICES]
    layers = list(drawn[[*LAYER, "source_family"]].itertuples(index=False, name=None))
    width, count = drawn_width(figure, width_mm), max(len(drawn), 1)
    said = wrapped(
        f"mean weights into {noun} by both preferred angles; red excites, blue inhibits; in brackets circulant shares of exchanged angles and of untrained twins",
        width,
        7,
    )
    for double in (4, 6):  # more panels side by side where a page has no room for the rows of fewer
        columns = columns_for(width, count, double=double)
        rows, panel_mm = -(-count // columns), (width - 8) / columns - 3
        names = _names(layers, panel_mm)
        titles = [
            f"{_of_layer(names, layer, panel_mm)}\n{_shares(row)}"
            for layer, row in zip(layers, drawn.to_dict("records"), strict=True)
        ]
        key = key_of(names.key, width, 6)
        row_mm = panel_mm + max((lines_mm(title, SAID_PT) for title in titles), default=0.0) + 3
        height = lines_mm(said, 7) + lines_mm(key, 6) + 12 + row_mm * rows
        if height <= PAGE_MM:
            break
    with style():
        sheet = canvas(figure, width_mm, min(height, PAGE_MM))
        axes: Panels = sheet.subplots(rows, columns, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for place, (title, row) in enumerate(zip(titles, drawn.to_dict("records"), strict=True)):
            ax, matrix = axes.ravel()[place], mapped(row["matrix"])
            ax.set_facecolor("0.9")
            show_map(ax, matrix, max(float(np.nanmax(np.abs(matrix), initial=0.0)), 1e-12))
            ticks = list(range(0, BINS, 2))
            degrees = [f"{period_of(row['target_family']) * k / BINS:g}" for k in ticks]
            ax.set_xticks(ticks, degrees if place + columns >= len(drawn) else [])
            ax.set_yticks(ticks, degrees if place % columns == 0 else [])
            ax.set_title(title, fontsize=SAID_PT)
        below(sheet, "preferred angle of the source, degrees", key)
        sheet.supylabel("of the target, degrees", fontsize=6)
        sheet.suptitle(said, fontsize=7)
    return axes


def _shares(row: dict[Any, Any]) -> str:
    found, exchanged, untrained = (number(row[name]) for name in ("share", "share_permuted_95", "share_untrained"))
    return f"circulant {found} ({exchanged}, {untrained})"


# what captions say ----------------------------------------------------------------------------------------------------


def layout_words(laid: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `field_layouts`: how many families of sources are drawn of how many."""
    return left_out(len(laid[laid["frame"] == "own"][[*LAYER, "source_family"]].drop_duplicates()), MOST_ROWS)


def equivariance_words(matrices: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `equivariance_matrices`: how many are drawn of how many."""
    return left_out(len(matrices), MOST_MATRICES)


def left_out(count: int, most: int) -> dict[str, str]:
    """Return what a caption says of panels beyond the first `most`."""
    return {"left_out": f" The first {most} of {count} are drawn." if count > most else ""}
