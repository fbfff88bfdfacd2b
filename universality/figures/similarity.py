"""Layers: similarity against the difference of their depths, and of groups of pairs of models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    TRAINED,
    UNTRAINED,
    Panels,
    canvas,
    columns_for,
    drawn_width,
    legend_below,
    listed,
    style,
)

STATES = ("value", "value_untrained", "value_haar", "value_shuffled")
MEASURE_TITLES = {
    "cka_linear_debiased": "CKA\n(linear, debiased)",
    "cka_linear_biased": "CKA\n(linear, biased)",
    "svcca_variance99": "SVCCA\n(99 % variance)",
    "unit_match_hungarian": "unit matching\n(Hungarian r)",
    "unit_match_mutual_nearest": "unit matching\n(mutual nearest)",
}
KEYS = ["model_a", "model_b", "measure", "direction", "tap_a", "tap_b", "depth_a", "depth_b"]


def measure_title(measure: str) -> str:
    """Return what a measure is called in a sentence."""
    return MEASURE_TITLES.get(measure, measure).replace("\n", " ")


def limits(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of a colour scale: 0 and 1, or further out where values are (distances exceed 1)."""
    defined = values[np.isfinite(values)]
    return float(defined.min(initial=0.0)), float(defined.max(initial=1.0))


_AGAINST_DEPTH = {
    "value": (TRAINED, "o", "-", "trained"),
    "value_untrained": (UNTRAINED, "^", "-", "untrained twins"),
    "value_haar": (HAAR, "s", "--", f"B in a {HAAR_NAME}"),
    "value_shuffled": ("black", "", ":", "stimuli shuffled (chance)"),
}
_BIN = 0.1
PAIR, MEAN = "pair of taps", "mean of bin"


def depth_difference_data(similarity: pd.DataFrame) -> pd.DataFrame:
    """Return what `similarity_against_depth` draws: one row per measure and pair of taps, then one per measure and bin.

    Bins of the absolute difference of relative depth are 0.1 wide and centred on 0, 0.1, ...: what is drawn of a bin are the
    means of its differences and of its values, over `n` pairs of taps of which the value is defined.
    """
    pairs = similarity[[*KEYS, *STATES]].reset_index(drop=True)
    # Which of two networks is called A does not matter, so the difference has no sign. Depths are sums of shares: rounded,
    # so that 0.6 - 0.5 and 0.5 - 0.4 fall into one bin.
    pairs["depth_difference"] = (pairs["depth_b"] - pairs["depth_a"]).abs().round(9)
    bins = (pairs["depth_difference"] / _BIN).round(6).round().astype(int)
    defined = pairs[pairs["value"].notna()]
    grouped = defined.groupby(["measure", "direction", bins.rename("bin")], sort=False)
    means = grouped[["depth_difference", *STATES]].mean()
    means["n"] = grouped.size()
    means = means.reset_index().sort_values(["measure", "bin"], kind="stable").drop(columns="bin")
    return pd.concat([pairs.assign(drawn=PAIR, n=1), means.assign(drawn=MEAN)], ignore_index=True)


def _defined(rows: pd.DataFrame, states: Iterable[str]) -> list[str]:
    """Return the states that have a value, the trained networks in any case."""
    return [state for state in states if state == "value" or rows[state].notna().any()]


def depth_difference_words(similarity: pd.DataFrame) -> dict[str, str]:
    """Return what a caption says of `similarity_against_depth`: which states are drawn."""
    return {"states": listed(_AGAINST_DEPTH[state][-1] for state in _defined(similarity, _AGAINST_DEPTH))}


def similarity_against_depth(
    similarity: pd.DataFrame, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw every pair of taps of all pairs of models against the difference of their relative depths, a panel per measure.

    Points are pairs of taps, lines the means over bins of 0.1. Pairs that share a network are not independent, so the
    means have no intervals here.

    Parameters
    ----------
    similarity : DataFrame
        Rows of the table ``similarity``.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last measure are switched off.
    """
    drawn = depth_difference_data(similarity)
    measures, width = list(dict.fromkeys(drawn["measure"])), drawn_width(figure, width_mm)
    columns = columns_for(width, len(measures), double=4)
    rows = -(-len(measures) // columns)
    with style():
        sheet = canvas(figure, width_mm, 14 + 46 * rows)
        axes = sheet.subplots(rows, columns, squeeze=False, sharex=True)
        for ax, measure in zip(axes.ravel(), measures, strict=False):
            _against_depth(ax, drawn[drawn["measure"] == measure], _defined(drawn, _AGAINST_DEPTH))
            ax.set_title(MEASURE_TITLES.get(measure, measure))
        for ax in axes.ravel()[len(measures) :]:
            ax.set_axis_off()
        for column in range(columns):
            lowest = max(row for row in range(rows) if row * columns + column < len(measures))
            axes[lowest, column].tick_params(labelbottom=True)
            axes[lowest, column].set_xlabel("difference of relative depth")
        axes[0, 0].set_xlim(left=-0.02)
        legend_below(sheet, axes[0, 0], width)
    return axes


def _against_depth(ax: Axes, rows: pd.DataFrame, states: list[str]) -> None:
    pairs, means = (rows[rows["drawn"] == kind] for kind in (PAIR, MEAN))
    for state in states:
        colour, marker, line, label = _AGAINST_DEPTH[state]
        if marker:
            ax.plot(
                pairs["depth_difference"], pairs[state], marker, color=colour, markersize=1.6, alpha=0.35,
                markeredgewidth=0, label="_",
            )  # fmt: skip
        # A measure that does not depend on the basis has both on one place: the square is wider and open.
        size, fill = (4.5, "none") if state == "value_haar" else (2.5, colour)
        above = 4 if state == "value" else 3
        ax.plot(
            means["depth_difference"], means[state], line, color=colour, marker=marker, markersize=size,
            markerfacecolor=fill, markeredgewidth=0.7, label=label, zorder=above,
        )  # fmt: skip
    low, high = limits(rows[list(STATES)].to_numpy())
    room = 0.03 * (high - low)
    ax.set(ylim=(low - room, high + room), ylabel=f"{rows['direction'].iloc[0]}")


_OF_GROUPS = {
    "value": (TRAINED, "trained", -0.22),
    "value_untrained": (UNTRAINED, "untrained twins", 0.0),
    "value_haar": (HAAR, HAAR_NAME, 0.22),
}


def group_data(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Return what `group_comparison` draws: one row per measure and pair of models, then one per measure and group."""
    columns = [
        "drawn", "measure", "group", "model_a", "model_b", *_OF_GROUPS, "value_shuffled", "low", "high", "pairs",
    ]  # fmt: skip
    parts = [table.assign(group=table["group"].astype(str)) for table in (pairs, groups)]
    both = pd.concat([parts[0].assign(drawn="pair"), parts[1].assign(drawn="mean of group")], ignore_index=True)
    return both.reindex(columns=columns)


def group_comparison(
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw every pair of models by what differs between its networks, beside the pair's untrained twins.

    Parameters
    ----------
    pairs, groups : DataFrame
        As `groups.by_pair` and `groups.by_group` return them. Bars are 95 % intervals of the group's mean, from
        resampled networks.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last measure are switched off.
    """
    measures, width = list(dict.fromkeys(pairs["measure"])), drawn_width(figure, width_mm)
    names = [name for name in pairs["group"].cat.categories if (pairs["group"] == name).any()]
    counts = groups.drop_duplicates("group").set_index("group")["pairs"]
    states = _defined(pairs, (*_OF_GROUPS, "value_shuffled"))
    columns = columns_for(width, len(measures), double=5)
    rows = -(-len(measures) // columns)
    with style():
        sheet = canvas(figure, width_mm, 70 if rows == 1 else 16 + 48 * rows)
        axes = sheet.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, measure in zip(axes.ravel(), measures, strict=False):
            _groups(ax, pairs[pairs["measure"] == measure], groups[groups["measure"] == measure], names, states)
            ax.set(title=MEASURE_TITLES.get(measure, measure), xlabel="score", yticks=range(len(names)))
        for ax in axes.ravel()[len(measures) :]:
            ax.set_axis_off()
        axes[0, 0].set_yticklabels([f"{n}\n({counts[n]} {'pair' if counts[n] == 1 else 'pairs'})" for n in names])
        sheet.supylabel("what differs between the networks", fontsize=6)
        axes[0, 0].invert_yaxis()
        legend_below(sheet, axes[0, 0], width)
    return axes


def group_words(pairs: pd.DataFrame, groups: pd.DataFrame) -> dict[str, str]:
    """Return what a caption says of `group_comparison`: beside which nulls the trained networks stand."""
    said = {
        "value_untrained": "untrained twins",
        "value_haar": f"a {HAAR_NAME}",
        "value_shuffled": "chance (stimuli shuffled)",
    }
    nulls = [said[state] for state in _defined(pairs, STATES)[1:]]
    return {"nulls": f", beside {listed(nulls)}" if nulls else ""}


def _groups(ax: Axes, pairs: pd.DataFrame, means: pd.DataFrame, names: list[str], states: list[str]) -> None:
    for state in (state for state in states if state in _OF_GROUPS):
        colour, label, offset = _OF_GROUPS[state]
        place = np.array([names.index(name) for name in pairs["group"]]) + offset
        ax.plot(pairs[state], place, "o", color=colour, markersize=2, alpha=0.5, markeredgewidth=0, label=label)
    # Above the points, so that it hides none.
    place = np.array([names.index(name) for name in means["group"]]) + _OF_GROUPS["value"][-1] - 0.14
    ax.errorbar(
        means["value"], place, xerr=[means["value"] - means["low"], means["high"] - means["value"]], fmt="|",
        color="black", markersize=6, elinewidth=0.7, label="mean of trained pairs, 95 % interval",
    )  # fmt: skip
    if "value_shuffled" in states:
        chance, label = pairs["value_shuffled"].mean(), "stimuli shuffled (chance), mean of all pairs"
        ax.axvline(chance, color="black", linewidth=0.6, linestyle=":", label=label)
