"""Every measure on every pair of two networks' layers beside its nulls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from universality import similarity
from universality.activations.bases import haar
from universality.activations.layer import Layer, pair_identity
from universality.activations.nulls import NullPlan
from universality.base import arrays, schema


class _Prepared:
    """Summaries of one layer in its variations, made when first asked for; measures share equal preparations."""

    def __init__(self, x: NDArray[np.float64], plan: NullPlan, places: int = 1) -> None:
        self._x = x
        self._places = places
        self._plan = plan
        self._made: dict[tuple[Callable[..., Any], int, str, int], Any] = {}
        self.units = int(arrays.live_units(x).sum())

    def plain(self, measure: str) -> Any:
        return self._get(measure, "plain", 0, lambda: self._x)

    def haar(self, measure: str) -> Iterator[Any]:
        # One rotation shows that a basis-free measure does not change; unit matching needs the mean over several.
        count = 1 if similarity.comparator(measure).basis_free else self._plan.haar_rotations
        for index in range(count):
            yield self._get(measure, "haar", index, partial(self._rotated, index))

    def shuffled(self, measure: str) -> Iterator[Any]:
        for index in range(self._plan.shuffles):
            yield self._get(measure, "shuffled", index, partial(self._reordered, index))

    def _rotated(self, index: int) -> NDArray[np.float64]:
        return haar(index, self._plan.seed).seen(self._x)

    def _reordered(self, index: int) -> NDArray[np.float64]:
        # Places of one image stay together: stimuli are shuffled, not places.
        images = len(self._x) // self._places
        rng = np.random.default_rng([self._plan.seed, images, index])
        order = rng.permutation(images)[:, None] * self._places + np.arange(self._places)
        return np.asarray(self._x[order.ravel()])

    def _get(self, measure: str, kind: str, index: int, make: Callable[[], NDArray[np.float64]]) -> Any:
        entry = similarity.comparator(measure)
        # min_n decides whether there is a summary at all, so measures that differ in it share none.
        key = (entry.prepare, entry.min_n, kind, index)
        if key not in self._made:
            self._made[key] = similarity.prepare(measure, make())
        return self._made[key]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


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
    a, b = ([_Prepared(layer.natural, plan, layer.places) for layer in layers] for layers in (layers_a, layers_b))
    untrained = [
        ([_Prepared(x.natural, plan, x.places) for x in xs], [_Prepared(y.natural, plan, y.places) for y in ys])
        for xs, ys in zip(twins_a, twins_b, strict=True)
    ]
    rows = []
    for i, layer_a in enumerate(layers_a):
        for j, layer_b in enumerate(layers_b):
            for measure in measures:

                def scored(x: Any, y: Any, measure: str = measure) -> float:
                    return similarity.score_prepared(measure, x, y)[0]

                plain = a[i].plain(measure)
                value, reason = similarity.score_prepared(measure, plain, b[j].plain(measure))
                rows.append(
                    {
                        **pair_identity(layer_a.ref, layer_b.ref),
                        "measure": measure,
                        "direction": similarity.comparator(measure).direction,
                        "value": value,
                        "value_untrained": _mean(
                            [scored(x[i].plain(measure), y[j].plain(measure)) for x, y in untrained]
                        ),
                        "value_haar": _mean([scored(plain, y) for y in b[j].haar(measure)]),
                        "value_shuffled": _mean([scored(plain, y) for y in b[j].shuffled(measure)]),
                        "n": len(layer_a.natural),
                        "p": a[i].units,
                        "q": b[j].units,
                        "reason": reason,
                    }
                )
    return schema.as_table(schema.SIMILARITY, pd.DataFrame(rows))
