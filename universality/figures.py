"""Figures: tables in, matplotlib figures out.

Sizes are those of a journal page (89 or 183 mm), text 5 to 7 pt and editable, files free of dates, so that the same
table gives the same bytes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality.detectors import FAMILIES

MM = 1 / 25.4
DOUBLE_MM = 183.0
STATES = ("value", "value_untrained", "value_haar", "value_shuffled")
_STATE_TITLES = {
    "value": "trained",
    "value_untrained": "untrained twins",
    "value_haar": "B in a Haar basis",
    "value_shuffled": "stimuli shuffled",
}
_MEASURE_TITLES = {
    "cka_linear_debiased": "CKA\n(linear, debiased)",
    "cka_linear_biased": "CKA\n(linear, biased)",
    "svcca_variance99": "SVCCA\n(99 % variance)",
    "unit_match_hungarian": "unit matching\n(Hungarian r)",
    "unit_match_mutual_nearest": "unit matching\n(mutual nearest)",
}
TRAINED, UNTRAINED, HAAR = "#0173b2", "#949494", "#de8f05"
_STYLE: dict[Any, Any] = {
    "font.size": 6, "axes.titlesize": 6.5, "axes.labelsize": 6, "xtick.labelsize": 5, "ytick.labelsize": 5,
    "legend.fontsize": 5.5, "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "universality",
    "axes.linewidth": 0.5, "lines.linewidth": 0.8, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
    "xtick.major.size": 2, "ytick.major.size": 2, "axes.spines.top": False, "axes.spines.right": False,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Apply the figures' own settings, and only here."""
    with mpl.rc_context(_STYLE):
        yield


def short(model: str) -> str:
    """Return a model's name without its source."""
    return model.split("/", 1)[-1]


def tap_label(tap: str, depth: float) -> str:
    """Return a tap's name with its relative depth in percent."""
    return f"{tap.removesuffix('.bn2')} ({depth:.0%})"


def similarity_heatmaps(similarity: pd.DataFrame) -> Figure:
    """Draw one pair of models: measures in rows; trained, untrained, Haar basis and shuffled stimuli in columns.

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
    sns.heatmap(
        grid, ax=ax, vmin=limits[0], vmax=limits[1], cmap="viridis", annot=True, fmt=".2f", annot_kws={"size": 5}, cbar=colorbar,
        xticklabels=[tap_label(t, d) for t, d in zip(taps_b["tap_b"], taps_b["depth_b"], strict=True)],
        yticklabels=[tap_label(t, d) for t, d in zip(taps_a["tap_a"], taps_a["depth_a"], strict=True)],
    )  # fmt: skip
    ax.set(xlabel="", ylabel="")
    ax.tick_params(axis="x", rotation=40)
    ax.tick_params(axis="y", rotation=0)


def best_taps(families: pd.DataFrame) -> pd.DataFrame:
    """Return for each model and family the row of the tap with the most detectors (the shallower one of equals)."""
    ordered = families.sort_values(["n_detectors", "depth"], ascending=[False, True], kind="stable")
    return ordered.drop_duplicates(["family", "model"]).sort_values(["family", "model"])


def tuning_family(units: pd.DataFrame, families: pd.DataFrame, noun: str = "curve detectors") -> Figure:
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
            _ridge(axes[0, column], trained, "r1")
            axes[0, column].set_title(
                f"{short(family['model'])}\n{tap_label(family['tap'], family['depth'])}\n"
                f"{family['n_detectors']} of {family['n_units']} units\n"
                f"{family['share']:.1%}{shown}\nuntrained {family['share_untrained']:.1%}"
            )
            _ridge(axes[1, column], twin[twin["naive_detector"]], "naive_r1")
            axes[1, column].set_title(
                f"untrained twin: {int(twin['detector'].sum())}\nby the naive rule {int(twin['naive_detector'].sum())}"
            )
        figure.suptitle(noun, fontsize=7)
        figure.supxlabel("orientation (degrees)", fontsize=6)
        axes[0, 0].set_ylabel("units, by preferred orientation")
        axes[1, 0].set_ylabel("units")
    return figure


_MAX_LINES = 60


def _ridge(ax: Axes, units: pd.DataFrame, selectivity: str) -> None:
    """Draw tuning curves scaled to their peaks, one above the other, the most selective ones if there are many."""
    chosen = units.nlargest(_MAX_LINES, selectivity).sort_values("preferred_deg")
    colours = sns.husl_palette(360)
    for place, (_, unit) in enumerate(chosen.iterrows()):
        curve = np.maximum(np.append(unit["tuning_sigma"], unit["tuning_sigma"][0]), 0.0)
        angles = np.linspace(0, 360, curve.size)
        height = curve / curve.max() * 2.2 if curve.max() > 0 else curve
        colour = colours[int(unit["preferred_deg"]) % 360] if np.isfinite(unit["preferred_deg"]) else UNTRAINED
        ax.fill_between(angles, place, place + height, color=colour, alpha=0.25, linewidth=0, zorder=-place)
        ax.plot(angles, place + height, color=colour, linewidth=0.6, zorder=-place)
    if chosen.empty:
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=UNTRAINED)
    ax.set(xlim=(0, 360), xticks=np.arange(0, 361, 90), yticks=[])
    ax.spines["left"].set_visible(False)


def matched_pairs(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    noun: str = "curve detectors",
    *,
    method: str = "hungarian",
    most: int = 24,
) -> Figure:
    """Draw matched detectors of one family and one pair of models: both tuning curves over one another.

    Shown is the pair of taps with the most matches in which both units are detectors; of these, `most` matches spread
    evenly over the preferred orientation (not the best ones). Each panel states r on held-out images, and in
    brackets the nulls: rotated basis, untrained twin.
    """
    both = correspondence[
        correspondence["detector_a"] & correspondence["detector_b"] & (correspondence["method"] == method)
    ]
    with style():
        if both.empty:
            figure = Figure(figsize=(DOUBLE_MM * MM, 20 * MM), layout="constrained")
            figure.suptitle(f"no pair of {noun} was matched")
            return figure
        tap_a, tap_b = _commonest(both[["tap_a", "tap_b"]])
        here = both[(both["tap_a"] == tap_a) & (both["tap_b"] == tap_b)].sort_values("preferred_a_deg")
        shown = here.iloc[np.unique(np.linspace(0, len(here) - 1, min(most, len(here))).round().astype(int))]
        rows = -(-len(shown) // 6)
        figure = Figure(figsize=(DOUBLE_MM * MM, (16 + 26 * rows) * MM), layout="constrained")
        axes = figure.subplots(rows, 6, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (_, pair) in zip(axes, shown.iterrows(), strict=False):
            _overlay(ax, pair, units)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        first = here.iloc[0]
        figure.suptitle(
            f"{short(first['model_a'])} {tap_a} (blue) and {short(first['model_b'])} {tap_b} (orange): {len(shown)} of "
            f"{len(here)} matched pairs of {noun},\nspread evenly over "
            "orientation; r on held-out images (in brackets: best partner in a Haar basis, in an untrained twin)",
            fontsize=6.5,
        )
        figure.supxlabel("orientation (degrees)", fontsize=6)
        figure.supylabel("response / peak", fontsize=6)
    return figure


def _commonest(pairs: pd.DataFrame) -> tuple[str, str]:
    """Return the most frequent row of two columns; of equals, the one that comes first."""
    counted = Counter(pairs.itertuples(index=False, name=None))
    first, second = max(counted, key=lambda pair: counted[pair])
    return str(first), str(second)


def _overlay(ax: Axes, pair: pd.Series, units: pd.DataFrame) -> None:
    for side, colour in (("a", TRAINED), ("b", HAAR)):
        chosen = units[
            (units["model"] == pair[f"model_{side}"]) & (units["tap"] == pair[f"tap_{side}"])
            & (units["unit"] == pair[f"unit_{side}"]) & (units["seed"] == -1)
        ]  # fmt: skip
        curve = np.maximum(chosen["tuning_sigma"].iloc[0], 0.0)
        closed = np.append(curve, curve[0]) / curve.max()
        ax.plot(np.linspace(0, 360, closed.size), closed, color=colour)
    ax.set(xlim=(0, 360), ylim=(0, 1.05), xticks=(0, 180, 360), yticks=(0, 1))
    ax.set_title(
        f"{pair['unit_a']} and {pair['unit_b']}\nr {pair['r_natural']:.2f} ({pair['r_natural_haar']:.2f}, "
        f"{pair['r_natural_untrained']:.2f})",
        fontsize=5,
    )


def matches_and_nulls(correspondence: pd.DataFrame, noun: str = "curve detectors") -> Figure:
    """Draw the held-out correlation of matched detectors of one family beside its nulls, for every pair of taps."""
    both = correspondence[
        correspondence["detector_a"] & correspondence["detector_b"] & (correspondence["method"] == "hungarian")
    ]
    names = {
        "r_natural": "matched unit",
        "r_natural_haar": "Haar basis of B",
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
        "value_haar": (HAAR, "Haar basis"),
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
                fmt="|", color="black", markersize=6, elinewidth=0.7,
            )  # fmt: skip
            ax.set(title=_MEASURE_TITLES.get(measure, measure), xlabel="score", yticks=range(len(names)))
        counts = groups.drop_duplicates("group").set_index("group")["pairs"]
        axes[0].set_yticklabels([f"{name}\n({counts[name]} pairs)" for name in names])
        axes[0].set_ylabel("what differs between the networks")
        axes[0].invert_yaxis()
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, markerscale=2)
    return figure


def contact_sheet(images: np.ndarray, labels: Sequence[str], columns: int = 12) -> Figure:
    """Draw images (image, channel, y, x) in [0, 1], row by row, each under its label."""
    rows = -(-len(images) // columns)
    height = DOUBLE_MM / columns + 2.5 * max((label.count("\n") + 1 for label in labels), default=0)
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, rows * height * MM))
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01)
        for ax, image, label in itertools.zip_longest(
            figure.subplots(rows, columns, squeeze=False).ravel(), images, labels
        ):
            ax.set_axis_off()
            if image is not None:
                ax.imshow(np.moveaxis(image, 0, 2), vmin=0, vmax=1, interpolation="nearest")
                ax.set_title(label, fontsize=5, pad=1)
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG (300 dpi) and PDF without dates; return the files."""
    with style():
        files = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
        figure.savefig(files[0], dpi=300, metadata={"Software": None})
        figure.savefig(files[1], metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return files


def all_figures(
    similarity: pd.DataFrame,
    correspondence: pd.DataFrame,
    families: pd.DataFrame,
    units: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
) -> Iterator[tuple[str, str, Figure]]:
    """Yield (file stem, caption, figure) for everything a run draws; `pairs` of models get figures of their own."""
    for family in dict.fromkeys(families["family"]):
        noun = FAMILIES[family].noun
        yield (
            f"tuning_family__{family}",
            f"The {noun} of each network at its best tap, ordered by preferred orientation; below, what a naive test would "
            "find in the untrained twin.",
            tuning_family(units[units["family"] == family], families[families["family"] == family], noun),
        )
    for a, b in pairs:
        stem = f"{short(a)}__{short(b)}"
        of_pair = correspondence[(correspondence["model_a"] == a) & (correspondence["model_b"] == b)]
        yield (
            f"similarity__{stem}",
            f"{short(a)} and {short(b)}, layer by layer: trained, untrained, after a rotation of B's basis, and with the "
            "stimuli shuffled. Measures that do not depend on the basis stay as they were under rotation; unit matching falls.",
            similarity_heatmaps(similarity[(similarity["model_a"] == a) & (similarity["model_b"] == b)]),
        )
        for family in dict.fromkeys(families["family"]):
            yield from _matches(a, b, family, of_pair[of_pair["family"] == family], units[units["family"] == family])


def _matches(
    a: str, b: str, family: str, correspondence: pd.DataFrame, units: pd.DataFrame
) -> Iterator[tuple[str, str, Figure]]:
    noun, stem = FAMILIES[family].noun, f"{family}__{short(a)}__{short(b)}"
    yield (
        f"matched_pairs__{stem}",
        f"Matched {noun} of {short(a)} and {short(b)}; pairs spread evenly over orientation, not the best ones.",
        matched_pairs(correspondence, units, noun),
    )
    yield (
        f"matches_and_nulls__{stem}",
        f"Held-out correlation of matched {noun} of {short(a)} and {short(b)} beside that of the same units with their best "
        "partners in a random basis of B and in its untrained twin.",
        matches_and_nulls(correspondence, noun),
    )


def count(pairs: Sequence[tuple[str, str]], families: Sequence[str]) -> int:
    """Return how many figures `all_figures` yields."""
    return len(families) + len(pairs) * (1 + 2 * len(families))
