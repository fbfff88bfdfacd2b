"""Files that can hold no provenance of their own (CSV), beside the ones that can: one JSON file for a whole folder.

It states where the numbers come from, which tables of the run they were made of, the code that made them, and a checksum of
every file; no date, so that the same run gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from universality.base.spec import sealed
from universality.runs.provenance import SIDECAR, code, read_sidecar
from universality.runs.run import Run, file_sha256, replace_file


def write(run: Run, folder: Path, files: Iterable[Path]) -> Path:
    """Write `SIDECAR` for `files`, which lie in `folder`, and return it.

    Entries of an earlier one stay where it was made of the same tables and their files are still there; files that were made
    of other tables are named as outdated.
    """
    known = read_sidecar(folder / SIDECAR)
    before = {name: value for name, value in known.get("files", {}).items() if (folder / name).is_file()}
    same = known.get("tables") == run.record["tables"]
    sums = (before if same else {}) | {file.name: file_sha256(file) for file in files}
    old = {*known.get("outdated", ()), *before} - sums.keys()
    outdated = sorted(name for name in old if (folder / name).is_file())
    said = {
        "provenance": run.record["provenance"], "code": code(), "tables": run.record["tables"],
        "run": {name: run.record[name] for name in ("job_digest", "inputs_digest")}, "files": sums,
    } | ({"outdated": outdated} if outdated else {})  # fmt: skip
    text = json.dumps(sealed(said), indent=1, sort_keys=True) + "\n"
    replace_file(folder / SIDECAR, lambda partial: partial.write_text(text, encoding="utf-8"))
    return folder / SIDECAR


def problems(folder: Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for every file below a run's `folder` that is not what its sidecar says.

    Parameters
    ----------
    record : dict
        The run's record: what was made of other tables than it names is out of date.
    """
    for sidecar in sorted(folder.glob(f"*/{SIDECAR}")):
        known = read_sidecar(sidecar)
        if not known:
            yield f"'{sidecar}' is damaged, expected JSON with checksums; make the folder's files again"
            continue
        if known.get("tables") != record["tables"]:
            yield f"the files in '{sidecar.parent}' were made of other tables than the run has now; make them again"
        for name in known.get("outdated", ()):
            if (sidecar.parent / name).is_file():
                yield f"'{sidecar.parent / name}' was made of other tables than the run has now; make it again, or delete it"
        for name, expected in known["files"].items():
            file = sidecar.parent / name
            if not file.is_file():
                yield f"'{sidecar.parent}' lacks its file '{name}'; make it again"
            elif file_sha256(file) != expected:
                yield f"'{file}' differs from its checksum: it was changed or damaged; make it again"
