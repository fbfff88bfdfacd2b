"""From answers to numbers: what an edit costs, image by image, and its interval over images."""

from __future__ import annotations

import numpy as np

from universality.base.arrays import Array, Ints
from universality.causes.passes import Answers
from universality.causes.plan import BOOTSTRAPS


def costs(intact: Answers, edited: Answers, labels: Ints) -> dict[str, Array]:
    """Return what an edit costs, by measure, (image,).

    ``kl``: Kullback-Leibler divergence of the edited answer from the intact one, nats. ``loss``: rise of the cross-entropy with the labels, nats. ``next``: squared change of
    the next tap's units over their variance, mean over those that vary; NaN where no next tap is read. ``accuracy``: change, -1, 0 or 1.
    """
    images = np.arange(len(labels))
    p = np.exp(intact.log_p)
    # Classes of probability 0 take no part.
    kl = np.where(p > 0, p * (intact.log_p - edited.log_p), 0.0).sum(axis=1)
    right, was = edited.choice == labels, intact.choice == labels
    return {
        "kl": kl,
        "loss": intact.log_p[images, labels] - edited.log_p[images, labels],
        "next": _of_next(edited),
        "accuracy": right.astype(np.float64) - was.astype(np.float64),
    }


def _of_next(edited: Answers) -> Array:
    if edited.change is None:
        return np.full(len(edited.log_p), np.nan)
    live = np.isfinite(edited.change).all(axis=0)
    return np.asarray(edited.change[:, live].mean(axis=1)) if live.any() else np.full(len(edited.log_p), np.nan)


def resamples(count: int, seed: int) -> Array:
    """Return how often each image is in each bootstrap sample, as weights that sum to 1: (sample, image)."""
    rng = np.random.default_rng([seed, count])
    return rng.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAPS) / count
