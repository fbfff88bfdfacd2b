"""Run the whole suite of faults and write the results as Markdown: kind of fault, cases, survived, skipped and why.

    python tests/faults/report.py --out docs/faults.md
    python tests/faults/report.py --from results.xml --out docs/faults.md

With `--from` nothing is run: the results are read from files that ``pytest -o junit_family=xunit1 --junitxml`` wrote.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
KINDS = {
    "test_kill": "the job, or a worker process of it, killed with SIGKILL at a random moment",
    "test_workers": "a worker, all workers or the scheduler gone; tasks that raise, kill their worker or take its memory",
    "test_disk_full": "the disk full at one stage after another",
    "test_permissions": "folders and files that may not be written or read",
    "test_deleted": "stores, results, weights or the run directory deleted while the job runs",
    "test_places": "odd and long paths, links, copies elsewhere, clocks that jump",
    "test_flipped_bits": "one bit flipped in a store, table, figure, report, record or weights",
    "test_bad_inputs": "bad cards, jobs, weights, images, runs",
    "test_gpus": "no GPU where one is asked for, the last worker with one gone, its memory full (on stand-ins)",
    "test_at_once": "several processes on one store",
    "test_same_everywhere": "another scheduler, shard size or order; a crash between shards",
}
"""What each file of the suite breaks; a test says with the property `cases` how many cases it holds, where not one."""


@dataclass
class Kind:
    """The results of one kind of fault."""

    cases: int = 0
    survived: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def read(files: Iterable[Path]) -> dict[str, Kind]:
    """Return the results of each kind of fault, in the order of `KINDS`."""
    found = {name: Kind() for name in KINDS}
    for case in (case for file in files for case in ElementTree.parse(file).iter("testcase")):
        name = next((n for n in KINDS if n in case.get("classname", "").split(".")), None)
        if name is None:
            continue
        kind, count = (
            found[name],
            sum(int(p.get("value", 1)) for p in case.iter("property") if p.get("name") == "cases"),
        )
        count = count or 1
        kind.cases += count
        skipped = case.find("skipped")
        if skipped is not None:
            why = skipped.get("message", "")
            kind.skipped[why] = kind.skipped.get(why, 0) + count
        elif case.find("failure") is not None or case.find("error") is not None:
            kind.failed.append(case.get("name", ""))
        else:
            kind.survived += count
    return found


def markdown(found: dict[str, Kind]) -> str:
    """Return the table."""
    lines = ["| fault | cases | survived | skipped | did not survive |", "|---|---|---|---|---|"]
    for name, kind in found.items():
        if kind.cases:
            skipped = "; ".join(f"{count}: {why}" for why, count in kind.skipped.items()) or "none"
            lines.append(
                f"| {KINDS[name]} | {kind.cases} | {kind.survived} | {skipped} | {', '.join(kind.failed) or 'none'} |"
            )
    kinds = [kind for kind in found.values() if kind.cases]
    skipped = sum(sum(kind.skipped.values()) for kind in kinds)
    lines.append(f"| all | {sum(k.cases for k in kinds)} | {sum(k.survived for k in kinds)} | {skipped} | {sum(len(k.failed) for k in kinds)} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def run(folder: Path) -> Path:
    """Run the suite; return the file of its results."""
    written = folder / "results.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", HERE, "-o", "junit_family=xunit1", f"--junitxml={written}"], check=False
    )
    return written


def main() -> int:
    """Write the table; the exit status says whether everything survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--from", dest="files", type=Path, nargs="+", metavar="XML", help="results of pytest --junitxml"
    )
    parser.add_argument("--out", type=Path, help="a page whose table is replaced, or a new file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = read(chosen.files or [run(Path(folder))])
    table = markdown(found)
    print(table)
    if chosen.out:
        chosen.out.write_text(placed(chosen.out, table), encoding="utf-8")
    return 1 if any(kind.failed for kind in found.values()) else 0


BEGIN, END = "<!-- table of tests/faults/report.py -->\n", "<!-- end of the table -->\n"


def placed(page: Path, table: str) -> str:
    """Return a page with the table between its marks; a new page is the table alone."""
    if not page.exists():
        return BEGIN + table + END
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"'{page}' has no place for the table; add the lines {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table + END + after


if __name__ == "__main__":
    sys.exit(main())
