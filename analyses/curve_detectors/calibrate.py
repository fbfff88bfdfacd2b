"""How often untrained twins pass the rules for detectors, tap by tap.

Usage: python analyses/curve_detectors/calibrate.py SEED [SEED ...]

Thresholds were chosen on the seeds 100 to 103 and 200 to 204; 300 to 304 were held out and are those of the table. Writes
``false_positives.csv`` beside this file: all twins of a network together, with the upper end of the 95 % Wilson interval.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from universality.activations import extraction
from universality.activations.network import Network
from universality.activations.spec import ExtractionSpec
from universality.correspondence.resampling import wilson_interval
from universality.features.families import FAMILIES
from universality.models import catalogue
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.sets import parameters
from universality.stimuli.spec import StimuliSpec

MODELS = (
    "package/efficientnet_lite0", "package/efficientnet_lite1", "pocket/alexnet-focus-s0", "pocket/vgg-focus-s0",
    "pocket/inceptionv1-focus-s0", "pocket/resnet-focus-s0",
)  # fmt: skip
STIMULI = StimuliSpec(natural=NaturalStimuli(crops=600, shapes=576))
CALIBRATION = StimuliSpec(natural=NaturalStimuli(crops=131, shapes=125))
EXTRACTION = ExtractionSpec(reduction="center", batch_size=32)


def passing(model: str, seed: int) -> Iterator[dict[str, object]]:
    """Yield units and detectors of every tap and family of one untrained twin."""
    card = catalogue.card(model)
    network = Network(card, seed, card.taps, STIMULI, EXTRACTION, CALIBRATION)
    loaded, size = network.load(), card.preprocessing.size_px
    sets = dict.fromkeys(["natural", *(name for family in FAMILIES.values() for name in family.sets)])
    shown = {
        name: extraction.collect(extraction.extract(loaded, card.taps, network.batches(name), EXTRACTION, size))
        for name in sets
    }
    for name, family in FAMILIES.items():
        grid = family.grid(*(parameters(one, STIMULI) for one in family.sets))
        for tap in card.taps:
            drawn = np.concatenate([shown[one][tap.name].astype(np.float64) for one in family.sets])
            table = family.table(family.responses(drawn, shown["natural"][tap.name].astype(np.float64), grid))
            yield {"model": model, "tap": tap.name, "family": name, "n": len(table), "found": table["detector"].sum()}


def main() -> None:
    """Measure the twins of the seeds on the command line."""
    rows = [row for model in MODELS for seed in map(int, sys.argv[1:]) for row in passing(model, seed)]
    table = pd.DataFrame(rows).groupby(["family", "model", "tap"], sort=False).sum().reset_index()
    table["high"] = [
        wilson_interval(int(found), int(n))[1] for found, n in zip(table["found"], table["n"], strict=True)
    ]
    table.to_csv(Path(__file__).with_name("false_positives.csv"), index=False, float_format="%.4f")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
