# %% [markdown]
# # Explore a correspondence table
#
# Which unit here is which unit there, and how sure can one be? You learn to filter the table by verdict, to compare it with the table
# of its nulls, to draw correlations beside their nulls, and to look at one pair: tuning curves and images.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import universality
from universality import figures
from universality.base import arrays
from universality.stimuli import sets

WORK = Path("../../data")
run = universality.run("pocket.toml", WORK / "runs/pocket", store=WORK / "store")  # opens it if it exists

# %% [markdown]
# One row is a unit of one layer matched with a unit of another, at least one of them a detector. We take one way to match and one family.

# %%
method = run.job.matched_by()  # the first in the job's comparison.matching; the tables hold the others, too
table = run.correspondence.query("method == @method and family == 'high_low_frequency'")
nulls = run.correspondence_nulls.query("method == @method and family == 'high_low_frequency'")
len(table), len(nulls)

# %% [markdown]
# ## Verdicts, and what they are worth
#
# `same_feature` asks for a detector and a partner that is one or a near miss, each among the other's best three, more alike than the best partners in
# random bases, and orientations within 20 degrees. The same rule was applied where nothing should correspond: with layer A, or layer B, in a
# random basis. Between the untrained twins there may be no row at all, because a row needs a detector.


# %%
def verdicts(rows: pd.DataFrame) -> pd.Series:
    """Count the verdicts of the rows in which both units are detectors."""
    return rows.loc[rows["detector_a"] & rows["detector_b"], "verdict"].value_counts()


counted = {"networks": verdicts(table)}
counted |= {null: verdicts(nulls[nulls["null"] == null]) for null in ("haar_a", "haar_b", "untrained")}
pd.DataFrame(counted).fillna(0).astype(int)

# %% [markdown]
# Most pairs are `family_only`: both units are detectors, but a random basis of the layer would have offered a partner as good.

# %%
same = table[table["verdict"] == "same_feature"]
columns = [
    "model_b",
    "tap_a",
    "unit_a",
    "tap_b",
    "unit_b",
    "r_natural",
    "r_natural_low",
    "r_natural_high",
    "delta_theta_deg",
]
same[[*columns, "r_natural_haar", "r_natural_untrained", "excess_low", "q"]].round(2)

# %% [markdown]
# ## Correlations beside their nulls
#
# Each dot is a matched pair of detectors. Above the diagonal the partner is better than the best one in a random basis. That null is
# harder to beat than the untrained twin, and much harder than permuted images (`q`).

# %%
both = table[table["detector_a"] & table["detector_b"]]
fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for ax, null, name in zip(axes, ("haar", "untrained"), ("a random basis", "an untrained twin"), strict=True):
    for verdict, rows in both.groupby("verdict"):
        ax.plot(rows[f"r_natural_{null}"], rows["r_natural"], "o", markersize=4, alpha=0.7, label=verdict)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    above = (both["r_natural"] > both[f"r_natural_{null}"]).mean()
    ax.set(xlabel=f"r of the best partner in {name}", title=f"{above:.0%} of {len(both)} pairs above the diagonal")
axes[0].set_ylabel("r of the matched pair, held-out images")
axes[0].legend()
plt.show()

# %% [markdown]
# Above the diagonal is not yet above chance: the interval of the excess has to be. Here is how many pairs meet each of the conditions.

# %%
hurdles = {
    "both are detectors": len(both),
    "q < 0.05 (permuted images)": (both["q"] < 0.05).sum(),
    "r above that in a random basis": (both["excess"] > 0).sum(),
    "with its whole 95 % interval": (both["excess_low"] > 0).sum(),
    "same_feature": (both["verdict"] == "same_feature").sum(),
}
pd.Series(hurdles, name="pairs").to_frame()

# %% [markdown]
# ## One pair
#
# The pair with the largest lower end of the excess, and five more of its layers: both tuning curves, over one another.

# %%
pair = both.nlargest(1, "excess_low").iloc[0]
layers = ["model_a", "model_b", "tap_a", "tap_b"]
best = both[(both[layers] == pair[layers]).all(axis=1)].nlargest(6, "excess_low")
units = run.units_of("high_low_frequency")
figures.figure_of(figures.matched_pairs(best, units, "high-low frequency detectors", method=method))

# %% [markdown]
# And the drawn images that each of the first pair answers most, among those that did not decide the match, drawn again from the job's
# parameters. Below them what A's unit is given by the nulls: its best partner in a random basis of layer B, and in B's untrained twin, chosen
# as the match was, on the deciding half.

# %%
fold = run.activations(pair["model_a"], pair["tap_a"]).fold.values
layer_a, layer_b = (run.activations(pair[f"model_{side}"], pair[f"tap_{side}"]).values for side in "ab")
twin_b = run.activations(pair["model_b"], pair["tap_b"], seed=0).values
unit_a = layer_a[:, pair["unit_a"]]


def best_partner(layer: np.ndarray) -> np.ndarray:
    """Return the answers of the unit most like A's on the images that decide."""
    layer = layer[:, layer[fold == 0].std(axis=0) > 0]
    r = [np.corrcoef(unit_a[fold == 0], unit[fold == 0])[0, 1] for unit in layer.T]
    return layer[:, int(np.argmax(r))]


def top(answers: np.ndarray, most: int = 8) -> np.ndarray:
    """Return the numbers of the held-out images answered most, the strongest first."""
    held_out = np.flatnonzero(fold == 1)
    return held_out[np.argsort(-answers[held_out], kind="stable")[:most]]


turned = layer_b @ arrays.haar_orthogonal(layer_b.shape[1], np.random.default_rng(0))
tops = {
    f"A: {pair['model_a']} {pair['tap_a']} unit {pair['unit_a']}": top(unit_a),
    f"B: {pair['model_b']} {pair['tap_b']} unit {pair['unit_b']}": top(layer_b[:, pair["unit_b"]]),
    "null: best partner in a random basis of B": top(best_partner(turned)),
    "null: best partner in B's untrained twin": top(best_partner(twin_b)),
}
for title, rows in tops.items():
    images = sets.render("natural", run.job.stimuli, 64, rows)
    display(figures.figure_of(figures.contact_sheet(images.values, [""] * len(rows), columns=8, title=title)))

# %% [markdown]
# How many of A's eight images are among the eight of each? By chance it is what two random choices of eight share.

# %%
first, *others = tops.items()
for title, rows in others:
    print(f"{len(set(first[1]) & set(rows))} of 8 shared with {title}")
print(f"{64 / (fold == 1).sum():.1f} by chance")

# %% [markdown]
# ## What this does not show
#
# - The pair shown is the best of many. Its `r` is fair, because it was measured on images that did not decide the match, but the choice of
#   this pair looked at the excess; the counts of verdicts, not the best pair, are the result.
# - Intervals are over images. They do not say how another seed or another world of images would come out.
# - A pair that fails a condition is not shown to differ: 120 held-out images leave wide intervals.
