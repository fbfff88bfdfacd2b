"""Power and false rate of being above random bases: true pairs of known correlation, and layers in one more random basis.

Run it with ``PYTHONPATH=tests python tests/benchmarks/power.py``; it takes a few minutes and draws ``docs/power.png``. Layers are those of
networks of the pocket zoo for crops of photographs and drawn images. A true pair is a unit and itself with noise on its answers, of the
stated correlation. Every live unit counts: the detectors' rule has no part in it. The rule before this one (three bases of the units as
they are, one interval by Student's t over photographs and single bases together) is computed beside it.
"""

import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import truths

from universality.activations.bases import haar
from universality.base import intervals
from universality.correspondence import random_bases, resampling, verdict

TARGET = Path(__file__).parents[2] / "docs" / "power.png"
CARDS = {
    "pocket/vgg-focus-s0": "features.13",
    "pocket/resnet-focus-s0": "layer2.1",
    "pocket/inceptionv1-focus-s0": "inception3b",
}
CORRELATIONS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DEMO = (282, 258)
"""Crops and drawn images of the demo."""
BASES = random_bases.LEAST_BASES


def layer(card, tap, crops, shapes):
    return truths.layer(truths.pocket(card, tap, truths.spec(crops, shapes))[0])


def nulls(a, b, pairs, bases):
    photographs = resampling.Photographs.of(a.scored_photographs, a.places)
    x, y = a.halves(), b.halves()
    sides = ((x, pairs[:, 0], b), (y, pairs[:, 1], a))
    found = [
        random_bases.in_bases([(own, np.unique(units))], random_bases.RandomBases.of(other, bases, 0), photographs)[0]
        for own, units, other in sides
    ]
    return x, y, found, photographs


def judged(a, b, pairs, bases=BASES):
    """What the rule says of pairs of live units."""
    x, y, found, photographs = nulls(a, b, pairs, bases)
    return verdict.scored(x, y, pairs, found, photographs)


def before(a, b, pairs):
    """What the rule before said: three bases, one interval."""
    x, y, found, photographs = nulls(a, b, pairs, BASES)
    r = resampling.paired(x.score[:, pairs[:, 0]], y.score[:, pairs[:, 1]])
    parts = resampling.correlation_parts(x.score[:, pairs[:, 0]], y.score[:, pairs[:, 1]], photographs)
    above = np.ones(len(pairs), dtype=bool)
    for null, units in zip(found, pairs.T, strict=True):
        at = np.searchsorted(null.units, units)
        of_three = null.r[0, :3]
        images = ((parts - null.parts[0][:, at]) ** 2).sum(axis=0)
        spread = np.mean(of_three.var(axis=0, ddof=1))
        half = intervals.t_quantile(photographs.count) * np.sqrt(images + spread * (1 + 1 / 3))
        above &= r - of_three[:, at].mean(axis=0) > half
    return above


def own(made, copy):
    """Pairs of each unit with itself, by their places among the live units: noise may bring a dead one to life."""
    x, y = made.halves().live, copy.halves().live
    units = np.intersect1d(x, y)
    return np.stack([np.searchsorted(x, units), np.searchsorted(y, units)], axis=1)


def best(a, b):
    x, y = a.halves(), b.halves()
    return np.stack([np.arange(x.live.size), (x.decide.T @ y.decide).argmax(axis=1)], axis=1)


def true_rows(name, made, crops, shapes, bases=BASES):
    for r in CORRELATIONS:
        copy = truths.noisy(made, np.sqrt(1 / r**2 - 1), seed=3)
        pairs = own(made, copy)
        found = judged(made, copy, pairs, bases)
        yield {
            "network": name, "crops": crops, "shapes": shapes, "bases": bases, "r": r, "power": found.above.mean(), "stated": found.power.mean(),
            "before": before(made, copy, pairs).mean(), "units": len(found.r), "confirmable": np.median(found.confirmable),
        }  # fmt: skip


def false_rows(name, made):
    for index in range(60, 66):
        turned = made.in_basis(haar(index, 1))
        pairs = best(made, turned)
        found = judged(made, turned, pairs)
        yield {
            "network": name,
            "above": int(found.above.sum()),
            "before": int(before(made, turned, pairs).sum()),
            "pairs": len(pairs),
        }


def draw(table):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    demo = (
        table[(table["crops"] == DEMO[0]) & (table["shapes"] == DEMO[1]) & (table["bases"] == BASES)]
        .groupby("r")[["power", "stated", "before"]]
        .mean()
    )
    for name, style, label in (
        ("power", "-o", "this rule"),
        ("stated", ":", "column power (mean)"),
        ("before", "--s", "rule before (3 bases)"),
    ):
        axes[0].plot(demo.index, demo[name], style, label=label)
    axes[0].set(
        xlabel="true correlation of the pair",
        ylabel="share above random bases",
        title="Images of the demo",
        ylim=(0, 1.02),
    )
    for (crops, shapes, bases), rows in table.groupby(["crops", "shapes", "bases"]):
        means = rows.groupby("r")["power"].mean()
        axes[1].plot(
            means.index,
            means,
            "-o",
            label=f"{crops} crops of {min(crops, 94)} photographs, {shapes} drawn, {bases} bases",
        )
    axes[1].set(xlabel="true correlation of the pair", title="Other numbers of images and bases")
    for each in axes:
        each.axhline(0.8, color="0.7", linewidth=0.8)
        each.legend(frameon=False, fontsize=7)
    figure.savefig(TARGET, dpi=110)


def main():
    started = time.time()
    rows, false = [], []
    for card, tap in CARDS.items():
        for crops, shapes, bases in (
            (*DEMO, BASES),
            (*DEMO, 240),
            (376, 344, BASES),
            (94, 144, BASES),
            (188, 288, BASES),
            (376, 0, BASES),
            (0, 344, BASES),
        ):
            made = layer(card, tap, crops, shapes)
            rows += true_rows(card, made, crops, shapes, bases)
            if (crops, shapes, bases) == (*DEMO, BASES):
                false += false_rows(card, made)
    table, wrong = pd.DataFrame(rows), pd.DataFrame(false)
    pd.set_option("display.width", 200, "display.max_rows", 200)
    keys = ["crops", "shapes", "bases", "r"]
    print(table.groupby(keys)[["power", "stated", "before", "confirmable"]].mean().round(2).to_string())
    total = wrong[["above", "before", "pairs"]].sum()
    bounds = {name: resampling.upper_bound(int(total[name]), int(total["pairs"])) for name in ("above", "before")}
    print(json.dumps({"false": total.to_dict(), "below": bounds}, default=int))
    draw(table)
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
