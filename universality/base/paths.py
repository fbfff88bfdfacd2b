"""Where the files lie that the package reads: the checkout's top level, or the folder a wheel carries them in."""

from __future__ import annotations

import os
from pathlib import Path

UNKNOWN = "unknown: fill in"
"""What a drafted card says of licence, citation and training set until they are filled in."""
DEFAULT_RUNS, DEFAULT_STORE = "data/runs", "data/store"
"""Where runs and activations go, from the current folder, unless a command says otherwise."""

OWN_CARDS_VARIABLE = "UNIVERSALITY_MODEL_ZOO"
_DEFAULT_OWN_CARDS = "data/model_zoo"

_PACKAGE = Path(__file__).resolve().parents[1]


def is_file(path: Path) -> bool:
    """Return whether `path` is a file; a path that the system refuses (too long, forbidden) is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def resource(relative: str) -> Path:
    """Return the path of a shipped file or folder such as ``model_zoo`` or ``data/natural_photographs.toml``."""
    shipped = _PACKAGE / "_shipped" / relative
    return shipped if shipped.exists() else _PACKAGE.parent / relative


def own_cards() -> Path:
    """Return the folder of the user's own cards: ``$UNIVERSALITY_MODEL_ZOO``, else ``data/model_zoo``."""
    return Path(os.environ.get(OWN_CARDS_VARIABLE, _DEFAULT_OWN_CARDS))
