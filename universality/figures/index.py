"""The index of universality: by what differs between networks, and by feature."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality.figures.style import DOUBLE_MM, MM, TRAINED, UNTRAINED, style

_STATES = (("index", TRAINED, "trained", -0.14), ("index_untrained", UNTRAINED, "their untrained twins", 0.14))


def index_by_group_figure(by_pair: pd.DataFrame, by_group: pd.DataFrame, nouns: dict[str, str]) -> Figure:
    """Draw the index of every family by what differs between the networks, trained beside untrained.

    Parameters
    ----------
    by_pair, by_group : DataFrame
        Tables ``index_by_pair`` and ``index_by_group``; bins of orientation are left out. Small points are pairs, large
        ones their means with 95 % intervals; a mean without interval has too few networks.
    nouns : dict
        What a family's units are called; its order is that of the panels.
    """
    pairs = by_pair[by_pair["angle_deg"].isna()]
    means = by_group[by_group["angle_deg"].isna() & (by_group["group"] != "untrained")]
    groups = [name for name in dict.fromkeys(means["group"]) if (means["group"] == name).any()]
    counts = means.groupby("group")[["n_pairs", "n_models"]].max()
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (24 + 9 * len(groups)) * MM), layout="constrained")
        axes = figure.subplots(1, len(nouns), squeeze=False, sharey=True)[0]
        for ax, (family, noun) in zip(axes, nouns.items(), strict=True):
            _panel(ax, pairs[pairs["family"] == family], means[means["family"] == family], groups)
            ax.set_title(noun)
        names = [f"{group}\n({_size(counts.loc[group])})" for group in groups]
        axes[0].set(yticks=range(len(groups)), yticklabels=names, ylabel="what differs between the networks")
        axes[0].invert_yaxis()
        axes[len(axes) // 2].set_xlabel(
            "index of universality: share of units that are shared, less that in random bases"
        )
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _size(counts: pd.Series) -> str:
    pairs = int(counts["n_pairs"])
    return f"{pairs} {'pair' if pairs == 1 else 'pairs'}, {int(counts['n_models'])} networks"


def _panel(ax: Axes, pairs: pd.DataFrame, means: pd.DataFrame, groups: list[str]) -> None:
    ax.axvline(0.0, color="0.6", linewidth=0.5, linestyle=":", label="as in random bases")
    for column, colour, label, offset in _STATES:
        chosen = pairs[(pairs["seed"] >= 0) == (column == "index_untrained")]
        if chosen.empty:
            ax.text(0.98, 0.02, f"{label}: no such unit", transform=ax.transAxes, ha="right", color=colour, fontsize=5)
            continue
        place = np.array([groups.index(name) for name in chosen["group"]], dtype=np.float64) + offset
        ax.plot(
            chosen["index"],
            place,
            "o",
            color=colour,
            markersize=2,
            alpha=0.4,
            markeredgewidth=0,
            label=f"{label}: a pair",
        )
        height = np.array([groups.index(name) for name in means["group"]], dtype=np.float64) + offset
        _with_intervals(ax, means, column, height, colour, f"{label}: mean, 95 % interval (open: none)")


def _with_intervals(
    ax: Axes, rows: pd.DataFrame, column: str, height: np.ndarray, colour: str, label: str, *, upright: bool = False
) -> None:
    """Draw means with their intervals along x, or along y if `upright`; without an interval, an open point."""
    value = rows[column].to_numpy(np.float64)
    ends = np.abs(np.stack([rows[f"{column}_{end}"].to_numpy(np.float64) for end in ("low", "high")]) - value)
    known = np.isfinite(ends).all(axis=0)
    for chosen, fill, name in ((known, colour, label), (~known, "white", "_")):
        errors = ends[:, chosen] if fill == colour else None
        x, y = (height[chosen], value[chosen]) if upright else (value[chosen], height[chosen])
        ax.errorbar(
            x, y, xerr=None if upright else errors, yerr=errors if upright else None, fmt="D", color=colour, markersize=3.5,
            elinewidth=1.0, capsize=1.5, markerfacecolor=fill, label=name,
        )  # fmt: skip


def index_by_feature_figure(by_feature: pd.DataFrame, nouns: dict[str, str]) -> Figure:
    """Draw the index of every bin of orientation over all pairs of networks, one panel per family.

    Above each bin stands how many different units of all networks prefer it.
    """
    families = [family for family in nouns if by_feature.loc[by_feature["family"] == family, "angle_deg"].notna().any()]
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 55 * MM), layout="constrained")
        axes = figure.subplots(1, max(len(families), 1), squeeze=False, sharey=True)[0]
        for ax, family in zip(axes, families, strict=False):
            rows = by_feature[(by_feature["family"] == family) & by_feature["angle_deg"].notna()].sort_values(
                "angle_deg"
            )
            whole = by_feature[(by_feature["family"] == family) & by_feature["angle_deg"].isna()].iloc[0]
            ax.axhline(0.0, color="0.6", linewidth=0.5, linestyle=":", label="as in random bases")
            ax.axhline(whole["index"], color=TRAINED, linewidth=0.6, linestyle="--", label="all orientations")
            _with_intervals(
                ax,
                rows,
                "index",
                rows["angle_deg"].to_numpy(),
                TRAINED,
                "mean over all pairs, 95 % interval",
                upright=True,
            )
            for angle, units in zip(rows["angle_deg"], rows["n_units"], strict=True):
                ax.annotate(
                    str(units), (angle, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=5
                )
            ax.set_title(f"{nouns[family]} (units in the zoo above)", pad=9)
            turn = rows["angle_deg"].max()
            ax.set(xlabel="preferred orientation (degrees)", xticks=np.arange(0, turn + 1, 60), xlim=(-20, turn + 20))
        axes[0].set_ylabel("index of universality")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
