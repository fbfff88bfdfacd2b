"""Have two units the same role? One is replaced by the other, and what the network loses is measured against removing it.

A unit's map b is replaced by alpha a + beta, with two scalars fitted on one half of the images; a is the map of the unit that it is matched with, resized bilinearly. Nothing else is fitted, and no channels are
mixed. On the other half, recovery is

    R = (L_removed - L_replaced) / (L_removed - L_intact)

for L the divergence of the network's answers from the intact ones, their cross-entropy with the labels, or the squared change of the next tap. Removed is: by the map of another image (resample), or by
the unit's mean. What stands beside R:

- *unmatched*: the best other unit of the same layer; *direction*: a random direction of its standardised units; *Haar*: the best direction of a random basis of them; *untrained*: the best unit of the
  untrained twin; *shuffled*: the matched unit at another image. Each has two scalars of its own.
- ceilings: the matched unit of the same architecture from another seed, and the same unit of a noisy copy.

References
----------
C. Olah et al., Zoom In, Distill 2020, claim 3. Stitching of whole layers: Y. Bansal, P. Nakkiran, B. Barak, Revisiting model stitching to compare neural representations, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from universality.base.arrays import Array, Ints, haar_orthogonal, reciprocal
from universality.base.intervals import percentile_interval
from universality.causes.effects import costs, resamples
from universality.causes.passes import Passes
from universality.causes.plan import MEASURES, CausePlan
from universality.models.editing import exchanged, resized
from universality.similarity.matching import hungarian

DRAWS = 2
"""Random directions, and random bases, that stand for each unit."""
NULLS = ("unmatched", "direction", "haar", "untrained", "shuffled")
CEILINGS = ("seed", "copy")
REMOVED = ("resample", "mean")
CEILING_SHARE = 0.5
"""An interval of R wholly below this share of the ceiling is another role."""
VERDICTS = ("same_role", "other_role", "undecided")


@dataclass(frozen=True)
class Replaced:
    """A set of units that are replaced together.

    Attributes
    ----------
    what : unit | family | layer
    units : (k,) of the network that is edited
    """

    what: str
    family: str
    units: Ints


@dataclass(frozen=True)
class Sources:
    """Maps (image, unit, y, x), at all images, that may stand for the units of a layer.

    Attributes
    ----------
    of : of the other network
    untrained : of its untrained twins
    seeds : of networks of the edited one's architecture with other seeds
    copies : of noisy copies of the edited network
    """

    of: Tensor
    untrained: Sequence[Tensor] = ()
    seeds: Sequence[Tensor] = ()
    copies: Sequence[Tensor] = ()


def halves(count: int, seed: int) -> tuple[Ints, Ints]:
    """Return the images that scalars are fitted on and those that R is measured on, as many or one more: numbers in order."""
    order = np.random.default_rng([seed, count]).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


class Fitting:
    """Fit scalars on one half of the images: what stands for units of a layer at the other half.

    Parameters
    ----------
    maps : (image, unit, y, x) of the layer, at all images
    fit, test : numbers of the images of both halves
    """

    def __init__(self, maps: Tensor, fit: Ints, test: Ints) -> None:
        self.maps, self.fit, self.test = maps, torch.from_numpy(fit), torch.from_numpy(test)
        self._own = _standard(maps[self.fit])

    def sized(self, maps: Tensor) -> Tensor:
        """Return other maps in as many rows and columns."""
        return resized(maps, *self.maps.shape[2:])

    def correlations(self, maps: Tensor) -> Array:
        """Return the correlations of units with those of other maps, over images and positions of the fitting half (unit, other); -1 where one does not vary."""
        x, y = self._own, _standard(maps[self.fit])
        r = (x.T @ y).numpy()
        r[~(x.abs().amax(0) > 0).numpy()] = -1.0
        r[:, ~(y.abs().amax(0) > 0).numpy()] = -1.0
        return np.asarray(r)

    def lined(self, units: Ints, maps: Tensor) -> Tensor:
        """Return alpha a + beta at the test half for each unit (k,) and the map (image, k, y, x) that stands for it, by least squares on the fitting half."""
        y, x = self.maps[self.fit][:, torch.from_numpy(units)], maps[self.fit]
        of = (0, 2, 3)
        my, mx = (v.mean(of, dtype=torch.float64) for v in (y, x))
        y, x = (v - m.float()[None, :, None, None] for v, m in ((y, my), (x, mx)))
        covariance = (x * y).mean(of, dtype=torch.float64).numpy()
        alpha = covariance * reciprocal(x.square().mean(of, dtype=torch.float64).numpy())
        beta = my.numpy() - alpha * mx.numpy()
        slope, offset = (torch.from_numpy(np.asarray(v)).float()[None, :, None, None] for v in (alpha, beta))
        return slope * maps[self.test] + offset

    def means(self, units: Ints) -> Tensor:
        """Return the mean of every unit over the fitting half, at the test half: (image, k, y, x)."""
        mean = self.maps[self.fit][:, torch.from_numpy(units)].double().mean((0, 2, 3)).float()
        return mean[None, :, None, None].expand(len(self.test), -1, *self.maps.shape[2:])

    def exchanged(self, units: Ints, seed: int) -> Tensor:
        """Return every unit at another image of the test half: (image, k, y, x)."""
        at_test = self.maps[self.test][:, torch.from_numpy(units)]
        return at_test[torch.from_numpy(exchanged(len(at_test), seed))]

    def r_test(self, units: Ints, maps: Tensor) -> Array:
        """Return the correlation of each unit with the map that stands for it over the test half, (k,); NaN where one does not vary."""
        x, y = _standard(self.maps[self.test][:, torch.from_numpy(units)]), _standard(maps[self.test])
        r = (x * y).sum(0).numpy()
        return np.where((x.abs().amax(0) > 0).numpy() & (y.abs().amax(0) > 0).numpy(), r, np.nan)


def _standard(maps: Tensor) -> Tensor:
    """Return maps as columns (image and position, unit) of mean 0 and length 1, float64; 0 of what does not vary."""
    flat = maps.double().transpose(0, 1).flatten(1).T
    flat = flat - flat.mean(0)
    length = torch.linalg.vector_norm(flat, dim=0)
    return flat * torch.from_numpy(reciprocal(length.numpy()))


def partners(r: Array, known: Mapping[int, int]) -> Ints:
    """Return for each unit of the edited layer its partner in the other (unit,), -1 for none: those that are known, the others one to one by the largest sum of r.

    Parameters
    ----------
    r : (unit, other) correlations of maps
    known : unit -> other, matched before
    """
    found = np.full(len(r), -1, dtype=np.int64)
    for unit, other in known.items():
        found[unit] = other
    rows = np.array([u for u in range(len(r)) if found[u] < 0], dtype=np.int64)
    columns = np.array([v for v in range(r.shape[1]) if v not in set(known.values())], dtype=np.int64)
    if rows.size and columns.size:
        for i, j in hungarian(r[np.ix_(rows, columns)]):
            found[rows[i]] = columns[j]
    return found


Standing = Callable[[], Iterator[Tensor]]


@dataclass
class Experiment:
    """Units of one layer replaced by what stands for them.

    Parameters
    ----------
    passes : the edited network at the images of the test half
    fitting : of the edited layer
    sources : what may stand for its units
    partner : (unit,) of the other network's layer, -1 for none
    labels : (image,) of the test half
    """

    passes: Passes
    fitting: Fitting
    sources: Sources
    partner: Ints
    labels: Ints
    seed: int
    _r: Array = field(init=False)

    def __post_init__(self) -> None:
        """Bring the other network's maps to the edited layer's size."""
        sized, of = self.fitting.sized, self.sources
        several = ([sized(maps) for maps in some] for some in (of.untrained, of.seeds, of.copies))
        self.sources = Sources(sized(of.of), *several)
        self._r = self.fitting.correlations(self.sources.of)

    def standing(self, units: Ints) -> dict[str, Standing]:
        """Return what stands for units (k,) at the test half, by name: one or more maps (image, k, y, x), made when asked for."""
        fitting, of = self.fitting, self.sources.of
        matched = of[:, torch.from_numpy(self.partner[units])]
        other = self._r[units].copy()
        other[np.arange(len(units)), self.partner[units]] = -np.inf

        def best(maps: Tensor) -> Tensor:
            return maps[:, torch.from_numpy(fitting.correlations(maps)[units].argmax(axis=1))]

        def shuffled() -> Iterator[Tensor]:
            lined = fitting.lined(units, matched)
            yield lined[torch.from_numpy(exchanged(len(lined), self.seed + 1))]

        def many(maps: Sequence[Tensor], chosen: Callable[[Tensor], Tensor]) -> Standing:
            return lambda: (fitting.lined(units, chosen(one)) for one in maps)

        def one_to_one(maps: Tensor) -> Tensor:
            own = partners(fitting.correlations(maps), {})[units]
            return maps[:, torch.from_numpy(np.where(own < 0, 0, own))]

        found: dict[str, Standing] = {
            "resample": lambda: iter([fitting.exchanged(units, self.seed)]),
            "mean": lambda: iter([fitting.means(units)]),
            "matched": lambda: iter([fitting.lined(units, matched)]),
            "direction": lambda: (fitting.lined(units, self._directions(units, k)) for k in range(DRAWS)),
            "haar": lambda: (fitting.lined(units, best(self._basis(k))) for k in range(DRAWS)),
            "shuffled": shuffled,
            "untrained": many(self.sources.untrained, best),
            "seed": many(self.sources.seeds, one_to_one),
            "copy": many(self.sources.copies, lambda maps: maps[:, torch.from_numpy(units)]),
        }
        if of.shape[1] > 1:
            found["unmatched"] = lambda: iter([fitting.lined(units, of[:, torch.from_numpy(other.argmax(axis=1))])])
        return found

    def _mixed(self, directions: Array) -> Tensor:
        """Return mixtures (direction, unit) of the other network's units, each divided by its standard deviation: (image, direction, y, x)."""
        of = self.sources.of
        scale = reciprocal(of[self.fitting.fit].double().std((0, 2, 3)).numpy())
        return torch.einsum("nuyx,du->ndyx", of, torch.from_numpy(directions * scale).float())

    def _directions(self, units: Ints, draw: int) -> Tensor:
        made = [
            np.random.default_rng([self.seed, draw, int(u)]).standard_normal(self.sources.of.shape[1]) for u in units
        ]
        return self._mixed(np.stack(made))

    def _basis(self, draw: int) -> Tensor:
        count = self.sources.of.shape[1]
        return self._mixed(haar_orthogonal(count, np.random.default_rng([self.seed, draw, count])).T)

    def measured(self, sets: Sequence[Replaced]) -> list[dict[str, dict[str, Array]]]:
        """Return for every set, by what stood for its units, what that costs by measure, (image,); mean over draws."""
        every = np.unique(np.concatenate([of.units for of in sets]))
        found: list[dict[str, dict[str, Array]]] = [{} for _ in sets]
        for name, standing in self.standing(every).items():
            each: list[list[dict[str, Array]]] = [[] for _ in sets]
            for values in standing():
                for k, of in enumerate(sets):
                    places = torch.from_numpy(np.searchsorted(every, of.units))
                    answers = self.passes.with_units(of.units, values[:, places])
                    each[k].append(costs(self.passes.intact, answers, self.labels))
            for k, draws in enumerate(each):
                if draws:
                    found[k][name] = {m: np.mean([draw[m] for draw in draws], axis=0) for m in MEASURES}
        return found

    def rows(self, sets: Sequence[Replaced], plan: CausePlan) -> list[dict[str, object]]:
        """Return for every set, base and measure a row of ``transplants``, less the columns of the layers and the verdict."""
        weights, rows = resamples(len(self.labels), plan.seed), []
        for of, cost in zip(sets, self.measured(sets), strict=True):
            r = self.fitting.r_test(of.units, self.sources.of[:, torch.from_numpy(self.partner[of.units])])
            common = {
                "what": of.what, "family": of.family, "unit": int(of.units[0]) if of.what == "unit" else -1,
                "partner": int(self.partner[of.units[0]]) if of.what == "unit" else -1, "n_units": len(of.units),
                "r": float(np.nanmean(r)) if np.isfinite(r).any() else float("nan"), "n_images": len(self.labels),
            }  # fmt: skip
            rows += [
                common | {"base": base, "measure": measure} | recovery(cost, base, measure, weights)
                for base in REMOVED
                for measure in MEASURES
            ]
        return rows


def recovery(cost: Mapping[str, Mapping[str, Array]], base: str, measure: str, weights: Array) -> dict[str, float]:
    """Return R with its interval, its nulls and its ceilings; NaN where removing the units costs nothing that is told from 0.

    Parameters
    ----------
    cost : by what stood for the units, and by measure, (image,)
    weights : (sample, image) of the bootstrap
    """
    removed = cost[base][measure]
    ablated, low = float(removed.mean()), percentile_interval(weights @ removed)[0]
    known = np.isfinite(ablated) and low > 0

    def r_of(name: str) -> float:
        return 1.0 - float(cost[name][measure].mean()) / ablated if known and name in cost else float("nan")

    drawn = 1.0 - (weights @ cost["matched"][measure]) * reciprocal(weights @ removed) if known else np.array([np.nan])
    ends = percentile_interval(drawn)
    found = {f"recovery_{name}": r_of(name) for name in (*NULLS, *CEILINGS)}
    floor = max(
        (found[f"recovery_{name}"] for name in NULLS if np.isfinite(found[f"recovery_{name}"])), default=float("nan")
    )
    # The interval's lower end exceeds the floor in 80 % of cases where R lies 1.96 + 0.84 standard errors above it.
    return {
        "ablated": ablated, "ablated_low": low, "recovery": r_of("matched"), "recovery_low": ends[0], "recovery_high": ends[1], **found,
        "detectable": floor + 2.80 * float(np.std(drawn)),
    }  # fmt: skip


def judged(rows: pd.DataFrame) -> NDArray[np.object_]:
    """Return the verdict on every row, one of `VERDICTS`.

    - same_role: the whole interval of R lies above every null
    - other_role: it lies below half of the higher ceiling (`CEILING_SHARE`), or, where there is none, below every null
    - undecided: neither, or removing the units costs nothing that is told from 0
    """
    nulls = rows[[f"recovery_{name}" for name in NULLS]]
    ceiling = rows[[f"recovery_{name}" for name in CEILINGS]].max(axis=1)
    same = rows["recovery_low"] > nulls.max(axis=1)
    other = np.where(
        ceiling.notna(), rows["recovery_high"] < CEILING_SHARE * ceiling, rows["recovery_high"] < nulls.min(axis=1)
    )
    return np.select([same, other], VERDICTS[:2], default=VERDICTS[2]).astype(object)
