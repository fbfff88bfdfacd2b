"""Home and search."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from universality.service.catalogue import Catalogue
from universality.service.pages.rendering import model_url, page, run_url, tap_url, unit_url

router = APIRouter()
_JOBS_SHOWN = 10


@router.get("/")
def home(request: Request) -> HTMLResponse:
    """Show runs and jobs."""
    catalogue: Catalogue = request.app.state.catalogue
    jobs = request.app.state.queue.list(_JOBS_SHOWN, None)
    return page(request, "home.html", runs=catalogue.runs(), jobs=jobs)


@router.get("/search")
def search(request: Request, q: str = "") -> HTMLResponse:
    """Show what fits all words."""
    catalogue: Catalogue = request.app.state.catalogue
    hits = [hit | {"url": address(hit)} for hit in catalogue.search(q[:200])]
    return page(request, "search.html", q=q[:200], hits=hits)


def address(hit: dict[str, Any]) -> str:
    """Return where a hit leads."""
    kind = hit["kind"]
    if kind == "unit":
        return unit_url(hit["model"], hit["tap"], hit["unit"], hit["run"])
    if kind == "tap":
        return tap_url(hit["model"], hit["tap"])
    if kind == "network":
        return model_url(hit["model"])
    return (
        run_url(hit["run"], "tables/units", **{"f.family": f"={hit['family']}", "f.detector": "true", "f.seed": "-1"})
        if kind == "family"
        else run_url(hit["run"])
    )
