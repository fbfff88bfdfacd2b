"""Notebooks: .py and .ipynb are the same, hold no outputs, are listed, and a failing cell fails the run.

What they compute is run by `make notebooks`.
"""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat
import pytest

from universality.runs.job import read_job

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "analyses" / "run_notebooks.py"

_spec = importlib.util.spec_from_file_location("run_notebooks", RUNNER)
run_notebooks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_notebooks)

NOTEBOOKS = run_notebooks.notebooks()
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook):
    return [(cell["cell_type"], cell["source"]) for cell in notebook.cells]


def jobs_of(path):
    """The job files that a notebook runs."""
    return {(path.parent / name).resolve() for name in re.findall(r'"([\w./]+\.toml)", (?:WORK|OUT)', path.read_text())}


def test_there_are_the_twelve():
    names = {path.relative_to(ROOT / "analyses").with_suffix("").as_posix() for path in NOTEBOOKS}
    assert names == {
        "quickstart/quickstart", "quickstart/explore_correspondence", "quickstart/look_at_a_pair", "own_model/own_model", "cluster/cluster",
        "curve_detectors/curve_universality", "high_low_frequency/diet", "measures_disagree/measures_disagree", "circuits/read_a_circuit",
        "ledger/keep_a_ledger", "directions/unit_or_direction", "causes/ablate_and_transplant",
    }  # fmt: skip
    assert NOTEBOOKS[0].stem == "quickstart"
    written = {path.with_suffix(".py") for path in (ROOT / "analyses").rglob("*.ipynb")}
    assert written == set(NOTEBOOKS)


@each
def test_both_forms_hold_the_same_cells_and_no_outputs(path):
    stored = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(stored)
    assert cells(stored) == cells(jupytext.read(path, fmt="py:percent"))
    code = [cell for cell in stored.cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@each
def test_ipynb_is_what_the_runner_writes(path):
    text = nbformat.writes(run_notebooks.as_notebook(path))
    assert path.with_suffix(".ipynb").read_text(encoding="utf-8") == text + "\n"


@each
def test_a_notebook_is_short_teaches_and_says_what_it_does_not_show(path):
    kinds, sources = zip(*cells(jupytext.read(path, fmt="py:percent")), strict=True)
    assert 10 <= len(kinds) <= 20
    assert kinds[0] == "markdown" and re.match(r"# .+\n\n.*You\s+learn\s+to", sources[0], flags=re.DOTALL)
    assert kinds[-1] == "markdown" and sources[-1].startswith("## What this does not show")


@each
def test_notebooks_need_no_hub(path):
    """Every network of a notebook's job comes with the package, or is made by the notebook."""
    libraries = {entry.id.split("/")[0] for job in jobs_of(path) for entry in read_job(job).models}
    libraries |= set(re.findall(r'"id": f?"([\w-]+)/', path.read_text()))  # of a job that the notebook states itself
    assert libraries and libraries <= {"pocket", "own"}


def test_jobs_of_notebooks_share_their_stimuli():
    """One store serves them all: whatever two of them state of a stimulus set, they state alike."""
    files = {file for path in NOTEBOOKS for file in jobs_of(path)}
    jobs = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(files)]
    assert len(jobs) == 6
    stated: dict[str, list] = {}
    for job in jobs:
        sets = {name: values for name, values in job["stimuli"].items() if name != "folder"}
        for name, values in {**sets, "extraction": job["extraction"], "nulls": job["nulls"]}.items():
            stated.setdefault(name, []).append(values)
    for name, values in stated.items():
        assert all(value == values[0] for value in values), name


def test_every_notebook_is_listed():
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(analyses/[\w/]+)` \|", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS)


def run(tmp_path, *arguments):
    """Run a copy of the runner on the notebooks beside the copy."""
    copy = tmp_path / "analyses" / RUNNER.name
    copy.write_text(RUNNER.read_text(encoding="utf-8"), encoding="utf-8")
    return subprocess.run([sys.executable, str(copy), *arguments], capture_output=True, text=True, timeout=300)


def test_a_failing_cell_fails_the_run_and_the_checkout_stays_as_it_is(tmp_path):
    folder = tmp_path / "analyses" / "one"
    folder.mkdir(parents=True)
    title = "# %% [markdown]\n# # Title\n"
    (folder / "good.py").write_text(f"{title}\n# %%\nfrom pathlib import Path\nPath('made').write_text('x')\n")
    (folder / "bad.py").write_text(f"{title}\n# %%\nraise ValueError('the cell that fails')\n")
    done = run(tmp_path)
    assert done.returncode == 1 and "the cell that fails" in done.stderr
    assert re.search(r"FAILED .* bad\nok .* good\n2 notebooks, 1 failed", done.stdout)
    assert sorted(path.name for path in folder.iterdir()) == ["bad.py", "good.py"]
    assert run(tmp_path, "good", "--keep", str(tmp_path / "kept")).returncode == 0
    executed = nbformat.read(tmp_path / "kept" / "analyses" / "one" / "good.ipynb", as_version=4)
    assert executed.cells[1]["execution_count"] == 1


def test_an_unknown_name_is_refused(tmp_path):
    (tmp_path / "analyses").mkdir()
    done = run(tmp_path, "quikstart")
    assert done.returncode == 2 and "no notebook 'quikstart'" in done.stderr


@each
def test_notebooks_are_python(path):
    ast.parse(path.read_text(encoding="utf-8"))
