"""How far weights describe units of EfficientNet-Lite: linear ones and mean gradients, between neighbouring taps and farther ones.

Usage: python analyses/circuits/lite.py [--units N] [--images N] [--tables DIR]

For every pair of taps and a draw of units: the correlation of linear weights with the mean of the gradients at natural images (what the tables call fidelity), and of the mean
gradients at one half of the images with those at the other half, stepped up to all of them (Spearman and Brown): nothing agrees with mean gradients better than they do themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import universality
from universality.circuits.wirings import alike
from universality.models import catalogue
from universality.stimuli import sets
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

HERE = Path(__file__).parent
NETWORKS = ("package/efficientnet_lite0", "package/efficientnet_lite1")
TAPS = (("blocks.3.1.bn2", "blocks.3.2.bn2"), ("blocks.3.1.bn2", "blocks.4.1.bn2"))
"""Neighbouring blocks, and the taps of the quickstart."""


def row_of(model: str, first: str, second: str, n_units: int, n_images: int) -> dict[str, object]:
    """Return medians over a draw of units of one pair of taps."""
    card = catalogue.card(model)
    units = np.sort(np.random.default_rng(0).choice(card.tap(second).channels, n_units, replace=False)).tolist()
    shown = card.preprocessing
    images = sets.render(
        "natural",
        StimuliSpec(natural=NaturalStimuli(crops=n_images)),
        shown.canvas_px,
        interpolation=shown.interpolation,
    )
    cases = universality.expanded_weights(
        model, first, second, units, "case_gradients", images=sets.normalise(images.values, shown)
    )
    linear = universality.expanded_weights(model, first, second, units)
    offsets = {name: np.union1d(cases[name], linear[name]) for name in ("dy", "dx")}
    cases, linear = (of.reindex(offsets, fill_value=0.0) for of in (cases, linear))

    def flat(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return values.reshape(n_units, -1).astype(float)

    halves = [flat(cases.isel(image=slice(k, None, 2)).mean("image").values) for k in (0, 1)]
    fidelity, half = alike(flat(linear.values), flat(cases.mean("image").values)), alike(*halves)
    return {
        "model": model, "source_tap": first, "target_tap": second, "n_units": int(np.isfinite(fidelity).sum()), "n_images": n_images,
        "fidelity": np.nanmedian(fidelity), "fidelity_90": np.nanquantile(fidelity, 0.9), "reliability": np.nanmedian(2 * half / (1 + half)),
    }  # fmt: skip


def main() -> None:
    """Print the table and write ``lite.csv``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=24)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--tables", type=Path, default=HERE)
    given = parser.parse_args()
    rows = pd.DataFrame([row_of(model, *taps, given.units, given.images) for model in NETWORKS for taps in TAPS])
    rows.to_csv(given.tables / "lite.csv", index=False, float_format="%.4f", lineterminator="\n")
    print(rows.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
