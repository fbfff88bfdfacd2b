"""The tasks of the stages that read weights, and of those that ask how features go on in the next tap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import pandas as pd

from universality.activations.layer import LayerRef
from universality.activations.network import Network
from universality.base import schema
from universality.base.schema import Table
from universality.circuits.motif_tables import LATER, MOTIF_TABLES
from universality.circuits.plan import TAPS_BACK, CircuitPlan
from universality.circuits.recovery import recovery_rows
from universality.circuits.tables import CIRCUITS, CIRCUITS_UNTRAINED, MEASURED, PROFILES
from universality.correspondence import resampling
from universality.jobs.recent import read_layer
from universality.jobs.tasks import Inputs, Keys, Tables, Task, pairs_of_layers, rows_of

GRADIENT_WORK = 0.06
"""What the mean gradient into one unit takes beside one network's linear weights."""

# circuits and profiles ----------------------------------------------------------------------------------------------


def circuit_tasks(inputs: Inputs, key_of: Keys) -> Iterator[Task]:
    """Yield the work of ``circuits``: a network's profiles, and the matched units of two networks."""
    plan = CircuitPlan(inputs.job.comparison.families, inputs.job.seed, inputs.job.circuits.weights)
    for model in inputs.models:
        causes = ["profiles", inputs.of_model(model), repr(plan)]
        yield Task(
            "circuits", {"": key_of(causes)}, f"wiring of families in {model}", profile_task, (*_of_network(inputs, model), plan),
            partial(_units_alone, model=model),
        )  # fmt: skip
    for a, b in inputs.job.compared():
        causes = [
            "circuits",
            inputs.of_model(a),
            inputs.of_model(b),
            repr(inputs.matching),
            inputs.job.matched_by(),
            repr(plan),
        ]
        yield Task(
            "circuits", {"": key_of(causes)}, f"circuits of {a} with {b}", circuit_task,
            (_of_network(inputs, a), _of_network(inputs, b), plan), _matched_units(a, b, inputs.job.matched_by()),
        )  # fmt: skip


def _of_network(inputs: Inputs, model: str) -> tuple[dict[int | None, Network], dict[int | None, list[LayerRef]]]:
    """Return a network and its untrained twins, by seed, and their layers."""
    return (
        {seed: inputs.networks[model, seed] for seed in inputs.seeds},
        {seed: inputs.layers_judged(model, seed) for seed in inputs.seeds},
    )


def _trained_units(tables: Tables, *models: str) -> pd.DataFrame:
    units = tables["units"]
    return units[units["model"].isin(models) & (units["seed"] == -1)]


def _units_alone(tables: Tables, model: str) -> tuple[pd.DataFrame]:
    return (_trained_units(tables, model),)


def _matched_units(a: str, b: str, method: str) -> Callable[[Tables], tuple[pd.DataFrame, pd.DataFrame]]:
    def late(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
        found = tables["correspondence"]
        found = found[(found["model_a"] == a) & (found["model_b"] == b) & (found["method"] == method)]
        return found[found["verdict"] != "unmatched"], _trained_units(tables, a, b)

    return late


def circuit_work(inputs: Inputs) -> float:
    """Count networks that are asked for weights, and pairs of layers whose units are compared; of gradients also the units into which they lead."""
    counted = len(inputs.models) * len(inputs.seeds) + sum(1 for _ in pairs_of_layers(inputs))
    if inputs.job.circuits.weights == "linear":
        return counted
    # Gradients into every unit of every tap but the first, at 32 images.
    units = sum(ref.width for model in inputs.models for ref in inputs.layers_judged(model, None)[1:])
    return counted + GRADIENT_WORK * units * len(inputs.seeds)


def profile_task(
    networks: Mapping[int | None, Network],
    layers: Mapping[int | None, Sequence[LayerRef]],
    plan: CircuitPlan,
    units: pd.DataFrame,
) -> Tables:
    """Return the rows of ``profiles`` of one network: every tap with the one before that it depends on."""
    from universality.circuits import families, reading  # SciPy's and Torch's part of them is not needed to plan

    rows = [schema.empty_table(PROFILES)]
    for target in layers[None]:
        if reading.labels(units, target):
            for source in reading.sources_of(networks[None], layers[None], target, plan.weights)[:1]:
                own, twins = reading.with_twins(networks, layers, source, target, units, read_layer, plan.weights)
                rows.append(families.profile_rows(own, twins, plan))
    return {"profiles": pd.concat(rows, ignore_index=True), **_measured([], [])}


def circuit_task(
    a: tuple[Mapping[int | None, Network], Mapping[int | None, Sequence[LayerRef]]],
    b: tuple[Mapping[int | None, Network], Mapping[int | None, Sequence[LayerRef]]],
    plan: CircuitPlan,
    matched: pd.DataFrame,
    units: pd.DataFrame,
) -> Tables:
    """Return the rows of ``circuits``, less q and verdict, of two networks: one and two taps before the units' own; and those of their untrained twins, one tap before."""
    from universality.circuits import pairs, reading, untrained

    def earlier(
        networks: Mapping[int | None, Network], layers: Mapping[int | None, Sequence[LayerRef]], tap: str
    ) -> tuple[LayerRef, list[LayerRef]]:
        (target,) = (ref for ref in layers[None] if ref.tap.name == tap)
        return target, reading.sources_of(networks[None], layers[None], target, plan.weights)[:TAPS_BACK]

    known = {
        (side, tap): earlier(*of, tap)
        for side, of in (("a", a), ("b", b))
        for tap in dict.fromkeys(matched[f"tap_{side}"])
    }
    found: list[dict[str, object]] = []
    for (tap_a, tap_b), rows in matched.groupby(["tap_a", "tap_b"], sort=False):
        (target_a, sources_a), (target_b, sources_b) = known["a", tap_a], known["b", tap_b]
        for back, (source_a, source_b) in enumerate(zip(sources_a, sources_b, strict=False), start=1):
            one, twins_a = reading.with_twins(*a, source_a, target_a, units, read_layer, plan.weights)
            other, twins_b = reading.with_twins(*b, source_b, target_b, units, read_layer, plan.weights)
            found += pairs.circuit_rows(one, other, twins_a, twins_b, rows, back, plan)
    of_twins: list[dict[str, object]] = []
    # One pair of layers: that with most matched units, of those whose taps have sources.
    known_sources = {key for key, (_, sources) in known.items() if sources}
    groups = [
        (tap_a, tap_b, rows)
        for (tap_a, tap_b), rows in matched.groupby(["tap_a", "tap_b"], sort=False)
        if {("a", tap_a), ("b", tap_b)} <= known_sources
    ]
    if groups:
        tap_a, tap_b, rows = max(groups, key=lambda group: len(group[2]))
        for seed in a[0]:
            if seed is not None and seed in b[0]:
                one, other = (
                    reading.twin(
                        *of, seed, known[side, tap][1][0], known[side, tap][0], units, read_layer, plan.weights
                    )
                    for side, of, tap in (("a", a, tap_a), ("b", b, tap_b))
                )
                of_twins += untrained.twin_rows(one, other, rows, plan, seed)
    return {"profiles": schema.empty_table(PROFILES), **_measured(found, of_twins)}


def _measured(rows: Sequence[Mapping[str, object]], of_twins: Sequence[Mapping[str, object]]) -> Tables:
    return {
        "circuits": _as_table(rows, CIRCUITS, MEASURED),
        "circuits_untrained": _as_table(
            of_twins,
            CIRCUITS_UNTRAINED,
            [name for name in CIRCUITS_UNTRAINED.names if name not in ("q", "same_circuit")],
        ),
    }


def _as_table(rows: Sequence[Mapping[str, object]], table: Table, columns: list[str]) -> pd.DataFrame:
    empty = schema.empty_table(table)[columns]
    return pd.concat([empty, pd.DataFrame(list(rows), columns=columns)], ignore_index=True) if rows else empty


def circuits_finished(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    """Return the tables of ``circuits`` with what follows from all rows: q, power, verdicts, and pairs of profiles."""
    from universality.circuits import families, pairs

    circuits, of_twins = (resampling.with_q(rows[name]) for name in ("circuits", "circuits_untrained"))
    circuits = circuits.assign(verdict=pairs.judged(circuits), power=pairs.power(circuits))
    of_twins = of_twins.assign(same_circuit=pairs.same_circuit(of_twins))
    layers = [column.name for column in schema.pair_columns()]
    compared = before["correspondence"][layers].drop_duplicates()
    return {
        "circuits": circuits[CIRCUITS.names], "circuits_untrained": of_twins[CIRCUITS_UNTRAINED.names], "profiles": rows["profiles"],
        "profile_pairs": families.profile_pair_rows(rows["profiles"], compared, inputs.job.seed),
    }  # fmt: skip


# motifs -------------------------------------------------------------------------------------------------------------


def motif_tasks(inputs: Inputs, key_of: Keys) -> Iterator[Task]:
    """Yield the work of ``motifs``, a network at a time."""
    plan = CircuitPlan(inputs.job.comparison.families, inputs.job.seed)
    for model in inputs.models:
        yield Task(
            "motifs", {"": key_of([inputs.of_model(model), repr(plan)])}, f"motifs of {model}", motif_task, (*_of_network(inputs, model), plan),
            partial(_units_alone, model=model),
        )  # fmt: skip


def motif_work(inputs: Inputs) -> float:
    """Count taps of trained networks: most of the time goes into gradients at natural images."""
    return sum(len(inputs.judged(model)) for model in inputs.models)


def motif_task(
    networks: Mapping[int | None, Network],
    layers: Mapping[int | None, Sequence[LayerRef]],
    plan: CircuitPlan,
    units: pd.DataFrame,
) -> Tables:
    """Return the rows of the tables of motifs of one network, less what follows from all of them: every tap with the one before, cases by the one before that."""
    from universality.circuits import motifs, reading
    from universality.circuits.case_gradients import Gradients

    found: dict[str, list[pd.DataFrame]] = {
        name: [schema.empty_table(table)[[column for column in table.names if column not in LATER[name]]]]
        for name, table in MOTIF_TABLES.items()
    }
    found["ratios"] = [pd.DataFrame(columns=motifs.RATIOS)]
    ask = Gradients(networks[None])
    for target in layers[None]:
        detectors = reading.labels(units, target)
        if not detectors:
            continue
        found["branches"].append(motifs.branch_table(read_layer(target), detectors, ask.branches(target.tap)))
        nearest = reading.sources_of(networks[None], layers[None], target)[:TAPS_BACK]
        if not nearest:
            continue
        own, twins = reading.with_twins(networks, layers, nearest[0], target, units, read_layer)
        for name, rows in motifs.weight_tables(own, twins, plan).items():
            found[name].append(rows)
        far = read_layer(nearest[-1]).handed_on
        found["cases"].append(motifs.case_table(far, own if len(nearest) > 1 else None, own, ask.at, plan))
    tables = {name: pd.concat(rows, ignore_index=True) for name, rows in found.items()}
    ratios = tables.pop("ratios")
    return tables | {"units_motifs": motifs.unit_table(units, ratios, tables["cases"])}


def motifs_finished(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    """Return the tables of ``motifs`` with what follows from all rows."""
    from universality.circuits import motifs

    return {name: motifs.finished(name, rows[name]) for name in MOTIF_TABLES}


# recovery -----------------------------------------------------------------------------------------------------------


def recovery_tasks(inputs: Inputs, key_of: Keys) -> Iterator[Task]:
    """Yield the work of ``recovery``, a network at a time."""
    for model in inputs.models:
        causes = [inputs.of_model(model), inputs.judged(model), inputs.job.comparison.families, inputs.job.seed]
        refs = [inputs.layers_judged(model, seed) for seed in inputs.seeds]
        yield Task(
            "recovery", {"": key_of(causes)}, f"detectors of {model}, found in the next tap", recovery_task,
            (refs[0], refs[1:], inputs.job.comparison.families, inputs.job.seed),
        )  # fmt: skip


def recovery_work(inputs: Inputs) -> float:
    """Count values of all layers, trained and untrained; a million are a unit."""
    rows = rows_of(inputs, "natural")
    return sum(
        1 + rows * ref.width / 1e6
        for model in inputs.models
        for seed in inputs.seeds
        for ref in inputs.layers_judged(model, seed)
    )


def recovery_task(
    layers: Sequence[LayerRef], twins: Sequence[Sequence[LayerRef]], families: Sequence[str], seed: int
) -> Tables:
    """Return the rows of ``recovery`` of one network."""
    of_twins = [[read_layer(ref) for ref in refs] for refs in twins]
    return {"recovery": recovery_rows([read_layer(ref) for ref in layers], of_twins, families, seed)}
