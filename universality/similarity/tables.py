"""Every measure on every pair of two networks' layers beside its nulls."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from universality import similarity
from universality.activations.layer import Layer, pair_identity
from universality.activations.nulls import NullPlan
from universality.base import schema
from universality.similarity.summaries import Prepared, mean_of, null


def similarity_rows(
    layers_a: Sequence[Layer],
    layers_b: Sequence[Layer],
    twins_a: Sequence[Sequence[Layer]],
    twins_b: Sequence[Sequence[Layer]],
    measures: Sequence[str],
    plan: NullPlan,
) -> pd.DataFrame:
    """Return the table ``similarity`` for all pairs of taps of two networks.

    Parameters
    ----------
    layers_a, layers_b : one `Layer` per tap
    twins_a, twins_b : for each untrained seed, the same taps of the untrained twin
    """
    a, b = ([Prepared(layer.natural, plan, layer.places) for layer in layers] for layers in (layers_a, layers_b))
    untrained = [
        ([Prepared(x.natural, plan, x.places) for x in xs], [Prepared(y.natural, plan, y.places) for y in ys])
        for xs, ys in zip(twins_a, twins_b, strict=True)
    ]
    rows = []
    for i, layer_a in enumerate(layers_a):
        for j, layer_b in enumerate(layers_b):
            for measure in measures:
                plain = a[i].plain(measure)
                value, reason = similarity.score_prepared(measure, plain, b[j].plain(measure))
                rows.append(
                    {
                        **pair_identity(layer_a.ref, layer_b.ref),
                        "measure": measure,
                        "direction": similarity.comparator(measure).direction,
                        "value": value,
                        "value_untrained": mean_of(
                            similarity.score_prepared(measure, x[i].plain(measure), y[j].plain(measure))[0]
                            for x, y in untrained
                        ),
                        "value_haar": null(measure, plain, b[j].haar(measure)).mean,
                        "value_shuffled": null(measure, plain, b[j].shuffled(measure)).mean,
                        "n": len(layer_a.natural),
                        "p": a[i].units,
                        "q": b[j].units,
                        "reason": reason,
                    }
                )
    return schema.as_table(schema.SIMILARITY, pd.DataFrame(rows))
