"""The measures that are computed for all pairs at once, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from universality.comparators import COMPARATORS, matching
from universality.engine.blocks import cross_blocks
from universality.engine.kernels import Kernels, kernels
from universality.engine.plan import Plan, choose_space, to_host
from universality.engine.sources import Source
from universality.engine.spectra import spectral_measures
from universality.engine.views import Precision, Ranges, centred, held, standardised, stimulus_patterns
from universality.errors import MeasureError, did_you_mean

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
    """A measure of all pairs, with what a reader must know of it; `family` computes it with its relatives."""

    name: str
    family: Callable[[Ready, frozenset[str]], Matrices]
    direction: Literal["similarity", "distance"]
    low: float
    high: float
    min_n: int
    undefined: str
    reference: str


def cka(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """Linear CKA, biased and debiased, from the same sums (see `universality.comparators.cka` for the identity)."""
    views = [centred(s, r, ready.dtype) for s, r in zip(ready.sources, ready.ranges, strict=True)]
    sums = kernels(held(views, ready.plan), ready.plan, choose_space(ready.plan))
    biased = sums.off_products + sums.diagonals
    found = {}
    if "cka_linear_biased" in wanted:
        found["cka_linear_biased"] = _normalised(biased, np.diag(biased) > 0.0)
    if "cka_linear_debiased" in wanted:
        unbiased = _hsic_unbiased(sums)
        positive = np.diag(unbiased) > _NOT_POSITIVE[ready.dtype] * np.diag(biased)
        found["cka_linear_debiased"] = _normalised(unbiased, positive)
    return found


def _hsic_unbiased(sums: Kernels) -> Array:
    """Return the unbiased HSIC of Song et al. (2012, eq. 5) times n (n - 3); rows of centred Grams sum to 0."""
    n = sums.n
    totals = np.outer(sums.off_sums, sums.off_sums)
    return np.asarray(sums.off_products + totals / ((n - 1) * (n - 2)) - 2.0 * sums.diagonals / (n - 2))


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
    spread = np.diag(sums.centred) > _NOT_POSITIVE[ready.dtype] * np.diag(sums.off_products + sums.diagonals)
    return {name: np.clip(_normalised(sums.centred, spread), -1.0, 1.0) for name in wanted}


def spectral(ready: Ready, wanted: frozenset[str]) -> Matrices:
    """SVCCA and orthogonal Procrustes from one product of principal components."""
    views = [centred(s, r, "float64") for s, r in zip(ready.sources, ready.ranges, strict=True)]
    needed = {"procrustes_orthogonal_score" if name.startswith("procrustes") else name for name in wanted}
    found = spectral_measures(views, ready.plan, ready.dtype, frozenset(needed))
    if "procrustes_orthogonal_angle" in wanted:
        found["procrustes_orthogonal_angle"] = np.arccos(found["procrustes_orthogonal_score"])
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


def _hungarian(r: Array) -> float:
    rows, columns = matching.hungarian(r).T
    return float(r[rows, columns].mean())


def _mutual_nearest(r: Array) -> float:
    rows, columns = matching.mutual_nearest(r).T
    return float(r[rows, columns].sum() / min(r.shape))


_MATCHED = {"unit_match_hungarian": _hungarian, "unit_match_mutual_nearest": _mutual_nearest}


def _of_comparator(name: str, family: Callable[[Ready, frozenset[str]], Matrices]) -> PairMeasure:
    entry = COMPARATORS[name]
    undefined = "the stimuli are too few for this many units: trivial or undefined"
    return PairMeasure(
        name, family, entry.direction, entry.low, entry.high, entry.min_n, undefined, entry.reference
    )  # fmt: skip


_SCHOENEMANN = "Schönemann 1966, Psychometrika 31; Williams et al. 2021, NeurIPS"
_TABLE = (
    _of_comparator("cka_linear_debiased", cka),
    _of_comparator("cka_linear_biased", cka),
    _of_comparator("svcca_variance99", spectral),
    PairMeasure(
        "procrustes_orthogonal_score", spectral, "similarity", 0.0, 1.0, 3, "undefined", f"{_SCHOENEMANN}: |X'Y|_* / |X| |Y|"
    ),
    PairMeasure(
        "procrustes_orthogonal_angle", spectral, "distance", 0.0, np.pi / 2, 3, "undefined", f"{_SCHOENEMANN}: arccos of the score, rad"
    ),
    PairMeasure(
        "rsa_correlation_pearson",
        rsa,
        "similarity",
        -1.0,
        1.0,
        3,
        "a stimulus has one activation in all units, or all stimuli are equally far apart",
        "Kriegeskorte et al. 2008, Front. Syst. Neurosci. 2; distance 1 - Pearson r of two stimuli over the live units",
    ),
    _of_comparator("unit_match_hungarian", unit_matching),
    _of_comparator("unit_match_mutual_nearest", unit_matching),
)  # fmt: skip

PAIR_MEASURES: dict[str, PairMeasure] = {entry.name: entry for entry in _TABLE}


def pair_measures(names: Sequence[str]) -> list[PairMeasure]:
    """Return the measures called `names`; raise `MeasureError` with the nearest name where there is none."""
    if isinstance(names, str) or not names:
        raise MeasureError(f"measures are a list of names, came {names!r}; choose from: {', '.join(PAIR_MEASURES)}")
    for name in names:
        if name not in PAIR_MEASURES:
            raise MeasureError(f"unknown measure '{name}'{did_you_mean(str(name), PAIR_MEASURES)}")
    return [PAIR_MEASURES[name] for name in dict.fromkeys(names)]
