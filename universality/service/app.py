"""The application: pages and HTTP API of one service."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles

from universality.base.errors import UniversalityError
from universality.service import pages
from universality.service.answers import refused
from universality.service.database import Database
from universality.service.guard import Headers
from universality.service.principals import LOCAL
from universality.service.run_index import RunIndex
from universality.service.settings import Settings

STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """Return the application of a service.

    ``app.state`` holds `settings`, `database`, `runs` (`RunIndex`) and `secret`.
    """
    app = FastAPI(title="universality", lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.state.settings = settings
    app.state.database = Database(settings.database)
    app.state.database.create()
    app.state.runs = RunIndex(settings.runs)
    app.state.secret = secrets.token_bytes(32)
    app.add_exception_handler(UniversalityError, refused)
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(pages.router)

    @app.middleware("http")
    async def who(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.scope["principal"] = LOCAL
        return await call_next(request)

    app.add_middleware(Headers)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.database.close()
