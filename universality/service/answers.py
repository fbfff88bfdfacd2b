"""How refusals are answered: one sentence, as JSON to scripts and as a page to browsers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from universality.base.errors import BusyError, MissingError, TooMuchError, UniversalityError
from universality.service import pages

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Sent with every answer: no script, style or picture from elsewhere or within a page, and no page in a frame."""
_STATUS: tuple[tuple[type[UniversalityError], int], ...] = ((MissingError, 404), (TooMuchError, 413), (BusyError, 503))


def status_of(cause: UniversalityError) -> int:
    """Return the HTTP status of an error: 400 for all that a request can mend."""
    return next((status for kind, status in _STATUS if isinstance(cause, kind)), 400)


def wants_page(request: Request) -> bool:
    """Return whether a browser asks for a page."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def refusal(request: Request, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    if wants_page(request):
        if status == 401 and request.method == "GET":
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(path, safe='')}", 303)
        draw = getattr(pages, "error_page", None)
        if draw is not None:
            answer: Response = draw(request, status, sentence)
            return answer
    return JSONResponse({"error": sentence}, status, headers)


def of_error(request: Request, cause: Exception) -> Response:
    """Return the answer to what a user can mend."""
    assert isinstance(cause, UniversalityError)
    return refusal(request, status_of(cause), str(cause))


def of_http(request: Request, cause: Exception) -> Response:
    """Return the answer to what the framework or a dependency refused."""
    assert isinstance(cause, HTTPException)
    headers: dict[str, Any] = dict(cause.headers or {})
    if cause.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    sentence = f"there is nothing at {request.url.path[:200]}" if cause.detail == "Not Found" else str(cause.detail)
    return refusal(request, cause.status_code, sentence, headers)


def of_values(request: Request, cause: Exception) -> Response:
    """Return the answer to parameters of a request that are no such values."""
    assert isinstance(cause, RequestValidationError)
    first = cause.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return refusal(request, 422, f"'{place}' of the request: {first['msg']}")


AWAY = "the service's database does not answer now; ask again in a few seconds"


def of_database(request: Request, _: Exception) -> Response:
    """Return the answer while the database is away."""
    return refusal(request, 503, AWAY, {"Retry-After": "2"})


def of_fault(request: Request, _: Exception) -> Response:
    """Return the answer to an error of the service's own; what it was is in the service's log."""
    answer = refusal(request, 500, "this is a fault of the service, not yours; its log says what happened")
    answer.headers.update(HEADERS)  # it is made outside of the guard, which sends them with all others
    return answer
