"""When in training do responses and weights agree? Two seeds of one architecture, at checkpoints of a short recipe.

Usage: python analyses/circuits/over_training.py [--out DIR] [--tables DIR]

Trains the pocket VGG (diet focus) twice on 6,144 images of its recipe, 16 passes, and keeps the weights before training and after passes 1, 2, 4, 8 and 16 (about five minutes of one core for
each seed; what is there already is not trained again). At each checkpoint units of features.18 are matched by their responses to natural images, and compared:

- between the seeds: held-out r, and s_w, the correlation of incoming weights from features.13, beside exchanged sources and the ceiling (`universality.circuits.pairs`);
- with the end of the same seed, unit by unit: r of responses and of weights.

Prints a table and writes it to --tables as ``over_training.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from universality.activations.in_hand import activations
from universality.activations.layer import Layer, LayerRef
from universality.circuits.expanded import weights_into
from universality.circuits.pairs import Ends, circuit_rows
from universality.circuits.plan import CircuitPlan
from universality.models import catalogue
from universality.models.pocket import networks, shapes, training
from universality.models.receptive_field import describe_tap
from universality.similarity.matching import correlations, hungarian
from universality.stimuli import sets
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

HERE = Path(__file__).parent
SEEDS = (0, 1)
IMAGES, VALIDATION, PASSES = 6144, 1152, 16
CHECKPOINTS = (0, 1, 2, 4, 8, 16)
TAPS = "features.13", "features.18"
SIZE = (3, shapes.REFERENCE_PX, shapes.REFERENCE_PX)


def trained(seed: int, out: Path) -> dict[int, Path]:
    """Train one network unless it is there, and return its weights by passes through the images."""
    folder = out / f"vgg-focus-s{seed}"
    files = {passes: folder / f"epoch-{passes:03d}.safetensors" for passes in CHECKPOINTS}
    if not all(file.is_file() for file in files.values()):
        torch.set_num_threads(1)
        recipe = replace(training.recipe_of(f"vgg-focus-s{seed}"), n_images=IMAGES, epochs=PASSES)
        streams = ((training.TRAINING_STREAM, IMAGES), (training.VALIDATION_STREAM, VALIDATION))
        shown = [
            training.dataset(training.cached_images(out / "cache", recipe.diet, stream, n, 1), recipe, stream)
            for stream, n in streams
        ]
        training.train(recipe, *shown, folder, print, kept=CHECKPOINTS)
    return files


def natural_images() -> np.ndarray:
    """Return the natural images that all checkpoints see, (image, channel, y, x)."""
    preprocessing = catalogue.card("pocket/vgg-focus-s0").preprocessing
    spec = StimuliSpec(natural=NaturalStimuli(crops=188, shapes=380, diet="focus"))
    return np.asarray(sets.normalise(sets.render("natural", spec, preprocessing.canvas_px).values, preprocessing))


def ends(name: str, network: nn.Module, images: np.ndarray) -> Ends:
    """Return the part of one checkpoint in a comparison."""
    taps = [describe_tap(network, path, SIZE) for path in TAPS]
    seen = activations(network, images, list(TAPS), reduction="center")
    number = np.arange(len(images))
    layers = [
        Layer(LayerRef(name, None, tap, "", {}), seen[tap.name].values.astype(np.float64), number % 2, number, {})
        for tap in taps
    ]

    def weights(first, second, directions):
        return weights_into(network, first, second, directions, SIZE, name)

    def gradients(first, second, directions):
        return weights_into(network, first, second, directions, SIZE, name, images[:: len(images) // 32][:32])

    return Ends(*layers, weights, gradients, {}, {})


def between(a: Ends, b: Ends) -> dict[str, float]:
    """Return how alike two networks are: medians over units matched one to one."""
    first, second = a.targets.halves(), b.targets.halves()
    i, j = hungarian(correlations(first.decide, second.decide)).T
    r = (first.score[:, i] * second.score[:, j]).sum(axis=0)
    matched = pd.DataFrame({
        "family": "any_unit", "method": "hungarian", "unit_a": first.live[i], "unit_b": second.live[j], "r_natural": r, "verdict": "same_feature", "detector_a": False, "detector_b": False,
    })  # fmt: skip
    rows = pd.DataFrame(circuit_rows(a, b, (), (), matched, 1, CircuitPlan((), 0)))
    found = {"n_units": len(r), "r_between": float(np.median(r)), "n_sources": 0}
    if len(rows):
        found |= {"n_sources": int(rows["n_sources"].iloc[0])}
        found |= {
            f"{name}_between": float(rows[name].mean())
            for name in ("s_w", "s_w_permuted", "s_w_unmatched", "s_w_ceiling")
        }
    return found


def with_the_end(now: Ends, end: Ends) -> dict[str, float]:
    """Return how alike a network is to itself at the end, unit by unit: medians over units that vary at both."""
    live = now.targets.live & end.targets.live
    r = [np.corrcoef(now.targets.natural[:, k], end.targets.natural[:, k])[0, 1] for k in np.flatnonzero(live)]
    flat = [of.of_units(np.flatnonzero(live)).values.reshape(live.sum(), -1) for of in (now, end)]
    w = [np.corrcoef(x, y)[0, 1] for x, y in zip(*flat, strict=True) if x.any() and y.any()]
    return {"r_with_end": float(np.median(r)) if r else np.nan, "w_with_end": float(np.median(w)) if w else np.nan}


def table(files: Mapping[int, Mapping[int, Path]]) -> pd.DataFrame:
    """Return one row for each checkpoint."""
    images = natural_images()

    def at(seed: int, passes: int) -> Ends:
        network = networks.build("vgg", len(shapes.SHAPES))
        network.load_state_dict(load_file(files[seed][passes]))
        return ends(f"seed {seed}", network.eval().requires_grad_(False), images)

    last = {seed: at(seed, CHECKPOINTS[-1]) for seed in SEEDS}
    rows = []
    for passes in CHECKPOINTS:
        now = {seed: at(seed, passes) for seed in SEEDS}
        own = pd.DataFrame([with_the_end(now[seed], last[seed]) for seed in SEEDS]).mean().to_dict()
        rows.append({"passes": passes, "images": passes * IMAGES} | between(now[0], now[1]) | own)
    return pd.DataFrame(rows)


def main() -> None:
    """Train, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "data/pocket_training/over_training")
    parser.add_argument("--tables", type=Path, default=HERE)
    given = parser.parse_args()
    rows = table({seed: trained(seed, given.out) for seed in SEEDS})
    rows.to_csv(given.tables / "over_training.csv", index=False, float_format="%.4f", lineterminator="\n")
    print(rows.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
