from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from universality.activations.layer import Layer, Shown, load_layer
from universality.activations.network import Network
from universality.activations.spec import ExtractionSpec
from universality.base.recent import Recent
from universality.circuits.reading import LOADED
from universality.jobs import recent
from universality.jobs.recent import RecentLayers, forgetting, nbytes
from universality.models import catalogue
from universality.stimuli.spec import StimuliSpec


class Reading:
    """Layers of 100 units, 8 kB each, made up; counts how often each is read."""

    def __init__(self):
        self.read = []

    def __call__(self, ref):
        self.read.append(ref)
        rows = np.arange(5)
        return Layer(
            ref, np.full((5, 100), float(ref)), rows % 2, rows, {"curves": Shown(np.full((5, 100), 0.5), xr.Dataset())}
        )


def test_what_was_read_last_is_kept_up_to_the_limit():
    reading = Reading()
    layers = RecentLayers(3 * 8_000, reading)
    for ref in (1, 2, 3, 1, 2, 3):
        assert layers(ref).ref == ref
    assert reading.read == [1, 2, 3]
    layers(4)  # 1 was not used for longest
    layers(3)
    assert reading.read == [1, 2, 3, 4]
    layers(1)
    assert reading.read == [1, 2, 3, 4, 1]
    layers.forget()
    layers(1)
    assert reading.read[-2:] == [1, 1]


def test_a_layer_above_the_limit_is_read_every_time():
    reading = Reading()
    layers = RecentLayers(7_999, reading)
    assert nbytes(layers(1)) == nbytes(layers(1)) == 8_000
    assert reading.read == [1, 1]


def test_networks_that_are_compared_are_kept_however_large():
    made = []
    kept = Recent(100, lambda size: size, least=2)
    for name in ("a", "b", "a", "b", "c", "b", "c"):
        kept.get(name, lambda name=name: made.append(name) or 1000)
    assert made == ["a", "b", "c"] and len(kept) == 2
    assert LOADED._least >= 2


def test_networks_of_one_label_and_other_structure_are_not_taken_for_one_another():
    card = catalogue.card("pocket/vgg-focus-s0")
    of = Network(card, None, card.taps[:1], StimuliSpec(), ExtractionSpec(reduction="center"), StimuliSpec())
    other = replace(of, card=card.model_copy(update={"architecture": "alexnet"}))
    assert of.label == other.label and of.weights == other.weights and of.identity != other.identity


def test_kept_arrays_cannot_be_written_to():
    layer = RecentLayers(10**6, Reading())(1)
    for values in (layer.natural, layer.fold, layer.photograph, layer.shown["curves"].activations):
        with pytest.raises(ValueError, match="read-only"):
            values[:] = 0


def test_threads_share_and_the_limit_holds():
    reading = Reading()
    layers = RecentLayers(4 * 8_000, reading)
    asked = [int(n) for n in np.random.default_rng(0).integers(0, 6, 400)]
    with ThreadPoolExecutor(8) as pool:
        assert [layer.ref for layer in pool.map(layers, asked)] == asked
    assert len(layers._layers) == 4
    assert layers._layers.nbytes == 4 * 8_000


def test_nothing_stays_after_a_job(monkeypatch):
    layers = RecentLayers(10**6, Reading())
    monkeypatch.setattr(recent, "read_layer", layers)
    with pytest.raises(KeyError), forgetting():
        layers(1)
        raise KeyError
    assert not layers._layers
    assert layers._layers.nbytes == 0


def test_a_layer_is_told_apart_by_everything_that_decides_it(small):
    import universality

    plan = universality.plan(small.job, small.out, small.store)
    (ref, *_), *_ = plan.inputs.layers.values()
    layers = RecentLayers()
    assert layers(ref) is layers(replace(ref))
    assert layers(ref) is not layers(replace(ref, stores={"natural": ref.stores["natural"]}))
    np.testing.assert_array_equal(layers(ref).natural, load_layer(ref).natural)
