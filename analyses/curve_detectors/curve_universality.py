# %% [markdown]
# # Are curve detectors universal?
#
# Do networks of four architectures hold the same curve detectors? The question has three parts, each harder: does every network
# have some (a family), are they matched with one another when all units are matched (a correspondence), and is a pair more alike than a random basis would
# give (the same feature)? You learn to tell the three apart.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import universality
from universality import figures
from universality.atlas import cells
from universality.base.names import short
from universality.stimuli import sets
from universality.stimuli.curves import CurveStimuli
from universality.stimuli.spec import StimuliSpec

WORK = Path("../../data")

# %% [markdown]
# ## What a curve detector has to answer, and what not
#
# Arcs, thin and filled, dark and bright; the straight line is among them. The controls below must be answered less.

# %%
figures.stimulus_sheet(sets.render("curves", StimuliSpec(curves=CurveStimuli(orientations=8)), 64), most=24)

# %%
figures.stimulus_sheet(sets.render("curve_controls", StimuliSpec(), 64), most=24)

# %%
run = universality.run("universality.toml", WORK / "runs/curve_universality", store=WORK / "store")

# %% [markdown]
# ## First question: does every network have the family?
#
# Yes, in single percents to a fifth of a layer, and the untrained twins have none. `share_naive` is what a rule without controls finds (one
# variant only); in untrained twins that rule finds units, too (`share_naive_untrained`).

# %%
units = run.units
naive = units[units["seed"] >= 0].groupby("model")["naive_detector"].mean().rename("share_naive_untrained")
columns = [
    "model",
    "tap",
    "n_units",
    "n_detectors",
    "share_low",
    "share",
    "share_high",
    "share_untrained",
    "share_haar",
    "share_naive",
]
run.families[columns].merge(naive, on="model").round(3)

# %%
figures.figure_of(figures.tuning_family(units, run.families, "curve detectors"))

# %% [markdown]
# ## Second question: do they meet?
#
# All units of a layer are matched one to one with all of the other. `met_a` is the share of A's curve detectors that met a curve detector;
# by chance that is the share of curve detectors in layer B. Bars: 95 % interval. Crosses: with one layer in a random basis.

# %%
pairs = run.pairs
names = [f"{short(row.model_a)} and {short(row.model_b)}" for row in pairs.itertuples()]
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.hlines(names, pairs["met_a_low"], pairs["met_a_high"], color="C0", alpha=0.5, linewidth=3)
ax.plot(pairs["met_a"], names, "o", color="C0", label="met")
ax.plot(pairs["chance_a"], names, "|", color="black", markersize=12, label="chance")
ax.plot(pairs["n_met_haar"] / pairs["n_detectors_a"], names, "x", color="C1", label="in a random basis")
ax.set(xlabel="share of A's curve detectors that met one", xlim=(-0.02, 1))
ax.invert_yaxis()
fig.legend(loc="outside upper center", ncols=3)
plt.show()

# %%
print(
    f"{pairs['n_met'].sum()} meetings over {len(pairs)} pairs; expected by chance "
    f"{(pairs['n_detectors_a'] * pairs['chance_a']).sum():.1f}; random bases {pairs['n_met_haar'].sum():g}; "
    f"untrained twins {pairs['n_met_untrained'].sum():g}"
)

# %% [markdown]
# A little more often than chance over all pairs, but nearly every interval holds its own chance.
#
# ## Third question: are they the same feature?
#
# Every verdict, beside what the same rule says with one layer in a random basis (mean of A and B turned) and between untrained twins.

# %%
verdicts = ("same_feature", "correlated_only", "family_only", "unmatched")
counts = {
    "networks": [pairs[f"n_{v}"].sum() for v in verdicts],
    "random basis": [pairs[f"n_{v}_haar"].sum() for v in verdicts],
    "untrained twins": [pairs[f"n_{v}_untrained"].sum() for v in verdicts],
}
pd.DataFrame(counts, index=verdicts)

# %%
columns = [
    "model_a",
    "unit_a",
    "model_b",
    "unit_b",
    "r_natural",
    "r_natural_haar",
    "r_natural_untrained",
    "delta_theta_deg",
    "q",
]
same = run.correspondence[run.correspondence["verdict"] == "same_feature"]
same[columns].round(2)

# %% [markdown]
# ## The atlas
#
# One row per network, one column per orientation. Filled: another network holds the same feature by the verdict above. Under each cell:
# how many others do, and how many curve detectors the network has there.

# %%
figures.figure_of(figures.atlas_cells(cells.atlas(run), units, "Curve detectors"))

# %% [markdown]
# A clique is a set of units, one each from three networks or more, that are all pairwise the same feature. The rule is applied to random bases
# and to untrained twins as well: what they give is chance. There is none here: too few images for three strict verdicts in a ring.

# %%
counted = run.table("clique_counts")
counted.loc[counted["family"] == "curve", ["networks", "n_units", "n_cliques", "n_disjoint", "n_stable"]]

# %% [markdown]
# ## What this does not show
#
# - That detectors of the family are there does not make them the same feature. Most curve detectors here are no `same_feature` of any other.
# - A no is weak as well: 240 drawn images, small networks and one tap of each leave wide intervals.
# - All five networks grew up in one drawn world with one task. Universality across training sets is another matter: `analyses/imagenet_pair`.
# - That units are tuned to curves says nothing of how: the weights were not looked at.
