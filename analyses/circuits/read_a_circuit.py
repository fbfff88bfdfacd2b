# %% [markdown]
# # Read a circuit
#
# Two units of two networks answer alike. Do they get their answer in the same way? You learn to read weights between two layers, to order them by what
# their sources prefer, and to compare them between networks beside everything that would look as alike.

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np

import universality
from universality import figures
from universality.circuits.equivariance import angle_tensor, bins_of, circulant_share, permuted_shares
from universality.circuits.layouts import layout
from universality.circuits.profiles import Units, rms

WORK = Path("../../data")
run = universality.run(
    "../quickstart/pocket.toml", WORK / "runs/pocket-circuits", store=WORK / "store", only=["circuits"]
)
profiles, circuits = run.table("profiles"), run.table("circuits")

# %% [markdown]
# ## Weights of one unit
#
# `expanded_weights` multiplies the weights along all paths from an earlier unit to a later one, place by place. Here the three sources that excite one
# detector most, and the three that inhibit it most, each at its strongest.

# %%
units = run.units.query("model == 'pocket/vgg-focus-s0' and tap == 'features.18' and seed == -1 and detector")
one = int(units["unit"].iloc[0])
weights = universality.expanded_weights("pocket/vgg-focus-s0", "features.13", "features.18", units=[one]).sel(
    unit_b=one
)
summed = weights.sum(("dy", "dx"))
order = np.argsort(summed.values)
summed.isel(unit_a=[*order[::-1][:3], *order[:3]]).to_series()

# %%
maps = weights.isel(unit_a=[*order[::-1][:3], *order[:3]]).values
shown = 0.5 + 0.5 * maps / np.abs(maps).max()
labels = [f"source {unit}" for unit in (*order[::-1][:3], *order[:3])]
figures.figure_of(figures.contact_sheet(np.repeat(shown[:, None], 3, axis=1), labels, columns=6, width_mm=120))

# %% [markdown]
# Bright is excitation, dark inhibition. Sixty-four such maps are no insight. Ordered by what the sources prefer, they are:
#
# ## A family's profile
#
# Of all detectors of the later layer: the mean weight from detectors of the earlier one, by the difference of their preferred angles.

# %%
wired = profiles.query("target_family == 'high_low_frequency'")
figures.figure_of(figures.wiring_profiles(wired, "high-low frequency detectors"))

# %% [markdown]
# A detector is excited by those of its own orientation, and by those of the opposite one (light and blur exchanged), not by those at right angles. With the angles of the
# sources exchanged (grey) there is no such order, nor in the untrained twin with the trained labels.
#
# Networks that share no weight have it, of another architecture, too:

# %%
run.table("profile_pairs")[
    ["tap_a", "tap_b", "n_values", "r", "r_permuted", "r_permuted_95", "r_untrained", "p"]
].round(3)

# %% [markdown]
# ## How far does the difference of angles tell all?
#
# The same weights with both angles kept, target by source. Were the network the same in every direction, only their difference would count, and a mean for each difference (the
# circulant part) would hold all of the variance. Beside its share that of the same weights with the sources' angles exchanged.

# %%
labelled = run.units.query(
    "model == 'pocket/vgg-focus-s0' and seed == -1 and detector and family == 'high_low_frequency'"
)
sources, targets = (
    Units(rows["unit"].to_numpy(), rows["preferred_deg"].to_numpy())
    for rows in (labelled[labelled["tap"] == tap] for tap in ("features.13", "features.18"))
)
every = rms(universality.expanded_weights("pocket/vgg-focus-s0", "features.13", "features.18", units=targets.unit))
summed_over_space = every.sel(unit_a=sources.unit).sum(("dy", "dx")).values
bins = bins_of(targets), bins_of(sources)
share = circulant_share(angle_tensor(summed_over_space, *bins))
exchanged = permuted_shares(summed_over_space, *bins, np.random.default_rng(0))
round(share, 2), np.quantile(exchanged, [0.5, 0.95]).round(2)

# %% [markdown]
# ## Where in the field?
#
# A layout is a map of where in a unit's field a group of sources excites it and where it inhibits it. In its *asymmetry* one side does what the other does not ("windows
# above, wheels below"). The null exchanges labels: as many other sources, scaled to the same norms. Here the detectors of the tap before, in the field of one detector, and those at right
# angles to it, in the fields of all, each turned by its own angle.

# %%
summaries = {"all, one field": layout(every.isel(unit_b=[0]), sources.unit).summary()}
turn = (sources.angle_deg[None] - targets.angle_deg[:, None] - 90 + 180) % 360 - 180
summaries["at right angles, all fields"] = layout(
    every, sources.unit, targets.angle_deg, counts=np.abs(turn) <= 22.5
).summary()
columns = [
    "weight",
    "weight_null_low",
    "weight_null_high",
    "side_deg",
    "side_px",
    "asymmetry",
    "asymmetry_null_95",
    "p_asymmetry",
]
{name: {key: round(found[key], 2) for key in columns} for name, found in summaries.items()}

# %% [markdown]
# `universality run JOB --only motifs` makes tables of this for every network and family, with untrained twins beside it, and draws it.

# %% [markdown]
# ## Matched units
#
# Now two units that were matched by their responses. `s_w` is the correlation of their incoming weights, once the earlier layers' units are matched as well. Left of the
# ceiling stands what any unit with these responses would have for weights: a ridge that reads the response from the same sources.

# %%
means = ["s_w", "s_w_permuted", "s_w_haar", "s_w_untrained", "s_w_unmatched", "s_w_readout", "s_w_ceiling", "fidelity"]
circuits.groupby(["sources", "verdict_response"])[means].mean().round(2)

# %%
circuits.groupby(["sources", "verdict_response"])["verdict"].value_counts().unstack(fill_value=0)

# %% [markdown]
# ## What this does not show
#
# - Weights are linear: where opposite cases cancel they show nothing. `fidelity` says how far they agree with gradients at natural images.
# - Sources of two networks are matched only roughly: the ceiling, not 1, is what the same circuit would reach.
# - A pair of units has an interval so wide that most verdicts are `undecided`. The order of a family's weights is the firm result here, not that of single pairs.
# - What a weight does to a network's answer is another question: it takes an intervention, not a reading.
