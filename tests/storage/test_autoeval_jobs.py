"""Jobs at AutoEval: written down before they are sent, moved along, never forgotten, closed once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from storage import autoeval_jobs, iterations, phase_runs, stations, tasks
from storage.autoeval_jobs import GATEWAY_OPEN, OPEN, JobFailure, JobPlan
from storage.db import Database
from storage.errors import AutoEvalJobConflict, IllegalMove, LeaseLost, NotJson, RowMissing
from storage.states import AUTOEVAL_JOB_MOVES
from storage.tables import AutoEvalJobRow

DIGEST = "0123456789ab"


@pytest.fixture
def a_plan(database: Database, an_iteration: Callable, now: datetime) -> Callable[..., JobPlan]:
    """A job of an iteration that has a running collect phase; everything it refers to is there."""
    iteration = an_iteration()
    with database.write() as session:
        stations.ensure(session, "autoeval-berkeley", now=now)
        tasks.ensure(session, "open_drawer", instruction="open the drawer", now=now)
        run = phase_runs.queue(session, iterations.get(session, iteration.id), phase="collect", now=now)
        phase_run_id = run.id

    def build(number: int = 1, **changes: object) -> JobPlan:
        job_id = f"00000000-0000-4000-8000-{number:012d}"
        plan = JobPlan(
            id=job_id,
            iteration_id=iteration.id,
            phase_run_id=phase_run_id,
            station_id="autoeval-berkeley",
            task_id="open_drawer",
            checkpoint_id=None,
            description=f"dyna:{job_id}:{DIGEST}",
            robot="widowx_drawer",
            num_episodes=10,
            max_steps=70,
            capability="c" * 32,
            gateway_folder=job_id,
        )
        return replace(plan, **changes)

    return build


def planned(database: Database, plan: JobPlan, now: datetime) -> str:
    with database.write() as session:
        return autoeval_jobs.plan(session, plan, now=now).id


def moved(database: Database, job_id: str, *states: str, now: datetime) -> AutoEvalJobRow:
    with database.write() as session:
        for state in states:
            row = autoeval_jobs.move(session, job_id, state, now=now)
        session.expunge(row)
        return row


def test_a_job_is_there_before_anything_was_sent(database: Database, a_plan: Callable, now: datetime) -> None:
    job_id = planned(database, a_plan(), now)
    with database.read() as session:
        row = autoeval_jobs.get(session, job_id)
        assert (row.state, row.created_at, row.remote_job_id) == ("planned", now, None)
        assert (row.submitted_at, row.started_at, row.finished_at) == (None, None, None)
        assert (row.robot, row.num_episodes, row.max_steps) == ("widowx_drawer", 10, 70)
        assert row.capability == "c" * 32


def test_planning_a_job_again_finds_it_as_it_stands(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    job_id = planned(database, a_plan(), now)
    moved(database, job_id, "submitting", now=now)
    with database.write() as session:
        row = autoeval_jobs.plan(session, a_plan(capability="d" * 32), now=now + timedelta(hours=1))
        assert (row.state, row.created_at, row.capability) == ("submitting", now, "c" * 32)


@pytest.mark.parametrize(
    ("field", "other"),
    [("robot", "widowx_sink"), ("num_episodes", 11), ("max_steps", 99), ("description", "dyna:other")],
)
def test_one_id_never_stands_for_two_jobs(
    database: Database, a_plan: Callable, now: datetime, field: str, other: object
) -> None:
    planned(database, a_plan(), now)
    with pytest.raises(AutoEvalJobConflict, match=f"with {field} ") as caught, database.write() as session:
        autoeval_jobs.plan(session, a_plan(**{field: other}), now=now)
    assert str(other) in str(caught.value)


def test_two_jobs_never_share_a_description(database: Database, a_plan: Callable, now: datetime) -> None:
    planned(database, a_plan(1), now)
    with pytest.raises(sa.exc.IntegrityError), database.write() as session:
        autoeval_jobs.plan(session, a_plan(2, description=a_plan(1).description), now=now)


def test_a_job_notes_when_it_was_accepted_started_and_over(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    job_id = planned(database, a_plan(), now)
    at = [now + timedelta(minutes=minute) for minute in range(5)]
    moved(database, job_id, "submitting", now=at[0])
    with database.write() as session:
        autoeval_jobs.move(session, job_id, "queued", now=at[1], remote_job_id="remote-1")
    moved(database, job_id, "running", now=at[2])
    assert moved(database, job_id, "draining", now=at[3]).finished_at is None
    row = moved(database, job_id, "partial", now=at[4])
    assert (row.submitted_at, row.started_at, row.finished_at) == (at[1], at[2], at[4])
    assert row.remote_job_id == "remote-1"


@pytest.mark.parametrize("state", ["draining", "failed", "cancelled", "lost"])
def test_the_secret_path_is_forgotten_once_autoeval_need_not_ask_any_more(
    database: Database, a_plan: Callable, now: datetime, state: str
) -> None:
    job_id = planned(database, a_plan(), now)
    assert moved(database, job_id, "submitting", "queued", now=now).capability == "c" * 32
    assert moved(database, job_id, state, now=now).capability is None


@pytest.mark.parametrize("state", sorted(set(AUTOEVAL_JOB_MOVES) - set(GATEWAY_OPEN)))
def test_the_database_itself_refuses_a_secret_path_of_a_job_that_is_over(
    database: Database, a_plan: Callable, now: datetime, state: str
) -> None:
    job_id = planned(database, a_plan(), now)
    statement = sa.update(AutoEvalJobRow).where(AutoEvalJobRow.id == job_id).values(state=state)
    with (
        pytest.raises(sa.exc.IntegrityError, match="ck_autoeval_jobs_capability_ends"),
        database.write() as session,
    ):
        session.execute(statement)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"state": "done"}, "ck_autoeval_jobs_(state_is_known|capability_ends)"),
        ({"num_episodes": 0}, "ck_autoeval_jobs_size_is_positive"),
        ({"max_steps": -1}, "ck_autoeval_jobs_size_is_positive"),
        ({"success_rate": 1.5}, "ck_autoeval_jobs_success_rate_is_a_share"),
        ({"success_rate": -0.1}, "ck_autoeval_jobs_success_rate_is_a_share"),
    ],
)
def test_a_job_cannot_hold_nonsense(
    database: Database, a_plan: Callable, now: datetime, change: dict[str, object], constraint: str
) -> None:
    job_id = planned(database, a_plan(), now)
    with pytest.raises(sa.exc.IntegrityError, match=constraint), database.write() as session:
        session.execute(sa.update(AutoEvalJobRow).where(AutoEvalJobRow.id == job_id).values(**change))


def test_a_failure_is_kept_with_its_reason(database: Database, a_plan: Callable, now: datetime) -> None:
    job_id = planned(database, a_plan(), now)
    failure = JobFailure(code="autoeval_job_rejected", message="the robot is gone.")
    with database.write() as session:
        autoeval_jobs.move(session, job_id, "failed", now=now, failure=failure)
    with database.read() as session:
        row = autoeval_jobs.get(session, job_id)
        assert (row.error_code, row.error_message) == ("autoeval_job_rejected", "the robot is gone.")


@pytest.mark.parametrize("state", ["joined", "partial"])
def test_a_join_ends_a_draining_job_with_autoevals_own_number(
    database: Database, a_plan: Callable, now: datetime, state: str
) -> None:
    job_id = planned(database, a_plan(), now)
    moved(database, job_id, "submitting", "queued", "running", "draining", now=now)
    checks = {"matched": 9, "mean_of_labels": 0.9, "reasons": []}
    with database.write() as session:
        autoeval_jobs.record_join(session, job_id, state=state, success_rate=0.9, checks=checks, now=now)
    with database.read() as session:
        row = autoeval_jobs.get(session, job_id)
        assert (row.state, row.success_rate, row.checks, row.finished_at) == (state, 0.9, checks, now)


def test_a_job_is_joined_once(database: Database, a_plan: Callable, now: datetime) -> None:
    job_id = planned(database, a_plan(), now)
    moved(database, job_id, "submitting", "queued", "draining", "joined", now=now)
    with pytest.raises(IllegalMove, match="cannot go from joined to partial"), database.write() as session:
        autoeval_jobs.record_join(session, job_id, state="partial", success_rate=None, checks={}, now=now)


def test_checks_that_json_cannot_hold_leave_the_job_draining(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    job_id = planned(database, a_plan(), now)
    moved(database, job_id, "submitting", "queued", "draining", now=now)
    with pytest.raises(NotJson), database.write() as session:
        autoeval_jobs.record_join(
            session, job_id, state="joined", success_rate=1.0, checks={"mean": float("nan")}, now=now
        )
    with database.read() as session:
        assert autoeval_jobs.get(session, job_id).state == "draining"


def test_a_job_that_nobody_planned_is_missing(database: Database, now: datetime) -> None:
    for call in (
        lambda session: autoeval_jobs.get(session, "nobody"),
        lambda session: autoeval_jobs.move(session, "nobody", "submitting", now=now),
        lambda session: autoeval_jobs.adopt(session, "nobody", phase_run_id="none"),
    ):
        with (
            pytest.raises(RowMissing, match="there is no AutoEval job 'nobody'"),
            database.write() as session,
        ):
            call(session)


def test_jobs_of_an_iteration_come_in_the_order_they_were_planned(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    for number in (3, 1, 2):
        planned(database, a_plan(number), now + timedelta(seconds=number))
    iteration_id = a_plan().iteration_id
    with database.read() as session:
        found = [row.id for row in autoeval_jobs.of_iteration(session, iteration_id)]
        assert found == [a_plan(number).id for number in (1, 2, 3)]
        assert autoeval_jobs.of_iteration(session, "another") == []


def test_a_daemon_that_comes_back_finds_every_job_that_is_not_over(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    ways = {
        1: (),
        2: ("submitting",),
        3: ("submitting", "queued"),
        4: ("submitting", "queued", "running"),
        5: ("submitting", "queued", "running", "draining"),
        6: ("submitting", "queued", "running", "draining", "joined"),
        7: ("submitting", "lost"),
        8: ("cancelled",),
    }
    for number, way in ways.items():
        job_id = planned(database, a_plan(number), now + timedelta(seconds=number))
        if way:
            moved(database, job_id, *way, now=now)
    with database.read() as session:
        found = autoeval_jobs.open_jobs(session)
        assert [row.id for row in found] == [a_plan(number).id for number in range(1, 6)]
        assert {row.state for row in found} == set(OPEN)
        assert len(autoeval_jobs.open_jobs(session, iteration_id=a_plan().iteration_id)) == 5
        assert autoeval_jobs.open_jobs(session, iteration_id="another") == []


def test_a_later_attempt_of_the_phase_adopts_the_job_and_a_stale_one_cannot_write(
    database: Database, a_plan: Callable, now: datetime
) -> None:
    """What the collect phase does: the fence of the phase run is checked in the same transaction."""
    job_id = planned(database, a_plan(), now)
    with database.write() as session:
        first = phase_runs.claim(session, "worker-1", ttl_s=10, now=now)
    with database.write() as session:
        later = now + timedelta(seconds=11)
        second = phase_runs.claim(session, "worker-2", ttl_s=10, now=later)
    assert first is not None
    assert second is not None
    with database.write() as session:
        phase_runs.require_held(session, second.phase_run_id, fence=second.fence)
        autoeval_jobs.adopt(session, job_id, phase_run_id=second.phase_run_id)
    with pytest.raises(LeaseLost), database.write() as session:
        phase_runs.require_held(session, first.phase_run_id, fence=first.fence)
        autoeval_jobs.move(session, job_id, "submitting", now=later)
    with database.read() as session:
        row = autoeval_jobs.get(session, job_id)
        assert (row.state, row.phase_run_id) == ("planned", second.phase_run_id)
