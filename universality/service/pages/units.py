"""Taps, units and directions: `/models/M/taps/T/units/U` and `/models/M/taps/T/bases/B/directions/K`, their pictures, and where else a unit is found."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from universality.service.catalogue import Catalogue
from universality.service.pages import lists, zoo
from universality.service.pages.rendering import direction_url, page, unit_url
from universality.service.principals import principal

router = APIRouter()
_UNIT = "/models/{model:path}/taps/{tap:path}/units/{unit:int}"
_DIRECTION = "/models/{model:path}/taps/{tap:path}/bases/{basis}/directions/{unit:int}"
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


@router.get(_DIRECTION)
def direction(request: Request, model: str, tap: str, basis: str, unit: int, run: str | None = None) -> HTMLResponse:
    """Show a direction of a basis."""
    return _shown(request, _catalogue(request).unit(model, tap, unit, run, basis), run)


@router.get(_UNIT, response_model=None)
def unit(request: Request, model: str, tap: str, unit: int, run: str | None = None) -> Response:
    """Show a unit; of a run that sees layers in another basis the number is that of a direction, which has an address of its own."""
    catalogue = _catalogue(request)
    basis = catalogue.basis(run) if run else ""
    if basis:
        return RedirectResponse(direction_url(model, tap, unit, basis, run or ""), 307)
    return _shown(request, catalogue.unit(model, tap, unit, run), run)


def _shown(request: Request, found: dict[str, Any], run: str | None) -> HTMLResponse:
    model, tap, unit, of, basis = found["model"], found["tap"], found["unit"], found["in_run"], found["basis"]
    who = principal(request)

    def of_partner(match: dict[str, Any], asked: str, part: str = "") -> str:
        other, at, number = match["partner"]
        return unit_url(other, at, number, asked, part) if part else direction_url(other, at, number, basis, asked)

    # Lists and notes name units: a direction is another one in the next run.
    kept: dict[str, Any] = (
        {}
        if basis
        else {
            "notes": lists.notes_of(request, model, tap, unit),
            "lists": lists.names(request),
            "in_lists": lists.holding(request, model, tap, unit),
        }
    )
    return page(
        request, "unit.html", page=found, of=of, asked=run or "", nulls=0, own_arrow=found["arrow"], own_pictures=unit_url(model, tap, unit, of, "examples.webp"),
        own_cases=unit_url(model, tap, unit, of, "cases.webp"), own_visualisation=unit_url(model, tap, unit, of, "visualisation.webp"), page_of=lambda match: of_partner(match, run or ""),
        pictures_of=lambda match: of_partner(match, of, "examples.webp"), nulls_of=lambda match: "", may_write=who is not None and who.may("submit"), **kept,
    )  # fmt: skip


@router.get("/models/{model:path}/taps/{tap:path}")
def tap(request: Request, model: str, tap: str, run: str | None = None) -> HTMLResponse:
    """Show the units of a tap."""
    return page(request, "tap.html", tap=_catalogue(request).tap(model, tap, run), asked=run or "")


router.add_api_route("/models/{model:path}", zoo.network)
