"""How far a job is, from its events: what a page shows before the first new event arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from universality.service.database import EventRow

KINDS = ("state", "plan", "stage", "say")
"""What happens to a job: its state changed, an attempt planned what is left of it, a stage of it advanced, it says a sentence."""
_TRUSTED = 0.1
"""How much the plan counts against the pace that was measured: as if so much of its work had been done at the planned pace."""


def progress(events: Iterable[EventRow]) -> dict[str, Any]:
    """Return the stages of the last attempt as they are, what was said, and the last event's id.

    Returns
    -------
    dict
        ``plan``: seconds that each stage was to take and when that was planned (``at``), None before; ``stages``: one of ``description``, ``done``, ``total`` (-1: not known) and ``seconds`` for each; ``said``: sentences with their
        times; ``states``: the states with their times; ``last``: id of the last event.
    """
    stages: dict[str, dict[str, Any]] = {}
    said, states, last, plan = [], [], 0, None
    for row in events:
        data, last = json.loads(row.data), row.id
        if row.kind == "stage":
            stages[data["description"]] = data
        elif row.kind == "plan":
            plan = {"at": row.at, **data}
        elif row.kind == "say":
            said.append({"at": row.at, "text": data["text"]})
        elif row.kind == "state":
            states.append({"at": row.at, **data})
            if data["state"] == "running":
                stages, plan = {}, None
    return {"plan": plan, "stages": list(stages.values()), "said": said, "states": states, "last": last}


def seconds_left(found: Mapping[str, Any], now: float) -> float | None:
    """Return how long a job that runs will still take, s: what its plan holds for the work that is left, times how much longer the work that is done took.

    None for a job that does not run, or that is not planned yet.

    Examples
    --------
    Half of the work took twice as long as planned, so the other half will.

    >>> plan = {"at": 0.0, "seconds": {"start": 0.0, "families (tasks)": 100.0}}
    >>> stages = [{"description": "families (tasks)", "done": 5, "total": 10, "seconds": 100.0}]
    >>> round(seconds_left({"state": "running", "plan": plan, "stages": stages}, 100.0))
    92
    """
    plan = found["plan"]
    if found["state"] != "running" or plan is None or not plan["seconds"]:
        return None
    planned, passed = plan["seconds"], max(now - plan["at"], 0.0)
    shares = {one["description"]: one["done"] / one["total"] for one in found["stages"] if one["total"] > 0}
    start = planned.get("start", 0.0)
    done = start if found["stages"] else min(passed, start)
    done += sum(seconds * min(shares.get(name, 0.0), 1.0) for name, seconds in planned.items())
    total = sum(planned.values())
    trusted = _TRUSTED * total
    return float((total - done) * (passed + trusted) / (done + trusted)) if total else 0.0
