"""Centred kernel alignment (CKA) with a linear or a Gaussian kernel: biased, debiased, and without the diagonal.

References
----------
S. Kornblith et al., Similarity of neural network representations revisited, ICML 2019 (eq. 3 to 5).
L. Song et al., Feature selection via dependence maximization, JMLR 13, 2012 (eq. 5: unbiased HSIC).
R. D. Lange et al., Deep networks as paths on the manifold of neural representations, TAG-ML 2023 (diagonal dropped).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.spatial.distance import pdist, squareform

from universality.base.arrays import Array, Outcome, Undefined, scaled

Sums = TypeVar("Sums", float, Array)


@dataclass(frozen=True)
class Kernel:
    """One layer's centred kernel with what every pair needs of it.

    ``gram`` (n, n) is kept where it is not larger than the activations are (n <= 2 p): a pair of layers then costs n^2
    and no matrix product. ``squared_norms`` are its diagonal, ``self_frobenius`` its squared Frobenius norm.
    ``features`` (n, p) has no columns where the kernel has no finite set of features.
    """

    features: Array
    gram: Array | None
    squared_norms: Array
    self_frobenius: float


def prepare_linear(x: Array) -> Kernel:
    """Centre activations (n stimuli, p units) in float64 and sum up their Gram matrix."""
    features = scaled(x)
    n, p = features.shape
    gram = features @ features.T if n <= 2 * p else None
    squared_norms = np.einsum("ij,ij->i", features, features)
    kernel = Kernel(features, gram, squared_norms, 0.0)
    return replace(kernel, self_frobenius=_frobenius_product(kernel, kernel))


def prepare_rbf(x: Array) -> Kernel | Undefined:
    """Return the centred Gaussian kernel exp(-d^2 / (2 sigma^2)) of activations (n stimuli, p units).

    sigma is the median of the n (n - 1) / 2 distances between different stimuli (the factor of Kornblith et al. is 1).
    """
    distances = pdist(scaled(x))
    sigma = float(np.median(distances))
    if sigma == 0:
        return Undefined("half of the stimuli or more answer alike: the median distance, the kernel's width, is 0")
    gram = squareform(np.exp(-0.5 * np.square(distances / sigma)))
    np.fill_diagonal(gram, 1.0)
    means = gram.mean(axis=0)
    gram += means.mean() - means[:, None] - means
    return Kernel(np.empty((len(gram), 0)), gram, np.diag(gram).copy(), float(np.vdot(gram, gram)))


def _frobenius_product(a: Kernel, b: Kernel) -> float:
    """Return <A A', B B'>_F from the Gram matrices, or through the (p x q) product where a layer keeps none."""
    if a.gram is not None and b.gram is not None:
        return float(np.vdot(a.gram, b.gram))
    return float(np.sum(np.square(a.features.T @ b.features)))


def hsic_biased(a: Kernel, b: Kernel) -> float:
    """Return the biased HSIC times (n - 1)^2: <K_c, L_c>_F."""
    return _frobenius_product(a, b)


def debiased(n: int, off_product: Sums, cross: Sums, totals: Sums) -> Sums:
    """Return the unbiased HSIC of Song et al. (2012, eq. 5) times n (n - 3), from sums over centred Gram matrices.

    With d, e the diagonals of the *centred* matrices K, L (whose rows sum to 0), and K~, L~ without diagonals:
    tr(K~L~) = <K, L> - d.e; 1'K~1 = -sum(d); 1'K~L~1 = d.e. So `off_product` = <K, L> - d.e, `cross` = d.e and
    `totals` = sum(d) sum(e) are all it takes, numbers or arrays of many pairs. Centring leaves the estimator as it is: it is a
    U-statistic, which does not change when a number is added to a whole row and column.
    """
    return off_product + totals / ((n - 1) * (n - 2)) - 2.0 * cross / (n - 2)


def hsic_debiased(a: Kernel, b: Kernel, product: float) -> float:
    """Return the unbiased HSIC times n (n - 3), from <K_c, L_c>_F."""
    d, e = a.squared_norms, b.squared_norms
    cross = float(d @ e)
    return debiased(d.size, product - cross, cross, float(d.sum() * e.sum()))


def score_biased(a: Kernel, b: Kernel) -> float:
    """Return CKA with the biased HSIC: 0 to 1, 1 for equal kernels up to a factor."""
    return hsic_biased(a, b) / float(np.sqrt(a.self_frobenius) * np.sqrt(b.self_frobenius))


def normalised(product: float, self_a: float, self_b: float, scale_a: float, scale_b: float) -> Outcome:
    """Return `product` / sqrt(`self_a` `self_b`), undefined where a self-HSIC is 0 to rounding of its scale, or less."""
    # Rounding leaves about 1e-16 of the scale where the estimator is exactly 0.
    if self_a <= 1e-12 * scale_a or self_b <= 1e-12 * scale_b:
        return Undefined(
            "a layer's own HSIC is not positive by this estimator: too few stimuli, or one apart from the rest"
        )
    return product / float(np.sqrt(self_a) * np.sqrt(self_b))


def score_debiased(a: Kernel, b: Kernel) -> Outcome:
    """Return CKA with the unbiased HSIC: about 0 for independent layers, at most 1, may be negative.

    Undefined where a self-HSIC is not positive (the estimator has no meaning there).
    """
    return normalised(
        hsic_debiased(a, b, hsic_biased(a, b)),
        hsic_debiased(a, a, a.self_frobenius),
        hsic_debiased(b, b, b.self_frobenius),
        a.self_frobenius,
        b.self_frobenius,
    )


def score_offdiagonal(a: Kernel, b: Kernel) -> Outcome:
    """Return the cosine of both centred Gram matrices without their diagonals, -1 to 1 (Lange et al. 2023)."""
    d, e = a.squared_norms, b.squared_norms
    return normalised(
        hsic_biased(a, b) - float(d @ e),
        a.self_frobenius - float(d @ d),
        b.self_frobenius - float(e @ e),
        a.self_frobenius,
        b.self_frobenius,
    )
