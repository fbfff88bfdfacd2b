"""The layers of a finished run, from its record: where their activations lie, by network, twin and tap."""

from __future__ import annotations

from collections.abc import Iterator

from universality.activations.network import tap_of
from universality.correspondence.layers import LayerRef
from universality.models import catalogue
from universality.runs.run import Run


def references(run: Run) -> Iterator[LayerRef]:
    """Yield the layers of a run from its record, untrained twins too, each with its stores by stimulus set."""
    stores: dict[tuple[str, int | None, str], dict[str, str]] = {}
    for entry in run.record["stores"]:
        stores.setdefault((entry["model"], entry["seed"], entry["tap"]), {})[entry["stimuli"]] = entry["key"]
    for (model, seed, tap), keys in stores.items():
        known = tap_of(catalogue.card(model), tap)
        yield LayerRef(model, seed, known, run.store, keys, families=run.job.comparison.families)
