"""How many rows the tables of a plan will have, and what they take: none of it is computed yet."""

from __future__ import annotations

from dataclasses import dataclass

from universality.base.schema import Table
from universality.circuits.motif_tables import UNITS_MOTIFS
from universality.correspondence.layer_pairs import HAAR_DRAWS
from universality.features.families import FAMILIES
from universality.features.tables import own_name
from universality.jobs.planning import Plan
from universality.runs.tables import TABLES

MATCHED, MATCHED_IN_NULLS = 0.15, 0.25
"""Rows of matched units, of all units that can be matched, and of those of all nulls together. Only pairs that hold a detector have
a row: 0.13 and 0.20 in the demo, 0.43 and 1.16 in a made-up zoo where a quarter of the units are detectors. Untrained twins hold
hardly any, so the nulls' rows are those of the random bases."""
_BYTES = {"string": 20, "int": 8, "float": 8, "bool": 1}
"""What a value takes in memory; a text with its offset."""
_FLOATS = 4
"""What one of a list of values takes, of which there are as many as angles."""
COPIES = 3
"""How often the tables are in memory while results are joined: 2.6 times in a zoo of 1,000 models, whose tables take 2.7 GB."""


@dataclass(frozen=True)
class TableSizes:
    """Rows of all tables of a finished run, what these take in memory (bytes), and at most."""

    rows: int
    nbytes: int
    most: int

    @property
    def joining(self) -> tuple[int, int]:
        """What the process that joins the results needs for them, bytes: expected, and at most."""
        return COPIES * self.nbytes, COPIES * self.most


def table_sizes(plan: Plan) -> TableSizes:
    """Return what the tables of a plan will take."""
    expected, most = rows(plan), rows(plan, at_most=True)
    angles = (
        max(FAMILIES[name].angles(plan.job.stimuli) for name in plan.job.comparison.families)
        if plan.job.comparison.families
        else 0
    )
    each = {name: row_bytes(TABLES[name], angles) for name in expected}
    taken = [sum(count * each[name] for name, count in of.items()) for of in (expected, most)]
    return TableSizes(sum(expected.values()), *taken)


def rows(plan: Plan, *, at_most: bool = False) -> dict[str, int]:
    """Return the rows of the plan's largest tables: exactly, but of matched units as expected (or bounded, with `at_most`).

    Those of the other stages have a row for a detector or a feature, and are small.
    """
    chosen = plan.job.comparison
    families, methods = len(chosen.families), len(chosen.matching)
    every = {n.card.id: len(n.taps) for n in plan.networks if n.trained}
    inputs = plan.inputs
    trained = {model: [ref.width for ref in inputs.layers_judged(model, None)] for model in inputs.models}
    compared = [(trained[a], trained[b]) for a, b in plan.job.compared()]
    pairs = sum(len(a) * len(b) for a, b in compared)
    matched = families * methods * sum(min(x, y) for a, b in compared for x in a for y in b)
    draws = HAAR_DRAWS + len(plan.job.nulls.untrained_seeds)
    units = sum(
        ref.width for model in inputs.models for seed in inputs.seeds for ref in inputs.layers_judged(model, seed)
    )
    found = {
        "similarity": sum(every[a] * every[b] for a, b in plan.job.compared()) * len(chosen.measures),
        "pairs": pairs * families * methods,
        "families": sum(map(len, trained.values())) * families,
        "units": families * units,
        **{own_name(family): units for family in chosen.families},
        UNITS_MOTIFS.name: families * sum(map(sum, trained.values())),
        "correspondence": round((1 if at_most else MATCHED) * matched),
        "correspondence_nulls": round((draws if at_most else MATCHED_IN_NULLS) * matched),
    }
    return {name: count for name, count in found.items() if name in plan.table_names}


def row_bytes(table: Table, angles: int) -> int:
    """Return about what a row of a table takes in memory, bytes."""
    return sum(_FLOATS * angles if c.kind == "floats" else _BYTES[c.kind] for c in table.columns)
