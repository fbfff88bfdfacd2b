"""Detectors against depth, threshold curves and the list of published statements.

Usage: python analyses/detectors_against_depth.py RUN

RUN is the run directory of ``curve_detectors/job.toml``, ``high_low_frequency/job.toml`` or ``early_units/job.toml``.
Prints tables and checks, and writes ``depth.csv`` (of several families one each, ``depth_FAMILY.csv``), ``by_class.csv`` and
``checks.csv`` into that folder and two figures for each family into ``docs``. ImageNet and pocket networks, and pocket
networks of different diets and tasks, are counted and drawn as classes of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from universality import UniversalityError, open_run
from universality.base.names import short
from universality.correspondence.resampling import upper_bound
from universality.features.checks import checks
from universality.features.families import FAMILIES, definition_of
from universality.features.tuning import best_shift_correlation
from universality.figures import curves_of, detectors_against_depth, figure_of, style, threshold_curves
from universality.models import catalogue
from universality.runs.run import Run

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def against_depth(run: Run, family: str) -> pd.DataFrame:
    """Return one row per model and tap: share trained and untrained, coverage, and the means over its detectors."""
    units = run.units[(run.units["family"] == family) & (run.units["seed"] == -1) & run.units["detector"]]
    period = FAMILIES[family].period_deg
    angles = np.linspace(0, period, len(units["tuning_sigma"].iloc[0]), endpoint=False)
    shift = {
        key: best_shift_correlation(np.stack(found["tuning_sigma"].to_list()), angles, period)
        if len(found) > 1
        else np.nan
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


def classes_of(models: Iterable[str]) -> dict[str, str]:
    """Return by model what it was trained on, with diet and task of the pocket networks."""
    sets = {model: catalogue.card(model).training_set.split(" (")[0] for model in dict.fromkeys(models)}
    return {model: name.replace("procedural shapes", "pocket") for model, name in sets.items()}


def by_class(run: Run, family: str) -> pd.DataFrame:
    """Return one row per class of networks: units that pass the family's rule, trained, in untrained twins, and in random bases.

    ``below`` is the upper end of the one-sided 95 % interval of the untrained twins' share; twins made as sparse as their
    trained networks likewise (``sparse``). Of random bases the mean number over bases, out of as many directions as units.
    """
    of_family = run.families[run.families["family"] == family]
    twins = of_family["n_units"] * of_family["n_twins"]
    counted = {
        "n_units": of_family["n_units"], "n_detectors": of_family["n_detectors"], "n_strict": of_family["n_strict"],
        "haar": of_family["share_haar"] * of_family["n_units"],
        "haar_standardised": of_family["share_haar_standardised"] * of_family["n_units"],
        "n_units_untrained": twins, "untrained": of_family["n_detectors_untrained"] * of_family["n_twins"],
        "sparse": of_family["share_sparse"] * twins,
        "naive": of_family["share_naive"] * of_family["n_units"], "naive_untrained": of_family["share_naive_untrained"] * twins,
        "naive_sparse": of_family["share_naive_sparse"] * twins,
    }  # fmt: skip
    classes = of_family["model"].map(classes_of(of_family["model"]))
    table = pd.DataFrame(counted).groupby(classes, sort=False).sum()
    for name in ("untrained", "sparse"):
        found = zip(table[name], table["n_units_untrained"], strict=True)
        bounds = [upper_bound(round(some), int(n)) for some, n in found]
        table.insert(list(table.columns).index(name) + 1, f"{name}_below", bounds)
    table = table.rename_axis("networks").reset_index()
    table.insert(0, "family", family)
    return table


def draw_thresholds(run: Run, family: str) -> Figure:
    """Draw the rates against each threshold of the family's rule, each class of networks and their untrained twins by themselves."""
    curves, chosen = curves_of(definition_of(family), run.units_of(family), classes_of(run.families["model"]))
    title = f"{FAMILIES[family].noun}: one threshold moved at a time, the others as dotted"
    counts = by_class(run, family)
    share_haar = dict(zip(counts["networks"], counts["haar"] / counts["n_units"], strict=True))
    return figure_of(threshold_curves(curves, chosen, title, share_haar=share_haar))


def write_family(run: Run, family: str, file: Path) -> None:
    """Write and print the table of one family against depth, and draw its two figures."""
    table = against_depth(run, family)
    table.to_csv(file, index=False, float_format="%.4f")
    with style():
        depth = detectors_against_depth(run.families[run.families["family"] == family], FAMILIES[family].noun)
        figure_of(depth).savefig(DOCS / f"{family}_depth.png", dpi=200, metadata={"Software": None})
        draw_thresholds(run, family).savefig(DOCS / f"{family}_thresholds.png", dpi=200, metadata={"Software": None})
    print(table.assign(model=table["model"].map(short)).to_string(index=False, float_format="%.3f"))


def main() -> None:
    """Write tables and figures of the run on the command line."""
    run = open_run(sys.argv[1])
    families = run.record["job"]["comparison"]["families"]
    folder = HERE / run.record["job"]["name"]
    for family in families:
        write_family(run, family, folder / ("depth.csv" if len(families) == 1 else f"depth_{family}.csv"))
    counts = pd.concat([by_class(run, family) for family in families], ignore_index=True)
    counts.to_csv(folder / "by_class.csv", index=False, float_format="%.6g")
    print(counts.to_string(index=False, float_format="%.4g"))
    found = checks(run)
    found.to_csv(folder / "checks.csv", index=False)
    print(found.assign(model=found["model"].map(short)).to_string(index=False))


if __name__ == "__main__":
    try:
        main()
    except UniversalityError as error:
        sys.exit(f"error: {error}")
