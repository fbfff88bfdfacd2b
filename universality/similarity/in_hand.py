"""All layers of two networks in hand compared, each value beside its nulls: no job, no card, no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from universality.activations import in_hand
from universality.activations.in_hand import Images, Subject
from universality.activations.layer import Layer, LayerRef
from universality.activations.nulls import NullPlan
from universality.activations.spec import ExtractionSpec, Reduction
from universality.base.errors import CardError, MeasureError
from universality.base.progress import Progress, Reporter, reporter_for
from universality.models import twins, zoo
from universality.models.card import Preprocessing, Size, Tap
from universality.similarity import comparator
from universality.similarity.matrix import STATES
from universality.similarity.tables import similarity_rows


def compare(
    a: str | nn.Module,
    b: str | nn.Module | None = None,
    *,
    images: Any = None,
    layers: str | Sequence[str] = "all",
    measures: Sequence[str] = ("cka_linear_debiased",),
    reduction: Reduction = "mean",
    untrained: bool = True,
    haar_rotations: int = 1,
    shuffles: int = 3,
    seed: int = 0,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    batch_size: int = 32,
    progress: Progress = False,
) -> xr.Dataset:
    """Compare all layers of two networks, or of one with itself, each value beside its nulls.

    Parameters
    ----------
    a, b : str or nn.Module
        Ids of model cards or modules; without `b`, the layers of `a` with one another.
    images, layers, reduction, preprocessing, batch_size, progress
        As in `activations`. Both networks are shown the same images.
    measures : sequence of str
        Names in `COMPARATORS`.
    untrained : bool
        Whether twins of both with random weights are compared, too. That of a card is built by its library; a module is copied and each
        part given its own initial weights again.
    haar_rotations, shuffles : int
        How many random bases and orders of the stimuli the nulls are means over.
    seed : int
        Of twins, bases and orders.

    Returns
    -------
    xarray.Dataset
        (measure, layer_a, layer_b), layers in forward order, with coordinates ``depth_a`` and ``depth_b`` (relative depth, 0 to 1):
        ``value``, and its nulls ``value_untrained``, ``value_haar`` (B in a random basis), ``value_shuffled``. The attribute
        ``untrained`` says why there are no twins where there are none.

    Raises
    ------
    UniversalityError
        In one sentence: what `activations` refuses, an unknown measure, or images that are not the same number for both.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> images = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    >>> found = compare(network, images=images)
    >>> found["value"].sizes["layer_a"], bool(abs(found["value"][0, 0, 0] - 1) < 1e-9)
    (2, True)
    """
    for measure in measures:
        comparator(measure)
    spec, plan = ExtractionSpec(reduction=reduction, batch_size=batch_size), NullPlan(haar_rotations, shuffles, seed)
    reporter = reporter_for(progress)
    first = _shown(in_hand.subject(a, preprocessing), images, layers, spec, seed if untrained else None, reporter)
    if b is None or b is a:
        second = first
    else:
        second = _shown(in_hand.subject(b, preprocessing), images, layers, spec, seed if untrained else None, reporter)
    (layers_a, twin_a, why_a), (layers_b, twin_b, why_b) = first, second
    if len(layers_a[0].natural) != len(layers_b[0].natural):
        raise MeasureError(
            f"the networks were shown {len(layers_a[0].natural)} and {len(layers_b[0].natural)} images, expected the same ones; give a "
            "DataLoader that does not drop or shuffle"
        )
    of_twins = ([twin_a], [twin_b]) if twin_a and twin_b else ([], [])
    rows = similarity_rows(layers_a, layers_b, *of_twins, measures, plan)
    shape = (len(layers_a), len(layers_b), len(measures))
    values = {
        state: (("measure", "layer_a", "layer_b"), rows[state].to_numpy(np.float64).reshape(shape).transpose(2, 0, 1))
        for state in STATES
    }
    coords: dict[str, Any] = {"measure": list(measures)}
    for side, of in (("a", layers_a), ("b", layers_b)):
        coords[f"layer_{side}"] = [layer.ref.tap.name for layer in of]
        coords[f"depth_{side}"] = (f"layer_{side}", [layer.ref.tap.relative_depth for layer in of])
    why = why_a or why_b
    said = {"untrained": f"no twins: {why}"} if why else {}
    return xr.Dataset(
        values,
        coords,
        {
            "model_a": layers_a[0].ref.model,
            "model_b": layers_b[0].ref.model,
            "images": len(layers_a[0].natural),
            "seed": seed,
            **said,
        },
    )


def _shown(
    of: Subject,
    images: Any,
    layers: str | Sequence[str],
    spec: ExtractionSpec,
    seed: int | None,
    reporter: Reporter,
) -> tuple[list[Layer], list[Layer], str]:
    """Return a network's layers, those of its untrained twin, and why there are none of the twin."""
    with in_hand.images_for(of, images, spec.batch_size) as shown:
        size = shown.size
        with zoo.evaluating(of.network):
            taps = in_hand.taps_of(of, size, layers)
        trained = _layers(of, shown, taps, spec, size, reporter.track(f"images shown to {of.name}", shown.count))
        if seed is None:
            return trained, [], "they were not asked for"
        try:
            twin = _twin(of, seed, shown)
        except CardError as cause:
            return trained, [], str(cause)
        advance = reporter.track(f"images shown to the untrained twin of {of.name}", shown.count)
        return trained, _layers(twin, shown, taps, spec, size, advance), ""


def _twin(of: Subject, seed: int, shown: Images) -> Subject:
    """Return a network's untrained twin, its normalisation calibrated on the images."""
    if of.card is not None:
        twin = zoo.untrained(of.card, seed, shown.batches())
    else:
        twin = twins.reinitialised(of.network, seed)
        zoo.calibrate_batchnorm(twin, shown.batches())
    return Subject(of.name, twin, of.card, of.preprocessing)


def _layers(
    of: Subject, shown: Images, taps: Sequence[Tap], spec: ExtractionSpec, size: Size, advance: Callable[[int], None]
) -> list[Layer]:
    found = in_hand.answers(of, shown, taps, spec, size, advance)
    return [_layer(of.name, tap, found[tap.name]) for tap in taps]


def _layer(name: str, tap: Tap, values: np.ndarray) -> Layer:
    places = values.shape[1] if values.ndim > 2 else 1
    rows = np.asarray(values.reshape(-1, values.shape[-1]), dtype=np.float64)
    images = np.repeat(np.arange(len(values)), places)
    # No unit is matched here, so that the folds decide nothing.
    return Layer(LayerRef(name, None, tap, "", {}), rows, images % 2, images, {}, places)
