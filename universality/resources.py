"""Where the files lie that the package reads: the checkout's top level, or the folder a wheel carries them in."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(relative: str) -> Path:
    """Return the path of a shipped file or folder such as ``model_zoo`` or ``data/natural_photographs.toml``."""
    shipped = _PACKAGE / "_shipped" / relative
    return shipped if shipped.exists() else _PACKAGE.parent / relative
