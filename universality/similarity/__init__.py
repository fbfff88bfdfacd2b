"""Arrays of two layers in; scores, matchings and their chance levels out."""

from __future__ import annotations

from universality.base.arrays import Undefined, haar_orthogonal, live_units, standardised
from universality.similarity.chance import expected_best
from universality.similarity.describe import measures
from universality.similarity.matching import MATCHINGS, correlations, ranks
from universality.similarity.registry import COMPARATORS, INVARIANCES, Comparator
from universality.similarity.scoring import Score, score
from universality.similarity.streaming import LinearCKAAccumulator
from universality.similarity.summaries import Null, comparator, prepare, refusal, score_prepared
from universality.similarity.units import METHODS, match_units

__all__ = [
    "COMPARATORS",
    "INVARIANCES",
    "MATCHINGS",
    "METHODS",
    "Comparator",
    "LinearCKAAccumulator",
    "Null",
    "Score",
    "Undefined",
    "comparator",
    "correlations",
    "expected_best",
    "haar_orthogonal",
    "live_units",
    "match_units",
    "measures",
    "prepare",
    "ranks",
    "refusal",
    "score",
    "score_prepared",
    "standardised",
]
