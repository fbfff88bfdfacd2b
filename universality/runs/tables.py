"""Every table that a run may hold."""

from __future__ import annotations

from universality.activations.dictionaries.tables import DICTIONARY_TABLES
from universality.base import schema
from universality.base.schema import Table
from universality.causes.tables import CAUSE_TABLES
from universality.circuits.motif_tables import MOTIF_TABLES
from universality.circuits.recovery import RECOVERY
from universality.circuits.tables import CIRCUIT_TABLES
from universality.features.tables import EXAMPLES, OWN, UNITS
from universality.ledger.tables import LEDGER

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *DICTIONARY_TABLES.values(),
        schema.SIMILARITY,
        schema.CORRESPONDENCE,
        schema.CORRESPONDENCE_NULLS,
        schema.PAIRS,
        schema.FAMILIES,
        UNITS,
        *OWN.values(),
        schema.CEILINGS,
        schema.JOINT,
        EXAMPLES,
        *CIRCUIT_TABLES.values(),
        *MOTIF_TABLES.values(),
        *CAUSE_TABLES.values(),
        RECOVERY,
        *schema.ATLAS_TABLES.values(),
        LEDGER,
    )
}
