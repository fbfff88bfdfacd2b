"""How far a job is, from its events: what a page shows before the first new event arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from universality.service.database import EventRow

KINDS = ("state", "stage", "say")
"""What happens to a job: its state changed, a stage of it advanced, it says a sentence."""


def progress(events: Iterable[EventRow]) -> dict[str, Any]:
    """Return the stages of the last attempt as they are, what was said, and the last event's id.

    Returns
    -------
    dict
        ``stages``: one of ``description``, ``done``, ``total`` (-1: not known) and ``seconds`` for each; ``said``: sentences with their
        times; ``states``: the states with their times; ``last``: id of the last event.
    """
    stages: dict[str, dict[str, Any]] = {}
    said, states, last = [], [], 0
    for row in events:
        data, last = json.loads(row.data), row.id
        if row.kind == "stage":
            stages[data["description"]] = data
        elif row.kind == "say":
            said.append({"at": row.at, "text": data["text"]})
        elif row.kind == "state":
            states.append({"at": row.at, **data})
            if data["state"] == "running":
                stages = {}
    return {"stages": list(stages.values()), "said": said, "states": states, "last": last}
