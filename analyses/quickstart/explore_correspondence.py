# %% [markdown]
# # Explore a correspondence table
#
# Which unit here is which unit there, and how sure can one be? You learn to filter the table by verdict, to hold it against the table
# of its nulls, to draw correlations beside their nulls, and to look at one pair: tuning curves and images.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import universality
from universality import figures, stimuli

WORK = Path("../../data")
run = universality.run("pocket.toml", WORK / "runs/pocket", store=WORK / "store")  # opens it if it exists

# %% [markdown]
# One row is a unit of one layer matched with a unit of another, at least one of them a detector. We take one way to match and one family.

# %%
table = run.correspondence.query("method == 'hungarian' and family == 'high_low_frequency'")
nulls = run.correspondence_nulls.query("method == 'hungarian' and family == 'high_low_frequency'")
len(table), len(nulls)

# %% [markdown]
# ## Verdicts, and what they are worth
#
# `same_feature` asks for two detectors, each among the other's best three, with an excess over the random basis whose whole interval is
# above 0, and orientations within 20 degrees. The same rule was applied where nothing should correspond: with layer A, or layer B, in a
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
# Above the diagonal is not yet above chance: the interval of the excess has to be. Here is how many pairs each of the hurdles leaves.

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
# The pair with the largest lower end of the excess: both tuning curves, over one another.

# %%
best = both.nlargest(1, "excess_low")
pair = best.iloc[0]
units = run.units[run.units["family"] == "high_low_frequency"]
figures.matched_pairs(best, units, "high-low frequency detectors")

# %% [markdown]
# And the drawn images that each answers most, among those that did not decide the match, drawn again from the job's parameters. The
# third sheet is the null: the images that the unit of the same number in A's untrained twin likes.


# %%
def top(model: str, tap: str, unit: int, seed: int | None = None, most: int = 8) -> np.ndarray:
    """Return the numbers of the held-out images that a unit answers most, the strongest first."""
    activations = run.activations(model, tap, seed=seed).sel(unit=unit)
    held_out = np.flatnonzero(activations.fold == 1)
    return held_out[np.argsort(-activations.values[held_out], kind="stable")[:most]]


def sheet(rows: np.ndarray, title: str):
    """Draw some of the run's natural images."""
    images = stimuli.render("natural", run.job.stimuli, 64, rows)
    return figures.contact_sheet(images.values, [""] * len(rows), columns=8, title=title)


tops = {side: top(pair[f"model_{side}"], pair[f"tap_{side}"], pair[f"unit_{side}"]) for side in "ab"}
for side in "ab":
    display(sheet(tops[side], f"{pair[f'model_{side}']} {pair[f'tap_{side}']} unit {pair[f'unit_{side}']}"))
twin = top(pair["model_a"], pair["tap_a"], pair["unit_a"], seed=0)
sheet(twin, "the untrained twin's unit")

# %% [markdown]
# Of A's eight images, how many are among B's eight? Chance is what two random choices of eight share.

# %%
shared, held_out = (
    len(set(tops["a"]) & set(tops["b"])),
    int((run.activations(pair["model_a"], pair["tap_a"]).fold == 1).sum()),
)
print(f"shared {shared} of 8; with the untrained twin {len(set(tops['a']) & set(twin))}; by chance {64 / held_out:.1f}")

# %% [markdown]
# ## What this does not show
#
# - The pair shown is the best of many. Its `r` is fair, because it was measured on images that did not decide the match, but the choice of
#   this pair looked at the excess; the counts of verdicts, not the best pair, are the result.
# - Intervals are over images. They do not say how another seed or another world of images would come out.
# - A pair that fails a hurdle is not shown to differ: with 120 held-out images much is left open.
