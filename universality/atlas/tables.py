"""Every table of the atlas from the tables of a run and the links between its networks."""

from __future__ import annotations

import pandas as pd

from universality.atlas import cells as atlas
from universality.atlas import index
from universality.atlas.cells import HasTables
from universality.correspondence.census import Census
from universality.models import catalogue


def tables_of(run: HasTables, counted: Census) -> dict[str, pd.DataFrame]:
    """Return every table of ``schema.ATLAS_TABLES``.

    Parameters
    ----------
    run : anything with the tables ``families``, ``units`` and ``correspondence`` of these names
    counted : every link between its networks
    """
    pairs = index.by_pair(index.tally(counted), catalogue.cards())
    known, counts = atlas.atlas(run), atlas.clique_counts(counted)
    cliques = atlas.cliques(counted)
    cells = atlas.data_driven_rows(cliques, counts, list(dict.fromkeys(known["model"])))
    return {
        "atlas": pd.concat([known, cells], ignore_index=True) if len(cells) else known,
        "cliques": cliques, "clique_counts": counts,
        "index_by_pair": pairs.table, "index_by_group": index.by_group(pairs), "index_by_feature": index.by_feature(pairs),
    }  # fmt: skip
