"""The table of measures: what each one computes, and what is needed to interpret its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from universality.base.arrays import Outcome
from universality.similarity import cca, cka, lasso, matching, neighbours, predictivity, procrustes, rsa, transport
from universality.similarity.chance import expected_best

INVARIANCES = {
    "permutation": "the units of each layer in another order",
    "isotropic_scale": "a layer times one positive number",
    "unit_scale": "every unit times its own positive number",
    "orthogonal": "a rotation or reflection of a layer's basis",
    "invertible_linear": "any invertible linear mixture of a layer's units",
    "translation": "a number added to every unit, one per unit",
}
"""Changes of either layer; a measure declares those under which its score stays the same."""


@dataclass(frozen=True)
class Comparator:
    """A measure and what is needed to interpret it.

    Attributes
    ----------
    name : unique, with the variant
    prepare, score : from live units (n stimuli, p units) to a summary; from two summaries to an `Outcome`
    variant : what exactly is computed, in a sentence
    direction, low, high : whether larger means more alike, and the range of the score
    invariances : keys of `INVARIANCES`, each for both layers
    symmetric : whether the layers may be swapped
    metric : whether it obeys the triangle inequality and is 0 only for layers equal up to the invariances
    self_score : score of a layer with itself; None where it depends on the layer
    min_n : smallest number of stimuli for which the estimator is defined
    n_against_p : what n has to be against the numbers of units, in words
    cost : operations per layer, then per pair; k is the smaller of n and p (or q)
    reference : where it was published
    chance : expected score of independent layers from (n, p, q), where it is known exactly
    only_basis_of_a : whether the score depends on the basis of A and not on that of B
    """

    name: str
    prepare: Callable[[np.ndarray], Any]
    score: Callable[[Any, Any], Outcome]
    variant: str
    direction: Literal["similarity", "distance"]
    low: float
    high: float
    invariances: frozenset[str]
    symmetric: bool
    metric: bool
    self_score: float | None
    min_n: int
    n_against_p: str
    cost: str
    reference: str
    chance: Callable[[int, int, int], float] | None = None
    only_basis_of_a: bool = False

    @property
    def basis_free(self) -> bool:
        """Whether an orthogonal change of a layer's basis (unequal to a permutation) leaves the score as it was."""
        return "orthogonal" in self.invariances

    @property
    def has_haar_null(self) -> bool:
        """Whether an orthogonal change of the basis of B alone can change the score."""
        return not (self.basis_free or self.only_basis_of_a)


_UNITS = frozenset({"permutation", "isotropic_scale", "translation"})
_EACH_UNIT = _UNITS | {"unit_scale"}
_BASIS = _UNITS | {"orthogonal"}
_LINEAR = frozenset(INVARIANCES)
_ANY = "any"

_KORNBLITH = "Kornblith et al. 2019, ICML"
_CKA = Comparator(
    "cka_linear_debiased", cka.prepare_linear, cka.score_debiased,
    "linear kernel, unbiased HSIC: about 0 for independent layers; the default",
    "similarity", -1.0, 1.0, _BASIS, True, False, 1.0, 4, _ANY, "n k p; n^2 or n p q",
    f"{_KORNBLITH}; unbiased HSIC: Song et al. 2012, JMLR 13, eq. 5",
)  # fmt: skip
_CKA_BIASED = replace(
    _CKA, name="cka_linear_biased", score=cka.score_biased, low=0.0, min_n=3, reference=_KORNBLITH,
    variant="linear kernel, biased HSIC: noise alone scores about p / (p + n)",
    n_against_p="n much larger than p and q, or chance is high",
)  # fmt: skip
_CKA_OFFDIAGONAL = replace(
    _CKA, name="cka_linear_offdiagonal", score=cka.score_offdiagonal, min_n=3,
    variant="linear kernel, cosine of both centred Gram matrices without their diagonals",
    reference="Lange et al. 2023, TAG-ML",
)  # fmt: skip
_RBF = replace(
    _CKA, name="cka_rbf_median_debiased", prepare=cka.prepare_rbf, cost="n^2 p; n^2",
    variant="Gaussian kernel as wide as the median distance of two stimuli, unbiased HSIC",
)  # fmt: skip
_RBF_BIASED = replace(
    _RBF, name="cka_rbf_median_biased", score=cka.score_biased, low=0.0, min_n=3, reference=_KORNBLITH,
    variant="Gaussian kernel as wide as the median distance of two stimuli, biased HSIC",
    n_against_p=_CKA_BIASED.n_against_p,
)  # fmt: skip

_CCA = Comparator(
    "cca_mean_rho", cca.prepare_whole, cca.score_svcca,
    "mean canonical correlation of the whole layers, over the smaller rank",
    "similarity", 0.0, 1.0, _LINEAR, True, False, 1.0, 3,
    "n > p + 1 and n > q + 1, else NaN; n much larger than p + q, or chance is high", "n k p; n k^2",
    "Hotelling 1936, Biometrika 28",
)  # fmt: skip
_CCA_SQUARED = replace(
    _CCA, name="cca_mean_rho_squared", score=cca.score_mean_squared, reference=_KORNBLITH,
    variant="mean squared canonical correlation of the whole layers, over the smaller rank",
    # Two random subspaces share p q / (n - 1) of squared correlation, exactly.
    chance=lambda n, p, q: max(p, q) / (n - 1),
)  # fmt: skip
_SVCCA = replace(
    _CCA, name="svcca_variance99", prepare=cca.prepare_variance99, invariances=_BASIS,
    variant="mean canonical correlation of the fewest principal components with 99 % of the variance (squared values)",
    n_against_p="n > components + 1, else NaN; n much larger than the components together, or chance is high",
    reference="Raghu et al. 2017, NeurIPS",
)  # fmt: skip
_SVCCA_TEN = replace(
    _SVCCA, name="svcca_components10", prepare=cca.prepare_components10, min_n=13,
    variant="mean canonical correlation of the first ten principal components",
    n_against_p="n > 11 and at least ten components, else NaN; chance is a little below sqrt(10 / n)",
)  # fmt: skip
_PWCCA = replace(
    _CCA, name="pwcca_weights_a", prepare=cca.prepare_weighted, score=cca.score_pwcca_weights_a,
    variant="canonical correlations weighted by how much of A's units lies along A's canonical variates",
    invariances=_UNITS, symmetric=False, n_against_p="n > p + q, else NaN", reference="Morcos et al. 2018, NeurIPS",
    only_basis_of_a=True,
)  # fmt: skip
_PWCCA_SYMMETRIC = replace(
    _PWCCA, name="pwcca_symmetric", score=cca.score_pwcca_symmetric, symmetric=True, only_basis_of_a=False,
    variant="mean of PWCCA weighted by A and PWCCA weighted by B",
)  # fmt: skip

_PROCRUSTES = Comparator(
    "procrustes_orthogonal", procrustes.prepare_up_to_rotation, procrustes.score_orthogonal,
    "nuclear norm of X'Y, both layers centred and of Frobenius norm 1",
    "similarity", 0.0, 1.0, _BASIS, True, False, 1.0, 3, "n larger than p and q, or chance is high",
    "n k p; k^3", "Williams et al. 2021, NeurIPS",
)  # fmt: skip
_PROCRUSTES_ANGLE = replace(
    _PROCRUSTES, name="procrustes_orthogonal_angular", score=procrustes.angular_orthogonal,
    variant="arc cosine of procrustes_orthogonal, rad",
    direction="distance", high=float(np.pi / 2), metric=True, self_score=0.0,
)  # fmt: skip
_PERMUTATION = replace(
    _PROCRUSTES, name="procrustes_permutation", prepare=procrustes.prepare, score=procrustes.score_permutation,
    variant="largest sum of matched covariances, layers of Frobenius norm 1; a unit may stay alone",
    invariances=_UNITS, n_against_p=_ANY, cost="n p; n p q + assignment",
)  # fmt: skip
_PERMUTATION_ANGLE = replace(
    _PERMUTATION, name="procrustes_permutation_angular", score=procrustes.angular_permutation,
    variant="arc cosine of procrustes_permutation, rad",
    direction="distance", high=float(np.pi / 2), metric=True, self_score=0.0,
)  # fmt: skip
_SOFT = replace(
    _PERMUTATION, name="soft_matching_correlation", prepare=transport.prepare_units, score=transport.score_correlation,
    variant="correlation carried by the best transport plan between units of length 1, each layer's mass even",
    low=-1.0, invariances=_EACH_UNIT, cost="n p; n p q + network simplex",
    reference="Khosla and Williams 2024, UniReps",
)  # fmt: skip
_SOFT_DISTANCE = replace(
    _SOFT, name="soft_matching_distance", prepare=transport.prepare_layer, score=transport.distance,
    variant="Wasserstein-2 distance of the units, each layer scaled to a mean squared unit length of 1",
    direction="distance", low=0.0, high=2.0, invariances=_UNITS, metric=True, self_score=0.0,
)  # fmt: skip

_RSA = Comparator(
    "rsa_sqeuclidean_pearson", rsa.prepare_euclidean, rsa.score_pearson,
    "Pearson correlation of the squared Euclidean distances of all pairs of stimuli",
    "similarity", -1.0, 1.0, _BASIS, True, False, 1.0, 3, _ANY, "n^2 p; n^2",
    "Kriegeskorte et al. 2008, Front. Syst. Neurosci. 2",
)  # fmt: skip
_RSA_SPEARMAN = replace(
    _RSA, name="rsa_sqeuclidean_spearman", score=rsa.score_spearman, cost="n^2 p; n^2 log n",
    variant="Spearman correlation of the Euclidean distances of all pairs of stimuli",
)  # fmt: skip
_RSA_COSINE = replace(
    _RSA, name="rsa_sqeuclidean_cosine", score=rsa.score_cosine, low=0.0,
    variant="cosine of the squared Euclidean distances of all pairs of stimuli: high for any two layers",
)  # fmt: skip
_BY_PATTERN = frozenset({"permutation", "isotropic_scale"})
_RSA_CORRELATION = tuple(
    replace(
        entry, name=entry.name.replace("sqeuclidean", "correlation"), prepare=rsa.prepare_correlation,
        variant=f"{kind} of the correlation distances (over units) of all pairs of stimuli{after}",
        invariances=_BY_PATTERN, n_against_p="p and q at least 3, else NaN",
    )
    for entry, kind, after in (
        (_RSA, "Pearson correlation", ""),
        (_RSA_SPEARMAN, "Spearman correlation", ""),
        (_RSA_COSINE, "cosine", ": high for any two layers"),
    )
)  # fmt: skip
_NEIGHBOURS = replace(
    _RSA, name="mutual_knn10_euclidean", prepare=neighbours.prepare_euclidean, score=neighbours.overlap, low=0.0,
    variant="mean share of a stimulus' ten nearest neighbours that both layers agree on",
    min_n=12, reference="Huh et al. 2024, ICML",
    chance=lambda n, p, q: neighbours.K / (n - 1),
)  # fmt: skip

_RIDGE = Comparator(
    "ridge_a_to_b", predictivity.prepare, predictivity.score_a_to_b,
    "share of B's variance that ridge regression on A predicts; five folds, penalty chosen inside them",
    "similarity", -np.inf, 1.0, _BASIS, False, False, None, 10, _ANY, "5 n k p; 65 n k q",
    "Yamins et al. 2014, PNAS 111 (predictivity); Hoerl and Kennard 1970 (ridge)",
)  # fmt: skip
_RIDGE_BACK = replace(
    _RIDGE, name="ridge_b_to_a", score=predictivity.score_b_to_a,
    variant=_RIDGE.variant.replace("B's", "A's").replace("on A", "on B"),
)  # fmt: skip
_RIDGE_MEAN = replace(
    _RIDGE, name="ridge_mean", score=predictivity.score_mean, symmetric=True,
    variant="mean of ridge_a_to_b and ridge_b_to_a",
)  # fmt: skip

_LI = "Li et al. 2016, ICLR"
_HUNGARIAN = Comparator(
    "unit_match_hungarian", matching.prepare, matching.score_hungarian,
    "mean r of the best one-to-one matching; min(p, q) pairs",
    "similarity", -1.0, 1.0, _EACH_UNIT, True, False, 1.0, 3, "n much larger than log q, or chance is high",
    "n p; n p q + assignment", _LI,
)  # fmt: skip
_HUNGARIAN_ABSOLUTE = replace(
    _HUNGARIAN, name="unit_match_hungarian_absolute", score=matching.score_hungarian_absolute, low=0.0,
    variant="mean |r| of the best one-to-one matching; a unit may match its inverse",
)  # fmt: skip
_NEAREST = replace(
    _HUNGARIAN, name="unit_match_mutual_nearest", score=matching.score_mutual_nearest, cost="n p; n p q",
    variant="mean r of mutual nearest neighbours, times their share of the smaller layer",
    reference="Dravid et al. 2023, ICCV, with k = 1",
)  # fmt: skip
_TOP = replace(
    _NEAREST, name="unit_match_mutual_top5", score=matching.score_mutual_top5, reference="Dravid et al. 2023, ICCV",
    variant="mean over all units of their best r with a unit that is among each other's five best, 0 where there is none",
)  # fmt: skip
_SEMI = replace(
    _NEAREST, name="unit_match_semi_a_to_b", score=matching.score_semi_a_to_b, symmetric=False, reference=_LI,
    variant="mean over A's units of the best r with a unit of B; partners may be shared",
    chance=lambda n, p, q: expected_best(n, q),
)  # fmt: skip
_SEMI_ABSOLUTE = replace(
    _SEMI, name="unit_match_semi_absolute_a_to_b", score=matching.score_semi_absolute_a_to_b, low=0.0,
    variant="mean over A's units of the best |r| with a unit of B; partners may be shared",
    chance=lambda n, p, q: expected_best(n, q, absolute=True),
)  # fmt: skip
_LASSO = replace(
    _SEMI, name="unit_match_lasso_a_from_b", prepare=lasso.prepare, score=lasso.score_a_from_b, low=-np.inf,
    variant="share of the variance of A's standardised units that sparse sums of B's units predict; five folds",
    self_score=None, min_n=10, n_against_p=_ANY, cost="n p; 5 n q (p + q) + rounds", chance=None,
)  # fmt: skip

_TABLE = (
    _CKA, _CKA_BIASED, _CKA_OFFDIAGONAL, _RBF, _RBF_BIASED,
    _CCA, _CCA_SQUARED, _SVCCA, _SVCCA_TEN, _PWCCA, _PWCCA_SYMMETRIC,
    _PROCRUSTES, _PROCRUSTES_ANGLE, _PERMUTATION, _PERMUTATION_ANGLE, _SOFT, _SOFT_DISTANCE,
    _RSA, _RSA_SPEARMAN, _RSA_COSINE, *_RSA_CORRELATION, _NEIGHBOURS,
    _RIDGE, _RIDGE_BACK, _RIDGE_MEAN,
    _HUNGARIAN, _HUNGARIAN_ABSOLUTE, _NEAREST, _TOP, _SEMI, _SEMI_ABSOLUTE, _LASSO,
)  # fmt: skip

COMPARATORS: dict[str, Comparator] = {entry.name: entry for entry in _TABLE}
