"""What matched units do in one another's place, and what networks lose without families: tables of the job beside their nulls.

Usage: python analyses/causes/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR]

Runs the job (what exists is not computed again) and writes ``transplants.csv`` (families and layers, by base), ``ablations.csv`` (families), ``patches.csv`` (layers and families) and ``roles.csv`` to --tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import universality
from universality.causes.transplants import CEILINGS, NULLS
from universality.report.interventions import ablations_said, patches_said, roles_said, transplants_said
from universality.runs.run import Run

HERE = Path(__file__).parent


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return what the README quotes, by the name of its file."""
    transplants, ablations, patches = (run.table(name) for name in ("transplants", "ablations", "patches"))
    sets = transplants[(transplants["what"] != "unit") & (transplants["measure"] == "kl")]
    beside = [f"recovery_{name}" for name in (*NULLS, *CEILINGS)]
    columns = [
        "model_a",
        "model_b",
        "tap_a",
        "tap_b",
        "into",
        "what",
        "family",
        "n_units",
        "r",
        "base",
        "ablated",
        "recovery",
    ]
    return {
        "transplants": sets[[*columns, "recovery_low", "recovery_high", *beside, "verdict"]],
        "ablations": ablations[ablations["what"] == "family"],
        "patches": patches[patches["what"] != "unit"],
        "roles": run.table("circuit_and_role"),
    }


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("job", HERE / "job.toml"), ("run", None), ("store", None), ("tables", HERE)):
        parser.add_argument(f"--{name}", type=Path, default=default)
    given = parser.parse_args()
    run = universality.run(given.job, given.run, store=given.store)
    given.tables.mkdir(parents=True, exist_ok=True)
    for name, rows in tables(run).items():
        rows.to_csv(given.tables / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
    for said in (
        *ablations_said(run.table("ablations")), *patches_said(run.table("patches")), *transplants_said(run.table("transplants"), "networks"),
        *roles_said(run.table("circuit_and_role")),
    ):  # fmt: skip
        print(f"- {said.text}")


if __name__ == "__main__":
    main()
