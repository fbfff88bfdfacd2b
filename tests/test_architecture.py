"""The path of the data is the layout: a module imports only what comes before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "universality"

# From left to right as the data flows; modules of one level do not import one another.
LEVELS = (
    ("errors", "resources", "locks", "memory", "display", "names"),
    ("schema", "recipes", "devices"),
    ("spec", "places"),
    ("weight_files",),
    ("catalogue",),
    ("pocket",),
    ("hooks", "stimuli", "comparators", "tuning"),
    ("zoo",),
    ("receptive_field", "nonlinearity", "sampling", "store", "detectors", "origin"),
    ("kept", "extraction"),
    ("engine", "drafting", "doctor"),
    ("networks", "comparison", "runs", "groups"),
    ("checks", "drawn", "evidence", "reading", "records", "sidecars"),
    ("verdict",),
    ("partners",),
    ("correspondence", "pairs", "links", "natural_tuning", "upkeep"),
    ("census", "tracing"),
    ("atlas", "index"),
    ("figures",),
    ("report", "atlas_files"),
    ("jobs",),
    ("reproduction",),
    ("cli",),
    ("__main__",),
)
ONLY_IN = {
    "timm": {"zoo", "pocket"},
    "torchvision": {"zoo", "pocket"},
    "huggingface_hub": {"weight_files"},
    "seaborn": {"figures"},
    "matplotlib": {"figures"},
    "distributed": {"jobs"},
    "typer": {"cli"},
}
RANK = {module: rank for rank, level in enumerate(LEVELS) for module in level}


def imports(path: Path) -> set[str]:
    """Every imported module, also those imported inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; write the whole path"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(path: Path) -> str:
    """The module, or for a file in a subpackage the subpackage, that `path` belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_module_has_a_level():
    assert {part_of(path) for path in FILES} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_backwards(path):
    here = part_of(path)
    for name in imports(path):
        if not name.startswith("universality."):
            continue
        there = name.split(".")[1]
        if there == here and path.parent != PACKAGE:
            continue  # files of one subpackage may share
        assert RANK.get(there, len(LEVELS)) < RANK[here], f"{here} imports {there}, which comes later or beside it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_packages_stay_in_their_module(path):
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or part_of(path) in allowed, f"{path.name} imports {name}"
