"""Linear CKA of activations that arrive in batches: the same number as on all of them at once.

Averaging the scores of batches gives a number that depends on the batch size. Here only sums are kept, so the order and
the sizes of the batches do not matter beyond rounding. One pass is enough for every form of linear CKA: they need
<K, L>, the diagonals' products d.e and the traces of both *centred* Gram matrices. With m the final mean,
d_i = |x_i|^2 - 2 m.x_i + |m|^2, so sum_i d_i e_i is a polynomial in the means whose coefficients are moments that
can be summed without knowing the means: x, |x|^2, |x|^2 x, |x|^2 y, |x|^2 |y|^2 and the products x y'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from universality.base.arrays import Array, Outcome, Undefined
from universality.base.errors import MeasureError
from universality.base.inputs import BATCH, pair
from universality.similarity.cka import debiased, normalised

ESTIMATORS = ("debiased", "biased", "offdiagonal")


@dataclass
class _Moments:
    """Sums over the stimuli of one ordered pair of layers, with s_i = |x_i|^2 and t_i = |y_i|^2."""

    products: Array
    squares: float
    squares_times_y: Array
    x_times_squares: Array

    @classmethod
    def zero(cls, p: int, q: int) -> _Moments:
        return cls(np.zeros((p, q)), 0.0, np.zeros(q), np.zeros(p))

    def add(self, x: Array, y: Array) -> None:
        s, t = (np.einsum("ij,ij->i", a, a) for a in (x, y))
        self.products += x.T @ y
        self.squares += float(s @ t)
        self.squares_times_y += s @ y
        self.x_times_squares += x.T @ t


class _LayerSums:
    """Sums of one layer: how many stimuli, of which units the sum, and the sum of |x|^2."""

    def __init__(self, first: Array) -> None:
        # Both numbers only keep the sums small against rounding: CKA depends on neither.
        self._origin = first.mean(axis=0)
        self._scale = float(np.ptp(first, axis=0).max()) or float(np.abs(first).max()) or 1.0
        self._low = self._high = first[0]
        self.total = np.zeros(first.shape[1])
        self.norms = 0.0

    def add(self, x: Array) -> Array:
        """Add a batch (n, p) and return it relative to the origin and scale of this layer."""
        self._low = np.minimum(self._low, x.min(axis=0))
        self._high = np.maximum(self._high, x.max(axis=0))
        x = (x - self._origin) / self._scale
        self.total += x.sum(axis=0)
        self.norms += float(np.vdot(x, x))
        return x

    @property
    def live(self) -> bool:
        """Whether any unit has varied so far: exact, unlike the sums, which are rounded."""
        return bool((self._high > self._low).any())


class LinearCKAAccumulator:
    """Linear CKA of two layers from batches, exact for every batching.

    Memory is (p + q)^2 numbers, whatever n. Add batches with `add`, read with `value`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((100, 4)), rng.standard_normal((100, 6))
    >>> sums = LinearCKAAccumulator()
    >>> for start in range(0, 100, 30):
    ...     sums.add(x[start : start + 30], y[start : start + 30])
    >>> import universality
    >>> bool(np.isclose(sums.value("biased"), universality.score("cka_linear_biased", x, y).value, rtol=1e-12))
    True
    """

    def __init__(self) -> None:
        self.n = 0
        self._layers: tuple[_LayerSums, _LayerSums] | None = None
        self._moments: dict[str, _Moments] = {}

    def add(self, x: Any, y: Any) -> None:
        """Add a batch of the same stimuli for both layers, (n, p) and (n, q), a.u., as `score` takes them; n may be 0.

        Raises
        ------
        MeasureError
            Arrays that `score` refuses, or other numbers of units than before. Nothing of the batch is added then.
        """
        x, y = pair(x, y, BATCH)
        self._refuse_other_units((x, y))
        if not len(x):
            return
        if self._layers is None:
            self._layers = _LayerSums(x), _LayerSums(y)
            p, q = x.shape[1], y.shape[1]
            self._moments = {"aa": _Moments.zero(p, p), "bb": _Moments.zero(q, q), "ab": _Moments.zero(p, q)}
        x, y = self._layers[0].add(x), self._layers[1].add(y)
        for key, (left, right) in {"aa": (x, x), "bb": (y, y), "ab": (x, y)}.items():
            self._moments[key].add(left, right)
        self.n += len(x)

    def _refuse_other_units(self, batches: tuple[Array, Array]) -> None:
        for batch, sums, label in zip(batches, self._layers or (), "xy", strict=False):
            if batch.shape[1] != sums.total.size:
                raise MeasureError(
                    f"{label} has {batch.shape[1]} units, the batches before had {sums.total.size}; pass one layer"
                )

    def value(self, estimator: str = "debiased") -> float:
        """Return linear CKA of all stimuli so far by one of `ESTIMATORS`; NaN where it has no value (see `outcome`)."""
        outcome = self.outcome(estimator)
        return float("nan") if isinstance(outcome, Undefined) else outcome

    def outcome(self, estimator: str = "debiased") -> Outcome:
        """Return linear CKA of all stimuli so far, or why there is none.

        Raises
        ------
        MeasureError
            Unknown estimator.
        """
        if estimator not in ESTIMATORS:
            raise MeasureError(f"unknown estimator '{estimator}'; choose one of: {', '.join(ESTIMATORS)}")
        needed = 4 if estimator == "debiased" else 3
        if self._layers is None or self.n < needed:
            return Undefined(f"{self.n} stimuli, {needed} needed")
        if not all(layer.live for layer in self._layers):
            return Undefined("no unit varies over the stimuli")
        sums = {key: self._centred(key) for key in self._moments}
        scale_a, scale_b = sums["aa"][0], sums["bb"][0]
        ab, aa, bb = (self._estimate(estimator, *sums[key]) for key in ("ab", "aa", "bb"))
        return normalised(ab, aa, bb, scale_a, scale_b)

    def _estimate(self, estimator: str, product: float, cross: float, totals: float) -> float:
        if estimator == "biased":
            return product
        if estimator == "offdiagonal":
            return product - cross
        return debiased(self.n, product - cross, cross, totals)

    def _centred(self, key: str) -> tuple[float, float, float]:
        """Return <K, L>, d.e and sum(d) sum(e) of the centred Gram matrices of the layers named by `key`."""
        assert self._layers is not None  # checked by `outcome`
        x, y = ({"a": self._layers[0], "b": self._layers[1]}[letter] for letter in key)
        moments, n = self._moments[key], self.n
        m, k = x.total / n, y.total / n
        c, d = float(m @ m), float(k @ k)
        product = float(np.sum(np.square(moments.products - n * np.outer(m, k))))
        # sum_i (s_i - 2 m.x_i + c) (t_i - 2 k.y_i + d), with sum m.x_i = n c and sum k.y_i = n d
        cross = (
            moments.squares
            - 2.0 * float(moments.squares_times_y @ k)
            - 2.0 * float(m @ moments.x_times_squares)
            + 4.0 * float(m @ moments.products @ k)
            + d * x.norms
            + c * y.norms
            - 3.0 * n * c * d
        )
        return product, cross, (x.norms - n * c) * (y.norms - n * d)
