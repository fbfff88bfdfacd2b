"""Units: families of detectors, matched pairs of them, and their nulls."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME, number
from universality.features.definition import best_taps
from universality.figures.backend import seaborn as sns
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    PAGE_MM,
    TRAINED,
    UNTRAINED,
    Panels,
    below,
    canvas,
    columns_for,
    distinct,
    drawn_width,
    figure_of,
    fitted,
    key_of,
    legend_below,
    lines_mm,
    only_one,
    panel,
    plain,
    style,
    text_mm,
    with_depth,
    wrapped,
)
from universality.runs.drawn import spread
from universality.similarity.matching import HOW

_MAX_LINES = 60
_OVERLAP = 2.2
"""Height of a tuning curve's peak, in distances between two curves."""
_COLUMNS = 7
_MOST_NAMED = 20
_BELOW_MM = 8.0
MOST_NETWORKS = 5 * _COLUMNS
"""Of more networks than these a page has no room."""


def closed_curve(tuning_sigma: Any, period_deg: float = 360.0, **facts: Any) -> pd.DataFrame:
    """Return a tuning curve as it is drawn: the facts in every row, angle_deg from 0 to the period, response_sigma, height.

    The height is the response over its peak, 0 where the response is negative or nowhere positive. The first angle comes
    again at the end.
    """
    response = np.append(tuning_sigma, tuning_sigma[0]).astype(np.float64)
    positive = np.maximum(response, 0.0)
    height = positive / positive.max() if positive.max() > 0 else positive
    angles = np.linspace(0, period_deg, response.size)
    return pd.DataFrame({**facts, "angle_deg": angles, "response_sigma": response, "height": height})


def family_data(units: pd.DataFrame, families: pd.DataFrame, period_deg: float = 360.0) -> pd.DataFrame:
    """Return what `tuning_family` draws: one row per model, network (trained, untrained twin), unit and angle.

    `place` is the unit's place from below, by preferred angle; of more than 60 units of a panel the most selective ones are
    drawn.
    """
    parts = []
    for row in _with_panels(best_taps(families)).to_dict("records"):
        here = units[(units["model"] == row["model"]) & (units["tap"] == row["tap"])]
        trained = here[(here["seed"] == -1) & here["detector"]]
        twin = _first_twin(here)
        parts += _ridge_data(trained, "trained", "r1", period_deg)
        parts += _ridge_data(twin[twin["naive_detector"]], "untrained twin, naive rule", "naive_r1", period_deg)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_RIDGE_COLUMNS)


def _with_panels(best: pd.DataFrame) -> pd.DataFrame:
    """Return the networks that get panels: all where they are few, of many those that have detectors.

    Of very many `MOST_NETWORKS` of these, evenly from the largest share of detectors to the smallest: not the best ones.
    """
    held = best[best["n_detectors"] > 0]
    held = held if len(best) > _COLUMNS and len(held) else best
    if len(held) <= MOST_NETWORKS:
        return held
    by_share = held.sort_values("share", ascending=False, kind="stable").index
    chosen = by_share[np.linspace(0, len(by_share) - 1, MOST_NETWORKS).round().astype(int)]
    return held[held.index.isin(chosen)]


_RIDGE_COLUMNS = (
    "model", "tap", "network", "seed", "unit", "preferred_deg", "place", "angle_deg", "response_sigma", "height",
)  # fmt: skip


def _first_twin(units: pd.DataFrame) -> pd.DataFrame:
    first = units.loc[units["seed"] >= 0, "seed"].min()
    twin: pd.DataFrame = units[units["seed"] == first]
    return twin


def _ridge_data(units: pd.DataFrame, network: str, selectivity: str, period_deg: float) -> list[pd.DataFrame]:
    chosen = units.nlargest(_MAX_LINES, selectivity).sort_values("preferred_deg")
    keys = ["model", "tap", "seed", "unit", "preferred_deg"]
    return [
        closed_curve(unit["tuning_sigma"], period_deg, **unit[keys], network=network, place=place)[list(_RIDGE_COLUMNS)]
        for place, (_, unit) in enumerate(chosen.iterrows())
    ]


def tuning_family(
    units: pd.DataFrame,
    families: pd.DataFrame,
    noun: str = "detectors",
    *,
    period_deg: float = 360.0,
    angle: str = "orientation",
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw each model's units of one family at its best tap: one line per unit, ordered by preferred orientation.

    The lower panels hold the layer's untrained twin: units that pass the naive rule, which a test
    without controls would count as detectors.

    Parameters
    ----------
    units, families : DataFrame
        Rows of the tables ``units`` and ``families`` of one family.
    noun, angle : str
        What the units, and the angles they prefer, are called.
    period_deg : float
        After so many degrees a stimulus is the same.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column): rows in pairs, trained above its twin; panels beyond the last model are switched off.
    """
    every, drawn = best_taps(families), family_data(units, families, period_deg)
    best = _with_panels(every)
    width = drawn_width(figure, width_mm)
    columns = columns_for(width, len(best), double=_COLUMNS)
    blocks, column_mm = -(-len(best) // columns), (width - 6) / columns - 3
    names = fitted(best["model"], column_mm, points=6.5, lines=3 if blocks == 1 else 2)
    depth_mm = max(text_mm(with_depth("", depth), 6.5) for depth in best["depth"])
    taps = fitted(best["tap"], column_mm - depth_mm, points=6.5, shorter=plain)
    key = key_of({**names.key, **taps.key}, width, 6)
    with style():
        sheet = canvas(figure, width_mm, min(blocks * 125.0 + lines_mm(key, 6), PAGE_MM))
        axes = sheet.subplots(2 * blocks, columns, squeeze=False, height_ratios=[3, 1.1] * blocks, sharex=True)
        for place, row in enumerate(best.to_dict("records")):
            upper, lower = axes[2 * (place // columns) : 2 * (place // columns) + 2, place % columns]
            here = units[(units["model"] == row["model"]) & (units["tap"] == row["tap"])]
            lines = drawn[(drawn["model"] == row["model"]) & (drawn["tap"] == row["tap"])]
            _ridge(upper, lines[lines["network"] == "trained"], period_deg)
            tap = with_depth(taps.of[row["tap"]], row["depth"])
            counts = _counts(row, int((here["detector"] & (here["seed"] == -1)).sum()))
            upper.set_title(f"{names.of[row['model']]}\n{tap}\n{counts}")
            _ridge(lower, lines[lines["network"] != "trained"], period_deg)
            twin = _first_twin(here)
            lower.set_title(
                f"untrained twin: {int(twin['detector'].sum())}\nby the naive rule {int(twin['naive_detector'].sum())}"
            )
        for ax in axes.reshape(blocks, 2, columns).swapaxes(1, 2).reshape(-1, 2)[len(best) :].ravel():
            ax.set_axis_off()
        sheet.suptitle(wrapped(_family_title(noun, every, best), width), fontsize=6.5)
        below(sheet, f"{angle} (degrees)", key)
        sheet.supylabel(f"units, by preferred {angle}", fontsize=6)
        _label_lowest(axes, len(best), columns)
    return axes


def _family_title(noun: str, every: pd.DataFrame, drawn: pd.DataFrame) -> str:
    left_out = every[~every["model"].isin(drawn["model"])]
    held = int((every["n_detectors"] > 0).sum())
    if left_out.empty:
        return noun
    if held > len(drawn):
        return f"{noun}: {held} of {len(every)} networks hold them; {len(drawn)} of these, evenly from the largest share to the smallest"
    if not held:
        return f"{noun}: none of {len(every)} networks holds any; {len(drawn)} of these"
    names = distinct(every["model"])
    named = ", ".join(names[model] for model in left_out["model"])
    said = named if len(left_out) <= _MOST_NAMED else f"the {len(left_out)} other networks"
    return f"{noun}; none of {left_out['n_units'].sum()} units at the best taps of {said}"


def family_words(units: pd.DataFrame, families: pd.DataFrame, noun: str, **_: Any) -> dict[str, str]:
    """Return what a caption says of `tuning_family`: which networks are drawn of how many, and which of their units."""
    every = best_taps(families)
    drawn = _with_panels(every)
    held = int((every["n_detectors"] > 0).sum())
    which = f"each of {len(every)} networks" if len(every) > 1 else "the network"
    if len(drawn) < len(every):
        which = f"each of {len(drawn)} of {len(every)} networks ("
        if held > len(drawn):
            which += f"{held} hold {noun}, and these lie evenly from the largest share to the smallest)"
        else:
            which += "all that hold any)" if held else "none holds any)"
    more = (drawn["n_detectors"] > _MAX_LINES).any()
    return {"which": which, "most": f" (of more than {_MAX_LINES} the most selective)" if more else ""}


def _label_lowest(axes: Panels, panels: int, columns: int) -> None:
    # The last row may be short: angles stand below the lowest panel of each column.
    for column in range(columns):
        lowest = max(block for block in range(len(axes) // 2) if block * columns + column < panels)
        axes[2 * lowest + 1, column].tick_params(labelbottom=True)


def _counts(row: dict[Any, Any], detectors: int) -> str:
    shown = f"\n({_MAX_LINES} drawn)" if detectors > _MAX_LINES else ""
    return (
        f"{row['n_detectors']} of {row['n_units']}: {row['share']:.1%}{shown}\nuntrained {row['share_untrained']:.1%}"
    )


def _ridge(ax: Axes, lines: pd.DataFrame, period_deg: float) -> None:
    """Draw tuning curves scaled to their peaks, one above the other."""
    colours = sns.husl_palette(360)
    for place, points in lines.groupby("place", sort=True):
        foot, preferred = int(str(place)), points["preferred_deg"].iloc[0]
        line = foot + _OVERLAP * points["height"]
        colour = colours[int(preferred * (360.0 / period_deg)) % 360] if np.isfinite(preferred) else UNTRAINED
        ax.fill_between(points["angle_deg"], foot, line, color=colour, alpha=0.25, linewidth=0, zorder=-foot)
        ax.plot(points["angle_deg"], line, color=colour, linewidth=0.6, zorder=-foot)
    if lines.empty:
        ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=UNTRAINED)
    ax.set(xlim=(0, period_deg), xticks=np.linspace(0, period_deg, 5), yticks=[])
    ax.spines["left"].set_visible(False)


def _detectors(correspondence: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the matches of two detectors that one method of matching made."""
    both: pd.DataFrame = correspondence[
        correspondence["detector_a"] & correspondence["detector_b"] & (correspondence["method"] == method)
    ]
    return both


def _both_detectors(correspondence: pd.DataFrame, method: str, taps: tuple[str, str] | None) -> pd.DataFrame:
    """Return the matches of two detectors, at `taps` or at the pair of taps with the most of them."""
    both = _detectors(correspondence, method)
    if taps is None and not both.empty:
        taps = _commonest(both[["tap_a", "tap_b"]])
    if taps is not None:
        both = both[(both["tap_a"] == taps[0]) & (both["tap_b"] == taps[1])]
    return both.sort_values("preferred_a_deg", kind="stable")


_PAIR_COLUMNS = [
    "model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b", "r_natural", "r_natural_haar", "r_natural_untrained",
]  # fmt: skip


def matched_data(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    *,
    method: str,
    most: int = 24,
    period_deg: float = 360.0,
    taps: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Return what `matched_pairs` draws: one row per drawn match, side (a, b) and angle; `panel` counts the matches.

    `method` is how units were matched, as in the column of that name: matches of other methods are left out.
    """
    shown = spread(_both_detectors(correspondence, method, taps), most)
    parts = []
    for place, (_, pair) in enumerate(shown.iterrows()):
        for side in "ab":
            tuning = trained_tuning(units, pair[f"model_{side}"], pair[f"tap_{side}"], pair[f"unit_{side}"])
            parts.append(closed_curve(tuning, period_deg, panel=place, **pair[_PAIR_COLUMNS], side=side))
    columns = ["panel", *_PAIR_COLUMNS, "side", "angle_deg", "response_sigma", "height"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def trained_tuning(units: pd.DataFrame, model: str, tap: str, unit: int) -> Any:
    """Return the tuning curve of one unit of a trained network, sigma."""
    chosen = units[(units["model"] == model) & (units["tap"] == tap) & (units["unit"] == unit) & (units["seed"] == -1)]
    return chosen["tuning_sigma"].iloc[0]


def matched_pairs(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    noun: str = "detectors",
    *,
    method: str,
    most: int = 24,
    period_deg: float = 360.0,
    angle: str = "orientation",
    taps: tuple[str, str] | None = None,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw matched detectors of one family and one pair of models: both tuning curves over one another.

    Shown are matches by one `method` in which both units are detectors at the pair of `taps` (left out: the pair with the most of them);
    all that the table holds, or of more than `most` so many, spread evenly over the preferred orientation (not the best ones). The
    title says which. Each panel states r on held-out images, and in brackets the nulls: best partner in a random basis (Haar), in an
    untrained twin.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last match are switched off: all of them where there is no match.

    Raises
    ------
    FigureError
        The matches are of several pairs of models.
    """
    only_one(_detectors(correspondence, method), "model_a", "model_b")
    both = _both_detectors(correspondence, method, taps)
    drawn = matched_data(correspondence, units, method=method, most=most, period_deg=period_deg, taps=taps)
    panels, width = drawn["panel"].nunique(), drawn_width(figure, width_mm)
    columns = columns_for(width, 6, double=6) if panels else 1
    rows = max(-(-panels // columns), 1)
    which = _which(correspondence, noun, method, most, angle, taps)
    if panels:
        first = both.iloc[0]
        a, b = (distinct([first["model_a"], first["model_b"]])[first[f"model_{side}"]] for side in "ab")
        which = (
            f"{a} {first['tap_a']} (blue) and {b} {first['tap_b']} (orange): {which}; r on held-out images (in brackets: best "
            f"partner in a {HAAR_NAME}, in an untrained twin)"
        )
    said = wrapped(which, width)
    with style():
        title_mm = lines_mm(said, 6.5)
        height = (16 + 26 * rows if panels else 20) + max(0.0, title_mm - lines_mm("x\nx", 6.5))
        sheet = canvas(figure, width_mm, height)
        axes = sheet.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, (_, curves) in zip(axes.ravel(), drawn.groupby("panel", sort=True), strict=False):
            _overlay(ax, curves, period_deg)
        for ax in axes.ravel()[panels:]:
            ax.set_axis_off()
        sheet.suptitle(said, fontsize=6.5)
        if panels:
            sheet.supxlabel(f"{angle} (degrees)", fontsize=6)
            # In the middle of the panels, between the title and what stands below them: a high title would lie over it.
            sheet.supylabel("response / peak", fontsize=6, y=0.5 * (1 - (title_mm - _BELOW_MM) / height))
    return axes


def _which(
    correspondence: pd.DataFrame, noun: str, method: str, most: int, angle: str, taps: tuple[str, str] | None
) -> str:
    """Return which matches `matched_pairs` draws: how many of how many, and how they were chosen."""
    held, both = _detectors(correspondence, method), _both_detectors(correspondence, method, taps)
    at = f" at {taps[0]} and {taps[1]}" if taps else ""
    if both.empty:
        return f"no pair of {noun} was matched {HOW[method]}{at}"
    at = f" at these taps ({len(held)} at all pairs of taps)" if len(both) < len(held) else ""
    if len(both) > most:
        return (
            f"{most} of {len(both)} pairs of {noun} in the table matched {HOW[method]}{at}, spread evenly over {angle}"
        )
    count = {1: "the only pair", 2: "both pairs"}.get(len(both), f"all {len(both)} pairs")
    return f"{count} of {noun} in the table matched {HOW[method]}{at}{', by ' + angle if len(both) > 1 else ''}"


def matched_words(
    correspondence: pd.DataFrame,
    units: pd.DataFrame,
    noun: str,
    *,
    method: str,
    angle: str,
    taps: tuple[str, str] | None,
    most: int = 24,
    **_: Any,
) -> dict[str, str]:
    """Return what a caption says of `matched_pairs`: which matches are drawn of how many."""
    return {"which": _which(correspondence, noun, method, most, angle, taps)}


def _commonest(pairs: pd.DataFrame) -> tuple[str, str]:
    """Return the most frequent row of two columns; of equals, the one that comes first."""
    counted = Counter(pairs.itertuples(index=False, name=None))
    first, second = max(counted, key=lambda pair: counted[pair])
    return str(first), str(second)


def _overlay(ax: Axes, curves: pd.DataFrame, period_deg: float) -> None:
    for side, colour in (("a", TRAINED), ("b", HAAR)):
        points = curves[curves["side"] == side]
        ax.plot(points["angle_deg"], points["height"], color=colour)
    pair = curves.iloc[0]
    ax.set(xlim=(0, period_deg), ylim=(0, 1.05), xticks=(0, period_deg / 2, period_deg), yticks=(0, 1))
    ax.set_title(
        f"{pair['unit_a']} and {pair['unit_b']}\nr {number(pair['r_natural'])} ({number(pair['r_natural_haar'])}, "
        f"{number(pair['r_natural_untrained'])})",
        fontsize=5,
    )


_OF_MATCHES = {
    "r_natural": "matched unit",
    "r_natural_haar": f"{HAAR_NAME} of B",
    "r_natural_untrained": "untrained twin of B",
}


def nulls_data(correspondence: pd.DataFrame, *, method: str) -> pd.DataFrame:
    """Return what `matches_and_nulls` draws: one row per match of two detectors and kind of partner, taps by depth."""
    both = _detectors(correspondence, method)
    names = distinct([*both["tap_a"], *both["tap_b"]], plain)
    labels = [f"{names[a]} and {names[b]}" for a, b in zip(both["tap_a"], both["tap_b"], strict=True)]
    ordered = both.assign(taps=pd.Series(labels, both.index, dtype="str")).sort_values(
        ["depth_a", "depth_b"], kind="stable"
    )
    keys = ["model_a", "model_b", "taps", "unit_a", "unit_b"]
    long = ordered.melt(id_vars=keys, value_vars=list(_OF_MATCHES), var_name="partner", value_name="r")
    return long.assign(partner=long["partner"].map(_OF_MATCHES))


def _legend_of(ax: Axes) -> list[Artist]:
    """Take the legend off axes, and return what it showed, under its names."""
    legend = ax.get_legend()
    if legend is None:
        return []
    handles = [handle for handle in legend.legend_handles if handle is not None]
    for handle, text in zip(handles, legend.get_texts(), strict=True):
        handle.set_label(text.get_text())
    legend.remove()
    return handles


def matches_and_nulls(
    correspondence: pd.DataFrame,
    noun: str = "detectors",
    *,
    method: str,
    ax: Axes | None = None,
    width_mm: float = DOUBLE_MM,
) -> Axes:
    """Draw the held-out correlation of detectors of one family that one `method` matched beside its nulls, for every pair of taps.

    Returns the axes: `ax`, or those of a new figure of `width_mm`.
    """
    only_one(_detectors(correspondence, method), "model_a", "model_b")
    drawn = nulls_data(correspondence, method=method)
    narrow = ax is None and width_mm < DOUBLE_MM
    labels, taps_key, labels_mm = _labels_of_taps(_detectors(correspondence, method), width_mm)
    # Beside the names of taps and, where the page is wide, the legend.
    title_mm = min(0.6 * width_mm, width_mm - labels_mm - (12 if narrow else 40))
    said, key = f"no pair of {noun} was matched {HOW[method]}", ""
    if not drawn.empty:
        models = [drawn["model_a"].iloc[0], drawn["model_b"].iloc[0]]
        names = fitted(models, title_mm, points=6.5, lines=2)
        key = key_of({**names.key, **taps_key}, width_mm if narrow else title_mm)
        between = " and ".join(names.of[model].replace("\n", "") for model in models)
        said = wrapped(f"pairs of {noun} matched {HOW[method]}, {between}, each beside its nulls", title_mm)
    with style():
        higher = max(0.0, lines_mm(said, 6.5) - (11 if narrow else 5.5)) + lines_mm(key, 5.5)
        height = max(45.0, 12 + (10 if narrow else 0) + 5.5 * len(labels)) + higher
        ax = panel(ax, width_mm, min(height, PAGE_MM))
        ax.set_title(said)
        if drawn.empty:
            ax.set_axis_off()
            return ax
        sns.stripplot(
            drawn, x="r", y="taps", hue="partner", order=list(labels), hue_order=list(_OF_MATCHES.values()), dodge=True,
            jitter=False, palette=[TRAINED, HAAR, UNTRAINED], size=2, alpha=0.6, ax=ax, legend=True,
        )  # fmt: skip
        ax.axvline(0, color="0.7", linewidth=0.5, zorder=0)
        step = max(1, round(5.5 * len(labels) / PAGE_MM))
        ax.set_yticks(range(0, len(labels), step), list(labels.values())[::step])
        ax.set(xlabel="Pearson r on held-out images", ylabel="taps" if step == 1 else f"taps (one of {step} is named)")
        # Beside or below the points, never over them.
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1.0, 1.0), title=None, frameon=False)
        if narrow:
            handles = _legend_of(ax)
            legend_below(figure_of(ax), ax, width_mm, handles=handles, title=key)
        elif key:
            ax.set_xlabel(f"{ax.get_xlabel()}\n{key}")
    return ax


def _labels_of_taps(both: pd.DataFrame, width_mm: float) -> tuple[dict[str, str], dict[str, str], float]:
    """Return by pair of taps, as `nulls_data` calls it, how it is drawn; a key to abbreviations; and the labels' width, mm."""
    ordered = both.sort_values(["depth_a", "depth_b"], kind="stable")
    taps = list(dict.fromkeys(zip(ordered["tap_a"], ordered["tap_b"], strict=True)))
    whole = distinct((tap for pair in taps for tap in pair), plain)
    room = 0.36 * width_mm
    names = fitted(whole, room - text_mm(" and", 5), points=5, shorter=plain)
    labels = {}
    for a, b in taps:
        line = f"{whole[a]} and {whole[b]}"
        labels[line] = line if text_mm(line, 5) <= room else f"{names.of[a]} and\n{names.of[b]}"
    lines = [line for label in labels.values() for line in label.split("\n")]
    used = {label: name for label, name in names.key.items() if any(label in line for line in lines)}
    return labels, used, max((text_mm(line, 5) for line in lines), default=0.0)


def nulls_words(correspondence: pd.DataFrame, noun: str, *, method: str) -> dict[str, str]:
    """Return what a caption says of `matches_and_nulls`: how many matches are drawn."""
    count = len(_detectors(correspondence, method))
    return {"count": f"{count or 'no'} pair{'s' * (count != 1)}"}
