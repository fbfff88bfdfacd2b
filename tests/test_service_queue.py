"""Jobs are never lost, and never held by two: on SQLite, and on PostgreSQL where its programs are installed."""

import json
import threading

import pytest
from postgres import running_postgres
from service_parts import small_job
from sqlalchemy import update

from universality.base.errors import MissingError, ServiceError, TooMuchError
from universality.service.database import Base, Database, JobRow
from universality.service.progress import progress
from universality.service.queue import Queue
from universality.service.states import TRANSITIONS, Action, State


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    url = request.getfixturevalue("postgres") if request.param == "postgresql" else f"sqlite:///{tmp_path / 'jobs.db'}"
    made = Database(url)
    made.upgrade()
    yield made
    with made.session() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    made.close()


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def jobs(database, monkeypatch):
    clock = Hand()
    made = Queue(database, lease_s=10.0, clock=clock)
    made.clock = clock
    # PostgreSQL has the clock of its server: there is none to move in a test.
    monkeypatch.setattr(made, "_now", lambda session: clock())
    return made


def states(jobs, job):
    return [json.loads(row.data)["state"] for row in jobs.events(job) if row.kind == "state"]


def test_a_job_is_accepted_claimed_and_ends_once(jobs):
    row = jobs.submit(small_job(), "anna")
    claim = jobs.claim("one")
    assert (claim.id, claim.attempt, claim.job["name"]) == (row.id, 1, "small")
    assert jobs.claim("two") is None
    assert jobs.end("one", claim, Action.FINISH)
    assert not jobs.end("one", claim, Action.FINISH) and not jobs.end("one", claim, Action.FAIL, "late")
    assert jobs.get(row.id).state == "done" and jobs.get(row.id).error is None
    assert states(jobs, row.id) == ["waiting", "running", "done"]


def test_the_oldest_job_is_claimed_first(jobs):
    first = jobs.submit(small_job(), "anna")
    jobs.clock.now += 1
    jobs.submit(small_job(), "anna")
    assert jobs.claim("one").id == first.id


def test_many_runners_at_once_hold_each_job_once(jobs):
    accepted = [jobs.submit(small_job(seed=n), "anna").id for n in range(6)]
    claimed, start = [], threading.Barrier(4)

    def claim_all(name):
        start.wait()
        while (claim := jobs.claim(name)) is not None:
            claimed.append(claim.id)

    threads = [threading.Thread(target=claim_all, args=(f"runner {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(accepted)


def test_a_lease_that_ran_out_gives_the_job_to_another_and_the_first_can_end_it_no_more(jobs):
    row = jobs.submit(small_job(), "anna")
    first = jobs.claim("one")
    jobs.clock.now += 9
    assert jobs.expire() == [] and jobs.renew("one", [first]) == {row.id: False}
    jobs.clock.now += 9
    assert jobs.expire() == []
    jobs.clock.now += 2
    assert jobs.expire() == [row.id] and jobs.expire() == []
    second = jobs.claim("two")
    assert second.attempt == 2
    assert jobs.renew("one", [first]) == {}
    assert not jobs.note("one", first, [("say", {"text": "late"})])
    assert (
        not jobs.end("one", first, Action.FINISH)
        and not jobs.give_back("one", first, "late")
        and jobs.deaths("one", first, 1) is None
    )
    assert jobs.end("two", second, Action.FINISH)
    assert states(jobs, row.id) == ["waiting", "running", "waiting", "running", "done"]
    assert all(json.loads(event.data).get("text") != "late" for event in jobs.events(row.id))


def test_an_attempt_of_the_same_runner_from_before_counts_no_more(jobs):
    row = jobs.submit(small_job(), "anna")
    first = jobs.claim("one")
    jobs.give_back("one", first, "its process died")
    second = jobs.claim("one")
    assert not jobs.end("one", first, Action.FINISH) and jobs.get(row.id).state == "running"
    assert jobs.end("one", second, Action.FINISH)


def test_a_job_given_back_waits_for_its_time(jobs):
    jobs.submit(small_job(), "anna")
    jobs.give_back("one", jobs.claim("one"), "its process died", after_s=5)
    assert jobs.claim("one") is None
    jobs.clock.now += 5
    assert jobs.claim("one").attempt == 2


def test_deaths_count_only_while_nothing_is_gained(jobs):
    jobs.submit(small_job(), "anna")
    counts = []
    for gained in (0, 0, 0, 7, 7, 9):
        claim = jobs.claim("one")
        counts.append(jobs.deaths("one", claim, gained))
        jobs.give_back("one", claim, "its process died")
    assert counts == [1, 2, 3, 1, 2, 1]


def test_cancelling_ends_a_waiting_job_at_once_and_asks_the_runner_of_a_running_one(jobs):
    waiting = jobs.submit(small_job(), "anna")
    assert jobs.cancel(waiting.id).state == "cancelled"
    running = jobs.submit(small_job(), "anna")
    claim = jobs.claim("one")
    assert jobs.cancel(running.id).state == "running" and jobs.renew("one", [claim]) == {running.id: True}
    assert jobs.end("one", claim, Action.CANCEL)
    assert jobs.get(running.id).state == "cancelled" and jobs.claim("one") is None
    assert jobs.cancel(running.id).state == "cancelled"


def test_a_job_cancelled_and_begun_again_is_not_cancelled_once_more(jobs):
    row = jobs.submit(small_job(), "anna")
    claim = jobs.claim("one")
    jobs.cancel(row.id)
    jobs.end("one", claim, Action.CANCEL)
    jobs.retry(row.id)
    assert jobs.renew("one", [jobs.claim("one")]) == {row.id: False}


def test_a_cancelled_job_whose_runner_was_lost_does_not_run_on(jobs):
    row = jobs.submit(small_job(), "anna")
    jobs.claim("one")
    jobs.cancel(row.id)
    jobs.clock.now += 20
    jobs.expire()
    again = jobs.claim("two")
    assert again is None or jobs.renew("two", [again]) == {row.id: True}


def test_only_what_failed_or_was_cancelled_is_begun_again(jobs):
    row = jobs.submit(small_job(), "anna")
    with pytest.raises(ServiceError, match="is waiting, and only one that failed or was cancelled"):
        jobs.retry(row.id)
    jobs.end("one", jobs.claim("one"), Action.FAIL, "the store is gone")
    assert jobs.get(row.id).error == "the store is gone"
    assert jobs.retry(row.id).error is None
    jobs.end("one", jobs.claim("one"), Action.FINISH)
    with pytest.raises(ServiceError, match="is done"):
        jobs.retry(row.id)


def test_the_same_text_is_the_same_job_of_its_owner_alone(jobs):
    first, again = (jobs.submit(small_job(), "anna", "x") for _ in range(2))
    assert first.id == again.id and len(jobs.list()) == 1
    assert jobs.submit(small_job(), "berta", "x").id != first.id


def test_one_user_cannot_fill_the_queue(jobs):
    for _ in range(2):
        jobs.submit(small_job(), "anna", most_waiting=2)
    with pytest.raises(TooMuchError, match="2 jobs of yours have not ended, at most 2 may wait"):
        jobs.submit(small_job(), "anna", most_waiting=2)
    jobs.submit(small_job(), "berta", most_waiting=2)


def test_events_resume_from_an_id_and_say_how_far_a_job_is(jobs):
    row = jobs.submit(small_job(), "anna")
    claim = jobs.claim("one")
    stage = {"description": "families (tasks)", "done": 1, "total": 2, "seconds": 0.5}
    assert jobs.note("one", claim, [("stage", stage), ("say", {"text": "a warning"}), ("stage", stage | {"done": 2})])
    every = jobs.events(row.id)
    assert [event.kind for event in every] == ["state", "state", "stage", "say", "stage"]
    assert [event.id for event in jobs.events(row.id, every[2].id)] == [event.id for event in every[3:]]
    found = progress(every)
    assert found["plan"] is None  # the attempt has not said what is left
    assert (
        found["stages"] == [stage | {"done": 2}]
        and found["said"][0]["text"] == "a warning"
        and found["last"] == every[-1].id
    )


def test_an_unknown_job_is_said(jobs):
    with pytest.raises(MissingError, match="there is no job 'nothing'"):
        jobs.get("nothing")


@pytest.mark.parametrize("state", State)
def test_only_the_table_of_transitions_changes_a_state(jobs, state):
    """Every action on a job in every state does what the table says, and nothing else."""
    row = jobs.submit(small_job(), "anna")
    claim = jobs.claim("one")
    asked = {
        Action.CLAIM: lambda: jobs.claim("one"),
        Action.FINISH: lambda: jobs.end("one", claim, Action.FINISH),
        Action.FAIL: lambda: jobs.end("one", claim, Action.FAIL, "why"),
        Action.CANCEL: lambda: jobs.end("one", claim, Action.CANCEL),
        Action.GIVE_BACK: lambda: jobs.give_back("one", claim, "why"),
        Action.EXPIRE: lambda: jobs.expire(),
        Action.RETRY: lambda: jobs.retry(row.id),
    }
    for action, ask in asked.items():
        with jobs.database.session() as session:
            session.execute(
                update(JobRow).values(state=state, runner="one", attempts=1, lease_until=0.0, not_before=0.0)
            )
        try:
            ask()
        except ServiceError:
            assert action is Action.RETRY
        came, expected = jobs.get(row.id).state, TRANSITIONS.get((state, action), state)
        if (state, action) == (State.WAITING, Action.CANCEL):
            continue  # a runner holds no waiting job; users cancel it, see above
        assert came == expected, (state, action)


def test_the_migrations_make_exactly_the_tables_of_today(database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.upgrade()
