"""A union over cases: whether a unit's gradients at natural images fall into clusters, whether the cases exclude one another, and whether they meet at the unit.

The motif of the published dog head: two cases (a head to the left, a head to the right), each excited by its own sources and inhibited by those of the other, carried apart to the tap
before the unit and added there. As a measurement, at the images that a unit answers most to:

1. *Cases*: the unit's gradients by the sources (source x square, each image's of length one), reduced to their first principal components, are cut by k-means into two. The cluster
   index (sum of squares within the clusters / in all) is compared with that of draws from one Gaussian of the same covariance (SigClust). Where it is smaller than 95 % of them, the
   number of cases is chosen by the gap to the same Gaussian, up to `MOST_CASES`; else there is one.
2. *Exclusion*, of the two largest cases: ``min(-cos(g_A, g_B+), -cos(g_B, g_A+))`` of their mean gradients, ``g+`` the part above 0: above 0 where each is inhibited by what excites the
   other. Null: the sources of one exchanged.
3. *Meeting*: units of a tap between, weighted by how strongly they excite the unit: the mean, over those that answer more in a case than in the other, of the difference in standard deviations;
   the smaller of both cases. Null: images exchanged between the cases.

References
----------
C. Olah et al., Zoom In, Distill 2020 (union over cases). Y. Liu, D. N. Hayes, A. Nobel and J. S. Marron, JASA 103, 2008 (SigClust; ours takes the sample's own covariance, whose largest
eigenvalues are too large: the test is on the safe side). R. Tibshirani, G. Walther and T. Hastie, JRSS B 63, 2001 (gap; their reference is uniform).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from universality.base.arrays import Array, Ints, reciprocal
from universality.base.errors import MeasureError
from universality.circuits.chance import p_above

LEAST_CASES = 20
"""Images with a gradient that a unit needs."""
MOST_CASES = 4
COMPONENTS = 6
"""Principal components that clusters are looked for in, at most."""
DRAWS = 199
_RESTARTS, _STEPS = 3, 8
SOURCES = 5
"""Sources that are named for each case."""
VERDICTS = ("too_few_images", "one_case", "cases", "excluding_cases", "excluding_cases_that_meet")


@dataclass(frozen=True)
class Clusters:
    """How many clusters points form.

    Attributes
    ----------
    count : 1 where two clusters explain no more than they do of a Gaussian
    label : (point,) the cluster of each, the largest first; all 0 where there is one
    index : cluster index of two clusters, 0 to 1: the smaller, the further apart
    index_null, index_null_5 : its mean and 5 % quantile in the Gaussian
    p : share of draws with an index as small
    """

    count: int
    label: Ints
    index: float
    index_null: float
    index_null_5: float
    p: float


def clusters(points: ArrayLike, seed: int = 0, draws: int = DRAWS) -> Clusters:
    """Return how many clusters points (point, entry) form, beside one Gaussian of the same covariance.

    Raises
    ------
    MeasureError
        There are fewer than `LEAST_CASES` points.
    """
    given = np.asarray(points, dtype=np.float64)
    if len(given) < LEAST_CASES:
        raise MeasureError(
            f"{len(given)} points are too few for clusters, expected {LEAST_CASES} or more; show more images"
        )
    less = given - given.mean(axis=0)
    u, s, _ = np.linalg.svd(less, full_matrices=False)
    kept = s[:COMPONENTS] > 1e-6 * max(float(np.linalg.norm(given)) / len(given) ** 0.5, 1e-300)
    scores = (u[:, :COMPONENTS] * s[:COMPONENTS])[:, kept]
    none = np.zeros(len(given), dtype=np.int64)
    if not scores.size:  # the same at every image: one case
        return Clusters(1, none, float("nan"), float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    chance = rng.standard_normal((draws, *scores.shape)) * (np.linalg.norm(scores, axis=0) / np.sqrt(len(scores) - 1))
    found = [_k_means(scores[None], 2, rng)]
    drawn = _k_means(chance, 2, rng)[1][:, None]
    p = p_above(-found[0][1][0], -drawn[:, 0])
    count, label = 1, none
    if p <= 0.05:
        more = range(3, MOST_CASES + 1)
        found += [_k_means(scores[None], k, rng) for k in more]
        drawn = np.stack([drawn[:, 0], *(_k_means(chance, k, rng)[1] for k in more)], axis=1)
        logs = np.log(np.maximum(drawn, 1e-12))
        gap = logs.mean(axis=0) - np.log(np.maximum([within[0] for _, within in found], 1e-12))
        error = logs.std(axis=0) * np.sqrt(1 + 1 / draws)
        at = next((k for k in range(len(gap) - 1) if gap[k] >= gap[k + 1] - error[k + 1]), len(gap) - 1)
        raw = found[at][0][0]
        order = np.argsort(-np.bincount(raw, minlength=at + 2), kind="stable")
        count, label = at + 2, np.argsort(order)[raw]
    return Clusters(
        count, label, float(found[0][1][0]), float(drawn[:, 0].mean()), float(np.quantile(drawn[:, 0], 0.05)), p
    )


def _k_means(points: Array, k: int, rng: np.random.Generator) -> tuple[Ints, Array]:
    """Return the clusters (set, point) of sets of points (set, point, entry), and the share of their sum of squares within, (set,): the best of some starts."""
    sets, n, _ = points.shape
    total = np.square(points - points.mean(axis=1, keepdims=True)).sum(axis=(1, 2))
    squares = np.square(points).sum(axis=2)
    best, label = np.full(sets, np.inf), np.zeros((sets, n), dtype=np.int64)
    rows = np.arange(sets)[:, None]
    for _ in range(_RESTARTS):
        # Far starts: each next centre is drawn by the squared distance from those before (k-means++).
        first = rng.integers(n, size=(sets, 1))
        centres = points[rows, first]
        for _ in range(k - 1):
            near = _distances(points, squares, centres).min(axis=2)
            chance = np.cumsum(near, axis=1)
            pick = (chance < rng.random((sets, 1)) * chance[:, -1:]).sum(axis=1, keepdims=True)
            centres = np.concatenate([centres, points[rows, np.minimum(pick, n - 1)]], axis=1)
        for _ in range(_STEPS):
            at = _distances(points, squares, centres).argmin(axis=2)
            of = np.eye(k)[at]
            counts = of.sum(axis=1)
            means = np.einsum("snk,snd->skd", of, points) * reciprocal(counts)[..., None]
            centres = np.where(counts[..., None] > 0, means, centres)
        distance = _distances(points, squares, centres)
        at, within = distance.argmin(axis=2), distance.min(axis=2).sum(axis=1) * reciprocal(total)
        better = within < best
        best, label = np.where(better, within, best), np.where(better[:, None], at, label)
    return label, np.maximum(best, 0.0)


def _distances(points: Array, squares: Array, centres: Array) -> Array:
    found = squares[..., None] - 2 * points @ centres.transpose(0, 2, 1) + np.square(centres).sum(axis=2)[:, None]
    return np.asarray(np.maximum(found, 0.0))


def exclusion(a: ArrayLike, b: ArrayLike) -> float:
    """Return how far two cases exclude one another, -1 to 1: above 0 where each is inhibited by what excites the other.

    Parameters
    ----------
    a, b : (source, place) mean gradients of the two cases

    Returns
    -------
    float
        The smaller of both directions; NaN where a case has no gradient, or is excited by nothing.
    """
    first, second = (np.asarray(of, dtype=np.float64) for of in (a, b))
    found = []
    for own, other in ((first, second), (second, first)):
        excites = np.maximum(other, 0.0)
        size = float(np.linalg.norm(own) * np.linalg.norm(excites))
        found.append(-float((own * excites).sum()) / size if size > 0 else float("nan"))
    return min(found) if np.isfinite(found).all() else float("nan")


def meeting(excitation: ArrayLike, answers: ArrayLike, case: NDArray[np.bool_]) -> float:
    """Return how far units between carry two cases apart to the unit that they excite, standard deviations, 0 or more.

    Parameters
    ----------
    excitation : (unit between,) weights into the unit; those below 0 count nothing
    answers : (image, unit between) in standard deviations
    case : (image,) true in one case, false in the other

    Returns
    -------
    float
        Of both cases the smaller: the mean over units, weighted by excitation, of how much more they answer in it than in the other (0 where less). NaN without excitation.
    """
    weight, z = np.maximum(np.asarray(excitation, dtype=np.float64), 0.0), np.asarray(answers, dtype=np.float64)
    apart = z[case].mean(axis=0) - z[~case].mean(axis=0)
    total = weight.sum()
    return float(min(weight @ np.maximum(side, 0.0) for side in (apart, -apart)) / total) if total > 0 else float("nan")


@dataclass(frozen=True)
class Between:
    """The tap between a unit and the sources: how its units excite the unit (unit,), and what they answer at each image (image, unit), standard deviations."""

    excitation: Array
    answers: Array


def case_rows(
    gradients: ArrayLike, between: Between | None, seed: int = 0, draws: int = DRAWS
) -> list[dict[str, object]]:
    """Return a row for each case of a unit: what all of it says, and the case's own images (their places among those given) and strongest sources.

    Parameters
    ----------
    gradients : (image, source, place)
        At the images that the unit answers most to, by the sources' standard deviations, summed into squares; images without a gradient are left out and counted.
    between : the tap between, of all images; None where the sources are the tap before
    seed, draws : of the nulls
    """
    given = np.asarray(gradients, dtype=np.float64)
    size = np.linalg.norm(given.reshape(len(given), -1), axis=1)
    shown = np.flatnonzero(size > 0)
    unit: dict[str, object] = {
        "n_silent": len(given) - shown.size,
        "n_shown": shown.size,
        "n_cases": 0,
        **dict.fromkeys(_NUMBERS, np.nan),
    }
    if shown.size < LEAST_CASES:
        return [
            unit
            | {
                "case": 0,
                "n_images": shown.size,
                "images": shown,
                "sources": np.zeros(0),
                "source_weights": np.zeros(0),
            }
        ]
    own = given[shown] / size[shown, None, None]
    found = clusters(own.reshape(len(own), -1), seed, draws)
    rng = np.random.default_rng([seed, 1])
    unit |= {
        "n_cases": found.count, "cluster_index": found.index, "cluster_index_null": found.index_null, "cluster_index_null_5": found.index_null_5, "p": found.p,
    }  # fmt: skip
    means = [own[found.label == k].mean(axis=0) for k in range(found.count)]
    if found.count > 1:
        unit |= _excluding(means[0], means[1], rng, draws)
        if between is not None:
            two = np.flatnonzero(found.label < 2)
            unit |= _meeting(between.excitation, between.answers[shown[two]], found.label[two] == 0, rng, draws)
    rows = []
    for k, mean in enumerate(means):
        summed = mean.sum(axis=1)
        strongest = np.argsort(-np.abs(summed), kind="stable")[:SOURCES]
        rows.append(unit | {
            "case": k, "n_images": int((found.label == k).sum()), "images": shown[found.label == k], "sources": strongest.astype(np.float64), "source_weights": summed[strongest],
        })  # fmt: skip
    return rows


_NUMBERS = (
    "cluster_index", "cluster_index_null", "cluster_index_null_5", "p", "exclusion", "exclusion_null", "exclusion_null_95", "p_exclusion", "meeting", "meeting_null",
    "meeting_null_95", "p_meeting",
)  # fmt: skip


def _excluding(a: Array, b: Array, rng: np.random.Generator, draws: int) -> dict[str, object]:
    value, drawn = exclusion(a, b), np.array([exclusion(a, rng.permutation(b)) for _ in range(draws)])
    return _beside("exclusion", value, drawn)


def _meeting(
    excitation: Array, answers: Array, case: NDArray[np.bool_], rng: np.random.Generator, draws: int
) -> dict[str, object]:
    value, drawn = (
        meeting(excitation, answers, case),
        np.array([meeting(excitation, answers, rng.permutation(case)) for _ in range(draws)]),
    )
    return _beside("meeting", value, drawn)


def _beside(name: str, value: float, drawn: Array) -> dict[str, object]:
    known = drawn[np.isfinite(drawn)]
    mean, high = (float(known.mean()), float(np.quantile(known, 0.95))) if known.size else (np.nan, np.nan)
    return {name: value, f"{name}_null": mean, f"{name}_null_95": high, f"p_{name}": p_above(value, known)}


def judged(rows: pd.DataFrame) -> NDArray[np.object_]:
    """Return the verdict on every row, one of `VERDICTS`; needs ``q`` (of p).

    - cases: q is 0.05 or less
    - excluding_cases: the two largest exclude one another: exclusion above 0, and p_exclusion 0.05 or less
    - excluding_cases_that_meet: and p_meeting is 0.05 or less: the motif of the dog head
    """
    cases = (rows["q"] <= 0.05) & (rows["n_cases"] > 1)
    excluding = cases & (rows["exclusion"] > 0) & (rows["p_exclusion"] <= 0.05)
    meet = excluding & (rows["p_meeting"] <= 0.05)
    return np.select(
        [rows["n_cases"] == 0, meet, excluding, cases],
        [VERDICTS[0], VERDICTS[4], VERDICTS[3], VERDICTS[2]],
        default=VERDICTS[1],
    ).astype(object)
