"""Controls of the curve family for layers that are built by hand: by default their units answer to none of them."""

import numpy as np

from universality.features.curve import CurveGrid
from universality.stimuli import curve_controls
from universality.stimuli.curve_controls import CurveControlStimuli

CONTROLS = curve_controls.parameters(CurveControlStimuli())
KIND, CURVATURE, ANGLE = (CONTROLS[name].values for name in ("kind", "curvature", "orientation_deg"))


def grid_of(parameters):
    """The grid of these arcs and of the default controls."""
    return CurveGrid.of(parameters, CONTROLS)


def with_controls(arcs, answers=None):
    """Activations (stimulus, unit) of arcs, then those for the controls: `answers` by kind (unit,), else 0."""
    silent = np.zeros((KIND.size, arcs.shape[1]))
    for kind, answer in (answers or {}).items():
        silent[kind == KIND] = answer
    return np.concatenate([arcs, silent])
