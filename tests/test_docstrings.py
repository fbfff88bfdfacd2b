"""The examples in the package's docstrings give what they say.

Only modules that hold examples are imported for them: that all are collected as tests of their own costs every worker of the test run
ten processor seconds before the first test.
"""

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "universality"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def test_the_modules_with_examples_are_found():
    assert {"universality", "universality.base.names", "universality.figures.style"} <= set(MODULES)
    assert len(MODULES) > 40


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, capsys):
    module = importlib.import_module(name)
    held = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert held
    runner = doctest.DocTestRunner()
    for test in held:
        runner.run(test)
    assert runner.failures == 0, capsys.readouterr().out
