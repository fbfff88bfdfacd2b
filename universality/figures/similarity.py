"""Layers: similarity of every pair of taps, and of groups of pairs of models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    HAAR_NAME,
    MM,
    TRAINED,
    UNTRAINED,
    number,
    short,
    style,
    tap_label,
)

STATES = ("value", "value_untrained", "value_haar", "value_shuffled")
_STATE_TITLES = {
    "value": "trained",
    "value_untrained": "untrained twins",
    "value_haar": f"B in a {HAAR_NAME}",
    "value_shuffled": "stimuli shuffled",
}
_MEASURE_TITLES = {
    "cka_linear_debiased": "CKA\n(linear, debiased)",
    "cka_linear_biased": "CKA\n(linear, biased)",
    "svcca_variance99": "SVCCA\n(99 % variance)",
    "unit_match_hungarian": "unit matching\n(Hungarian r)",
    "unit_match_mutual_nearest": "unit matching\n(mutual nearest)",
}


def similarity_heatmaps(similarity: pd.DataFrame) -> Figure:
    """Draw one pair of models: measures in rows; trained, untrained, random basis (Haar) and shuffled stimuli in columns.

    A row of panels shares one colour scale, so that a value and its nulls can be compared by eye.
    """
    measures = list(dict.fromkeys(similarity["measure"]))
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (12 + 34 * len(measures)) * MM), layout="constrained")
        axes = figure.subplots(len(measures), len(STATES), squeeze=False)
        for row, measure in enumerate(measures):
            rows = similarity[similarity["measure"] == measure]
            limits = _limits(rows[list(STATES)].to_numpy())
            for column, state in enumerate(STATES):
                ax = axes[row, column]
                _heatmap(ax, rows, state, limits, colorbar=column == len(STATES) - 1)
                ax.set_title(_STATE_TITLES[state] if row == 0 else "")
                if column == 0:
                    ax.set_ylabel(f"{_MEASURE_TITLES.get(measure, measure)}\n\n{short(rows['model_a'].iloc[0])}")
                else:
                    ax.set_yticklabels([])
                if row < len(measures) - 1:
                    ax.set_xticklabels([])
                else:
                    ax.set_xlabel(short(rows["model_b"].iloc[0]))
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of a colour scale: 0 and 1, or further out where values are (distances exceed 1)."""
    defined = values[np.isfinite(values)]
    return float(defined.min(initial=0.0)), float(defined.max(initial=1.0))


def _heatmap(ax: Axes, rows: pd.DataFrame, state: str, limits: tuple[float, float], *, colorbar: bool) -> None:
    taps_a = rows.drop_duplicates("tap_a").sort_values("depth_a")
    taps_b = rows.drop_duplicates("tap_b").sort_values("depth_b")
    grid = rows.pivot_table(index="tap_a", columns="tap_b", values=state, dropna=False)
    grid = grid.reindex(index=taps_a["tap_a"], columns=taps_b["tap_b"])
    said = grid.map(lambda value: "" if np.isnan(value) else number(value))
    sns.heatmap(
        grid, ax=ax, vmin=limits[0], vmax=limits[1], cmap="viridis", annot=said, fmt="", annot_kws={"size": 5}, cbar=colorbar,
        xticklabels=[tap_label(t, d) for t, d in zip(taps_b["tap_b"], taps_b["depth_b"], strict=True)],
        yticklabels=[tap_label(t, d) for t, d in zip(taps_a["tap_a"], taps_a["depth_a"], strict=True)],
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", rotation=40)
    ax.tick_params(axis="y", rotation=0)


def group_comparison(pairs: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """Draw every pair of models by what differs between its networks, beside the pair's untrained twins.

    Parameters
    ----------
    pairs, groups : DataFrame
        As `groups.by_pair` and `groups.by_group` return them. Bars are 95 % intervals of the group's mean, from
        resampled networks.
    """
    measures = list(dict.fromkeys(pairs["measure"]))
    names = [name for name in pairs["group"].cat.categories if (pairs["group"] == name).any()]
    states = {
        "value": (TRAINED, "trained"),
        "value_untrained": (UNTRAINED, "untrained twins"),
        "value_haar": (HAAR, HAAR_NAME),
    }
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 70 * MM), layout="constrained")
        axes = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
        for ax, measure in zip(axes, measures, strict=True):
            here, summary = (table[table["measure"] == measure] for table in (pairs, groups))
            for offset, (state, (colour, label)) in zip((-0.22, 0.0, 0.22), states.items(), strict=True):
                place = np.array([names.index(name) for name in here["group"]]) + offset
                ax.plot(here[state], place, "o", color=colour, markersize=2, alpha=0.5, markeredgewidth=0, label=label)
            mean = np.array([names.index(name) for name in summary["group"]]) - 0.22
            ax.errorbar(
                summary["value"], mean, xerr=[summary["value"] - summary["low"], summary["high"] - summary["value"]],
                fmt="|", color="black", markersize=6, elinewidth=0.7, label="mean of trained pairs, 95 % interval",
            )  # fmt: skip
            ax.set(title=_MEASURE_TITLES.get(measure, measure), xlabel="score", yticks=range(len(names)))
        counts = groups.drop_duplicates("group").set_index("group")["pairs"]
        axes[0].set_yticklabels([f"{name}\n({counts[name]} pairs)" for name in names])
        axes[0].set_ylabel("what differs between the networks")
        axes[0].invert_yaxis()
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, markerscale=2)
    return figure
