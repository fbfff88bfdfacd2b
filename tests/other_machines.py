"""Conditions under which the suite has to pass, and the table of their results: `other_machines.sh` runs them.

python tests/other_machines.py list
python tests/other_machines.py variables|tests CONDITION
python tests/other_machines.py table FOLDER
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np


def numpy_without(sets: str) -> dict[str, str]:
    """Return the variable that takes instruction sets from NumPy, by the names that this NumPy gives to those in use."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    unwanted = [name for name in found if re.search(sets, name)]
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(unwanted)} if unwanted else {}


NO_AVX512, NO_AVX2 = "AVX512|X86_V4", "AVX|FMA3|F16C|X86_V[34]"
OLDEST = {
    **numpy_without(NO_AVX2), "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem", "MKL_CBWR": "COMPATIBLE",
}  # fmt: skip
FAR_AWAY = {"TZ": "Pacific/Kiritimati"}
NUMBERS = [
    "similarity_tables",
    "activations_extraction",
    "atlas_index",
    "correspondence_layer_pairs",
    "correspondence_links",
    "correspondence_resampling",
    "correspondence_tables",
    "correspondence_truth",
    "correspondence_verdict",
    "features_early_families",
    "features_families",
    "features_high_low",
    "features_natural",
    "features_planted",
    "features_rules",
    "features_tuning",
    "jobs_trace",
    "models_nonlinearity",
    "models_pocket",
    "models_receptive_field",
    "models_zoo",
    "similarity_all_pairs",
    "similarity_common",
    "similarity_golden",
    "similarity_kernels",
    "similarity_mixture",
    "similarity_scoring",
    "similarity_streaming",
    "similarity_units",
    "stimuli_controls",
    "stimuli_framing",
    "stimuli_high_low",
    "stimuli_own_images",
    "stimuli_pictures",
    "stimuli_same_receptive_field",
    "stimuli_scaled",
    "stimuli_sets",
]
"""Files of tests that the order of a sum can reach."""
TURKISH = "tr_TR.utf8"


def _turkish() -> dict[str, str]:
    """Return another language (its capital i is none of ASCII's), or where it is not installed a character set of 128."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    return {"LC_ALL": TURKISH} if TURKISH in known else {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@dataclass(frozen=True)
class Condition:
    """What is changed in words, the variables that change it, and the instructions that it needs."""

    what: str
    variables: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    everything: bool = True

    @property
    def tests(self) -> list[str]:
        """What is run: the whole suite, or where one library is changed the tests of numbers."""
        return [] if self.everything else [f"tests/test_{name}.py" for name in NUMBERS]

    def why_not(self) -> str:
        """Return why it cannot be tested on this processor; empty where it can."""
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
        if platform.machine() != "x86_64" and self.variables and "TZ" not in self.variables:
            return "for x86-64 only"
        return f"this processor has no {self.needs}" if self.needs and self.needs.lower() not in flags else ""


CONDITIONS = {
    "as-it-is": Condition("nothing (one thread for each library of numbers, as in every other run)"),
    "numpy-no-avx512": Condition("NumPy without AVX-512", numpy_without(NO_AVX512), "AVX512F", everything=False),
    "numpy-no-avx2": Condition("NumPy without AVX2 and AVX-512", numpy_without(NO_AVX2), "AVX2", everything=False),
    "torch-default": Condition(
        "Torch's own kernels without AVX2", {"ATEN_CPU_CAPABILITY": "default"}, "AVX2", everything=False
    ),
    "torch-avx2": Condition(
        "Torch's own kernels without AVX-512", {"ATEN_CPU_CAPABILITY": "avx2"}, "AVX512F", everything=False
    ),
    "onednn-sse41": Condition(
        "oneDNN's convolutions with SSE4.1 only", {"ONEDNN_MAX_CPU_ISA": "SSE41"}, "AVX2", everything=False
    ),
    "onednn-avx2": Condition(
        "oneDNN's convolutions without AVX-512", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AVX512F", everything=False
    ),
    "openblas-haswell": Condition(
        "OpenBLAS's kernels for Intel Haswell", {"OPENBLAS_CORETYPE": "Haswell"}, "AVX2", everything=False
    ),
    "openblas-zen": Condition("OpenBLAS's kernels for AMD Zen", {"OPENBLAS_CORETYPE": "Zen"}, "AVX2", everything=False),
    "openblas-skylakex": Condition(
        "OpenBLAS's kernels for AVX-512", {"OPENBLAS_CORETYPE": "SkylakeX"}, "AVX512F", everything=False
    ),
    "openblas-nehalem": Condition("OpenBLAS's kernels for SSE4.2", {"OPENBLAS_CORETYPE": "Nehalem"}, everything=False),
    "mkl-compatible": Condition("MKL's kernels for any processor", {"MKL_CBWR": "COMPATIBLE"}, everything=False),
    "oldest-instructions": Condition(
        "all five libraries with the oldest instructions that they have", OLDEST, everything=False
    ),
    "four-threads": Condition("four threads for each library of numbers", {"OMP_NUM_THREADS": "4"}),
    "oldest": Condition("the lowest versions that pyproject.toml allows"),
    "newest": Condition("the newest Python that the dependencies support"),
    "other-order": Condition("the order of the files, and of the tests in each"),
    "burning": Condition("two other processes that use all the processor time they can get"),
    "locale": Condition("language, character set, and a time zone 14 hours ahead", {**_turkish(), **FAR_AWAY}),
}


def variables(name: str) -> Iterator[str]:
    """Yield ``NAME=value`` for what a condition sets; end with its reason where it cannot be had here."""
    if name not in CONDITIONS:
        sys.exit(f"unknown condition '{name}', expected one of {', '.join(CONDITIONS)}")
    if why := CONDITIONS[name].why_not():
        sys.exit(why)
    yield from (f"{key}={value}" for key, value in CONDITIONS[name].variables.items())


def table(folder: str) -> Iterator[str]:
    """Yield the result of every condition, as Markdown."""
    yield "| condition | what is changed | tests | passed | failed | skipped | s |"
    yield "|---|---|---|---|---|---|---|"
    for name, condition in CONDITIONS.items():
        yield f"| `{name}` | {condition.what} | {_which(Path(folder), name)} | {_came(Path(folder), name)} |"


def _which(folder: Path, name: str) -> str:
    only = folder / f"{name}.only"
    narrowed = f" with `{only.read_text(encoding='utf-8').strip()}`" if only.is_file() else ""
    return ("all" if CONDITIONS[name].everything else "numbers") + narrowed


def _came(folder: Path, name: str) -> str:
    why, results = folder / f"{name}.notrun", folder / f"{name}.xml"
    if not results.is_file():
        return f"not run{': ' + why.read_text(encoding='utf-8').strip() if why.is_file() else ' yet'} | | | "
    (suite,) = ElementTree.parse(results).iter("testsuite")
    cases, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    bad = [case for case in suite.iter("testcase") if {"failure", "error"} & {child.tag for child in case}]
    names = ", ".join(sorted({f"`{case.get('name', '').split('[')[0]}`" for case in bad}))
    return f"{cases - len(bad) - skipped} | {len(bad)}{': ' * bool(bad)}{names} | {skipped} | {float(suite.get('time', 0)):.0f}"


COMMANDS = {
    "list": lambda: CONDITIONS,
    "variables": variables,
    "tests": lambda name: CONDITIONS[name].tests,
    "table": table,
}

if __name__ == "__main__":
    for line in COMMANDS[sys.argv[1]](*sys.argv[2:]):
        print(line)
