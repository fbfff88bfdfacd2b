"""Who asks, and what that person may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import HTTPException, Request

SCOPES = ("read", "submit", "admin")
"""What a token allows; each includes those before it."""
SESSION_COOKIE = "universality_session"


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes
    ----------
    name : the owner of jobs, notes and lists: the id of the token, or ``local``
    scope : one of `SCOPES`
    session : SHA-256 of the browser's session, hex; empty without one
    shown : the name of the token, for people
    """

    name: str
    scope: str
    session: str = ""
    shown: str = ""

    def may(self, scope: str) -> bool:
        """Return whether the scope is included.

        Examples
        --------
        >>> Principal("t1", "submit").may("read"), Principal("t1", "submit").may("admin")
        (True, False)
        """
        return SCOPES.index(scope) <= SCOPES.index(self.scope)

    def owns(self, owner: str) -> bool:
        """Return whether something of this owner may be changed: one's own, and all as an administrator."""
        return self.name == owner or self.may("admin")


LOCAL = Principal("local", "admin", shown="this machine")
"""Everybody, where the service listens on this machine only."""


def principal(request: Request) -> Principal | None:
    """Return who asks; None for somebody unknown."""
    found: Principal | None = request.scope.get("principal")
    return found


def address_of(request: Request) -> str:
    """Return the network address that a request comes from."""
    return request.client.host if request.client is not None else "unknown"


def needs(scope: str) -> Callable[[Request], Principal]:
    """Return a dependency that gives who asks, and refuses whoever lacks the scope."""

    def check(request: Request) -> Principal:
        who = principal(request)
        if who is None:
            raise HTTPException(401, "this needs a token; give it as 'Authorization: Bearer TOKEN'")
        if not who.may(scope):
            raise HTTPException(403, f"this needs a token of scope '{scope}', yours has '{who.scope}'")
        return who

    return check


def csrf_token(request: Request) -> str:
    """Return what a form of this browser has to send back in its field ``csrf``, or htmx in the header ``X-CSRF-Token``."""
    who = principal(request)
    session = who.session if who is not None else ""
    secret: bytes = request.app.state.secret
    return hmac.new(secret, f"csrf:{session}".encode(), hashlib.sha256).hexdigest()
