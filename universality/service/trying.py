"""What an attempt at a job comes to: done, failed with a sentence, or away, to be begun again."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any

from universality.base.errors import AwayError, UniversalityError
from universality.base.toml import validate
from universality.jobs.estimates import time as time_of
from universality.jobs.execute import run
from universality.jobs.planning import Plan, plan
from universality.jobs.workers import Workers
from universality.runs.job import Job

if TYPE_CHECKING:
    from universality.service.attempt import Told


def outcome(asked: dict[str, Any], told: Told) -> dict[str, Any]:
    """Run a job and return how it ended: ``done``, ``failed`` or ``away`` with a sentence."""
    try:
        job = validate(Job, asked["job"], "job", UniversalityError)
        planned = plan(job, asked["out"], asked["store"])
        told.write(gained=len(planned.stores) - len(planned.missing) + planned.kept())
        told.write(kind="plan", data={"seconds": _seconds(planned, asked["workers"])})
        run(job, asked["out"], store=asked["store"], reporter=told, **asked["workers"])
    except AwayError as cause:
        return {"ended": "away", "error": str(cause)}
    except UniversalityError as cause:
        return {"ended": "failed", "error": str(cause)}
    except MemoryError:
        return {"ended": "failed", "error": "the memory did not suffice; compare fewer networks or taps at a time"}
    except OSError as cause:
        if type(cause).__module__.startswith("distributed."):
            return {"ended": "away", "error": f"the Dask scheduler was lost ({type(cause).__name__})"}
        if cause.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return {
            "ended": "failed",
            "error": f"the disk is full ({cause.strerror}); ask whoever runs the service to free space",
        }
    return {"ended": "done"}


def _seconds(planned: Plan, asked: dict[str, Any]) -> dict[str, float]:
    """Return what each stage will take, s; of a scheduler's workers, whose number nobody knows yet, as if there were one."""
    workers = asked.get("workers")
    each = Workers(processes=workers, threads=asked.get("threads")).threads_each() if not asked.get("scheduler") else 1
    every = each * (workers or 1)
    parts = time_of(planned).parts(every, workers, every)
    return {name: round(seconds, 2) for name, seconds in parts.items() if math.isfinite(seconds)}
