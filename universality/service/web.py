"""The web process: it answers requests, and keeps a runner process alive beside it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError

from universality.base.errors import ServiceError
from universality.service.app import create_app
from universality.service.database import Database
from universality.service.runner import RunnerProcess
from universality.service.settings import Settings
from universality.service.tokens import Tokens


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until the process is told to end.

    Raises
    ------
    ServiceError
        The address is taken or none of this machine, the database cannot be used, or people elsewhere would reach the service
        and there is no token.
    """
    _refuse_open(settings)
    listening = _listen(settings)
    app = create_app(settings)
    runner = RunnerProcess(settings) if settings.at_once else None
    host, port = listening.getsockname()[:2]
    say(f"universality serves {settings.runs} at {Settings(host=host, port=port).url} (Ctrl-C ends it)")
    if runner is not None:
        runner.start()
    try:
        uvicorn.Server(configured(app)).run(sockets=[listening])
    finally:
        if runner is not None:
            runner.stop()


def configured(app: FastAPI) -> uvicorn.Config:
    """Return how an application is served: what a proxy says of the visitor is believed where the service has a name behind one."""
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3,
        proxy_headers=bool(app.state.settings.names), forwarded_allow_ips="127.0.0.1,::1", h11_max_incomplete_event_size=16 << 10,
        timeout_keep_alive=15, limit_concurrency=2000,
    )  # fmt: skip


def _refuse_open(settings: Settings) -> None:
    """Refuse to be reached from elsewhere by everybody; say in one sentence if the database cannot be used."""
    database = Database(settings.database)
    try:
        database.upgrade()
        if not settings.local and not Tokens(database).any():
            where = f"at {settings.host}" if not settings.names else f"as {settings.names[0]}"
            raise ServiceError(
                f"the service would be reached {where}, where everybody needs a token, and there is none; make one with "
                "universality serve token new --scope admin, or leave out --host and --name"
            )
    except DBAPIError as cause:
        said = str(cause.orig).strip().splitlines()
        raise ServiceError(
            f"the database '{database.shown}' cannot be used ({said[0] if said else type(cause).__name__}); start it, or correct --database"
        ) from None
    finally:
        database.close()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named: asyncio sends small packets at once (TCP_NODELAY) on such sockets only, and without that every
    # page waits 40 ms between its head and its body.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as cause:
        listening.close()
        raise ServiceError(
            f"the service cannot listen at {settings.host}, port {settings.port} ({cause.strerror or cause}); choose another --port or --host"
        ) from None
    return listening
