"""Jobs over HTTP: plan, submit, watch, cancel, begin again."""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from universality.service import submission
from universality.service.database import JobRow
from universality.service.principals import Principal, needs
from universality.service.progress import progress, seconds_left

router = APIRouter(tags=["jobs"])
Reader = Annotated[Principal, Depends(needs("read"))]
Submitter = Annotated[Principal, Depends(needs("submit"))]
_TYPES = ("application/json", "application/toml", "text/toml")
_SAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


class JobFacts(BaseModel):
    """A job as the service knows it. Times are seconds since 1970."""

    id: str
    name: str
    owner: str = Field(description="id of the token that submitted it, or local")
    state: str = Field(description="waiting, running, done, failed or cancelled")
    submitted: float
    started: float | None
    ended: float | None
    attempts: int = Field(description="how often it was begun")
    error: str | None = Field(description="why it failed, in one sentence")
    cancel_asked: bool
    run: str | None = Field(description="name of its run, once it is done")


def facts(row: JobRow) -> dict[str, Any]:
    """Return what is told of a job."""
    return {
        "id": row.id, "name": row.name, "owner": row.owner, "state": row.state, "submitted": row.submitted, "started": row.started,
        "ended": row.ended, "attempts": row.attempts, "error": row.error, "cancel_asked": row.cancel,
        "run": row.run if row.state == "done" else None,
    }  # fmt: skip


async def body_text(request: Request) -> str:
    """Return the body of a request that brings a job, as text."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise HTTPException(415, f"a job is sent as {' or '.join(_TYPES[:2])}; set Content-Type")
    try:
        return (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HTTPException(400, "the job is not UTF-8 text; send it as UTF-8") from None


Body = Annotated[str, Depends(body_text)]
_JOB_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "description": "a job, as `universality schema job` states it"}
            },
            "application/toml": {"schema": {"type": "string", "description": "a job file"}},
        },
    }
}


def planned(request: Request, text: str | dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the job of a request and its plan; raise if it is not within the limits."""
    state = request.app.state
    settings = state.settings
    job = submission.parse(text, settings.limits)
    plan = state.helper.call(
        "plan", job=job.plain(), out=str(settings.runs / f"{job.name}-plan"), store=settings.stores, workers=settings.workers,
        threads=settings.threads,
    )  # fmt: skip
    submission.refuse_planned(plan, settings.limits)
    return job, plan


@router.post("/jobs/plan", openapi_extra=_JOB_BODY)
def plan_job(request: Request, who: Submitter, text: Body) -> dict[str, Any]:
    """Say what a job would take: seconds, disk, memory, smallest correlation that it can confirm. Nothing is begun."""
    return planned(request, text)[1]


@router.post("/jobs", status_code=201, response_model=JobFacts, openapi_extra=_JOB_BODY)
def submit_job(
    request: Request,
    who: Submitter,
    text: Body,
    idempotency_key: Annotated[
        str | None, Header(description="a text of one's own; a second job with the same one is the first job")
    ] = None,
) -> dict[str, Any]:
    """Submit a job. Once this has answered, the job is kept and ends, whatever happens to the service."""
    if idempotency_key is not None and not _SAME.fullmatch(idempotency_key):
        raise HTTPException(400, "Idempotency-Key is no text of 1 to 100 letters, digits, '_', '.' and '-'")
    job, _ = planned(request, text)
    limits = request.app.state.settings.limits
    return facts(request.app.state.queue.submit(job, who.name, idempotency_key or "", limits.waiting_jobs))


@router.get("/jobs", response_model=list[JobFacts])
def list_jobs(
    request: Request,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[float | None, Query(description="only jobs submitted before this time")] = None,
    mine: bool = False,
) -> list[dict[str, Any]]:
    """List jobs, the newest first."""
    rows = request.app.state.queue.list(limit, before, who.name if mine else None)
    return [facts(row) for row in rows]


@router.get("/jobs/{job}", response_model=JobFacts)
def get_job(request: Request, who: Reader, job: str) -> dict[str, Any]:
    """Return one job."""
    return facts(request.app.state.queue.get(job))


@router.get("/jobs/{job}/spec")
def get_spec(request: Request, who: Reader, job: str) -> dict[str, Any]:
    """Return what a job asks for: the job itself, as it was validated."""
    return dict(json.loads(request.app.state.queue.get(job).job))


@router.get("/jobs/{job}/progress")
def get_progress(request: Request, who: Reader, job: str) -> dict[str, Any]:
    """Return how far a job is: its stages, what it said, about how many seconds are left, and the id from which its events go on."""
    return job_progress(request, job)


def job_progress(request: Request, job: str) -> dict[str, Any]:
    """Return a job with its progress, as the API and the page show it."""
    queue = request.app.state.queue
    found = {**facts(queue.get(job)), **progress(queue.events(job, limit=100_000))}
    return {**found, "seconds_left": seconds_left(found, time.time())}


@router.post("/jobs/{job}/cancel", response_model=JobFacts)
def cancel_job(request: Request, who: Submitter, job: str) -> dict[str, Any]:
    """Cancel a job of one's own. What is finished of it is kept for other jobs and for a new attempt."""
    refuse_others(request, who, job)
    return facts(request.app.state.queue.cancel(job))


@router.post("/jobs/{job}/retry", response_model=JobFacts)
def retry_job(request: Request, who: Submitter, job: str) -> dict[str, Any]:
    """Begin a job of one's own again that failed or was cancelled."""
    refuse_others(request, who, job)
    return facts(request.app.state.queue.retry(job))


def refuse_others(request: Request, who: Principal, job: str) -> None:
    """Refuse to change somebody else's job."""
    if not who.owns(request.app.state.queue.get(job).owner):
        raise HTTPException(403, "this job is somebody else's; only its owner or an administrator may change it")


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events: state, stage, say, and end."}
    },
)
async def watch_job(
    request: Request,
    who: Reader,
    job: str,
    after: Annotated[
        int, Query(ge=0, description="events beyond this id; the header Last-Event-ID counts before it")
    ] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Watch a job: what has happened to it, then what happens, until it has ended."""
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 18):
            raise HTTPException(400, "Last-Event-ID is no id of an event")
        after = int(last_event_id)

    await run_in_threadpool(request.app.state.queue.get, job)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        request.app.state.events.stream(job, after), media_type="text/event-stream", headers=headers
    )
