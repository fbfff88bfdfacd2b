"""From a template and plain values to an answer; addresses of what pages link to; how values are written."""

from __future__ import annotations

import hashlib
import math
import re
import time
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from universality.base.names import HAAR_NAME, number, short
from universality.report.curves import tuning_line, weight_colours
from universality.report.page import static_text
from universality.service.principals import csrf_token, principal

ASSETS = ("style.css", "app.js")
NAVIGATION = (
    ("/", "Runs"),
    ("/zoo", "Zoo"),
    ("/compare", "Compare"),
    ("/jobs/new", "Submit"),
    ("/jobs", "Jobs"),
    ("/lists", "Lists"),
)


@cache
def asset(name: str) -> tuple[str, str]:
    """Return the text of a style sheet or script of the pages, and the start of its digest."""
    own = files("universality.service").joinpath("static", name).read_text(encoding="utf-8")
    # The pages look as the static report and the static pages of units do.
    text = static_text("report.css") + static_text("pages.css") + own if name == "style.css" else own
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def model_url(model: str) -> str:
    """Return the address of a network's page."""
    return f"/models/{quote(model, safe='/')}"


def tap_url(model: str, tap: str, run: str = "") -> str:
    """Return the address of a tap's page."""
    return f"{model_url(model)}/taps/{quote(tap, safe='')}{_asked(run=run)}"


def unit_url(model: str, tap: str, unit: int, run: str = "", part: str = "", **more: str) -> str:
    """Return the address of a unit's page, or of a `part` of it such as ``examples.webp``; of a run in another basis it leads to that of the direction."""
    return f"{model_url(model)}/taps/{quote(tap, safe='')}/units/{int(unit)}{f'/{part}' if part else ''}{_asked(run=run, **more)}"


def direction_url(model: str, tap: str, unit: int, basis: str, run: str = "") -> str:
    """Return the address of the page of a direction of a basis, or of a unit where none is named."""
    if not basis:
        return unit_url(model, tap, unit, run)
    return f"{model_url(model)}/taps/{quote(tap, safe='')}/bases/{quote(basis, safe='')}/directions/{int(unit)}{_asked(run=run)}"


def run_url(run: str, part: str = "", **more: str) -> str:
    """Return the address of a run's page, or of a `part` of it such as ``tables/units``."""
    return f"/runs/{quote(run, safe='')}{f'/{quote(part)}' if part else ''}{_asked(**more)}"


def compare_url(a: str, b: str, run: str = "", **more: str) -> str:
    """Return the address of the page of two networks."""
    return f"/compare{_asked(a=a, b=b, run=run, **more)}"


def _asked(**parameters: str) -> str:
    text = urlencode([(name, value) for name, value in parameters.items() if value])
    return f"?{text}" if text else ""


def brief(value: Any) -> str:
    """Return a cell of a table as it is shown: numbers with about three digits, nothing for what has no value.

    Examples
    --------
    >>> [brief(value) for value in (0.123456, 12.3456, 3, None, True, float("nan"), 0.00001234)]
    ['0.123', '12.3', '3', '', 'true', '', '1.2e-05']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"{len(value)} numbers"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    if math.isinf(value) or 0 < size < 0.001:
        return f"{value:.1e}"
    return number(value, 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3)


def breakable(name: str) -> Markup:
    """Return a long name that may break behind a dot, a low line or a slash; what is copied holds no more than the name."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/])", str(name)))


def when(seconds: float | None) -> str:
    """Return a time of day, UTC; empty for none."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def lasting(seconds: float | None) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> lasting(8.4), lasting(75), lasting(7300), lasting(None)
    ('8 s', '1 min 15 s', '2 h 1 min', 'not known')
    """
    if seconds is None or not math.isfinite(seconds):
        return "not known"
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def roughly(seconds: float | None) -> str:
    """Return an estimated duration in words, no more exact than it can be.

    Examples
    --------
    >>> roughly(20), roughly(95), roughly(3000), roughly(9000), roughly(None)
    ('less than a minute', 'about 2 min', 'about 50 min', 'about 2.5 h', 'unknown time')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown time"
    if seconds < 50:
        return "less than a minute"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


@cache
def environment() -> Environment:
    """Return what renders the pages: every value is escaped, and one that is missing is an error."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader("universality.service", "templates"), PackageLoader("universality.report", "static")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {
        "model_url": model_url, "tap_url": tap_url, "unit_url": unit_url, "direction_url": direction_url, "run_url": run_url, "compare_url": compare_url, "urlencode": urlencode,
        "number": number, "short": short, "haar": HAAR_NAME, "tuning_line": tuning_line, "weight_colours": weight_colours, "navigation": NAVIGATION,
        "asset": lambda name: f"/assets/{asset(name)[1]}/{name}",
    }  # fmt: skip
    made.filters |= {
        "combined": lambda one, other: {**one, **other},
        "brief": brief,
        "breakable": breakable,
        "when": when,
        "lasting": lasting,
        "roughly": roughly,
    }
    return made


def page(request: Request, template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page."""
    who = principal(request)
    text = (
        environment()
        .get_template(template)
        .render(request=request, who=who, csrf=csrf_token(request), path=request.url.path, **values)
    )
    # Pages show what is there now; browsers keep pictures and style sheets, not these.
    return HTMLResponse(text, code, {"cache-control": "no-cache", "vary": "HX-Request, Cookie"})


def error_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """Return the page of a refusal: its sentence, and the way back."""
    return page(request, "error.html", status, status=status, sentence=sentence)
