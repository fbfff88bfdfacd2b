"""Truth tests of the correspondence tables, larger than in the suite: prints a table, draws ``docs/truth_tests.png``.

Run it with ``PYTHONPATH=tests python tests/benchmarks/truth.py``; it takes a few minutes. Layers are those of a
trained network of the pocket zoo and its untrained twins; every unit that prefers an orientation counts as a
detector, so the verdicts rest on the evidence for the pairs alone.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import truths
from scipy import stats

from universality import similarity
from universality.activations.bases import haar
from universality.base import arrays, intervals
from universality.correspondence import resampling
from universality.correspondence.verdict import VERDICTS

TARGET = Path(__file__).parents[2] / "docs" / "truth_tests.png"
CARDS = {
    "pocket/vgg-focus-s0": "features.13",
    "pocket/resnet-focus-s0": "layer2.1",
    "pocket/alexnet-focus-s0": "features.9",
}
LEVELS = (0.25, 0.5, 1.0, 1.5, 2.0)
SEEDS = range(6)
COLOURS = {"same_feature": "#1f5a99", "correlated_only": "#7fb2d9", "family_only": "#e0b27a", "unmatched": "0.8"}


def layers(card, tap, seed=None, **turned):
    return truths.layer(truths.pocket(card, tap, truths.spec(0, 600), seed)[0], **turned)


def copies(trained, other):
    """Copies of a layer by name: the copy, and for each of its units the unit it is a copy of (-1 for none)."""
    units = trained.natural.shape[1]
    own = np.arange(units)
    permuted, order = truths.permuted(trained)
    gone = np.flatnonzero(truths.oriented(trained) & other.live)[::2]
    half = own.copy()
    half[gone] = -1
    return {
        "permuted": (permuted, order),
        "half replaced": (truths.replaced(trained, other, gone), half),
        "Haar basis": (trained.in_basis(haar(0, 77)), np.full(units, -1)),
    }


def judged(name, card, trained, copy, source, plan):
    """One row of the table: recall and precision of the verdict among the units that have a true partner."""
    rows = truths.rows(trained, copy, plan, every_unit=True)
    same = rows[rows["verdict"] == "same_feature"]
    true = (source[same["unit_b"]] == same["unit_a"]).sum()
    known = len(set(source[source >= 0]) & set(np.flatnonzero(truths.oriented(trained))))
    return rows, {
        "case": name, "network": card.split("/")[1], "pairs": len(rows), "same_feature": len(same),
        "matched": (source[rows["unit_b"]] == rows["unit_a"]).sum() / known if known else np.nan,
        "recall": true / known if known else np.nan, "precision": true / len(same) if known and len(same) else np.nan,
        "median r": rows["r_natural"].median(), "shift": rows["shift_deg"].abs().median(),
        "CKA": similarity.score("cka_linear_debiased", trained.natural, copy.natural).value,
    }  # fmt: skip


def turned_case(card, tap, trained, plan, back):
    copy = layers(card, tap, turned=True, natural_turned=back)
    source = np.arange(trained.natural.shape[1]) if back else np.full(trained.natural.shape[1], -1)
    name = "input turned by 90, crops too" if back else "input turned by 90, same crops"
    return judged(name, card, trained, copy, source, plan)


def noise_table(trained, plan):
    """Mean held-out r with the true partner, its interval, and the share of intervals that hold the closed form."""
    found = []
    for level in LEVELS:
        rows = truths.rows(trained, truths.noisy(trained, level), plan, every_unit=True)
        own = rows[rows["unit_a"] == rows["unit_b"]]
        truth = 1 / np.sqrt(1 + level**2)
        found.append(
            {
                "level": level, "closed form": truth, "r": own["r_natural"].mean(), "low": own["r_natural_low"].mean(),
                "high": own["r_natural_high"].mean(), "recall": len(own) / len(rows),
                "held": ((own["r_natural_low"] <= truth) & (truth <= own["r_natural_high"])).mean(),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def coverage(truth, groups, draws=3000, seed=0):
    """Share of intervals that hold the true correlation; `groups` gives each row's photograph, which all its crops share."""
    rng = np.random.default_rng([seed, len(groups)])
    several = np.bincount(groups).max() > 1

    def images():
        common = rng.standard_normal((groups.max() + 1, draws))[groups]
        return np.sqrt(0.5) * (common + rng.standard_normal(common.shape)) if several else common

    x, noise = images(), images()
    y = truth * x + np.sqrt(1 - truth**2) * noise
    x, y = arrays.standardised(x), arrays.standardised(y)
    weights, count = resampling.bootstrap_weights(groups, 1, 400, seed)
    resampled = resampling.bootstrap_correlations(x, y, groups, weights)
    low, high = intervals.correlation_interval(np.einsum("ni,ni->i", x, y), resampled, count)
    return float(np.mean((low <= truth) & (truth <= high)))


def chance_p(draws=1000, images=100, units=20):
    """P of the best of all partners between layers of independent units, of fresh layers each time."""
    found = []
    for seed in range(draws):
        rng = np.random.default_rng([seed, 11])
        x, y = (arrays.standardised(rng.standard_normal((images, count))) for count in (1, units))
        found.append(resampling.permutation_p(x, y, (x.T @ y).max(axis=1), np.arange(images), 1, 99, seed)[0])
    return np.array(found)


def draw(verdicts, noise, p, between):
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", width_ratios=(1.5, 1, 1))
    names = list(verdicts)
    left = np.zeros(len(names))
    for verdict in VERDICTS:
        share = np.array([(verdicts[name] == verdict).mean() for name in names])
        axes[0].barh(names, share, left=left, color=COLOURS[verdict], label=verdict)
        left += share
    axes[0].invert_yaxis()
    axes[0].set(xlabel="share of matched pairs", xlim=(0, 1), title="Verdicts, three networks")
    axes[0].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.15), ncol=4, fontsize=8)
    levels = np.linspace(0, 2.1, 100)
    axes[1].plot(levels, 1 / np.sqrt(1 + levels**2), color="0.6", label="closed form")
    errors = [noise["r"] - noise["low"], noise["high"] - noise["r"]]
    axes[1].errorbar(
        noise["level"], noise["r"], errors, fmt="o", color="#1f5a99", markersize=4, label="mean r, mean 95 % interval"
    )
    axes[1].set(
        xlabel="noise (standard deviations of the unit)", ylabel="held-out r with the true partner", ylim=(0, 1.02)
    )
    axes[1].set_title("A noisy copy")
    axes[1].legend(frameon=False)
    axes[2].plot([0, 1], [0, 1], color="0.6")
    axes[2].step(
        np.sort(p), np.arange(1, len(p) + 1) / len(p), where="post", color="#1f5a99", label="independent layers"
    )
    values = np.sort(between["p"])
    axes[2].step(
        values, np.arange(1, len(values) + 1) / len(values), where="post", color="#c2571a", label="two untrained twins"
    )
    axes[2].set(
        xlabel="permutation p", ylabel="share of pairs with a p so small", title="Layers without common training"
    )
    axes[2].legend(frameon=False, loc="lower right")
    figure.savefig(TARGET, dpi=110)


def main():
    started = time.time()
    plan = truths.plan()
    table, verdicts, noise = [], {}, []
    for card, tap in CARDS.items():
        trained, other = layers(card, tap), layers(card, tap, 0)
        found = [judged(name, card, trained, *made, plan) for name, made in copies(trained, other).items()]
        found += [turned_case(card, tap, trained, plan, back) for back in (True, False)]
        noise.append(noise_table(trained, plan).assign(network=card.split("/")[1]))
        for rows, row in found:
            table.append(row)
            verdicts.setdefault(row["case"], []).append(rows["verdict"])
    card, tap = next(iter(CARDS.items()))
    twins = [layers(card, tap, seed) for seed in SEEDS]
    between = [truths.rows(a, b, plan, every_unit=True) for i, a in enumerate(twins) for b in twins[:i]]
    candidates = sum(int(a.live.sum() * b.live.sum()) for i, a in enumerate(twins) for b in twins[:i])
    between = pd.concat(between, ignore_index=True)
    verdicts["two untrained twins"] = [between["verdict"]]
    verdicts = {name: pd.concat(parts) for name, parts in verdicts.items()}
    pd.set_option("display.width", 200, "display.max_columns", 20)
    print(pd.DataFrame(table).sort_values("case", kind="stable").round(3).to_string(index=False))
    noise = pd.concat(noise)
    print(noise.round(3).to_string(index=False))
    same = int((between["verdict"] == "same_feature").sum())
    print(
        f"untrained twins: {same} same_feature of {len(between)} matched and {candidates} candidate pairs; {between['verdict'].value_counts().to_dict()}"
    )
    alone, crops = np.arange(200), np.repeat(np.arange(15), 16)
    for truth in (0.0, 0.5, 0.8):
        print(
            f"coverage at r {truth}: 200 images {coverage(truth, alone):.3f}, 15 photographs of 16 crops {coverage(truth, crops):.3f}"
        )
    p = chance_p()
    # P takes 100 values: the test for discrete uniform steps compares with uniform draws between the steps.
    spread = p - np.random.default_rng(0).uniform(0, 0.01, p.size)
    print(f"p of independent layers: KS {stats.kstest(spread, 'uniform')}, at most 0.05: {(p <= 0.05).mean():.3f}")
    print(f"p of untrained twins at most 0.05: {(between['p'] <= 0.05).mean():.3f}")
    draw(verdicts, noise.groupby("level", as_index=False).mean(numeric_only=True), p, between)
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
