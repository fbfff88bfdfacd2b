"""The index of universality: by what differs between networks, and by feature."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.features.families import FAMILIES
from universality.figures.style import (
    DOUBLE_MM,
    SINGLE_MM,
    TRAINED,
    UNTRAINED,
    Panels,
    canvas,
    drawn_width,
    legend_below,
    style,
    wrapped,
)

_STATES = (("index", TRAINED, "trained", -0.14), ("index_untrained", UNTRAINED, "their untrained twins", 0.14))


def index_data(by_pair: pd.DataFrame, by_group: pd.DataFrame) -> pd.DataFrame:
    """Return what `index_by_group` draws: the rows of pairs, then of groups, without bins of orientation."""
    pairs = by_pair[by_pair["angle_deg"].isna()]
    means = by_group[by_group["angle_deg"].isna() & (by_group["group"] != "untrained")]
    parts = [pairs.assign(drawn="pair"), means.assign(drawn="mean of group")]
    both = pd.concat([part.dropna(axis="columns", how="all") for part in parts], ignore_index=True)
    columns = [
        "drawn", "family", "group", "model_a", "model_b", "seed", "n_pairs", "n_models", "index", "index_low", "index_high",
        "index_untrained", "index_untrained_low", "index_untrained_high",
    ]  # fmt: skip
    return both.reindex(columns=columns)


def index_by_group(
    by_pair: pd.DataFrame,
    by_group: pd.DataFrame,
    nouns: dict[str, str],
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the index of every family by what differs between the networks, trained beside untrained.

    Parameters
    ----------
    by_pair, by_group : DataFrame
        Tables ``index_by_pair`` and ``index_by_group``; bins of orientation are left out. Small points are pairs, large
        ones their means with 95 % intervals; a mean without interval has too few networks.
    nouns : dict
        What a family's units are called; its order is that of the panels.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last family are switched off.
    """
    pairs = by_pair[by_pair["angle_deg"].isna()]
    means = by_group[by_group["angle_deg"].isna() & (by_group["group"] != "untrained")]
    groups = list(dict.fromkeys(means["group"]))
    counts = means.groupby("group")[["n_pairs", "n_models"]].max()
    width = drawn_width(figure, width_mm)
    columns = len(nouns) if width > SINGLE_MM else 1
    rows = -(-len(nouns) // columns)
    with style():
        height = 24 + 9 * len(groups) if rows == 1 else 20 + rows * (8 + 7.5 * len(groups))
        sheet = canvas(figure, width_mm, max(48, height))
        axes = sheet.subplots(rows, columns, squeeze=False, sharey=True, sharex=rows > 1)
        for ax, (family, noun) in zip(axes.ravel(), nouns.items(), strict=True):
            _panel(ax, pairs[pairs["family"] == family], means[means["family"] == family], groups)
            ax.set_title(noun)
        names = [f"{group}\n({_size(counts.loc[group])})" for group in groups]
        # Half a row beyond the first and the last: of a single group the points would lie on the frame, cut in half.
        axes[0, 0].set(yticks=range(len(groups)), yticklabels=names, ylim=(len(groups) - 0.5, -0.5))
        sheet.supylabel("what differs between the networks", fontsize=6)
        said = "index of universality: share of units that are shared, less that in random bases"
        # In the middle of the lowest row; a label of the figure would lie under the legend.
        axes[-1, columns // 2].set_xlabel(wrapped(said, (0.44 if columns == 2 else 0.6) * width, 6))
        legend_below(sheet, axes[0, 0], width)
    return axes


def _size(counts: pd.Series) -> str:
    pairs = int(counts["n_pairs"])
    return f"{pairs} {'pair' if pairs == 1 else 'pairs'}, {int(counts['n_models'])} networks"


def _panel(ax: Axes, pairs: pd.DataFrame, means: pd.DataFrame, groups: list[str]) -> None:
    ax.axvline(0.0, color="0.6", linewidth=0.5, linestyle=":", label="as in random bases")
    for column, colour, label, offset in _STATES:
        chosen = pairs[(pairs["seed"] >= 0) == (column == "index_untrained")]
        if chosen.empty:
            said = f"{label}: no such unit"
            ax.text(0.98, 0.04, said, transform=ax.transAxes, ha="right", va="bottom", color=colour, fontsize=5)
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


def feature_data(by_feature: pd.DataFrame, nouns: dict[str, str]) -> pd.DataFrame:
    """Return what `index_by_feature` draws: one row per bin of orientation, and one per family (angle_deg NaN)."""
    binned = by_feature.loc[by_feature["angle_deg"].notna(), "family"].unique()
    rows = by_feature[by_feature["family"].isin([family for family in nouns if family in binned])]
    columns = ["family", "angle_deg", "n_units", "n_pairs", "index", "index_low", "index_high"]
    return rows.sort_values(["family", "angle_deg"], kind="stable")[columns].reset_index(drop=True)


def index_by_feature(
    by_feature: pd.DataFrame,
    nouns: dict[str, str],
    *,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the index of every bin of preferred angle over all pairs of networks, one panel per family.

    Above each bin stands how many different units of all networks prefer it. Returns the axes (row, column).
    """
    drawn = feature_data(by_feature, nouns)
    families = [family for family in nouns if (drawn["family"] == family).any()]
    width = drawn_width(figure, width_mm)
    columns = max(len(families), 1) if width > SINGLE_MM else 1
    rows = -(-max(len(families), 1) // columns)
    with style():
        sheet = canvas(figure, width_mm, 55 if rows == 1 else 10 + 45 * rows)
        axes = sheet.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, family in zip(axes.ravel(), families, strict=False):
            _bins(ax, drawn[drawn["family"] == family], FAMILIES[family].angle if family in FAMILIES else "orientation")
            ax.set_title(f"{nouns[family]} (units in the zoo above)", pad=9)
        for ax in axes[:, 0]:
            ax.set_ylabel("index of universality")
        legend_below(sheet, axes[0, 0], width)
    return axes


def _bins(ax: Axes, drawn: pd.DataFrame, angle_name: str) -> None:
    rows, whole = drawn[drawn["angle_deg"].notna()], drawn[drawn["angle_deg"].isna()].iloc[0]
    ax.axhline(0.0, color="0.6", linewidth=0.5, linestyle=":", label="as in random bases")
    ax.axhline(whole["index"], color=TRAINED, linewidth=0.6, linestyle="--", label="all bins together")
    angles = rows["angle_deg"].to_numpy()
    _with_intervals(ax, rows, "index", angles, TRAINED, "mean over all pairs, 95 % interval", upright=True)
    for angle, units in zip(angles, rows["n_units"], strict=True):
        ax.annotate(str(units), (angle, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=5)
    turn = angles.max()
    ax.set(xlabel=f"preferred {angle_name} (degrees)", xticks=np.arange(0, turn + 1, 60), xlim=(-20, turn + 20))
