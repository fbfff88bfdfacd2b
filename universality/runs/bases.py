"""The bases in which a job's layers are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from universality.activations.dictionaries.kept import BasisRef, Source
from universality.activations.layer import LayerRef
from universality.activations.network import Variant
from universality.base.errors import JobError
from universality.runs.job import Job

Layers = Mapping[tuple[str, Variant], Sequence[LayerRef]]


def in_bases(job: Job, layers: Layers) -> dict[tuple[str, Variant], list[LayerRef]]:
    """Return the layers of a job, by model and variant, each with the basis that the job asks for.

    An untrained twin has a dictionary of its own; a noisy copy is seen in its network's.

    Raises
    ------
    JobError
        A dictionary of several networks is asked for and they have not as many taps each, or more directions are to be active than a layer has.
    """
    if job.in_units:
        return {key: list(refs) for key, refs in layers.items()}
    found = {}
    for (model, variant), refs in layers.items():
        of = None if isinstance(variant, float) else variant
        found[model, variant] = [
            replace(ref, basis=_basis(job, layers, model, of, place)) for place, ref in enumerate(refs)
        ]
    return found


def _basis(job: Job, layers: Layers, model: str, variant: Variant, place: int) -> BasisRef:
    several = job.basis == "universal_sae"
    models = [entry.id for entry in job.models] if several else [model]
    counts = {name: len(layers[name, variant]) for name in models}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise JobError(
            f"basis = 'universal_sae' describes the first taps of all models together, then the second and so on, expected as many taps of each, came {said}; "
            "name as many in models.taps"
        )
    sources = tuple(_source(layers[name, variant][place]) for name in models)
    units = min(of.units for of in sources)
    directions, active = job.dictionary.directions or units, job.dictionary.active
    if job.basis in ("sae", "universal_sae") and active > directions:
        raise JobError(
            f"dictionary.active = {active} is more than the {directions} directions of {sources[0].label}; lower it, or state dictionary.directions"
        )
    if job.basis == "units" and directions > units:
        raise JobError(
            f"dictionary.directions = {directions} is more than the {units} units of {sources[0].label}, expected at most as many for basis = 'units'; lower it"
        )
    return BasisRef(
        job.basis, job.dictionary, directions, sources, models.index(model), job.seed, job.extraction.device
    )


def _source(ref: LayerRef) -> Source:
    twin = "" if ref.seed is None else f" (untrained, seed {ref.seed})"
    return Source(f"tap '{ref.tap.name}' of '{ref.model}'{twin}", ref.tap.channels, ref.stores["natural"])
