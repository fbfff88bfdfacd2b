"""Two networks beside one another: `/compare?a=...&b=...`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from universality.base.errors import RunError, did_you_mean
from universality.report.sentences import noun_of
from universality.service.catalogue import Catalogue
from universality.service.pages import diagrams
from universality.service.pages.rendering import compare_url, page
from universality.service.similarities import STATE_LABELS
from universality.similarity.matching import HOW

router = APIRouter()
MATCHES = 16
_NULLS = (("", "trained"), ("_untrained", "untrained twins"), ("_haar", "one of both in a random basis (Haar)"))


@router.get("/compare")
def compare(
    request: Request,
    a: str = "",
    b: str = "",
    run: str = "",
    measure: str = "",
    of: str = "value",
    family: str = "",
    tap_a: str = "",
    tap_b: str = "",
) -> HTMLResponse:
    """Show two networks: similarity of all taps, matched units, where measures disagree."""
    catalogue: Catalogue = request.app.state.catalogue
    pairs = catalogue.compared_pairs()
    known = sorted({model for pair in pairs for model in pair})
    if not (a and b):
        return page(request, "compare_choose.html", pairs=pairs, known=known, a=a, b=b, lacks="")
    if not any({a, b} == set(pair) for pair in pairs):
        lacks = f"No finished run compared '{a[:200]}' with '{b[:200]}'."
        return page(request, "compare_choose.html", pairs=pairs, known=known, a=a, b=b, lacks=lacks)
    found = catalogue.compare(a, b, run or None)
    turned = (a, b) != (found["a"], found["b"])
    if turned:  # rows are the first network, as the address says; the run may have asked the other way round
        tap_a, tap_b = (tap_b, tap_a) if tap_a or tap_b else (tap_a, tap_b)
    measures = list(found["similarity"])
    for given, options, what in (
        (measure, measures, "measure"),
        (of, list(STATE_LABELS), "column"),
        (family, found["families"], "family"),
    ):
        if given and given not in options:
            raise RunError(f"run '{found['run']}' has no {what} '{given[:100]}'{did_you_mean(given[:100], options)}")
    measure = measure or (measures[0] if measures else "")
    family = family or next(
        (row["family"] for row in found["pairs"] if row["n_met"]), found["families"][0] if found["families"] else ""
    )
    matches = [
        row
        for row in found["matches"]
        if row["family"] == family and (not tap_a or (row["tap_a"], row["tap_b"]) == (tap_a, tap_b))
    ]
    shown = matches[:MATCHES]
    sides = [(found[side], row[f"tap_{side}"], row[f"unit_{side}"]) for row in shown for side in "ab"]
    counts = catalogue.example_counts(sides, found["run"])
    shown = [row | {"examples": counts[2 * place : 2 * place + 2]} for place, row in enumerate(shown)]
    here = {"measure": measure, "of": of, "family": family, "tap_a": tap_a, "tap_b": tap_b}
    return page(
        request, "compare.html", again=lambda **changed: compare_url(found["a"], found["b"], found["run"], **{**here, **changed}), found=found, known=known, measure=measure, of=of, states=STATE_LABELS, family=family,
        families={name: noun_of(name) for name in found["families"]}, map=_map(found, measure, of), flows=_flows(found, family), matches=shown,
        matched=len(matches), how=HOW[found["method"]], tap_a=tap_a, tap_b=tap_b, most=MATCHES,
    )  # fmt: skip


def _map(found: dict[str, Any], measure: str, of: str) -> dict[str, Any] | None:
    if not measure:
        return None
    table = found["similarity"][measure]
    scale = diagrams.scale_of([value for state in STATE_LABELS for line in table[state] for value in line])
    cells = diagrams.grid(table["taps_a"], table["taps_b"], table[of], scale)
    return {"taps_a": table["taps_a"], "taps_b": table["taps_b"], "cells": cells, "direction": table["direction"]}


def _flows(found: dict[str, Any], family: str) -> list[tuple[str, dict[str, Any]]]:
    rows = [row for row in found["pairs"] if row["family"] == family]
    if not rows:
        return []
    # One scale for all: the largest sum of any network of any of the diagrams.
    most = max(
        sum(row[f"n_met{ending}"] or 0.0 for row in rows) for ending, _ in _NULLS
    )  # fmt: skip
    return [(title, diagrams.sankey(rows, ending, most)) for ending, title in _NULLS]
