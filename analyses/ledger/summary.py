"""Join ledgers of several runs into one table.

Usage: python analyses/ledger/summary.py NAME=FILE...

Each FILE is a ``ledger.csv``, NAME what its run is called. Writes ``outcomes.csv``, a row for each claim and run that has rows for it, and prints it as a table of the README.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
COLUMNS = [
    "claim",
    "of",
    "run",
    "verdict",
    "measured",
    "low",
    "high",
    "null",
    "ceiling",
    "n",
    "n_networks",
    "over",
    "rule",
    "before_run",
    "known",
    "reason",
]


def main() -> None:
    """Join, write, print."""
    parts = [
        pd.read_csv(path, keep_default_na=True).assign(run=name)
        for name, _, path in (word.partition("=") for word in sys.argv[1:])
    ]
    every = pd.concat(parts, ignore_index=True)
    found = every[every["n"] > 0].sort_values(["claim", "of", "run"], kind="stable", na_position="first")
    found[COLUMNS].to_csv(HERE / "outcomes.csv", index=False, float_format="%.4g", lineterminator="\n")
    for row in found.astype(object).where(found.notna(), "").to_dict("records"):
        span = f" ({row['low']:.3g} to {row['high']:.3g})" if row["low"] != "" and row["rule"] == "interval" else ""
        value = "" if row["measured"] == "" else f"{row['measured']:.3g}{span}"
        null = "" if row["null"] == "" else f"{row['null']:.2g}"
        claim = f"`{row['claim']}`" + (f", {row['of']}" if row["of"] else "")
        print(
            f"| {claim} | {row['run']} | {value} | {null} | {row['n']} ({row['n_networks']}) | **{row['verdict']}**{': ' + row['reason'] if row['reason'] and row['verdict'] == 'undecided' else ''} |"
        )
    never = sorted(set(every["claim"]) - set(found["claim"]))
    print(
        f"\n{len(set(every['claim']))} claims; no run here has rows for {len(never)}: {', '.join(f'`{name}`' for name in never)}"
    )
    print(found["verdict"].value_counts().to_dict())


if __name__ == "__main__":
    main()
