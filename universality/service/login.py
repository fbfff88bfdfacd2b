"""A token given in a browser becomes a session; the form itself is a page (``/login``)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from universality.service.principals import SESSION_COOKIE, address_of
from universality.service.tokens import SESSION_S

router = APIRouter(include_in_schema=False)


@router.post("/session")
def begin(
    request: Request, token: Annotated[str, Form(max_length=200)], next: Annotated[str, Form(max_length=2000)] = "/"
) -> Response:
    """Begin a session with a token, and go on to the page that was asked for."""
    tokens, wrong, address = request.app.state.tokens, request.app.state.wrong, address_of(request)
    if not wrong.take(address, 0):
        raise HTTPException(429, "too many wrong tokens came from your address; wait a minute")
    who = tokens.of_token(token.strip())
    if who is None:
        wrong.take(address)
        raise HTTPException(
            403, "the token is not valid (mistyped, unknown or revoked); ask whoever runs the service for one"
        )
    answer = RedirectResponse(_inner(next), 303)
    answer.set_cookie(
        SESSION_COOKIE, tokens.open_session(who), max_age=int(SESSION_S), httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/session/end")
def end(request: Request) -> Response:
    """End the session of this browser."""
    request.app.state.tokens.close_session(request.cookies.get(SESSION_COOKIE, ""))
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(SESSION_COOKIE)
    return answer


def _inner(path: str) -> str:
    r"""Return a path of this service; anything else that a link may have brought leads to the first page.

    Examples
    --------
    >>> _inner("/runs/demo?limit=5"), _inner("//elsewhere.org"), _inner("https://elsewhere.org"), _inner("/\\elsewhere.org")
    ('/runs/demo?limit=5', '/', '/', '/')
    """
    plain = path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable() and "\\" not in path
    return path if plain else "/"
