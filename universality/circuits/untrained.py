"""How often units of networks that were never trained are called the same circuit: untrained twins compared as if they were networks of their own.

- By match: units of two twins that are matched by their responses one to one.
- By angle: the units that are matched detectors in the trained networks, with the trained labels of targets and sources and the twins' weights.

The untrained null of the rule is missing here (a twin has no twin), so that the rate is no lower than that of the whole rule.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from universality.circuits.pairs import Ends, circuit_rows
from universality.circuits.plan import CircuitPlan
from universality.similarity.matching import correlations, hungarian

MOST_PAIRS = 48
"""Pairs of units by match of two twins; of more, some are drawn."""
ANY = "any_unit"


def twin_rows(a: Ends, b: Ends, detectors: pd.DataFrame, plan: CircuitPlan, seed: int) -> list[dict[str, object]]:
    """Return what `pairs.circuit_rows` measures of units of two untrained twins, one tap back; each row with its ``seed``.

    Parameters
    ----------
    detectors : rows of ``correspondence`` about the same layers of the trained networks
    seed : of both twins
    """
    by_match = circuit_rows(a, b, (), (), _matched(a, b, plan.seed), 1, plan, ways=("match",))
    both = detectors[detectors["detector_a"] & detectors["detector_b"]]
    by_angle = circuit_rows(a, b, (), (), both, 1, plan, ways=("angle",))
    return [row | {"seed": seed} for row in (*by_match, *by_angle)]


def _matched(a: Ends, b: Ends, seed: int) -> pd.DataFrame:
    """Return units of two layers matched one to one on the deciding half of the images, with r on the other half."""
    first, second = (of.targets.halves() for of in (a, b))
    if not first.live.size or not second.live.size:
        i = j = np.zeros(0, np.int64)
    else:
        i, j = hungarian(correlations(first.decide, second.decide)).T
    if len(i) > MOST_PAIRS:
        some = np.sort(np.random.default_rng([seed, 4]).choice(len(i), MOST_PAIRS, replace=False))
        i, j = i[some], j[some]
    return pd.DataFrame({
        "family": ANY, "method": "hungarian", "unit_a": first.live[i], "unit_b": second.live[j], "r_natural": (first.score[:, i] * second.score[:, j]).sum(axis=0),
        "verdict": "same_feature", "detector_a": False, "detector_b": False,
    })  # fmt: skip
