"""Simulated zoos whose shared units are known: layers made of latent features, some in several networks."""

import numpy as np

from universality.activations.bases import haar
from universality.activations.layer import Layer, LayerRef
from universality.models.card import Tap

IMAGES = 400


def tap(name="t"):
    return Tap(
        path=name, activation="post", channels=1, size=1, rf_px=1, stride_px=1, rf_start_px=0.0, relative_depth=0.5
    )


def layer(model, natural, name="t", seed=None, photograph=None):
    """A layer of given activations (image, unit); images take turns between the folds."""
    images = len(natural)
    fold = np.arange(images) % 2
    photograph = np.arange(images) if photograph is None else photograph
    return Layer(LayerRef(model, seed, tap(name), "", {}), natural, fold, photograph, {})


def rotation(units, index, seed=0):
    """The directions (unit, direction) of a Haar-random basis."""
    return haar(index, seed).seen(np.eye(units))


def latents(units, seed, images=IMAGES):
    """Heavy-tailed independent features (image, unit), as rectified activations are."""
    return np.maximum(np.random.default_rng(seed).standard_normal((images, units)) - 0.5, 0.0)


def zoo(models, units, shared, noise=0.3, seed=0, images=IMAGES):
    """Layers of networks that hold the first `shared` features in common, each in an order of its own, and their places.

    Returns
    -------
    layers, and for every model where its shared features are: (feature,)
    """
    common = latents(shared, [seed, 0], images)
    layers, places = [], {}
    for number, model in enumerate(models):
        rng = np.random.default_rng([seed, 1, number])
        own = latents(units - shared, [seed, 2, number], images)
        order = rng.permutation(units)
        values = np.concatenate([common, own], axis=1) + noise * rng.standard_normal((images, units))
        layers.append(layer(model, values[:, order]))
        places[model] = np.argsort(order)[:shared]
    return layers, places
