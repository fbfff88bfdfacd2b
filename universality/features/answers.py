"""What a layer's units answer to the stimuli of a family: where the family meets the layer that was shown its sets.

The sets of a family are put one after the other when they are asked for; grids and tables of units are kept with the layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from universality.activations.layer import Layer
from universality.features.families import FAMILIES, Grid, Responses
from universality.features.rules import ties_of


def grid(layer: Layer, family: str) -> Grid:
    """Return where in a family's sets, one after the other, each combination of parameters lies."""
    of = FAMILIES[family]
    first, *others = (layer.shown[name] for name in of.sets)
    parameters = (first.parameters, *(shown.parameters for shown in others))
    kept = first.derived.get(("grid", family))
    # Held beside the grid, the parameters are the objects that it was read from.
    if kept is None or any(a is not b for a, b in zip(kept[0], parameters, strict=True)):
        kept = first.derived["grid", family] = (parameters, of.grid(*parameters))
    found: Grid = kept[1]
    return found


def responses(layer: Layer, family: str, where: Grid | None = None) -> Responses:
    """Return responses to a family's stimuli, in sigma of the natural images; live are the units that can also be matched.

    `where` takes the place of the family's own grid: a null.
    """
    of = FAMILIES[family]
    sets = [layer.shown[name].activations for name in of.sets]
    drawn = sets[0] if len(sets) == 1 else np.concatenate(sets)
    made = of.responses(drawn, layer.natural, grid(layer, family) if where is None else where)
    # What is tuned are the values before a clipping; ties are those that it makes.
    ties = made.sigma.ties if layer.clip is None else ties_of(layer.clipped(layer.natural))
    answer: Responses = replace(made, sigma=replace(made.sigma, live=layer.live, ties=ties))
    return answer


def units(layer: Layer, family: str, where: Grid | None = None) -> pd.DataFrame:
    """Return one row per unit with every criterion of a family; `where` as in `responses`."""
    if where is not None:
        return FAMILIES[family].table(responses(layer, family, where))
    if ("units", family) not in layer.derived:
        layer.derived["units", family] = FAMILIES[family].table(responses(layer, family))
    kept: pd.DataFrame = layer.derived["units", family]
    return kept.copy()
