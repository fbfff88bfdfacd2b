"""How the rates of a definition move with its thresholds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from universality.checks import FALSE_POSITIVES
from universality.figures.style import DOUBLE_MM, MM, TRAINED, UNTRAINED, style


def threshold_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float], title: str = "") -> Figure:
    """Draw the share of detectors, trained and untrained, against each threshold, the other criteria staying.

    Parameters
    ----------
    curves : mapping of criterion to DataFrame
        As `detectors.definition.threshold_curve` returns them.
    chosen : mapping of criterion to float
        The definition's own thresholds, drawn as dotted lines; the line across is the share tolerated in untrained twins.
    """
    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, (10 + 42 * rows) * MM), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for ax, (name, curve) in zip(axes, curves.items(), strict=False):
            ax.plot(curve["threshold"], curve["share"], color=TRAINED, label="trained networks")
            ax.plot(curve["threshold"], curve["share_untrained"], color=UNTRAINED, label="untrained twins")
            ax.axvline(chosen[name], color="black", linewidth=0.5, linestyle=":", label="threshold of the definition")
            ax.axhline(
                FALSE_POSITIVES,
                color="#d55e00",
                linewidth=0.4,
                label=f"share tolerated in untrained twins ({FALSE_POSITIVES:.1%})",
            )
            # Rates span decades; 0 has its place below the smallest that a few thousand units can show.
            ax.set_yscale("symlog", linthresh=1e-4)
            ax.set(xlabel=name, ylim=(0, 1))
        for ax in axes[len(curves) :]:
            ax.set_axis_off()
        for ax in axes[::columns]:
            ax.set_ylabel("share of units")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(title, fontsize=6.5)
    return figure
