"""What a network loses without a unit or a family of detectors, beside as many random units of equal activity and of equal norm.

A unit is removed in three ways: by its map at another image (resample), by its mean, by zero. Zero alone says little: where 0 is far from all that a unit answers, anything would harm.
The random sets of a family have for each of its units one of the `NEAREST` units outside it that are most like it in mean activity; where the family is more than half of the layer, of all units: such sets hold
units of the family, and what it costs beyond them is a lower bound. *Equal norm* is the same sets, with the edit scaled to the norm of the
family's. A single unit is set beside the other single units nearest in activity, and nearest in the norm of the edit: these are measured anyway.

References
----------
A. Morcos et al., On the importance of single directions for generalization, ICLR 2018. B. Zhou et al., Revisiting the importance of individual units in CNNs via ablation, 2018 (damage within classes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from universality.base.arrays import Array, Ints
from universality.base.intervals import percentile_interval
from universality.causes.effects import costs, resamples
from universality.causes.passes import Answers, Passes
from universality.causes.plan import BASES, NEAREST, RANDOM_SETS, CausePlan
from universality.models.editing import exchanged

Rows = list[dict[str, object]]
EFFECTS = {"d_loss": "loss", "kl": "kl", "d_accuracy": "accuracy"}
"""Columns of ``ablations`` and the measures of `costs` that they hold."""


@dataclass(frozen=True)
class Removed:
    """What removing some units did.

    Attributes
    ----------
    cost : by measure, (image,)
    by_class : (class,) change of the accuracy; empty without classes
    change : (unit,) of the next tap, mean over images; None where none is read
    """

    cost: Mapping[str, Array]
    by_class: Array
    change: Array | None

    @property
    def means(self) -> dict[str, float]:
        """Mean over images, by measure."""
        return {name: float(values.mean()) for name, values in self.cost.items()}


class Ablation:
    """Units of one tap removed in one way.

    Parameters
    ----------
    passes : the network at its images
    labels : (image,) right answers
    classes : names; empty where the network's own answers count
    base : one of `BASES`
    """

    def __init__(self, passes: Passes, labels: Ints, classes: Sequence[str], base: str, seed: int) -> None:
        self.passes, self.labels, self.classes, self.base = passes, labels, tuple(classes), base
        self._instead = instead(passes.maps, base, seed)
        apart = (self._instead - passes.maps).double().square().sum((0, 2, 3)).numpy()
        self.norms = np.sqrt(apart)
        self.whole = float(passes.maps.double().square().sum().sqrt())

    def removed(self, units: Ints, scale: float = 1.0) -> Removed:
        """Return what removing units (k,) does; with a scale the change of their maps is so many times as large."""
        some = torch.from_numpy(units)
        values = self._instead[:, some]
        if scale != 1.0:
            now = self.passes.maps[:, some]
            values = now + scale * (values - now)
        return self.read(self.passes.with_units(units, values))

    def read(self, answers: Answers) -> Removed:
        """Return what answers cost."""
        cost = costs(self.passes.intact, answers, self.labels)
        by_class = np.array(
            [cost["accuracy"][self.labels == k].mean() for k in range(len(self.classes)) if (self.labels == k).any()]
        )
        return Removed(cost, by_class, None if answers.change is None else answers.change.mean(axis=0))

    def norm(self, units: Ints) -> float:
        """Return the norm of the edit, a share of the layer's own."""
        return float(np.sqrt(np.square(self.norms[units]).sum()) / self.whole) if self.whole else 0.0


def instead(maps: Tensor, base: str, seed: int) -> Tensor:
    """Return what stands for every unit that is removed: (image, unit, y, x)."""
    if base == "resample":
        return maps[torch.from_numpy(exchanged(len(maps), seed))]
    if base == "mean":
        return maps.double().mean((0, 2, 3)).to(maps.dtype)[None, :, None, None].expand_as(maps)
    return torch.zeros_like(maps)


def activity(maps: Tensor) -> Array:
    """Return the mean of every unit's absolute value over images and positions, (unit,), a.u."""
    return np.asarray(maps.double().abs().mean((0, 2, 3)).numpy())


def nearest(values: Array, unit: int, among: Ints) -> Ints:
    """Return the `NEAREST` of some units whose value is nearest that of a unit."""
    others = among[among != unit]
    return np.asarray(others[np.argsort(np.abs(values[others] - values[unit]), kind="stable")[:NEAREST]])


def random_sets(values: Array, units: Ints, seed: int) -> list[Ints]:
    """Return `RANDOM_SETS` sets of as many units outside a set, each of like value to one of it.

    A set of more than half of the layer has too few others: the sets then are of the whole layer, and hold units of its own. None where it is the whole layer.
    """
    every = np.arange(len(values))
    others = np.setdiff1d(every, units)
    if not others.size:
        return []
    if len(others) < len(units):
        others = every
    rng, found = np.random.default_rng([seed, len(units), int(units.sum())]), []
    for _ in range(RANDOM_SETS):
        left = others
        drawn = []
        for unit in rng.permutation(units):
            # The last one left may be the unit itself.
            alike = nearest(values, int(unit), left)
            drawn.append(int(rng.choice(alike if alike.size else left)))
            left = left[left != drawn[-1]]
        found.append(np.sort(np.array(drawn, dtype=np.int64)))
    return found


def shared(sets: Sequence[Ints], units: Ints) -> float:
    """Return how many of a set's units lie in a random one of `random_sets`, mean over these; NaN where there is none."""
    return float(np.mean([np.isin(some, units).sum() for some in sets])) if sets else float("nan")


def ablation_rows(
    passes: Passes, labels: Ints, classes: Sequence[str], families: Mapping[str, Ints], plan: CausePlan, common: Mapping[str, object]
) -> dict[str, Rows]:  # fmt: skip
    """Return the rows of ``ablations`` and ``ablation_classes`` of one tap.

    Parameters
    ----------
    families : by name, the detectors among the tap's units
    common : columns that are the same in all rows
    """
    weights, found = resamples(len(labels), plan.seed), {"ablations": [], "ablation_classes": []}  # type: ignore[var-annotated]
    values, every = activity(passes.maps), np.arange(passes.maps.shape[1])
    family_of = {int(unit): name for name, units in reversed(list(families.items())) for unit in units}
    for base in BASES:
        of = Ablation(passes, labels, classes, base, plan.seed)
        single = [of.removed(np.array([unit])) for unit in every]
        told = [
            ("unit", family_of.get(int(unit), ""), np.array([unit]), single[unit], [single[k] for k in nearest(values, int(unit), every)],
             [single[k] for k in nearest(of.norms, int(unit), every)], 0.0)
            for unit in every
        ]  # fmt: skip
        for name, units in families.items():
            sets = random_sets(values, units, plan.seed)
            alike = [of.removed(some) for some in sets]
            scaled = [of.removed(some, of.norm(units) / of.norm(some)) for some in sets if of.norm(some)]
            told.append(("family", name, units, of.removed(units), alike, scaled, shared(sets, units)))
        for what, family, units, removed, alike, scaled, own in told:
            row = {
                **common,
                "what": what,
                "family": family,
                "unit": int(units[0]) if what == "unit" else -1,
                "n_units": len(units),
                "base": base,
            }
            found["ablations"].append(row | {"n_random_own": own} | _row(of, units, removed, alike, scaled, weights))
            found["ablation_classes"] += [row | of_class for of_class in _by_class(of, removed, alike)]
    return found


def _row(
    of: Ablation, units: Ints, removed: Removed, alike: Sequence[Removed], scaled: Sequence[Removed], weights: Array
) -> dict[str, object]:
    row: dict[str, object] = {"n_images": len(of.labels), "edit_norm": of.norm(units), "n_random": len(alike)}
    for column, measure in EFFECTS.items():
        low, high = percentile_interval(weights @ removed.cost[measure])
        others, normed = (np.array([one.means[measure] for one in some]) for some in (alike, scaled))
        harmful = 0.05 if column == "d_accuracy" else 0.95
        row |= {
            column: removed.means[measure], f"{column}_low": low, f"{column}_high": high, f"{column}_random": _mean(others),
            f"{column}_random_95": float(np.quantile(others, harmful)) if others.size else float("nan"), f"{column}_norm": _mean(normed),
        }  # fmt: skip
    worst = int(removed.by_class.argmin()) if removed.by_class.size and removed.by_class.min() < 0 else -1
    change = removed.change
    known = change is not None and bool(np.isfinite(change).any())
    return row | {
        "accuracy": float((of.passes.intact.choice == of.labels).mean()),
        "class_hit": _present(of)[worst] if worst >= 0 else "", "d_accuracy_class": _worst(removed),
        "d_accuracy_class_random": _mean(np.array([_worst(one) for one in alike])),
        "next_tap": of.passes.read.name if of.passes.read is not None else "", "next_change": removed.means["next"],
        "next_change_random": _mean(np.array([one.means["next"] for one in alike])),
        "next_unit": int(np.nanargmax(change)) if change is not None and known else -1,
    }  # fmt: skip


def _worst(removed: Removed) -> float:
    return min(float(removed.by_class.min()), 0.0) if removed.by_class.size else float("nan")


def _present(of: Ablation) -> list[str]:
    return [name for k, name in enumerate(of.classes) if (of.labels == k).any()]


def _by_class(of: Ablation, removed: Removed, alike: Sequence[Removed]) -> Rows:
    right = of.passes.intact.choice == of.labels
    others = np.array([one.by_class for one in alike])
    rows: Rows = []
    for place, name in enumerate(_present(of)):
        here = of.labels == of.classes.index(name)
        rows.append({
            "class": name, "n_images": int(here.sum()), "accuracy": float(right[here].mean()), "d_accuracy": float(removed.by_class[place]),
            "d_accuracy_random": _mean(others[:, place]) if others.size else float("nan"),
            "d_accuracy_random_low": float(np.quantile(others[:, place], 0.05)) if others.size else float("nan"),
        })  # fmt: skip
    return rows


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")
