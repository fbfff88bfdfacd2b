"""Detectors by diet, with bootstrap intervals.

Usage: python analyses/diet_experiment/compare.py RUN...

Each RUN is the run directory of one of the jobs here (drawings in grey, in red against green, in blue against yellow).
Prints the shares of every network and the differences between diets, and writes ``shares.csv``, ``differences.csv`` and
``docs/diet_experiment.png``.

The sample is four architectures, not some thousand units: units of a network are not independent. Intervals resample
architectures, and units within every tap; beside the difference between diets stands that between two seeds of one
diet, which shows how far retraining alone moves a share.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from universality import open_run
from universality.base.names import short
from universality.features.families import FAMILIES
from universality.figures import DOUBLE_MM, MM, TRAINED, UNTRAINED, style
from universality.models import catalogue
from universality.runs.run import Run

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
ARCHITECTURES = {"alexnet": "AlexNet", "vgg": "VGG", "inceptionv1": "InceptionV1", "resnet": "ResNet"}
KINDS = {
    "focus-s0": (TRAINED, "diet focus, seed 0"),
    "focus-s1": ("#66aacf", "diet focus, seed 1"),
    "sharp-s0": ("#d55e00", "diet sharp, seed 0"),
}
CONTRASTS = {"sharp - focus": ("sharp-s0", "focus-s0"), "focus seed 1 - seed 0": ("focus-s1", "focus-s0")}
COLOURS = ("grey", "red_green", "blue_yellow")
BOOTSTRAPS = 5000


def shares(run: Run) -> pd.DataFrame:
    """Return one row per network and family: share of detectors among all units of its taps, and in twins and random bases."""
    units = run.units.assign(untrained=run.units["seed"] >= 0)
    counted = units.groupby(["family", "model", "untrained"])["detector"].agg(["mean", "sum", "size"]).unstack()
    in_bases = run.families["share_haar"] * run.families["n_units"]
    in_bases = in_bases.groupby([run.families["family"], run.families["model"]]).sum()
    rows = []
    for (family, model), row in counted.iterrows():
        training = catalogue.card(model).training
        rows.append(
            {
                "family": family, "model": model, "diet": training.diet if training else "",
                "n_units": int(row["size", False]), "n_detectors": int(row["sum", False]), "share": row["mean", False],
                "n_detectors_untrained": int(row["sum", True]), "n_units_untrained": int(row["size", True]),
                "share_untrained": row["mean", True], "share_haar": in_bases[family, model] / row["size", False],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def differences(run: Run, seed: int = 0) -> pd.DataFrame:
    """Return one row per family and contrast: mean difference of shares over architectures and its 95 % interval."""
    rows = []
    for family in run.record["job"]["comparison"]["families"]:
        of_family = run.units[(run.units["family"] == family) & (run.units["seed"] == -1)]
        for contrast, (a, b) in CONTRASTS.items():
            rng = np.random.default_rng(seed)
            resampled = np.stack(
                [_resampled(of_family, f"{x}-{a}", rng) - _resampled(of_family, f"{x}-{b}", rng) for x in ARCHITECTURES]
            )
            which = rng.integers(0, len(ARCHITECTURES), (BOOTSTRAPS, len(ARCHITECTURES)))
            means = resampled[which, np.arange(BOOTSTRAPS)[:, None]].mean(axis=1)
            exact = [_share(of_family, f"{x}-{a}") - _share(of_family, f"{x}-{b}") for x in ARCHITECTURES]
            low, high = np.quantile(means, (0.025, 0.975))
            rows.append(
                {"family": family, "contrast": contrast, "difference": np.mean(exact), "low": low, "high": high}
                | dict(zip(ARCHITECTURES, exact, strict=True))
            )
    return pd.DataFrame(rows)


def _share(units: pd.DataFrame, name: str) -> float:
    return float(units.loc[units["model"] == f"pocket/{name}", "detector"].mean())


def _resampled(units: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    """Return (bootstrap,) shares of a network with the units of every tap drawn anew."""
    here = units[units["model"] == f"pocket/{name}"]
    total = np.zeros(BOOTSTRAPS)
    for _, tap in here.groupby("tap"):
        total += rng.binomial(len(tap), tap["detector"].mean(), BOOTSTRAPS)
    return np.asarray(total / len(here))


def draw(table: pd.DataFrame) -> Figure:
    """Draw the share of every network by family (rows) and colour of the drawings (columns), beside its untrained twin."""
    colours, families = (list(dict.fromkeys(table[column])) for column in ("colour", "family"))
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 95 * MM), layout="constrained")
        axes = figure.subplots(len(families), len(colours), sharex=True, sharey="row", squeeze=False)
        for (row, family), (column, colour) in itertools.product(enumerate(families), enumerate(colours)):
            ax = axes[row, column]
            here = table[(table["family"] == family) & (table["colour"] == colour)].set_index("model")
            _bars(ax, here)
            if row == 0:
                ax.set_title(f"drawings in {colour.replace('_', ' against ')}")
            if column == 0:
                ax.set_ylabel(f"{FAMILIES[family].noun},\nshare of all units of its taps")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _bars(ax: Axes, shares: pd.DataFrame) -> None:
    """Draw a bar for each architecture and diet, with a dash at its untrained twin's share."""
    places = np.arange(len(ARCHITECTURES))
    for offset, (kind, (paint, label)) in enumerate(KINDS.items()):
        found = shares.loc[[f"pocket/{name}-{kind}" for name in ARCHITECTURES]]
        at = places + 0.25 * (offset - 1)
        ax.bar(at, found["share"], 0.22, color=paint, label=label)
        twins = "untrained twin of each" if offset == 0 else None
        ax.plot(at, found["share_untrained"], "_", color=UNTRAINED, markersize=7, markeredgewidth=1.2, label=twins)
    ax.set_xticks(places, list(ARCHITECTURES.values()))


def main() -> None:
    """Compare the diets in every run given, and write the tables and the figure."""
    tables, contrasts = [], []
    runs = {run.record["job"]["stimuli"]["curves"]["colour"]: run for run in map(open_run, sys.argv[1:])}
    for colour, run in sorted(runs.items(), key=lambda item: COLOURS.index(item[0])):
        tables.append(shares(run).assign(colour=colour))
        contrasts.append(differences(run).assign(colour=colour))
    table, contrast = pd.concat(tables), pd.concat(contrasts)
    table.to_csv(HERE / "shares.csv", index=False, float_format="%.4f")
    contrast.to_csv(HERE / "differences.csv", index=False, float_format="%.4f")
    with style():
        draw(table).savefig(DOCS / "diet_experiment.png", dpi=200, metadata={"Software": None})
    print(table.assign(model=table["model"].map(short)).to_string(index=False, float_format="%.3f"))
    print(contrast.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
