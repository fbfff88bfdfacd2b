"""Detectors against depth, threshold curves and the list of published statements.

Usage: python analyses/detectors_against_depth.py RUN

RUN is the run directory of ``curve_detectors/job.toml`` or ``high_low_frequency/job.toml``. Prints the table and the
checks, and writes ``depth.csv`` and ``checks.csv`` into that folder and two figures into ``docs``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from universality import UniversalityError, open_run
from universality.checks import checks
from universality.detectors import FAMILIES, definition_of, threshold_curve
from universality.figures import DOUBLE_MM, HAAR, MM, TRAINED, UNTRAINED, short, style, threshold_curves
from universality.runs import Run
from universality.tuning import best_shift_correlation

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
STEPS = 25


def against_depth(run: Run, family: str) -> pd.DataFrame:
    """Return one row per model and tap: share trained and untrained, coverage, and the means over its detectors."""
    units = run.units[(run.units["family"] == family) & (run.units["seed"] == -1) & run.units["detector"]]
    angles = np.linspace(0, 360, len(run.units["tuning_sigma"].iloc[0]), endpoint=False)
    shift = {
        key: best_shift_correlation(np.stack(found["tuning_sigma"].to_list()), angles) if len(found) > 1 else np.nan
        for key, found in units.groupby(["model", "tap"])
    }
    table = run.families[run.families["family"] == family].copy()
    strict = units[units["level"] == "strict"].groupby(["model", "tap"]).size()
    keys = list(zip(table["model"], table["tap"], strict=True))
    table["n_strict"] = [int(strict.get(key, 0)) for key in keys]
    table["best_shift_r"] = [shift.get(key, np.nan) for key in keys]
    columns = [
        "model", "tap", "depth", "n_units", "n_detectors", "n_strict", "share", "share_untrained", "share_haar",
        "coverage", "largest_gap_deg", "mean_r1", "mean_fwhm_deg", "mean_echo", "best_shift_r",
    ]  # fmt: skip
    return table[columns].reset_index(drop=True)


def draw_depth(table: pd.DataFrame, noun: str) -> Figure:
    """Draw the share against relative depth, one panel per model, beside its nulls."""
    models = list(dict.fromkeys(table["model"]))
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 75 * MM), layout="constrained")
        axes = figure.subplots(2, -(-len(models) // 2), sharex=True, squeeze=False).ravel()
        for ax, model in zip(axes, models, strict=False):
            rows = table[table["model"] == model]
            for column, colour, label in (
                ("share", TRAINED, "trained"), ("share_haar", HAAR, "Haar basis"), ("share_untrained", UNTRAINED, "untrained"),
            ):  # fmt: skip
                ax.plot(rows["depth"], rows[column], "o-", color=colour, markersize=2, label=label)
            ax.set(title=short(model), xlim=(0, 1), ylim=(0, None))
        axes[0].legend(frameon=False)
        for ax in axes[len(models) :]:
            ax.set_axis_off()
        figure.suptitle(f"share of {noun} against relative depth", fontsize=7)
    return figure


def draw_thresholds(run: Run, family: str) -> Figure:
    """Draw the rates against each threshold of the family's rule, trained and untrained units of all models."""
    definition = definition_of(family)
    units = run.units[run.units["family"] == family]
    curves = {}
    for criterion in definition.criteria:
        values = units[criterion.column].replace(np.inf, np.nan).dropna()
        low, high = np.quantile(values, (0.02, 0.98))
        steps = np.linspace(min(low, criterion.threshold), max(high, criterion.threshold), STEPS)
        curves[criterion.column] = threshold_curve(definition, units, criterion.column, steps.tolist())
    chosen = {criterion.column: criterion.threshold for criterion in definition.criteria}
    return threshold_curves(
        curves, chosen, f"{FAMILIES[family].noun}: one threshold moved at a time, the others as dotted"
    )


def main() -> None:
    """Write tables and figures of the run on the command line."""
    if len(sys.argv) != 2:
        sys.exit("error: expected one argument, the directory of a finished run: detectors_against_depth.py RUN")
    run = open_run(sys.argv[1])
    family = run.record["job"]["comparison"]["families"][0]
    folder = HERE / run.record["job"]["name"]
    table, found = against_depth(run, family), checks(run)
    table.to_csv(folder / "depth.csv", index=False, float_format="%.4f")
    found.to_csv(folder / "checks.csv", index=False)
    with style():
        draw_depth(table, FAMILIES[family].noun).savefig(
            DOCS / f"{family}_depth.png", dpi=200, metadata={"Software": None}
        )
        draw_thresholds(run, family).savefig(DOCS / f"{family}_thresholds.png", dpi=200, metadata={"Software": None})
    print(table.assign(model=table["model"].map(short)).to_string(index=False, float_format="%.3f"))
    print(found.assign(model=found["model"].map(short)).to_string(index=False))


if __name__ == "__main__":
    try:
        main()
    except UniversalityError as error:
        sys.exit(f"error: {error}")
