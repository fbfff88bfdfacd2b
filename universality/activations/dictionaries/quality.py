"""How well a dictionary describes a layer, how much of it another seed finds again, and how far its directions are from units and from each other.

Each figure is also that of a null: random directions that learnt nothing (the frozen dictionary), and random orthonormal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from universality.activations.bases import directions_of
from universality.activations.dictionaries.dictionary import Dictionary
from universality.base.arrays import Array, centred, reciprocal

SAME_COSINE = 0.5
"""Above it two directions count as one, as in the published comparison of universal with independent dictionaries."""


@dataclass(frozen=True)
class Described:
    """How activations are described.

    Attributes
    ----------
    r2 : 1 less the squared error over the variance, of all units together; below 0 where the mean of every unit would describe them better
    l0 : mean number of directions of a row
    answers : (direction,) in which share of the rows it takes part
    """

    r2: float
    l0: float
    answers: Array


def described(dictionary: Dictionary, activations: Array) -> Described:
    """Return how a dictionary describes activations (row, unit)."""
    codes = dictionary.codes(activations)
    active = codes > 0
    return Described(
        r2_of(activations, dictionary.rebuilt(codes)), float(active.sum(axis=1).mean()), np.asarray(active.mean(axis=0))
    )


def r2_of(activations: Array, rebuilt: Array) -> float:
    """Return 1 less the squared error over the variance of activations (row, unit); NaN of constant ones."""
    variance = float(np.square(centred(activations)).sum())
    error = float(np.square(activations - rebuilt).sum())
    return 1 - error / variance if variance > 0 else float("nan")


def r2_of_random_basis(learnt: Array, activations: Array, directions: int, active: int, seed: int) -> float:
    """Return R2 with random orthonormal directions, of which those of the `active` largest answers of each row are kept, of either sign.

    Beyond as many as there are units there are no more orthonormal ones: the directions are then those of one basis.

    Parameters
    ----------
    learnt : (row, unit) whose mean is taken away first
    """
    units = activations.shape[1]
    basis = directions_of(units, min(directions, units), seed)
    offset = learnt.mean(axis=0)
    answers = (activations - offset) @ basis
    kept = np.argsort(-np.abs(answers), axis=1, kind="stable")[:, : max(active, 1)]
    some = np.zeros_like(answers)
    np.put_along_axis(some, kept, np.take_along_axis(answers, kept, 1), 1)
    return r2_of(activations, some @ basis.T + offset)


def cosines(a: Array, b: Array) -> Array:
    """Return the cosines of directions (direction, unit) that are paired one to one so that their sum is largest, (direction of `a`,); NaN for one left over."""
    products = (a * reciprocal(np.linalg.norm(a, axis=1))[:, None]) @ (
        b * reciprocal(np.linalg.norm(b, axis=1))[:, None]
    ).T
    rows, columns = linear_sum_assignment(-products)
    found = np.full(len(a), np.nan)
    found[rows] = products[rows, columns]
    return found


def stability(dictionaries: list[Array]) -> float:
    """Return the mean cosine of directions paired one to one between every two dictionaries (direction, unit); NaN of a single one."""
    pairs = [np.nanmean(cosines(a, b)) for place, a in enumerate(dictionaries) for b in dictionaries[place + 1 :]]
    return float(np.mean(pairs)) if pairs else float("nan")


def interference(atoms: Array) -> float:
    """Return the mean squared cosine of two different directions, 0 to 1: 0 where they are orthogonal, 1 / units for random ones."""
    unit = atoms * reciprocal(np.linalg.norm(atoms, axis=1))[:, None]
    gram = np.square(unit @ unit.T)
    count = len(atoms)
    return float((gram.sum() - np.trace(gram)) / (count * (count - 1))) if count > 1 else float("nan")


def dimensions(activations: Array) -> float:
    """Return over how many directions the variance of activations (row, unit) is spread: (sum of eigenvalues)^2 / sum of their squares; NaN of constant ones.

    References
    ----------
    P. Gao et al. 2017, A theory of multineuronal dimensionality (participation ratio).
    """
    x = centred(activations)
    covariance = x.T @ x
    total = float(np.square(covariance).sum())
    return float(np.trace(covariance) ** 2 / total) if total > 0 else float("nan")


def dimensionality(features: Array) -> Array:
    """Return which share of a dimension each feature (feature, unit) has to itself, (feature,): ``|w_i|^2 / sum_j (w_j . w_i / |w_i|)^2``, 0 to 1; NaN of one without length.

    1 for a feature that no other overlaps, 1/2 for each of two opposite ones. Features are to come with the lengths that they have in the activations: one that
    hardly ever answers overlaps little.

    References
    ----------
    N. Elhage et al. 2022, Toy models of superposition (dimensionality of a feature).
    """
    length = np.linalg.norm(features, axis=1)
    overlap = np.square(features @ (features * reciprocal(length)[:, None]).T).sum(axis=0)
    return np.where(length > 0, np.square(length) * reciprocal(overlap), np.nan)


def firing_entropy(answers: Array) -> Array:
    """Return how evenly a shared direction answers in several networks, (direction,): entropy of its shares over networks, 0 to 1; NaN of one that never does.

    Parameters
    ----------
    answers : (network, direction) share of the rows in which it takes part
    """
    total = answers.sum(axis=0)
    shares = answers * reciprocal(total)
    terms = np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0)
    return np.where(total > 0, -terms.sum(axis=0) / np.log(max(len(answers), 2)), np.nan)


def cofiring(own: NDArray[np.bool_], other: NDArray[np.bool_]) -> Array:
    """Return in which share of the rows in which a shared direction answers in one network it does in another, (direction,); NaN of one that never does."""
    count = own.sum(axis=0)
    return np.where(count > 0, (own & other).sum(axis=0) * reciprocal(count), np.nan)
