# %% [markdown]
# # Bring your own model and your own images
#
# A checkpoint of yours, and a folder of photographs. You learn to write a card and a manifest, to run one job with both, and to check with a
# known answer that the card is right before believing anything else.

# %%
# %matplotlib inline
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import universality
from universality import figures
from universality.models import catalogue, drafting, zoo
from universality.stimuli import manifest, natural, sets
from universality.stimuli.folder import FolderStimuli
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.spec import StimuliSpec

WORK = Path("../../data")
OWN = WORK / "own_model"  # everything this notebook makes; made anew every time
shutil.rmtree(OWN, ignore_errors=True)
OWN.mkdir(parents=True)
os.environ["UNIVERSALITY_MODEL_ZOO"] = str(OWN / "cards")  # default: data/model_zoo
os.environ["UNIVERSALITY_WEIGHTS"] = str(OWN / "weights")  # default: data/weights

# %% [markdown]
# ## A checkpoint
#
# To know the answer beforehand, "your" network is one of the pocket zoo, saved under another name. Save a state dict, not the pickled
# network: a file with code in it is refused.

# %%
torch.save(zoo.pretrained(catalogue.card("pocket/vgg-focus-s1")).state_dict(), OWN / "mine.pth")

# %% [markdown]
# ## Its card
#
# The card states what the numbers depend on: architecture, taps, input. Receptive fields, strides and depths are measured. In a shell:
# `universality zoo new own/mine --library pocket --architecture vgg --argument n_classes=12 --weights mine.pth --tap features.13`

# %%
asked = drafting.Asked(
    "own/mine", library="pocket", architecture="vgg", kwargs={"n_classes": 12}, taps=("features.13",),
    weights=OWN / "mine.pth", licence="mine", training_set="drawings", citation="none",
)  # fmt: skip
card = drafting.draft(asked)
drafting.write(card, asked.weights)
card

# %% [markdown]
# And a second card with a mistake that is easily made: the same weights, but an input that is not normalised. The weights fit, so nothing is
# refused.

# %%
mistake = {"model_id": "own/wrong_input", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
wrong = drafting.draft(drafting.Asked(**(vars(asked) | mistake)))
print(drafting.write(wrong, asked.weights))

# %% [markdown]
# ## Your images
#
# A folder, and a manifest that states the hash of every file: an image that changes later is refused. Here crops of the photographs that
# the package has; sub-folders, by what they show, become labels. In a shell: `universality stimuli manifest photos`.

# %%
kinds = {photograph.name: photograph.kind for photograph in natural.photographs()}
crops = sets.render("natural", StimuliSpec(natural=NaturalStimuli(crops=90)), 96)
for pixels, photograph in zip(crops.values, crops.photograph.values, strict=True):
    file = OWN / "photos" / kinds[photograph] / f"{photograph}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.moveaxis(pixels, 0, 2) * 255).astype(np.uint8)).save(file)
written = manifest.write(OWN / "photos")
print(written.summary())
figures.stimulus_sheet(
    sets.render("folder", StimuliSpec(folder=FolderStimuli(manifest=str(written.path))), 64), most=24
)

# %% [markdown]
# ## The job
#
# `job.toml` names the cards and the manifest like any other. The folder is shown to every network, in one pass with the rest.

# %%
universality.plan("job.toml", WORK / "runs/own_model", WORK / "store")

# %%
run = universality.run("job.toml", WORK / "runs/own_model", store=WORK / "store")
columns = ["model_a", "model_b", "measure", "value", "value_untrained", "value_haar", "value_shuffled"]
run.similarity[columns].round(3)

# %% [markdown]
# ## The known answer
#
# `own/mine` *is* VGG seed 1, so every unit has to be matched with itself, with r = 1. `own/wrong_input` is as well, and falls short: that is how the
# mistake shows. Nothing else shows it: its CKA is no lower than that of two seeds, and its units are still matched with themselves. Do this once
# for a checkpoint that you also have from elsewhere.

# %%
rows = []
for (a, b), table in run.correspondence.groupby(["model_a", "model_b"], sort=False):
    rows.append({
        "model_a": a, "model_b": b, "pairs": len(table), "met the unit of the same number": (table["unit_a"] == table["unit_b"]).mean(),
        "by chance": 1 / run.families["n_units"].iloc[0], "least r_natural": table["r_natural"].min(),
        "median r_natural": table["r_natural"].median(), "in a random basis": table["r_natural_haar"].median(),
        "in an untrained twin": table["r_natural_untrained"].median(),
    })  # fmt: skip
pd.DataFrame(rows).round(3)

# %% [markdown]
# ## The question, asked of your images
#
# The pairs of `own/mine` and VGG seed 0 were matched and scored on drawings. Do they hold on the photographs, which no match has seen? The null gives
# every unit the partner of another one; and the untrained twins' units of the same numbers have no reason to agree.


# %%
def answers(model: str, seed: int | None = None) -> np.ndarray:
    """Return the answers to the folder's images, (image, unit), standardised; units that do not vary give NaN."""
    values = run.activations(model, "features.13", "folder", seed=seed).values.astype(np.float64)
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, np.nan)


def correlations(a: np.ndarray, b: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Return Pearson r of every matched pair."""
    return (a[:, pairs["unit_a"]] * b[:, pairs["unit_b"]]).mean(axis=0)


pairs = run.correspondence.query(
    "model_a == 'own/mine' and model_b == 'pocket/vgg-focus-s0' or model_b == 'own/mine' and model_a == 'pocket/vgg-focus-s0'"
)
models = pairs["model_a"].iloc[0], pairs["model_b"].iloc[0]
trained, twins = [answers(m) for m in models], [answers(m, seed=0) for m in models]
others = pairs.assign(unit_b=np.roll(pairs["unit_b"], 1))
found = {
    "matched pairs": correlations(*trained, pairs),
    "each with another's partner (null)": correlations(*trained, others),
    "untrained twins (null)": correlations(*twins, pairs),
}
summary = pd.DataFrame({name: pd.Series(r).describe() for name, r in found.items()}).T
summary[["count", "25%", "50%", "75%"]].round(2)

# %% [markdown]
# By label: photographs of what excite the pair that agrees best on them?

# %%
best = pairs.iloc[int(np.nanargmax(found["matched pairs"]))]
labels = run.activations(models[0], "features.13", "folder").label.values
means = {
    m: pd.Series(x[:, best[f"unit_{s}"]]).groupby(labels).mean() for m, x, s in zip(models, trained, "ab", strict=True)
}
pd.DataFrame(means).sort_values(models[0], ascending=False).round(2)

# %% [markdown]
# ## What this does not show
#
# - That photographs are right for networks that grew up with drawings. The pairs may hold there for reasons of brightness and contrast.
# - The best pair is chosen on the images it is shown for: a picture, not a result.
# - 90 photographs are few, half of them monuments; the job's own intervals resample photographs, the medians here have none.
