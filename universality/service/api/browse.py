"""Runs, tables, figures, networks and units over HTTP: what the pages show, as JSON, and files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from universality.base.errors import MissingError, did_you_mean
from universality.base.plain import plain as as_plain
from universality.service import tables
from universality.service.principals import needs

router = APIRouter(dependencies=[Depends(needs("read"))])
TableFormat = Literal["json", "csv", "parquet", "arrow"]
RunName = Annotated[str | None, Query(description="of which run; the newest that has it when left out")]
_FILTERS = (
    "Filters: `where=COLUMN:OPERATOR:VALUE`, which may be given again (eq, ne, lt, le, gt, ge, contains, null, notnull), or `f.COLUMN=EXPRESSION` as the "
    "pages send them. `sort=-r_natural,unit_a`, `columns=a,b`, `q=words`."
)


@router.get("/runs", tags=["runs"])
def list_runs(request: Request) -> Response:
    """List the finished runs, the newest first."""
    return answer(request.app.state.catalogue.runs())


@router.get("/runs/{run}", tags=["runs"])
def get_run(request: Request, run: str) -> Response:
    """Return what a run found, its tables and its figures."""
    return answer(request.app.state.catalogue.run(run))


@router.get("/runs/{run}/record", tags=["runs"])
def get_record(request: Request, run: str) -> Response:
    """Return a run's record: its job, and where every number comes from."""
    return answer(request.app.state.runs.get(run).record)


@router.get("/runs/{run}/files/{name}", tags=["runs"])
def get_file(request: Request, run: str, name: str) -> Response:
    """Return a file of a run's directory as it is, with the checksum that its record states: a table's Parquet file or the report."""
    found = request.app.state.runs.get(run)
    known = {*found.record["tables"], *({"report.html"} if "report" in found.record else ())}
    if name not in known:
        raise MissingError(f"run '{run}' has no file '{name[:200]}'{did_you_mean(name[:200], known)}")
    return FileResponse(
        found.path / name,
        media_type=tables.MEDIA["parquet"] if name.endswith(".parquet") else "text/html",
        filename=name,
    )


@router.get("/runs/{run}/tables/{table}", tags=["runs"], description=f"Return a page of a table. {_FILTERS}")
def get_table(
    request: Request,
    run: str,
    table: str,
    where: Annotated[list[str] | None, Query(description="COLUMN:OPERATOR:VALUE")] = None,
    sort: Annotated[str, Query(description="columns; - before one: the largest first")] = "",
    columns: Annotated[str, Query(description="columns wanted; all when left out")] = "",
    q: Annotated[str, Query(description="words that a row's texts contain")] = "",
    page: Annotated[int, Query(ge=1)] = 1,
    rows: Annotated[int, Query(ge=1, description="rows of a page")] = tables.ROWS,
    format: Annotated[TableFormat | None, Query(description="a file with all rows that fit, instead of a page")] = None,
) -> Response:
    """Return a page of a table, or all rows that fit as a file. The parameters are read by `tables.parse_query`."""
    found, limits = request.app.state.runs.get(run), request.app.state.settings.limits
    query = tables.parse_query(request.query_params.multi_items(), most_rows=limits.rows)
    if format is None:
        return answer(tables.select(found, table, query).plain())
    made = tables.export(found, table, query, format)
    named = {"Content-Disposition": f'attachment; filename="{made.filename}"'}
    return StreamingResponse(made.chunks, media_type=made.media_type, headers=named)


@router.get("/runs/{run}/figures/{stem}", tags=["runs"])
def get_figure(
    request: Request,
    run: str,
    stem: str,
    format: Annotated[
        Literal["png", "svg", "pdf", "csv"], Query(description="csv: the numbers that are drawn")
    ] = "png",
    width: Annotated[str, Query(description="single (89 mm), double (183 mm), or whole mm from 60 to 400")] = "double",
) -> Response:
    """Return a figure."""
    content, media = request.app.state.catalogue.figure(run, stem, format, width)
    return Response(content, media_type=media)


@router.get("/models", tags=["units"])
def list_models(request: Request) -> Response:
    """List the networks: those with a card, and those of runs."""
    return answer(request.app.state.catalogue.networks())


@router.get("/models/{model:path}/taps/{tap}/units/{unit}", tags=["units"])
def get_unit(request: Request, model: str, tap: str, unit: int, run: RunName = None) -> Response:
    """Return a unit: its detectors, tuning, matches beside their nulls, examples."""
    return answer(request.app.state.catalogue.unit(model, tap, unit, run))


@router.get("/models/{model:path}/taps/{tap}/bases/{basis}/directions/{direction}", tags=["units"])
def get_direction(request: Request, model: str, tap: str, basis: str, direction: int, run: RunName = None) -> Response:
    """Return a direction of the basis that a run sees a layer in: what is said of a unit."""
    return answer(request.app.state.catalogue.unit(model, tap, direction, run, basis))


@router.get("/models/{model:path}/taps/{tap}", tags=["units"])
def get_tap(request: Request, model: str, tap: str, run: RunName = None) -> Response:
    """Return the units of a tap."""
    return answer(request.app.state.catalogue.tap(model, tap, run))


@router.get("/models/{model:path}", tags=["units"])
def get_model(request: Request, model: str) -> Response:
    """Return a network: its card, its taps, and the runs that have it."""
    return answer(request.app.state.catalogue.network(model))


@router.get("/compare", tags=["units"])
def get_comparison(request: Request, a: str, b: str, run: RunName = None) -> Response:
    """Return two networks beside one another."""
    return answer(request.app.state.catalogue.compare(a, b, run))


@router.get("/search", tags=["units"])
def search(
    request: Request, q: Annotated[str, Query(max_length=200)], limit: Annotated[int, Query(ge=1, le=200)] = 40
) -> Response:
    """Search networks, taps, units, families and runs."""
    return answer(request.app.state.catalogue.search(q, limit))


def answer(value: Any) -> Response:
    """Return plain values as JSON: a number that is none is null."""
    return JSONResponse(as_plain(value))
