"""The stages of a job after its activations: what each makes, from what, by which tasks.

A stage is a line in `STAGES`. Plans, keys, resuming, retries, progress, verification, reproduction, `runs clean`, the
report and the figures learn of it from there. `Stage.version` is raised when the stage's numbers change for equal inputs:
it is in the keys of its results and of those of every stage that needs it, so that only these are computed again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from universality.activations.dictionaries.tables import DICTIONARY_TABLES
from universality.activations.layer import LayerRef
from universality.activations.network import Network
from universality.activations.nulls import NullPlan
from universality.atlas.tables import tables_of
from universality.base import schema
from universality.base.errors import JobError, did_you_mean
from universality.base.spec import digest
from universality.causes.tables import ABLATION_CLASSES, ABLATIONS, ATTRIBUTIONS, CIRCUIT_AND_ROLE, PATCHES, TRANSPLANTS
from universality.circuits.motif_tables import MOTIF_TABLES
from universality.circuits.recovery import RECOVERY
from universality.circuits.tables import CIRCUIT_TABLES
from universality.correspondence import ceilings, layer_pairs, resampling
from universality.correspondence.census import RESAMPLES, Census, count_links
from universality.correspondence.search import Contender, MatchingPlan
from universality.correspondence.tables import family_rows, looked_at, rows_and_nulls, unit_rows
from universality.features.families import FAMILIES
from universality.features.tables import EXAMPLES, OWN, UNITS, own_name
from universality.jobs import circuits, interventions
from universality.jobs.recent import read_layer
from universality.jobs.stage import ASKED, NUMBERS, Stage
from universality.jobs.tasks import Inputs, Tables, Task, pairs_of_layers, rows_of
from universality.runs.provenance import package_versions
from universality.similarity.tables import similarity_rows
from universality.stimuli import whole


def _keys(stage: str) -> Callable[[Any], str]:
    """Return what makes a key of the causes of a result; versions and packages are one digest for all of a stage."""
    of = STAGES[stage]
    versions = [(needed.name, needed.version) for needed in lineage(of)]
    packages = {name: found for name, found in package_versions().items() if name in of.packages}
    common = digest([versions, packages])
    return lambda causes: digest([common, causes])[:32]


def lineage(stage: Stage) -> list[Stage]:
    """Return a stage and all that it needs, in the order of the table."""
    wanted = {stage.name}
    for of in reversed(STAGES.values()):
        if of.name in wanted:
            wanted |= set(of.needs)
    return [of for of in STAGES.values() if of.name in wanted]


def chosen(
    only: Iterable[str] | None = None, without: Iterable[str] = (), lacking: Collection[str] = ()
) -> list[Stage]:
    """Return the stages that a job runs, in the order of the table.

    Parameters
    ----------
    only : names, optional
        These and what they need; all when left out.
    without : names
        Left out, and whatever needs them with them.
    lacking : names
        What the job has not (`lacks`); stages that ask for it are left out.

    Raises
    ------
    JobError
        A name is unknown, one that is asked for needs what the job has not, or nothing is left.
    """
    only, without = None if only is None else list(only), list(without)
    for name in (*(only or ()), *without):
        if name not in STAGES:
            raise JobError(f"unknown stage '{name}'{did_you_mean(name, STAGES)}")
    for name in only or ():
        for asked in STAGES[name].asks:
            if asked in lacking:
                raise JobError(f"stage '{name}' {ASKED[asked].sentence}")
    offered = [name for name, stage in STAGES.items() if not set(stage.asks) & set(lacking)]
    wanted = {s.name for name in (offered if only is None else only) for s in lineage(STAGES[name])}
    left = [stage for name, stage in STAGES.items() if name in wanted and not _needs_any(stage, without)]
    lost = [name for name in only or () if _needs_any(STAGES[name], without)]
    if lost:
        raise JobError(
            f"stage '{lost[0]}' is asked for and needs one that is left out ({', '.join(without)}); drop one of the two"
        )
    if not left:
        raise JobError(f"no stage is left without {', '.join(without)}; leave out fewer of {', '.join(STAGES)}")
    return left


def _needs_any(stage: Stage, names: Sequence[str]) -> bool:
    return any(of.name in names for of in lineage(stage))


def _variants(inputs: Inputs) -> int:
    """Return how often a layer is seen: trained, as untrained twins, rotated and shuffled."""
    return len(inputs.seeds) + inputs.job.nulls.haar_rotations + inputs.job.nulls.shuffles


# dictionaries -------------------------------------------------------------------------------------------------------


def _dictionary_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("dictionaries")
    for model in inputs.models:
        for seed in inputs.seeds:
            for place, ref in enumerate(inputs.layers[model, seed]):
                causes = [inputs.identity(model, place, seed, ()), inputs.job.dictionary.plain()]
                twin = "" if seed is None else f" (untrained, seed {seed})"
                label = f"dictionary of {model}{twin}, {ref.tap.name}"
                yield Task("dictionaries", {"": key_of(causes)}, label, dictionary_task, (ref,))


def _dictionary_work(inputs: Inputs) -> float:
    """Count products of a position with a direction, over all seeds and the random dictionaries beside them; 10^11 are a unit."""
    refs = [ref for model in inputs.models for seed in inputs.seeds for ref in inputs.layers[model, seed]]
    chosen = inputs.job.dictionary
    return sum(
        2 * len(chosen.seeds) * chosen.steps * chosen.batch * ref.width * ref.tap.channels / 1e11 for ref in refs
    )


def dictionary_task(layer: LayerRef) -> Tables:
    """Return the rows of ``dictionaries`` and ``directions`` of one layer; its dictionaries are kept for all stages."""
    from universality.activations.dictionaries.tables import dictionary_rows  # SciPy's part is not needed to plan

    return dictionary_rows(layer)


# families -----------------------------------------------------------------------------------------------------------


def _family_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("families")
    for model in inputs.models:
        for place in inputs.judged(model):
            layer = inputs.layers[model, None][place]
            twins = [layers[place] for layers in inputs.twins(model)]
            keys = {
                family: key_of([family, inputs.of_layer(model, place, (family,)), repr(inputs.nulls)])
                for family in inputs.job.comparison.families
            }
            yield Task(
                "families", keys, f"families of {model}, {layer.tap.name}", family_task, (layer, twins, inputs.nulls)
            )


def _family_work(inputs: Inputs) -> float:
    """Count each family at each layer, and the values of its images there; two million take as long as what is done once.

    Beside what others see, a layer is seen in random bases of its standardised units, and its twins as sparse as it is.
    """
    seen = _variants(inputs) + inputs.job.nulls.haar_rotations + len(inputs.seeds) - 1
    units = [ref.width for model in inputs.models for ref in inputs.layers_judged(model, None)]
    rows = [rows_of(inputs, "natural", *FAMILIES[family].sets) for family in inputs.job.comparison.families]
    return sum(1 + n * u * seen / 2e6 for n, u in itertools.product(rows, units))


def family_task(
    layer: LayerRef, twins: Sequence[LayerRef], nulls: NullPlan, families: Sequence[str]
) -> dict[str, Tables]:
    """Return the rows of ``families``, ``units`` and the family's own table for one layer, by family."""
    trained, untrained = read_layer(layer), [read_layer(twin) for twin in twins]
    found = {}
    for family in families:
        rows = zip(*(unit_rows(family, x) for x in (trained, *untrained)), strict=True)
        common, own = (pd.concat(of_layers, ignore_index=True) for of_layers in rows)
        found[family] = {
            "families": family_rows(family, trained, untrained, nulls), "units": common, own_name(family): own,
        }  # fmt: skip
    return found


def _layer_by_layer(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    """Return the rows family after family within each layer, twins after the trained network."""
    orders: dict[str, Sequence[object] | None] = {"model": inputs.models, "tap": None}
    families = {"family": [name for name in FAMILIES if name in inputs.job.comparison.families]}
    seeds = {"seed": [-1, *inputs.job.nulls.untrained_seeds]}
    return {
        "families": _ordered(rows["families"], orders | families),
        "units": _ordered(rows["units"], orders | seeds | families),
    } | {name: _ordered(rows[name], orders | seeds) for name in map(own_name, families["family"])}


def _ordered(table: pd.DataFrame, orders: Mapping[str, Sequence[object] | None]) -> pd.DataFrame:
    """Return a table's rows by the places of their values in `orders`; None for the order in which values come."""
    place = np.zeros(len(table), dtype=np.int64)
    for column, order in orders.items():
        values = table[column].astype("object")
        known = list(dict.fromkeys(values)) if order is None else list(order)
        place = place * max(len(known), 1) + pd.Categorical(values, known).codes
    return table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


# similarity ---------------------------------------------------------------------------------------------------------


def _similarity_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("similarity")
    # All taps of two networks and all measures share a task: reading the layers would cost more than comparing them.
    for a, b in inputs.job.compared():
        networks = [inputs.of_model(model, ()) for model in (a, b)]
        keys = {measure: key_of([networks, measure, repr(inputs.nulls)]) for measure in inputs.job.comparison.measures}
        arguments = inputs.layers[a, None], inputs.layers[b, None], inputs.twins(a), inputs.twins(b), inputs.nulls
        yield Task("similarity", keys, f"similarity of {a} with {b}", similarity_task, arguments)


def _similarity_work(inputs: Inputs) -> float:
    """Count each measure on each pair of layers, and the values of both; 250,000 take as long as what is done once."""
    values = rows_of(inputs, "natural") * _variants(inputs)
    return len(inputs.job.comparison.measures) * sum(1 + values * (p + q) / 2.5e5 for p, q in pairs_of_layers(inputs))


def similarity_task(
    a: Sequence[LayerRef],
    b: Sequence[LayerRef],
    twins_a: Sequence[Sequence[LayerRef]],
    twins_b: Sequence[Sequence[LayerRef]],
    nulls: NullPlan,
    measures: Sequence[str],
) -> dict[str, Tables]:
    """Return the rows of ``similarity`` for all pairs of taps of two networks, by measure."""
    # Layers are compared as networks hand them on, units by what they are before a nonlinearity clips them.
    first, second = ([read_layer(ref).handed_on for ref in refs] for refs in (a, b))
    of_a, of_b = ([[read_layer(ref).handed_on for ref in refs] for refs in twins] for twins in (twins_a, twins_b))
    rows = similarity_rows(first, second, of_a, of_b, measures, nulls)
    of = {str(measure): part.reset_index(drop=True) for measure, part in rows.groupby("measure", sort=False)}
    return {measure: {"similarity": of.get(measure, rows.head(0))} for measure in measures}


def _measure_by_measure(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    """Return the rows measure after measure within each pair of layers."""
    orders: dict[str, Sequence[object] | None] = {
        "model_a": inputs.models, "model_b": inputs.models, "tap_a": None, "tap_b": None,
        "measure": inputs.job.comparison.measures,
    }  # fmt: skip
    return {"similarity": _ordered(rows["similarity"], orders)}


# correspondence -----------------------------------------------------------------------------------------------------


def _correspondence_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("correspondence")
    for a, b in inputs.job.compared():
        others = (
            inputs.layers_judged(b, None),
            [inputs.layers_judged(b, seed) for seed in inputs.job.nulls.untrained_seeds],
        )
        for place in inputs.judged(a):
            layer = inputs.layers[a, None][place]
            causes = [inputs.of_layer(a, place), inputs.of_model(b), repr(inputs.matching)]
            twins = [layers[place] for layers in inputs.twins(a)]
            arguments = layer, others[0], twins, others[1], inputs.matching
            label = f"correspondence of {a}, {layer.tap.name} with {b}"
            yield Task("correspondence", {"": key_of(causes)}, label, correspondence_task, arguments)


def _correspondence_work(inputs: Inputs) -> float:
    """Count each family and method of matching on each pair of layers; correlating large layers takes longer."""
    times = len(inputs.job.comparison.families) * len(inputs.job.comparison.matching)
    return times * sum(1 + rows_of(inputs, "natural") * p * q / 1e9 for p, q in pairs_of_layers(inputs))


def correspondence_task(
    a: LayerRef,
    b: Sequence[LayerRef],
    twins_a: Sequence[LayerRef],
    twins_b: Sequence[Sequence[LayerRef]],
    matching: MatchingPlan,
) -> Tables:
    """Return the rows of ``correspondence`` and of its nulls for one layer of a network with all layers of another.

    `twins_a` holds the layer of each untrained twin, `twins_b` for each untrained seed the same layers of the twin.
    """

    def contender(ref: LayerRef, twins: Sequence[LayerRef]) -> Contender:
        return Contender(read_layer(ref), [read_layer(twin) for twin in twins], matching)

    others = (contender(ref, [twins[place] for twins in twins_b]) for place, ref in enumerate(b))
    parts = zip(*rows_and_nulls(contender(a, twins_a), others), strict=True)
    names = "correspondence", "correspondence_nulls"
    return {name: pd.concat(tables, ignore_index=True) for name, tables in zip(names, parts, strict=True)}


def _with_q(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    # The false discovery rate is that of all taps of a pair of models together: no single task sees them.
    return {name: resampling.with_q(table) for name, table in rows.items()}


# pairs --------------------------------------------------------------------------------------------------------------


def _pairs(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    return {
        "pairs": layer_pairs.pair_rows(
            before["families"], before["correspondence"], before["correspondence_nulls"], before["similarity"],
            inputs.job.comparison.matching,
        )
    }  # fmt: skip


# ceilings -----------------------------------------------------------------------------------------------------------


def _ceiling_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("ceilings")
    for model in inputs.copied:
        for place in inputs.judged(model):
            layer = inputs.layers[model, None][place]
            copies = [inputs.layers[model, r][place] for r in inputs.job.copies_of(model)]
            causes = [inputs.identity(model, place, variant) for variant in (None, *inputs.job.copies_of(model))]
            yield Task(
                "ceilings", {"": key_of([causes, repr(inputs.matching)])}, f"ceilings of {model}, {layer.tap.name}", ceiling_task,
                (layer, copies, inputs.matching),
            )  # fmt: skip


def _ceiling_work(inputs: Inputs) -> float:
    """Count copies of layers; correlating large ones takes longer."""
    rows, refs = (
        rows_of(inputs, "natural"),
        (ref for model in inputs.copied for ref in inputs.layers_judged(model, None)),
    )
    return len(inputs.job.nulls.noisy_copies) * sum(1 + rows * ref.width**2 / 1e9 for ref in refs)


def ceiling_task(layer: LayerRef, copies: Sequence[LayerRef], matching: MatchingPlan) -> Tables:
    """Return the rows of ``ceilings`` for one layer."""
    brief = replace(matching, verdicts_only=True)
    own = Contender(read_layer(layer), (), brief)
    rows = [ceilings.ceiling_rows(own, Contender(read_layer(ref), (), brief)) for ref in copies]
    return {"ceilings": pd.concat([schema.empty_table(schema.CEILINGS), *rows], ignore_index=True)}


# natural ------------------------------------------------------------------------------------------------------------


def _natural_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("natural")
    for network in inputs.uncopied:
        model, seed = network.card.id, network.seed
        layers = list(inputs.layers[model, seed])
        causes = [[inputs.identity(model, place, seed) for place in range(len(layers))], inputs.job.seed]
        yield Task(
            "natural", {"": key_of(causes)}, f"turned natural images shown to {network.label}", natural_task,
            (network, layers, inputs.job.seed), _units_of(model, seed),
        )  # fmt: skip


def _units_of(model: str, seed: int | None) -> Callable[[Tables], tuple[pd.DataFrame]]:
    def late(tables: Tables) -> tuple[pd.DataFrame]:
        units = tables["units"]
        return (units[(units["model"] == model) & (units["seed"] == (-1 if seed is None else seed))],)

    return late


def _natural_work(inputs: Inputs) -> float:
    """Count megapixels: the images that excite detectors most are as many for each family at each tap of a network."""
    families = len(inputs.job.comparison.families)
    return sum(families * len(n.taps) * n.card.preprocessing.pixels / 1e6 for n in inputs.uncopied)


def natural_task(network: Network, layers: Sequence[LayerRef], seed: int, units: pd.DataFrame) -> Tables:
    """Return the rows of ``joint`` for one network."""
    from universality.features import natural_tuning  # with Torch: only this stage shows images again

    of = {ref.tap.name: ref for ref in layers}
    return {"joint": natural_tuning.natural_rows(network, units, seed, lambda tap: read_layer(of[tap.name]))}


# examples -----------------------------------------------------------------------------------------------------------


def _example_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("examples")
    # Which units are detectors or matched depends on all networks; what a network answers is kept under its own key.
    matched = [inputs.of_model(model) for model in inputs.models], inputs.job.compared(), repr(inputs.matching)
    for model in inputs.models:
        network, layers = inputs.networks[model, None], list(inputs.layers[model, None])
        causes = [model, matched, whole.content(network.stimuli.natural), inputs.job.seed]
        yield Task(
            "examples", {"": key_of(causes)}, f"whole pictures shown to {model}", example_task,
            (network, layers, inputs.job.seed), _shown_units(model),
        )  # fmt: skip


def _shown_units(model: str) -> Callable[[Tables], tuple[dict[str, list[int]]]]:
    """Return what finds the units of a model that are shown, by tap: its detectors and its matched units."""

    def late(tables: Tables) -> tuple[dict[str, list[int]]]:
        found = looked_at(tables["units"], tables["correspondence"])
        found = found[found["model"] == model]
        return ({str(tap): sorted(int(unit) for unit in rows["unit"]) for tap, rows in found.groupby("tap")},)

    return late


def _example_work(inputs: Inputs) -> float:
    """Count megapixels: every network is shown the same pictures."""
    shown = len(whole.pictures(inputs.job.stimuli.natural))
    networks = [inputs.networks[model, None] for model in inputs.models]
    return sum(shown * max(t.relative_depth for t in n.taps) * n.card.preprocessing.pixels / 1e6 for n in networks)


def example_task(network: Network, layers: Sequence[LayerRef], seed: int, units: Mapping[str, Sequence[int]]) -> Tables:
    """Return the rows of ``examples`` for one network; what its units answer to whole pictures is kept for all of them."""
    from universality.features import examples  # with Torch: only this stage and `natural` show images again

    of = [ref for ref in layers if ref.tap.name in units]
    looked = examples.maxima(network, of, seed, read_layer) if of else {}
    rows = [schema.empty_table(EXAMPLES)]
    for ref in of:
        scale = read_layer(ref).natural.std(axis=0)
        rows.append(examples.example_rows(network, ref.tap, looked[ref.tap.name].units, units[ref.tap.name], scale))
        key = examples.key_of(network, ref, seed)
        examples.Thumbnails(ref.store_root, key, network.stimuli.natural).of(rows[-1])
    return {"examples": pd.concat(rows, ignore_index=True)}


# circuits -----------------------------------------------------------------------------------------------------------


def _circuit_tasks(inputs: Inputs) -> Iterator[Task]:
    return circuits.circuit_tasks(inputs, _keys("circuits"))


def _motif_tasks(inputs: Inputs) -> Iterator[Task]:
    return circuits.motif_tasks(inputs, _keys("motifs"))


def _recovery_tasks(inputs: Inputs) -> Iterator[Task]:
    return circuits.recovery_tasks(inputs, _keys("recovery"))


# interventions ------------------------------------------------------------------------------------------------------


def _ablation_tasks(inputs: Inputs) -> Iterator[Task]:
    return interventions.layer_tasks(inputs, "ablations", _keys("ablations"), interventions.ablation_task)


def _patch_tasks(inputs: Inputs) -> Iterator[Task]:
    return interventions.layer_tasks(inputs, "patches", _keys("patches"), interventions.patch_task)


def _transplant_tasks(inputs: Inputs) -> Iterator[Task]:
    return interventions.transplant_tasks(inputs, _keys("transplants"))


def _roles(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    from universality.causes.roles import role_rows

    return {"circuit_and_role": role_rows(before["transplants"], before["circuits"], inputs.job.seed)}


# atlas --------------------------------------------------------------------------------------------------------------


def _census_tasks(inputs: Inputs) -> Iterator[Task]:
    key_of = _keys("atlas")
    for seed in inputs.seeds:
        layers = [ref for model in inputs.models for ref in inputs.layers_judged(model, seed)]
        causes = [
            [[inputs.identity(model, place, seed) for place in inputs.judged(model)] for model in inputs.models],
            inputs.job.compared(), inputs.job.comparison.families, inputs.job.seed, inputs.job.nulls.haar_rotations,
        ]  # fmt: skip
        label = "trained networks" if seed is None else f"untrained twins of seed {seed}"
        arguments = (
            layers, inputs.job.compared(), inputs.job.comparison.families, inputs.job.seed, inputs.job.nulls.haar_rotations,
        )  # fmt: skip
        yield Task("atlas", {"": key_of(causes)}, f"links between {label}", census_task, arguments)


def _census_work(inputs: Inputs) -> float:
    """Count layers and pairs of them, of trained networks and of twins; correlating large layers takes longer."""
    rows, layers = rows_of(inputs, "natural"), sum(len(inputs.judged(model)) for model in inputs.models)
    of_pairs = sum(1 + rows * p * q * RESAMPLES / 1e9 for p, q in pairs_of_layers(inputs))
    return len(inputs.seeds) * (layers + of_pairs)


def census_task(
    layers: Sequence[LayerRef],
    compared: Sequence[tuple[str, str]],
    families: Sequence[str],
    seed: int,
    haar_rotations: int,
) -> Tables:
    """Return the units of all networks of one kind and every link between them, as tables."""
    counted = count_links([read_layer(ref) for ref in layers], compared, families, seed, haar_rotations=haar_rotations)
    edges = counted.edges.assign(rematched=list(counted.rematched), kept=list(counted.kept))
    return {"census_units": counted.units, "census_edges": edges}


def _atlas(inputs: Inputs, rows: Tables, before: Tables) -> Tables:
    edges = rows["census_edges"]
    # Of no edges the table does not say how many resamples there were.
    marks = [
        np.array(list(edges[name]), dtype=np.bool_).reshape(len(edges), RESAMPLES) for name in ("rematched", "kept")
    ]
    counted = Census(rows["census_units"], edges.drop(columns=["rematched", "kept"]), *marks)
    return tables_of(SimpleNamespace(**before), counted)


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "dictionaries", "dictionaries in which layers are seen, and their directions", tuple(DICTIONARY_TABLES.values()), 1, _dictionary_work,
            _dictionary_tasks, lambda inputs: sum(len(inputs.layers[model, seed]) for model in inputs.models for seed in inputs.seeds),
            packages=("torch", "scikit-learn", *NUMBERS), asks=("dictionaries",),
        ),
        Stage(
            "families", "detectors of each family in every layer", (schema.FAMILIES, UNITS, *OWN.values()), 4, _family_work,
            _family_tasks, lambda inputs: sum(len(inputs.judged(model)) for model in inputs.models), _layer_by_layer,
            figures={"detectors_against_depth": "family", "tuning_family": "family"},
        ),
        Stage(
            "similarity", "measures between layers", (schema.SIMILARITY,), 2, _similarity_work,
            _similarity_tasks, lambda inputs: len(inputs.job.compared()), _measure_by_measure,
            packages=("POT", "scikit-learn", *NUMBERS), figures={"similarity": "pair"}, asks=(),
        ),
        Stage(
            "correspondence", "matched units", (schema.CORRESPONDENCE, schema.CORRESPONDENCE_NULLS), 4, _correspondence_work,
            _correspondence_tasks, lambda inputs: sum(len(inputs.judged(a)) for a, _ in inputs.job.compared()), _with_q,
            packages=("POT", *NUMBERS),
        ),
        Stage(
            "pairs", "what pairs of layers share", (schema.PAIRS,), 3, lambda inputs: sum(1 for _ in pairs_of_layers(inputs)), finished=_pairs,
            needs=("families", "similarity", "correspondence"), figures={"matched_pairs": "family and pair", "matches_and_nulls": "family and pair"},
        ),
        Stage(
            "ceilings", "what a network shares with noisy copies of itself", (schema.CEILINGS,), 3, _ceiling_work, _ceiling_tasks,
            lambda inputs: sum(len(inputs.judged(model)) for model in inputs.copied), asks=("families", "copies"),
        ),
        Stage(
            "natural", "preferences on turned natural images", (schema.JOINT,), 1, _natural_work,
            _natural_tasks, lambda inputs: len(inputs.uncopied), needs=("families",), waits=True,
            packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS),
        ),
        Stage(
            "examples", "parts of whole pictures that detectors and matched units answer to", (EXAMPLES,), 1, _example_work,
            _example_tasks, lambda inputs: len(inputs.models), needs=("families", "correspondence"), waits=True,
            packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS),
        ),
        Stage(
            "circuits", "incoming weights of matched units, and how families are wired", tuple(CIRCUIT_TABLES.values()), 2, circuits.circuit_work,
            _circuit_tasks, lambda inputs: len(inputs.models) + len(inputs.job.compared()), circuits.circuits_finished, needs=("families", "correspondence"),
            waits=True, packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS),
            figures={"wiring_profiles": "family", "circuits_and_nulls": "family"},
        ),
        Stage(
            "recovery", "detectors found again in the next tap, by one unit and by all", (RECOVERY,), 1, circuits.recovery_work, _recovery_tasks,
            lambda inputs: len(inputs.models), packages=("scikit-learn", *NUMBERS),
        ),
        Stage(
            "motifs", "what families and single detectors take from where, and their cases", tuple(MOTIF_TABLES.values()), 2, circuits.motif_work,
            _motif_tasks, lambda inputs: len(inputs.models), circuits.motifs_finished, needs=("families", "correspondence"),
            waits=True, packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS), asks=("families", "units"),
            figures={"field_layouts": "family", "equivariance_matrices": "family", "unit_circuits": "family", "matched_weights": "family and pair"},
        ),
        Stage(
            "ablations", "what networks lose without units and families", (ABLATIONS, ABLATION_CLASSES, ATTRIBUTIONS), 2,
            interventions.units_edited, _ablation_tasks, interventions.count, needs=("families",), waits=True,
            packages=("torch", "torchvision", "timm", "scikit-image", "scikit-learn", *NUMBERS), asks=("families", "units", "edits"), figures={"ablation_by_class": "family"},
        ),
        Stage(
            "patches", "units that restore the answer to a changed image", (PATCHES,), 2, interventions.units_edited, _patch_tasks,
            interventions.count, needs=("families",), waits=True, packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS), asks=("families", "units", "edits"),
        ),
        Stage(
            "transplants", "matched units put in one another's place", (TRANSPLANTS,), 1, interventions.units_exchanged, _transplant_tasks,
            interventions.transplant_count, needs=("families", "correspondence"), waits=True,
            packages=("torch", "torchvision", "timm", "scikit-image", *NUMBERS), asks=("families", "units", "edits"), figures={"transplants_and_nulls": "family"},
        ),
        Stage(
            "roles", "whether units with alike weights have the same role", (CIRCUIT_AND_ROLE,), 1,
            lambda inputs: interventions.transplant_count(inputs), finished=_roles, needs=("circuits", "transplants"), asks=("families", "units", "edits"),
        ),
        Stage(
            "atlas", "features, cliques and the index of universality", tuple(schema.ATLAS_TABLES.values()), 4, _census_work,
            _census_tasks, lambda inputs: len(inputs.seeds), _atlas, needs=("families", "correspondence"),
        ),
    )
}  # fmt: skip
"""Every stage, those that a stage needs before it."""
