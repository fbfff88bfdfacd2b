"""What the page of a unit is made from, before anything is known of the unit; it needs no Torch, as the service's web process has none."""

from __future__ import annotations

from typing import Any

from universality.runs.job import Job


def basis_of(job: Job) -> str:
    """Return the basis whose directions a job's units are; empty where they are all units of their layers."""
    return "" if job.in_units else job.basis


def noun_of(basis: str) -> str:
    """Return what is numbered in a basis; empty for units."""
    return f"direction of {basis}" if basis else "unit"


def blank(run: str, model: str, tap: str, unit: int) -> dict[str, Any]:
    """Return everything that `unit_sections.html` takes of a unit, all of it empty."""
    return {
        "run": run, "model": model, "tap": tap, "unit": unit, "said": "", "words": "", "families": [], "examples": [], "looked": True, "noun": "unit", "visualisation": None, "matches": [],
        "circuit": None, "layouts": [], "cases": [], "case_sheet": [], "readers": None, "ablations": [],
    }  # fmt: skip
