"""Measure how much of what removing a family costs hand-written detectors restore.

Usage: python analyses/handwritten/restore.py RUN

RUN is the run of ``job.toml`` here, or any run with the pocket networks' units at these taps. Every detector of a family is replaced by the
hand-written unit that resembles it most, with two scalars, both chosen on one half of the images; several detectors may get the same one,
as there are 16 boundaries and more detectors. On the other half R = (L removed - L replaced) / (L removed - L intact), as in
`universality.causes.transplants`. Prints the rows and writes ``restore.csv``. Published for curves in InceptionV1: 57 % of the loss.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pandas as pd

import universality
from universality.causes import transplants
from universality.causes.labelled import labelled
from universality.causes.passes import Passes, maps_at
from universality.causes.plan import CausePlan
from universality.models import catalogue, zoo
from universality.runs.networks import networks_of
from universality.runs.run import Run

HERE = Path(__file__).parent
TAPS = {
    "pocket/vgg-focus-s0": "features.13",
    "pocket/vgg-focus-s1": "features.13",
    "pocket/alexnet-focus-s0": "features.9",
    "pocket/inceptionv1-focus-s0": "inception3b",
    "pocket/resnet-focus-s0": "layer2.1",
}
WRITTEN = {"curve": "handwritten/curves", "high_low_frequency": "handwritten/high_low"}
SEEDS = (0, 1)
IMAGES = 432
COLUMNS = ("recovery", "recovery_low", "recovery_high", *(f"recovery_{name}" for name in (*transplants.NULLS, "seed")))


def rows_of(run: Run, model: str, tap_name: str, plan: CausePlan) -> list[dict[str, object]]:
    """Return the rows of one network: both families, every base and measure."""
    (own,) = (n for n in networks_of(run.job) if n.card.id == model and n.trained)
    tap, shown = own.card.tap(tap_name), labelled(own, plan)
    fit, test = transplants.halves(len(shown.images), plan.seed)
    module = own.load()
    fitting = transplants.Fitting(maps_at(module, tap, shown.images), fit, test)
    passes = Passes(module, tap, None, shown.images[test])
    other = catalogue.card(re.sub(r"-s(\d)$", lambda m: f"-s{1 - int(m[1])}", model))
    sibling = maps_at(zoo.pretrained(other), other.tap(tap_name), shown.images)
    found = []
    for family, written in WRITTEN.items():
        units = run.units.query(
            "model == @model and tap == @tap_name and family == @family and seed == -1 and detector"
        )["unit"]
        card = catalogue.card(written)
        # One picture is the input of both: sizes and normalisation are the pocket zoo's.
        assert card.preprocessing.digest() == own.card.preprocessing.digest()
        sources = transplants.Sources(
            maps_at(zoo.pretrained(card), card.tap("relu"), shown.images),
            [maps_at(zoo.untrained(card, seed, []), card.tap("relu"), shown.images) for seed in SEEDS],
            [sibling],
        )
        partner = fitting.correlations(fitting.sized(sources.of)).argmax(axis=1)
        experiment = transplants.Experiment(passes, fitting, sources, partner, shown.labels[test], plan.seed)
        of = transplants.Replaced("family", family, np.sort(units.to_numpy(dtype=np.int64)))
        found += [
            {"model": model, "tap": tap_name, "n_written": len(set(partner[of.units]))} | row
            for row in experiment.rows([of], plan)
        ]
    return found


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "restore.csv")
    parser.add_argument("--model", action="append", choices=list(TAPS))
    given = parser.parse_args()
    run = universality.open_run(given.run)
    plan = CausePlan(IMAGES, tuple(WRITTEN), 0)
    rows = []
    for model in given.model or TAPS:
        rows += rows_of(run, model, TAPS[model], plan)
        found = pd.DataFrame(rows)
        found.to_csv(given.out, index=False, float_format="%.4f", lineterminator="\n")
        latest = found[(found["model"] == model) & (found["measure"] != "next")]
        print(
            latest[["model", "family", "n_units", "n_written", "r", "base", "measure", "ablated", *COLUMNS]].to_string(
                index=False, float_format="%.2f"
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
