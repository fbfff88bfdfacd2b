"""The path of the data is the layout: a room imports itself and the rooms to its left."""

import ast
import re
from pathlib import Path

import pytest

from universality.features import names
from universality.features.families import FAMILIES
from universality.stimuli.kinds import STIMULI

PACKAGE = Path(__file__).parents[1] / "universality"

# From left to right as the data flows; rooms of one place do not see one another.
ORDER = (
    ("base",),
    ("models",),
    ("stimuli",),
    ("activations",),
    ("similarity", "features"),
    ("correspondence", "circuits"),
    ("causes",),
    ("atlas",),
    ("ledger",),
    ("runs",),
    ("figures",),
    ("report",),
    ("jobs",),
    ("service",),
    ("cli",),
)
# Science takes arrays and tables, never a run or a job: those come later in the order.
SCIENCE = ("similarity", "features", "correspondence", "circuits", "causes", "atlas", "ledger")
ONLY_IN = {
    "timm": ("models/pocket/", "models/zoo.py"),
    "torchvision": ("models/pocket/", "models/zoo.py"),
    "huggingface_hub": ("models/weight_files.py",),
    "seaborn": ("figures/",),
    "matplotlib": ("figures/",),
    "distributed": ("jobs/",),
    "typer": ("cli/",),
    "fastapi": ("service/",),
    "sqlalchemy": ("service/",),
    "duckdb": ("service/",),
    "httpx": ("service/",),
}
FLAT = {"__init__", "__main__"}
RANK = {room: rank for rank, place in enumerate(ORDER) for room in place}


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


def room_of(path: Path) -> str:
    """The room that a file belongs to; for a flat module its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) not in FLAT]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def test_every_module_is_in_a_room():
    assert {path.stem for path in PACKAGE.glob("*.py")} == FLAT
    assert {room_of(path) for path in FILES} == set(RANK)


@pytest.mark.parametrize("room", RANK)
def test_a_room_says_what_comes_in_and_what_goes_out(room):
    said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
    assert said and said.splitlines()[0].endswith("."), room


@each_file
def test_imports_point_to_the_left(path):
    here = room_of(path)
    for name in imports(path):
        if not name.startswith("universality."):
            continue
        there = name.split(".")[1]
        assert there in RANK, f"{here} takes {there} from the package itself; take it from its room"
        assert there == here or RANK[there] < RANK[here], f"{here} imports {there}, which comes later or beside it"


def test_science_comes_before_runs_and_jobs():
    assert all(RANK[room] < RANK[later] for room in SCIENCE for later in ("runs", "jobs"))


@each_file
def test_heavy_packages_stay_in_their_place(path):
    for name in imports(path):
        places = ONLY_IN.get(name.split(".")[0])
        within = path.relative_to(PACKAGE).as_posix()
        assert places is None or within.startswith(places), f"{within} imports {name}"


FAMILY_NAMES = re.compile(rf"\b({'|'.join(FAMILIES)})\b")


def families_named(text):
    """Names of families in a text; a tuning curve is no curve that a unit would detect."""
    return set(FAMILY_NAMES.findall(re.sub(r"tuning\s+curve", "tuning", text)))


@each_file
def test_what_is_known_of_a_family_stands_in_features(path):
    if room_of(path) != "features":
        # A stimulus set may bear the name of the family that it is drawn for.
        allowed = set(STIMULI) if room_of(path) == "stimuli" else set()
        assert families_named(path.read_text(encoding="utf-8")) <= allowed


def test_names_of_families_are_seen_and_tuning_curves_are_not():
    assert families_named('x = {"curve": oriented_edge}') == {"curve", "oriented_edge"}
    assert families_named("a tuning\n curve of curves, curve_over_line") == set()


def test_families_that_are_only_listed_are_those_there_are():
    assert tuple(FAMILIES) == names.NAMES
    assert set(names.DEFAULT) <= set(FAMILIES)
