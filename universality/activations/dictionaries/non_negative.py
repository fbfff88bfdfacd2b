"""Non-negative matrix factorisation: activations as sums of parts, none of which is taken away."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from universality.activations.dictionaries.dictionary import Dictionary

PASSES = 60
"""Over all rows."""
MOST_AT_ONCE = 1024


def nmf(rows: NDArray[np.float32], directions: int, seed: int) -> Dictionary:
    """Return a dictionary of non-negative parts, learnt from activations (row, unit), none negative, batch by batch.

    References
    ----------
    A. Lefevre, F. Bach, C. Fevotte 2011, Online algorithms for nonnegative matrix factorization (scikit-learn's `MiniBatchNMF`).
    """
    from sklearn.decomposition import MiniBatchNMF
    from sklearn.exceptions import ConvergenceWarning

    model = MiniBatchNMF(
        n_components=directions, init="random", batch_size=min(MOST_AT_ONCE, len(rows)), max_iter=PASSES, random_state=seed, tol=0.0,
        max_no_improvement=None,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    return _with_readout(model.components_.astype(np.float64))


def frozen(rows: NDArray[np.float32], directions: int, seed: int) -> Dictionary:
    """Return a dictionary of random non-negative parts that learnt nothing: the absolute values of normal numbers, scaled unit by unit."""
    rng = np.random.default_rng([seed, directions, rows.shape[1]])
    return _with_readout(np.abs(rng.standard_normal((directions, rows.shape[1]))) * rows.std(axis=0, dtype=np.float64))


def _with_readout(atoms: NDArray[np.float64]) -> Dictionary:
    units = atoms.shape[1]
    return Dictionary(
        "non_negative", atoms, np.ascontiguousarray(np.linalg.pinv(atoms).T), np.zeros(len(atoms)), np.zeros(units)
    )
