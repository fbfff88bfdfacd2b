# %% [markdown]
# # Unit or direction?
#
# A feature is a direction of a layer; a unit is one direction of many. You learn to see two seeds of one small network once in their units and once in a
# dictionary learnt from their activations, to read what the dictionary is worth, and to compare how many directions are detectors and how many are matched.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import universality
from universality.runs.job import Job

WORK = Path("../../data")
ASKED = {
    "name": "notebook-directions",
    "models": [{"id": f"pocket/vgg-focus-s{seed}", "taps": ["features.13"]} for seed in (0, 1)],
    "stimuli": {"natural": {"crops": 0, "shapes": 144}, "high_low": {"orientations": 12, "phases": 1}},
    "extraction": {"reduction": "positions", "positions": 3, "batch_size": 48},
    "comparison": {
        "families": ["high_low_frequency"],
        "matching": ["mutual_nearest"],
        "bootstraps": 100,
        "permutations": 19,
    },
    "nulls": {"calibration_crops": 48, "haar_rotations": 3},
}
DICTIONARY = {"directions": 48, "active": 8, "steps": 300, "seeds": [0, 1]}

# %% [markdown]
# ## The same job in two bases
#
# 48 directions each time: 48 units drawn at random, then a sparse autoencoder of 48 directions, 8 of which describe a position. Activations are
# extracted once.

# %%
runs = {}
for basis, dictionary in (("units", {"directions": 48}), ("sae", DICTIONARY)):
    job = Job.model_validate({**ASKED, "name": f"notebook-{basis}", "basis": basis, "dictionary": dictionary})
    stages = ["families", "correspondence"] + (["dictionaries"] if basis == "sae" else [])
    runs[basis] = universality.run(job, WORK / "runs" / job.name, store=WORK / "store", only=stages)

# %% [markdown]
# ## Is the dictionary one?
#
# Before anything else: does it describe held-out images better than directions that learnt nothing, and does another seed find the same directions?
# Twins (`seed` 0) are described well, too: their activations vary in few dimensions. So a high R2 says nothing about training.

# %%
found = runs["sae"].table("dictionaries")
found.set_index(["model", "seed"])[
    [
        "r2",
        "r2_frozen",
        "r2_haar",
        "l0",
        "n_dead",
        "stability",
        "stability_frozen",
        "dimensions",
        "features_per_dimension",
    ]
].round(2)

# %% [markdown]
# A direction near a unit is spread over few units.

# %%
directions = runs["sae"].table("directions")
fig, ax = plt.subplots(figsize=(4, 3), layout="constrained")
for seed, label in ((-1, "trained"), (0, "untrained twins")):
    here = directions[directions["seed"] == seed]
    ax.plot(here["n_units"], here["cosine_unit"], ".", label=label)
ax.set(xlabel="units that a direction is spread over", ylabel="cosine with the nearest unit", xscale="log")
ax.legend()
plt.show()

# %% [markdown]
# ## Do directions correspond better than units?
#
# Detectors, and pairs with the verdict same_feature, in both bases. Random bases (Haar) are of the same units, in as many directions.

# %%
rows = []
for basis, run in runs.items():
    matched = run.correspondence
    rows.append(
        {
            "basis": basis, "detectors": run.families["share"].mean(), "in random bases": run.families["share_haar"].mean(),
            "in untrained twins": run.families["share_untrained"].mean(), "matched pairs": len(matched), "same_feature": int((matched["verdict"] == "same_feature").sum()),
            "r": matched["r_natural"].median(), "r, random bases": matched["r_natural_haar"].median(), "r, untrained": matched["r_natural_untrained"].median(),
        }
    )  # fmt: skip
pd.DataFrame(rows).set_index("basis").round(2)

# %% [markdown]
# ## What this does not show
#
# Two networks of one architecture, one tap, one dictionary size: [analyses/directions](README.md) asks four architectures and more bases. That directions
# answer alike says nothing about what they are used for. And a universal dictionary (`basis = "universal_sae"`) would correspond by construction.
