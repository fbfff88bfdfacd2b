"""Similarity of every pair of taps of two networks as heatmaps, beside its nulls: the usual figure of all layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME, number
from universality.figures.backend import seaborn as sns
from universality.figures.similarity import KEYS, MEASURE_TITLES, STATES, limits, measure_title
from universality.figures.style import (
    DOUBLE_MM,
    MM,
    PAGE_MM,
    Labels,
    Panels,
    below,
    canvas,
    columns_for,
    distinct,
    drawn_width,
    fitted,
    key_of,
    lines_mm,
    listed,
    only_one,
    plain,
    style,
    text_mm,
    with_depth,
    wrapped,
)
from universality.similarity import COMPARATORS

_STATE_TITLES = {
    "value": "trained",
    "value_untrained": "untrained twins",
    "value_haar": f"B in a {HAAR_NAME}",
    "value_shuffled": "stimuli shuffled",
}
_TICK_PT = 5.0
_LINE_MM = 2.1
"""Lines of text of that size lie side by side from here on."""
_SLOPE_DEG = 40.0
_BAR_MM = 11.0
"""Room for a colour bar and its numbers."""
_GAP_MM = 3.0
_MOST_NAME_MM = 36.0
_MOST_PANEL_MM = 140.0
_MOST_CELL_MM = 22.0
_MOST_KEY_MM = 25.0
"""A longer key to the names of layers would take more room than the panels."""
_EXACT_DPI = 300
"""On a screen text is set to whole pixels, and panels beside it are some percent narrower than in a file."""
_MOST_ELONGATED = 6.0
"""Cells are squares up to this ratio of the numbers of layers."""


def drawn_states(similarity: pd.DataFrame) -> dict[str, list[str]]:
    """Return by measure which of `STATES` say something of it: the trained networks, and what else has a value.

    A measure that does not depend on the basis has the same values in a random one: that says nothing.
    """
    return {
        str(measure): [
            state for state in STATES
            if state == "value" or (rows[state].notna().any() and not (state == "value_haar" and _basis_free(str(measure))))
        ]
        for measure, rows in similarity.groupby("measure", sort=False)
    }  # fmt: skip


def _basis_free(measure: str) -> bool:
    return measure in COMPARATORS and COMPARATORS[measure].basis_free


def similarity_data(similarity: pd.DataFrame) -> pd.DataFrame:
    """Return what `similarity_heatmaps` draws: one row per measure and pair of taps, by depth, values as they are coloured.

    A state that no measure draws has no column; where only some draw it, it is empty for the others.
    """
    drawn = drawn_states(similarity)
    order = {measure: place for place, measure in enumerate(drawn)}
    rows = similarity.assign(order=similarity["measure"].map(order))
    rows = rows.sort_values(["order", "depth_a", "depth_b"], kind="stable")
    shown = _shown(drawn)
    for state in shown:
        rows[state] = rows[state].where(rows["measure"].isin([m for m, states in drawn.items() if state in states]))
    return rows[[*KEYS, *shown]].reset_index(drop=True)


def _shown(drawn: Mapping[str, list[str]]) -> list[str]:
    return [state for state in STATES if any(state in states for states in drawn.values())]


def similarity_words(similarity: pd.DataFrame) -> dict[str, str]:
    """Return what a caption says of `similarity_heatmaps`: what is compared, which states are drawn, which are not and why."""
    drawn, itself = drawn_states(similarity), bool((similarity["model_a"] == similarity["model_b"]).all())
    titles, shown = _state_titles(itself), _shown(drawn)
    free = [measure for measure in drawn if _basis_free(measure) and similarity["value_haar"].notna().any()]
    reasons = []
    if free:
        named = (
            f"{listed(map(measure_title, free))}, which {'does' if len(free) == 1 else 'do'} not depend on the basis"
        )
        reasons.append(f"{titles['value_haar']} for {named}")
    absent = [titles[state] for state in STATES if state not in shown and not (state == "value_haar" and free)]
    if absent:
        reasons.append(f"{listed(absent)}, of which there are no values")
    names = list(distinct([*similarity["model_a"], *similarity["model_b"]]).values())
    return {
        "of": f"{names[0]} with itself" if itself else listed(names),
        "measures": listed(map(measure_title, drawn)),
        "states": listed(titles[state] for state in shown),
        "left_out": f" Not drawn: {'; '.join(reasons)}." if reasons else "",
    }


def _state_titles(itself: bool) -> dict[str, str]:
    return _STATE_TITLES | ({"value_haar": f"one side in a {HAAR_NAME}"} if itself else {})


def similarity_heatmaps(
    similarity: pd.DataFrame, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw one pair of models: measures in rows; trained, untrained, random basis (Haar) and shuffled stimuli in columns.

    The panels of a measure share one colour scale, so that a value and its nulls can be compared by eye; layers are in forward
    order. States that say nothing of a measure have no panel (`drawn_states`), those that say nothing of any no column. One measure
    alone has square cells. Numbers stand in cells that have room for them; where layers are too many to name each,
    every second, third... one is named, which is said below. A figure of less than the width of two columns has two panels in a row.

    Parameters
    ----------
    similarity : DataFrame
        Rows of the table ``similarity`` of one pair of models, which may be one network twice.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column): a row per measure and a column per state where all states stand side by side; else a measure's states follow one
        another over as many rows as they need. What is not drawn is switched off.

    Raises
    ------
    FigureError
        The rows are of several pairs of models.
    """
    only_one(similarity, "model_a", "model_b")
    drawn, of_measure = similarity_data(similarity), drawn_states(similarity)
    plan = _planned(drawn, of_measure, figure, width_mm)
    with style():
        sheet = canvas(figure, width_mm, plan.height_mm)
        if isinstance(sheet, Figure) and figure is None:
            # Panels that are less wide than the page stand together in its middle.
            sheet.set_layout_engine("constrained", rect=((1 - plan.share) / 2, 0, plan.share, 1))
        axes = sheet.subplots(*plan.grid, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for measure, spots in plan.spots.items():
            rows = drawn[drawn["measure"] == measure]
            for state, spot in spots.items():
                _heatmap(axes[spot], rows, state, plan)
            for row in sorted({row for row, _ in spots.values()}):
                # In the last column even where it has no panel: between two columns it would push them apart.
                beside = axes[row, -1].inset_axes([1 + 1.2 / plan.panel_mm[0], 0, 1.8 / plan.panel_mm[0], 1])
                mesh = axes[spots["value"]].collections[0]  # all of a measure have one scale
                sheet.colorbar(mesh, cax=beside).outline.set_linewidth(0)
        _label(axes, plan)
        if plan.alone:
            sheet.suptitle(measure_title(next(iter(of_measure))), fontsize=6.5)
        below(sheet, plan.key)
        if isinstance(sheet, Figure) and figure is None and plan.proportion:
            _square(sheet, axes[-1, 0], plan, plan.proportion)
    return axes


def _square(sheet: Figure, ax: Axes, plan: _Plan, proportion: float) -> None:
    """Give a figure the height at which its cells are squares: what is around the panels stays as high as it is.

    Where a page is not that high, panels become narrower.
    """
    dpi = sheet.dpi
    sheet.set_dpi(_EXACT_DPI)
    sheet.draw_without_rendering()
    sheet.set_dpi(dpi)
    (rows, columns), (width, height) = plan.grid, sheet.get_size_inches()
    box = ax.get_position()
    most = box.height * height + (PAGE_MM * MM - height) / rows
    wanted = min(box.width * width * proportion, most)
    share = plan.share - columns * (box.width - wanted / proportion / width)
    sheet.set_layout_engine("constrained", rect=((1 - share) / 2, 0, share, 1))
    sheet.set_size_inches(width, height + rows * (wanted - box.height * height))


@dataclass(frozen=True)
class _Plan:
    """How heatmaps are laid out.

    Attributes
    ----------
    spots : measure -> state -> (row, column)
    grid : rows, columns
    alone : whether it is of one measure
    height_mm, share : of the figure; how much of its width is needed
    numbers : whether cells have room for their numbers
    proportion : height of a panel of square cells, of its width; None where they are no squares
    every : of how many layers one is named, of A and of B
    slope_deg : of the names of B's layers
    layers, ticks : of A and of B: taps and depths; what they are called
    titles, models : what states and models are called
    panel_mm : about how wide and how high a panel is
    key : what is said below
    """

    spots: dict[str, dict[str, tuple[int, int]]]
    grid: tuple[int, int]
    alone: bool
    height_mm: float
    share: float
    numbers: bool
    proportion: float | None
    every: tuple[int, int]
    slope_deg: float
    layers: tuple[pd.DataFrame, pd.DataFrame]
    ticks: list[list[str]]
    titles: Mapping[str, str]
    models: tuple[str, ...]
    panel_mm: tuple[float, float]
    key: str


def _planned(
    drawn: pd.DataFrame, of_measure: Mapping[str, list[str]], figure: Figure | SubFigure | None, width_mm: float
) -> _Plan:
    width, states, alone = drawn_width(figure, width_mm), _shown(of_measure), len(of_measure) == 1
    columns = columns_for(width, len(states), double=len(STATES))
    if columns < len(states):
        columns = 1 if alone and len(states) % 2 else 2
    spots, rows = {}, 0
    for measure, shown in of_measure.items():
        # Of rows that are not full the first has the gaps: names of layers stand below the last.
        gaps = -len(shown) % columns
        places = [states.index(s) if columns == len(states) else p + gaps * (p > 0) for p, s in enumerate(shown)]
        spots[measure] = {s: (rows + p // columns, p % columns) for s, p in zip(shown, places, strict=True)}
        rows += max(places) // columns + 1
    layers = _layers(drawn, "a"), _layers(drawn, "b")
    along, across = map(len, layers)

    # Names of layers, then panels beside them, then what fits into these. Room for names is bounded, so that panels keep most of the page.
    room_mm = min(_MOST_NAME_MM, 0.25 * width) - text_mm(" (100%)", _TICK_PT)
    taps = [fitted(side["tap"], room_mm, points=_TICK_PT, shorter=plain) for side in layers]
    ticks = [_ticks(side, names) for side, names in zip(layers, taps, strict=True)]
    ticks_mm = [max(text_mm(said, _TICK_PT) for said in side) for side in ticks]
    titles = _state_titles(bool((drawn["model_a"] == drawn["model_b"]).all()))
    every = [spot for of_state in spots.values() for spot in of_state.values()]
    widest = (width - ticks_mm[0] - _BAR_MM - (6.0 if alone else 13.0)) / columns - _GAP_MM
    proportion = along / across if alone and 1 / _MOST_ELONGATED <= along / across <= _MOST_ELONGATED else None
    given = None if figure is None else figure.bbox.height / figure.dpi / MM
    title = max((wrapped(titles[state], widest + _GAP_MM) for state in states), key=lambda text: text.count("\n"))
    for slope in (_SLOPE_DEG, 90.0):
        foot = ticks_mm[1] * np.sin(np.deg2rad(slope)) + 1.0
        if alone:
            outside = foot + 13.0 + 5.0 * rows
            wanted = widest * proportion if proportion else min(30.0, widest)
            panel_h = min(wanted, _MOST_PANEL_MM, _MOST_CELL_MM * along, ((given or PAGE_MM) - outside) / rows)
            height = outside + panel_h * rows
        else:
            height = given or 12 + min(34, 220 / rows) * rows + max(0.0, foot - 11.0)
            titled = (
                rows if columns < len(states) else len({min(r for r, c in every if c == column) for _, column in every})
            )
            panel_h = max(2.0, (height - foot - 4.0 - titled * (1.0 + lines_mm(title, 6.5))) / rows - 3.5)
        panel_w = min(widest, panel_h / proportion) if proportion else widest
        cell_w, cell_h = 0.97 * panel_w / across, 0.97 * panel_h / along
        # Beside one another, and not far beyond the panel, or panels would stand far apart.
        beyond = 0.5 * (ticks_mm[1] * np.cos(np.deg2rad(slope)) - cell_w)
        if cell_w * np.sin(np.deg2rad(slope)) >= _LINE_MM and beyond <= _GAP_MM:
            break

    steps = int(np.ceil(_LINE_MM / cell_h)), 1 if slope < 90 else int(np.ceil(_LINE_MM / cell_w))
    said = {number(value) for value in np.ravel(drawn[states].to_numpy(np.float64)) if value == value}
    # A name may reach a little beyond its panel: as far as the next one.
    pair = [str(drawn[f"model_{side}"].iloc[0]) for side in "ab"]
    rooms = min(panel_h + 6.0, (height - foot - 4.0) / rows - 1.0), panel_w + _GAP_MM
    fits = [fitted(pair, room, points=6, lines=2) for room in rooms]
    models = tuple(names.of[model] for names, model in zip(fits, pair, strict=True))
    models_key = {
        names.of[m]: names.key[names.of[m]] for names, m in zip(fits, pair, strict=True) if names.of[m] in names.key
    }
    named = [
        {names.of[tap]: names.key[names.of[tap]] for tap in side["tap"].iloc[::step] if names.of[tap] in names.key}
        for side, names, step in zip(layers, taps, steps, strict=True)
    ]
    key = "\n".join(
        text for text in (_thinned(*steps), key_of(models_key, width), *_keys(named[0], named[1], width)) if text
    )
    higher = lines_mm(key, 5.5) + lines_mm(models[1], 6) - lines_mm("x", 6)
    return _Plan(
        spots, (rows, columns), alone, share=1 - columns * (widest - panel_w) / width, height_mm=min(height + higher, PAGE_MM),
        numbers=cell_h >= _LINE_MM and max((text_mm(text, _TICK_PT) for text in said), default=0.0) + 0.4 <= cell_w,
        proportion=proportion, every=steps, slope_deg=slope, layers=layers, ticks=ticks, titles=titles, models=models,
        panel_mm=(panel_w, panel_h), key=key,
    )  # fmt: skip


def _layers(drawn: pd.DataFrame, side: str) -> pd.DataFrame:
    """Return tap and depth of one network's layers in forward order."""
    taps = drawn[[f"tap_{side}", f"depth_{side}"]].set_axis(["tap", "depth"], axis=1).drop_duplicates("tap")
    return taps.sort_values("depth", kind="stable")


def _ticks(layers: pd.DataFrame, taps: Labels) -> list[str]:
    return [with_depth(taps.of[tap], depth) for tap, depth in zip(layers["tap"], layers["depth"], strict=True)]


def _keys(rows: Mapping[str, str], columns: Mapping[str, str], width_mm: float) -> list[str]:
    """Return the keys to names of layers: one, or one of each network where an abbreviation stands for two names."""
    if all(rows.get(label, name) == name for label, name in columns.items()):
        return [key_of({**rows, **columns}, width_mm, most_mm=_MOST_KEY_MM)]
    keys = [key_of(named, width_mm - 12, most_mm=_MOST_KEY_MM / 2) for named in (rows, columns)]
    return (
        keys[:1]
        if keys[0] == keys[1]
        else [f"{what}: {key}" for what, key in zip(("rows", "columns"), keys, strict=True) if key]
    )


def _thinned(rows: int, columns: int) -> str:
    """Return which layers are named, where not all are."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    said = [
        f"every {step}{'th' if step % 100 in (11, 12, 13) else ends.get(step % 10, 'th')} {what}"
        for step, what in ((rows, "row"), (columns, "column")) if step > 1
    ]  # fmt: skip
    return f"named: {' and '.join(said)}" if said else ""


def _label(axes: Panels, plan: _Plan) -> None:
    """Name states above the first panel of a column (above each, where they follow one another), layers and networks at the edges only."""
    a, b = plan.models
    placed = {spot: (measure, state) for measure, spots in plan.spots.items() for state, spot in spots.items()}
    flowing = len({state for _, state in placed.values()}) > plan.grid[1]
    for (row, column), (measure, state) in placed.items():
        ax, rows = axes[row, column], [r for r, c in placed if c == column]
        if flowing or row == min(rows):
            ax.set_title(wrapped(plan.titles[state], plan.panel_mm[0] + (_GAP_MM if plan.grid[1] > 1 else 20.0)))
        for axis, side, step in ((ax.yaxis, 0, plan.every[0]), (ax.xaxis, 1, plan.every[1])):
            labels = plan.ticks[side][::step]
            at_edge = column == 0 if side == 0 else row == max(rows)
            axis.set_ticks(step * np.arange(len(labels)) + 0.5, labels if at_edge else [""] * len(labels))
        ax.tick_params(axis="y", rotation=0)
        ax.tick_params(axis="x", rotation=plan.slope_deg)
        if column == 0:
            title = (
                ""
                if plan.alone
                else wrapped(MEASURE_TITLES.get(measure, measure), plan.panel_mm[1] + _GAP_MM, 6) + "\n\n"
            )
            ax.set_ylabel(title + a)
        if row == max(rows):
            ax.set_xlabel(b)


def _heatmap(ax: Axes, rows: pd.DataFrame, state: str, plan: _Plan) -> None:
    ax.set_axis_on()
    low, high = limits(rows[[name for name in STATES if name in rows]].to_numpy(np.float64))
    grid = rows.pivot_table(index="tap_a", columns="tap_b", values=state, dropna=False)
    grid = grid.reindex(index=plan.layers[0]["tap"], columns=plan.layers[1]["tap"])
    said = grid.map(lambda value: "" if np.isnan(value) else number(value)) if plan.numbers else None
    sns.heatmap(
        grid, ax=ax, vmin=low, vmax=high, cmap="viridis", annot=said, fmt="", annot_kws={"size": 5}, cbar=False,
        xticklabels=False, yticklabels=False,
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
