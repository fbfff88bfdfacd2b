"""Find one unit in every other model of a run, whether or not it belongs to a known family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import similarity
from universality.activations.layer import LayerRef, load_layer
from universality.activations.nulls import NullPlan
from universality.base.errors import RunError, did_you_mean
from universality.correspondence import resampling
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import Pair, matched_rows
from universality.runs.job import Job
from universality.runs.layers import references
from universality.runs.run import Run

COLUMNS = (
    "model", "tap", "depth", "unit", "r_match", "r_natural", "r_natural_low", "r_natural_high", "r_natural_haar",
    "r_natural_untrained", "excess_low", "rank_back", "p", "family", "r_tuning", "shift_deg", "detector", "verdict", "lacks",
)  # fmt: skip


def trace(run: Run, model: str, tap: str, unit: int) -> pd.DataFrame:
    """Return the unit's best partner at every tap of every other model of the run, with its evidence, the best first.

    The partner is chosen on one half of the natural images and scored on the other. Its evidence and its verdict are what the table
    ``correspondence`` says of a pair of these units.

    Columns
    -------
    model, tap, depth, unit of the partner; r_match (inflated by the choice), r_natural with its 95 % interval,
    r_natural_haar, r_natural_untrained, excess_low; rank_back (of the traced unit among all units of its layer, for the partner;
    1 is best); p; and for the family of which the traced unit is a detector (of several, or of none, the first of the run): family,
    r_tuning and shift_deg of the two tuning curves, detector (whether the partner is one), verdict, and lacks (what the pair has
    not to be the same feature).

    Raises
    ------
    RunError
        The run has no such model, tap or unit, or the unit does not vary over both halves of the natural images.
    """
    refs = {(r.model, r.tap.name, r.seed): r for r in references(run)}
    own = _contender(_start(refs, run, model, tap), refs, run.job)
    layer = own.layer
    if unit >= layer.natural.shape[1] or not layer.live[unit]:
        raise RunError(
            f"unit {unit} of '{model}' at '{tap}' cannot be traced: the layer has units 0 to {layer.natural.shape[1] - 1}, and a "
            "unit has to vary over both halves of the natural images; choose another"
        )
    place = int(np.flatnonzero(own.side.halves.live == unit)[0])
    others = [ref for ref in refs.values() if ref.model != model and ref.seed is None]
    families = own.plan.families
    family = next((name for name in families if own.tables[name]["detector"].iloc[unit]), families[0])
    rows = [_partner(own, place, _contender(ref, refs, run.job), family) for ref in others]
    table = pd.DataFrame([row for row in rows if row], columns=list(COLUMNS))
    return table.sort_values("r_natural", ascending=False, kind="stable").reset_index(drop=True)


def _start(refs: dict[tuple[str, str, int | None], LayerRef], run: Run, model: str, tap: str) -> LayerRef:
    if (model, tap, None) in refs:
        return refs[model, tap, None]
    models = sorted({name for name, _, _ in refs})
    if model not in models:
        raise RunError(f"run '{run.path}' has no model '{model}'{did_you_mean(model, models)}")
    taps = sorted({name for of, name, _ in refs if of == model})
    raise RunError(f"run '{run.path}' has no tap '{tap}' of '{model}'{did_you_mean(tap, taps)}")


def _contender(ref: LayerRef, refs: dict[tuple[str, str, int | None], LayerRef], job: Job) -> Contender:
    """Return a layer with the nulls of a job, of which only what a verdict asks for is computed."""
    nulls = NullPlan(job.nulls.haar_rotations, job.nulls.shuffles, job.seed)
    compared = job.comparison
    plan = MatchingPlan(
        compared.families, compared.matching, compared.bootstraps, compared.permutations, nulls, verdicts_only=True
    )
    twins = [load_layer(refs[ref.model, ref.tap.name, seed]) for seed in job.nulls.untrained_seeds]
    return Contender(load_layer(ref), twins, plan)


def _partner(own: Contender, place: int, other: Contender, family: str) -> dict[str, Any] | None:
    """Return the row of one layer for the live unit at `place` of the traced layer; None if no unit of it varies."""
    if not other.layer.live.any():
        return None
    r = similarity.correlations(own.side.halves.decide, other.side.halves.decide)
    pair = np.array([[place, r[place].argmax()]])
    row = matched_rows(family, Pair.several([(own, other, pair, r)])[0], pair).iloc[0].to_dict()
    kept = {name: row[name] for name in COLUMNS if name in row}
    ref = other.layer.ref
    return kept | {
        "model": ref.model, "tap": ref.tap.name, "depth": ref.tap.relative_depth, "unit": row["unit_b"],
        "rank_back": row["rank_ba"], "p": _p(own, other, pair), "family": family, "detector": row["detector_b"],
    }  # fmt: skip


def _p(own: Contender, other: Contender, pair: NDArray[np.int64]) -> float:
    """Return the permutation p of one pair: the larger of both sides'."""
    layer, plan = own.layer, own.plan
    x, y = own.side.halves.score, other.side.halves.score
    i, j = pair.T
    observed = resampling.paired(x[:, i], y[:, j])
    shown = layer.scored_photographs, layer.places, plan.permutations, plan.nulls.seed
    sides = (
        resampling.permutation_p(x[:, i], y, observed, *shown),
        resampling.permutation_p(y[:, j], x, observed, *shown),
    )
    return float(np.maximum(*sides)[0])
