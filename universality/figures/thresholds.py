"""How the rates of a definition move with its thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from universality.base.names import HAAR_NAME
from universality.features.checks import FALSE_POSITIVES
from universality.features.definition import Definition, judged_units, threshold_curve
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

_STEPS = 60
_STYLES = (("-", "D"), ("--", "o"), ("-.", "s"), (":", "^"))
"""Lines and markers of the classes of networks, in their order."""
_TICKS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def curves_of(
    definition: Definition, units: pd.DataFrame, classes: Mapping[str, str] | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """Return the curves and the thresholds that `threshold_curves` takes, for every criterion of a definition.

    Thresholds run from the 2nd to the 98th percentile of the units' values, and over the definition's own. Where two
    criteria are of one column, the first is moved.

    Parameters
    ----------
    classes : mapping of model to class, optional
        Rates are of the units of each class, in the order of the models; without it of all units.

    Returns
    -------
    curves : dict of criterion to DataFrame
        One row per class and threshold: those of `features.definition.threshold_curve`, and ``networks``, the class (empty without classes).
    chosen : dict of criterion to float
        The definition's own thresholds.
    """
    curves, chosen = {}, {}
    of_family = judged_units(definition, units)
    of_class = of_family["model"].map(lambda model: (classes or {}).get(model, ""))
    for criterion in reversed(definition.criteria):
        chosen[criterion.column] = criterion.threshold
    for column in dict.fromkeys(criterion.column for criterion in definition.criteria):
        values = of_family[column].replace(np.inf, np.nan).dropna()
        low, high = np.quantile(values, (0.02, 0.98)) if len(values) else (chosen[column], chosen[column])
        steps = np.linspace(min(low, chosen[column]), max(high, chosen[column]), _STEPS)
        curves[column] = pd.concat(
            [
                threshold_curve(definition, of_family[of_class == name], column, steps.tolist()).assign(networks=name)
                for name in dict.fromkeys(of_class)
            ],
            ignore_index=True,
        )
    return curves, chosen


def threshold_data(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float]) -> pd.DataFrame:
    """Return what `threshold_curves` draws: one row per criterion, class and threshold, with the definition's own threshold."""
    parts = [rates.assign(criterion=name, chosen=chosen[name]) for name, rates in curves.items()]
    columns = ["criterion", "networks", "threshold", "chosen", "share", "share_untrained"]
    return pd.concat(parts, ignore_index=True)[columns].assign(tolerated=FALSE_POSITIVES)


def threshold_curves(
    curves: Mapping[str, pd.DataFrame],
    chosen: Mapping[str, float],
    title: str = "",
    *,
    share_haar: Mapping[str, float] | None = None,
    figure: Figure | SubFigure | None = None,
    width_mm: float = DOUBLE_MM,
) -> Panels:
    """Draw the share of detectors, trained and untrained, against each threshold, the other criteria staying; each class in its own style.

    Parameters
    ----------
    curves : mapping of criterion to DataFrame
        As `curves_of` returns them, or `features.definition.threshold_curve` of all units.
    chosen : mapping of criterion to float
        The definition's own thresholds, drawn as dotted lines; the line across is the share tolerated in untrained twins.
    share_haar : mapping of class to float, optional
        Shares of the directions of random bases that pass the definition as it is, drawn at its thresholds.
    figure, width_mm
        Where to draw, or how wide (mm) the figure is that is made.

    Returns
    -------
    array of Axes
        (row, column); panels beyond the last criterion are switched off.
    """
    width = drawn_width(figure, width_mm)
    columns = columns_for(width, len(curves), double=4)
    rows = -(-len(curves) // columns)
    with style():
        sheet = canvas(figure, width_mm, 10 + min(42, 200 / rows) * rows)
        axes = sheet.subplots(rows, columns, squeeze=False, sharey=True)
        for ax, (name, rates) in zip(axes.ravel(), curves.items(), strict=False):
            _panel(ax, rates, chosen[name], share_haar or {})
            ax.set_xlabel(name)
        for ax in axes.ravel()[len(curves) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel("share of units")
        legend_below(sheet, axes[0, 0], width)
        sheet.suptitle(wrapped(title, width), fontsize=6.5)
    return axes


def _panel(ax: Axes, rates: pd.DataFrame, chosen: float, share_haar: Mapping[str, float]) -> None:
    by_class = rates if "networks" in rates else rates.assign(networks="")
    for place, networks in enumerate(dict.fromkeys(by_class["networks"])):
        of_class = by_class[by_class["networks"] == networks]
        dashes, marker = _STYLES[place % len(_STYLES)]
        of = f", {networks}" if networks else ""
        # Not clipped: half of a line at 0 would hide behind the axis.
        for column, colour, label in (
            ("share", TRAINED, "trained networks"),
            ("share_untrained", UNTRAINED, "untrained twins"),
        ):
            ax.plot(
                of_class["threshold"], of_class[column], color=colour, linestyle=dashes, label=label + of, clip_on=False, zorder=3,
            )  # fmt: skip
        if networks in share_haar:
            ax.plot(
                [chosen], [share_haar[networks]], marker, color=HAAR, markersize=3, markeredgewidth=0.4, markeredgecolor="black",
                label=HAAR_NAME + of, clip_on=False, zorder=4,
            )  # fmt: skip
    ax.axvline(chosen, color="black", linewidth=0.5, linestyle=":", label="threshold of the definition")
    tolerated = f"share tolerated in untrained twins ({FALSE_POSITIVES:.1%})"
    ax.axhline(FALSE_POSITIVES, color="#d55e00", linewidth=0.4, label=tolerated)
    # Rates span decades; 0 has its place below the smallest that a few thousand units can show.
    ax.set_yscale("symlog", linthresh=1e-4)
    # Written out: the exponents of powers of ten would be smaller than any text may be.
    ax.set(ylim=(0, 1), yticks=_TICKS, yticklabels=[f"{100 * tick:g}%" for tick in _TICKS])
    ax.minorticks_off()
