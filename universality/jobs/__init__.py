"""Jobs: plan, extract what is missing, compare what is missing, write tables, figures and a report.

``planning`` what exists; ``shards`` and ``comparisons`` the tasks; ``results`` what comparisons left; ``scheduling`` who computes;
``extracting`` and ``comparing`` the two stages on a cluster; ``execute`` and ``writing`` from the job to the run's directory.
"""

from __future__ import annotations

from universality.jobs.comparisons import Comparisons, Task
from universality.jobs.execute import run
from universality.jobs.planning import Plan, PlannedStore, plan
from universality.jobs.progress import Quiet, Reporter
from universality.jobs.workers import Workers

__all__ = [
    "Comparisons",
    "Plan",
    "PlannedStore",
    "Quiet",
    "Reporter",
    "Task",
    "Workers",
    "plan",
    "run",
]
