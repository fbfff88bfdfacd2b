"""The measures that are computed for all pairs at once, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from universality.base.errors import MeasureError
from universality.base.inputs import Source, to_host
from universality.similarity import COMPARATORS, Comparator, matching
from universality.similarity.all_pairs.blocks import cross_blocks
from universality.similarity.all_pairs.kernels import kernels
from universality.similarity.all_pairs.plan import Plan, choose_space
from universality.similarity.all_pairs.spectra import spectral_measures
from universality.similarity.all_pairs.views import Precision, Ranges, centred, held, standardised, stimulus_patterns
from universality.similarity.cka import debiased
from universality.similarity.summaries import unknown_measure

Array = NDArray[np.float64]
Matrices = dict[str, Array]
_NOT_POSITIVE = {"float64": 1e-12, "float32": 1e-6}
"""What rounding leaves of a kernel's squared norm where a variance is exactly 0."""


@dataclass(frozen=True)
class Ready:
    """Layers that vary, what a first pass told of them, and the plan."""

    sources: tuple[Source, ...]
    ranges: tuple[Ranges, ...]
    plan: Plan
    dtype: Precision


@dataclass(frozen=True)
class PairMeasure:
    """A measure of all pairs: its record in `COMPARATORS`, and the function that computes it with its relatives."""

    record: Comparator
    family: Callable[[Ready, frozenset[str]], Matrices]
    undefined: str

    @property
    def name(self) -> str:
        """The measure's name."""
        return self.record.name


def cka(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """Linear CKA, biased and debiased, from the same sums (see `universality.similarity.cka` for the identity)."""
    views = [centred(s, r, ready.dtype) for s, r in zip(ready.sources, ready.ranges, strict=True)]
    sums = kernels(held(views, ready.plan), ready.plan, choose_space(ready.plan))
    biased = sums.off_products + sums.diagonals
    found = {}
    if "cka_linear_biased" in wanted:
        found["cka_linear_biased"] = _normalised(biased, np.diag(biased) > 0.0)
    if "cka_linear_debiased" in wanted:
        # The off-diagonal sums of centred layers are the diagonals' with the other sign: rows of centred Grams sum to 0.
        totals = np.outer(sums.off_sums, sums.off_sums)
        unbiased = debiased(sums.n, sums.off_products, sums.diagonals, totals)
        positive = np.diag(unbiased) > _NOT_POSITIVE[ready.dtype] * np.diag(biased)
        found["cka_linear_debiased"] = _normalised(unbiased, positive)
    return found


def _normalised(products: Array, positive: NDArray[np.bool_]) -> Array:
    """Divide products (L, L) by the square roots of the layers' own; NaN where that of a layer is not positive."""
    own = np.where(positive, np.diag(products), np.nan)
    return np.asarray(products / np.sqrt(own)[:, None] / np.sqrt(own))


def rsa(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """Pearson correlation of the upper triangles of correlation-distance matrices.

    Distances are 1 - z_s.z_t with z a stimulus' pattern of mean 0 and length 1, so their correlation is that of the
    Gram matrices of z off the diagonal.
    """
    views = [stimulus_patterns(s, r, ready.dtype) for s, r in zip(ready.sources, ready.ranges, strict=True)]
    sums = kernels(held(views, ready.plan), ready.plan, choose_space(ready.plan))
    # Two units give patterns of correlation 1 or -1 only.
    wide = np.array([view.width for view in views]) > 2
    spread = wide & (np.diag(sums.centred) > _NOT_POSITIVE[ready.dtype] * np.diag(sums.off_products + sums.diagonals))
    return {name: np.clip(_normalised(sums.centred, spread), -1.0, 1.0) for name in wanted}


def spectral(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """SVCCA and orthogonal Procrustes from one product of principal components."""
    views = [centred(s, r, "float64") for s, r in zip(ready.sources, ready.ranges, strict=True)]
    needed = {"procrustes_orthogonal" if name.startswith("procrustes") else name for name in wanted}
    found = spectral_measures(views, ready.plan, ready.dtype, frozenset(needed))
    if "procrustes_orthogonal_angular" in wanted:
        found["procrustes_orthogonal_angular"] = np.arccos(found["procrustes_orthogonal"])
    return {name: found[name] for name in wanted}


def unit_matching(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """Match units by the correlations of all units of both layers."""
    plan = ready.plan
    views = [standardised(s, r, ready.dtype, plan.rows) for s, r in zip(ready.sources, ready.ranges, strict=True)]

    def scored(_i: int, _j: int, block: Any) -> dict[str, float]:
        r = np.clip(to_host(block), -1.0, 1.0)
        return {name: _MATCHED[name](r) for name in wanted}

    # A layer's best matching with itself is every unit with itself; equal units may have another mutual neighbour.
    own = "unit_match_mutual_nearest" in wanted
    found = {name: np.eye(len(views)) for name in wanted}
    for i, j, values in cross_blocks(held(views, plan), plan, scored, own):
        for name, value in values.items():
            found[name][i, j] = found[name][j, i] = value
    return found


_MATCHED = {
    "unit_match_hungarian": matching.mean_hungarian,
    "unit_match_mutual_nearest": matching.mean_mutual_nearest,
}


_FEW = "the stimuli are too few for this many units: trivial or undefined"
_TABLE = (
    ("cka_linear_debiased", cka, _FEW),
    ("cka_linear_biased", cka, _FEW),
    ("svcca_variance99", spectral, _FEW),
    ("procrustes_orthogonal", spectral, "undefined"),
    ("procrustes_orthogonal_angular", spectral, "undefined"),
    (
        "rsa_correlation_pearson", rsa,
        "fewer than 3 units vary, a stimulus has one activation in all units, or all stimuli are equally far apart",
    ),
    ("unit_match_hungarian", unit_matching, _FEW),
    ("unit_match_mutual_nearest", unit_matching, _FEW),
)  # fmt: skip

PAIR_MEASURES: dict[str, PairMeasure] = {
    name: PairMeasure(COMPARATORS[name], family, undefined) for name, family, undefined in _TABLE
}


def pair_measures(names: Sequence[str]) -> list[PairMeasure]:
    """Return the measures called `names`; raise `MeasureError` with the nearest name where there is none."""
    if isinstance(names, str) or not names:
        raise MeasureError(f"measures are a list of names, came {names!r}; choose from: {', '.join(PAIR_MEASURES)}")
    for name in names:
        if name not in PAIR_MEASURES:
            if name in COMPARATORS:
                raise MeasureError(
                    f"measure '{name}' is not computed for all pairs at once, expected one of: {', '.join(PAIR_MEASURES)}; "
                    "call score for every pair"
                )
            raise unknown_measure(str(name), PAIR_MEASURES)
    return [PAIR_MEASURES[name] for name in dict.fromkeys(names)]
