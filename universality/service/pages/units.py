"""Taps and units: `/models/M/taps/T/units/U`, its pictures, and where else the unit is found."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from universality.service.catalogue import Catalogue
from universality.service.pages import lists, zoo
from universality.service.pages.rendering import page, unit_url
from universality.service.principals import principal

router = APIRouter()
_UNIT = "/models/{model:path}/taps/{tap:path}/units/{unit:int}"
_WEBP = "image/webp"
_KEEP = {"cache-control": "private, max-age=3600"}


def _catalogue(request: Request) -> Catalogue:
    found: Catalogue = request.app.state.catalogue
    return found


@router.get(f"{_UNIT}/examples.webp")
def examples(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> Response:
    """Return the pictures of a unit's examples, side by side."""
    return Response(_catalogue(request).pictures(model, tap, unit, run), media_type=_WEBP, headers=_KEEP)


@router.get(f"{_UNIT}/cases.webp")
def cases(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> Response:
    """Return the pictures of a detector's cases, side by side."""
    return Response(_catalogue(request).cases(model, tap, unit, run), media_type=_WEBP, headers=_KEEP)


@router.get(f"{_UNIT}/visualisation.webp")
def visualisation(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> Response:
    """Return the image that was made to drive a unit."""
    return Response(_catalogue(request).visualisation(model, tap, unit, run), media_type=_WEBP, headers=_KEEP)


@router.get(f"{_UNIT}/null.webp")
def null_picture(
    request: Request, model: str, tap: str, unit: int, other: str, at: str, run: str | None = None
) -> Response:
    """Return the examples of the random direction of another layer that is most like a unit."""
    return Response(_catalogue(request).null((model, tap, unit), other, at, run)[0], media_type=_WEBP, headers=_KEEP)


@router.get(f"{_UNIT}/null")
def null(
    request: Request, model: str, tap: str, unit: int, other: str, at: str, run: str | None = None
) -> HTMLResponse:
    """Show that random direction: a part of the unit's page."""
    _, r = _catalogue(request).null((model, tap, unit), other, at, run)
    href = unit_url(model, tap, unit, run or "", "null.webp", other=other, at=at)
    return page(request, "part_null.html", href=href, r=r)


@router.get(f"{_UNIT}/elsewhere")
def elsewhere(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> HTMLResponse:
    """Show the unit most like this one at every tap of the other networks."""
    rows = _catalogue(request).elsewhere(model, tap, unit, run)
    return page(request, "part_elsewhere.html", rows=rows, run=run or "")


@router.get(_UNIT)
def unit(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> HTMLResponse:
    """Show a unit."""
    catalogue = _catalogue(request)
    found = catalogue.unit(model, tap, unit, run)
    of = found["in_run"]
    who = principal(request)

    def of_partner(match: dict[str, Any], asked: str, part: str = "") -> str:
        other, at, number = match["partner"]
        return unit_url(other, at, number, asked, part)

    return page(
        request, "unit.html", page=found, of=of, asked=run or "", nulls=0, own_arrow=found["arrow"], own_pictures=unit_url(model, tap, unit, of, "examples.webp"),
        own_cases=unit_url(model, tap, unit, of, "cases.webp"), own_visualisation=unit_url(model, tap, unit, of, "visualisation.webp"), page_of=lambda match: of_partner(match, run or ""),
        pictures_of=lambda match: of_partner(match, of, "examples.webp"), nulls_of=lambda match: "", notes=lists.notes_of(request, model, tap, unit),
        lists=lists.names(request), in_lists=lists.holding(request, model, tap, unit), may_write=who is not None and who.may("submit"),
    )  # fmt: skip


@router.get("/models/{model:path}/taps/{tap:path}")
def tap(request: Request, model: str, tap: str, run: str | None = None) -> HTMLResponse:
    """Show the units of a tap."""
    return page(request, "tap.html", tap=_catalogue(request).tap(model, tap, run), asked=run or "")


router.add_api_route("/models/{model:path}", zoo.network)
