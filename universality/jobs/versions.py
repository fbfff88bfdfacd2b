"""Which code and which packages decide the numbers."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "dask", "distributed", "numpy", "pandas", "scikit-image", "scikit-learn", "scipy", "timm", "torch", "torchvision",
    "xarray", "zarr",
)  # fmt: skip


@functools.cache
def code_digest() -> str:
    """Return the digest of the package's own source files: results of other code are not up to date."""
    root = Path(__file__).parents[1]
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
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
