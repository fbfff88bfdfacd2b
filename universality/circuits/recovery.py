"""Whether one unit of the next tap carries a detector on, or many do together: a feature of one tap may be spread over the units of the next.

A detector's answers to natural images, as its network hands them on, are predicted from the next tap of its network: by a linear probe (ridge) over all units, and by the single unit that resembles it
most. Both are chosen on the fold that decides matches and scored on the other. Where the probe finds what no unit does, the feature is there as a direction.

References
----------
C. Olah et al., Zoom In, Distill 2020 (cars in superposition: a detector of cars is spread over the units of the next layer).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from universality.activations.layer import Layer
from universality.base.arrays import Array, Ints
from universality.base.intervals import percentile_interval
from universality.base.schema import Column, Table, as_table
from universality.features import answers
from universality.similarity import correlations, mixture

LEAST_DETECTORS = 3
"""Of a family, fewer of which have no row."""
DRAWS = 399
_R = "-1 to 1"
RECOVERY = Table(
    "recovery",
    "the detectors of one family in one layer of one network, found again in the next tap: by a linear probe over its units, and by its best unit",
    (
        Column("model", "string", "1", "card id", "network, trained"),
        Column("tap", "string", "1", "tap name", "the detectors' layer"),
        Column("next_tap", "string", "1", "tap name", "the next layer in depth of the job's taps"),
        Column("family", "string", "1", "name in FAMILIES", "family of detectors"),
        Column("n_detectors", "int", "1", ">= 3", "live detectors"),
        Column("n_units", "int", "1", ">= 1", "live units of the next layer"),
        Column("r_probe", "float", "1", _R, "held-out correlation of a detector with the linear probe, median"),
        Column("r_unit", "float", "1", _R, "held-out correlation of a detector with its best unit, median"),
        Column("r_haar", "float", "1", _R, "with the best direction of a random basis of the next layer, median"),
        Column("lost", "float", "1", "-2 to 2", "r_probe - r_unit, median over detectors: what no single unit carries on"),
        Column("lost_low", "float", "1", "-2 to 2", "lower end of its 95 % interval, over detectors (bootstrap)"),
        Column("lost_high", "float", "1", "-2 to 2", "upper end"),
        Column("lost_others", "float", "1", "-2 to 2", "mean over draws of as many live units of the layer that are no detectors of the family; NaN where there are fewer than 3"),
        Column("lost_others_low", "float", "1", "-2 to 2", "2.5 % quantile of the draws"),
        Column("lost_others_high", "float", "1", "-2 to 2", "97.5 % quantile"),
        Column("r_probe_untrained", "float", "1", _R, "the same units of the untrained twins, median, mean over seeds"),
        Column("r_unit_untrained", "float", "1", _R, "the same with the best unit"),
    ),
)  # fmt: skip


def recovery_rows(
    layers: Sequence[Layer], twins: Sequence[Sequence[Layer]], families: Sequence[str], seed: int
) -> pd.DataFrame:
    """Return the rows of ``recovery`` of one network.

    Parameters
    ----------
    layers : its layers, trained
    twins : for each untrained seed the same layers of the twin
    seed : of the draws
    """
    order = np.argsort([layer.ref.tap.relative_depth for layer in layers], kind="stable")
    rows = []
    for here, there in itertools.pairwise(order):
        source, target = layers[here].handed_on, layers[there].handed_on
        if not target.live.any():
            continue
        probe, unit, haar = _found(source, target), _best(source, target), _best(source, target.in_random(0, seed))
        lost = probe - unit
        known = [(twin[here].handed_on, twin[there].handed_on) for twin in twins]
        of_twins = [(_found(own, other), _best(own, other)) for own, other in known]
        for family in families:
            detector = answers.units(layers[here], family)["detector"].to_numpy(np.bool_)
            own, others = (np.flatnonzero(chosen & np.isfinite(lost)) for chosen in (detector, ~detector))
            if own.size < LEAST_DETECTORS:
                continue
            rng = np.random.default_rng([seed, int(here)])
            again = np.median(lost[rng.choice(own, (DRAWS, own.size))], axis=1)
            low, high = percentile_interval(again)
            rows.append({
                "model": source.ref.model, "tap": source.ref.tap.name, "next_tap": target.ref.tap.name, "family": family, "n_detectors": own.size,
                "n_units": int(target.live.sum()), "r_probe": np.median(probe[own]), "r_unit": np.median(unit[own]), "r_haar": np.median(haar[own]),
                "lost": np.median(lost[own]), "lost_low": low, "lost_high": high, **_of_others(lost, own, others, rng),
                "r_probe_untrained": _mean(of[own] for of, _ in of_twins), "r_unit_untrained": _mean(of[own] for _, of in of_twins),
            })  # fmt: skip
    return as_table(RECOVERY, pd.DataFrame(rows, columns=RECOVERY.names))


def _found(source: Layer, target: Layer) -> Array:
    """Return the held-out correlation of every unit with the best mixture of the target's units, (unit,); NaN of one that does not vary."""
    found, live = np.full(source.live.size, np.nan), source.live
    if live.any() and target.live.any():
        mixed = mixture.prepare(target.natural[:, target.live], target.fold == 0)
        found[live] = mixture.correlations(mixed, source.natural[:, live])
    return found


def _best(source: Layer, target: Layer) -> Array:
    """Return the held-out correlation of every unit with the target's unit that resembles it most on the deciding fold, (unit,)."""
    own, other = source.halves(), target.halves()
    found = np.full(source.live.size, np.nan)
    if own.live.size and other.live.size:
        best = correlations(own.decide, other.decide).argmax(axis=1)
        found[own.live] = (own.score * other.score[:, best]).sum(axis=0)
    return found


def _of_others(lost: Array, own: Ints, others: Ints, rng: np.random.Generator) -> dict[str, float]:
    if others.size < LEAST_DETECTORS:
        return dict.fromkeys(("lost_others", "lost_others_low", "lost_others_high"), float("nan"))
    drawn = np.median(lost[rng.choice(others, (DRAWS, own.size))], axis=1)
    low, high = percentile_interval(drawn)
    return {"lost_others": float(drawn.mean()), "lost_others_low": low, "lost_others_high": high}


def _mean(values: Iterable[Array]) -> float:
    medians = [np.median(of[np.isfinite(of)]) for of in values if np.isfinite(of).any()]
    return float(np.mean(medians)) if medians else float("nan")
