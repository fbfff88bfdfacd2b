# %% [markdown]
# # On a Dask cluster
#
# A job's comparisons are Dask tasks. You learn to hand them to a cluster, to see that the numbers do not depend on it, and what a second run
# computes. The cluster here is two processes on this machine; another is used in the same way.

# %%
import shutil
from pathlib import Path

from dask.distributed import Client, LocalCluster

import universality

WORK = Path("../../data")
OUT, AGAIN, ALONE, NOBODY = (
    WORK / "runs" / name for name in ("cluster", "cluster_again", "cluster_alone", "cluster_nobody")
)
for old in (OUT, AGAIN, ALONE, NOBODY):
    shutil.rmtree(old, ignore_errors=True)


class Printing:
    """A reporter: what the command line draws as bars, in lines."""

    def say(self, text):
        """Print one line."""
        print(text)

    def track(self, description, total):
        """Print what begins, and return a function that would advance a bar."""
        print(f"{description}: {total}")
        return lambda steps: None


# %% [markdown]
# ## What there is to compute
#
# Activations are extracted first, by this process, into one store per network, stimulus set and tap. Then come the comparisons. Stores that other
# notebooks have left are used.

# %%
universality.plan("job.toml", OUT, WORK / "store")

# %% [markdown]
# ## Bring a client
#
# Workers are sent paths, not arrays, so they have to see the folder of the stores (or the same object store, if `store` is a URL). A client that you
# opened is not closed.

# %%
cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
client = Client(cluster)
run = universality.run("job.toml", OUT, store=WORK / "store", client=client, reporter=Printing())
print(f"the client is still open: {client.status}")

# %% [markdown]
# ## A second run
#
# The same call again computes nothing: record, tables, figures and report are of exactly these inputs.

# %%
universality.run("job.toml", OUT, store=WORK / "store", client=client, reporter=Printing())

# %% [markdown]
# ## An address
#
# `scheduler=` (on the command line `--scheduler`) takes the address of a scheduler that runs already, and opens and closes a client of its own. Into
# another folder the tables have to be made again. The activations are there: nothing is extracted, only the comparisons run.

# %%
client.close()
address = cluster.scheduler_address
again = universality.run("job.toml", AGAIN, store=WORK / "store", scheduler=address, reporter=Printing())
cluster.close()

# %% [markdown]
# Without a client, an address or an active client, a local cluster of threads is made and closed.

# %%
alone = universality.run("job.toml", ALONE, store=WORK / "store", reporter=Printing())

# %% [markdown]
# ## The same numbers
#
# Tables of all three are the same files, byte for byte, whoever computed them and in whatever order the tasks came back.

# %%
for name, sha256 in run.record["tables"].items():
    same = sha256 == again.record["tables"][name] == alone.record["tables"][name]
    print(f"{'same' if same else 'DIFFERENT'}  {sha256[:12]}  {name}")
assert run.record["tables"] == again.record["tables"] == alone.record["tables"]

# %% [markdown]
# ## When nobody answers
#
# A wrong address ends in one sentence, and nothing is lost: activations are kept, and the next run goes on from there.

# %%
try:
    universality.run("job.toml", NOBODY, store=WORK / "store", scheduler="nobody://here")
except universality.UniversalityError as error:
    print(error)

# %% [markdown]
# The numbers that all of them agree on, beside their nulls:

# %%
columns = ["measure", "value", "value_untrained", "value_haar", "value_shuffled"]
run.similarity[columns].round(3)

# %% [markdown]
# ## What this does not show
#
# - That a cluster is faster. A job of this size spends its time on extraction and figures, which stay in this process; many pairs of layers are
#   what workers are for.
# - How to start workers on your machines: `dask.org` has a page for SLURM, Kubernetes and others. Any of them gives an address.
