# %% [markdown]
# # High-low frequency detectors and the diet of a network
#
# High-low frequency detectors answer to a boundary with fine texture on one side and coarse texture on the other. Schubert et al. (2021)
# suggest that networks hold them because backgrounds are often out of focus. If so, a network that never saw defocus should lack them. You
# learn to read an experiment of that kind: what changed, what should not have changed, and what else did.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display

import universality
from universality import figures
from universality.stimuli import sets
from universality.stimuli.high_low import HighLowStimuli
from universality.stimuli.shapes import ShapeStimuli
from universality.stimuli.spec import StimuliSpec

WORK = Path("../../data")

# %% [markdown]
# ## The diets
#
# Networks of the pocket zoo are trained on drawings. On diet `focus` half of the backgrounds are blurred and the sides of a boundary differ in
# texture; on diet `sharp` nothing is blurred, and both sides have textures of one band.

# %%
for diet in ("focus", "sharp"):
    images = sets.render("shapes", StimuliSpec(shapes=ShapeStimuli(images=12, diet=diet)), 64)
    display(figures.stimulus_sheet(images, title=f"diet {diet}"))

# %% [markdown]
# ## The stimuli
#
# A boundary between frequencies in every orientation, and what it must not be confused with: a seam between equal frequencies (ratio 1), steps of
# contrast and of luminance, one texture alone.

# %%
shown = sets.render("high_low", StimuliSpec(high_low=HighLowStimuli(orientations=8, phases=1)), 64)
labels = pd.DataFrame({"kind": shown.kind.values, "ratio": shown.ratio.values})
some = labels.groupby(["kind", "ratio"], dropna=False).head(8).iloc[::2]  # of each kind, every second orientation
rows = some.sort_values(["kind", "ratio"], kind="stable").index.to_numpy()
figures.stimulus_sheet(
    shown.isel(stimulus=rows), columns=8, title="kind, cycles per image of the high side, ratio, orientation"
)

# %% [markdown]
# ## What the whole experiment found
#
# `analyses/diet_experiment` ran four architectures, with drawings in three colours, and keeps its tables. First grey.

# %%
shares = pd.read_csv("../diet_experiment/shares.csv")
grey = shares[shares["colour"] == "grey"]
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, (family, rows) in zip(axes, grey.groupby("family"), strict=True):
    names = rows["model"].str.removeprefix("pocket/")
    ax.barh(names, rows["share"])
    ax.plot(rows["share_untrained"], names, "k|", markersize=10, label="untrained twins")
    ax.set(title=family, xlabel="share of units that are detectors")
axes[0].legend()
plt.show()

# %% [markdown]
# The difference between diets, beside the difference between two seeds of diet `focus`: that is what retraining alone does.

# %%
differences = pd.read_csv("../diet_experiment/differences.csv")
table = differences.set_index(["colour", "family", "contrast"])[["difference", "low", "high"]].mul(100).round(1)
table.rename(columns=lambda name: f"{name}, percentage points")

# %% [markdown]
# ## Ask a network yourself
#
# One small job: VGG, two seeds on `focus`, one on `sharp`, and their untrained twins.

# %%
run = universality.run("diet.toml", WORK / "runs/diet", store=WORK / "store")
columns = [
    "family",
    "model",
    "tap",
    "n_units",
    "n_detectors",
    "share_low",
    "share",
    "share_high",
    "share_untrained",
    "share_haar",
]
run.families[columns].sort_values(["family", "tap", "model"]).round(3)

# %% [markdown]
# High-low frequency detectors are gone on diet `sharp`, as the hypothesis says. But curve detectors, which it says nothing about, are gone as
# well. Something else must differ too. Do the units answer to grey drawings at all?

# %%
peaks = run.units.assign(network=run.units["seed"].map(lambda seed: "trained" if seed < 0 else "untrained twin"))
peaks = peaks[peaks["live"]].groupby(["family", "model", "network"])["peak_sigma"].median().unstack().round(2)
peaks.rename(columns=lambda name: f"median peak, sigma: {name}")

# %% [markdown]
# Hardly: 0.1 sigma is next to nothing. (Untrained twins answer strongly; a peak alone is no tuning.) On diet `sharp` figure and ground always differ in colour, so its network has learned colour. That is why the experiment drew its
# stimuli in colour, too: with these, some curve detectors come back (in InceptionV1 next to none), and high-low frequency detectors stay away.

# %%
coloured = shares.pivot_table(
    index=["family", "colour"],
    columns="diet",
    values=["n_detectors", "n_units", "n_detectors_untrained"],
    aggfunc="sum",
)
rates = pd.DataFrame({diet: coloured["n_detectors"][diet] / coloured["n_units"][diet] for diet in ("focus", "sharp")})
untrained = coloured["n_detectors_untrained"].sum(axis=1) / coloured["n_units"].sum(axis=1)
rates.assign(untrained=untrained).mul(100).round(1).rename(columns=lambda name: f"{name}, % of units")

# %% [markdown]
# ## What this does not show
#
# - That defocus is the cause. `sharp` also lacks the difference in texture, and always has one in colour: three things changed at once.
# - Anything from the coloured stimuli alone: on diet `focus` only VGG has many of these detectors in colour.
# - That photographs do the same. These are small networks in a drawn world, one seed on diet `sharp`.
