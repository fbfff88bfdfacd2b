"""Jobs: plan, extract what is missing, compute what is missing of each stage, write tables, figures and a report.

``planning`` what exists; ``shards`` the tasks of extraction, ``stages`` the table of everything after it; ``results`` what tasks
left; ``scheduling`` who computes; ``extracting`` and ``comparing`` the tasks on a cluster; ``execute`` and ``writing`` from the job
to the run's directory.
"""

from __future__ import annotations

from universality.jobs.execute import run
from universality.jobs.planning import Plan, PlannedStore, plan
from universality.jobs.progress import Quiet, Reporter
from universality.jobs.stages import STAGES, Stage
from universality.jobs.tasks import Inputs, Task
from universality.jobs.workers import Workers

__all__ = [
    "STAGES",
    "Inputs",
    "Plan",
    "PlannedStore",
    "Quiet",
    "Reporter",
    "Stage",
    "Task",
    "Workers",
    "plan",
    "run",
]
