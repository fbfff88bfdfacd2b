"""Run every notebook of analyses/ in a temporary folder, or write the .ipynb files from the .py files.

    python analyses/run_notebooks.py                       # all, several at a time; exit status 1 if a cell fails
    python analyses/run_notebooks.py quickstart diet       # some, by name
    python analyses/run_notebooks.py --keep FOLDER         # keep the executed notebooks and their data there
    python analyses/run_notebooks.py --write               # nothing is run: .ipynb from .py, without outputs

A notebook is a .py file in jupytext's percent format. All are run on one copy of analyses/, so that they share one store of
activations and networks are extracted once; nothing is written into the checkout.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ANALYSES = Path(__file__).resolve().parent
FIRST_LINE = "# %% [markdown]"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_TIMEOUT_S = 600
"""A busy machine is slow; a cell that waits for ever is to end all the same."""


def notebooks(folder: Path = ANALYSES) -> list[Path]:
    """Return the .py files that are notebooks; the quickstart, whose run others open, comes first."""
    found = [path for path in folder.glob("*/*.py") if path.read_text(encoding="utf-8").startswith(FIRST_LINE)]
    return sorted(found, key=lambda path: (path.stem != "quickstart", path.parent.name, path.stem))


def as_notebook(path: Path) -> nbformat.NotebookNode:
    """Return the notebook of a .py file: no outputs, and the same bytes from the same file."""
    notebook = jupytext.read(path, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {}
    notebook["metadata"] = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return notebook


def write(paths: list[Path]) -> None:
    """Write the .ipynb beside every .py."""
    for path in paths:
        nbformat.write(as_notebook(path), path.with_suffix(".ipynb"))


def execute(path: Path) -> str:
    """Run a notebook in its own folder and write it there with outputs; return what went wrong, empty if nothing did."""
    notebook = as_notebook(path)
    with tempfile.TemporaryDirectory() as sockets:
        client = NotebookClient(
            notebook, kernel_name="python3", timeout=CELL_TIMEOUT_S, startup_timeout=CELL_TIMEOUT_S, config=_spoken_to(sockets),
            resources={"metadata": {"path": str(path.parent)}},
        )  # fmt: skip
        try:
            client.execute()
        except CellExecutionError as error:
            return str(error)
        finally:
            nbformat.write(notebook, path.with_suffix(".ipynb"))
    return ""


def _spoken_to(sockets: str) -> Config:
    """Return that a kernel is spoken to through files in a folder, not through ports, which others on the machine can reach."""
    return Config() if os.name == "nt" else Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})


def run_all(paths: list[Path]) -> int:
    """Run notebooks, say how long each took and how much processors worked for all, and return how many failed.

    The first goes alone: others open its run. Then as many go at a time as there are cores, four at most: a kernel mostly uses one.
    """
    begun, worked = time.monotonic(), _processor_s()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        failed = sum(map(_told, paths[:1])) + sum(pool.map(_told, paths[1:]))
    took = f"{time.monotonic() - begun:.0f} s, {_processor_s() - worked:.0f} processor s"
    print(f"{len(paths)} notebooks, {failed} failed, {took}")
    return failed


def _told(path: Path) -> bool:
    """Run a notebook, print how it went, and return whether it failed."""
    started = time.monotonic()
    wrong = execute(path)
    print(f"{'FAILED' if wrong else 'ok    '} {time.monotonic() - started:6.1f} s  {path.stem}", flush=True)
    if wrong:
        print(wrong, file=sys.stderr)
    return bool(wrong)


def _processor_s() -> float:
    """Return the processor seconds of this process and of those that it has seen end: kernels among them."""
    return sum(os.times()[:4])


def main() -> int:
    """Run or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, by the name of their file; all if none is given")
    parser.add_argument("--keep", type=Path, help="folder, not there yet, in which to keep what they make")
    parser.add_argument("--write", action="store_true", help="write the .ipynb files instead")
    given = parser.parse_args()
    known = {path.stem: path for path in notebooks()}
    for name in given.names:
        if name not in known:
            parser.error(f"no notebook '{name}', expected one of {', '.join(known)}")
    chosen = [path for name, path in known.items() if name in given.names or not given.names]
    if given.write:
        write(chosen)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary) / "checkout"
        if root.exists():
            parser.error(f"'{root}' exists already; give a folder that does not")
        shutil.copytree(ANALYSES, root / "analyses", ignore=shutil.ignore_patterns("data", "__pycache__"))
        return run_all([root / "analyses" / path.relative_to(ANALYSES) for path in chosen]) > 0


if __name__ == "__main__":
    raise SystemExit(main())
