"""Both lists of dependencies agree, and the version is the same everywhere."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import universality.runs.provenance
from universality.models import catalogue

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# conda-forge's names where they differ from the package index's
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "build": "python-build",
    "POT": "pot",
    "huggingface-hub": "huggingface_hub",
    "duckdb": "python-duckdb",
}


def bound(requirement: str) -> tuple[str, str]:
    name, lower = re.fullmatch(r"([A-Za-z0-9_.\-]+)>=([0-9.]+)", requirement.strip()).groups()
    return name, lower


def of_extra(extra: str) -> set[str]:
    """Return what an extra asks for, those of the extras that it names too."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        other = re.fullmatch(r"universality\[(\w+)\]", requirement)
        found |= of_extra(other[1]) if other else {requirement}
    return found


def environment_bounds() -> dict[str, str]:
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip().removeprefix("- ") for line in lines if ">=" in line and line.strip().startswith("- ")]
    return dict(bound(entry) for entry in entries)


def test_environment_yml_states_the_same_lower_bounds():
    wanted = {"python": PROJECT["requires-python"].removeprefix(">=")}
    for requirement in [*PROJECT["dependencies"], *of_extra("dev")]:
        name, lower = bound(requirement)
        wanted[CONDA_NAMES.get(name, name)] = lower
    assert environment_bounds() == wanted


def test_dev_holds_what_the_demo_needs():
    assert of_extra("serve") <= of_extra("demo") <= of_extra("dev")


def test_version_is_stated_once():
    version = PROJECT["version"]
    assert universality.runs.provenance.package_version() == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_recorded_packages_are_dependencies():
    names = {bound(requirement)[0] for requirement in PROJECT["dependencies"]}
    assert set(universality.runs.provenance.PACKAGES) <= names


def test_no_file_is_too_large():
    data = [path for path in (ROOT / "data").glob("*") if path.is_file()]
    assert all(path.stat().st_size < 16 * 2**20 for path in data)
    assert sum(path.stat().st_size for path in data) < 40 * 2**20


def test_wheel_runs_from_an_empty_folder(tmp_path):
    """What is installed carries cards, manifest, job and weights: it does not need the checkout."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
        carried = {name for name in wheel.namelist() if name.startswith("universality/report/static/")}
        assert {Path(name).suffix for name in carried} == {".html", ".css", ".js"}
    (tmp_path / "empty").mkdir()
    script = (
        "import universality\n"
        "from universality.models import catalogue, zoo\n"
        "from universality.base.paths import resource\n"
        "from universality.stimuli import natural\n"
        "print(universality.__file__)\n"
        "print(len(catalogue.cards()), sum(photo.file.is_file() for photo in natural.photographs()))\n"
        "print(type(zoo.pretrained(catalogue.card('pocket/vgg-focus-s0'))).__name__)\n"
        "print(len(universality.plan(resource('analyses/quickstart/job.toml')).missing))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "empty",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    file, counts, network, missing = done.stdout.split("\n")[:4]
    assert file.startswith(str(tmp_path / "installed"))
    assert counts == f"{len(catalogue.cards())} 94"
    assert network == "ConvolutionalThenLinear"
    assert missing == "128"  # 7 networks, their twins and 2 noisy copies, 2 taps each, 4 stimulus sets


def test_conditions_of_other_machines_name_files_that_exist():
    script = ROOT / "tests" / "other_machines.py"
    answer = subprocess.run(
        [sys.executable, script, "tests", "oldest-instructions"], capture_output=True, text=True, check=True
    )
    named = answer.stdout.split()
    assert named and all((ROOT / name).is_file() for name in named)
