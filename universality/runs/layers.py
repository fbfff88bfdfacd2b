"""The layers of a finished run, from its record: where their activations lie, by network, twin and tap."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from universality.activations.layer import LayerRef
from universality.activations.network import Variant, tap_of
from universality.models import catalogue
from universality.runs.bases import in_bases
from universality.runs.networks import compared_sets
from universality.runs.run import Run


def references(run: Run) -> Iterator[LayerRef]:
    """Yield the layers of a run from its record, of untrained twins too and of noisy copies not, each with its stores of the sets that were compared."""
    compared = compared_sets(run.job)
    stores: dict[tuple[str, int | None, str], dict[str, str]] = {}
    for entry in run.recorded_stores:
        if entry["stimuli"] in compared:
            stores.setdefault((entry["model"], entry["seed"], entry["tap"]), {})[entry["stimuli"]] = entry["key"]
    layers: dict[tuple[str, Variant], list[LayerRef]] = {}
    for (model, seed, tap), keys in stores.items():
        known = tap_of(catalogue.card(model), tap)
        layers.setdefault((model, seed), []).append(LayerRef(model, seed, known, run.store, keys))
    yield from itertools.chain.from_iterable(in_bases(run.job, layers).values())
