"""Measure whether vision networks learn the same features, each number beside its null.

Examples
--------
Two layers with the same information in another basis:

>>> import numpy as np
>>> import universality
>>> rng = np.random.default_rng(0)
>>> x = rng.standard_normal((200, 5))
>>> rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
>>> round(universality.score("cka_linear_debiased", x, x @ rotation).value, 6)
1.0
>>> universality.score("unit_match_hungarian", x, x @ rotation).value < 0.9
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from universality.activations.in_hand import activations
    from universality.base.errors import UniversalityError
    from universality.circuits.expanded import expanded_weights
    from universality.features.tuning import align_tuning, tuning_statistics
    from universality.jobs.execute import run
    from universality.jobs.planning import plan
    from universality.models.editing import Edit, cache, editing
    from universality.models.weight_edits import edited_weights
    from universality.report import findings
    from universality.runs.provenance import provenance
    from universality.runs.run import Run, open_run
    from universality.runs.visualisations import visualise
    from universality.service.client import Client
    from universality.similarity import COMPARATORS, LinearCKAAccumulator, match_units, measures, score
    from universality.similarity.all_pairs import compare_all
    from universality.similarity.in_hand import compare

__all__ = [
    "COMPARATORS",
    "Client",
    "Edit",
    "LinearCKAAccumulator",
    "Run",
    "UniversalityError",
    "activations",
    "align_tuning",
    "cache",
    "compare",
    "compare_all",
    "edited_weights",
    "editing",
    "expanded_weights",
    "findings",
    "match_units",
    "measures",
    "open_run",
    "plan",
    "provenance",
    "run",
    "score",
    "tuning_statistics",
    "visualise",
]

# Jobs import Torch, Dask and the plotting packages, measures SciPy; the help of a command needs none of them.
_LATE = {
    "COMPARATORS": "similarity",
    "Client": "service.client",
    "Edit": "models.editing",
    "LinearCKAAccumulator": "similarity",
    "Run": "runs.run",
    "UniversalityError": "base.errors",
    "activations": "activations.in_hand",
    "align_tuning": "features.tuning",
    "cache": "models.editing",
    "compare": "similarity.in_hand",
    "compare_all": "similarity.all_pairs",
    "edited_weights": "models.weight_edits",
    "editing": "models.editing",
    "expanded_weights": "circuits.expanded",
    "findings": "report",
    "match_units": "similarity",
    "measures": "similarity",
    "open_run": "runs.run",
    "plan": "jobs.planning",
    "provenance": "runs.provenance",
    "run": "jobs.execute",
    "score": "similarity",
    "tuning_statistics": "features.tuning",
    "visualise": "runs.visualisations",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"universality.{_LATE[name]}"), name)
    raise AttributeError(f"module 'universality' has no attribute '{name}'")
