"""The application: pages and HTTP API of one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DBAPIError, PendingRollbackError, TimeoutError
from starlette.exceptions import HTTPException

from universality.base.errors import UniversalityError
from universality.service import answers, api, login, pages
from universality.service.api import jobs, models
from universality.service.catalogue import Catalogue
from universality.service.database import Database
from universality.service.events import Events
from universality.service.guard import Guard
from universality.service.helper import Helper
from universality.service.queue import Queue
from universality.service.rates import Counter
from universality.service.run_index import RunIndex
from universality.service.settings import Settings
from universality.service.tokens import Tokens

STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings) -> FastAPI:
    """Return the application of a service; its jobs are run by `runner.RunnerProcess`, which the caller starts.

    ``app.state`` holds `settings`, `database`, `runs` (`RunIndex`), `catalogue`, `queue`, `tokens`, `events`, `helper` (plans), `reader` (figures and units) and `secret`.
    """
    app = FastAPI(
        title="universality", lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json",
        description="Jobs, runs, tables and units of a comparison service. Every refusal is an object with the sentence 'error'.",
    )  # fmt: skip
    state = app.state
    state.settings = settings
    state.database = Database(settings.database)
    state.database.upgrade()
    state.secret = state.database.secret("csrf")
    state.tokens, state.wrong = Tokens(state.database), Counter(settings.limits.refusals_per_minute)
    state.runs = RunIndex(settings.runs)
    state.helper, state.reader = Helper(settings), Helper(settings, waiting=400)
    state.catalogue = Catalogue(state.runs, state.reader)
    state.queue = Queue(state.database, settings.lease_s)
    state.events = Events(state.queue)
    app.add_exception_handler(UniversalityError, answers.of_error)
    app.add_exception_handler(HTTPException, answers.of_http)
    app.add_exception_handler(RequestValidationError, answers.of_values)
    for kind in (DBAPIError, PendingRollbackError, TimeoutError):
        app.add_exception_handler(kind, answers.of_database)
    app.add_exception_handler(Exception, answers.of_fault)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    app.include_router(api.router)
    app.include_router(login.router)
    app.add_api_route("/jobs/{job}/events", jobs.watch_job, include_in_schema=False)
    app.include_router(models.router, include_in_schema=False)
    app.include_router(pages.router)
    app.add_middleware(Guard, service=app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.helper.close()
    app.state.reader.close()
    app.state.database.close()
