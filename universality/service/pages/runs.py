"""A run: findings, tables, figures, similarity of all layers, atlas."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from universality.base.errors import RunError
from universality.report.data import SHOWN
from universality.report.sentences import STANDINGS, noun_of
from universality.runs.run import Run
from universality.service import drawn, similarities, tables
from universality.service.catalogue import Catalogue
from universality.service.pages import diagrams
from universality.service.pages.rendering import page

router = APIRouter()
TOPICS = (
    ("detectors", "Which detectors are there"),
    ("matches", "Do they correspond"),
    ("similarity", "How alike are whole layers"),
    ("circuits", "Are they made alike"),
)
_ROWS = (25, 50, 100, 500)


def _run(request: Request, name: str) -> Run:
    found: Run = request.app.state.runs.get(name)
    return found


@router.get("/runs/{name}")
def run(request: Request, name: str) -> HTMLResponse:
    """Show what a run found."""
    catalogue: Catalogue = request.app.state.catalogue
    found = catalogue.run(name)
    topics = [(title, [f for f in found["findings"] if f["topic"] == topic]) for topic, title in TOPICS]
    others = [f for f in found["findings"] if f["topic"] not in dict(TOPICS)]
    return page(
        request,
        "run.html",
        run=found,
        topics=[*topics, ("Other findings", others)],
        words=STANDINGS,
        pairs=_run(request, name).job.compared(),
    )


@router.get("/runs/{name}/tables/{table}")
def table(request: Request, name: str, table: str, format: str = "") -> Response:
    """Show a page of a table; with ``format`` return all rows that fit as a file."""
    of = _run(request, name)
    query = tables.parse_query(request.query_params.multi_items())
    if format:
        return download(of, table, query, format)
    columns = tables.columns_of(of, table)
    if not query.columns and table in SHOWN:
        chosen = _chosen(table, {column.name for column in columns})
        shown = tables.select(of, table, tables.replaced(query, columns=chosen))
    else:
        shown = tables.select(of, table, query)
    return page(
        request, "table.html", name=name, table=table, shown=shown, query=query, columns=columns, where=dict(query.where), formats=tuple(tables.MEDIA), rows=_ROWS,
        base=f"/runs/{quote(name)}/tables/{quote(table)}", links=_links(table, [c.name for c in shown.columns]), seeded=any(c.name == "seed" for c in columns), every=of.tables, ordered=dict(query.order),
        address=lambda **changed: _address(query, changed), levels=tables.levels(of, table),
    )  # fmt: skip


@router.get("/runs/{name}/table")
def choose(name: str, table: str) -> RedirectResponse:
    """Go to a table that was chosen by its name."""
    return RedirectResponse(f"/runs/{quote(name, safe='')}/tables/{quote(table, safe='')}", 303)


def download(of: Run, table: str, query: tables.Query, form: str) -> Response:
    """Return the rows of a table as a file."""
    made = tables.export(of, table, query, form)
    return StreamingResponse(
        made.chunks,
        media_type=made.media_type,
        headers={"content-disposition": f'attachment; filename="{made.filename}"'},
    )


def _address(query: tables.Query, changed: dict[str, Any]) -> str:
    return "?" + urlencode(tables.replaced(query, **changed).parameters())


def _chosen(table: str, known: set[str]) -> tuple[str, ...]:
    """Return the columns that are shown of a table before somebody chooses others."""
    # The report shows trained units only; here the rows of untrained twins are told from theirs.
    first = ("seed",) if "seed" in known and "seed" not in SHOWN[table] else ()
    return first + tuple(column for column in SHOWN[table] if column in known)


def _links(table: str, names: list[str]) -> dict[str, tuple[str, str]]:
    """Return by column that holds a trained unit the columns of its network and tap."""
    if table == "correspondence_nulls":
        return {}
    sides = {"unit": ("model", "tap")} | {f"unit_{side}": (f"model_{side}", f"tap_{side}") for side in "ab"}
    return {unit: layer for unit, layer in sides.items() if unit in names and set(layer) <= set(names)}


@router.get("/runs/{name}/figures")
def figures(request: Request, name: str) -> HTMLResponse:
    """Show the figures of a run, to download in any format and width."""
    of = _run(request, name)
    return page(
        request,
        "figures.html",
        name=name,
        figures=drawn.figures(of),
        formats=tuple(drawn.MEDIA),
        widths=drawn.WIDTHS_MM,
        most=(drawn.NARROWEST_MM, drawn.WIDEST_MM),
    )


@router.get("/runs/{name}/figures/{stem}")
def figure(
    request: Request, name: str, stem: str, format: str = "png", width: str = "double", download: bool = False
) -> Response:
    """Return a figure's file."""
    content, media = request.app.state.catalogue.figure(name, stem, format, width)
    headers = {"cache-control": "private, max-age=3600"}
    if download or format not in ("png", "svg"):
        # Quoted, and of no letters but those of a run's and a figure's names.
        headers["content-disposition"] = (
            f'attachment; filename="{quote(f"{name}.{stem}.{drawn.width_mm(width):.0f}mm.{format}")}"'
        )
    return Response(content, media_type=media, headers=headers)


@router.get("/runs/{name}/report.html")
def report(request: Request, name: str) -> Response:
    """Return the run's report, one file that needs nothing else, to keep: its script does not run on this site."""
    file = _run(request, name).path / "report.html"
    if not file.is_file():
        raise RunError(f"run '{name}' has no report; run its job again")
    return Response(
        file.read_bytes(),
        media_type="text/html",
        headers={"content-disposition": f'attachment; filename="{quote(name)}.report.html"'},
    )


@router.get("/runs/{name}/similarity")
def similarity(request: Request, name: str, measure: str = "", of: str = "") -> HTMLResponse:
    """Show one measure between all layers of a run as a map; every cell leads to its pair."""
    found = _run(request, name)
    measure, state = similarities.chosen(found, measure, of)
    every = similarities.all_layers(found, measure, state)
    return page(
        request, "similarity.html", name=name, measure=measure, of=state, measures=similarities.measures(found), states=similarities.STATE_LABELS,
        map=diagrams.heatmap(every, name),
    )  # fmt: skip


@router.get("/runs/{name}/atlas")
def atlas(request: Request, name: str, family: str = "") -> HTMLResponse:
    """Show which feature each network holds: a cell for every network and bin of the preferred angle."""
    found = _run(request, name)
    if not found.has("families", "units", "correspondence"):
        raise RunError(f"run '{name}' has no units, so it has no atlas; run its job again with --only atlas")
    families = list(found.job.comparison.families)
    if family and family not in families:
        raise RunError(
            f"run '{name}' has no family '{family[:100]}', expected one of {', '.join(families)}; choose another"
        )
    family = family or families[0]
    grid = request.app.state.catalogue.atlas(name, family)
    return page(
        request, "atlas.html", name=name, families={of: noun_of(of) for of in families}, family=family, grid=grid
    )
