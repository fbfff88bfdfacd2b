"""The pocket zoo's pictures: example images, training curves, features over training, groups of pairs.

Usage: python analyses/pocket_zoo/figures.py RUN

RUN is the run directory of ``analyses/pocket_zoo/job.toml``; ``training.csv`` and ``emergence.csv`` lie beside this
file. Writes ``docs/pocket_*.png`` and ``groups.csv``, and prints the groups.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from universality import open_run
from universality.atlas.groups import by_group, by_pair
from universality.features.families import FAMILIES
from universality.figures import DOUBLE_MM, MM, contact_sheet, figure_of, group_comparison, style
from universality.models import catalogue
from universality.models.pocket import shapes
from universality.stimuli import sets
from universality.stimuli.shapes import ShapeStimuli
from universality.stimuli.spec import StimuliSpec

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
COLOURS = {"alexnet": "#0173b2", "vgg": "#de8f05", "inceptionv1": "#029e73", "resnet": "#cc78bc"}
LINES = {"focus-s0": "-", "focus-s1": "--", "sharp-s0": ":", "focus-texture-s0": "-."}


def examples() -> Figure:
    """Draw one image of every shape in each diet: the same picture, but for what the diet takes away."""
    rows = np.arange(len(shapes.SHAPES)) * 13 % 144  # one of every shape, of several textures
    images, labels = [], []
    for diet in shapes.DIETS:
        spec = StimuliSpec(shapes=ShapeStimuli(images=144, diet=diet))
        drawn = sets.render("shapes", spec, shapes.REFERENCE_PX, rows)
        images.append(drawn.values)
        names = zip(drawn["shape"].values, drawn["texture"].values, strict=True)
        labels += [f"{diet}: {shape}\n{texture}" for shape, texture in names]
    return figure_of(contact_sheet(np.concatenate(images), labels))


def training_curves(training: pd.DataFrame) -> Figure:
    """Draw loss and accuracy on held-out images over epochs, one line per network."""
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 60 * MM), layout="constrained")
        for ax, column in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for name, rows in training.groupby("network", sort=False):
                ax.plot(rows["epoch"], rows[column], **line_of(str(name)))
            ax.set(xlabel="epoch", ylabel=f"{column} ({'training' if column == 'loss' else 'held-out images'})")
        chance = ax.axhline(1 / 12, color="0.6", linewidth=0.5, label="chance")
        ax.set_ylim(0, 1.02)
        figure.legend(handles=[*key(), chance], loc="outside right upper", frameon=False, handlelength=3.0)
    return figure


def emergence_curves(emergence: pd.DataFrame) -> Figure:
    """Draw the share of detectors among all units of a network's taps over epochs; epoch 0 is the untrained network."""
    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 65 * MM), layout="constrained")
        families = list(dict.fromkeys(emergence["family"]))
        axes = figure.subplots(1, len(families), sharex=True)
        for ax, family in zip(axes, families, strict=True):
            for name, rows in emergence[emergence["family"] == family].groupby("network", sort=False):
                counts = rows.groupby("epoch")[["n_detectors", "n_units"]].sum()
                ax.plot(counts.index, counts["n_detectors"] / counts["n_units"], **line_of(str(name)))
            ax.set(
                title=FAMILIES[family].noun,
                xlabel="epoch (0: before training)",
                ylabel="share of all units of its taps",
            )
            ax.set_ylim(0, None)
        figure.legend(handles=key(), loc="outside right upper", frameon=False, handlelength=3.0)
    return figure


def line_of(name: str) -> dict[str, object]:
    """Return colour (architecture) and line (diet, task, seed) of a network."""
    architecture, rest = name.split("-", 1)
    return {"color": COLOURS[architecture], "linestyle": LINES[rest], "marker": "o", "markersize": 1.5}


def key() -> list[Line2D]:
    """Return what colours (architecture) and lines (diet, task, seed) stand for."""
    colours = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    return colours + [Line2D([], [], color="0.2", linestyle=line, label=name) for name, line in LINES.items()]


def main() -> None:
    """Draw and write everything."""
    run = open_run(sys.argv[1])
    pairs = by_pair(run.similarity, catalogue.cards())
    groups = by_group(pairs)
    groups.to_csv(HERE / "groups.csv", index=False, float_format="%.4f")
    print(groups.to_string(index=False, float_format="%.3f"))
    drawn = {
        "examples": examples(),
        "training": training_curves(pd.read_csv(HERE / "training.csv")),
        "emergence": emergence_curves(pd.read_csv(HERE / "emergence.csv")),
        "groups": figure_of(group_comparison(pairs, groups)),
    }
    for name, figure in drawn.items():
        with style():
            figure.savefig(DOCS / f"pocket_{name}.png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
