"""One score of two layers by the name of a measure, beside its nulls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from universality.activations.nulls import NullPlan
from universality.base.arrays import Array, live_units
from universality.base.errors import MeasureError
from universality.base.inputs import pair
from universality.similarity.registry import Comparator
from universality.similarity.summaries import Null, Prepared, comparator, null, prepare, score_prepared

if TYPE_CHECKING:
    import pandas as pd

_NOT_ASKED = Null(float("nan"), reason="not asked for: pass nulls=True")
_BASIS_FREE = Null(
    float("nan"), reason="the measure does not depend on y's basis: in a random one it gives the value itself"
)


@dataclass(frozen=True)
class Score:
    """Result of one comparison.

    Attributes
    ----------
    value : the score, NaN where there is none
    n, p, q : stimuli, and live units of both layers
    measure : name of the measure
    reason : why the value is NaN, else empty
    dead_p, dead_q : units that were masked because they do not vary
    chance : expected value for independent layers where it is known exactly (see `score`), else NaN
    shuffled, haar : the nulls, each with its `mean`, the `values` of all resamples, and a `reason` where there is none
    """

    value: float
    n: int
    p: int
    q: int
    measure: str
    reason: str = ""
    dead_p: int = 0
    dead_q: int = 0
    chance: float = float("nan")
    shuffled: Null = _NOT_ASKED
    haar: Null = _NOT_ASKED

    def table(self) -> pd.DataFrame:
        """Return one row: the value beside its nulls, named as in a job's table ``similarity``, and why any of them is NaN."""
        import pandas as pd

        known = (
            "" if np.isfinite(self.chance) else self.reason or "not known exactly for this measure: see value_shuffled"
        )
        row = {
            "measure": self.measure, "direction": comparator(self.measure).direction, "value": self.value,
            "value_haar": self.haar.mean, "value_shuffled": self.shuffled.mean, "chance": self.chance,
            "n": self.n, "p": self.p, "q": self.q, "dead_p": self.dead_p, "dead_q": self.dead_q, "reason": self.reason,
            "reason_haar": self.haar.reason, "reason_shuffled": self.shuffled.reason, "reason_chance": known,
        }  # fmt: skip
        return pd.DataFrame([row])


def score(
    name: str,
    x: Any,
    y: Any,
    *,
    nulls: bool = False,
    shuffles: int | None = None,
    haar_rotations: int | None = None,
    seed: int | None = None,
) -> Score:
    """Compare two layers by the measure called `name`.

    Parameters
    ----------
    name : str
        Key of `COMPARATORS`; `measures` lists them. The name of a family, such as ``"cka"``, is refused with its variants.
    x, y : array_like, (n stimuli, p units) and (n stimuli, q units)
        Activations for the same stimuli in the same order, a.u.: anything that the page "Compare your own arrays" lists; of xarray
        arrays the dimensions ``stimulus`` and ``unit`` in any order. Computed with NumPy in float64, wherever
        the arrays lie. Dead units are dropped.
    nulls : bool
        Whether the nulls are made as well: `y` with its stimuli shuffled, and `y` in random bases. They are those of a job
        with the same numbers and seed, whose table ``similarity`` calls their means ``value_shuffled`` and
        ``value_haar``.
    shuffles, haar_rotations : int, optional
        Resamples of each null, at least 1; as many as a job makes (3) by default. Only with `nulls`.
    seed : int, optional
        Of both nulls, 0 or larger; 0 by default. Only with `nulls`.

    Returns
    -------
    Score
        `value` (range and direction in ``COMPARATORS[name]``), `n`, live `p` and `q`, a `reason` where the value is
        NaN, the numbers of dropped units, the `chance` level and the nulls; `Score.table` has all of it in a row.

    Raises
    ------
    MeasureError
        Unknown name; arrays that are not of real, finite numbers, (stimuli, units), or of unequal numbers of stimuli or
        other labels of them; numbers of resamples or a seed that cannot be.

    Notes
    -----
    What the nulls mean:

    - `shuffled`: the rows of `y` in another order, so that no stimulus meets its own answer. It is what the estimator gives of
      unrelated layers with these very units, and exists for every measure.
    - `haar`: `y` times a Haar-distributed orthogonal matrix. All linear information of the layer stays and its units go: a score that
      is about units falls, here to what any directions of the same space reach. Measures that are invariant to rotations
      (``"orthogonal"`` among their invariances: linear and Gaussian CKA, CCA and SVCCA, orthogonal Procrustes, Euclidean RSA
      and neighbours, ridge) have no such null, nor has ``pwcca_weights_a``, which depends on the basis of `x` alone; it is
      NaN with that reason, not the value again. A basis of q units takes q^2 numbers and q^3 operations.
    - `chance`: the expected value for independent Gaussian units, without resampling, where it is known exactly:
      ``cca_mean_rho_squared``, ``mutual_knn10_euclidean``, ``unit_match_semi_a_to_b`` and ``unit_match_semi_absolute_a_to_b``.

    An untrained twin, the null for what training adds, needs the network: jobs make it (``value_untrained``).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 5))
    >>> found = score("cka_linear_debiased", x, x[:, ::-1])
    >>> round(found.value, 6), found.n, found.p
    (1.0, 200, 5)
    >>> score("cka_linear_debiased", x, np.zeros((200, 3))).reason
    'second layer: no unit that varies over the stimuli'
    >>> found = score("unit_match_hungarian", x, x[:, ::-1], nulls=True, shuffles=20)
    >>> round(found.value, 2), found.shuffled.mean < 0.2, found.haar.mean < 0.9
    (1.0, True, True)
    """
    measure = comparator(name)
    plan = _null_plan(nulls, shuffles, haar_rotations, seed)
    x, y = pair(x, y)
    n, p, q = len(x), int(live_units(x).sum()), int(live_units(y).sum())
    a = prepare(name, x)
    value, reason = score_prepared(name, a, prepare(name, y))
    chance = measure.chance(n, p, q) if measure.chance and not reason else float("nan")
    shuffled, haar = (_NOT_ASKED, _NOT_ASKED) if plan is None else _nulls(measure, a, y, plan)
    return Score(value, n, p, q, name, reason, x.shape[1] - p, y.shape[1] - q, chance, shuffled, haar)


def _nulls(measure: Comparator, a: Any, y: Array, plan: NullPlan) -> tuple[Null, Null]:
    """Return the nulls of one summary with a layer (n, q): shuffled stimuli, random bases."""
    resampled = Prepared(y, plan, keep=False)
    shuffled = null(measure.name, a, resampled.shuffled(measure.name))
    return shuffled, null(measure.name, a, resampled.haar(measure.name)) if measure.has_haar_null else _BASIS_FREE


def _null_plan(nulls: bool, shuffles: int | None, haar_rotations: int | None, seed: int | None) -> NullPlan | None:
    """Return how many nulls are to be made, None where none are; refuse numbers that cannot be, or that nothing would use."""
    given = {"shuffles": shuffles, "haar_rotations": haar_rotations, "seed": seed}
    for name, number in given.items():
        least = 0 if name == "seed" else 1
        if number is None:
            continue
        if not nulls:
            raise MeasureError(
                f"{name} is {number!r} and nulls is False, expected nulls=True with it; pass both or neither"
            )
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise MeasureError(f"{name} is {number!r}, expected a whole number of at least {least}; pass one")
    if not nulls:
        return None
    from universality.activations.spec import NullSpec  # pydantic, which a plain score does not need

    default = NullSpec()
    return NullPlan(
        int(default.haar_rotations if haar_rotations is None else haar_rotations),
        int(default.shuffles if shuffles is None else shuffles),
        int(seed or 0),
    )
