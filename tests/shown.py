"""Activations of a family's sets as one array, as families are planted in tests, and by set, as a layer holds them."""

import numpy as np

from universality.activations.layer import Shown
from universality.features.families import FAMILIES


def by_set(family, values, parameters):
    """The sets of a family by name, from activations (stimulus, unit) of one set after the other and each set's parameters."""
    ends = np.cumsum([table.sizes["stimulus"] for table in parameters])
    assert ends[-1] == len(values)
    parts = np.split(np.asarray(values, dtype=np.float64), ends[:-1])
    return {
        name: Shown(*of) for name, of in zip(FAMILIES[family].sets, zip(parts, parameters, strict=True), strict=True)
    }


def drawn(layer, family):
    """Activations (stimulus, unit) of a layer for a family's sets, one after the other."""
    return np.concatenate([layer.shown[name].activations for name in FAMILIES[family].sets])


def redrawn(layer, family, values):
    """The same by set, with other activations than the layer has."""
    return dict(layer.shown) | by_set(family, values, [layer.shown[name].parameters for name in FAMILIES[family].sets])
