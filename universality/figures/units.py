"""Units: families of detectors, matched pairs of them, and their nulls."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality.detectors import best_taps
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


def tuning_family(
    units: pd.DataFrame,
    families: pd.DataFrame,
    noun: str = "curve detectors",
    *,
    period_deg: float = 360.0,
    angle: str = "orientation",
) -> Figure:
    """Draw each model's units of one family at its best tap: one line per unit, ordered by preferred orientation.

    The lower panels hold the layer's untrained twin: its tuned-looking units by the naive rule, which is what a
    careless test would have called detectors.
    """
    best = best_taps(families)
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 125 * MM), layout="constrained")
        axes = figure.subplots(2, len(best), squeeze=False, height_ratios=[3, 1.1], sharex=True)
        for column, (_, family) in enumerate(best.iterrows()):
            here = units[(units["model"] == family["model"]) & (units["tap"] == family["tap"])]
            trained = here[(here["seed"] == -1) & here["detector"]]
            shown = f" ({_MAX_LINES} drawn)" if len(trained) > _MAX_LINES else ""
            twin = here[(here["seed"] == here.loc[here["seed"] >= 0, "seed"].min())]
            _ridge(axes[0, column], trained, "r1", period_deg)
            axes[0, column].set_title(
                f"{short(family['model'])}\n{tap_label(family['tap'], family['depth'])}\n"
                f"{family['n_detectors']} of {family['n_units']} units\n"
                f"{family['share']:.1%}{shown}\nuntrained {family['share_untrained']:.1%}"
            )
            _ridge(axes[1, column], twin[twin["naive_detector"]], "naive_r1", period_deg)
            axes[1, column].set_title(
                f"untrained twin: {int(twin['detector'].sum())}\nby the naive rule {int(twin['naive_detector'].sum())}"
            )
        figure.suptitle(noun, fontsize=7)
        figure.supxlabel(f"{angle} (degrees)", fontsize=6)
        axes[0, 0].set_ylabel("units, by preferred orientation")
        axes[1, 0].set_ylabel("units")
    return figure


_MAX_LINES = 60


def _ridge(ax: Axes, units: pd.DataFrame, selectivity: str, period_deg: float) -> None:
    """Draw tuning curves scaled to their peaks, one above the other, the most selective ones if there are many."""
    chosen = units.nlargest(_MAX_LINES, selectivity).sort_values("preferred_deg")
    colours = sns.husl_palette(360)
    for place, (_, unit) in enumerate(chosen.iterrows()):
        curve = np.maximum(np.append(unit["tuning_sigma"], unit["tuning_sigma"][0]), 0.0)
        angles = np.linspace(0, period_deg, curve.size)
        height = curve / curve.max() * 2.2 if curve.max() > 0 else curve
        colour = (
            colours[int(unit["preferred_deg"] * (360.0 / period_deg)) % 360]
            if np.isfinite(unit["preferred_deg"])
            else UNTRAINED
        )
        ax.fill_between(angles, place, place + height, color=colour, alpha=0.25, linewidth=0, zorder=-place)
        ax.plot(angles, place + height, color=colour, linewidth=0.6, zorder=-place)
    if chosen.empty:
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=UNTRAINED)
    ax.set(xlim=(0, period_deg), xticks=np.linspace(0, period_deg, 5), yticks=[])
    ax.spines["left"].set_visible(False)


def matched_pairs(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    noun: str = "curve detectors",
    *,
    method: str = "hungarian",
    most: int = 24,
    period_deg: float = 360.0,
    angle: str = "orientation",
    taps: tuple[str, str] | None = None,
) -> Figure:
    """Draw matched detectors of one family and one pair of models: both tuning curves over one another.

    Shown are matches in which both units are detectors at the pair of `taps` (left out: the pair with the most of them);
    of these, `most` matches spread evenly over the preferred orientation (not the best ones). Each panel states r on held-out
    images, and in brackets the nulls: best partner in a random basis (Haar), in an untrained twin.
    """
    both = correspondence[
        correspondence["detector_a"] & correspondence["detector_b"] & (correspondence["method"] == method)
    ]
    if taps is None and not both.empty:
        taps = _commonest(both[["tap_a", "tap_b"]])
    if taps is not None:
        both = both[(both["tap_a"] == taps[0]) & (both["tap_b"] == taps[1])]
    with style():
        if both.empty:
            figure = Figure(figsize=(DOUBLE_MM * MM, 20 * MM), layout="constrained")
            figure.suptitle(f"no pair of {noun} was matched" + (f" at {taps[0]} and {taps[1]}" if taps else ""))
            return figure
        here = both.sort_values("preferred_a_deg", kind="stable")
        shown = spread(here, most)
        rows = -(-len(shown) // 6)
        figure = Figure(figsize=(DOUBLE_MM * MM, (16 + 26 * rows) * MM), layout="constrained")
        axes = figure.subplots(rows, 6, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (_, pair) in zip(axes, shown.iterrows(), strict=False):
            _overlay(ax, pair, units, period_deg)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        first = here.iloc[0]
        figure.suptitle(
            f"{short(first['model_a'])} {first['tap_a']} (blue) and {short(first['model_b'])} {first['tap_b']} (orange): {len(shown)} of "
            f"{len(here)} matched pairs of {noun},\nspread evenly over "
            f"{angle}; r on held-out images (in brackets: best partner in a {HAAR_NAME}, in an untrained twin)",
            fontsize=6.5,
        )
        figure.supxlabel(f"{angle} (degrees)", fontsize=6)
        figure.supylabel("response / peak", fontsize=6)
    return figure


def spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows, evenly from all, the first and the last among them."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def _commonest(pairs: pd.DataFrame) -> tuple[str, str]:
    """Return the most frequent row of two columns; of equals, the one that comes first."""
    counted = Counter(pairs.itertuples(index=False, name=None))
    first, second = max(counted, key=lambda pair: counted[pair])
    return str(first), str(second)


def _overlay(ax: Axes, pair: pd.Series, units: pd.DataFrame, period_deg: float) -> None:
    for side, colour in (("a", TRAINED), ("b", HAAR)):
        chosen = units[
            (units["model"] == pair[f"model_{side}"]) & (units["tap"] == pair[f"tap_{side}"])
            & (units["unit"] == pair[f"unit_{side}"]) & (units["seed"] == -1)
        ]  # fmt: skip
        curve = np.maximum(chosen["tuning_sigma"].iloc[0], 0.0)
        closed = np.append(curve, curve[0]) / curve.max()
        ax.plot(np.linspace(0, period_deg, closed.size), closed, color=colour)
    ax.set(xlim=(0, period_deg), ylim=(0, 1.05), xticks=(0, period_deg / 2, period_deg), yticks=(0, 1))
    ax.set_title(
        f"{pair['unit_a']} and {pair['unit_b']}\nr {number(pair['r_natural'])} ({number(pair['r_natural_haar'])}, "
        f"{number(pair['r_natural_untrained'])})",
        fontsize=5,
    )


def matches_and_nulls(correspondence: pd.DataFrame, noun: str = "curve detectors") -> Figure:
    """Draw the held-out correlation of matched detectors of one family beside its nulls, for every pair of taps."""
    both = correspondence[
        correspondence["detector_a"] & correspondence["detector_b"] & (correspondence["method"] == "hungarian")
    ]
    names = {
        "r_natural": "matched unit",
        "r_natural_haar": f"{HAAR_NAME} of B",
        "r_natural_untrained": "untrained twin of B",
    }
    labels = both["tap_a"].str.removesuffix(".bn2") + " and " + both["tap_b"].str.removesuffix(".bn2")
    long = both.assign(taps=labels).sort_values(["depth_a", "depth_b"], kind="stable")
    long = long.melt(id_vars="taps", value_vars=list(names), var_name="null", value_name="r")
    long = long.assign(null=long["null"].map(names))
    order = list(dict.fromkeys(long["taps"]))
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, max(45.0, 12 + 5.5 * len(order)) * MM), layout="constrained")
        ax = figure.subplots()
        if long.empty:
            ax.set_title(f"no pair of {noun} was matched")
            return figure
        sns.stripplot(
            long, x="r", y="taps", hue="null", order=order, hue_order=list(names.values()), dodge=True, jitter=False,
            palette=[TRAINED, HAAR, UNTRAINED], size=2, alpha=0.6, ax=ax, legend=True,
        )  # fmt: skip
        ax.axvline(0, color="0.7", linewidth=0.5, zorder=0)
        ax.set(xlabel="Pearson r on held-out images", ylabel="taps")
        ax.set_title(f"matched pairs of {noun}, each beside its nulls")
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1.0, 1.0), title=None, frameon=False)
    return figure
