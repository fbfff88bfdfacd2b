"""What every request passes before anything else sees it, and what every answer is sent with.

In this order: the host name, the size of the body, who asks, how often, and for what changes something whether it comes from a
page of this service. Pages of other sites can send a browser here, also to an address that only this machine reaches; they
cannot send the header ``Sec-Fetch-Site: same-origin``, nor read the CSRF token, nor use a host name that is not the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from universality.base.errors import TooMuchError
from universality.service.answers import AWAY, HEADERS, refusal
from universality.service.principals import LOCAL, SESSION_COOKIE, Principal, address_of, csrf_token
from universality.service.rates import Counter
from universality.service.settings import Settings, is_loopback
from universality.service.tokens import Tokens

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORM = "application/x-www-form-urlencoded"
_DROPPED_BYTES, _DROPPED_S = 16 << 20, 10.0


@dataclass(frozen=True)
class Refused(Exception):
    """Why a request goes no further."""

    status: int
    sentence: str
    retry_s: int = 0


class _Incoming:
    """The body of a request as it comes.

    A connection that is closed while a body is still coming is reset, and whoever sends it, such as a proxy, does not see the answer.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        """Return the next part."""
        message = await self._receive()
        self._ended = message["type"] != "http.request" or not message.get("more_body")
        return message

    async def rest(self) -> None:
        """Read on to the end and drop it, but for no longer and no more than is bearable."""
        dropped = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DROPPED_S):
                while not self._ended and dropped < _DROPPED_BYTES:
                    dropped += len((await self()).get("body", b""))


class Guard:
    """Lets through what may pass, and answers the rest."""

    def __init__(self, app: ASGIApp, service: FastAPI) -> None:
        self._app = app
        self._service = service
        self._settings: Settings = service.state.settings
        self._tokens: Tokens = service.state.tokens
        self._requests = Counter(self._settings.limits.requests_per_minute)
        self._wrong: Counter = service.state.wrong

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets
        scope["app"] = self._service  # refusals are drawn before the application is reached
        request, sent, incoming = Request(scope), _with_headers(send), _Incoming(receive)
        try:
            self._check_host(request)
            limited = self._limited(request, incoming)
            scope["principal"] = await self._who(request)
            self._check_rate(request)
            if request.method not in SAFE:
                limited = await self._check_origin(request, limited)
        except (Refused, DBAPIError) as cause:
            why = cause if isinstance(cause, Refused) else Refused(503, AWAY, 2)
            headers = {"Retry-After": str(why.retry_s)} if why.retry_s else {}
            if request.method not in SAFE and "expect" not in request.headers:
                await incoming.rest()
            await refusal(request, why.status, why.sentence, headers)(scope, receive, sent)
            return
        await self._app(scope, limited, sent)

    def _check_host(self, request: Request) -> None:
        """Refuse host names that are not the service's: a page elsewhere may have its own name lead to this address."""
        name = _host(request.headers)
        settings = self._settings
        known = {*settings.names, settings.host.lower()}
        if not settings.names and not is_loopback(settings.host):
            return  # bound to an address of a network, where everybody needs a token: any name of it will do
        if name not in known and not is_loopback(name):
            raise Refused(
                421, f"this service is not reached under the name '{name[:100]}'; its owner can add it with --name"
            )

    def _limited(self, request: Request, receive: Receive) -> Receive:
        """Return what reads the body, and refuses one that is too long: by what it says, and by what comes."""
        most = self._settings.limits.upload_bytes if request.url.path in UPLOADS else self._settings.limits.body_bytes
        said = request.headers.get("content-length", "0")
        if not said.isdigit() or len(said) > 15:
            raise Refused(400, "the request's Content-Length is no number of bytes")
        if int(said) > most:
            raise Refused(413, f"the request has {said} bytes, this service takes {most}; send less")
        came = 0

        async def limited() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise TooMuchError(f"the request has more than the {most} bytes that this service takes; send less")
            return message

        return limited

    async def _who(self, request: Request) -> Principal | None:
        """Return who asks; a wrong token is refused, and after many of them from one address all that come from there."""
        given, address = request.headers.get("authorization", ""), address_of(request)
        cookie = request.cookies.get(SESSION_COOKIE, "")
        if given:
            if not self._wrong.take(address, 0):
                raise Refused(429, "too many wrong tokens came from your address; wait a minute", 60)
            kind, _, text = given.partition(" ")
            found = await run_in_threadpool(self._tokens.of_token, text.strip()) if kind.lower() == "bearer" else None
            if found is None:
                self._wrong.take(address)
                raise Refused(
                    401, "the token is not valid (mistyped, unknown or revoked); ask whoever runs the service for one"
                )
            return found
        if cookie and (known := await run_in_threadpool(self._tokens.of_session, cookie)) is not None:
            return known
        return LOCAL if self._settings.local else None

    def _check_rate(self, request: Request) -> None:
        who: Principal | None = request.scope["principal"]
        if who is LOCAL:
            return
        if not self._requests.take(who.name if who is not None else address_of(request)):
            raise Refused(
                429,
                f"more than {self._settings.limits.requests_per_minute} requests came in a minute; wait a little",
                5,
            )

    async def _check_origin(self, request: Request, receive: Receive) -> Receive:
        """Refuse what would change something and comes from elsewhere; return what reads the body that was read for that."""
        headers = request.headers
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin", "none") or (origin is not None and not _same(origin, request)):
            raise Refused(
                403, "this request comes from a page of another site; use the pages of this service, or a script"
            )
        if headers.get("authorization"):
            return receive
        browser = site is not None or origin is not None or SESSION_COOKIE in request.cookies
        if not browser and request.url.path.startswith("/api/") and _is_no_form(headers):
            return receive  # a script on this machine, where nobody needs a token
        given, body = headers.get("x-csrf-token", ""), b""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if (
            kind == "multipart/form-data"
            and request.url.path in UPLOADS
            and (site == "same-origin" or origin is not None)
        ):
            return receive  # too long to be read here: it comes from this service by the browser's own word
        if not given and kind == FORM:
            body, receive = await _read(receive)
            given = (parse_qs(body.decode("utf-8", "replace"), max_num_fields=1000).get("csrf") or [""])[0]
        if not hmac.compare_digest(given.encode(), csrf_token(request).encode()):
            raise Refused(403, "this form is out of date, or comes from elsewhere; load the page again")
        return receive


UPLOADS = frozenset({"/models", "/api/v1/models"})
"""Where checkpoints are sent."""


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Return the whole body, and what gives it once more."""
    messages, body = [], b""
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return body, again


def _is_no_form(headers: Headers) -> bool:
    """Return whether the body is of a kind that no page of another site can send without asking first."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind not in (FORM, "multipart/form-data", "text/plain")


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def _host(headers: Headers) -> str:
    """Return the host name of a request without port and brackets, in small letters; a malformed one is refused."""
    found = _HOST.fullmatch(headers.get("host", "").lower())
    if found is None:
        raise Refused(400, "the request's Host is malformed")
    return found[1].strip("[]")


def _same(origin: str, request: Request) -> bool:
    """Return whether an origin is that of the request itself."""
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host.lower() == request.headers.get("host", "").lower()


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sent
