"""Jobs as requests bring them: nothing in them names a file or an address, and each stays within the limits."""

from __future__ import annotations

import json
from typing import Any

from universality.base.errors import JobError, TooMuchError
from universality.base.toml import toml_of
from universality.runs.job import Job, job_of
from universality.service.settings import Limits

_WHERE = "the job"


def parse(body: str | dict[str, Any], limits: Limits) -> Job:
    """Return the job that a request states as TOML, as JSON, or as plain values.

    Raises
    ------
    JobError
        It is malformed, or names folders of images: what a job reads is chosen by whoever runs the service.
    TooMuchError
        It is larger than the limits.
    """
    values = body if isinstance(body, dict) else plain(body)
    _refuse_folders(values)
    _refuse_many(values, limits)
    job = job_of(values, _WHERE)
    for what, came, most in _sizes(job, limits):
        if came > most:
            raise TooMuchError(f"the job asks for {came} {what}, this service allows {most}; lower them")
    return job


def plain(text: str) -> dict[str, Any]:
    """Return what a text in TOML or JSON (an object, so that it begins with a brace) holds."""
    if not text.lstrip().startswith("{"):
        return toml_of(text, _WHERE, "job", JobError)
    try:
        values = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as cause:
        raise JobError(f"{_WHERE} is not valid JSON ({type(cause).__name__}: {str(cause)[:200]}); correct it") from None
    return dict(values)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _refuse_folders(values: dict[str, Any]) -> None:
    """Refuse folders before the job is read: reading it would look into them, and say whether they exist."""
    inner: Any = values
    for name in ("stimuli", "natural"):
        inner = inner.get(name) if isinstance(inner, dict) else None
    if isinstance(inner, dict) and inner.get("folders"):
        raise JobError(
            "the job names folders (stimuli.natural.folders), which a job of a request may not; leave them out, or run the job with "
            "universality run where the folders are"
        )


def _refuse_many(values: dict[str, Any], limits: Limits) -> None:
    """Refuse lists that are far too long before each of their entries is looked at."""
    for name, most in (("models", limits.models), ("pairs", limits.models**2), ("figure_pairs", limits.models**2)):
        if isinstance(found := values.get(name), list) and len(found) > most:
            raise TooMuchError(f"the job has {len(found)} {name}, this service allows {most}; leave some out")


def _sizes(job: Job, limits: Limits) -> list[tuple[str, int, int]]:
    """Return what of a job is limited, how much it asks for, and how much it may."""
    shown, nulls = job.stimuli.natural, job.nulls
    return [
        ("taps", sum(len(entry.taps or ()) for entry in job.models), limits.taps),
        ("natural images", shown.crops + shown.shapes, limits.images),
        ("images for calibration", nulls.calibration_crops, limits.images),
        ("permutations", job.comparison.permutations, limits.draws),
        ("bootstraps", job.comparison.bootstraps, limits.draws),
        ("random bases", nulls.haar_rotations, limits.draws),
        ("shuffles", nulls.shuffles, limits.draws),
        ("untrained twins of each network", len(nulls.untrained_seeds), limits.models),
    ]


def refuse_planned(planned: dict[str, Any], limits: Limits) -> None:
    """Raise `TooMuchError` for a plan (`calls.plan`) that is larger than the limits: only a plan knows all taps and images."""
    for what, came, most in (("taps", planned["taps"], limits.taps), ("images", planned["images"], limits.images)):
        if came > most:
            raise TooMuchError(f"the job needs {came} {what}, this service allows {most}; name fewer taps or stimuli")
