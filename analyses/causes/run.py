"""What matched units do in one another's place, and what networks lose without families: tables of the job beside their nulls.

Usage: python analyses/causes/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR]

Runs the job (what exists is not computed again) and writes to --tables: ``transplants.csv`` (families and layers, by base), ``unit_transplants.csv`` (single units: means, how often the match beats each stand-in,
verdicts), ``ablations.csv`` (families), ``unit_ablations.csv`` (single units by layer), ``patches.csv`` (layers and families) and ``roles.csv``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import universality
from universality.causes.transplants import CEILINGS, NULLS, VERDICTS
from universality.report.interventions import ablations_said, patches_said, roles_said, transplants_said
from universality.runs.run import Run

HERE = Path(__file__).parent
BESIDE = [f"recovery_{name}" for name in (*NULLS, *CEILINGS)]


def of_units(transplants: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each direction of each pair of layers, and base, of its single units: a unit of two families counts once."""
    units = transplants[(transplants["what"] == "unit") & (transplants["measure"] == "kl")]
    units = units.drop_duplicates(["model_a", "model_b", "into", "unit_a", "unit_b", "base"])
    rows = []
    for (a, b, into, base), of in units.groupby(["model_a", "model_b", "into", "base"], sort=False):
        known = of[of["recovery"].notna()]
        means = {name: float(known[name].mean()) for name in ("r", "recovery", *BESIDE)}
        above = {f"above_{name}": int((known["recovery"] > known[f"recovery_{name}"]).sum()) for name in NULLS}
        verdicts = {name: int((known["verdict"] == name).sum()) for name in VERDICTS}
        place = {"model_a": a, "model_b": b, "into": into, "base": base, "units": len(of), "measured": len(known)}
        # Rates of units that cost next to nothing have no lower bound: a mean would be theirs alone.
        middle = {f"median_{name}": float(known[name].median()) for name in ("recovery", "recovery_unmatched")}
        rows.append({**place, **means, **middle, **above, **verdicts})
    return pd.DataFrame(rows)


def ablated_units(ablations: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each layer and base: what its single units cost, and how many cost more than those of like activity."""
    units = ablations[ablations["what"] == "unit"]
    rows = []
    for (model, tap, base), of in units.groupby(["model", "tap", "base"], sort=False):
        costs = {
            "kl_mean": of["kl"].mean(), "kl_median": of["kl"].median(), "kl_max": of["kl"].max(), "d_accuracy_min": of["d_accuracy"].min(),
            "d_accuracy_class_min": of["d_accuracy_class"].min(), "d_accuracy_class_random_mean": of["d_accuracy_class_random"].mean(),
            "above_random_95": int((of["kl"] > of["kl_random_95"]).sum()),
        }  # fmt: skip
        rows.append({"model": model, "tap": tap, "base": base, "units": len(of), **costs})
    return pd.DataFrame(rows)


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Return what the README quotes, by the name of its file."""
    transplants, ablations, patches = (run.table(name) for name in ("transplants", "ablations", "patches"))
    sets = transplants[(transplants["what"] != "unit") & (transplants["measure"] == "kl")]
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
        "transplants": sets[[*columns, "recovery_low", "recovery_high", *BESIDE, "verdict"]],
        "unit_transplants": of_units(transplants),
        "ablations": ablations[ablations["what"] == "family"],
        "unit_ablations": ablated_units(ablations),
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
