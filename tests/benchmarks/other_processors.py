"""How far a job's tables differ between kinds of processor, emulated on this one by the conditions of `other_machines.py`.

    python tests/benchmarks/other_processors.py --out FOLDER [--job JOB] [CONDITION ...]

The job runs once as it is and once under each condition (`as-it-is-again`: what two runs of one kind differ by), each with an empty
store in a process of its own. Rows are joined by their keys. Of every table: how many rows are in both runs, how many
columns differ at all, the largest difference of a number as a share of the larger of 1 and the number, and the share of
rows in which all words and truth values (verdicts, families, who is matched, which criteria fail) agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from other_machines import CONDITIONS

ROOT = Path(__file__).parents[2]
DEFAULT = (
    "as-it-is-again",
    "numpy-no-avx2",
    "torch-default",
    "onednn-sse41",
    "openblas-nehalem",
    "mkl-compatible",
    "oldest-instructions",
)
KEYS = {
    "similarity": ("model_a", "tap_a", "model_b", "tap_b", "measure"),
    "families": ("model", "tap", "family"),
    "units": ("model", "seed", "tap", "family", "unit"),
    "units_curve": ("model", "seed", "tap", "unit"),
    "units_high_low_frequency": ("model", "seed", "tap", "unit"),
    "pairs": ("model_a", "tap_a", "model_b", "tap_b", "family", "method"),
    "correspondence": ("model_a", "tap_a", "unit_a", "model_b", "tap_b", "unit_b", "family", "method"),
}


def run(job: Path, folder: Path, condition: str) -> Path:
    """Run the job under a condition, if it was not yet; return the run's directory."""
    out = folder / condition / "run"
    if not (out / "report.html").is_file():
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **CONDITIONS[condition.removesuffix("-again")].variables}
        command = [
            sys.executable,
            "-m",
            "universality",
            "run",
            job,
            "--out",
            out,
            "--store",
            folder / condition / "store",
        ]
        subprocess.run(command, env=variables, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return out


def differences(before: pd.DataFrame, after: pd.DataFrame, keys: tuple[str, ...]) -> tuple[int, int, int, float, float]:
    """Return rows of the first, rows in both, columns that differ, largest difference, share of rows of equal words."""
    both = before.merge(after, on=list(keys), suffixes=("", "_again"), validate="one_to_one")
    largest, differing, same = 0.0, 0, np.ones(len(both), bool)
    for column in before.columns.difference(list(keys)):
        a, b = both[column], both[f"{column}_again"]
        if pd.api.types.is_float_dtype(a):
            x, y = a.to_numpy(), b.to_numpy()
            equal = (x == y) | (np.isnan(x) & np.isnan(y))
            with np.errstate(invalid="ignore"):
                gaps = np.where(equal, 0.0, np.abs(x - y) / np.maximum(1, np.abs(x)))
            same &= np.isnan(x) == np.isnan(y)
            largest = max(largest, float(np.nanmax(gaps, initial=0.0)))
            differing += not equal.all()
        elif pd.api.types.is_bool_dtype(a) or a.map(type).isin((str, bool)).all():
            same &= a.to_numpy() == b.to_numpy()
    return len(before), len(both), differing, largest, float(same.mean())


def lines(first: Path, again: Path, name: str) -> Iterator[str]:
    """Yield a line of Markdown for every table."""
    for table, keys in KEYS.items():
        frames = (pd.read_parquet(out / f"{table}.parquet") for out in (first, again))
        rows, both, columns, largest, same = differences(*frames, keys)
        yield f"| {name} | {table} | {both} of {rows} | {columns} | {largest:.1e} | {same:.4%} |"


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conditions", nargs="*", default=DEFAULT)
    parser.add_argument("--job", type=Path, default=ROOT / "analyses" / "quickstart" / "job.toml")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    job, folder = asked.job.absolute(), asked.out.absolute()
    first = run(job, folder, "as-it-is")
    print("| condition | table | rows in both | columns of numbers that differ | largest difference | words equal |")
    print("|---|---|---|---|---|---|")
    for name in asked.conditions:
        print("\n".join(lines(first, run(job, folder, name), f"`{name}`")), flush=True)


if __name__ == "__main__":
    main()
