"""What the documentation states is what the code does."""

import re
from pathlib import Path

from universality import comparators, schema

ROOT = Path(__file__).parents[1]


def test_table_columns_are_documented():
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == schema.tables_markdown()


def test_measures_are_documented():
    assert (ROOT / "docs" / "measures.md").read_text(encoding="utf-8") == comparators.measures_markdown()


def test_job_keys_are_documented():
    from universality.jobs.documentation import job_markdown

    assert (ROOT / "docs" / "job.md").read_text(encoding="utf-8") == job_markdown()


def test_every_key_of_a_job_has_a_description():
    from universality.jobs.documentation import job_schema

    schema = job_schema()
    for name, part in {"Job": schema, **schema["$defs"]}.items():
        for key, field in part["properties"].items():
            is_table = "$ref" in field or "$ref" in field.get("items", {})
            assert is_table or field.get("description"), f"{name}.{key}"


def test_example_jobs_obey_the_schema():
    """The keys of every shipped job are keys of the exported schema."""
    import tomllib

    from universality.jobs.documentation import job_schema

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


def test_readme_names_existing_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
