"""Which tap and which unit restores the answer: while a corrupted image is shown, units are set to what they answer to the clean one.

The two images of a pair are drawn with all parameters equal but one. ``shape``: another figure. ``texture``: both sides have one mean colour, and the figure is given the background's texture. ``defocus``: so they do, both
have one texture, and the background is out of focus in the clean image only. In the last two a figure is there to see in the clean image alone. Only pairs count whose clean image is answered right and whose corrupted
one is answered otherwise. *Restored* is the rise of the log odds of the clean against the corrupted answer, as a share of what they differ by between the two images (a ratio of sums over pairs): setting all that
the output depends on restores 1.

References
----------
K. Wang et al., Interpretability in the wild, ICLR 2023 (logit difference). S. Heimersheim, N. Nanda, How to use and interpret activation patching, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from universality.activations.network import Network
from universality.base.arrays import Array, Ints, reciprocal
from universality.base.intervals import percentile_interval
from universality.causes.ablations import Rows, activity, nearest, random_sets, shared
from universality.causes.effects import resamples
from universality.causes.labelled import STREAM, kind_of
from universality.causes.passes import Answers, Passes
from universality.causes.plan import CausePlan
from universality.models.card import Tap
from universality.models.editing import exchanged
from universality.models.pocket import shapes
from universality.stimuli import sets
from universality.stimuli.shapes import FIRST_STREAM

PARAMETERS = ("shape", "texture", "defocus")
MOST_PAIRS = 108
LEAST_PAIRS = 8
DEFOCUS_PX = 3.0
"""Standard deviation of a background's blur: the largest of the training images."""
CONTRAST = 0.07
"""Of textures where they alone tell the figure: the lowest of the training images of one mean colour."""


def pairs(parameter: str, count: int, seed: int, diet: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the parameters of clean and of corrupted images (see `universality.models.pocket.shapes`): equal but for one."""
    clean = dict(shapes.sample_parameters(count, FIRST_STREAM + STREAM + 1 + seed, diet))
    if parameter == "shape":
        step = np.random.default_rng([seed, count]).integers(1, len(shapes.SHAPES), size=count)
        return clean, {**clean, "shape": (clean["shape"] + step) % len(shapes.SHAPES)}
    # One mean colour on both sides of the contour, and no other cue than the one that is taken away.
    clean |= {
        "equal_mean": np.ones(count, dtype=np.bool_),
        "figure_colour": clean["background_colour"],
        "contrast": np.full(count, CONTRAST, np.float32),
    }
    clean["defocus_sigma_px"] = np.zeros(count)
    alike = {f"figure_{name}": clean[f"background_{name}"] for name in ("frequency_cpp", "orientation_deg")}
    corrupted = {**clean, **alike}
    if parameter == "defocus":
        clean = {**corrupted, "defocus_sigma_px": np.full(count, DEFOCUS_PX)}
    return clean, corrupted


def patch_rows(
    network: Network,
    module: nn.Module,
    tap: Tap,
    families: Mapping[str, Ints],
    plan: CausePlan,
    common: Mapping[str, object],
) -> Rows:
    """Return the rows of ``patches`` of one tap; none of a network without images whose right answer is known.

    Parameters
    ----------
    families : by name, the detectors among the tap's units
    """
    training, kind = network.card.training, kind_of(network)
    if training is None or kind == "own":
        return []
    preprocessing, rows = network.card.preprocessing, []
    for parameter in PARAMETERS:
        drawn = pairs(parameter, plan.images, plan.seed, training.diet)
        images = [
            sets.normalise(np.moveaxis(shapes.render(of), 3, 1).astype(np.float32) / np.float32(255), preprocessing) for of in drawn
        ]  # fmt: skip
        rows += Patching.of(
            module, tap, images[0], images[1], shapes.labels(drawn[0], "texture" if kind == "texture" else "shape")
        ).rows(families, plan, {**common, "parameter": parameter})
    return rows


class Patching:
    """Pairs of images that a network answers otherwise.

    Attributes
    ----------
    tried : how many pairs there were
    clean, corrupted : passes with the images of those that count; None where these are fewer than `LEAST_PAIRS`
    """

    def __init__(self, tried: int, count: int, channels: int, clean: Passes | None, corrupted: Passes | None) -> None:
        self.tried, self.count, self.channels, self.clean, self.corrupted = tried, count, channels, clean, corrupted

    @classmethod
    def of(
        cls, module: nn.Module, tap: Tap, clean: NDArray[np.float32], corrupted: NDArray[np.float32], labels: Ints
    ) -> Patching:
        """Return the pairs that count, of images (image, channel, y, x) with the right answers to the clean ones."""
        whole = [Passes(module, tap, None, images) for images in (clean, corrupted)]
        answers = [passes.intact.choice for passes in whole]
        counted = np.flatnonzero((answers[0] == labels) & (answers[1] != answers[0]))
        some, channels = counted[:MOST_PAIRS], whole[0].maps.shape[1]
        if len(counted) < LEAST_PAIRS:
            return cls(len(labels), len(counted), channels, None, None)
        return cls(
            len(labels),
            len(some),
            channels,
            *(Passes(module, tap, None, images[some]) for images in (clean, corrupted)),
        )

    def rows(self, families: Mapping[str, Ints], plan: CausePlan, common: Mapping[str, object]) -> Rows:
        """Return the rows about all units, each family, and each unit."""
        common = {**common, "n_tried": self.tried, "n_pairs": self.count}
        every = np.arange(self.channels)
        if self.clean is None or self.corrupted is None:
            nothing = dict.fromkeys(
                ("restored", "restored_low", "restored_high", "answered", "restored_other", "restored_random", "restored_random_95"), float("nan")
            )  # fmt: skip
            return [
                {
                    **common,
                    "what": "layer",
                    "family": "",
                    "unit": -1,
                    "n_units": len(every),
                    **nothing,
                    "n_random_own": 0.0,
                    "rank": 0,
                }
            ]
        values, weights = activity(self.clean.maps), resamples(self.count, plan.seed)
        single = [self._shares(np.array([u])) for u in every]
        means = np.array([self._restored(of) for of in single])
        ranks = 1 + np.argsort(np.argsort(-means, kind="stable"), kind="stable")
        rows = [common | self._row("layer", "", every, self._shares(every), [], weights) | {"rank": 0}]
        for name, units in families.items():
            sets = random_sets(values, units, plan.seed)
            others = np.array([self._restored(self._shares(some)) for some in sets])
            row = self._row("family", name, units, self._shares(units), others, weights)
            rows.append(common | row | {"rank": 0, "n_random_own": shared(sets, units)})
        family_of = {int(unit): name for name, units in reversed(list(families.items())) for unit in units}
        for u in every:
            others = means[nearest(values, int(u), every)]
            row = self._row("unit", family_of.get(int(u), ""), np.array([u]), single[u], others, weights)
            rows.append(common | row | {"rank": int(ranks[u])})
        return rows

    def _odds(self, answers: Answers) -> Array:
        """Return the log odds of the clean against the corrupted answer, (pair,)."""
        assert self.clean is not None and self.corrupted is not None
        pair = np.arange(self.count)
        return np.asarray(
            answers.log_p[pair, self.clean.intact.choice] - answers.log_p[pair, self.corrupted.intact.choice]
        )

    def _shares(self, units: Ints, other: bool = False) -> tuple[Array, Array, float]:
        """Return the rise of the log odds with units set, what they differ by between the images, (pair,), and the share answered as the clean images."""
        assert self.clean is not None and self.corrupted is not None
        maps = self.clean.maps[:, torch.from_numpy(units)]
        if other:
            maps = maps[torch.from_numpy(exchanged(len(maps), 0))]
        answers = self.corrupted.with_units(units, maps)
        low, high = self._odds(self.corrupted.intact), self._odds(self.clean.intact)
        return self._odds(answers) - low, high - low, float((answers.choice == self.clean.intact.choice).mean())

    def _restored(self, shares: tuple[Array, Array, float]) -> float:
        return float(shares[0].sum() / shares[1].sum())

    def _row(
        self,
        what: str,
        family: str,
        units: Ints,
        shares: tuple[Array, Array, float],
        others: Array | list[float],
        weights: Array,
    ) -> dict[str, object]:
        low, high = percentile_interval((weights @ shares[0]) * reciprocal(weights @ shares[1]))
        others = np.asarray(others, dtype=np.float64)
        return {
            "what": what, "family": family, "unit": int(units[0]) if what == "unit" else -1, "n_units": len(units), "restored": self._restored(shares),
            "restored_low": low, "restored_high": high, "answered": shares[2], "restored_other": self._restored(self._shares(units, other=True)),
            "n_random_own": 0.0, "restored_random": float(others.mean()) if others.size else float("nan"),
            "restored_random_95": float(np.quantile(others, 0.95)) if others.size else float("nan"),
        }  # fmt: skip
