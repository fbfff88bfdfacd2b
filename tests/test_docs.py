"""The documentation states what the code does."""

import ast
import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from distributed import Client, LocalCluster
from typer.main import get_command

import universality
from universality.base import schema
from universality.base.errors import UniversalityError
from universality.base.toml import validate
from universality.cli import app
from universality.features.spec import DefinitionSpec
from universality.runs.job import Job, job_schema

ROOT = Path(__file__).parents[1]


def _from_file(name):
    """A module of docs/, which is no package: loaded from its file, as mkdocs loads its hooks."""
    place = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


hooks, generators = _from_file("hooks"), _from_file("generators")


@pytest.mark.parametrize("name", generators.PAGES)
def test_generated_pages_are_those_of_the_package(name):
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generators.PAGES[name](), f"docs/{name} is out of date; run python docs/generators.py"


def test_every_key_of_a_job_has_a_description():
    schema = job_schema()
    for name, part in {"Job": schema, **schema["$defs"]}.items():
        for key, field in part["properties"].items():
            is_table = "$ref" in field or "$ref" in field.get("items", {})
            assert is_table or field.get("description"), f"{name}.{key}"


def test_example_jobs_obey_the_schema():
    """The keys of every shipped job are keys of the exported schema."""
    schema = job_schema()

    def check(data, part, where):
        assert data.keys() <= part["properties"].keys(), where
        for key, value in data.items():
            field = part["properties"][key]
            reference = field.get("$ref") or field.get("items", {}).get("$ref")
            if reference:
                inner = schema["$defs"][reference.rsplit("/", 1)[-1]]
                for entry in value if isinstance(value, list) else [value]:
                    check(entry, inner, f"{where}.{key}")

    jobs = sorted((ROOT / "analyses").glob("*/job*.toml"))
    assert jobs
    for path in jobs:
        check(tomllib.loads(path.read_text(encoding="utf-8")), schema, path.parent.name)


def test_readme_example_runs(small, monkeypatch):
    """The README's example on the small run: its paths are the only thing that is replaced."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 12
    import universality

    monkeypatch.setattr(universality, "run", lambda path: small.run, raising=False)
    names: dict[str, object] = {}
    exec(example.replace("blocks.4.1.bn2", "blocks.2.1.bn2"), names)
    assert len(names["pairs"].columns) == len(schema.CORRESPONDENCE.names)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "analyses").rglob("*.md"))]


def blocks(language):
    """Every fenced block of a language in README, docs and analyses, with the page it stands on."""
    for page in PAGES:
        for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            yield pytest.param(text, id=f"{page.relative_to(ROOT)}:{text.splitlines()[0][:40]}")


def command_lines():
    for block in blocks("sh"):
        (text,) = block.values
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("universality "):
                line = re.split(r" [>|] ", line)[0]  # where a shell would put what is printed
                yield pytest.param(line, id=line[:70])


@pytest.mark.parametrize("line", list(command_lines()))
def test_commands_in_pages_exist(line):
    """Command, options and number of arguments are real; nothing is run."""
    command, words = get_command(app), shlex.split(line, comments=True)[1:]
    context = click.Context(command, info_name="universality")
    name = ""
    # `universality serve` is a command with options, and has commands of its own.
    while hasattr(command, "commands") and not (
        command.invoke_without_command and words[:1] not in [[c] for c in command.commands]
    ):
        name, command, words = command.resolve_command(context, words)
    command.make_context(name, list(words))


@pytest.mark.parametrize("text", list(blocks("toml")))
def test_toml_in_pages_is_read(text):
    plain = tomllib.loads(text)
    kind = Job if "extraction" in plain else DefinitionSpec if "criteria" in plain else None
    if kind is not None:
        validate(kind, plain, "page", UniversalityError)


@pytest.mark.parametrize("text", list(blocks("python")))
def test_python_in_pages_compiles(text):
    """It compiles, and what it takes from the package is there."""
    import importlib

    compile(text, "page", "exec")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("universality"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "universality":
            assert hasattr(universality, node.attr), node.attr


def test_python_of_the_tutorial_runs(small, monkeypatch, capsys):
    """The tutorial's blocks one after the other, on the small run: networks and taps are all that is replaced."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.setattr(universality, "open_run", lambda path: small.run, raising=False)
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(
            example.replace("pocket/vgg-focus-s0", "package/efficientnet_lite0").replace(
                "features.13", "blocks.1.1.bn2"
            ),
            names,
        )
    assert "share_untrained" in capsys.readouterr().out
    assert len(names["pairs"])


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in menu, page.name


def test_the_page_of_commands_names_every_command_and_option():
    page = hooks.on_page_markdown((ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8"))
    sections = dict(re.findall(r"^## universality (.+?)\n(.*?)(?=^## |\Z)", page, flags=re.DOTALL | re.MULTILINE))

    def check(command, path):
        for name, child in getattr(command, "commands", {}).items():
            check(child, [*path, name])
        if not hasattr(command, "commands") or command.invoke_without_command:
            section = sections[" ".join(path)]
            for parameter in command.params:
                assert (
                    parameter.name == "help"
                    or not parameter.opts
                    or any(opt in section or opt == parameter.name for opt in parameter.opts)
                )

    check(get_command(app), [])
    assert len(sections) > 20


# Arguments as the documentation of these packages states them; they are not installed here.
DOCUMENTED = {
    "SLURMCluster": {
        "cores", "processes", "memory", "walltime", "queue", "account", "job_script_prologue", "job_extra_directives",
        "worker_extra_args",
    },
    "KubeCluster": {"name", "namespace", "image", "n_workers", "resources", "env", "worker_command"},
    "LocalCUDACluster": {"CUDA_VISIBLE_DEVICES", "n_workers", "threads_per_worker", "memory_limit", "resources"},
    "cluster.add_worker_group": {"name", "n_workers", "image", "resources", "worker_command", "env"},
    "cluster.adapt": {"minimum", "maximum"},
}  # fmt: skip
MODULES = {"SLURMCluster": "dask_jobqueue", "KubeCluster": "dask_kubernetes.operator", "LocalCUDACluster": "dask_cuda"}
INSTALLED = {
    "universality.run": universality.run,
    "Client": Client,
    "LocalCluster": LocalCluster,
    "client.wait_for_workers": Client.wait_for_workers,
}


def cluster_snippets():
    return [block for block in blocks("python") if "Cluster" in block.values[0] or "Client(" in block.values[0]]


def test_every_cluster_has_a_snippet():
    text = "".join(block.values[0] for block in cluster_snippets())
    assert all(f"from {module} import {name}\n" in text for name, module in MODULES.items())


@pytest.mark.parametrize("text", cluster_snippets())
def test_arguments_in_cluster_snippets_are_documented(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(MODULES.get(alias.name, node.module) == node.module for alias in node.names)
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        if name in DOCUMENTED:
            assert given <= DOCUMENTED[name], name
        elif name in INSTALLED:
            inspect.signature(INSTALLED[name]).bind(
                *node.args, *([None] if "client." in name else []), **dict.fromkeys(given)
            )
        else:
            assert not given, f"{name} is called with arguments that nothing checks"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_in_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
