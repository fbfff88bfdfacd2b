# %% [markdown]
# # Keep a ledger
#
# You learn to write a prediction down before its outcome is seen, to hold it against a run, and to read what became of it: held, failed, or not decided by this run.

# %%
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import universality
from universality.ledger import claims
from universality.runs import ledger as keeping

WORK = Path("../../data")
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Three claims
#
# The first is Zoom In's first claim, for one kind of network; the second a published figure; the third is about more than this run can show.

# %%
CLAIMS = {
    "high-low-in-every-network": """
        claim = "Every pocket network holds high-low frequency detectors."
        prediction = "networks(units, detector, family == 'high_low_frequency' and seed == -1) == 1"
        null = "networks(units, detector, family == 'high_low_frequency' and seed >= 0)"
        rule = "value"
    """,
    "high-low-width-as-published": """
        claim = "Their tuning is 107 to 133 degrees wide, as published."
        prediction = "107 <= mean(units, fwhm_deg, family == 'high_low_frequency' and detector and seed == -1) <= 133"
        over = "rows"
    """,
    "a-third-is-the-same": """
        claim = "A third or more of the pairs that could be the same feature are."
        prediction = "share(correspondence, verdict == 'same_feature', near_a and near_b and (detector_a or detector_b)) >= 0.333"
        ceiling = "mean(correspondence, power, near_a and near_b and (detector_a or detector_b))"
        over = "rows"
    """,
}
for name, text in CLAIMS.items():
    (folder / f"{name}.toml").write_text(text + 'chosen_on = []\nknown = ""\n')
claims.register(claims.read(folder), datetime.now(UTC))
print((folder / "registered.toml").read_text())

# %% [markdown]
# The register has the digest of each claim and the time.
#
# ## What became of them

# %%
run = universality.run(
    "../quickstart/pocket.toml", WORK / "runs/pocket-ledger", store=WORK / "store", only=["correspondence", "families"]
)
found = keeping.held(run, claims.read(folder))
shown = ["claim", "verdict", "measured", "low", "high", "null", "ceiling", "n", "n_networks", "reason"]
found[shown]

# %% [markdown]
# A low share is no failure where the ceiling is low: with so few images hardly any true pair would be confirmed.
#
# `null` is the same number in the untrained twins. The whole row has more: when the claim was registered, whether that was before the run, and what its author knew.

# %%
found.set_index("claim")[["registered", "before_run", "known", "share_chosen_on", "over", "rule"]]

# %% [markdown]
# ## A prediction that is mended

# %%
path = folder / "high-low-width-as-published.toml"
path.write_text(path.read_text().replace("107 <=", "50 <="))
mended = claims.read(folder)
print(mended.problems[0])
keeping.held(run, mended).query("claim == 'high-low-width-as-published'")[["verdict", "measured", "reason"]]

# %% [markdown]
# ## What this does not show
#
# Two or three networks give no interval over networks; rows of one network are not independent, so the intervals here are too narrow. Three claims are three
# chances, and nothing is corrected for that. And a claim that held where its author knew the outcome is a record: see the columns `known` and `before_run`.
