"""Find one unit in every other model of a run, whether or not it belongs to a known family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from universality import comparators, evidence
from universality.comparison import Halves, Layer, LayerRef, load_layer, rotations
from universality.detectors import FAMILIES
from universality.errors import RunError, did_you_mean
from universality.reading import references
from universality.runs import Run
from universality.spec import Job
from universality.tuning import align_tuning

COLUMNS = (
    "model", "tap", "depth", "unit", "r_match", "r_natural", "r_natural_low", "r_natural_high", "r_natural_haar",
    "r_natural_untrained", "rank_back", "p", "family", "r_tuning", "shift_deg", "detector",
)  # fmt: skip


def parse_unit(text: str) -> tuple[str, str, int]:
    """Return (model, tap, unit) of ``MODEL:TAP:INDEX``.

    Raises
    ------
    RunError
        The text has another form.

    Examples
    --------
    >>> parse_unit("pocket/vgg-focus-s0:features.13:7")
    ('pocket/vgg-focus-s0', 'features.13', 7)
    """
    model, _, rest = text.partition(":")
    tap, _, unit = rest.rpartition(":")  # the name of a tap may hold a colon: layer2.0.relu:1, features.13:pre
    if not (model and tap and unit.isdigit()):
        raise RunError(f"'{text}' names no unit, expected MODEL:TAP:INDEX such as pocket/vgg-focus-s0:features.13:7")
    return model, tap, int(unit)


def trace(run: Run, model: str, tap: str, unit: int) -> pd.DataFrame:
    """Return the unit's best partner at every tap of every other model of the run, with its evidence, the best first.

    The partner is chosen on one half of the natural images and scored on the other. Beside the score stand those of the best
    partners in a random basis (Haar) of that layer and in its untrained twin, chosen in the same way.

    Columns
    -------
    model, tap, depth, unit of the partner; r_match (inflated by the choice), r_natural with its 95 % interval,
    r_natural_haar, r_natural_untrained; rank_back (of the traced unit among all units of its layer, for the partner; 1 is
    best); p (images permuted, best of all units); and for the family of which the traced unit is a detector (of several, or of
    none, the first of the run): family, r_tuning and shift_deg of the two tuning curves, detector (whether the partner is one).

    Raises
    ------
    RunError
        The run has no such model, tap or unit, or the unit does not vary over both halves of the natural images.
    """
    refs = {(r.model, r.tap.name, r.seed): r for r in references(run)}
    start = _start(refs, run, model, tap)
    layer = load_layer(start)
    if unit >= layer.natural.shape[1] or not layer.live[unit]:
        raise RunError(
            f"unit {unit} of '{model}' at '{tap}' cannot be traced: the layer has units 0 to {layer.natural.shape[1] - 1}, and a "
            "unit has to vary over both halves of the natural images; choose another"
        )
    whole = layer.halves()
    place = int(np.flatnonzero(whole.live == unit)[0])
    others = [ref for ref in refs.values() if ref.model != model and ref.seed is None]
    family = next((name for name in layer.drawn if layer.units(name)["detector"].iloc[unit]), next(iter(layer.drawn)))
    rows = [_partner(layer, whole, place, ref, refs, run.job, family) for ref in others]
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


def _best(unit: Halves, other: Halves) -> tuple[int, float, float] | None:
    """Return the index of the best partner among live units, r where it was chosen and r where it is scored; None if none."""
    if other.live.size == 0:
        return None
    r = unit.decide[:, 0] @ other.decide
    best = int(r.argmax())
    return best, float(r[best]), float(unit.score[:, 0] @ other.score[:, best])


def _partner(
    layer: Layer,
    whole: Halves,
    place: int,
    ref: LayerRef,
    refs: dict[tuple[str, str, int | None], LayerRef],
    job: Job,
    family: str,
) -> dict[str, Any] | None:
    """Return the row of one layer for the live unit at `place` of the traced layer."""
    unit = Halves(whole.live[[place]], whole.decide[:, [place]], whole.score[:, [place]])
    other = load_layer(ref)
    units = other.halves()
    found = _best(unit, units)
    if found is None:
        return None
    best, r_match, r_natural = found
    nulls = job.nulls
    bases = (other.rotated(q) for q in rotations(other.natural.shape[1], nulls.haar_rotations, job.seed))
    twins = (load_layer(refs[ref.model, ref.tap.name, seed]) for seed in nulls.untrained_seeds)
    photographs, observed = layer.scored_photographs, np.array([r_natural])
    weights, count = evidence.bootstrap_weights(photographs, layer.places, job.comparison.bootstraps, job.seed)
    resampled = evidence.bootstrap_correlations(unit.score, units.score[:, [best]], photographs, weights)
    low, high = evidence.correlation_interval(observed, resampled, count)
    p = evidence.permutation_p(
        unit.score, units.score, observed, photographs, layer.places, job.comparison.permutations, job.seed
    )
    back = comparators.ranks(units.decide[:, [best]].T @ whole.decide, np.array([0]), np.array([place]))
    partner = int(units.live[best])
    return {
        "model": ref.model, "tap": ref.tap.name, "depth": ref.tap.relative_depth, "unit": partner, "r_match": r_match,
        "r_natural": r_natural, "r_natural_low": low[0], "r_natural_high": high[0],
        "r_natural_haar": _mean([_best(unit, base.halves()) for base in bases]),
        "r_natural_untrained": _mean([_best(unit, twin.halves()) for twin in twins]), "rank_back": int(back[0]),
        "p": p[0], **_tuning(family, layer, int(whole.live[place]), other, partner),
    }  # fmt: skip


def _mean(found: list[tuple[int, float, float] | None]) -> float:
    scores = [entry[2] for entry in found if entry is not None]
    return float(np.mean(scores)) if scores else float("nan")


def _tuning(family: str, layer: Layer, unit: int, other: Layer, partner: int) -> dict[str, Any]:
    """Return how the two units agree on the drawings of a family."""
    a, b = (np.maximum(side.responses(family).tuning[[u]], 0.0) for side, u in ((layer, unit), (other, partner)))
    align = align_tuning(a, b, layer.grids[family].angles_deg, FAMILIES[family].period_deg)
    detector = bool(other.units(family)["detector"].iloc[partner])
    return {
        "family": family, "r_tuning": align.r_tuning[0], "shift_deg": align.shift_deg[0], "detector": detector,
    }  # fmt: skip
