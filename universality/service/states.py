"""The states of a job and what leads from one to another. Nothing else changes a state.

A job ends once: no line leads out of `done`, and out of `failed` and `cancelled` only what a user asks for, which is a new
attempt of the same job.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Action(StrEnum):
    """What changes the state of a job."""

    CLAIM = "claim"
    FINISH = "finish"
    FAIL = "fail"
    GIVE_BACK = "give back"
    EXPIRE = "expire"
    CANCEL = "cancel"
    RETRY = "retry"


TRANSITIONS: dict[tuple[State, Action], State] = {
    (State.WAITING, Action.CLAIM): State.RUNNING,  # by one runner, which holds the lease from now on
    (State.WAITING, Action.CANCEL): State.CANCELLED,
    (State.RUNNING, Action.FINISH): State.DONE,  # by the holder of the lease
    (State.RUNNING, Action.FAIL): State.FAILED,  # by the holder of the lease
    (State.RUNNING, Action.CANCEL): State.CANCELLED,  # by the holder of the lease, after a user asked for it
    (
        State.RUNNING,
        Action.GIVE_BACK,
    ): State.WAITING,  # by the holder: its process died, its scheduler was lost, or it stops
    (State.RUNNING, Action.EXPIRE): State.WAITING,  # by anyone: the holder has said nothing for longer than the lease
    (State.FAILED, Action.RETRY): State.WAITING,
    (State.CANCELLED, Action.RETRY): State.WAITING,
}


def after(state: State, action: Action) -> State | None:
    """Return the state that an action leads to; None where it is not possible.

    Examples
    --------
    >>> after(State.WAITING, Action.CLAIM), after(State.DONE, Action.RETRY)
    (<State.RUNNING: 'running'>, None)
    """
    return TRANSITIONS.get((state, action))
