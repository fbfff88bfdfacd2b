"""The tasks of the stages about interventions: which networks, layers and tables each takes, and under which key its result is kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from universality.activations.network import Network
from universality.base import schema
from universality.base.schema import Table
from universality.causes.plan import CausePlan
from universality.causes.tables import ABLATION_CLASSES, ABLATIONS, ATTRIBUTIONS, PATCHES, TRANSPLANTS
from universality.jobs.tasks import Inputs, Keys, Tables, Task
from universality.models.card import Tap

if TYPE_CHECKING:
    from torch import Tensor


def plan_of(inputs: Inputs) -> CausePlan:
    """Return how many images are shown, which families, and the seed."""
    return CausePlan(inputs.job.interventions.images, inputs.job.comparison.families, inputs.job.seed)


def edited_taps(inputs: Inputs, model: str) -> list[Tap]:
    """Return the taps of a model whose units are edited, in forward order."""
    (entry,) = (entry for entry in inputs.job.models if entry.id == model)
    return [tap for tap in inputs.networks[model, None].taps if tap.name in entry.edited]


def count(inputs: Inputs) -> int:
    """Return how many layers are edited."""
    return sum(len(edited_taps(inputs, model)) for model in inputs.models)


def edited_pairs(inputs: Inputs) -> list[tuple[str, str]]:
    """Return the pairs of models that both have layers that are edited."""
    return [(a, b) for a, b in inputs.job.compared() if edited_taps(inputs, a) and edited_taps(inputs, b)]


def units_edited(inputs: Inputs) -> float:
    """Count the units of all layers that are edited, times images in thousands."""
    units = sum(tap.channels for model in inputs.models for tap in edited_taps(inputs, model))
    return units * inputs.job.interventions.images / 1000


def units_exchanged(inputs: Inputs) -> float:
    """Count the units of all pairs of layers that are exchanged, times images in thousands."""
    widths = [sum(tap.channels for one in pair for tap in edited_taps(inputs, one)) for pair in edited_pairs(inputs)]
    return sum(widths) * inputs.job.interventions.images / 1000


# one network --------------------------------------------------------------------------------------------------------


def layer_tasks(inputs: Inputs, stage: str, key_of: Keys, function: Callable[..., Tables]) -> Iterator[Task]:
    """Yield a task for each layer that is edited, of the stage ``ablations`` or ``patches``."""
    from universality.causes.labelled import content

    plan = plan_of(inputs)
    for model in inputs.models:
        network = inputs.networks[model, None]
        for tap in edited_taps(inputs, model):
            causes = [stage, inputs.of_model(model), tap.plain(), content(network, plan), repr(plan)]
            yield Task(
                stage, {"": key_of(causes)}, f"{stage} of {model}, {tap.name}", function, (network, tap, plan), _detectors_at(model, tap.name)
            )  # fmt: skip


def _detectors_at(model: str, tap: str) -> Callable[[Tables], tuple[Any, ...]]:
    """Return what finds the detectors of a layer: by family, the units."""
    return lambda tables: (_detectors(tables["units"], model, tap),)


def _detectors(units: pd.DataFrame, model: str, tap: str) -> dict[str, np.ndarray]:
    here = units[(units["model"] == model) & (units["tap"] == tap) & (units["seed"] == -1) & units["detector"]]
    return {
        str(family): np.sort(rows["unit"].to_numpy(np.int64)) for family, rows in here.groupby("family", sort=False)
    }


def ablation_task(network: Network, tap: Tap, plan: CausePlan, families: Mapping[str, np.ndarray]) -> Tables:
    """Return the rows of ``ablations``, ``ablation_classes`` and ``attributions`` of one layer."""
    from universality.causes import ablations, attributions
    from universality.causes.labelled import labelled

    shown = labelled(network, plan)
    passes = _passes(network, tap, shown.images)
    labels = passes.intact.choice if shown.labels is None else shown.labels
    common = _place(network, tap) | {"labels": shown.kind}
    found: dict[str, list[dict[str, object]]] = ablations.ablation_rows(
        passes, labels, shown.classes, families, plan, common
    )
    single = [row for row in found["ablations"] if row["what"] == "unit" and row["base"] == "resample"]
    fewer = slice(0, attributions.IMAGES)
    of = ablations.Ablation(
        _passes(network, tap, shown.images[fewer]), labels[fewer], shown.classes, "resample", plan.seed
    )
    found["attributions"] = attributions.attribution_rows(
        of, np.array([row["d_loss"] for row in single], dtype=float), plan, common
    )
    tables = {table.name: table for table in (ABLATIONS, ABLATION_CLASSES, ATTRIBUTIONS)}
    return {name: _table(table, found[name]) for name, table in tables.items()}


def patch_task(network: Network, tap: Tap, plan: CausePlan, families: Mapping[str, np.ndarray]) -> Tables:
    """Return the rows of ``patches`` of one layer."""
    from universality.causes import patches
    from universality.causes.labelled import kind_of

    common = _place(network, tap) | {"labels": kind_of(network)}
    return {"patches": _table(PATCHES, patches.patch_rows(network, network.load(), tap, families, plan, common))}


def _passes(network: Network, tap: Tap, images: np.ndarray) -> Any:
    """Return a network ready to be edited at a tap; the next tap of its card is read, if it lies behind."""
    from universality.base.errors import EarlierTapError
    from universality.causes.passes import Passes

    later = sorted(
        (of for of in network.card.taps if of.relative_depth > tap.relative_depth), key=lambda of: of.relative_depth
    )
    module = network.load()
    for read in later[:1]:
        try:
            return Passes(module, tap, read, images)
        except EarlierTapError:  # on another branch, deeper, and yet not behind it
            continue
    return Passes(module, tap, None, images)


def _place(network: Network, tap: Tap) -> dict[str, object]:
    return {"model": network.card.id, "tap": tap.name, "depth": tap.relative_depth}


def _table(table: Table, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    return schema.as_table(table, pd.DataFrame(list(rows), columns=table.names))


# pairs of networks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One network of a pair.

    Attributes
    ----------
    network : trained
    tap : where its units are edited
    twins : its untrained twins
    seeds : networks of its architecture from other seeds, each with the tap of that name
    copies : noisy copies
    """

    network: Network
    tap: Tap
    twins: tuple[Network, ...]
    seeds: tuple[Network, ...]
    copies: tuple[Network, ...]


def transplant_tasks(inputs: Inputs, key_of: Keys) -> Iterator[Task]:
    """Yield a task for each pair of networks and the layers of both that are edited."""
    from universality.causes.labelled import content

    plan, method = plan_of(inputs), inputs.job.matched_by()
    for a, b in edited_pairs(inputs):
        for tap_a, tap_b in itertools.product(edited_taps(inputs, a), edited_taps(inputs, b)):
            sides = _side(inputs, a, tap_a, b), _side(inputs, b, tap_b, a)
            causes = [
                "transplants", [inputs.of_model(model) for model in (a, b)], repr(inputs.matching), method, [tap_a.plain(), tap_b.plain()],
                [[inputs.of_model(of.card.id) for of in side.seeds] for side in sides], [[of.copy_r, of.weights] for side in sides for of in side.copies],
                [content(side.network, plan) for side in sides], repr(plan),
            ]  # fmt: skip
            label = f"units of {a}, {tap_a.name} and {b}, {tap_b.name} exchanged"
            late = _matched_at(a, tap_a.name, b, tap_b.name, method)
            yield Task("transplants", {"": key_of(causes)}, label, transplant_task, (*sides, plan), late)


def transplant_count(inputs: Inputs) -> int:
    """Return how many pairs of layers are exchanged."""
    return sum(len(edited_taps(inputs, a)) * len(edited_taps(inputs, b)) for a, b in edited_pairs(inputs))


def _side(inputs: Inputs, model: str, tap: Tap, other: str) -> Side:
    own = inputs.networks[model, None]
    seeds = [
        of
        for of in inputs.networks.values()
        if of.trained
        and of.card.id not in (model, other)
        and _same_but_seed(of, own)
        and tap.name in {t.name for t in of.taps}
    ]
    copies = [inputs.networks[model, r] for r in inputs.job.copies_of(model)[:1]]
    twins = [inputs.networks[model, seed] for seed in inputs.job.nulls.untrained_seeds]
    return Side(own, tap, tuple(twins), tuple(seeds), tuple(copies))


def _same_but_seed(x: Network, y: Network) -> bool:
    same = x.card.architecture_digest() == y.card.architecture_digest() and x.card.training_set == y.card.training_set
    return same and not x.card.untrained and not y.card.untrained


def _matched_at(a: str, tap_a: str, b: str, tap_b: str, method: str) -> Callable[[Tables], tuple[Any, ...]]:
    def late(tables: Tables) -> tuple[Any, ...]:
        found = tables["correspondence"]
        for column, value in (("model_a", a), ("model_b", b), ("tap_a", tap_a), ("tap_b", tap_b), ("method", method)):
            found = found[found[column] == value]
        return (found, _detectors(tables["units"], a, tap_a), _detectors(tables["units"], b, tap_b))

    return late


def transplant_task(
    a: Side,
    b: Side,
    plan: CausePlan,
    matched: pd.DataFrame,
    of_a: Mapping[str, np.ndarray],
    of_b: Mapping[str, np.ndarray],
) -> Tables:
    """Return the rows of ``transplants``, less the verdict, of two layers: units of each replaced by those of the other."""
    pair = {
        "model_a": a.network.card.id, "model_b": b.network.card.id, "tap_a": a.tap.name, "tap_b": b.tap.name, "depth_a": a.tap.relative_depth,
        "depth_b": b.tap.relative_depth,
    }  # fmt: skip
    rows: list[dict[str, object]] = []
    for into, own, other, families in (("a", a, b, of_a), ("b", b, a, of_b)):
        units = ("unit_a", "unit_b") if into == "a" else ("unit_b", "unit_a")
        for row in _into(own, other, plan, matched, units, families):
            here, there = row.pop("unit"), row.pop("partner")
            rows.append({**pair, "into": into, units[0]: here, units[1]: there, **row})
    from universality.causes.transplants import judged

    if not rows:
        return {"transplants": _table(TRANSPLANTS, [])}
    found = pd.DataFrame(rows)
    return {"transplants": schema.as_table(TRANSPLANTS, found.assign(verdict=judged(found))[TRANSPLANTS.names])}


def _into(
    own: Side, other: Side, plan: CausePlan, matched: pd.DataFrame, units: tuple[str, str], families: Mapping[str, np.ndarray]
) -> list[dict[str, object]]:  # fmt: skip
    """Return the rows of units of one layer that are replaced by those of the other.

    Parameters
    ----------
    units : columns of `matched` that hold the units that are replaced, and those of the other layer
    families : the detectors of the layer whose units are replaced
    """
    from universality.causes import transplants
    from universality.causes.labelled import labelled
    from universality.causes.passes import maps_at

    shown = labelled(own.network, plan)
    fit, test = transplants.halves(len(shown.images), plan.seed)
    seen = {own.network.card.preprocessing.digest(): shown.images}

    def maps(network: Network, tap: Tap) -> Tensor:
        key = network.card.preprocessing.digest()
        if key not in seen:
            seen[key] = labelled(network, plan, own.network).images
        return maps_at(network.load(), tap, seen[key])

    def here(network: Network) -> Tap:
        return next(tap for tap in network.taps if tap.name == own.tap.name)

    fitting = transplants.Fitting(maps(own.network, own.tap), fit, test)
    sources = transplants.Sources(
        maps(other.network, other.tap), [maps(of, other.tap) for of in other.twins], [maps(of, here(of)) for of in own.seeds],
        [maps(of, own.tap) for of in own.copies],
    )  # fmt: skip
    known = dict(zip(matched[units[0]].astype(int), matched[units[1]].astype(int), strict=True))
    partner = transplants.partners(fitting.correlations(fitting.sized(sources.of)), known)
    passes = _passes(own.network, own.tap, shown.images[test])
    labels = passes.intact.choice if shown.labels is None else shown.labels[test]
    sets = _sets(matched, units[0], families, partner)
    return transplants.Experiment(passes, fitting, sources, partner, labels, plan.seed).rows(sets, plan)


def _sets(matched: pd.DataFrame, column: str, families: Mapping[str, np.ndarray], partner: np.ndarray) -> list[Any]:
    """Return what is replaced: every unit of a matched pair, every family's detectors, and all units; of those that have a partner."""
    from universality.causes.transplants import Replaced

    having = np.flatnonzero(partner >= 0)
    if not having.size:
        return []
    found = [Replaced("layer", "", having)]
    for name, units in families.items():
        some = np.intersect1d(units, having)
        found += [Replaced("family", name, some)] if some.size else []
    for family, rows in matched[matched["verdict"] != "unmatched"].groupby("family", sort=False):
        found += [Replaced("unit", str(family), np.array([unit])) for unit in sorted(set(rows[column].astype(int)))]
    return found
