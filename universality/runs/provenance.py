"""Where numbers come from: facts about code, packages and stores, carried inside every table and figure.

The same facts give the same bytes: times, paths and the machine are in a run's record only, so that two runs of one job
with the same code, packages and stores write equal tables and figures.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import os
import platform
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from universality.base.errors import RunError
from universality.base.spec import is_sealed

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "universality"
RECORD = "run.json"
SIDECAR = "provenance.json"
"""States for a folder's files (`sidecars`) what a CSV cannot hold."""
PACKAGES = (
    "POT", "dask", "distributed", "numpy", "pandas", "pillow", "scikit-image", "scikit-learn", "scipy", "timm", "torch", "torchvision",
    "xarray", "zarr",
)  # fmt: skip

Facts = dict[str, Any]


def code_digest() -> str:
    """Return the digest of the package's own source files."""
    return source_digest("")


@functools.cache
def source_digest(*folders: str) -> str:
    """Return the digest of the source files, templates and styles in some folders of the package."""
    root = Path(__file__).parents[1]
    sha = hashlib.sha256()
    files = {
        path
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in (".py", ".html", ".css", ".js")
    }
    for path in sorted(files):
        sha.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


def package_version() -> str:
    """Return the installed version of this package."""
    try:
        return version("universality")
    except PackageNotFoundError:
        return "not installed"


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((name, version(name)) for name in PACKAGES)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide numbers."""
    return dict(_versions())


def code() -> Facts:
    """Return version and source digest of this package."""
    return {"version": package_version(), "source_digest": code_digest()}


@functools.cache
def processor() -> str:
    """Return the kind of this processor: architecture, maker, and the instructions that Torch and NumPy chose on it.

    Sums are added in another order on another kind, so that the last digits of a value may differ.
    """
    import torch

    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    numpy = [*simd["baseline"], *simd.get("found", ())][-1]
    return f"{platform.machine()} {_maker()}, Torch {torch.backends.cpu.get_cpu_capability()}, NumPy {numpy}"


def _maker() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("vendor_id", "CPU implementer")))
    return next(named, platform.system())


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def extraction_environment(device: str = "cpu") -> Facts:
    """Return what besides a store's key may touch the last digits of its values: packages, device, threads."""
    return {"packages": package_versions(), "device": device, "threads": _torch_threads()}


def machine() -> Facts:
    """Return the machine, for a run's record."""
    return {
        "python": platform.python_version(), "system": platform.platform(),
        "torch_threads": _torch_threads(), "cores": os.cpu_count(), "processor": processor(),
    }  # fmt: skip


def command() -> list[str]:
    """Return the command line of this process, without the path of the program."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def as_text(facts: Facts) -> str:
    """Return facts as ASCII JSON that does not depend on the order of their keys."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def in_parquet(schema: pa.Schema, facts: Facts) -> pa.Schema:
    """Return the schema with the facts in its metadata, under `KEY`."""
    return schema.with_metadata({**(schema.metadata or {}), KEY.encode(): as_text(facts).encode()})


def in_figure(suffix: str, facts: Facts | None, kind: str = "", caption: str = "") -> dict[str, Any]:
    """Return the metadata that Matplotlib writes into a figure file: the facts, kind and caption, and no date or program.

    PNG has text chunks (the facts under `KEY`), PDF its information (facts as keywords), SVG Dublin Core (facts as
    description); the caption is the title, the kind the subject of each.
    """
    bare: dict[str, dict[str, Any]] = {
        ".png": {"Software": None}, ".svg": {"Date": None, "Creator": None},
        ".pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    }  # fmt: skip
    holds = {".png": KEY, ".svg": "Description", ".pdf": "Keywords"}[suffix]
    said: dict[str, Any] = {holds: "" if facts is None else as_text(facts), "Title": caption}
    # Dublin Core has a list of subjects, which Matplotlib calls keywords.
    said |= {"Keywords": [kind] if kind else []} if suffix == ".svg" else {"Subject": kind}
    return bare[suffix] | {name: value for name, value in said.items() if value}


def provenance(path: str | Path) -> Facts:
    """Return where the numbers of one table (Parquet), figure (PNG, PDF, SVG) or report (HTML) of a run come from.

    The file may lie anywhere: the facts are inside it. For a run's directory or its ``run.json``, the same facts
    are read from the record; those of a CSV of the atlas or of a figure from the `SIDECAR` in its folder.

    Returns
    -------
    dict
        ``job`` (as written, validated) and its digest, ``code`` (version, source digest), ``packages``, ``models`` (by id:
        card digest, hash of the weights, identities of the untrained twins), ``stimuli`` (digests), ``seeds``,
        ``extraction`` (every device, number of threads, set of packages and kinds of processor that the activations were
        made with, and on GPUs their names and the batch size),
        ``comparison`` (threads), ``command``.

    Raises
    ------
    RunError
        The file does not exist, cannot be read, is of another kind, or carries no provenance.
    """
    import pyarrow as pa

    path = Path(path)
    if path.is_dir():
        path = path / RECORD
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise RunError(f"'{path}' is no table, figure or report, expected one of {', '.join(_READERS)}")
    if not path.is_file():
        raise RunError(f"'{path}' does not exist; check the path")
    try:
        text = read(path)
        facts = json.loads(text) if text else None
    except OSError as cause:
        if cause.errno is not None:  # what Pillow cannot decode is an OSError without a number
            raise RunError(f"'{path}' cannot be read: {cause.strerror}; check its permissions") from None
        raise RunError(_UNREADABLE.format(path=path, kind=path.suffix, cause=type(cause).__name__)) from None
    except (
        ValueError,
        KeyError,
        SyntaxError,
        RecursionError,
        pa.ArrowException,
        ElementTree.ParseError,
    ) as cause:
        raise RunError(_UNREADABLE.format(path=path, kind=path.suffix, cause=type(cause).__name__)) from None
    if not isinstance(facts, dict):
        raise RunError(f"'{path}' carries no provenance; only files that a run wrote do")
    return facts


_UNREADABLE = "'{path}' is damaged, it cannot be read as {kind} ({cause}); export it again"


def _of_parquet(path: Path) -> str:
    import pyarrow.parquet as pq

    return ((pq.read_schema(path).metadata or {}).get(KEY.encode()) or b"").decode()


def _of_png(path: Path) -> str:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        return str(image.info.get(KEY, ""))


def _of_pdf(path: Path) -> str:
    found = re.search(rb"/Keywords \(((?:[^\\()]|\\.)*)\)", path.read_bytes(), re.DOTALL)
    return "" if found is None else re.sub(rb"\\(.)", rb"\1", found[1], flags=re.DOTALL).decode()


def _of_svg(path: Path) -> str:
    found = ElementTree.parse(path).find(".//{http://purl.org/dc/elements/1.1/}description")
    return "" if found is None else found.text or ""


def _of_html(path: Path) -> str:
    found = re.search(rf'<meta name="{KEY}" content="([^"]*)">', path.read_text(encoding="utf-8"))
    return "" if found is None else html.unescape(found[1])


def _of_csv(path: Path) -> str:
    """Return the facts that the folder's sidecar states for this very file; another content has none."""
    sidecar = path.parent / SIDECAR
    if not sidecar.is_file():
        return ""
    known = read_sidecar(sidecar)
    if not known:
        raise RunError(
            f"'{sidecar}', which says where '{path.name}' comes from, is damaged, expected JSON with checksums; make the "
            "folder's files again"
        )
    same = known["files"].get(path.name) == hashlib.sha256(path.read_bytes()).hexdigest()
    return json.dumps(known["provenance"]) if same else ""


_SIDECAR_KEYS = {"provenance", "code", "tables", "run", "files"}


def read_sidecar(file: Path) -> Facts:
    """Return what a `SIDECAR` says; nothing where there is none, or one that is not as it was written."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict) or not isinstance(known.get("files"), dict):
        return {}
    # Sidecars written before there was a digest have none; a changed one is not used.
    return known if known.keys() - {"outdated"} == _SIDECAR_KEYS or is_sealed(known) else {}


def _of_record(path: Path) -> str:
    return json.dumps(json.loads(path.read_text(encoding="utf-8"))["provenance"])


_READERS: dict[str, Callable[[Path], str]] = {
    ".parquet": _of_parquet, ".png": _of_png, ".pdf": _of_pdf, ".svg": _of_svg, ".html": _of_html, ".json": _of_record,
    ".csv": _of_csv,
}  # fmt: skip
