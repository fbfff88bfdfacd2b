"""The zoo: networks, and one network with its taps."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from universality.service.pages.rendering import page

router = APIRouter()


@router.get("/zoo")
def zoo(request: Request) -> HTMLResponse:
    """Show every network: its card, whether its weights are at hand, which runs have it."""
    return page(request, "zoo.html", networks=request.app.state.catalogue.networks())


# The taps and units below have longer addresses; they are routed first, as a model's id has a slash in it too.
def network(request: Request, model: str) -> HTMLResponse:
    """Show one network with its taps."""
    catalogue = request.app.state.catalogue
    pairs = [pair for pair in catalogue.compared_pairs() if model in pair]
    return page(
        request, "network.html", network=catalogue.network(model), partners=[a if b == model else b for a, b in pairs]
    )
