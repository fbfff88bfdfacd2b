# %% [markdown]
# # When measures disagree
#
# By CKA two layers are alike, by unit matching they are not, and SVCCA is high for noise. Each measure answers
# its own question, and each has a level that it reaches by chance. You learn to find that level, on simulated and on real layers.

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import universality

WORK = Path("../../data")
MEASURES = ["cka_linear_debiased", "cka_linear_biased", "svcca_variance99", "unit_match_hungarian"]
rng = np.random.default_rng(0)

# %% [markdown]
# ## Few stimuli: biased CKA and SVCCA are high for noise
#
# Two layers of 128 independent random units have nothing in common. The true value is 0, and only the debiased estimate stays about 0,
# with some scatter where stimuli are few. Where a measure has no value, it gives the reason instead.

# %%
counts = [16, 32, 64, 128, 256, 512, 1024]
noise = {n: (rng.standard_normal((n, 128)), rng.standard_normal((n, 128))) for n in counts}
scores = {m: [universality.score(m, *noise[n]).value for n in counts] for m in MEASURES[:3]}
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for measure, values in scores.items():
    ax.plot(counts, values, "o-", label=measure)
ax.axhline(0, color="0.6", linewidth=0.8)
ax.set(xscale="log", xlabel="stimuli", ylabel="score of two layers of noise", ylim=(-0.1, 1.05))
ax.legend()
plt.show()

# %%
print(universality.score("svcca_variance99", *noise[16]).reason)

# %% [markdown]
# ## Another basis: matching falls, CKA and SVCCA cannot
#
# Layer B holds exactly layer A's information, in a random rotation (Haar). Measures that do not see the basis say 1. Matching single units
# says what is true of single units: they are not the same. Units are heavy-tailed, as rectified units are.

# %%
layer = np.maximum(rng.standard_normal((512, 40)) - 0.5, 0)
rotation = np.linalg.qr(rng.standard_normal((40, 40)))[0]
cases = {
    "permuted units": layer[:, rng.permutation(40)],
    "rotated (Haar)": layer @ rotation,
    "shuffled stimuli (null)": rng.permutation(layer),
}
simulated = {case: {m: universality.score(m, layer, other).value for m in MEASURES} for case, other in cases.items()}
pd.DataFrame(simulated).round(2)

# %% [markdown]
# ## Real layers
#
# The run that `quickstart` makes: VGG against another seed of VGG, and against AlexNet, each with untrained twins.

# %%
run = universality.run("../quickstart/pocket.toml", WORK / "runs/pocket", store=WORK / "store")
VGG, PAIRS = (
    ("pocket/vgg-focus-s0", "features.13"),
    [("pocket/vgg-focus-s1", "features.13"), ("pocket/alexnet-focus-s0", "features.9")],
)


def scored(a: np.ndarray, b: np.ndarray, measure: str) -> dict[str, float]:
    """Return a score, the same with B in a random basis, and with B's stimuli shuffled."""
    fixed = np.random.default_rng(1)
    b = b[:, b.std(axis=0) > 0]  # a unit that never answers would be mixed into every rotated one
    turned = b @ np.linalg.qr(fixed.standard_normal((b.shape[1], b.shape[1])))[0]
    others = {"value": b, "random basis": turned, "shuffled": fixed.permutation(b)}
    return {name: universality.score(measure, a, other).value for name, other in others.items()}


rows = [
    {"other": model, "networks": name, "measure": m}
    | scored(run.activations(*VGG, seed=seed).values, run.activations(model, tap, seed=seed).values, m)
    for model, tap in PAIRS
    for name, seed in (("trained", None), ("untrained twins", 0))
    for m in MEASURES
]
real = pd.DataFrame(rows).set_index(["other", "measure", "networks"]).sort_index()
real.round(2)

# %% [markdown]
# Read it row by row.
#
# - **VGG and VGG, another seed**: trained layers are more alike than untrained ones by every measure, and the units more than a random basis.
# - **VGG and AlexNet**: by CKA the *untrained* networks are more alike than the trained ones, though they share no weight, and by unit
#   matching they are too. Random filters pass on what all images share, such as brightness and colour. A CKA of that size is no evidence
#   of learned features, and neither is a matching score that was not compared with a twin's.
# - **SVCCA** of shuffled stimuli is far from 0, and most of its value for real layers is that.

# %%
real["over shuffled"] = real["value"] - real["shuffled"]
real["over random basis"] = real["value"] - real["random basis"]
gains = real[["over shuffled", "over random basis"]].unstack("networks")
gains.round(2)

# %% [markdown]
# ## Held out, and asked of detectors
#
# The scores above match units and score them on the same images. The tables of a run do better: matched on one half of the images,
# scored on the other, and only units that detect something on their own. Untrained twins have no such units at all.

# %%
columns = ["model_b", "tap_a", "tap_b", "family", "cka", "cka_untrained", "n_met", "n_met_untrained", "n_met_haar"]
method = run.job.matched_by()  # the first in the job's comparison.matching
matched = run.pairs.query("method == @method and tap_a == 'features.13' and tap_b in ['features.13', 'features.9']")
matched[[*columns, "median_r_natural", "median_r_natural_haar", "median_r_natural_untrained"]].round(2)

# %% [markdown]
# ## Where a run disagrees with itself
#
# The column `disagreement` of the table `pairs` says it in words, with both figures: layers alike, but detectors meet no more often than
# chance, or the other way round.

# %%
said = run.pairs.query("method == @method and disagreement != ''")
print(f"{len(said)} of {(run.pairs['method'] == method).sum()} pairs of layers and families")
for row in said.head(4).itertuples():
    print(f"\n{row.model_a} {row.tap_a}, {row.model_b} {row.tap_b}, {row.family}:\n  {row.disagreement}")

# %% [markdown]
# ## What this does not show
#
# - That CKA is wrong. It answers whether two layers hold the same pattern of similarities among images, to which untrained networks also have an
#   answer. Which question is yours, [the page on measures](../../docs/concepts/which-measure.md) asks.
# - That a difference of 0.05 matters: there are no intervals on these scores, and one twin of each network.
# - Anything about photographs or large networks; `analyses/quickstart` has the same comparison for two ImageNet networks.
