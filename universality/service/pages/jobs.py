"""Jobs: the form, the plan beside it, and one job as it runs."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from universality.base.errors import UniversalityError
from universality.jobs.stages import STAGES
from universality.models.catalogue import card
from universality.runs.job import Job
from universality.service.api.jobs import facts, job_progress, planned, refuse_others
from universality.service.pages import job_form
from universality.service.pages.rendering import page
from universality.service.principals import Principal, needs
from universality.service.states import ENDED, State

router = APIRouter()
Submitter = Annotated[Principal, Depends(needs("submit"))]
_SLOW = ("natural", "circuits", "atlas")
"""Stages that the form leaves out unless they are ticked."""
_ENDED_STATUS = 286
"""Tells htmx to ask no more."""


@router.get("/jobs")
def every(request: Request) -> HTMLResponse:
    """Show the jobs, the newest first."""
    return page(request, "jobs.html", jobs=[facts(row) for row in request.app.state.queue.list(200, None)])


@router.get("/jobs/new")
def new(request: Request, models: str = "", of: str = "") -> HTMLResponse:
    """Show the form of a job; ``models`` names networks that are ticked, ``of`` a job that the form begins with as TOML."""
    text = job_form.toml_of(_short(Job.model_validate(json.loads(request.app.state.queue.get(of).job)))) if of else ""
    networks = request.app.state.catalogue.networks()
    ticked = [name for name in models.split(",") if name]
    return page(
        request, "submit.html", networks=networks, ticked=ticked, stages=STAGES.values(), slow=_SLOW, families=job_form.FAMILIES, measures=job_form.MEASURES,
        matching=job_form.MATCHING, defaults=job_form.DEFAULTS, groups=job_form.groups(), text=text,
    )  # fmt: skip


@router.get("/jobs/taps")
def taps(request: Request, model: str) -> HTMLResponse:
    """Show the taps of a network as boxes: a part of the form."""
    return page(request, "part_taps.html", model=model, taps=card(model).taps)


async def _asked(request: Request) -> tuple[str | dict[str, Any], str]:
    """Return the job that a form brings, as TOML or as values, and the TOML of it; a text that was pasted comes first."""
    form = [(name, value) for name, value in (await request.form()).multi_items() if isinstance(value, str)]
    text = next((value for name, value in form if name == "toml" and value.strip()), "")
    if text:
        return text, text
    values = job_form.values_of(form, tuple(STAGES))
    return values, job_form.toml_of(values)


Asked = Annotated[tuple[str | dict[str, Any], str], Depends(_asked)]


@router.post("/jobs/plan")
def plan(request: Request, who: Submitter, asked: Asked) -> HTMLResponse:
    """Show the job file and the plan of what a form says: a part of the form."""
    body, text = asked
    try:
        _, found = planned(request, body)
    except UniversalityError as error:
        return page(request, "part_plan.html", text=text, plan=None, error=str(error))
    return page(request, "part_plan.html", text=text, plan=found, error="")


@router.post("/jobs")
def submit(request: Request, who: Submitter, asked: Asked, same: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Submit the job that a form says."""
    job, _ = planned(request, asked[0])
    row = request.app.state.queue.submit(job, who.name, same, request.app.state.settings.limits.waiting_jobs)
    return RedirectResponse(f"/jobs/{row.id}", 303)


@router.get("/jobs/{job}")
def one(request: Request, job: str) -> HTMLResponse:
    """Show a job: its stages, what it said, how long it will take, and what can be done with it."""
    row = request.app.state.queue.get(job)
    spec = Job.model_validate(json.loads(row.job))
    return page(request, "job.html", spec=spec, text=job_form.toml_of(_short(spec)), **_now(request, job))


def _short(spec: Job) -> dict[str, Any]:
    """Return the values of a job that are not what they are by default."""
    values: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return values


@router.get("/jobs/{job}/state")
def state(request: Request, job: str) -> HTMLResponse:
    """Show how far a job is: the part of its page that is asked for again and again."""
    now = _now(request, job)
    return page(request, "part_job.html", _ENDED_STATUS if now["ended"] else 200, **now)


def _now(request: Request, job: str) -> dict[str, Any]:
    found = job_progress(request, job)
    ended = found["state"] in set(map(str, ENDED))
    return {
        "job": found, "ended": ended, "clock": time.time(), "again": found["state"] in (State.FAILED, State.CANCELLED),
    }  # fmt: skip


@router.post("/jobs/{job}/cancel")
def cancel(request: Request, who: Submitter, job: str) -> RedirectResponse:
    """Cancel a job of one's own."""
    refuse_others(request, who, job)
    request.app.state.queue.cancel(job)
    return RedirectResponse(f"/jobs/{job}", 303)


@router.post("/jobs/{job}/retry")
def retry(request: Request, who: Submitter, job: str) -> RedirectResponse:
    """Begin a job of one's own again."""
    refuse_others(request, who, job)
    request.app.state.queue.retry(job)
    return RedirectResponse(f"/jobs/{job}", 303)
