"""Centred kernel alignment (CKA) with a linear kernel, biased and debiased.

References
----------
S. Kornblith et al., Similarity of neural network representations revisited, ICML 2019 (eq. 3 to 5).
L. Song et al., Feature selection via dependence maximization, JMLR 13, 2012 (eq. 5: unbiased HSIC).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from universality.comparators.arrays import Array, centred


@dataclass(frozen=True)
class LinearKernel:
    """One layer's centred activations with what every pair needs of them.

    ``gram`` is kept where it is not larger than the activations are (n <= 2 p): a pair of layers then costs n^2 and no
    matrix product. ``squared_norms`` are its diagonal, ``self_frobenius`` its squared Frobenius norm.
    """

    features: Array
    gram: Array | None
    squared_norms: Array
    self_frobenius: float


def prepare_linear(x: Array) -> LinearKernel:
    """Centre activations (n stimuli, p units) in float64 and sum up their Gram matrix."""
    features = centred(x)
    # CKA does not depend on the scale: without it, fourth powers of very small or large activations leave the range.
    features /= np.abs(features).max()
    n, p = features.shape
    gram = features @ features.T if n <= 2 * p else None
    squared_norms = np.einsum("ij,ij->i", features, features)
    kernel = LinearKernel(features, gram, squared_norms, 0.0)
    return replace(kernel, self_frobenius=_frobenius_product(kernel, kernel))


def _frobenius_product(a: LinearKernel, b: LinearKernel) -> float:
    """Return <A A', B B'>_F from the Gram matrices, or through the (p x q) product where a layer keeps none."""
    if a.gram is not None and b.gram is not None:
        return float(np.vdot(a.gram, b.gram))
    return float(np.sum(np.square(a.features.T @ b.features)))


def hsic_biased(a: LinearKernel, b: LinearKernel) -> float:
    """Return the biased HSIC times (n - 1)^2: <K_c, L_c>_F."""
    return _frobenius_product(a, b)


def hsic_debiased(a: LinearKernel, b: LinearKernel, product: float) -> float:
    """Return the unbiased HSIC of Song et al. (2012, eq. 5) times n (n - 3), from <K_c, L_c>_F.

    With the diagonals removed and d, e the diagonals of the *centred* Gram matrices (whose rows sum to 0):
    tr(K~L~) = <K, L> - d.e; 1'K~1 = -sum(d); 1'K~L~1 = d.e. So only the diagonals are needed beside the product.
    """
    n = a.squared_norms.size
    cross = float(a.squared_norms @ b.squared_norms)
    totals = float(a.squared_norms.sum() * b.squared_norms.sum())
    return (product - cross) + totals / ((n - 1) * (n - 2)) - 2.0 * cross / (n - 2)


def score_biased(a: LinearKernel, b: LinearKernel) -> float:
    """Return linear CKA with the biased HSIC: 0 to 1, 1 for equal up to rotation and isotropic scale."""
    return hsic_biased(a, b) / float(np.sqrt(a.self_frobenius) * np.sqrt(b.self_frobenius))


def score_debiased(a: LinearKernel, b: LinearKernel) -> float:
    """Return linear CKA with the unbiased HSIC: about 0 for independent layers, at most 1, may be negative.

    NaN where a self-HSIC is not positive (the estimator has no meaning there).
    """
    self_a = hsic_debiased(a, a, a.self_frobenius)
    self_b = hsic_debiased(b, b, b.self_frobenius)
    # Rounding leaves about 1e-16 of the product where the estimator is exactly 0.
    if self_a <= 1e-12 * a.self_frobenius or self_b <= 1e-12 * b.self_frobenius:
        return float("nan")
    return hsic_debiased(a, b, hsic_biased(a, b)) / float(np.sqrt(self_a) * np.sqrt(self_b))
