"""Tokens: made once, shown once, kept as a hash, revocable.

A token reads ``uvs_ID_SECRET_CHECK``: the id says which it is in lists and logs, the secret holds 160 random bits, and the check
finds a token that was cut or mistyped before anything is looked up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select, update

from universality.base.errors import MissingError, ServiceError
from universality.service.database import Database, SessionRow, TokenRow
from universality.service.principals import SCOPES, Principal

_TOKEN = re.compile(r"uvs_([a-z2-7]{8})_([a-z2-7]{32})_([0-9a-f]{8})")
SESSION_S = 12 * 3600.0
"""How long a browser in which a token was given may go on, s."""
_REMEMBERED_S, _MOST_REMEMBERED = 5.0, 10_000


@dataclass(frozen=True)
class Made:
    """A new token: its id, and its text, which nobody can be shown again."""

    id: str
    text: str


def _random(bytes_: int) -> str:
    return base64.b32encode(secrets.token_bytes(bytes_)).decode().rstrip("=").lower()


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def well_formed(text: str) -> bool:
    """Return whether a text is a token by its form and check digits.

    Examples
    --------
    >>> well_formed("uvs_abcdefgh_" + "a" * 32 + "_00000000")
    False
    """
    found = _TOKEN.fullmatch(text)
    return found is not None and hmac.compare_digest(_check(f"uvs_{found[1]}_{found[2]}"), found[3])


def hashed(text: str) -> bytes:
    """Return the SHA-256 of a secret: with 160 random bits in it there is nothing to guess, so it needs no slow hash."""
    return hashlib.sha256(text.encode()).digest()


class Tokens:
    """The tokens of a service, and the browsers in which one was given."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, tuple[float, Principal | None]] = {}

    def new(self, scope: str, name: str = "") -> Made:
        """Make a token of a scope of `principals.SCOPES`."""
        if scope not in SCOPES:
            raise ServiceError(f"unknown scope '{scope}', expected one of {', '.join(SCOPES)}; correct --scope")
        identity, secret = _random(5), _random(20)
        body = f"uvs_{identity}_{secret}"
        text = f"{body}_{_check(body)}"
        with self._database.session() as session:
            session.add(TokenRow(id=identity, name=name[:64], scope=scope, secret=hashed(text)))
        return Made(identity, text)

    def list(self) -> list[TokenRow]:
        """Return all tokens, the oldest first."""
        with self._database.reading() as session:
            return list(session.scalars(select(TokenRow).order_by(TokenRow.made)))

    def any(self) -> bool:
        """Return whether there is a token that is not revoked."""
        with self._database.reading() as session:
            return session.scalar(select(TokenRow.id).where(TokenRow.revoked.is_(None)).limit(1)) is not None

    def revoke(self, identity: str) -> None:
        """Make a token worthless, and end the sessions of browsers in which it was given."""
        with self._database.session() as session:
            row = session.get(TokenRow, identity)
            if row is None:
                raise MissingError(f"there is no token '{identity[:40]}'; universality serve token list shows them")
            row.revoked = row.revoked or time.time()
            for opened in session.scalars(select(SessionRow).where(SessionRow.token == identity)):
                session.delete(opened)
        self._known.clear()

    def of_token(self, text: str) -> Principal | None:
        """Return whose token this is; None for one that is malformed, unknown or revoked."""
        if not well_formed(text):
            return None
        return self._remembered(hashed(text), self._look_up_token)

    def of_session(self, cookie: str) -> Principal | None:
        """Return whose browser this is; None for an unknown one, or one whose token was revoked or given too long ago."""
        return self._remembered(hashed(cookie), self._look_up_session)

    def open_session(self, who: Principal) -> str:
        """Begin a session for the holder of a token and return the cookie's value."""
        cookie = _random(20)
        with self._database.session() as session:
            for old in session.scalars(select(SessionRow).where(SessionRow.until < time.time())):
                session.delete(old)
            session.add(SessionRow(secret=hashed(cookie), token=who.name, until=time.time() + SESSION_S))
        return cookie

    def close_session(self, cookie: str) -> None:
        """End a session."""
        with self._database.session() as session:
            if (row := session.get(SessionRow, hashed(cookie))) is not None:
                session.delete(row)
        self._known.pop(hashed(cookie), None)

    def _remembered(self, key: bytes, look_up: Callable[[bytes], Principal | None]) -> Principal | None:
        known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_S:
            return known[1]
        found = look_up(key)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        if found is not None:
            self._known[key] = (time.monotonic(), found)
        return found

    def _look_up_token(self, key: bytes) -> Principal | None:
        with self._database.reading() as session:
            row = session.scalars(select(TokenRow).where(TokenRow.secret == key)).one_or_none()
        if row is None or row.revoked is not None:
            return None
        if row.used is None or time.time() - row.used > 60:
            with self._database.session() as session:
                session.execute(update(TokenRow).where(TokenRow.id == row.id).values(used=time.time()))
        return Principal(row.id, row.scope, shown=row.name or row.id)

    def _look_up_session(self, key: bytes) -> Principal | None:
        with self._database.reading() as session:
            opened = session.get(SessionRow, key)
            row = session.get(TokenRow, opened.token) if opened is not None else None
        if opened is None or row is None or row.revoked is not None or opened.until < time.time():
            return None
        return Principal(row.id, row.scope, session=key.hex(), shown=row.name or row.id)
