# %% [markdown]
# # Look at a pair
#
# A row of the correspondence table says that two units are the same feature. Are they? You learn to look: at the parts of whole photographs
# that drive both units, beside those of the random direction that they had to beat, and at images made to drive both, or one and not the other.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd

import universality
from universality import figures
from universality.runs.visualisations import facts

WORK = Path("../../data")
run = universality.run("pocket.toml", WORK / "runs/pocket", store=WORK / "store")  # opens it if it exists

# %% [markdown]
# We take the pairs with the verdict `same_feature`, and of these the one with the largest correlation on held-out images.

# %%
method = run.job.matched_by()
same = run.correspondence.query("method == @method and verdict == 'same_feature'")
pair = same.sort_values("r_natural", ascending=False).iloc[0]
columns = ["family", "model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b"]
pair[[*columns, "r_natural", "r_natural_low", "r_natural_haar", "r_natural_untrained", "power"]]

# %% [markdown]
# ## What one unit answers to
#
# Every photograph is shown whole. At every position of the layer's map the unit's answer is compared; of each photograph the largest counts. The
# pictures are the middle half of the receptive field there. The arrow is the orientation that the unit prefers among *drawings*: nobody
# used it to find these pictures, so that curves (or boundaries) of that orientation are a check of the definition. The last row shows what
# the unit answers to elsewhere: a unit is known by what it does not answer to, too.

# %%
a = pair["model_a"], pair["tap_a"], int(pair["unit_a"])
b = pair["model_b"], pair["tap_b"], int(pair["unit_b"])
found, sheet, caption = figures.sheet_of(run, *a, family=pair["family"])
sheet

# %% [markdown]
# The pictures and what they are, as numbers:

# %%
found.drop_dims("channel").to_dataframe()[["kind", "rank", "quantile", "sigma", "picture", "licence"]].round(2)

# %% [markdown]
# ## Both units, and what they had to beat
#
# Beside the two units stand the directions of one random basis of either layer that resemble them most: chosen as a partner is, on one half of the
# images. If these sheets looked as alike as those of the units, the match would mean nothing.

# %%
matched = [
    figures.matched_of(run, row)
    for _, row in same.sort_values("r_natural", ascending=False).head(4).iterrows()
    if row["model_a"] == a[0] and row["model_b"] == b[0]
]
figures.figure_of(figures.matched_examples(matched))

# %% [markdown]
# ## Images made to drive them
#
# The first image is made to drive both units at once, the second the first unit while the second stays silent, the third the other way round. Two units
# that were the same function would leave nothing to find for the second and third. Beside each image stands what it reaches, in standard
# deviations over natural images, and what a random direction of the layer reaches with the same budget.

# %%
names = [":".join(map(str, unit)) for unit in (a, b)]
asked = [names, [names[0], f"-{names[1]}"], [f"-{names[0]}", names[1]]]
made = universality.visualise(run, asked, steps=64)
reached = pd.DataFrame(facts(made))
reached[["image", "unit", "reached_sigma", "natural_sigma", "random_reached_sigma", "note"]].round(2)

# %%
images = made["image"].values.transpose(0, 3, 1, 2) / 255
figures.figure_of(figures.contact_sheet(images, ["both", "A, not B", "B, not A"], columns=3, width_mm=89))

# %% [markdown]
# ## What this does not show
#
# - Pictures convince more than they prove: the pair was chosen by its correlation, and photographs of shapes and animals hold many curves.
# - The units are driven by what lies in the middle half of their receptive field here; what lies further out is cut away.
# - That an image drives one unit and not the other shows that they differ somewhere, not that natural images ever show it. An optimiser finds such
#   images for most pairs of units; what counts is how far it gets beside natural images.
# - A small network is driven beyond all natural images by every image made for it: the percentile alone says little.
