"""Seaborn, whatever backend of Matplotlib the surroundings name: figures are drawn to files without any.

Seaborn imports pyplot, and pyplot the backend that ``MPLBACKEND`` names. A notebook hands that variable to every process that it
starts, also to those whose environment lacks the backend.
"""

from __future__ import annotations

import os
import sys

try:
    import seaborn
except (ImportError, ValueError):
    if "MPLBACKEND" not in os.environ:
        raise
    named = os.environ.pop("MPLBACKEND")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("matplotlib", "seaborn")]:
        del sys.modules[name]  # begun, and not ended
    try:
        import matplotlib as mpl

        mpl.rcParams["backend"] = "agg"
        import seaborn
    finally:
        os.environ["MPLBACKEND"] = named

__all__ = ["seaborn"]
