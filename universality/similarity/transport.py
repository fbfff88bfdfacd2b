"""Soft matching: units of layers of unequal widths matched by optimal transport.

Every unit of A has mass 1 / p, every unit of B 1 / q; a plan T (p, q) moves the one onto the other. For equal widths the
best plan is a permutation. POT solves the problem exactly (network simplex).

References
----------
M. Khosla and A. Williams, Soft matching distance, 2024 (UniReps): d^2 = min_T sum_ij T_ij |x_i - y_j|^2.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from universality.base.arrays import Array, Outcome, Undefined, scaled, standardised


@functools.cache
def _solver() -> Callable[..., Any]:
    # POT's docstrings have invalid escape sequences, of which Python warns when it compiles them (visibly from 3.12 on).
    with warnings.catch_warnings():
        for category in (SyntaxWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        from ot.lp import emd
    solve: Callable[..., Any] = emd
    return solve


def plan(cost: Array) -> Array | Undefined:
    """Return the cheapest plan (p, q), its rows summing to 1 / p and its columns to 1 / q, for `cost` (p, q) >= 0."""
    p, q = cost.shape
    masses = np.full(p, 1.0 / p), np.full(q, 1.0 / q)
    best, log = _solver()(*masses, np.ascontiguousarray(cost), numItermax=10_000_000, log=True)
    if log["result_code"] != 1:
        return Undefined(f"the transport problem was not solved: {log['warning']}")
    return np.asarray(best)


def prepare_units(x: np.ndarray) -> Array:
    """Centre the units of a layer (n, p) and scale each to length 1: inner products are correlations."""
    return standardised(x)


def prepare_layer(x: np.ndarray) -> Array:
    """Centre the units of a layer (n, p) and scale the layer: the mean squared length of its units is 1."""
    features = scaled(x)
    return np.asarray(features / np.sqrt(np.square(features).sum() / features.shape[1]))


def correlation_plan(a: Array, b: Array) -> Array | Undefined:
    """Return the plan (p, q) with the largest transported correlation of two layers of standardised units."""
    return plan(np.maximum(1.0 - a.T @ b, 0.0))


def shared_mass(r: Array) -> Array:
    """Return how much of two units' mass the soft matching by correlations `r` (p, q) moves between them: (p, q).

    0 to 1: the plan's masses times max(p, q), the largest that two units can share. 1 is a unit of the wider layer that goes
    to one unit alone; for equal widths, a one-to-one match. The mean over all pairs is 1 / min(p, q), whatever the plan. NaN
    where the problem was not solved.
    """
    if r.shape[0] == r.shape[1]:
        # Then a permutation is a best plan (Birkhoff), and the assignment is found faster.
        shared = np.zeros(r.shape)
        shared[linear_sum_assignment(r, maximize=True)] = 1.0
        return shared
    best = plan(1.0 - r)
    return np.full(r.shape, np.nan) if isinstance(best, Undefined) else np.clip(best * max(r.shape), 0.0, 1.0)


def score_correlation(a: Array, b: Array) -> Outcome:
    """Return the largest sum_ij T_ij r_ij, -1 to 1. The plan is the one of the soft matching distance of these units."""
    best = correlation_plan(a, b)
    return best if isinstance(best, Undefined) else float(np.clip(np.sum(best * (a.T @ b)), -1.0, 1.0))


def distance(a: Array, b: Array) -> Outcome:
    """Return the square root of the smallest sum_ij T_ij |x_i - y_j|^2, 0 to 2 for layers scaled by `prepare_layer`.

    It is the Wasserstein-2 distance of two clouds of points (the units), so it is a metric.
    """
    lengths = np.square(a).sum(axis=0)[:, None] + np.square(b).sum(axis=0)
    cost = np.maximum(lengths - 2.0 * (a.T @ b), 0.0)
    best = plan(cost)
    return best if isinstance(best, Undefined) else float(np.sqrt(np.sum(best * cost)))
