"""Named lists of units, and notes on units."""

from __future__ import annotations

import csv
import io
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import delete, func, select

from universality.service.database import Database, ListedUnit, UnitList, UnitNote
from universality.service.pages.rendering import page, unit_url
from universality.service.principals import Principal, needs

router = APIRouter()
Writer = Annotated[Principal, Depends(needs("submit"))]
MOST_LISTS, MOST_UNITS, MOST_NOTES, MOST_LETTERS = 200, 5000, 200, 2000
_COLUMNS = ("model", "tap", "unit", "added_unix")


def _database(request: Request) -> Database:
    found: Database = request.app.state.database
    return found


def names(request: Request) -> list[dict[str, Any]]:
    """Return every list: id, name, who made it, how many units it has."""
    with _database(request).reading() as session:
        counts: dict[int, int] = {
            row[0]: row[1] for row in session.execute(select(ListedUnit.list, func.count()).group_by(ListedUnit.list))
        }
        rows = session.scalars(select(UnitList).order_by(UnitList.name)).all()
        return [
            {"id": row.id, "name": row.name, "owner": row.owner, "made": row.made, "units": counts.get(row.id, 0)}
            for row in rows
        ]


def holding(request: Request, model: str, tap: str, unit: int) -> set[int]:
    """Return the ids of the lists that a unit is in."""
    with _database(request).reading() as session:
        asked = select(ListedUnit.list).where(ListedUnit.model == model, ListedUnit.tap == tap, ListedUnit.unit == unit)
        return set(session.scalars(asked).all())


def notes_of(request: Request, model: str, tap: str, unit: int) -> list[dict[str, Any]]:
    """Return what people wrote about a unit, the oldest first."""
    with _database(request).reading() as session:
        asked = (
            select(UnitNote)
            .where(UnitNote.model == model, UnitNote.tap == tap, UnitNote.unit == unit)
            .order_by(UnitNote.id)
        )
        return [
            {"id": row.id, "owner": row.owner, "text": row.text, "made": row.made} for row in session.scalars(asked)
        ]


def _held(request: Request, number: int) -> tuple[UnitList, list[ListedUnit]]:
    with _database(request).reading() as session:
        row = session.get(UnitList, number)
        if row is None:
            raise HTTPException(404, f"there is no list {number}; it may have been deleted")
        asked = (
            select(ListedUnit)
            .where(ListedUnit.list == number)
            .order_by(ListedUnit.model, ListedUnit.tap, ListedUnit.unit)
        )
        return row, list(session.scalars(asked))


@router.get("/lists")
def every(request: Request) -> HTMLResponse:
    """Show all lists."""
    return page(request, "lists.html", lists=names(request))


@router.post("/lists")
def make(request: Request, who: Writer, name: Annotated[str, Form(max_length=100)]) -> RedirectResponse:
    """Make a list."""
    return RedirectResponse(f"/lists/{_made(request, who, name)}", 303)


def _made(request: Request, who: Principal, name: str) -> int:
    """Return the id of one's list of this name, made if there is none."""
    name = name.strip()
    if not name:
        raise HTTPException(400, "a list needs a name; give one")
    with _database(request).session() as session:
        found = session.scalar(select(UnitList.id).where(UnitList.owner == who.name, UnitList.name == name))
        if found is not None:
            return found
        if session.scalar(select(func.count()).where(UnitList.owner == who.name).select_from(UnitList)) >= MOST_LISTS:  # type: ignore[operator]
            raise HTTPException(400, f"you have {MOST_LISTS} lists, which is as many as one may have; delete some")
        row = UnitList(owner=who.name, name=name)
        session.add(row)
        session.flush()
        return row.id


@router.get("/lists/{number}")
def one(request: Request, number: int, format: str = "") -> Response:
    """Show a list; with ``format`` (csv or json) return it as a file."""
    row, units = _held(request, number)
    plain = [{"model": u.model, "tap": u.tap, "unit": u.unit, "added_unix": u.added} for u in units]
    if not format:
        notes = {(u.model, u.tap, u.unit): notes_of(request, u.model, u.tap, u.unit) for u in units[:MOST_NOTES]}
        return page(request, "list.html", list=row, units=plain, notes=notes)
    return _file(row.name, plain, format)


def _file(name: str, units: list[dict[str, Any]], form: str) -> Response:
    if form == "json":
        content, media = json.dumps({"list": name, "units": units}, indent=1), "application/json"
    elif form == "csv":
        sink = io.StringIO()
        writer = csv.DictWriter(sink, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(units)
        content, media = sink.getvalue(), "text/csv; charset=utf-8"
    else:
        raise HTTPException(400, f"unknown format '{form[:50]}', expected csv or json; choose one")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.{form}"}
    return Response(content, media_type=media, headers=headers)


@router.post("/lists/{number}/delete")
def drop(request: Request, number: int, who: Writer) -> RedirectResponse:
    """Delete a list of one's own."""
    row, _ = _held(request, number)
    if not who.owns(row.owner):
        raise HTTPException(403, f"list '{row.name}' is not yours; ask {row.owner}")
    with _database(request).session() as session:
        session.execute(delete(ListedUnit).where(ListedUnit.list == number))
        session.execute(delete(UnitList).where(UnitList.id == number))
    return RedirectResponse("/lists", 303)


_UNIT = "/models/{model:path}/taps/{tap:path}/units/{unit:int}"


@router.post(f"{_UNIT}/lists")
def put(
    request: Request,
    model: str,
    tap: str,
    unit: int,
    who: Writer,
    name: Annotated[str, Form(max_length=100)] = "",
    number: Annotated[int, Form()] = 0,
) -> RedirectResponse:
    """Put a unit on a list, made by its name if there is none; or take it off where it is on it."""
    request.app.state.catalogue.unit(model, tap, unit)  # only what is there
    number = number or _made(request, who, name)
    row, units = _held(request, number)
    if not who.owns(row.owner):
        raise HTTPException(403, f"list '{row.name}' is not yours; make one of your own")
    with _database(request).session() as session:
        same = (ListedUnit.list == number, ListedUnit.model == model, ListedUnit.tap == tap, ListedUnit.unit == unit)
        if session.scalar(select(ListedUnit.id).where(*same)) is not None:
            session.execute(delete(ListedUnit).where(*same))
        elif len(units) >= MOST_UNITS:
            raise HTTPException(
                400, f"list '{row.name}' has {MOST_UNITS} units, which is as many as it may have; make another"
            )
        else:
            session.add(ListedUnit(list=number, model=model, tap=tap, unit=unit))
    return RedirectResponse(unit_url(model, tap, unit, request.query_params.get("run", "")) + "#lists", 303)


@router.post(f"{_UNIT}/notes")
def write(
    request: Request, model: str, tap: str, unit: int, who: Writer, text: Annotated[str, Form(max_length=MOST_LETTERS)]
) -> RedirectResponse:
    """Write a note on a unit."""
    request.app.state.catalogue.unit(model, tap, unit)
    if text.strip():
        if len(notes_of(request, model, tap, unit)) >= MOST_NOTES:
            raise HTTPException(400, f"the unit has {MOST_NOTES} notes, which is as many as it may have; delete some")
        with _database(request).session() as session:
            session.add(UnitNote(owner=who.name, model=model, tap=tap, unit=unit, text=text.strip()))
    return RedirectResponse(unit_url(model, tap, unit, request.query_params.get("run", "")) + "#notes", 303)


@router.post(f"{_UNIT}/notes/{{number}}/delete")
def rub_out(request: Request, model: str, tap: str, unit: int, number: int, who: Writer) -> RedirectResponse:
    """Delete a note of one's own."""
    with _database(request).session() as session:
        row = session.get(UnitNote, number)
        if row is None or (row.model, row.tap, row.unit) != (model, tap, unit):
            raise HTTPException(404, f"there is no note {number} on this unit; it may have been deleted")
        if not who.owns(row.owner):
            raise HTTPException(403, f"note {number} is not yours; ask {row.owner}")
        session.delete(row)
    return RedirectResponse(unit_url(model, tap, unit, request.query_params.get("run", "")) + "#notes", 303)
