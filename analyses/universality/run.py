"""The correspondence tables, the atlas and the index of universality of a zoo, and what they say.

Usage: python analyses/universality/run.py [--job FILE] [--run DIR] [--store DIR] [--tables DIR] [--docs DIR]

Runs the job (what exists is not computed again), makes its atlas, writes the small tables as CSV to --tables (by default this
folder) and the pictures as ``universality_*.png`` to --docs, and writes what they say, in sentences, to ``findings.md``
beside the tables. Every number of the README comes from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from universality import open_run, run
from universality.atlas.groups import SETTINGS, by_group, by_pair, setting
from universality.features.families import FAMILIES
from universality.jobs.atlas import findings, write_atlas
from universality.models import catalogue
from universality.runs.run import Run
from universality.similarity.matching import HOW

HERE = Path(__file__).parent
TABLES = ("cliques", "clique_counts", "index_by_pair", "index_by_group", "index_by_feature")


def verdicts(finished: Run) -> pd.DataFrame:
    """Return how many matched pairs of detectors have which verdict, one row per family and group of pairs."""
    table = finished.correspondence
    both = table[(table["method"] == finished.job.matched_by()) & table["detector_a"] & table["detector_b"]]
    cards = catalogue.cards()
    groups = [setting(cards[a], cards[b]) for a, b in zip(both["model_a"], both["model_b"], strict=True)]
    counted = both.assign(group=pd.Categorical(groups, SETTINGS, ordered=True))
    counts = counted.groupby(["family", "group"], observed=True)["verdict"].value_counts().unstack(fill_value=0)
    return counts.assign(n_pairs=counts.sum(axis=1)).reset_index()


def null_verdicts(finished: Run) -> pd.DataFrame:
    """Return the sums of same_feature over all pairs of layers beside those of the nulls, where the run has them."""
    file = finished.path / "pairs.parquet"
    if not file.is_file():
        return pd.DataFrame()
    table = pd.read_parquet(file)
    wanted = [name for name in table.columns if name.startswith("n_same_feature")]
    return table[table["method"] == finished.job.matched_by()].groupby("family", sort=False)[wanted].sum().reset_index()


def said(finished: Run, tables: dict[str, pd.DataFrame], counts: pd.DataFrame) -> Iterator[str]:
    """Yield the findings, one line of Markdown each."""
    yield "# Findings\n\nWritten by `run.py`; every interval is one of 95 %.\n\n## Index, cliques, atlas\n"
    yield from (f"- {line}" for line in findings(tables))
    yield f"\n## Verdicts of pairs of detectors matched {HOW[finished.job.matched_by()]}\n"
    for row in counts.to_dict("records"):
        noun = FAMILIES[str(row["family"])].noun
        yield f"- {noun}, {row['group']}: {row.get('same_feature', 0)} same_feature of {row['n_pairs']} matched pairs"
    for row in null_verdicts(finished).to_dict("records"):
        numbers = ", ".join(f"{name} {value:g}" for name, value in row.items() if name != "family")
        yield f"- {row['family']}, all pairs of layers: {numbers}"
    yield "\n## Similarity of layers of like depth\n"
    groups = by_group(by_pair(finished.similarity, catalogue.cards()), seed=finished.job.seed)
    numbers_only = groups.select_dtypes("float")
    groups[numbers_only.columns] = numbers_only.round(2) + 0.0  # no -0.00
    for row in groups.to_dict("records"):
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if pd.notna(row["low"]) else "no interval"
        yield (
            f"- {row['measure']}, {row['group']} ({row['pairs']} pairs): {row['value']:.2f} ({interval}; untrained "
            f"{row['value_untrained']:.2f}, random basis {row['value_haar']:.2f}, shuffled {row['value_shuffled']:.2f})"
        )


def publish(atlas_folder: Path, tables: Path, docs: Path, counts: pd.DataFrame) -> None:
    """Copy the small tables and the pictures to where the README shows them."""
    for folder in (tables, docs):
        folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        pd.read_csv(atlas_folder / f"{name}.csv").to_csv(tables / f"{name}.csv", index=False, float_format="%.4f")
    counts.to_csv(tables / "verdicts.csv", index=False)
    for picture in atlas_folder.glob("*.png"):
        (docs / f"universality_{picture.name}").write_bytes(picture.read_bytes())


def main() -> None:
    """Run everything and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, default=HERE / "job.toml")
    parser.add_argument("--run", type=Path, default=Path("data/runs/universality"))
    parser.add_argument("--store", type=Path, default=Path("data/store"))
    parser.add_argument("--tables", type=Path, default=HERE)
    parser.add_argument("--docs", type=Path, default=HERE.parents[1] / "docs")
    chosen = parser.parse_args()
    started = time.perf_counter()
    run(chosen.job, chosen.run, store=chosen.store)
    compared = time.perf_counter()
    finished = open_run(chosen.run)
    _, tables = write_atlas(finished, chosen.run / "atlas")
    counts = verdicts(finished)
    publish(chosen.run / "atlas", chosen.tables, chosen.docs, counts)
    lines = "\n".join(said(finished, tables, counts))
    (chosen.tables / "findings.md").write_text(f"{lines}\n", encoding="utf-8")
    print(lines)
    print(f"\nrun {compared - started:.0f} s, atlas {time.perf_counter() - compared:.0f} s")


if __name__ == "__main__":
    main()
