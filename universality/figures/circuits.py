"""Circuits: how families are wired to families, and how alike the incoming weights of matched units are."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME, short
from universality.figures.panels import sheet_of, strips
from universality.figures.style import (
    DOUBLE_MM,
    HAAR,
    TRAINED,
    UNTRAINED,
    Panels,
    canvas,
    drawn_width,
    plain,
    style,
    wrapped,
)
from universality.figures.weight_maps import SAID_PT, between, source_line
from universality.figures.wiring import left_out

MOST_PANELS = 24
"""Of more networks and families of sources than these a page has no room; the first are drawn."""
_FEW = 8
"""So many panels leave room for two side by side on one column of a page."""
PERMUTED = "0.75"
PARTNERS = {
    "s_w": "matched", "s_w_unmatched": "no match", "s_w_haar": HAAR_NAME.split(" (")[0], "s_w_untrained": "untrained", "s_w_permuted": "exchanged",
    "s_w_readout": "read-out", "s_w_ceiling": "ceiling",
}  # fmt: skip
WAYS = {"match": "sources matched one to one", "angle": "sources by family and relative angle"}
_PROFILE = ["model", "source_tap", "target_tap", "source_family", "target_family", "difference_deg", "n_targets"]


def wiring_data(wired: pd.DataFrame) -> pd.DataFrame:
    """Return what `wiring_profiles` draws: rows of ``profiles`` of one family of targets, of the first `MOST_PANELS` panels."""
    panels = wired[["model", "source_tap", "target_tap", "source_family"]].drop_duplicates().iloc[:MOST_PANELS]
    rows = wired.merge(panels)
    return rows[
        [
            *_PROFILE,
            "weight",
            "weight_low",
            "weight_high",
            "permuted_low",
            "permuted_high",
            "haar_low",
            "haar_high",
            "untrained",
        ]
    ]


def wiring_profiles(
    wired: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw the mean weight from each family of sources by the difference of preferred angles, one panel per network and family of sources.

    Parameters
    ----------
    wired : DataFrame
        Rows of the table ``profiles`` that have one family of targets.
    noun : str
        What the targets are called.
    figure : Figure or SubFigure, optional
        Where to draw.
    width_mm : float
        Width of the figure that is made where none is given, mm.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last are switched off.
    """
    drawn = wiring_data(wired)
    panels = list(drawn.groupby(["model", "source_tap", "target_tap", "source_family"], sort=False))
    models = [str(model) for model in dict.fromkeys(drawn["model"])]
    taps = [str(tap) for tap in dict.fromkeys([*drawn["source_tap"], *drawn["target_tap"]])]
    narrow = drawn_width(figure, width_mm) < DOUBLE_MM
    with style():
        sheet = sheet_of(
            figure, width_mm, len(panels), [*models, *taps], panel_mm=35, head_mm=26 if narrow else 18, double=6 if narrow and len(panels) > _FEW else 4, points=SAID_PT,
            shorter=lambda name: short(name) if name in models else plain(name),
        )  # fmt: skip
        room = sheet.width_mm / sheet.axes.shape[1] - (6 if narrow else 10)
        for ax, ((model, first, second, family), of) in zip(sheet.drawn, panels, strict=True):
            _profile(ax, of)
            both = between(
                sheet.names, str(first), str(second), room
            )  # a network has a panel for each pair of its taps
            said = f"{sheet.names.of[str(model)]}\n{both}\n{source_line(str(family), room)}"
            # On a narrow page titles are wider than their axes: they stand above the labels of ticks, too.
            ax.set_title(said, fontsize=SAID_PT, x=0.43 if narrow else 0.5)
        title = f"weights into {noun}, by the preferred angle of the source less that of the target"
        sheet.finish("difference, degrees", "relative weight", wrapped(title, sheet.width_mm, 7))
    return sheet.axes


def _profile(ax: Axes, rows: pd.DataFrame) -> None:
    x = rows["difference_deg"]
    ax.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    ax.fill_between(
        x, rows["haar_low"], rows["haar_high"], color=HAAR, alpha=0.15, linewidth=0, label="random directions, 95 %"
    )
    ax.fill_between(
        x,
        rows["permuted_low"],
        rows["permuted_high"],
        color=PERMUTED,
        alpha=0.5,
        linewidth=0,
        label="angles exchanged, 95 %",
    )
    ax.plot(x, rows["untrained"], color=UNTRAINED, marker="^", markersize=2, label="untrained twins")
    low, high = rows["weight"] - rows["weight_low"], rows["weight_high"] - rows["weight"]
    ax.errorbar(
        x,
        rows["weight"],
        [low, high],
        color=TRAINED,
        marker="o",
        markersize=2.5,
        linewidth=1,
        elinewidth=0.6,
        label="trained, with 95 % interval",
    )
    ax.set_xticks([0, 90, 180, 270] if x.max() > 180 else [0, 45, 90, 135])


def wiring_words(wired: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `wiring_profiles`: how many panels are drawn of how many."""
    return left_out(len(wired[["model", "source_tap", "target_tap", "source_family"]].drop_duplicates()), MOST_PANELS)


def circuit_data(circuits: pd.DataFrame) -> pd.DataFrame:
    """Return what `circuits_and_nulls` draws: a row for each pair that is the same feature by its responses, one tap back, and each partner."""
    rows = circuits[(circuits["verdict_response"] == "same_feature") & (circuits["back"] == 1)]
    keys = ["model_a", "model_b", "tap_a", "tap_b", "unit_a", "unit_b", "sources", "verdict"]
    long = rows.melt(id_vars=keys, value_vars=list(PARTNERS), var_name="partner", value_name="value")
    return long.assign(partner=long["partner"].map(PARTNERS)).dropna(subset="value").reset_index(drop=True)


def circuits_and_nulls(
    circuits: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw s_w of units that are the same feature by their responses beside its nulls and its ceiling, one panel for each way of setting sources side by side.

    Parameters
    ----------
    circuits : DataFrame
        Rows of the table ``circuits`` that belong to one family.
    noun : str
        What its units are called.
    figure : Figure or SubFigure, optional
        Where to draw.
    width_mm : float
        Width of the figure that is made where none is given, mm.

    Returns
    -------
    array of Axes
        (1, 2); a panel without rows is switched off.
    """
    drawn = circuit_data(circuits)
    width = drawn_width(figure, width_mm)
    with style():
        sheet = canvas(figure, width_mm, 62 if len(drawn) else 18)
        axes = sheet.subplots(1, 2, sharey=True, squeeze=False)
        for ax, (way, said) in zip(axes.ravel(), WAYS.items(), strict=True):
            rows = drawn[drawn["sources"] == way]
            pairs = len(rows[rows["partner"] == PARTNERS["s_w"]])
            ax.set_title(wrapped(f"{said}: {pairs} pairs", width / 2 - 8, 6.5), fontsize=6.5)
            if rows.empty:
                ax.set_axis_off()
                continue
            palette = [TRAINED, "0.55", HAAR, UNTRAINED, PERMUTED, "0.35", "0.15"]
            strips(ax, rows, "partner", list(PARTNERS.values()), palette)
            ax.set(xlabel="", ylabel="s_w, correlation of the wiring")
        sheet.suptitle(
            wrapped(f"wiring into {noun} that are the same feature by their responses; lines are means", width, 7),
            fontsize=7,
        )
    return axes


def circuit_words(circuits: pd.DataFrame, noun: str) -> dict[str, str]:
    """Return what a caption says of `circuits_and_nulls`: the verdicts, each way of setting sources side by side by itself, for a pair has a row in both."""
    rows = circuits[(circuits["verdict_response"] == "same_feature") & (circuits["back"] == 1)]
    said = []
    for way, words in WAYS.items():
        counts = rows.loc[rows["sources"] == way, "verdict"].value_counts()
        if len(counts):
            said.append(f"{words}: {', '.join(f'{counts[name]} {name}' for name in counts.index)}")
    return {"verdicts": f"; {'; '.join(said)}" if said else ": none has sources to compare"}
