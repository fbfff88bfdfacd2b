"""Interventions: how far matched units stand in for one another, and what networks lose without a family."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME, short
from universality.figures.panels import strips
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
    style,
    wrapped,
)

STANDINS = {
    "recovery": "matched", "recovery_unmatched": "best other unit", "recovery_haar": f"best direction of a {HAAR_NAME.split(' (')[0]}",
    "recovery_direction": "random direction", "recovery_untrained": "best untrained unit", "recovery_shuffled": "other images",
    "recovery_seed": "other seed (ceiling)", "recovery_copy": "noisy copy (ceiling)",
}  # fmt: skip
BASES = {"resample": "recovery 0: maps of other images", "mean": "recovery 0: means"}
MOST_PANELS = 8
_PLACE = ["model_a", "model_b", "tap_a", "tap_b", "into", "family", "n_units"]


def transplant_data(transplants: pd.DataFrame) -> pd.DataFrame:
    """Return what `transplants_and_nulls` draws: a row for each family of a layer that was replaced, base and stand-in, by the divergence of the answers."""
    rows = transplants[(transplants["what"] == "family") & (transplants["measure"] == "kl")]
    long = rows.melt(id_vars=[*_PLACE, "base"], value_vars=list(STANDINS), var_name="standin", value_name="value")
    return long.assign(standin=long["standin"].map(STANDINS)).dropna(subset="value").reset_index(drop=True)


def transplants_and_nulls(
    transplants: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw recovery R of a family's units replaced by those of another network, beside its nulls and ceilings, one panel for each base.

    Parameters
    ----------
    transplants : DataFrame
        Rows of the table ``transplants`` that belong to one family.
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
    drawn, width = transplant_data(transplants), drawn_width(figure, width_mm)
    with style():
        sheet = canvas(figure, width_mm, 70)
        axes = sheet.subplots(1, 2, sharey=True, squeeze=False)
        names = list(STANDINS.values())
        palette = [TRAINED, "0.55", HAAR, "0.75", UNTRAINED, "0.75", "0.35", "0.15"]
        for ax, (base, said) in zip(axes.ravel(), BASES.items(), strict=True):
            rows = drawn[drawn["base"] == base]
            sets = int((rows["standin"] == names[0]).sum())
            ax.set_title(wrapped(f"{said} ({sets} layers replaced)", width / 2 - 14, 6.5), fontsize=6.5)
            if rows.empty:
                ax.set_axis_off()
                continue
            strips(ax, rows, "standin", names, palette, levels=(0, 1))
            ax.set(xlabel="", ylabel="recovery R")
        sheet.suptitle(
            wrapped(
                f"{noun} of one network replaced by units of another, by what stood for them; lines are means", width, 7
            ),
            fontsize=7,
        )
    return axes


def class_data(ablation_classes: pd.DataFrame) -> pd.DataFrame:
    """Return what `ablation_by_class` draws: a row for each class of each layer whose detectors were removed by maps of other images."""
    rows = ablation_classes[(ablation_classes["what"] == "family") & (ablation_classes["base"] == "resample")]
    panels = rows[["model", "tap"]].drop_duplicates().iloc[:MOST_PANELS]
    return rows.merge(panels)[
        ["model", "tap", "n_units", "class", "n_images", "d_accuracy", "d_accuracy_random", "d_accuracy_random_low"]
    ]


def ablation_by_class(
    ablation_classes: pd.DataFrame, noun: str, *, figure: Figure | SubFigure | None = None, width_mm: float = DOUBLE_MM
) -> Panels:
    """Draw what each class loses without a family's units, beside as many random units of equal activity, one panel for each layer.

    Parameters
    ----------
    ablation_classes : DataFrame
        Rows of the table of this name that belong to one family.
    noun : str
        What its units are called.
    figure : Figure or SubFigure, optional
        Where to draw.
    width_mm : float
        Width of the figure that is made where none is given, mm.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last layer are switched off.
    """
    drawn, width = class_data(ablation_classes), drawn_width(figure, width_mm)
    panels = list(drawn.groupby(["model", "tap"], sort=False))
    columns = columns_for(width, max(len(panels), 1), double=3)
    count = -(-max(len(panels), 1) // columns)
    with style():
        sheet = canvas(figure, width_mm, 14 + 42 * count)
        axes = sheet.subplots(count, columns, sharey=True, squeeze=False)
        for ax in axes.ravel()[len(panels) :]:
            ax.set_axis_off()
        for ax, ((model, tap), rows) in zip(axes.ravel(), panels, strict=False):
            x = range(len(rows))
            ax.bar(x, rows["d_accuracy"], color=TRAINED, width=0.7, label=f"without {noun}")
            low = rows["d_accuracy_random"] - rows["d_accuracy_random_low"]
            ax.errorbar(
                x, rows["d_accuracy_random"], [low.clip(lower=0), 0 * low], color="black", marker="o", markersize=2, linewidth=0, elinewidth=0.6,
                label="without random units: mean and 5 %",
            )  # fmt: skip
            ax.axhline(0, color="0.7", linewidth=0.5, zorder=0)
            ax.set_xticks(x, rows["class"], rotation=60, ha="right", rotation_mode="anchor", fontsize=5)
            ax.set_title(
                wrapped(
                    f"{short(str(model))}, {tap}: {rows['n_units'].iloc[0]} units{'' if rows['d_accuracy_random'].notna().any() else ', and fewer others'}",
                    width / columns - 18,
                    6,
                ),
                fontsize=6,
            )
        if panels:
            sheet.supylabel("change of accuracy within the class", fontsize=6)
            legend_below(sheet, axes[0, 0], width)
        sheet.suptitle(
            wrapped(f"what each class loses without {noun} (maps of other images in their place)", width, 7), fontsize=7
        )
    return axes
