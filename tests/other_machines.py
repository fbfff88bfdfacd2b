"""What `other_machines.sh` needs to know: lower bounds, names of instruction sets, and the table of what came of it.

python tests/other_machines.py lower-bounds
python tests/other_machines.py numpy-features avx512|avx2
python tests/other_machines.py table FOLDER CONDITION ...
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
SETS = {
    "as-it-is": "nothing changed",
    "numpy-no-avx512": "NumPy without AVX-512",
    "numpy-no-avx2": "NumPy without AVX2 and AVX-512",
    "torch-default": "Torch's own kernels without AVX2 and AVX-512 (`ATEN_CPU_CAPABILITY=default`)",
    "torch-avx2": "Torch's own kernels without AVX-512 (`ATEN_CPU_CAPABILITY=avx2`)",
    "onednn-sse41": "convolutions with SSE4.1 only (`ONEDNN_MAX_CPU_ISA=SSE41`)",
    "onednn-avx2": "convolutions without AVX-512 (`ONEDNN_MAX_CPU_ISA=AVX2`)",
    "openblas-haswell": "OpenBLAS's kernels for Intel Haswell",
    "openblas-zen": "OpenBLAS's kernels for AMD Zen",
    "openblas-skylakex": "OpenBLAS's kernels for AVX-512",
    "openblas-nehalem": "OpenBLAS's kernels for SSE4.2",
    "mkl-compatible": "MKL's kernels for any processor (`MKL_CBWR=COMPATIBLE`)",
    "all-oldest-instructions": "all five libraries with the oldest instructions that they have",
    "one-thread": "one thread for each library of numbers",
    "four-threads": "four threads for each library of numbers",
    "oldest": "the lowest versions that pyproject.toml allows",
    "newest": "the newest Python that the dependencies support",
    "other-order": "files in another order, and the tests of each file",
    "burning": "two other processes that take all they can get",
    "locale": "another language and character set, time zone 14 hours ahead",
}


def lower_bounds() -> Iterator[str]:
    """Yield ``name==version`` for every lower bound of the package and of its tests."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        yield requirement.replace(">=", "==")


def numpy_features(without: str) -> Iterator[str]:
    """Yield the names by which this NumPy knows the instruction sets from `without` on that it could use here."""
    unwanted = re.compile({"avx512": "AVX512|X86_V4", "avx2": "AVX|FMA3|F16C|X86_V[34]"}[without])
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return (name for name in found if unwanted.search(name))


def row(folder: Path, condition: str) -> str:
    """Return a line of the table."""
    why, results = folder / f"{condition}.notrun", folder / f"{condition}.xml"
    head = f"| `{condition}` | {SETS[condition]} |"
    if why.is_file():
        return f"{head} not run: {why.read_text(encoding='utf-8').strip()} | | | |"
    if not results.is_file():
        return f"{head} not run | | | |"
    suites = list(ElementTree.parse(results).iter("testsuite"))
    total, bad, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    failed = sorted(
        {
            f"`{case.get('name', '').split('[')[0]}`"
            for suite in suites
            for case in suite.iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        }
    )
    seconds = sum(float(suite.get("time", 0)) for suite in suites)
    passed = total - bad - skipped
    return f"{head} {passed} | {bad}{': ' if bad else ''}{', '.join(failed)} | {skipped} | {seconds:.0f} |"


def table(folder: Path, conditions: Sequence[str]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield "| condition | what is changed | passed | failed | skipped | s |"
    yield "|---|---|---|---|---|---|"
    yield from (row(folder, condition) for condition in conditions)


def main(command: str, *arguments: str) -> None:
    """Print what is asked for."""
    if command == "lower-bounds":
        print("\n".join(lower_bounds()))
    elif command == "numpy-features":
        print(" ".join(numpy_features(*arguments)))
    elif command == "table":
        print("\n".join(table(Path(arguments[0]), arguments[1:])))
    else:
        sys.exit(f"unknown command '{command}', expected lower-bounds, numpy-features or table")


if __name__ == "__main__":
    main(*sys.argv[1:])
