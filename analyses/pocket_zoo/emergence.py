"""Both features over training: shares of detectors in the checkpoints that a training left behind.

Usage: python analyses/pocket_zoo/emergence.py FOLDER...

Each folder is what ``universality zoo train`` wrote. Prints a table and writes beside this file ``emergence.csv`` (one
row per network, checkpoint, tap and family) and ``training.csv`` (one row per network and epoch).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from universality.activations import extraction
from universality.activations.layer import Layer, LayerRef, Shown
from universality.activations.network import Network
from universality.activations.spec import ExtractionSpec
from universality.base.schema import STIMULUS
from universality.correspondence.resampling import wilson_interval
from universality.features import answers
from universality.features.families import FAMILIES
from universality.features.tuning import largest_gap
from universality.models import catalogue
from universality.models.card import ModelCard
from universality.models.pocket import networks, shapes
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.sets import parameters
from universality.stimuli.spec import StimuliSpec

EXTRACTION = ExtractionSpec(reduction="center", batch_size=256)
HERE = Path(__file__).parent
FAMILY_NAMES = ("curve", "high_low_frequency")
"""The families of ``job.toml``."""


def layers(card: ModelCard, network: nn.Module, spec: StimuliSpec) -> Iterator[Layer]:
    """Show both families' stimuli and the natural images to a network, and yield its taps' layers."""
    sets = dict.fromkeys(["natural", *(one for name in FAMILY_NAMES for one in FAMILIES[name].sets)])
    table = {name: parameters(name, spec) for name in sets}
    answered = {name: _answers(card, network, name, spec) for name in sets}
    natural = table["natural"]
    for tap in card.taps:
        of_tap = {name: answered[name][tap.name].astype(np.float64) for name in sets}
        shown = {name: Shown(of_tap[name], table[name]) for name in sets if name != "natural"}
        ref = LayerRef(card.id, None, tap, "", {})
        yield Layer(ref, of_tap["natural"], natural["fold"].values, np.arange(natural.sizes[STIMULUS]), shown)


def _answers(card: ModelCard, network: nn.Module, name: str, spec: StimuliSpec) -> dict[str, np.ndarray]:
    batches = Network(card, None, card.taps, spec, EXTRACTION, spec).batches(name)
    return dict(
        extraction.collect(extraction.extract(network, card.taps, batches, EXTRACTION, card.preprocessing.size_px))
    )


def rows(layer: Layer) -> Iterator[dict[str, object]]:
    """Yield share and coverage of both families in one layer."""
    for family in FAMILY_NAMES:
        table = answers.units(layer, family)
        found = table[table["detector"]]
        low, high = wilson_interval(len(found), len(table))
        yield {
            "tap": layer.ref.tap.name, "depth": layer.ref.tap.relative_depth, "family": family, "n_units": len(table),
            "n_detectors": len(found), "share": len(found) / len(table), "share_low": low, "share_high": high,
            "share_naive": table["naive_detector"].mean(), "largest_gap_deg": largest_gap(found["preferred_deg"]),
        }  # fmt: skip


def checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield (epoch, weights) of a training folder, the final weights last."""
    epochs = json.loads((folder / "history.json").read_text())["recipe"]["epochs"]
    for path in sorted(folder.glob("epoch-*.safetensors")):
        number = int(path.stem.removeprefix("epoch-"))
        if number < epochs:
            yield number, path
    yield epochs, folder / "model.safetensors"


def history_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of a folder's network and what its training recorded."""
    history: dict[str, Any] = json.loads((folder / "history.json").read_text())
    recipe = history["recipe"]
    task = "-texture" if recipe["task"] == "texture" else ""
    return f"{recipe['architecture']}-{recipe['diet']}{task}-s{recipe['seed']}", history


def training(folder: Path) -> Iterator[dict[str, object]]:
    """Yield loss and accuracy of every epoch of a training folder."""
    name, history = history_of(folder)
    for row in history["epochs"]:
        yield {"network": name} | {key: row[key] for key in ("epoch", "loss", "accuracy", "images_per_second")}


def emergence(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of every checkpoint of a training folder."""
    name, history = history_of(folder)
    recipe = history["recipe"]
    card = catalogue.card(f"pocket/{name}")
    spec = StimuliSpec(natural=NaturalStimuli(crops=0, shapes=1152, diet=recipe["diet"]))
    accuracy = {row["epoch"]: row["accuracy"] for row in history["epochs"]}
    for epoch, weights in checkpoints(folder):
        network = networks.build(recipe["architecture"], len(shapes.SHAPES))
        network.load_state_dict(load_file(weights))
        for layer in layers(card, network.eval(), spec):
            for row in rows(layer):
                yield {"network": name, "epoch": epoch, "accuracy": accuracy.get(epoch, np.nan), **row}


def main() -> None:
    """Read the folders named on the command line and write both tables."""
    torch.set_num_threads(1)
    folders = [Path(folder) for folder in sys.argv[1:] if (Path(folder) / "history.json").exists()]
    table = pd.DataFrame([row for folder in folders for row in emergence(folder)])
    table.to_csv(HERE / "emergence.csv", index=False, float_format="%.4f")
    pd.DataFrame([row for folder in folders for row in training(folder)]).to_csv(
        HERE / "training.csv", index=False, float_format="%.4f"
    )
    best = table.sort_values("share").groupby(["network", "family", "epoch"], sort=False).tail(1)
    print(best.sort_values(["network", "family", "epoch"]).to_string(index=False))


if __name__ == "__main__":
    main()
