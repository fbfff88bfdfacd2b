"""What the page of a unit is made from, before anything is known of the unit; it needs no Torch, as the service's web process has none."""

from __future__ import annotations

from typing import Any


def blank(run: str, model: str, tap: str, unit: int) -> dict[str, Any]:
    """Return everything that `unit_sections.html` takes of a unit, all of it empty."""
    return {
        "run": run, "model": model, "tap": tap, "unit": unit, "said": "", "words": "", "families": [], "examples": [], "visualisation": None, "matches": [],
        "circuit": None, "layouts": [], "cases": [], "case_sheet": [], "readers": None, "ablations": [],
    }  # fmt: skip
