"""The jobs of a service in its database: accepted, claimed by one runner at a time, and ended once.

Every change of state is one conditional update, so that of two who try the same one succeeds (`states.TRANSITIONS`). A
runner that holds a job renews its lease; what it reports counts only while the job is still its own, so that a runner which
was taken for dead cannot end a job that another one runs by then.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from universality.base.errors import MissingError, ServiceError, TooMuchError
from universality.service.database import Database, EventRow, JobRow
from universality.service.states import ENDED, TRANSITIONS, Action, State

if TYPE_CHECKING:
    from universality.runs.job import Job  # a runner, which starts often, needs none of what it imports

_COLUMNS_WHEN: dict[Action, dict[str, Any]] = {
    Action.CANCEL: {"cancel": False, "runner": None, "lease_until": None},
    Action.RETRY: {
        "error": None,
        "started": None,
        "ended": None,
        "deaths": 0,
        "gained": -1,
        "not_before": 0.0,
        "cancel": False,
    },
    Action.FINISH: {"error": None, "runner": None, "lease_until": None, "cancel": False},
    Action.FAIL: {"runner": None, "lease_until": None, "cancel": False},
    Action.GIVE_BACK: {"runner": None, "lease_until": None},
    Action.EXPIRE: {"runner": None, "lease_until": None},
}


@dataclass(frozen=True)
class Claim:
    """A job that a runner holds: `attempt` counts how often it was begun."""

    id: str
    run: str
    job: dict[str, Any]
    attempt: int


class Queue:
    """The jobs of a service.

    Attributes
    ----------
    database : where they lie
    lease_s : how long a job belongs to a runner that says nothing, s
    """

    def __init__(self, database: Database, lease_s: float = 15.0, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.lease_s = lease_s
        self._clock = clock

    # What users ask for

    def submit(self, job: Job, owner: str, same: str = "", most_waiting: int = 50) -> JobRow:
        """Accept a job and return it; of one user's two submissions with the same text `same` the second returns the first.

        Raises
        ------
        TooMuchError
            The user has `most_waiting` jobs that have not ended.
        """
        key = f"{owner}:{same}" if same else None
        try:
            with self.database.session() as session:
                if key is not None and (known := session.scalar(select(JobRow).where(JobRow.same == key))):
                    return known
                unended = (
                    select(func.count())
                    .select_from(JobRow)
                    .where(JobRow.owner == owner, JobRow.state.in_([State.WAITING, State.RUNNING]))
                )
                if (waiting := session.scalar(unended) or 0) >= most_waiting:
                    raise TooMuchError(
                        f"{waiting} jobs of yours have not ended, at most {most_waiting} may wait; wait for one or cancel one"
                    )
                name = secrets.token_hex(6)
                row = JobRow(
                    id=name, name=job.name, run=f"{job.name}-{name}", owner=owner, state=State.WAITING,
                    job=json.dumps(job.plain()), same=key, submitted=self._now(session),
                )  # fmt: skip
                session.add(row)
                session.flush()
                self._note_state(session, name, State.WAITING)
                return row
        except IntegrityError:
            # Another request with the same text was quicker.
            with self.database.reading() as session:
                return session.scalars(select(JobRow).where(JobRow.same == key)).one()

    def get(self, job: str) -> JobRow:
        """Return a job; raise `MissingError` if there is none with this id."""
        with self.database.reading() as session:
            row = session.get(JobRow, job)
        if row is None:
            raise MissingError(f"there is no job '{job[:40]}'")
        return row

    def list(self, limit: int = 50, before: float | None = None, owner: str | None = None) -> list[JobRow]:
        """Return jobs, the newest first: of one owner if given, submitted before a time if given."""
        wanted = select(JobRow).order_by(JobRow.submitted.desc(), JobRow.id).limit(limit)
        if before is not None:
            wanted = wanted.where(JobRow.submitted < before)
        if owner is not None:
            wanted = wanted.where(JobRow.owner == owner)
        with self.database.reading() as session:
            return list(session.scalars(wanted))

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        with self.database.reading() as session:
            found = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
        return {state.value: 0 for state in State} | {str(state): int(count) for state, count in found}

    def cancel(self, job: str) -> JobRow:
        """Cancel a job: at once if it waits; if it runs, its runner is asked to stop it. One that has ended stays as it is."""
        with self.database.session() as session:
            if not self._change(session, job, Action.CANCEL, JobRow.state == State.WAITING):
                session.execute(
                    update(JobRow).where(JobRow.id == job, JobRow.state == State.RUNNING).values(cancel=True)
                )
        return self.get(job)

    def retry(self, job: str) -> JobRow:
        """Begin a job again that failed or was cancelled; what is finished of it is kept.

        Raises
        ------
        ServiceError
            It waits, runs or is done.
        """
        with self.database.session() as session:
            changed = self._change(session, job, Action.RETRY)
        row = self.get(job)
        if not changed:
            raise ServiceError(f"job '{job}' is {row.state}, and only one that failed or was cancelled is begun again")
        return row

    def events(self, job: str, after: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        """Return what happened to a job since the event `after`, in order."""
        wanted = select(EventRow).where(EventRow.job == job, EventRow.id > after).order_by(EventRow.id).limit(limit)
        with self.database.reading() as session:
            return list(session.scalars(wanted))

    def last_event(self) -> int:
        """Return the id of the last event of all jobs."""
        with self.database.reading() as session:
            return session.scalar(select(func.max(EventRow.id))) or 0

    # What runners do

    def claim(self, runner: str) -> Claim | None:
        """Give the oldest waiting job to a runner; None if there is none."""
        with self.database.session() as session:
            now = self._now(session)
            waiting = (
                select(JobRow.id).where(JobRow.state == State.WAITING, JobRow.not_before <= now)
                .order_by(JobRow.submitted, JobRow.id).limit(8)
            )  # fmt: skip
            for job in session.scalars(waiting).all():
                held: dict[str, Any] = {
                    "runner": runner, "lease_until": now + self.lease_s, "attempts": JobRow.attempts + 1,
                    "started": func.coalesce(JobRow.started, now),
                }  # fmt: skip
                if self._change(session, job, Action.CLAIM, **held):
                    row = session.get_one(JobRow, job, populate_existing=True)
                    return Claim(row.id, row.run, json.loads(row.job), row.attempts)
        return None

    def renew(self, runner: str, claims: Sequence[Claim]) -> dict[str, bool]:
        """Hold jobs on; return those that are still the runner's own, and whether somebody asked to cancel each."""
        held = {}
        with self.database.session() as session:
            until = self._now(session) + self.lease_s
            for claim in claims:
                mine = self._mine(runner, claim)
                if session.execute(update(JobRow).where(*mine).values(lease_until=until)).rowcount:  # type: ignore[attr-defined]
                    held[claim.id] = bool(session.scalar(select(JobRow.cancel).where(JobRow.id == claim.id)))
        return held

    def expire(self) -> Sequence[str]:
        """Put jobs back whose runners have said nothing for longer than their lease; return their ids."""
        with self.database.session() as session:
            now = self._now(session)
            late = session.scalars(select(JobRow.id).where(JobRow.state == State.RUNNING, JobRow.lease_until < now))
            return [
                job
                for job in late.all()
                if self._change(session, job, Action.EXPIRE, JobRow.lease_until < now, say="its runner was lost")
            ]

    def end(self, runner: str, claim: Claim, action: Action, error: str | None = None) -> bool:
        """Finish, fail or cancel a job that the runner holds; False if it is not its own any more."""
        with self.database.session() as session:
            return self._change(session, claim.id, action, *self._mine(runner, claim), say=error, error=error)

    def deaths(self, runner: str, claim: Claim, gained: int) -> int | None:
        """Count that an attempt ended without an outcome, and return how often in a row that was with nothing gained.

        `gained` is how much of the job was finished when the attempt began: more than at the death before begins a new count.
        None if the job is not the runner's own any more.
        """
        with self.database.session() as session:
            row = session.scalars(select(JobRow).where(*self._mine(runner, claim))).one_or_none()
            if row is None:
                return None
            row.deaths = 1 if gained > row.gained else row.deaths + 1
            row.gained = max(gained, row.gained)
            return row.deaths

    def give_back(self, runner: str, claim: Claim, why: str, *, after_s: float = 0.0) -> bool:
        """Put a job back that the runner holds, to be begun again after a time; False if it is not its own any more."""
        with self.database.session() as session:
            later = self._now(session) + after_s
            return self._change(
                session, claim.id, Action.GIVE_BACK, *self._mine(runner, claim), say=why, not_before=later
            )

    def note(self, runner: str, claim: Claim, notes: Iterable[tuple[str, dict[str, Any]]]) -> bool:
        """Write down what happened to a job that the runner holds; False if it is not its own any more."""
        with self.database.session() as session:
            # Whoever writes an event of a job locks the job first: streams would miss one whose id is lower than one they have read.
            if session.scalar(select(JobRow.id).where(*self._mine(runner, claim)).with_for_update()) is None:
                return False
            session.add_all([EventRow(job=claim.id, kind=kind, data=json.dumps(data)) for kind, data in notes])
        return True

    # How

    def _change(
        self, session: Session, job: str, action: Action, *conditions: Any, say: str | None = None, **values: Any
    ) -> bool:
        """Make one line of the table of transitions true for a job; False if none applies or the conditions do not hold."""
        for (state, known), to in TRANSITIONS.items():
            if known is not action:
                continue
            changed = _COLUMNS_WHEN.get(action, {}) | values | {"state": to}
            if to in ENDED:
                changed["ended"] = self._now(session)
            where = (JobRow.id == job, JobRow.state == state, *conditions)
            if session.execute(update(JobRow).where(*where).values(**changed)).rowcount:  # type: ignore[attr-defined]
                self._note_state(session, job, to, say)
                return True
        return False

    def _note_state(self, session: Session, job: str, state: State, say: str | None = None) -> None:
        data = {"state": state.value} | ({"why": say} if say else {})
        session.add(EventRow(job=job, kind="state", at=self._now(session), data=json.dumps(data)))

    @staticmethod
    def _mine(runner: str, claim: Claim) -> tuple[Any, ...]:
        return (
            JobRow.id == claim.id,
            JobRow.state == State.RUNNING,
            JobRow.runner == runner,
            JobRow.attempts == claim.attempt,
        )

    def _now(self, session: Session) -> float:
        """Return the time by the clock that all runners of the database share."""
        if self.database.engine.dialect.name == "sqlite":
            return self._clock()
        return float(session.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
