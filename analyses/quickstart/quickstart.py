# %% [markdown]
# # Quickstart: three networks, one job, every number beside its null
#
# Three small networks of the pocket zoo see the same drawings. Which of their units detect curves or high-low frequency boundaries, and
# do the detectors of one network meet detectors of another? You learn to run a job, to open a run, and to read its tables `families`,
# `similarity` and `correspondence`. `make demo` runs the same with seven networks, two of them trained on ImageNet.

# %%
# %matplotlib inline
from pathlib import Path

import universality
from universality import figures
from universality.models import catalogue
from universality.stimuli import sets
from universality.stimuli.spec import StimuliSpec

WORK = Path("../../data")  # the checkout's data folder, which git ignores

# %% [markdown]
# ## The networks
#
# A network is a card. This one was trained by the project on images that it draws; its accuracy stands beside chance.

# %%
catalogue.card("pocket/vgg-focus-s0")

# %% [markdown]
# ## What they are shown
#
# Stimuli are labelled arrays: the parameters of every drawing are coordinates. A sheet shows some of them.

# %%
curves = sets.render("curves", StimuliSpec(), size_px=64)
figures.stimulus_sheet(curves, most=24)

# %% [markdown]
# ## The job
#
# `pocket.toml` names networks, layers (taps), stimuli, measures and nulls. `plan` says what it would compute; nothing is written.

# %%
universality.plan("pocket.toml", WORK / "runs/pocket", WORK / "store")

# %% [markdown]
# `run` computes what does not exist yet. A second call computes nothing and opens the run.

# %%
run = universality.run("pocket.toml", WORK / "runs/pocket", store=WORK / "store")
run

# %% [markdown]
# ## Detectors
#
# `share` is the share of a layer's units that are detectors on their own. Read it beside its nulls: the same share in the
# untrained twin of the layer, and in a random basis (Haar) of it. Where the random basis comes close, the layer holds the feature, but
# not in single units.

# %%
columns = ["model", "tap", "family", "n_detectors", "share", "share_low", "share_high", "share_untrained", "share_haar"]
run.families[columns].round(3)

# %% [markdown]
# ## Layers
#
# One row is one measure on one pair of layers. CKA and SVCCA do not see the basis, so `value_haar` equals `value`; unit matching does.
# `value_shuffled` is chance. Compare `value` with `value_untrained` too: it is not always the larger one.

# %%
values = ["value", "value_untrained", "value_haar", "value_shuffled"]
near = run.similarity.query("tap_a == 'features.13' and tap_b in ['features.13', 'features.9']")
near[["model_a", "model_b", "tap_b", "measure", *values]].round(2)

# %% [markdown]
# ## Units
#
# Every unit was matched with one of *all* units of the other layer on half of the images; `r_natural` is measured on the other half. The
# nulls give each unit its best partner in a random basis, and in an untrained twin. Sorted by what is left above the random basis.

# %%
method = run.job.matched_by()  # the first in the job's comparison.matching
pairs = run.correspondence.query("method == @method and detector_a and detector_b")
shown = [
    "model_b",
    "tap_a",
    "unit_a",
    "tap_b",
    "unit_b",
    "family",
    "r_natural",
    "r_natural_haar",
    "r_natural_untrained",
]
pairs.nlargest(8, "excess_low")[[*shown, "excess_low", "q", "verdict"]].round(2)

# %% [markdown]
# ## In sentences
#
# The same, said with intervals and nulls, as the first page of the report has it.

# %%
universality.findings(run)

# %% [markdown]
# ## What this does not show
#
# - A matched pair answers alike to these stimuli. That the same circuit makes both is another question.
# - The natural images here are drawings of the world that the networks were trained on. What holds there may not hold on photographs.
# - Three networks are no sample of networks, and one untrained twin each is a small null. See `analyses/pocket_zoo` for more.
