# %% [markdown]
# # Ablate and transplant
#
# Two units of two networks answer alike. Are they of the same use? You learn to change what a network computes on its way, to remove units in ways that can be compared,
# and to put a unit of one network in the place of its match in another, each beside what any other unit would do.

# %%
# %matplotlib inline
from pathlib import Path

import pandas as pd
import torch

import universality
from universality import Edit, figures
from universality.models import catalogue
from universality.models.pocket.shapes import SHAPES
from universality.stimuli import sets
from universality.stimuli.shapes import ShapeStimuli
from universality.stimuli.spec import StimuliSpec

WORK = Path("../../data")
ONE, OTHER, TAP = "pocket/vgg-focus-s0", "pocket/vgg-focus-s1", "features.13"
run = universality.run("two.toml", WORK / "runs/two-edited", store=WORK / "store")

# %% [markdown]
# ## Edit a forward pass
#
# Drawn images whose right answer is known, and the network's high-low frequency detectors of one layer, removed in three ways: their maps at other images, their means, zero.

# %%
takes = catalogue.card(ONE).preprocessing
drawn = sets.render(
    "shapes", StimuliSpec(shapes=ShapeStimuli(images=96, diet="focus", seed=7)), size_px=takes.canvas_px
)
images, right = (
    sets.normalise(drawn.values, takes),
    torch.tensor([SHAPES.index(str(name)) for name in drawn["shape"].values]),
)
detectors = run.units.query("model == @ONE and tap == @TAP and seed == -1 and detector")
family = detectors.query("family == 'high_low_frequency'")["unit"].tolist()


def cost(found):
    """Return the divergence of the edited answers from the intact ones in nats, and both accuracies."""
    edited, intact = (answers["output"].log_softmax(1) for answers in (found.edited, found.intact))
    hit = [(answers.argmax(1) == right).float().mean().item() for answers in (intact, edited)]
    return (intact.exp() * (intact - edited)).sum(1).mean().item(), *hit


def removed(units, action):
    """Return what the network loses without units."""
    with universality.editing(ONE, Edit(TAP, units=units, action=action)) as trace:
        return cost(trace.run(images))


others = [unit for unit in range(64) if unit not in family]
pd.DataFrame(
    {
        (name, action): removed(units, action)
        for name, units in (("detectors", family[: len(others)]), ("as many others", others))
        for action in ("resample", "mean", "zero")
    },
    index=["kl, nats", "accuracy", "accuracy after"],
).T.round(3)

# %% [markdown]
# How much is lost depends on what stands in the units' place. The difference between ways of removing is as large as that between sets of units, so no single one is quoted alone.
#
# ## The same, by the weights
#
# An edit of activations can be checked: with all weights *from* a unit removed, the network is to answer as with the unit at zero.

# %%
unit = family[0]
cut = universality.edited_weights(ONE, TAP, "features.16", units=([unit], None), action="remove")
by_weights = universality.cache(cut, images, ["features.16"])["output"]
with universality.editing(ONE, Edit(TAP, units=[unit], action="zero")) as trace:
    by_maps = trace.run(images)
print(cut.weight_edits[0])
print("largest difference of answers:", float((by_weights - by_maps.edited["output"]).abs().max()))
print("largest effect of the edit:   ", float((by_maps.intact["output"] - by_maps.edited["output"]).abs().max()))

# %% [markdown]
# ## Every unit and family, beside its nulls
#
# The stage `ablations` did this for all units of both networks. `kl_random`: as many random units of equal activity, NaN where the layer does not hold so many others; `kl_norm`: random units whose edit is as
# large.

# %%
ablations = run.table("ablations")
columns = ["model", "family", "n_units", "base", "kl", "kl_low", "kl_high", "kl_random", "kl_random_95", "kl_norm"]
ablations.query("what == 'family'")[columns].round(3)

# %% [markdown]
# The network hardly misses a single unit, whichever it is (nats; 50 %: the median unit).

# %%
ablations.query("what == 'unit'").groupby("base")["kl"].describe()[["count", "50%", "max"]].round(4)

# %% [markdown]
# ## A transplant by hand
#
# `replace` puts other maps in: here those of the other network's unit that correspondence matched with it, brought to scale by two scalars. Recovery R is 0 where the unit's map is that of another image, 1 where
# nothing changed. Beside it the best *other* unit of that network. In earnest the scalars are fitted on other images than R is measured on; the stage does so.

# %%
matched = run.table("transplants").query("what == 'unit' and into == 'a' and base == 'resample' and measure == 'kl'")
pair = matched.sort_values("ablated").iloc[-1]
own = universality.cache(ONE, images, [TAP])[TAP]
theirs = universality.cache(OTHER, images, [TAP])[TAP]


def recovery(other):
    """Return R of one unit of the other network."""
    x, y = theirs[:, other].flatten(), own[:, pair.unit_a].flatten()
    slope = torch.cov(torch.stack([x, y]))[0, 1] / x.var()
    stands = (slope * (theirs[:, [other]] - x.mean()) + y.mean()).clamp(min=0)
    with universality.editing(ONE, Edit(TAP, units=[pair.unit_a], action="replace", value=stands)) as trace:
        return 1 - cost(trace.run(images))[0] / removed([pair.unit_a], "resample")[0]


r = torch.corrcoef(torch.cat([own[:, [pair.unit_a]], theirs], dim=1).transpose(0, 1).flatten(1))[0, 1:].nan_to_num()
order = [unit for unit in r.argsort(descending=True).tolist() if unit != pair.unit_b and r[unit] != 0]
chosen = {"matched": pair.unit_b, "best other": order[0], "middling other": order[len(order) // 2]}
pd.DataFrame({name: {"unit": unit, "r": float(r[unit]), "R": recovery(unit)} for name, unit in chosen.items()}).T.round(
    2
)

# %% [markdown]
# ## Families and layers, beside every null

# %%
transplants = run.table("transplants").query("measure == 'kl'")
shown = [name for name in transplants if name.startswith("recovery")]
transplants.query("what != 'unit'").set_index(["into", "what", "family", "base"])[[*shown, "verdict"]].round(2)

# %%
figures.figure_of(
    figures.transplants_and_nulls(transplants.query("family == 'high_low_frequency'"), "high-low frequency detectors")
)

# %% [markdown]
# Read it against the grey points, not against 0. Another network's detectors restore the answers well, and nothing untrained or random does. But the best other unit of the same layer does as well as the match: the
# layers hold each feature several times. A high R says that the other network has such a feature, and is no evidence for the match.

# %%
transplants.groupby(["what", "base"])["verdict"].value_counts().unstack(fill_value=0)

# %% [markdown]
# ## What this does not show
#
# - 16 images to fit and 16 to measure on: intervals are wide, so most verdicts are `undecided`. `analyses/causes` has the job with 432 and five networks.
# - A unit that can be replaced by two scalars need not have the same weights: that is read in `analyses/circuits`.
# - What is lost without a unit is what *this* network loses on *these* images, its own world, in which others of its units make up for it.
