"""How time and memory of a whole run grow with the number of networks: ``docs/zoo_growth.csv`` and ``docs/zoo_growth.png``.

Usage: python tests/benchmarks/zoo_growth.py [--networks 2 4 8 14] [--quick] [--csv FILE] [--picture FILE]

The first networks of ``analyses/pocket_zoo/job.toml``, two taps each, all pairs, both families, with empty stores; every size
in a process of its own. Stages are told apart by the progress that `universality.run` reports. Peak memory is the largest
resident set of the process within a stage, sampled every 20 ms: it includes Python and its packages. ``--quick`` shows
few stimuli: its times say how the stages grow with the networks, not how long a run takes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

ROOT = Path(__file__).parents[2]
JOB = ROOT / "analyses" / "pocket_zoo" / "job.toml"
STAGES = ("start", "extraction", "comparison", "figures", "atlas")
QUICK = """
[stimuli.natural]
crops = 0
shapes = 240
diet = "focus"

[stimuli.curves]
orientations = 12
curvatures = [0.0, 5.0]

[stimuli.high_low]
orientations = 12
"""
FULL = """
[stimuli.natural]
crops = 0
shapes = 1152
diet = "focus"
"""


def job_text(networks: int, quick: bool) -> str:
    """Return the TOML of a job on the first networks of the pocket zoo."""
    with JOB.open("rb") as file:
        job = tomllib.load(file)
    models = "".join(
        f'[[models]]\nid = "{m["id"]}"\ntaps = {json.dumps(m["taps"])}\n' for m in job["models"][:networks]
    )
    # Numbers of pictures do not grow: a run draws the same two pairs.
    first, second = (entry["id"] for entry in job["models"][:2])
    return (
        f'name = "growth"\nfigure_pairs = [["{first}", "{second}"]]\n{models}{QUICK if quick else FULL}\n'
        '[extraction]\nreduction = "center"\nbatch_size = 64\n\n'
        '[comparison]\nfamilies = ["curve", "high_low_frequency"]\n'
        'measures = ["cka_linear_debiased", "unit_match_mutual_nearest"]\n\n[nulls]\nuntrained_seeds = [0]\n\n'
        '[stages]\nwithout = ["natural", "circuits", "recovery", "motifs", "atlas"]\n'
    )


class Stopwatch:
    """A reporter that notes when each stage begins."""

    def __init__(self) -> None:
        self.begun = [("start", time.perf_counter())]

    def begin(self, stage: str) -> None:
        if self.begun[-1][0] != stage:
            self.begun.append((stage, time.perf_counter()))

    def say(self, text: str) -> None:
        """Drop the line."""

    def track(self, description: str, total: int) -> Callable[[int], None]:
        """Note the stage by its description."""
        named = {"extraction (images)": "extraction", "figures and report": "figures"}
        self.begin(named.get(description, "comparison"))
        return lambda steps: None


def measure(networks: int, quick: bool) -> list[dict[str, object]]:
    """Run one size in this process and return seconds and peak memory of every stage."""
    import universality
    from universality.jobs.atlas import write_atlas

    samples: list[tuple[float, int]] = []
    done = threading.Event()
    process = psutil.Process()

    def sample() -> None:
        while not done.wait(0.02):
            samples.append((time.perf_counter(), process.memory_info().rss))

    threading.Thread(target=sample, daemon=True).start()
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.toml").write_text(job_text(networks, quick), encoding="utf-8")
        universality.run(folder / "job.toml", folder / "run", store=folder / "store", reporter=watch)
        watch.begin("atlas")
        finished = universality.run(folder / "job.toml", folder / "run", store=folder / "store", only=["atlas"])
        write_atlas(finished, folder / "atlas")
        watch.begin("end")
    done.set()
    rows = []
    for (stage, begin), (_, end) in pairwise(watch.begun):
        within = [rss for at, rss in samples if begin <= at < end] or [process.memory_info().rss]
        rows.append({"networks": networks, "pairs": networks * (networks - 1) // 2, "stage": stage,
                     "seconds": round(end - begin, 3), "peak_rss_mb": round(max(within) / 1e6, 1)})  # fmt: skip
    return rows


def growth(rows: pd.DataFrame) -> float:
    """Return k of the least-squares fit seconds = c networks^k of one stage; NaN from a single size."""
    if len(rows) < 2:
        return float("nan")
    return float(np.polyfit(np.log(rows["networks"]), np.log(np.maximum(rows["seconds"], 1e-3)), 1)[0])


def draw(table: pd.DataFrame, picture: Path, note: str) -> None:
    """Draw seconds and memory against networks, with the exponent of every stage's growth."""
    from matplotlib.figure import Figure

    from universality.figures import DOUBLE_MM, MM, style

    with style():
        figure = Figure(figsize=(DOUBLE_MM * MM, 65 * MM), layout="constrained")
        left, right = figure.subplots(1, 2)
        for stage in [name for name in STAGES if (table["stage"] == name).any()]:
            rows = table[table["stage"] == stage]
            (line,) = left.plot(rows["networks"], rows["seconds"], "o-", markersize=3)
            line.set_label(f"{stage} (grows as networks^{growth(rows):.1f})")
            right.plot(rows["networks"], rows["peak_rss_mb"] / 1000, "o-", markersize=3, color=line.get_color())
        sizes = sorted(table["networks"].unique())
        for ax, title in ((left, "seconds"), (right, "peak resident memory (GB)")):
            ax.set(xscale="log", xlabel="networks", ylabel=title, xticks=sizes, xticklabels=[str(n) for n in sizes])
            ax.minorticks_off()
        left.set_yscale("log")
        right.set_ylim(0, None)
        figure.legend(loc="outside right upper", frameon=False)
        figure.suptitle(note, fontsize=6)
        figure.savefig(picture, dpi=200, metadata={"Software": None})


def main() -> None:
    """Measure every size in a process of its own, write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, nargs="+", default=[2, 4, 8, 14])
    parser.add_argument("--quick", action="store_true", help="few stimuli")
    parser.add_argument("--csv", type=Path, default=ROOT / "docs" / "zoo_growth.csv")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "zoo_growth.png")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.quick)))
        return
    rows = []
    for networks in chosen.networks:
        command = [sys.executable, __file__, "--one", str(networks), *(["--quick"] if chosen.quick else [])]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        rows += json.loads(answer.stdout.splitlines()[-1])
    table = pd.DataFrame(rows)
    table["load"] = round(os.getloadavg()[0], 1)
    table.to_csv(chosen.csv, index=False)
    stimuli = "few stimuli" if chosen.quick else "the stimuli of the pocket zoo's job"
    draw(table, chosen.picture, f"Pocket networks, two taps each, all pairs, {stimuli}, {os.cpu_count()} cores")
    print(table.to_string(index=False))
    for stage, of_stage in table.groupby("stage", sort=False):
        print(f"{stage}: seconds grow as networks^{growth(of_stage):.2f}")


if __name__ == "__main__":
    main()
