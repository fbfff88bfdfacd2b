"""What a command does not need it does not import: packages that take from a quarter of a second to three seconds each.

One process goes from the lightest step to the heaviest and says after each which packages it has by then; nothing is timed.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_NETWORKS = ("torch", "torchvision", "timm", "huggingface_hub", "safetensors")
OF_FIGURES = ("matplotlib", "seaborn", "networkx")
OF_SOME_MEASURES = ("sklearn", "skimage", "ot", "scipy.stats", "scipy.integrate")
# xarray looks for Dask's arrays by importing them, and pandas imports pyarrow.
OF_TABLES = ("numpy", "pandas", "scipy", "pyarrow", "xarray", "zarr")
SELDOM = (*OF_NETWORKS, *OF_FIGURES, "distributed", *OF_SOME_MEASURES)

# Step, and what it may not have imported, nor any step before it.
STEPS = {
    "import universality": (*SELDOM, *OF_TABLES),
    "command('--help')": (*SELDOM, *OF_TABLES),
    "command('run', '--help')": (*SELDOM, *OF_TABLES),
    "command('zoo', 'list', '--help')": (*SELDOM, *OF_TABLES),
    "command('atlas', '--help')": (*SELDOM, *OF_TABLES),
    "command('cluster', 'slurm', 'job.toml')": (*SELDOM, *OF_TABLES),
    "command('run')": (*SELDOM, *OF_TABLES),
    "command('zoo', 'list')": (*SELDOM, *OF_TABLES),
    "command('zoo', 'show', 'torchvision/alexnet')": (*SELDOM, *OF_TABLES),
    "command('zoo', 'show', 'torchvision/alexnett')": (*SELDOM, *OF_TABLES),
    "command('schema', 'job')": (*SELDOM, "zarr"),
    "command('stimuli', 'list')": (*SELDOM, "zarr"),
    "import universality.jobs, universality.report": (*SELDOM, "zarr"),
    "universality.plan('analyses/quickstart/job.toml', store='data/no_store')": (*SELDOM, "zarr"),
    "command('plan', 'analyses/quickstart/job.toml', '--store', 'data/no_store', '--json')": (*SELDOM, "zarr"),
    "import universality.jobs.trace, universality.runs.layers": (*SELDOM, "zarr"),
    # The web process leaves to its helper process what takes these.
    "import universality.service.app": ("torch", "torchvision", "timm", *OF_FIGURES, "skimage", "ot"),
    "import universality.jobs.comparing": (*OF_NETWORKS, *OF_FIGURES, *OF_SOME_MEASURES),
    "import universality.models.pocket.networks": ("timm", "torchvision", *OF_FIGURES, *OF_SOME_MEASURES),
}
SCRIPT = """
import contextlib, io, json, sys
import universality

def command(*words):
    from universality.cli import app
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            app(list(words), standalone_mode=False)
    except Exception as refused:
        assert type(refused).__name__ in ("CardError", "MissingParameter"), refused

steps, watched = json.loads(sys.argv[1])
for step in steps:
    exec(step)
    print(json.dumps([name for name in watched if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def imported():
    """Return by step which of all watched packages the process has imported."""
    watched = sorted({name for names in STEPS.values() for name in names})
    call = [sys.executable, "-c", SCRIPT, json.dumps([list(STEPS), watched])]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(STEPS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_imported_that_is_not_needed(imported, step):
    assert sorted(set(imported[step]) & set(STEPS[step])) == []


def test_the_process_is_watched(imported):
    """Else names that are misspelt above would never be found."""
    assert {"pandas", "pyarrow", "scipy", "xarray"} <= set(imported["import universality.jobs, universality.report"])
    assert "distributed" in imported["import universality.jobs.comparing"]
