"""What the documentation states is what the code does."""

import re
from pathlib import Path

from universality import comparators, schema

ROOT = Path(__file__).parents[1]


def test_table_columns_are_documented():
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == schema.tables_markdown()


def test_measures_are_documented():
    assert (ROOT / "docs" / "measures.md").read_text(encoding="utf-8") == comparators.measures_markdown()


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
